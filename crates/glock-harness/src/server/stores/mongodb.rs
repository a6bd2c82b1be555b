//! How MongoDB is started and asked.

use std::{fs, io, net::SocketAddr, path::Path};

use glock_core::async_trait;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::server::{
    ServerError,
    home::Home,
    product::Product,
    recipe::{ContainerSetup, Own, Recipe},
};

/// The servers of this store.
pub(super) const PRODUCTS: &[Product] = &[
    Product {
        name: "mongodb6",
        store: "mongodb",
        image: ("docker.io/library/mongo", "6.0.5"),
        recipe: &REPLICA_SET,
    },
    Product {
        name: "mongodb6-standalone",
        store: "mongodb",
        image: ("docker.io/library/mongo", "6.0.5"),
        recipe: &STANDALONE,
    },
];

/// One member that is a replica set by itself, so that it has change streams.
const REPLICA_SET: MongoDb = MongoDb { arguments: &["--replSet", "rs0"], is_member: true };
/// A server without an oplog.
const STANDALONE: MongoDb = MongoDb { arguments: &[], is_member: false };

/// Everybody may log in without a password; a wrong one is refused all the same.
#[derive(Debug)]
struct MongoDb {
    arguments: &'static [&'static str],
    is_member: bool,
}

/// A small server, with the commands that make faults, which stops at once when it is asked to.
const COMMON: [&str; 7] = [
    "--oplogSize=64",
    "--wiredTigerCacheSizeGB=0.25",
    "--nounixsocket",
    "--quiet",
    "--setParameter=diagnosticDataCollectionEnabled=false",
    "--setParameter=enableTestCommands=1",
    "--setParameter=shutdownTimeoutMillisForSignaledShutdown=0",
];

const PORT: u16 = 27017;
/// `OP_MSG` in MongoDB's protocol.
const OP_MSG: i32 = 2013;
/// Far longer than any reply to the commands below.
const REPLY_MAX: i32 = 1 << 20;

#[async_trait]
impl Recipe for MongoDb {
    fn program(&self) -> &'static str {
        "mongod"
    }

    fn port(&self) -> u16 {
        PORT
    }

    fn arguments(&self, home: &Home, port: u16) -> Vec<String> {
        let own = [
            format!("--port={port}"),
            "--bind_ip=127.0.0.1".to_owned(),
            format!("--dbpath={}", home.path().join("data").display()),
            format!("--pidfilepath={}", pid_file(home)),
        ];
        own.into_iter().chain(self.settings()).collect()
    }

    fn container(&self, _secret: &str) -> ContainerSetup {
        let command = ["mongod", "--bind_ip_all"].map(ToOwned::to_owned);
        ContainerSetup {
            command: command.into_iter().chain(self.settings()).collect(),
            ..ContainerSetup::default()
        }
    }

    /// Directly: a member in a container is known to its set by an address of its own.
    fn url(&self, addr: SocketAddr, _secret: &str) -> String {
        format!("mongodb://{addr}/?directConnection=true")
    }

    async fn is_ready(&self, addr: SocketAddr, own: Option<Own<'_>>) -> io::Result<bool> {
        if own.is_some_and(|own| !is_ours(own)) {
            return Ok(false);
        }
        let mut stream = TcpStream::connect(addr).await?;
        let hello = ask(&mut stream, &[Field::Int("hello", 1)]).await?;
        if has_true(&hello, "isWritablePrimary") {
            return Ok(true);
        }
        if self.is_member && has_true(&hello, "isreplicaset") {
            // The member must reach itself at that address.
            let port = if own.is_some() { addr.port() } else { PORT };
            initiate(&mut stream, port).await?;
        }
        Ok(false)
    }

    async fn stated_version(&self, addr: SocketAddr) -> io::Result<Option<String>> {
        let mut stream = TcpStream::connect(addr).await?;
        let reply = ask(&mut stream, &[Field::Int("buildInfo", 1)]).await?;
        Ok(text(&reply, "version"))
    }

    async fn prepare(&self, _bin: &Path, home: &Home, _secret: &str) -> Result<(), ServerError> {
        let made = fs::create_dir(home.path().join("data"));
        made.map_err(ServerError::because("cannot make the data directory"))
    }
}

impl MongoDb {
    fn settings(&self) -> impl Iterator<Item = String> {
        self.arguments.iter().chain(&COMMON).map(ToString::to_string)
    }
}

fn pid_file(home: &Home) -> String {
    home.path().join("pid").display().to_string()
}

/// Whether the process that listens is the one that was started.
fn is_ours(own: Own<'_>) -> bool {
    let pid = fs::read_to_string(pid_file(own.home));
    pid.is_ok_and(|pid| pid.trim() == own.pid.to_string())
}

/// Makes a replica set of one member. A second request fails, which does no harm.
async fn initiate(stream: &mut TcpStream, port: u16) -> io::Result<()> {
    let host = format!("127.0.0.1:{port}");
    let member = document(&[Field::Int("_id", 0), Field::Text("host", &host)]);
    let members = document(&[Field::Document("0", &member)]);
    // Elected without a wait: there is no other candidate.
    let settings = document(&[Field::Int("electionTimeoutMillis", 1_000)]);
    let config = document(&[
        Field::Text("_id", "rs0"),
        Field::Array("members", &members),
        Field::Document("settings", &settings),
    ]);
    ask(stream, &[Field::Document("replSetInitiate", &config)]).await.map(drop)
}

/// A field of a document, in BSON.
enum Field<'a> {
    Int(&'a str, i32),
    Text(&'a str, &'a str),
    Document(&'a str, &'a [u8]),
    Array(&'a str, &'a [u8]),
}

fn document(fields: &[Field<'_>]) -> Vec<u8> {
    let mut body = Vec::new();
    for field in fields {
        let (kind, name, value) = match field {
            Field::Int(name, value) => (0x10, name, value.to_le_bytes().to_vec()),
            Field::Text(name, value) => (0x02, name, string(value)),
            Field::Document(name, value) => (0x03, name, value.to_vec()),
            Field::Array(name, value) => (0x04, name, value.to_vec()),
        };
        body.push(kind);
        body.extend(name.bytes().chain([0]));
        body.extend(value);
    }
    [&length(body.len() + 5).to_le_bytes()[..], &body, &[0]].concat()
}

fn string(text: &str) -> Vec<u8> {
    [&length(text.len() + 1).to_le_bytes()[..], text.as_bytes(), &[0]].concat()
}

fn length(bytes: usize) -> i32 {
    i32::try_from(bytes).unwrap_or(i32::MAX)
}

/// Sends a command to the database `admin`; the reply as it comes.
async fn ask(stream: &mut TcpStream, command: &[Field<'_>]) -> io::Result<Vec<u8>> {
    let mut body = document(command);
    // The name of the database goes in before the end of the document.
    body.pop();
    body.extend(b"\x02$db\0".iter().chain(&string("admin")).chain(&[0]));
    let whole = length(body.len()).to_le_bytes();
    body[..4].copy_from_slice(&whole);
    let size = length(body.len() + 21);
    let header: Vec<u8> = [size, 1, 0, OP_MSG, 0].iter().flat_map(|n| n.to_le_bytes()).collect();
    stream.write_all(&[&header[..], &[0], &body].concat()).await?;
    let size = stream.read_i32_le().await?;
    if !(16..REPLY_MAX).contains(&size) {
        return Err(io::Error::other("this is not MongoDB's protocol"));
    }
    let mut reply = vec![0; usize::try_from(size - 4).unwrap_or_default()];
    stream.read_exact(&mut reply).await?;
    Ok(reply)
}

/// Whether the reply has a field of that name that is true.
fn has_true(reply: &[u8], name: &str) -> bool {
    let field = [&[0x08], name.as_bytes(), &[0, 1]].concat();
    reply.windows(field.len()).any(|bytes| bytes == field)
}

/// The text in the field of that name.
fn text(reply: &[u8], name: &str) -> Option<String> {
    let field = [&[0x02], name.as_bytes(), &[0]].concat();
    let at = reply.windows(field.len()).position(|bytes| bytes == field)? + field.len();
    let (length, rest) = reply.get(at..)?.split_first_chunk()?;
    let length = usize::try_from(i32::from_le_bytes(*length)).ok()?.checked_sub(1)?;
    str::from_utf8(rest.get(..length)?).ok().map(ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_states_its_own_length() {
        let inner = document(&[Field::Text("a", "b")]);
        assert_eq!(inner, b"\x0e\0\0\0\x02a\0\x02\0\0\0b\0\0");
        let outer = document(&[Field::Int("n", 1), Field::Document("d", &inner)]);
        assert_eq!(outer.len(), usize::from(outer[0]));
    }

    #[test]
    fn fields_of_a_reply_are_found_by_name_and_kind() {
        let reply = b"\x08ready\0\x01\x02version\0\x06\0\0\x006.0.5\0";
        assert!(has_true(reply, "ready") && !has_true(reply, "version"));
        assert_eq!(text(reply, "version").as_deref(), Some("6.0.5"));
        assert_eq!(text(reply, "ready"), None);
        assert_eq!(text(b"\x02version\0\xff\xff\xff\x7f6", "version"), None);
    }
}

//! How DynamoDB Local is started and asked.

use std::{fs, io, net::SocketAddr};

use glock_core::async_trait;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::server::{
    home::Home,
    product::Product,
    recipe::{ContainerSetup, Own, Recipe},
};

/// The servers of this store.
pub(super) const PRODUCTS: &[Product] =
    &[Product { name: "dynamodb1", store: "dynamodb", image: IMAGE, recipe: &DynamoDb }];

const IMAGE: (&str, &str) = ("docker.io/amazon/dynamodb-local", "1.25.1");

/// AWS's DynamoDB Local. Its tables are in memory, so they are gone after a restart.
#[derive(Debug)]
struct DynamoDb;

const OPTIONS: [&str; 3] = ["-inMemory", "-sharedDb", "-disableTelemetry"];
const CONFIG: &str = "server.xml";

#[async_trait]
impl Recipe for DynamoDb {
    fn program(&self) -> &'static str {
        "dynamodb-local"
    }

    fn port(&self) -> u16 {
        8000
    }

    fn arguments(&self, home: &Home, port: u16) -> Vec<String> {
        // The port may be another one at the next start. What cannot be written, the server reports.
        let _ = home.write(CONFIG, &settings(port));
        vec![home.path().join(CONFIG).display().to_string()]
    }

    fn container(&self, _secret: &str) -> ContainerSetup {
        let command = ["-jar", "DynamoDBLocal.jar"].into_iter().chain(OPTIONS);
        let command = command.map(ToOwned::to_owned).collect();
        ContainerSetup { command, ..ContainerSetup::default() }
    }

    fn url(&self, addr: SocketAddr, _secret: &str) -> String {
        format!("http://{addr}")
    }

    async fn is_ready(&self, addr: SocketAddr, own: Option<Own<'_>>) -> io::Result<bool> {
        let replies = ask(addr).await?.contains("com.amazonaws.dynamodb");
        // Nothing that it replies tells it from another one.
        Ok(replies && own.is_none_or(|own| listens(own.pid, addr.port())))
    }

    /// A running server states no version, and its image's program is Java.
    async fn stated_version(&self, _addr: SocketAddr) -> io::Result<Option<String>> {
        Ok(Some(IMAGE.1.to_owned()))
    }
}

/// What Jetty, in which the server runs, does at its start. Started by its own main class, the server
/// binds every address of the machine.
fn settings(port: u16) -> String {
    let port = port.to_string();
    let options: Vec<_> = OPTIONS.iter().copied().chain(["-port", &*port]).collect();
    let options = options.join("</Item><Item>");
    format!(
        r#"<?xml version="1.0"?>
<!DOCTYPE Configure PUBLIC "-//Jetty//Configure//EN" "http://www.eclipse.org/jetty/configure_9_3.dtd">
<Configure class="java.util.Properties">
  <Call id="local" class="com.amazonaws.services.dynamodbv2.local.main.ServerRunner" name="createServerFromCommandLineArgs">
    <Arg><Array type="java.lang.String"><Item>{options}</Item></Array></Arg>
  </Call>
  <Call class="java.lang.Class" name="forName">
    <Arg>com.amazonaws.services.dynamodbv2.local.server.DynamoDBProxyServer</Arg>
    <Call id="field" name="getDeclaredField">
      <Arg>server</Arg>
      <Call name="setAccessible"><Arg type="boolean">true</Arg></Call>
    </Call>
  </Call>
  <Ref refid="field"><Call id="jetty" name="get"><Arg><Ref refid="local"/></Arg></Call></Ref>
  <Ref refid="jetty"><Get id="connectors" name="connectors"/></Ref>
  <Call class="java.lang.reflect.Array" name="get">
    <Arg><Ref refid="connectors"/></Arg>
    <Arg type="int">0</Arg>
    <Set name="host">127.0.0.1</Set>
  </Call>
  <Ref refid="local"><Call name="safeStart"/></Ref>
</Configure>
"#
    )
}

/// Whether the process listens on the port: one of its descriptors is the socket that the kernel lists.
fn listens(pid: u32, port: u16) -> bool {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(fs::read_to_string);
    let sockets: Vec<_> = tables.iter().flatten().flat_map(|table| sockets(table, port)).collect();
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let mut links = descriptors.filter_map(|descriptor| fs::read_link(descriptor.path()).ok());
    links.any(|link| sockets.iter().any(|socket| link.as_os_str() == &**socket))
}

/// The sockets that listen on the port, as the links of descriptors name them.
fn sockets(table: &str, port: u16) -> impl Iterator<Item = String> {
    const LISTENS: &str = "0A";
    table.lines().filter_map(move |line| {
        let columns: Vec<_> = line.split_whitespace().collect();
        let (_, local) = columns.get(1)?.rsplit_once(':')?;
        let is_it = u16::from_str_radix(local, 16) == Ok(port) && columns.get(3) == Some(&LISTENS);
        is_it.then(|| columns.get(9).map(|inode| format!("socket:[{inode}]")))?
    })
}

/// The reply to a request that is not signed, with its head. HTTP/1.0: it ends with the connection.
async fn ask(addr: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect(addr).await?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await?;
    Ok(reply)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_binds_loopback_alone_and_sends_no_telemetry() {
        let settings = settings(4711);
        for part in [">127.0.0.1<", ">4711<", ">-disableTelemetry<"] {
            assert!(settings.contains(part), "{part}");
        }
    }

    #[test]
    fn a_listener_is_known_by_its_process() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(listens(std::process::id(), port));
        assert!(!listens(1, port), "another process has it");
        drop(listener);
        assert!(!listens(std::process::id(), port));
    }
}

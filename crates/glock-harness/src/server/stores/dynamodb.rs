//! How DynamoDB Local is started and asked.

use std::{io, net::SocketAddr};

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
        let _ = home.write(CONFIG, &settings(&name(home), port));
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
        let reply = ask(addr).await?;
        let is_own = own.is_none_or(|own| reply.contains(&name(own.home)));
        Ok(reply.contains("com.amazonaws.dynamodb") && is_own)
    }

    /// A running server states no version, and its image's program is Java.
    async fn stated_version(&self, _addr: SocketAddr) -> io::Result<Option<String>> {
        Ok(Some(IMAGE.1.to_owned()))
    }
}

/// What Jetty, in which the server runs, does at its start. Started by its own main class, the server
/// binds every address of the machine.
fn settings(name: &str, port: u16) -> String {
    let port = port.to_string();
    let options: Vec<_> = OPTIONS.iter().copied().chain(["-port", &*port]).collect();
    let options = options.join("</Item><Item>");
    format!(
        r#"<?xml version="1.0"?>
<!DOCTYPE Configure PUBLIC "-//Jetty//Configure//EN" "http://www.eclipse.org/jetty/configure_9_3.dtd">
<Configure class="java.util.Properties">
  <Call class="org.eclipse.jetty.http.HttpGenerator" name="setJettyVersion"><Arg>{name}</Arg></Call>
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

/// What the server calls itself in its replies: no other one on this machine does.
fn name(home: &Home) -> String {
    home.path().file_name().unwrap_or_default().to_string_lossy().into_owned()
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
        let settings = settings("glock-dynamodb1-7", 4711);
        for part in [">127.0.0.1<", ">4711<", ">-disableTelemetry<", ">glock-dynamodb1-7<"] {
            assert!(settings.contains(part), "{part}");
        }
    }
}

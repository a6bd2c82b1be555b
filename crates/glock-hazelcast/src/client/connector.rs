//! `Connector`: opens connections to the members of a cluster.

use std::{fmt, io, sync::Arc, time::Duration};

use glock_core::BoxError;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::JoinSet,
    time,
};

use crate::{
    client::address::Address,
    wire::{
        Connection, HazelcastError, Liveness,
        auth::{Login, Welcome},
    },
};

/// Opens connections to the members of a cluster.
#[derive(Clone)]
pub(crate) struct Connector {
    pub(crate) addresses: Arc<[Address]>,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<Arc<rustls::ClientConfig>>,
}

/// A connection, and to which of the addresses.
pub(crate) struct Opened {
    pub(crate) connection: Connection,
    pub(crate) welcome: Welcome,
    pub(crate) address: usize,
}

type Halves = (Box<dyn AsyncRead + Send + Unpin>, Box<dyn AsyncWrite + Send + Unpin>);

/// The next address is tried beside one that has not replied for so long.
const STAGGER: Duration = Duration::from_millis(250);
/// A member that takes longer to let a client in is not there.
const OPEN_MAX: Duration = Duration::from_secs(5);

impl Connector {
    /// Logs in at the first member that replies, from the address `first` on. A member that is silent does
    /// not keep the others from being tried.
    ///
    /// # Errors
    ///
    /// [`HazelcastError::Refused`] if a member refused the login; else why the last one was out of reach.
    pub(crate) async fn open(
        &self,
        first: usize,
        login: impl Fn() -> Login,
        liveness: impl Fn() -> Box<dyn Liveness>,
    ) -> Result<Opened, HazelcastError> {
        let (mut attempts, mut failed) = (JoinSet::new(), None);
        let count = self.addresses.len();
        for next in first..first + count {
            let (connector, login, liveness) = (self.clone(), login(), liveness());
            attempts.spawn(async move { connector.open_at(next % count, login, liveness).await });
            let stagger = time::timeout(STAGGER, first_opened(&mut attempts, &mut failed));
            if let Ok(Some(opened)) = stagger.await {
                return Ok(opened);
            }
            if matches!(failed, Some(HazelcastError::Refused(_))) {
                break;
            }
        }
        match first_opened(&mut attempts, &mut failed).await {
            Some(opened) => Ok(opened),
            None => Err(failed.unwrap_or_else(|| HazelcastError::NotSent("no address".into()))),
        }
    }

    async fn open_at(
        &self,
        address: usize,
        login: Login,
        liveness: Box<dyn Liveness>,
    ) -> Result<Opened, HazelcastError> {
        let open = async {
            let halves = self.connect(&self.addresses[address]).await;
            let halves = halves.map_err(HazelcastError::NotSent)?;
            Connection::open(halves, &login, liveness).await.map_err(|err| match err {
                // Nothing but the login was sent.
                HazelcastError::ReplyLost(err) => HazelcastError::NotSent(err),
                err => err,
            })
        };
        match time::timeout(OPEN_MAX, open).await {
            Ok(opened) => {
                opened.map(|(connection, welcome)| Opened { connection, welcome, address })
            }
            Err(_) => Err(HazelcastError::NotSent("it did not reply to the login".into())),
        }
    }

    async fn connect(&self, address: &Address) -> Result<Halves, BoxError> {
        let stream = TcpStream::connect((&*address.host, address.port)).await?;
        stream.set_nodelay(true)?;
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            let name = rustls::pki_types::ServerName::try_from(address.host.clone())?;
            let tls = tokio_rustls::TlsConnector::from(Arc::clone(tls));
            let (reader, writer) = tokio::io::split(tls.connect(name, stream).await?);
            return Ok((Box::new(reader), Box::new(writer)));
        }
        let (reader, writer) = stream.into_split();
        Ok((Box::new(reader), Box::new(writer)))
    }
}

/// The first connection that opens; `None` once all attempts failed.
///
/// # Cancel safety
///
/// Cancel safe: no attempt's end is lost.
async fn first_opened(
    attempts: &mut JoinSet<Result<Opened, HazelcastError>>,
    failed: &mut Option<HazelcastError>,
) -> Option<Opened> {
    while let Some(ended) = attempts.join_next().await {
        let ended = ended.map_err(|err| HazelcastError::NotSent(io::Error::other(err).into()));
        match ended.flatten() {
            Ok(opened) => return Some(opened),
            // A refusal says more than a member that is down.
            Err(err) if !matches!(failed, Some(HazelcastError::Refused(_))) => *failed = Some(err),
            Err(_) => {}
        }
    }
    None
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses: Vec<_> = self.addresses.iter().map(ToString::to_string).collect();
        f.debug_struct("Connector").field("addresses", &addresses).finish_non_exhaustive()
    }
}

//! How a relay reaches its upstream. Knows addresses, not who is there.
//!
//! Over a socket file where the upstream has one on this machine: it costs less than TCP on the loopback (docs/architecture.md has
//! figures). The server calls such a connection local.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::either::Either;

use super::size;

/// What was sent to an address that was just going (a container's, while it is restarted) may never be answered, and a standby
/// waits for the relay without end: after this long it is told that nobody is there, and tries again.
const DIAL_LIMIT: Duration = Duration::from_secs(1);

/// Where an upstream listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dialled {
    /// At an address.
    Tcp(SocketAddr),
    /// At a socket file of this machine.
    File(PathBuf),
    /// Nowhere: it is down, and another may have its address by now.
    Nowhere,
}

impl From<SocketAddr> for Dialled {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

/// The connection from the relay to the upstream.
pub(super) type Far = Either<TcpStream, UnixStream>;

impl Dialled {
    async fn connect(&self) -> io::Result<Far> {
        let connected = timeout(DIAL_LIMIT, async {
            match self {
                Self::Tcp(address) => tcp(*address).await.map(Far::Left),
                Self::File(path) => UnixStream::connect(path).await.map(Far::Right),
                Self::Nowhere => Err(io::ErrorKind::ConnectionRefused.into()),
            }
        });
        connected.await.map_err(|_| io::ErrorKind::TimedOut)?
    }
}

/// The connection to where the upstream is told to be, once it is told; None when nobody will tell any more. An attempt ends when
/// something else is told: what an engine's bridge couldn't deliver yet goes to whoever has the address next.
pub(super) async fn reach(upstream: &mut watch::Receiver<Option<Dialled>>) -> io::Result<Option<Far>> {
    loop {
        let told = upstream.wait_for(Option::is_some).await.ok().and_then(|told| told.clone());
        let Some(there) = told else { return Ok(None) };
        tokio::select! {
            biased;
            Ok(()) = upstream.changed() => {}
            far = there.connect() => return far.map(Some),
        }
    }
}

async fn tcp(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    size(&socket)?;
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

//! A link between two servers as a relay with faults: one TCP listener for each directed pair. Knows bytes and
//! connections, not PostgreSQL, nodes or clusters.
//!
//! A relay outlives restarts of both ends: it dials its upstream anew for each connection, at the address last told.
//! The faults are data ([`Faults`]), told through a watch channel and obeyed within a poll by every connection:
//!
//! - `cut`: silence in a direction. Nothing is read and nothing is written; open connections stay open, without a reset, and
//!   no end of a connection is passed on either. New connections are accepted and left unanswered while either direction is
//!   cut. At the heal everything goes on where it was: no byte of a living connection is lost or reordered, as with a network
//!   that drops packets until TCP's retransmission gets through.
//! - `refuse`: open connections are reset, new ones as soon as they have come. A half that is a socket file knows no reset: it
//!   is closed.
//! - `slow`: every byte of a direction comes so much later, give or take the jitter, in order; a new connection waits for one
//!   round trip more, as TCP's handshake would.
//! - `rate`: so many bytes a second in a direction, over all connections.
//!
//! They combine. Each has a file of its own, with a gate that the pump asks. What they do is what programs see of a network;
//! TCP's own acknowledgements don't pass through here, so data one way flows on while the other way is cut.
//!
//! What is in flight during a cut waits in the relay's socket buffers, bounded by [`SOCKET_BUFFER`], one chunk of the pump, and
//! the delay line. Bytes a sender wrote before it was killed still arrive after a heal, as they would from a killed process's
//! kernel; those of a host that lost its power would not.

mod count;
mod cut;
mod delay;
mod dial;
mod pump;
mod refuse;
mod talk;
mod throttle;

use std::io;
#[cfg(target_os = "linux")]
use std::net::IpAddr;
use std::net::SocketAddr;
#[cfg(not(target_os = "linux"))]
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::{self, Handle};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

pub use count::{Counts, Reading};
pub use dial::Dialled;

use crate::model::links::Lane;
use count::Way;
use dial::Far;
use throttle::Bucket;

/// What the kernel may hold for each direction of a connection on each side, in bytes. On Linux the kernel doubles it.
pub const SOCKET_BUFFER: u32 = 128 * 1024;

/// The faults of one link. The default is a healthy one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Of what goes from the connecting side to the upstream; also whether connections are refused.
    pub up: Lane,
    /// Of what goes from the upstream to the connecting side.
    pub down: Lane,
}

impl Faults {
    /// A healthy link.
    pub fn none() -> Self {
        Self::default()
    }

    /// Silence both ways.
    pub fn cut() -> Self {
        let lane = Lane { cut: true, ..Lane::default() };
        Self { up: lane, down: lane }
    }

    fn lane(&self, way: Way) -> &Lane {
        if way == Way::Up { &self.up } else { &self.down }
    }

    /// What a message there and its answer back take longer.
    fn round_trip(&self) -> Duration {
        let delay = |lane: &Lane| lane.slow.map_or(0, |slow| slow.delay_us);
        Duration::from_micros(delay(&self.up) + delay(&self.down))
    }
}

/// A running relay. Dropping it closes the listener and all connections.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    faults: watch::Sender<Faults>,
    counts: Arc<Counts>,
    listener: AbortHandle,
}

impl Relay {
    /// Listens at `listen` (port 0 chooses one) and passes connections on to where `upstream` says at that moment; while it
    /// says None a connection waits, and where nobody listens it is closed as soon as it has come.
    pub fn start(listen: SocketAddr, upstream: watch::Receiver<Option<Dialled>>) -> io::Result<Self> {
        let _here = thread()?.enter();
        let socket = door(listen)?;
        // Accepted connections inherit the sizes.
        size(&socket)?;
        let listener = socket.listen(256)?;
        let address = listener.local_addr()?;
        let (faults, told) = watch::channel(Faults::default());
        let counts = Arc::new(Counts::default());
        let buckets = Arc::new([Bucket::new(), Bucket::new()]);
        let link = Link { upstream, faults: told, counts: Arc::clone(&counts), buckets };
        let listener = tokio::spawn(accept(listener, link)).abort_handle();
        Ok(Self { address, faults, counts, listener })
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sets the faults of this link; the same ones again change nothing.
    pub fn set(&self, faults: Faults) {
        self.faults.send_if_modified(|now| {
            let differs = *now != faults;
            *now = faults;
            differs
        });
    }

    /// The faults in force.
    pub fn faults(&self) -> Faults {
        *self.faults.borrow()
    }

    /// What has passed so far.
    pub fn reading(&self) -> Reading {
        self.counts.reading()
    }
}

/// A socket bound to this address, for this machine alone. The unspecified address means all of this machine's own: what comes by another
/// interface than the loopback isn't taken. And an address may become this machine's later: some engines make a network's bridge with its
/// first container.
pub fn door(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    #[cfg(target_os = "linux")]
    {
        match address.ip() {
            ip if ip.is_unspecified() => socket.bind_device(Some(b"lo"))?,
            IpAddr::V4(_) => rustix::net::sockopt::set_ip_freebind(&socket, true)?,
            IpAddr::V6(_) => rustix::net::sockopt::set_ipv6_freebind(&socket, true)?,
        }
        socket.bind(address)?;
    }
    #[cfg(not(target_os = "linux"))]
    {
        let loopback = if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
        let ip = if address.ip().is_unspecified() { loopback } else { address.ip() };
        socket.bind(SocketAddr::new(ip, address.port()))?;
    }
    Ok(socket)
}

/// All relays live on one thread of their own: a message that passes wakes that thread and no other. On a runtime of several
/// threads one that waits for news may have to wake another one to carry it. Begun with the first relay; ends with the program.
fn thread() -> io::Result<&'static Handle> {
    static RELAYS: LazyLock<io::Result<Handle>> = LazyLock::new(|| {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let live = move || runtime.block_on(std::future::pending::<()>());
        std::thread::Builder::new().name("relays".to_owned()).spawn(live)?;
        Ok(handle)
    });
    RELAYS.as_ref().map_err(|error| io::Error::new(error.kind(), error.to_string()))
}

impl Drop for Relay {
    fn drop(&mut self) {
        // The accepting task owns the connections' tasks: they end with it.
        self.listener.abort();
    }
}

/// What every connection of a relay shares.
#[derive(Clone)]
struct Link {
    upstream: watch::Receiver<Option<Dialled>>,
    faults: watch::Receiver<Faults>,
    counts: Arc<Counts>,
    /// Up and down.
    buckets: Arc<[Bucket; 2]>,
}

impl Link {
    fn bucket(&self, way: Way) -> &Bucket {
        &self.buckets[usize::from(way == Way::Down)]
    }
}

async fn accept(listener: TcpListener, link: Link) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(carry(stream, link.clone()));
                }
                Err(error) => {
                    // Out of file descriptors, most likely: one ends when a connection does. Nothing else can be awaited.
                    tracing::warn!(%error, "relay can't accept");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// One connection, from accepted to closed.
async fn carry(mut near: TcpStream, mut link: Link) {
    let _counted = link.counts.open();
    let mut far = None;
    let mut told = link.faults.clone();
    tokio::select! {
        biased;
        () = refuse::in_force(&mut told) => {}
        done = carry_on(&mut near, &mut far, &mut link) => {
            if let Err(error) = done {
                tracing::debug!(%error, "relayed connection ended");
            }
            // The refusal may have come while it was carried on.
            if !refuse::applies(&told.borrow()) {
                return;
            }
        }
    }
    refuse::reset(near);
    if let Some(Far::Left(far)) = far {
        refuse::reset(far);
    }
}

async fn carry_on(near: &mut TcpStream, far: &mut Option<Far>, link: &mut Link) -> io::Result<()> {
    near.set_nodelay(true)?;
    shake_hands(link).await;
    let Some(reached) = dial::reach(&mut link.upstream).await? else { return Ok(()) };
    pump::both_ways(near, far.insert(reached), link).await
}

/// TCP's handshake as the other side would see it: nothing while the link is cut, and a round trip's delay.
async fn shake_hands(link: &mut Link) {
    let came = Instant::now();
    loop {
        cut::open(&mut link.faults).await;
        let wait = link.faults.borrow_and_update().round_trip();
        tokio::select! {
            () = sleep_until(came + wait) => return,
            // The relay is going: so is this connection.
            told = link.faults.changed() => if told.is_err() { return },
        }
    }
}

fn size(socket: &TcpSocket) -> io::Result<()> {
    socket.set_recv_buffer_size(SOCKET_BUFFER)?;
    socket.set_send_buffer_size(SOCKET_BUFFER)
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[tokio::test]
    async fn doors_are_for_this_machine_alone() {
        let all = door((Ipv4Addr::UNSPECIFIED, 0).into()).expect("bound");
        assert_eq!(all.device().expect("known").as_deref(), Some(&b"lo"[..]));
        let port = all.local_addr().expect("bound").port();
        let listener = all.listen(1).expect("it listens");
        let (came, went) = tokio::join!(listener.accept(), TcpStream::connect((Ipv4Addr::LOCALHOST, port)));
        assert!(came.is_ok() && went.is_ok());
        // A bridge that isn't there yet (RFC 5737: nobody's).
        assert!(door((Ipv4Addr::new(203, 0, 113, 7), 0).into()).is_ok());
    }
}

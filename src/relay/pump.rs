//! Moves the bytes of one connection both ways as the link's faults let them. Knows no address.
//!
//! Each direction asks the throttle before it reads, puts what it read on the delay line, and hands on what is due; a cut
//! stops all of that. On a healthy link what was read is written at once and the line stays empty. Reads and writes are the
//! cancel-safe single calls, so a fault that comes between them loses nothing and changes no order.
//!
//! That a side has ended or broken is news like any other: it travels with the bytes, after those sent before it.

use std::io;

use futures_util::FutureExt as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::sleep_until;

use super::count::Way;
use super::delay::{Cargo, Line};
use super::dial::Far;
use super::talk::Talk;
use super::{Faults, Link};

/// How much is moved at once.
const CHUNK: usize = 32 * 1024;

/// Carries both directions until both have ended, or the news that one side broke has reached the other.
pub(super) async fn both_ways(near: &mut TcpStream, far: &mut Far, link: &Link) -> io::Result<()> {
    let talk = Talk::new();
    let (near_in, near_out) = near.split();
    let (far_in, far_out) = split(far);
    let up = Pump { from: near_in, to: far_out, way: Way::Up, link, talk: &talk };
    let down = Pump { from: far_in, to: near_out, way: Way::Down, link, talk: &talk };
    tokio::try_join!(up.run(), down.run()).map(drop)
}

/// One direction.
struct Pump<'a, From, To> {
    from: From,
    to: To,
    way: Way,
    link: &'a Link,
    talk: &'a Talk,
}

/// What happened next.
enum Event {
    Faults,
    Tokens,
    Read(io::Result<usize>),
    Written(io::Result<usize>),
}

impl<From: AsyncRead + Unpin, To: AsyncWrite + Unpin> Pump<'_, From, To> {
    async fn run(mut self) -> io::Result<()> {
        let mut chunk = vec![0_u8; CHUNK];
        let mut line = Line::new();
        let mut faults = self.link.faults.clone();
        loop {
            let now = *faults.borrow_and_update().lane(self.way);
            if now.cut {
                changed(&mut faults).await;
                continue;
            }
            let reads = line.takes_more(now.slow);
            let allowed = self.link.bucket(self.way).allows(now.rate, CHUNK);
            let event = tokio::select! {
                biased;
                () = changed(&mut faults) => Event::Faults,
                written = hand_on(&mut self.to, &line), if !line.is_empty() => Event::Written(written),
                read = self.from.read(&mut chunk[..allowed.unwrap_or(0)]), if reads && allowed.is_ok() => Event::Read(read),
                () = async { if let Err(when) = allowed { sleep_until(when).await } }, if reads && allowed.is_err() => Event::Tokens,
            };
            match event {
                Event::Faults => line.retime(faults.borrow().lane(self.way).slow),
                Event::Tokens => {}
                Event::Read(Ok(count @ 1..)) => {
                    self.link.bucket(self.way).took(now.rate, count);
                    // At once where nothing stands in the way.
                    let free = now.slow.is_none() && line.is_empty() && !faults.has_changed().unwrap_or(true);
                    let write = async { if free { self.to.write(&chunk[..count]).await } else { Ok(0) } };
                    // What isn't taken, for whatever reason, is tried again with the line.
                    let sent = write.now_or_never().and_then(io::Result::ok).unwrap_or(0);
                    self.count(&chunk[..sent]);
                    if sent < count {
                        line.push(Cargo::Bytes(chunk[sent..count].to_vec()), now.slow);
                    }
                }
                Event::Read(end) => line.push(Cargo::End(end.map(drop)), now.slow),
                // The other direction finds out by itself, and after what is still under way there.
                Event::Written(Err(_)) => return Ok(()),
                Event::Written(Ok(count)) => {
                    if let Some((_, Some(bytes))) = line.next() {
                        self.count(&bytes[..count]);
                    }
                    if let Some(Cargo::End(end)) = line.handed_on(count) {
                        end?;
                        return self.to.shutdown().await;
                    }
                }
            }
        }
    }

    fn count(&self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.link.counts.passed(self.way, bytes.len(), self.talk.hear(self.way, bytes));
        }
    }
}

/// Hands on some of the next piece, when it is due; of an end there is nothing to hand on.
async fn hand_on(to: &mut (impl AsyncWrite + Unpin), line: &Line) -> io::Result<usize> {
    let Some((due, bytes)) = line.next() else { return std::future::pending().await };
    sleep_until(due).await;
    match bytes {
        Some(bytes) => to.write(bytes).await,
        None => Ok(0),
    }
}

/// Returns when there are other faults. When the relay is gone there are none to come.
async fn changed(faults: &mut watch::Receiver<Faults>) {
    if faults.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

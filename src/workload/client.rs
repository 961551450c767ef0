//! One client: logs in, writes, is answered, again and again. Knows one server at a time; decides no class itself.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::{sleep, sleep_until, timeout};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::ClientState;
use super::engine::{Desk, Orders};
use super::pace::Permit;
use crate::model::WriteId;
use crate::model::ledger::Ack;
use crate::pg::sql::{DATABASE, WRITER_ROLE};
use crate::pg::{Classifier, Insert, Login, Wire, WireError};

const BACKOFF_MIN: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_millis(500);
/// Logging in to a frozen server has to end at some time; a write has not.
const LOG_IN_LIMIT: Duration = Duration::from_secs(5);
/// After a write that failed the next one waits: a standby refuses each one at once (25006), a full disk does too.
const AFTER_FAILURE: Duration = Duration::from_millis(100);

/// A client's task.
#[derive(Debug)]
pub(super) struct Client {
    number: u32,
    /// The last number used.
    seq: u64,
    desk: Arc<Desk>,
    orders: watch::Receiver<Orders>,
    retired: Arc<AtomicBool>,
}

/// Why a session with a server is over.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// The connection is of no use any more.
    Lost(String),
    /// Another target, or none, or the end of it all.
    Recalled,
    /// This client isn't wanted any longer.
    Retired,
}

/// A session: the connection, the message to send, and what ends it from outside.
struct Session {
    wire: Wire,
    insert: Insert,
    level: String,
    payload: usize,
    recalled: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Cancelled when the target is another one.
    until: CancellationToken,
}

impl Client {
    pub(super) fn new(number: u32, desk: Arc<Desk>, orders: watch::Receiver<Orders>, retired: Arc<AtomicBool>) -> Self {
        Self { number, seq: 0, desk, orders, retired }
    }

    /// Works until it is retired or everything ends.
    pub(super) async fn run(mut self) {
        let mut backoff = BACKOFF_MIN;
        while !self.is_over() {
            let Orders { plan, until } = self.orders.borrow_and_update().clone();
            let Some(target) = plan.target else {
                self.look_up().await;
                continue;
            };
            let end = match self.log_in(target, &plan.level, plan.payload_bytes, &until).await {
                Ok(mut session) => {
                    backoff = BACKOFF_MIN;
                    self.desk.books.connected(self.number, target);
                    self.work(&mut session).await
                }
                Err(end) => end,
            };
            if let End::Lost(why) = end {
                self.desk.books.state(self.number, ClientState::Refused(why));
                tokio::select! {
                    () = sleep(backoff) => backoff = (backoff * 2).min(BACKOFF_MAX),
                    () = until.cancelled() => backoff = BACKOFF_MIN,
                }
            }
        }
        self.desk.books.state(self.number, ClientState::Gone);
    }

    fn is_over(&self) -> bool {
        self.retired.load(Ordering::Relaxed) || self.desk.end.is_cancelled()
    }

    /// Returns when there are new orders, or none to come.
    async fn look_up(&mut self) {
        tokio::select! {
            changed = self.orders.changed() => if changed.is_err() {
                self.desk.end.cancelled().await;
            },
            () = self.desk.end.cancelled() => {}
        }
    }

    async fn log_in(
        &self,
        target: SocketAddr,
        level: &str,
        payload: usize,
        until: &CancellationToken,
    ) -> Result<Session, End> {
        self.desk.books.state(self.number, ClientState::Connecting);
        let application = format!("replab writer {}", self.number);
        let login = Login {
            address: target,
            user: WRITER_ROLE,
            password: &self.desk.password,
            database: DATABASE,
            application: &application,
            settings: &[("synchronous_commit", level)],
        };
        let work = async {
            let mut wire = Wire::connect(&login).await?;
            wire.prepare_insert().await?;
            Ok::<_, WireError>((wire, Insert::new(self.number, &"x".repeat(payload))?))
        };
        let done = tokio::select! {
            done = timeout(LOG_IN_LIMIT, work) => done,
            () = until.cancelled() => return Err(End::Recalled),
        };
        let (wire, insert) = done
            .map_err(|_| End::Lost(format!("no answer to the log-in within {} s", LOG_IN_LIMIT.as_secs())))?
            .map_err(|error| End::Lost(error.to_string()))?;
        let recalled = Box::pin(until.clone().cancelled_owned());
        Ok(Session { wire, insert, level: level.to_owned(), payload, recalled, until: until.clone() })
    }

    /// Writes on one session until it ends.
    async fn work(&mut self, session: &mut Session) -> End {
        let mut plan = self.orders.borrow().plan.clone();
        loop {
            if self.is_over() {
                return End::Retired;
            }
            if self.orders.has_changed().unwrap_or(true) {
                plan = self.orders.borrow_and_update().plan.clone();
                if let Err(end) = self.adapt(session, &plan.level, plan.payload_bytes).await {
                    return end;
                }
            }
            let end = match self.desk.pace.permit(&plan, &self.desk.extra, Instant::now) {
                Permit::Now => self.write(session).await,
                Permit::At(slot) => match self.rest_until(session, slot).await {
                    Ok(true) => self.write(session).await,
                    Ok(false) => Ok(()),
                    Err(end) => Err(end),
                },
                Permit::Idle => self.rest(session).await,
            };
            if let Err(end) = end {
                return end;
            }
        }
    }

    /// Makes the session as the plan wants it.
    async fn adapt(&self, session: &mut Session, level: &str, payload: usize) -> Result<(), End> {
        if session.payload != payload {
            let made = Insert::new(self.number, &"x".repeat(payload));
            session.insert = made.map_err(|error| End::Lost(error.to_string()))?;
            session.payload = payload;
        }
        if session.level != level {
            tokio::select! {
                biased;
                () = &mut session.recalled => return Err(End::Recalled),
                done = session.wire.set_level(level) => done.map_err(|error| End::Lost(error.to_string()))?,
            }
            level.clone_into(&mut session.level);
        }
        Ok(())
    }

    /// One write, from booking to settling.
    async fn write(&mut self, session: &mut Session) -> Result<(), End> {
        let id = WriteId { client: self.number, seq: self.seq + 1 };
        while !self.desk.books.tried(id, Instant::now()) {
            // Nobody takes the books. There is room only after a flush, and a flush tells all who wait.
            tokio::select! {
                () = self.desk.books.room.notified() => {}
                () = &mut session.recalled => return Err(End::Recalled),
            }
        }
        self.seq = id.seq;
        let mut classifier = Classifier::default();
        let exchange = async {
            session.wire.send(session.insert.with(id.seq)).await?;
            session.wire.answer(&mut classifier).await
        };
        let answer = tokio::select! {
            biased;
            answer = exchange => Some(answer),
            () = &mut session.recalled => None,
        };
        let (outcome, end) = match answer {
            Some(Ok(outcome)) => {
                let end = (outcome.ack == Ack::Unknown).then(|| End::Lost("an answer that fits no write".to_owned()));
                (outcome, end)
            }
            Some(Err(error)) => (classifier.closed(), Some(End::Lost(error.to_string()))),
            None => (classifier.closed(), Some(End::Recalled)),
        };
        let said = outcome.said.map(|said| said.to_string());
        self.desk.books.settled(id, outcome.ack, said.clone(), Instant::now());
        // An answer that was on its way when the target changed is the old one's.
        if matches!(outcome.ack, Ack::Acked | Ack::AckedWithWarning) && !session.until.is_cancelled() {
            self.desk.books.acked_there();
        }
        match (end, outcome.ack) {
            (Some(End::Lost(why)), _) => Err(End::Lost(said.unwrap_or(why))),
            (Some(end), _) => Err(end),
            (None, Ack::Failed) => self.rest_until(session, Instant::now() + AFTER_FAILURE).await.map(drop),
            (None, _) => Ok(()),
        }
    }

    /// Waits for `time`. False: there are new orders before. The connection's end and a recall end the session.
    async fn rest_until(&mut self, session: &mut Session, time: Instant) -> Result<bool, End> {
        tokio::select! {
            biased;
            () = &mut session.recalled => Err(End::Recalled),
            _ = self.orders.changed() => {
                self.orders.mark_changed();
                Ok(false)
            }
            error = session.wire.ended() => Err(End::Lost(error.to_string())),
            () = sleep_until(time.into()) => Ok(true),
        }
    }

    /// Waits for new orders.
    async fn rest(&mut self, session: &mut Session) -> Result<(), End> {
        tokio::select! {
            biased;
            () = &mut session.recalled => Err(End::Recalled),
            changed = self.orders.changed() => {
                self.orders.mark_changed();
                changed.map_err(|_| End::Recalled)
            }
            error = session.wire.ended() => Err(End::Lost(error.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::workload::books::{Books, Range};
    use crate::workload::pace::Pace;
    use crate::workload::{WriterEvent, WriterPlan};

    /// AuthenticationOk and ReadyForQuery; ParseComplete and ReadyForQuery.
    const WELCOME: [&[u8]; 2] = [b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I", b"1\0\0\0\x04Z\0\0\0\x05I"];

    /// A client that may write as fast as it can, and its server's end of the connection: logged in, its INSERT prepared. It has come
    /// as far as it gets without an answer, for client and server are tasks of one thread.
    async fn server_of_a_client(desk: &Arc<Desk>) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = listener.local_addr().unwrap();
        let plan = WriterPlan { target: Some(target), clients: 1, ..WriterPlan::default() };
        // The sender is gone: there are no new orders to come.
        let orders = watch::channel(Orders { plan, until: desk.end.child_token() }).1;
        tokio::spawn(Client::new(1, Arc::clone(desk), orders, Arc::default()).run());
        let (mut server, _) = listener.accept().await.unwrap();
        for answer in WELCOME {
            assert_ne!(server.read(&mut [0; 4096]).await.unwrap(), 0, "it asks in one piece");
            server.write_all(answer).await.unwrap();
        }
        while desk.books.counts(Some(target)).0 == 0 {
            tokio::task::yield_now().await;
        }
        server
    }

    fn desk() -> Arc<Desk> {
        let now = Instant::now();
        let (books, pace, extra) = (Books::new(1, now), Pace::new(now), Arc::default());
        let password = crate::pg::Secret::new("never asked for");
        Arc::new(Desk { password, books, pace, extra, end: CancellationToken::new() })
    }

    #[tokio::test]
    async fn a_write_is_in_the_books_when_its_bytes_arrive() {
        let desk = desk();
        let mut server = server_of_a_client(&desk).await;
        assert_ne!(server.read(&mut [0; 4096]).await.unwrap(), 0);
        let tried = vec![Range { client: 1, first: 1, last: 1 }];
        let (told, _) = desk.books.take(Instant::now());
        assert!(told.contains(&WriterEvent::Books { tried, settled: Vec::new() }), "{told:?}");
    }

    /// Also where a moment's difference couldn't be seen: as long as there is no room to book it, nothing of a write goes out.
    #[tokio::test]
    async fn a_write_that_cannot_be_booked_is_not_sent() {
        let desk = desk();
        let mut seq = 0;
        while desk.books.tried(WriteId { client: 2, seq }, Instant::now()) {
            desk.books.settled(
                WriteId { client: 2, seq },
                [Ack::Acked, Ack::Failed][seq as usize % 2],
                None,
                Instant::now(),
            );
            seq += 1;
        }
        let mut server = server_of_a_client(&desk).await;
        desk.end.cancel();
        let mut sent = Vec::new();
        server.read_to_end(&mut sent).await.unwrap();
        assert!(sent.is_empty(), "{} bytes of a write that isn't in the books", sent.len());
    }
}

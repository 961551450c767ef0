//! The writers: clients that write rows without end, and tell truthfully what they tried and what they learned of it.
//! Know one server at a time (the target), and no cluster.
//!
//! # Layout
//!
//! All clients are tasks of one thread with a runtime of its own (`engine`), so that a write wakes no other thread. A
//! client (`client`) books a write before its bytes go out and settles it when it is answered; both go into one
//! accumulator of ranges (`books`), which a flusher sends to the lab every 20 ms, at once when there was nothing to send
//! before. `pace` says when a client may write.
//!
//! # What is promised
//!
//! - A number is used once: a client that reconnects goes on counting, a client that was removed never comes back.
//! - Every write is tried first and then settled exactly once: `tried = acked + warned + failed + unknown + in flight`.
//! - Books are never dropped: when the lab doesn't take them, the clients stop before there are too many.
//! - No class is decided by time. A write without an answer stays in flight until it is answered or its connection ends;
//!   a change of target ends it, and so does [`Writers::stop`].

mod books;
mod client;
mod engine;
mod messages;
mod pace;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;

use tokio::sync::{mpsc, oneshot, watch};

pub use books::{Latency, Range};
pub use messages::{forward, plan};

use crate::model::WriteId;
use crate::model::ledger::Ack;
use crate::pg::Secret;
use pace::Extra;

/// What the writers shall do.
#[derive(Clone, Debug, PartialEq)]
pub struct WriterPlan {
    /// Where to write; None while no primary is known: the clients wait.
    pub target: Option<SocketAddr>,
    /// What the target is called: told with the first answer from there.
    pub name: String,
    /// How many clients.
    pub clients: u32,
    /// Writes per second of all clients together; None: as fast as they are answered.
    pub rate: Option<f64>,
    /// `synchronous_commit` of their sessions: on, `remote_apply`, `remote_write`, local, off.
    pub level: String,
    /// Finish what is in flight, then only write what was asked for by [`WriterCommand`].
    pub paused: bool,
    /// Finish what is in flight, then write nothing, asked for or not, until this is over.
    pub held: bool,
    /// Size of each row's payload.
    pub payload_bytes: usize,
}

impl Default for WriterPlan {
    fn default() -> Self {
        let (name, level) = (String::new(), "on".to_owned());
        Self { target: None, name, clients: 0, rate: None, level, paused: false, held: false, payload_bytes: 32 }
    }
}

/// Writes beside the plan: also while paused, and with one client if the plan has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriterCommand {
    /// One write.
    One,
    /// This many, as fast as they are answered.
    Burst(u64),
}

/// How a client is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientState {
    /// It tries to log in.
    Connecting,
    /// It is logged in. Which of its writes wait for an answer is told by [`WriterEvent::InFlight`].
    Connected,
    /// It was refused, or lost its connection, and tries again: why, safe for a terminal.
    Refused(String),
    /// It has ended for good: the plan has fewer clients.
    Gone,
}

/// What the writers tell. Books come in order, and are never dropped.
#[derive(Clone, Debug, PartialEq)]
pub enum WriterEvent {
    /// What was tried since the last time, and what was settled. A write is never settled before it was tried.
    Books {
        /// Writes about to go out.
        tried: Vec<Range>,
        /// Writes whose class is decided.
        settled: Vec<(Range, Ack)>,
    },
    /// The first write was acknowledged since the writers were told of this target. Told at once.
    FirstAck(String),
    /// How long answers took during the last half second. Told while there are any, and once when there are none.
    Latency(Latency),
    /// Every write that has waited longer than 50 ms, and how long, in milliseconds; oldest first. Told while there are
    /// any, ten times a second, and once when there are none.
    InFlight(Vec<(WriteId, u64)>),
    /// Clients that are in another state now.
    Clients(Vec<(u32, ClientState)>),
    /// What a server said about writes that failed, that were acknowledged with a warning, or before the connection ended: the
    /// last text of each client since the last time.
    Said(Vec<(WriteId, String)>),
}

/// The running writers. Dropping it ends them; [`Writers::stop`] also waits for their last books.
#[derive(Debug)]
pub struct Writers {
    plan: watch::Sender<WriterPlan>,
    extra: Arc<Extra>,
    desk: Arc<engine::Desk>,
    ended: oneshot::Receiver<()>,
}

impl Writers {
    /// Starts the thread. Clients log in as `replab_writer` with `password`; their numbers begin with `first_client`.
    /// Give `events` room for some ten messages; nobody taking them stops the clients.
    pub fn spawn(password: Secret, first_client: u32, events: mpsc::Sender<WriterEvent>) -> io::Result<Self> {
        let (plan, told) = watch::channel(WriterPlan::default());
        let extra = Arc::new(Extra::default());
        let (end, ended) = oneshot::channel();
        let engine = engine::Engine::new(password, first_client, told, Arc::clone(&extra), events);
        let desk = engine.desk();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        thread::Builder::new().name("writers".to_owned()).spawn(move || {
            runtime.block_on(engine.run());
            // Nobody waits for it any more: then that is all right too.
            let _ = end.send(());
        })?;
        Ok(Self { plan, extra, desk, ended })
    }

    /// Changes the plan. Clients notice before their next write; another target ends their connections at once.
    pub fn set(&self, plan: WriterPlan) {
        self.plan.send_if_modified(|now| {
            let differs = *now != plan;
            *now = plan;
            differs
        });
    }

    /// The plan in force.
    pub fn plan(&self) -> WriterPlan {
        self.plan.borrow().clone()
    }

    /// How many clients are logged in at this address, and how many writes are under way.
    pub fn counts(&self, at: Option<SocketAddr>) -> (usize, usize) {
        self.desk.books.counts(at)
    }

    /// Asks for writes beside the plan. Without a target they wait for one.
    pub fn command(&self, command: WriterCommand) {
        self.extra.add(match command {
            WriterCommand::One => 1,
            WriterCommand::Burst(count) => count,
        });
        // Wakes the engine.
        self.plan.send_modify(|_| {});
    }

    /// Ends all clients, in-flight writes becoming unknown, and returns when the last books have been sent (so somebody
    /// must be taking them).
    pub async fn stop(self) {
        let Self { plan, ended, .. } = self;
        drop(plan);
        // The other end is gone only when the thread is.
        let _ = ended.await;
    }
}

//! What the writers tell, as messages of the lab: books at once, figures as a pulse four times a second.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{ClientState, Latency, Range, WriterEvent, WriterPlan};
use crate::model::command::Rate;
use crate::model::ledger::{Ack, IdRange};
use crate::model::msg::{self, InFlight, Msg, WriterPulse};

/// How often figures are told.
const PULSE: Duration = Duration::from_millis(250);
/// Room for the writers' messages: see [`super::Writers::spawn`].
const ROOM: usize = 64;
/// Bytes of each row's payload.
const PAYLOAD_BYTES: usize = 32;

/// The model's orders, with the target's address of the moment.
pub fn plan(plan: &msg::WriterPlan, target: Option<SocketAddr>) -> WriterPlan {
    let rate = match plan.rate {
        Rate::Max => None,
        Rate::PerSecond(n) => Some(f64::from(n)),
    };
    let (clients, level, paused, held) = (plan.clients, plan.level.clone(), plan.paused, plan.held);
    let name = plan.target.as_ref().map(ToString::to_string).unwrap_or_default();
    WriterPlan { target, name, clients, rate, level, paused, held, payload_bytes: PAYLOAD_BYTES }
}

/// Starts passing events on to the lab; the task ends when all that the writers told is passed on, or the lab ends.
pub fn forward(out: mpsc::Sender<Msg>) -> (mpsc::Sender<WriterEvent>, JoinHandle<()>) {
    let (events, taken) = mpsc::channel(ROOM);
    (events, tokio::spawn(pass_on(taken, out)))
}

async fn pass_on(mut taken: mpsc::Receiver<WriterEvent>, out: mpsc::Sender<Msg>) {
    let mut figures = Figures::new();
    let mut clock = interval(PULSE);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let messages = tokio::select! {
            event = taken.recv() => match event {
                Some(event) => figures.take(event),
                None => return,
            },
            _ = clock.tick() => vec![Msg::Pulse(figures.pulse())],
        };
        for msg in messages {
            if out.send(msg).await.is_err() {
                return;
            }
        }
    }
}

/// What is gathered between two pulses.
struct Figures {
    since: Instant,
    commits: u64,
    latency: Option<Latency>,
    waiting: Vec<InFlight>,
    clients: BTreeMap<u32, ClientState>,
    said: Option<String>,
}

impl Figures {
    fn new() -> Self {
        let (clients, waiting) = (BTreeMap::new(), Vec::new());
        Self { since: Instant::now(), commits: 0, latency: None, waiting, clients, said: None }
    }

    /// Takes an event in; what must not wait for the pulse comes back as messages.
    fn take(&mut self, event: WriterEvent) -> Vec<Msg> {
        match event {
            WriterEvent::Books { tried, settled } => return self.books(&tried, &settled),
            WriterEvent::FirstAck(name) => return name.parse().map(Msg::FirstAck).into_iter().collect(),
            WriterEvent::Latency(latency) => self.latency = (latency.count > 0).then_some(latency),
            WriterEvent::InFlight(writes) => {
                let row = |(id, ms): &(crate::model::WriteId, u64)| InFlight {
                    client: id.client,
                    seq: id.seq,
                    age_us: ms * 1_000,
                };
                self.waiting = writes.iter().map(row).collect();
            }
            WriterEvent::Clients(states) => {
                self.clients.extend(states);
                self.clients.retain(|_, state| *state != ClientState::Gone);
            }
            WriterEvent::Said(texts) => self.said = texts.into_iter().next_back().map(|(_, text)| text),
        }
        Vec::new()
    }

    fn books(&mut self, tried: &[Range], settled: &[(Range, Ack)]) -> Vec<Msg> {
        let done = settled.iter().filter(|(_, ack)| matches!(ack, Ack::Acked | Ack::AckedWithWarning));
        self.commits += done.map(|(r, _)| r.last - r.first + 1).sum::<u64>();
        let tried = Msg::Tried(tried.iter().map(ids).collect());
        let wrote = Msg::Wrote(settled.iter().map(|(r, ack)| (ids(r), *ack)).collect());
        vec![tried, wrote]
    }

    fn pulse(&mut self) -> WriterPulse {
        let interval = self.since.elapsed();
        self.since = Instant::now();
        let latency = self.latency;
        let refused = self.clients.values().find_map(|s| match s {
            ClientState::Refused(why) => Some(why.clone()),
            _ => None,
        });
        WriterPulse {
            interval_us: u64::try_from(interval.as_micros()).unwrap_or(u64::MAX),
            commits: std::mem::take(&mut self.commits),
            p50_us: latency.as_ref().map(|l| l.p50_us),
            p99_us: latency.as_ref().map(|l| l.p99_us),
            max_us: latency.as_ref().map(|l| l.max_us),
            waiting: self.waiting.clone(),
            connected: self.clients.values().filter(|s| **s == ClientState::Connected).count() as u32,
            trouble: refused.or_else(|| self.said.take()),
        }
    }
}

fn ids(range: &Range) -> IdRange {
    IdRange { client: range.client, first: range.first, last: range.last }
}

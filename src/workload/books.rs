//! What was tried and settled since the last flush, as ranges: a few entries for each client, at any rate of writes.
//! Knows no connection; moments come in.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::{ClientState, WriterEvent};
use crate::model::WriteId;
use crate::model::ledger::Ack;

/// Clients stop when there are this many entries: the lab doesn't take them.
const FULL: usize = 16 * 1024;
/// How often latencies are told.
const LATENCY_EVERY: Duration = Duration::from_millis(500);
/// How often waiting writes are told.
const IN_FLIGHT_EVERY: Duration = Duration::from_millis(100);
/// A write that has waited this long is told.
const IN_FLIGHT_AFTER: Duration = Duration::from_millis(50);

/// Unbroken numbers of one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Range {
    /// The client.
    pub client: u32,
    /// The first number.
    pub first: u64,
    /// The last number.
    pub last: u64,
}

impl Range {
    fn one(id: WriteId) -> Self {
        Self { client: id.client, first: id.seq, last: id.seq }
    }

    /// How many numbers.
    pub fn count(&self) -> u64 {
        self.last - self.first + 1
    }
}

/// How long answers took, in microseconds, and how many there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    /// The length of the interval, in microseconds.
    pub interval_us: u64,
    /// Answers in it, of every class but unknown.
    pub count: u64,
    /// Half took no longer.
    pub p50_us: u64,
    /// 95 of 100 took no longer.
    pub p95_us: u64,
    /// 99 of 100 took no longer.
    pub p99_us: u64,
    /// The longest.
    pub max_us: u64,
}

/// The accumulator that all clients share. All who write in it are on one thread: the lock is hardly ever waited for.
#[derive(Debug)]
pub(super) struct Books {
    page: Mutex<Page>,
    /// There is something to tell, and there was nothing before.
    pub(super) news: Notify,
    /// There is room again.
    pub(super) room: Notify,
    /// The first write on a new target was acknowledged.
    pub(super) first: Notify,
}

#[derive(Debug)]
struct Page {
    /// Counts the flushes, so that an entry's place is known to be of this page.
    number: u64,
    dirty: bool,
    tried: Vec<Range>,
    settled: Vec<(Range, Ack)>,
    slots: Vec<Slot>,
    first_client: u32,
    in_flight: usize,
    told_waiting: bool,
    waiting_at: Instant,
    latency: Histogram<u64>,
    latency_from: Instant,
    told_latency: bool,
    states: Vec<(u32, ClientState)>,
    /// Who is logged in, and where.
    connected: BTreeMap<u32, SocketAddr>,
    said: Vec<(WriteId, String)>,
    /// The target whose first answer is awaited.
    awaited: Option<String>,
    /// The one whose first answer has come.
    first: Option<String>,
}

/// What is known of one client.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    page: u64,
    tried: usize,
    settled: Option<usize>,
    flying: Option<(u64, Instant)>,
}

impl Books {
    pub(super) fn new(first_client: u32, now: Instant) -> Self {
        // 3 significant digits, up to an hour.
        let latency = Histogram::new_with_bounds(1, 3_600_000_000, 3).expect("constant bounds, seen by every test");
        let page = Page {
            number: 1,
            dirty: false,
            tried: Vec::new(),
            settled: Vec::new(),
            slots: Vec::new(),
            first_client,
            in_flight: 0,
            told_waiting: false,
            waiting_at: now,
            latency,
            latency_from: now,
            told_latency: false,
            states: Vec::new(),
            connected: BTreeMap::new(),
            said: Vec::new(),
            awaited: None,
            first: None,
        };
        Self { page: Mutex::new(page), news: Notify::new(), room: Notify::new(), first: Notify::new() }
    }

    fn page(&self) -> MutexGuard<'_, Page> {
        self.page.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Books a write that is about to go out. False, and nothing is booked: the page is full, wait for `room`.
    pub(super) fn tried(&self, id: WriteId, now: Instant) -> bool {
        let mut page = self.page();
        if page.tried.len() + page.settled.len() >= FULL {
            return false;
        }
        page.tried(id, now);
        self.wake(&mut page);
        true
    }

    /// Books what a write has come to.
    pub(super) fn settled(&self, id: WriteId, ack: Ack, said: Option<String>, now: Instant) {
        let mut page = self.page();
        page.settled(id, ack, now);
        if let Some(text) = said {
            page.said.retain(|(other, _)| other.client != id.client);
            page.said.push((id, text));
        }
        self.wake(&mut page);
    }

    /// A write was acknowledged by the present target. Called after [`Self::settled`].
    pub(super) fn acked_there(&self) {
        let mut page = self.page();
        if let Some(target) = page.awaited.take() {
            page.first = Some(target);
            self.first.notify_one();
        }
    }

    /// There is another target, whose first answer is awaited.
    pub(super) fn begin_at(&self, target: &str) {
        let mut page = self.page();
        page.awaited = (!target.is_empty()).then(|| target.to_owned());
    }

    /// A client is in another state.
    pub(super) fn state(&self, client: u32, state: ClientState) {
        let mut page = self.page();
        page.connected.remove(&client);
        page.states.retain(|(other, _)| *other != client);
        page.states.push((client, state));
        self.wake(&mut page);
    }

    /// A client is logged in there.
    pub(super) fn connected(&self, client: u32, at: SocketAddr) {
        self.state(client, ClientState::Connected);
        self.page().connected.insert(client, at);
    }

    /// How many clients are logged in there, and how many writes are under way.
    pub(super) fn counts(&self, at: Option<SocketAddr>) -> (usize, usize) {
        let page = self.page();
        (page.connected.values().filter(|there| Some(**there) == at).count(), page.in_flight)
    }

    fn wake(&self, page: &mut Page) {
        if !page.dirty {
            page.dirty = true;
            self.news.notify_one();
        }
    }

    /// Takes everything that is due. The second value: something will be due later without more news.
    pub(super) fn take(&self, now: Instant) -> (Vec<WriterEvent>, bool) {
        let mut page = self.page();
        let events = page.take(now);
        self.room.notify_waiters();
        (events, page.in_flight > 0 || page.told_waiting || page.told_latency || !page.latency.is_empty())
    }
}

impl Page {
    fn slot(&mut self, client: u32) -> &mut Slot {
        let at = (client - self.first_client) as usize;
        if at >= self.slots.len() {
            self.slots.resize(at + 1, Slot::default());
        }
        let number = self.number;
        let slot = &mut self.slots[at];
        if slot.page != number {
            *slot = Slot { page: number, tried: usize::MAX, settled: None, flying: slot.flying };
        }
        slot
    }

    fn tried(&mut self, id: WriteId, now: Instant) {
        let fresh = self.tried.len();
        let slot = self.slot(id.client);
        slot.flying = Some((id.seq, now));
        let known = slot.tried;
        if known == usize::MAX {
            slot.tried = fresh;
        }
        self.in_flight += 1;
        match self.tried.get_mut(known) {
            Some(range) => range.last = id.seq,
            None => self.tried.push(Range::one(id)),
        }
    }

    fn settled(&mut self, id: WriteId, ack: Ack, now: Instant) {
        let fresh = self.settled.len();
        let slot = self.slot(id.client);
        let began = slot.flying.take();
        let known = slot.settled;
        self.in_flight -= usize::from(began.is_some());
        if let Some((_, began)) = began.filter(|_| ack != Ack::Unknown) {
            let micros = u64::try_from(now.saturating_duration_since(began).as_micros()).unwrap_or(u64::MAX);
            self.latency.saturating_record(micros);
        }
        match known.and_then(|at| self.settled.get_mut(at)) {
            Some((range, class)) if *class == ack && range.last + 1 == id.seq => range.last = id.seq,
            _ => {
                self.slot(id.client).settled = Some(fresh);
                self.settled.push((Range::one(id), ack));
            }
        }
    }

    fn take(&mut self, now: Instant) -> Vec<WriterEvent> {
        self.number += 1;
        self.dirty = false;
        let mut events = Vec::new();
        if !self.tried.is_empty() || !self.settled.is_empty() {
            let (tried, settled) = (std::mem::take(&mut self.tried), std::mem::take(&mut self.settled));
            events.push(WriterEvent::Books { tried, settled });
        }
        events.extend(self.first.take().map(WriterEvent::FirstAck));
        if !self.states.is_empty() {
            events.push(WriterEvent::Clients(std::mem::take(&mut self.states)));
        }
        if !self.said.is_empty() {
            events.push(WriterEvent::Said(std::mem::take(&mut self.said)));
        }
        events.extend(self.waiting(now));
        events.extend(self.latency(now));
        events
    }

    fn waiting(&mut self, now: Instant) -> Option<WriterEvent> {
        if now < self.waiting_at {
            return None;
        }
        let numbered = self.slots.iter().zip(self.first_client..);
        let mut waiting: Vec<(WriteId, u64)> = numbered
            .filter_map(|(slot, client)| {
                let (seq, began) = slot.flying?;
                let age = now.saturating_duration_since(began);
                let id = WriteId { client, seq };
                (age >= IN_FLIGHT_AFTER).then(|| (id, u64::try_from(age.as_millis()).unwrap_or(u64::MAX)))
            })
            .collect();
        waiting.sort_by_key(|(id, age)| (std::cmp::Reverse(*age), *id));
        let news = self.told_waiting || !waiting.is_empty();
        self.told_waiting = !waiting.is_empty();
        self.waiting_at = now + IN_FLIGHT_EVERY;
        news.then_some(WriterEvent::InFlight(waiting))
    }

    fn latency(&mut self, now: Instant) -> Option<WriterEvent> {
        let interval = now.saturating_duration_since(self.latency_from);
        if interval < LATENCY_EVERY {
            return None;
        }
        let seen = &self.latency;
        let latency = Latency {
            interval_us: u64::try_from(interval.as_micros()).unwrap_or(u64::MAX),
            count: seen.len(),
            p50_us: seen.value_at_quantile(0.50),
            p95_us: seen.value_at_quantile(0.95),
            p99_us: seen.value_at_quantile(0.99),
            max_us: seen.max(),
        };
        let news = latency.count > 0 || self.told_latency;
        self.told_latency = latency.count > 0;
        self.latency.reset();
        self.latency_from = now;
        news.then_some(WriterEvent::Latency(latency))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    fn id(client: u32, seq: u64) -> WriteId {
        WriteId { client, seq }
    }

    #[test]
    fn a_fast_client_is_one_entry() {
        let now = Instant::now();
        let books = Books::new(1, now);
        for seq in 1..=1_000 {
            assert!(books.tried(id(3, seq), now));
            books.settled(id(3, seq), Ack::Acked, None, now);
        }
        let range = Range { client: 3, first: 1, last: 1_000 };
        let (events, _) = books.take(now);
        assert_eq!(events, [WriterEvent::Books { tried: vec![range], settled: vec![(range, Ack::Acked)] }]);
        assert_eq!(range.count(), 1_000);
    }

    #[test]
    fn a_full_page_takes_no_more_tries_but_every_answer() {
        let now = Instant::now();
        let books = Books::new(1, now);
        let mut seq = 0;
        let acks = [Ack::Acked, Ack::Failed];
        while books.tried(id(1, seq + 1), now) {
            seq += 1;
            books.settled(id(1, seq), acks[seq as usize % 2], None, now);
        }
        assert!(seq < FULL as u64);
        books.take(now);
        assert!(books.tried(id(1, seq + 1), now));
    }

    #[test]
    fn waiting_writes_are_told_until_there_are_none() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let books = Books::new(1, start);
        books.tried(id(1, 1), start);
        books.tried(id(2, 1), at(20));
        assert!(!books.take(at(25)).0.iter().any(|e| matches!(e, WriterEvent::InFlight(_))));
        let (events, more) = books.take(at(130));
        assert!(events.contains(&WriterEvent::InFlight(vec![(id(1, 1), 130), (id(2, 1), 110)])) && more);
        books.settled(id(1, 1), Ack::Acked, None, at(140));
        books.settled(id(2, 1), Ack::Unknown, Some("gone".to_owned()), at(140));
        let (events, _) = books.take(at(650));
        assert!(events.contains(&WriterEvent::InFlight(Vec::new())));
        assert!(events.contains(&WriterEvent::Said(vec![(id(2, 1), "gone".to_owned())])));
        let latency = events.iter().find_map(|e| if let WriterEvent::Latency(l) = e { Some(l) } else { None }).unwrap();
        assert_eq!((latency.count, latency.p50_us / 1_000), (1, 140));
        let (events, more) = books.take(at(1_200));
        assert!(matches!(events[..], [WriterEvent::Latency(Latency { count: 0, .. })]) && !more, "{events:?}");
    }

    proptest! {
        /// Whatever the order of tries, answers and flushes: every write comes out tried once and settled once, tried first.
        #[test]
        fn nothing_is_lost_or_doubled(steps in prop::collection::vec((0_u32..4, 0_u8..5), 0..300)) {
            let now = Instant::now();
            let books = Books::new(10, now);
            let mut next = [0_u64; 4];
            let mut flying = [false; 4];
            let mut expected = BTreeMap::new();
            let mut out = Vec::new();
            for (client, what) in steps {
                let c = client as usize;
                let ack = [Ack::Acked, Ack::AckedWithWarning, Ack::Failed, Ack::Unknown].get(what as usize);
                match ack {
                    None => out.extend(books.take(now).0),
                    Some(ack) if flying[c] => {
                        books.settled(id(client + 10, next[c]), *ack, None, now);
                        expected.insert((client + 10, next[c]), *ack);
                        flying[c] = false;
                    }
                    Some(_) => {
                        next[c] += 1;
                        flying[c] = true;
                        prop_assert!(books.tried(id(client + 10, next[c]), now));
                    }
                }
            }
            out.extend(books.take(now).0);
            let (mut tried, mut got) = (BTreeSet::new(), BTreeMap::new());
            for event in out {
                let WriterEvent::Books { tried: t, settled: s } = event else { continue };
                for range in t {
                    for seq in range.first..=range.last {
                        prop_assert!(tried.insert((range.client, seq)));
                    }
                }
                for (range, ack) in s {
                    for seq in range.first..=range.last {
                        prop_assert!(tried.contains(&(range.client, seq)));
                        prop_assert_eq!(got.insert((range.client, seq), ack), None);
                    }
                }
            }
            prop_assert_eq!(got, expected);
            prop_assert_eq!(tried.len() as u64, next.iter().sum::<u64>());
        }
    }
}

//! A long lab made of a short one's messages: its middle again and again, with the clock, the writes' numbers and the WAL
//! positions going on.

use replab::model::Stamp;
use replab::model::cluster::{Look, Observation};
use replab::model::msg::Msg;
use serde_json::Value;

use super::common::Run;

/// The first seconds (bring-up and settling), and the last ones (the end), come once or never.
const START_US: u64 = 4_000_000;
const END_US: u64 = 2_000_000;
/// Fields of a look that are positions in the WAL.
const POSITIONS: &[&str] = &["wal", "flushed", "replayed", "sent", "write", "flush", "replay", "restart", "received"];

/// What a lab said: before its middle, and in it.
#[derive(Debug)]
pub struct Long {
    before: Vec<(Stamp, Msg)>,
    middle: Vec<(Stamp, Msg)>,
    /// Once through the middle: so long, so many writes of a client at most, so many bytes of WAL at most.
    span: u64,
    writes: u64,
    wal: u64,
}

impl Long {
    /// Of a whole recording's messages.
    pub fn of(all: Vec<(Stamp, Msg)>) -> Run<Self> {
        let live = all.iter().find(|(_, msg)| matches!(msg, Msg::Wrote(_))).ok_or("nobody wrote")?.0.0 + START_US;
        let end = all.last().map_or(0, |(at, _)| at.0).saturating_sub(END_US);
        let span = end.checked_sub(live).filter(|span| *span > 0).ok_or("the lab was too short")?;
        let (mut before, mut middle) = (all, Vec::new());
        let split = before.partition_point(|(at, _)| at.0 < live);
        middle.extend(before.drain(split..).filter(|(at, msg)| at.0 < end && msg.is_routine()));
        let writes = middle.iter().flat_map(|(_, msg)| numbers(msg)).fold((u64::MAX, 0), wider);
        let wal = middle.iter().filter_map(|(_, msg)| wal_of(msg)).fold((u64::MAX, 0), wider);
        Ok(Self { before, middle, span, writes: writes.1 + 1 - writes.0, wal: wal.1 - wal.0 })
    }

    /// So much of it.
    pub fn until(&self, end_us: u64) -> impl Iterator<Item = (Stamp, Msg)> {
        let again =
            (0..).flat_map(move |turn| self.middle.iter().map(move |(at, msg)| (turn, at.0 + turn * self.span, msg)));
        let on = again.map(|(turn, at, msg)| (Stamp(at), moved(msg, turn * self.writes, turn * self.wal)));
        self.before.iter().cloned().chain(on).take_while(move |(at, _)| at.0 < end_us)
    }
}

fn wider(ends: (u64, u64), n: u64) -> (u64, u64) {
    (ends.0.min(n), ends.1.max(n))
}

fn numbers(msg: &Msg) -> Vec<u64> {
    match msg {
        Msg::Tried(ranges) => ranges.iter().flat_map(|range| [range.first, range.last]).collect(),
        _ => Vec::new(),
    }
}

fn wal_of(msg: &Msg) -> Option<u64> {
    match msg {
        Msg::Observed(Observation::Node(_, Look::Sample(sample))) => Some(sample.wal.0),
        _ => None,
    }
}

/// The same message later: numbers of writes and positions are so much higher.
fn moved(msg: &Msg, writes: u64, wal: u64) -> Msg {
    match msg {
        Msg::Tried(ranges) => {
            let mut ranges = ranges.clone();
            for range in &mut ranges {
                (range.first, range.last) = (range.first + writes, range.last + writes);
            }
            Msg::Tried(ranges)
        }
        Msg::Wrote(acks) => {
            let mut acks = acks.clone();
            for (range, _) in &mut acks {
                (range.first, range.last) = (range.first + writes, range.last + writes);
            }
            Msg::Wrote(acks)
        }
        Msg::Observed(Observation::Node(_, Look::Sample(_))) => {
            let mut value = serde_json::to_value(msg).unwrap_or_default();
            raise(&mut value, wal);
            serde_json::from_value(value).unwrap_or_else(|_| msg.clone())
        }
        _ => msg.clone(),
    }
}

fn raise(value: &mut Value, wal: u64) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                match field.as_u64() {
                    Some(n) if POSITIONS.contains(&name.as_str()) => *field = (n + wal).into(),
                    _ => raise(field, wal),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| raise(item, wal)),
        _ => {}
    }
}

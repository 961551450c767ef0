//! The delay line: what was read waits here until it is due, in order. Knows times and bytes, no socket.
//!
//! Each piece has its own moment, so a delay adds latency and leaves throughput alone. Memory is bounded by [`MEMORY`] for
//! each direction of a connection: a sender that would have more under way waits, as with a full TCP window. Timers count
//! milliseconds, so a piece may come up to one later than it is due.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use tokio::time::Instant;

use crate::model::links::Slow;

/// Bytes under way: 80 ms at 50 MB/s.
const MEMORY: usize = 4 * 1024 * 1024;
/// What a piece costs beside its bytes.
const PIECE: usize = 64;

/// One thing under way.
#[derive(Debug)]
pub(super) enum Cargo {
    Bytes(Vec<u8>),
    /// The sender's end, or that its connection broke.
    End(io::Result<()>),
}

/// Pieces under way, the next one first.
#[derive(Debug)]
pub(super) struct Line {
    pieces: VecDeque<(Instant, Cargo)>,
    /// How much of the first piece has been handed on.
    done: usize,
    size: usize,
    ended: bool,
    random: fastrand::Rng,
}

impl Line {
    pub(super) fn new() -> Self {
        Self { pieces: VecDeque::new(), done: 0, size: 0, ended: false, random: fastrand::Rng::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Whether more may be read: without a delay only when all is handed on.
    pub(super) fn takes_more(&self, slow: Option<Slow>) -> bool {
        !self.ended && if slow.is_some() { self.size < MEMORY } else { self.pieces.is_empty() }
    }

    /// Something was read now.
    pub(super) fn push(&mut self, cargo: Cargo, slow: Option<Slow>) {
        let wanted = Instant::now() + slow.map_or(Duration::ZERO, |slow| self.drawn(slow));
        // Nothing overtakes what went before.
        let due = self.pieces.back().map_or(wanted, |(last, _)| wanted.max(*last));
        match &cargo {
            Cargo::Bytes(bytes) => self.size += bytes.len() + PIECE,
            Cargo::End(_) => self.ended = true,
        }
        self.pieces.push_back((due, cargo));
    }

    fn drawn(&mut self, slow: Slow) -> Duration {
        let (low, high) = (slow.delay_us - slow.jitter_us, slow.delay_us + slow.jitter_us);
        Duration::from_micros(self.random.u64(low..=high))
    }

    /// The delay is another one now: nothing that is under way takes longer than the new one would.
    pub(super) fn retime(&mut self, slow: Option<Slow>) {
        let latest = Instant::now() + slow.map_or(Duration::ZERO, |s| Duration::from_micros(s.delay_us + s.jitter_us));
        for (due, _) in &mut self.pieces {
            *due = latest.min(*due);
        }
    }

    /// What is to be handed on next, and when; the end as None.
    pub(super) fn next(&self) -> Option<(Instant, Option<&[u8]>)> {
        self.pieces.front().map(|(due, cargo)| match cargo {
            Cargo::Bytes(bytes) => (*due, Some(&bytes[self.done..])),
            Cargo::End(_) => (*due, None),
        })
    }

    /// These many bytes of the next piece were handed on. Gives the piece once it is whole.
    pub(super) fn handed_on(&mut self, count: usize) -> Option<Cargo> {
        self.done += count;
        let whole = self.pieces.front().is_some_and(|(_, cargo)| match cargo {
            Cargo::Bytes(bytes) => self.done >= bytes.len(),
            Cargo::End(_) => true,
        });
        let (_, cargo) = whole.then(|| self.pieces.pop_front()).flatten()?;
        self.done = 0;
        if let Cargo::Bytes(bytes) = &cargo {
            self.size -= bytes.len() + PIECE;
        }
        Some(cargo)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever the delays, pieces come out in the order they went in, none before its time, and none is lost.
        #[test]
        fn order_is_kept(delays in prop::collection::vec((1_u64..100_000, 0_u64..100), 1..60)) {
            let mut line = Line::new();
            let before = Instant::now();
            for (i, (delay, share)) in delays.iter().enumerate() {
                let slow = Slow::new(*delay, delay * share / 100).unwrap();
                line.push(Cargo::Bytes(vec![i as u8; 1 + i % 3]), Some(slow));
                let (due, _) = line.pieces[line.pieces.len() - 1];
                prop_assert!(due >= before + Duration::from_micros(slow.delay_us - slow.jitter_us));
            }
            prop_assert!(line.pieces.iter().is_sorted_by_key(|(due, _)| *due));
            line.retime(Some(Slow::new(10, 0).unwrap()));
            prop_assert!(line.pieces.iter().all(|(due, _)| *due <= Instant::now() + Duration::from_micros(10)));
            for i in 0..delays.len() {
                while let Some((_, Some(bytes))) = line.next() {
                    prop_assert_eq!(bytes[0], i as u8);
                    if line.handed_on(1).is_some() { break }
                }
            }
            prop_assert!(line.is_empty() && line.size == 0);
        }
    }
}

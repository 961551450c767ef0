//! What has passed a relay. Knows numbers only.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::talk::Heard;
use crate::model::links::Passed;

/// The running counts of one relay.
#[derive(Debug, Default)]
pub struct Counts {
    up: Lot,
    down: Lot,
    turns: AtomicU64,
    opened: AtomicU64,
    open: AtomicU64,
}

#[derive(Debug, Default)]
struct Lot {
    bytes: AtomicU64,
    messages: AtomicU64,
    lost: AtomicBool,
}

/// The counts at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// From the connecting side to the upstream.
    pub up: Passed,
    /// From the upstream to the connecting side.
    pub down: Passed,
    /// How often an answer followed something asked.
    pub round_trips: u64,
    /// Connections ever accepted.
    pub opened: u64,
    /// Connections open now.
    pub open: u64,
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Up,
    Down,
}

/// One open connection; counts itself out.
#[derive(Debug)]
pub(super) struct Open(Arc<Counts>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Lot {
    fn reading(&self) -> Passed {
        let messages = (!self.lost.load(Ordering::Relaxed)).then(|| self.messages.load(Ordering::Relaxed));
        Passed { bytes: self.bytes.load(Ordering::Relaxed), messages }
    }
}

impl Counts {
    /// The counts now.
    pub fn reading(&self) -> Reading {
        Reading {
            up: self.up.reading(),
            down: self.down.reading(),
            round_trips: self.turns.load(Ordering::Relaxed),
            opened: self.opened.load(Ordering::Relaxed),
            open: self.open.load(Ordering::Relaxed),
        }
    }

    pub(super) fn open(self: &Arc<Self>) -> Open {
        self.opened.fetch_add(1, Ordering::Relaxed);
        self.open.fetch_add(1, Ordering::Relaxed);
        Open(Arc::clone(self))
    }

    /// These many bytes were handed on, and this is what they held.
    pub(super) fn passed(&self, way: Way, bytes: usize, heard: Heard) {
        let lot = if way == Way::Up { &self.up } else { &self.down };
        lot.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        match heard.messages {
            Some(count) => drop(lot.messages.fetch_add(count, Ordering::Relaxed)),
            None => lot.lost.store(true, Ordering::Relaxed),
        }
        self.turns.fetch_add(u64::from(heard.turn), Ordering::Relaxed);
    }
}

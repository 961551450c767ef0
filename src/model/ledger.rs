//! The books of every attempted write, kept as ranges per client, and what reading the nodes says about them.
//!
//! tried = acked + warned + failed + unknown + pending, always. What the synchronous rule promised of an ack is booked
//! with it: an ack counts as promised only when a look at the primary before it and one after it found the same
//! synchronous rule in force, with no change under way. Knows no SQL: readings come in as ranges.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::ranges::Ranges;

/// What the client learned of one attempted write. Never decided by time; facts in `docs/facts.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Ack {
    /// `CommandComplete` with the expected tag.
    Acked,
    /// The same, after the WARNING that the wait for a synchronous standby was cancelled.
    AckedWithWarning,
    /// An ERROR followed by `ReadyForQuery`.
    Failed,
    /// Everything else: the connection ended, the server said FATAL.
    Unknown,
}

/// Consecutive writes of one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdRange {
    /// The client.
    pub client: u32,
    /// First sequence number.
    pub first: u64,
    /// Last sequence number, inclusive.
    pub last: u64,
}

/// Sets of write ids, per client.
pub type Ids = BTreeMap<u32, Ranges>;

/// How many ids there are in all.
pub fn count(ids: &Ids) -> u64 {
    ids.values().map(Ranges::count).sum()
}

/// `a` without `b`, per client.
pub fn minus(a: &Ids, b: &Ids) -> Ids {
    keep(a, |client, set| b.get(client).map_or_else(|| set.clone(), |other| set.minus(other)))
}

/// What is in both.
pub fn and(a: &Ids, b: &Ids) -> Ids {
    keep(a, |client, set| b.get(client).map_or_else(Ranges::new, |other| set.and(other)))
}

/// What is in either.
pub fn or(a: &Ids, b: &Ids) -> Ids {
    let mut all = a.clone();
    for (client, set) in b {
        all.entry(*client).or_default().extend(set);
    }
    all
}

fn keep(a: &Ids, f: impl Fn(&u32, &Ranges) -> Ranges) -> Ids {
    a.iter().map(|(client, set)| (*client, f(client, set))).filter(|(_, set)| !set.is_empty()).collect()
}

fn add(ids: &mut Ids, range: IdRange) {
    ids.entry(range.client).or_default().insert(range.first, range.last);
}

/// The numbers that are shown and reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Attempts.
    pub tried: u64,
    /// Acknowledged without reservation.
    pub acked: u64,
    /// Acknowledged with the warning that no standby confirmed.
    pub acked_with_warning: u64,
    /// Refused with an error.
    pub failed: u64,
    /// No answer: may or may not be there.
    pub unknown: u64,
    /// Still under way.
    pub pending: u64,
}

/// The books.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// All attempts.
    pub tried: Ids,
    /// By what the client learned: acked.
    pub acked: Ids,
    /// Acked with warning.
    pub warned: Ids,
    /// Failed.
    pub failed: Ids,
    /// Unknown.
    pub unknown: Ids,
    /// The acked ones that a synchronous rule promised to keep.
    pub promised: Ids,
    /// Acked since the last look at the primary: whether they were promised shows at the next.
    fresh: Ids,
    /// Acked under a rule on a primary that was never looked at again: nobody can say whether they were promised.
    #[serde(default)]
    open: Ids,
    /// Acks that a rule promised to keep, or may have, until an election that this promise doesn't cover; by why it doesn't.
    #[serde(default)]
    pub ended: BTreeMap<String, Ids>,
    /// A primary was seen to have a synchronous rule since the books were begun: not every ack is of an asynchronous commit.
    #[serde(default)]
    pub ruled: bool,
    counts: Counts,
}

impl Ledger {
    /// Books attempts, before they are sent.
    pub fn tried(&mut self, ranges: &[IdRange]) {
        for range in ranges {
            add(&mut self.tried, *range);
            self.counts.tried += range.last - range.first + 1;
        }
    }

    /// Books answers.
    pub fn wrote(&mut self, answers: &[(IdRange, Ack)]) {
        for (range, ack) in answers {
            let (set, total) = match ack {
                Ack::Acked => (&mut self.acked, &mut self.counts.acked),
                Ack::AckedWithWarning => (&mut self.warned, &mut self.counts.acked_with_warning),
                Ack::Failed => (&mut self.failed, &mut self.counts.failed),
                Ack::Unknown => (&mut self.unknown, &mut self.counts.unknown),
            };
            add(set, *range);
            *total += range.last - range.first + 1;
            if *ack == Ack::Acked {
                add(&mut self.fresh, *range);
            }
        }
    }

    /// A look at the primary was taken: what was acked since the one before was promised, or it was not. Whether something was.
    pub fn settle_promise(&mut self, promised: bool) -> bool {
        let fresh = std::mem::take(&mut self.fresh);
        if promised {
            self.promised = or(&std::mem::take(&mut self.promised), &fresh);
        }
        promised && !fresh.is_empty()
    }

    /// Another node is the primary: what was acked since the last look at the old one stays open for good.
    pub fn primary_moved(&mut self) {
        let fresh = std::mem::take(&mut self.fresh);
        self.open = or(&std::mem::take(&mut self.open), &fresh);
    }

    /// An election doesn't cover what was promised so far, nor what is open; `why`. What was acked since the last look at the primary
    /// is open only once the primary has moved.
    pub fn end_promises(&mut self, why: &str) {
        let given = or(&std::mem::take(&mut self.promised), &std::mem::take(&mut self.open));
        if !given.is_empty() {
            let ended = self.ended.entry(why.to_owned()).or_default();
            *ended = or(ended, &given);
        }
    }

    /// Acks of which it isn't known whether they were promised.
    pub fn unsettled(&self) -> Ids {
        or(&self.open, &self.fresh)
    }

    /// The numbers.
    pub fn counts(&self) -> Counts {
        let c = self.counts;
        Counts { pending: c.tried - (c.acked + c.acked_with_warning + c.failed + c.unknown).min(c.tried), ..c }
    }

    /// Whether every answer belongs to an attempt and no attempt has two answers.
    pub fn adds_up(&self) -> bool {
        let answers = [&self.acked, &self.warned, &self.failed, &self.unknown];
        let total: u64 = answers.iter().map(|ids| count(ids)).sum();
        let union = answers.iter().fold(Ids::new(), |all, ids| or(&all, ids));
        let c = self.counts;
        count(&union) == total
            && minus(&union, &self.tried).is_empty()
            && total == c.acked + c.acked_with_warning + c.failed + c.unknown
            && count(&self.tried) == c.tried
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn one(client: u32, seq: u64) -> IdRange {
        IdRange { client, first: seq, last: seq }
    }

    proptest! {
        /// Against a map from id to answer, the plainest ledger there is.
        #[test]
        fn the_books_agree_with_a_plain_map(events in prop::collection::vec((0u32..4, 0u8..6, any::<bool>()), 0..300)) {
            let (mut ledger, mut naive, mut next) = (Ledger::default(), HashMap::<(u32, u64), Option<Ack>>::new(), HashMap::<u32, u64>::new());
            let mut promised = 0;
            let mut fresh = 0;
            for (client, what, keep) in events {
                let seq = next.entry(client).or_insert(1);
                let ack = match what { 0 => Ack::Acked, 1 => Ack::AckedWithWarning, 2 => Ack::Failed, 3 => Ack::Unknown, _ => {
                    ledger.settle_promise(keep);
                    promised += if keep { fresh } else { 0 };
                    fresh = 0;
                    continue;
                } };
                ledger.tried(&[one(client, *seq)]);
                naive.insert((client, *seq), None);
                if keep {
                    ledger.wrote(&[(one(client, *seq), ack)]);
                    naive.insert((client, *seq), Some(ack));
                    fresh += u64::from(ack == Ack::Acked);
                }
                *seq += 1;
            }
            let of = |ack| naive.values().filter(|a| **a == ack).count() as u64;
            prop_assert_eq!(ledger.counts(), Counts {
                tried: naive.len() as u64, acked: of(Some(Ack::Acked)), acked_with_warning: of(Some(Ack::AckedWithWarning)),
                failed: of(Some(Ack::Failed)), unknown: of(Some(Ack::Unknown)), pending: of(None),
            });
            prop_assert!(ledger.adds_up());
            prop_assert_eq!((count(&ledger.promised), count(&ledger.unsettled())), (promised, fresh));
        }
    }

    #[test]
    fn promises_that_end_are_kept_by_why_they_end() {
        let mut ledger = Ledger::default();
        let acked = |ledger: &mut Ledger, seq: u64| {
            ledger.tried(&[one(1, seq)]);
            ledger.wrote(&[(one(1, seq), Ack::Acked)]);
        };
        acked(&mut ledger, 1);
        ledger.settle_promise(true);
        acked(&mut ledger, 2);
        ledger.end_promises("the rule had changed");
        assert_eq!((count(&ledger.promised), count(&ledger.unsettled())), (0, 1), "the last one is of the new rule");
        ledger.primary_moved();
        ledger.end_promises("s2 was ahead");
        assert_eq!((count(&ledger.promised), count(&ledger.unsettled())), (0, 0));
        let ended: Vec<(&str, u64)> = ledger.ended.iter().map(|(why, ids)| (why.as_str(), count(ids))).collect();
        assert_eq!(ended, [("s2 was ahead", 1), ("the rule had changed", 1)]);
    }

    #[test]
    fn an_answer_to_nothing_does_not_add_up() {
        let mut ledger = Ledger::default();
        ledger.wrote(&[(one(1, 1), Ack::Acked)]);
        assert!(!ledger.adds_up());
    }
}

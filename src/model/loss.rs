//! What a verification says of losses, in words: "lost" only when no node that may still hold a write is left unread,
//! "stranded" while a node is known to hold it, "unknown" for what was never answered; what each node has and lacks; and why no
//! promise is broken by them. Words only; judges nothing.

use super::NodeName;
use super::verdict::{Verdict, Verification};

/// A part of the sentence, and how bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// Nothing is missing.
    Well,
    /// It is missing on the primary, but not gone.
    Held,
    /// It is gone.
    Gone,
    /// Beside the matter.
    Aside,
}

impl Verification {
    /// Each part with its weight.
    pub fn parts(&self) -> Vec<(Weight, String)> {
        let Some(primary) = self.primary.as_ref().filter(|_| self.judged) else {
            return vec![(Weight::Aside, "what is lost is not known".to_owned())];
        };
        let mut parts: Vec<(Weight, String)> =
            self.whoever_wins().map(|text| (Weight::Held, text)).into_iter().collect();
        let (stranded, rest) = (self.stranded, self.lost.saturating_sub(self.stranded));
        if self.lost == 0 {
            parts.push((Weight::Well, format!("every acknowledged write is on {primary}")));
        }
        if rest > 0 {
            parts.push(self.missing(primary, rest));
        }
        if stranded > 0 {
            let (many, on) = (if rest > 0 { stranded.to_string() } else { writes(stranded) }, names(self.held.keys()));
            let are = if stranded == 1 { "is" } else { "are" };
            parts.push((Weight::Held, format!("{many} {are} stranded: on {on}, not on {primary}")));
        }
        if self.lost_warned > 0 {
            parts.push((
                Weight::Aside,
                format!(
                    "{} of them {} acknowledged with a warning",
                    self.lost_warned,
                    if self.lost_warned == 1 { "was" } else { "were" }
                ),
            ));
        }
        if self.unknown_present + self.unknown_absent > 0 {
            let (all, there) = (self.unknown_present + self.unknown_absent, self.unknown_present);
            let (have, are) =
                (if all == 1 { "write has" } else { "writes have" }, if there == 1 { "is" } else { "are" });
            parts.push((Weight::Aside, format!("{all} {have} an unknown outcome, {there} of them {are} there")));
        }
        if self.pending > 0 {
            parts.push((Weight::Aside, format!("{} still under way and not judged", self.pending)));
        }
        parts
    }

    /// Of writes that no node was found to hold: gone only where each node was read, and nothing was under way meanwhile.
    fn missing(&self, primary: &NodeName, n: u64) -> (Weight, String) {
        let are = if n == 1 { "is" } else { "are" };
        if self.gone().is_some() {
            (Weight::Gone, format!("{} {are} lost", writes(n)))
        } else if self.unread.is_empty() {
            (Weight::Held, format!("{} {are} not on {primary}, nor on any other node", writes(n)))
        } else {
            let unread = names(self.unread.iter());
            let text =
                format!("{} {are} not on {primary}; {unread} could not be read and may still hold them", writes(n));
            (Weight::Held, text)
        }
    }

    /// Acknowledged writes that no node has any more; None where that can't be said, because a node was not read or writes were
    /// under way meanwhile.
    pub fn gone(&self) -> Option<u64> {
        let all_read = self.judged && self.unread.is_empty() && self.pending == 0;
        all_read.then(|| self.lost.saturating_sub(self.stranded))
    }

    /// Why lost writes break no promise; None where none is lost, or the verdict is another.
    pub fn excuse(&self) -> Option<String> {
        let excused = self.verdict == Verdict::Sound && self.lost > 0;
        let unruled = || match (self.lost == self.lost_warned, self.asynchronous) {
            (true, _) => "an acknowledgement with a warning promises nothing",
            (false, true) => "asynchronous commits promise nothing",
            (false, false) => "no rule promised to keep them",
        };
        excused.then(|| self.uncovered("none").unwrap_or_else(|| unruled().to_owned()))
    }

    /// What became of the promises that were made: a statement, and the reason for it.
    pub fn promises(&self) -> (&'static str, Option<String>) {
        match &self.verdict {
            Verdict::Sound => ("No promise was broken", self.excuse()),
            Verdict::Unknown(why) => ("Not known whether a promise was broken", Some(why.clone())),
            Verdict::Broken(why) if self.lost_promised > 0 => ("A promise was broken", Some(why.join("; "))),
            Verdict::Broken(why) => ("The books and the servers disagree", Some(why.join("; "))),
        }
    }

    /// The same as a sentence, without its full stop.
    pub fn promises_in_words(&self) -> String {
        match self.promises() {
            (text, None) => text.to_owned(),
            (text, Some(why)) => format!("{text}: {why}"),
        }
    }

    /// Every promise was kept, and no acknowledged write is known to be missing, wherever the primary is or comes to be.
    pub fn is_well(&self) -> bool {
        let missing = |(weight, _): (Weight, String)| matches!(weight, Weight::Held | Weight::Gone);
        self.verdict == Verdict::Sound && !self.parts().into_iter().any(missing)
    }

    /// The same where a promise had been made, and an election ended it: nobody may take that for the rule's fault.
    fn uncovered(&self, none: &str) -> Option<String> {
        let why = self.uncovered.join("; ");
        (!why.is_empty()).then(|| format!("{none} covered that election ({why})"))
    }

    /// The sentences that explain the verdict.
    pub fn findings(&self) -> Vec<String> {
        match self.verdict {
            Verdict::Sound => self.uncovered("no promise").into_iter().collect(),
            _ => self.verdict.findings(),
        }
    }

    /// With two primaries: what each choice between them costs. Until one is chosen both count.
    fn whoever_wins(&self) -> Option<String> {
        let sides: Vec<(&NodeName, u64)> = self.sides.iter().map(|(name, side)| (name, side.acked_only)).collect();
        match sides[..] {
            [] | [_] => None,
            [(a, of_a), (b, of_b)] => Some(format!(
                "two primaries: if {a} wins, {} of {b} {} lost; if {b} wins, {of_a} of {a}",
                writes(of_b),
                if of_b == 1 { "is" } else { "are" },
            )),
            _ => {
                let one = |(name, n): &(&NodeName, u64)| format!("only {name} has {}", writes(*n));
                let all: Vec<String> = sides.iter().map(one).collect();
                Some(format!("{} primaries, and what loses is lost: {}", sides.len(), all.join(", ")))
            }
        }
    }

    /// What each node has and lacks of the acknowledged writes.
    pub fn by_node(&self) -> impl Iterator<Item = (Weight, String)> {
        self.nodes.iter().map(|(name, tally)| match (&tally.unreadable, tally.missing) {
            (Some(_), _) => (Weight::Held, format!("{name} not read")),
            (None, 0) => (Weight::Aside, format!("{name} {} present, 0 missing", tally.present)),
            (None, missing) => (Weight::Held, format!("{name} {} present, {missing} missing", tally.present)),
        })
    }

    /// All parts.
    pub fn in_words(&self) -> String {
        self.parts().into_iter().map(|(_, text)| text).collect::<Vec<_>>().join("; ")
    }
}

fn writes(n: u64) -> String {
    if n == 1 { "1 acknowledged write".to_owned() } else { format!("{n} acknowledged writes") }
}

fn names<'a>(nodes: impl Iterator<Item = &'a NodeName>) -> String {
    nodes.map(NodeName::as_str).collect::<Vec<_>>().join(" and ")
}

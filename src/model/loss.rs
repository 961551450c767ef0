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
            return vec![(Weight::Aside, "what is lost can't be said".to_owned())];
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
            parts.push((Weight::Held, format!("{many} stranded: not on {primary}, still on {on}")));
        }
        if self.lost_warned > 0 {
            parts.push((Weight::Aside, format!("{} of them were acknowledged with a warning", self.lost_warned)));
        }
        if self.unknown_present + self.unknown_absent > 0 {
            let (all, there) = (self.unknown_present + self.unknown_absent, self.unknown_present);
            parts.push((Weight::Aside, format!("{all} unknown, of which {there} are there")));
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
            (Weight::Gone, format!("{} lost: no node has them", writes(n)))
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
        excused.then(|| self.uncovered().unwrap_or_else(|| "the rule allowed it".to_owned()))
    }

    /// The same where a promise had been made, and an election ended it: nobody may take that for the rule's fault.
    fn uncovered(&self) -> Option<String> {
        let why = self.uncovered.join("; ");
        (!why.is_empty()).then(|| format!("no promise covered that election ({why})"))
    }

    /// The sentences that explain the verdict.
    pub fn findings(&self) -> Vec<String> {
        match self.verdict {
            Verdict::Sound => self.uncovered().into_iter().collect(),
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

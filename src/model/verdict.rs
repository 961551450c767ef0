//! The judgement: what reading the nodes says about the promises that were made. Pure; the reading comes in.
//!
//! `Broken` is about promises: a write was lost that the rule in force promised to keep, a failed write is there, or
//! the books don't add up. A loss that the rule allowed, or of writes whose promise an election had ended, is reported as lost, and the
//! verdict stays `Sound`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::ledger::{Ids, Ledger, and, count, minus, or};
use super::{NodeName, Stamp};

/// What one node holds of the lab's writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeReading {
    /// All its rows were read.
    Rows {
        /// The ids that are there.
        present: Ids,
        /// The server's system identifier.
        system_identifier: u64,
        /// The lab's marker row, if there is one.
        marker: Option<String>,
    },
    /// It couldn't be read, and why.
    Unreadable(String),
}

/// What a reading of all nodes found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// Per node.
    pub nodes: BTreeMap<NodeName, NodeReading>,
}

/// The verdict on the promises.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// Every promise that was made was kept.
    #[default]
    Sound,
    /// It can't be known, and why.
    Unknown(String),
    /// Promises were broken; each finding in a sentence.
    Broken(Vec<String>),
}

impl Verdict {
    /// "sound", "unknown" or "broken", as in reports.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Sound => "sound",
            Self::Unknown(_) => "unknown",
            Self::Broken(_) => "broken",
        }
    }

    /// The sentences that explain it.
    pub fn findings(&self) -> Vec<String> {
        match self {
            Self::Sound => Vec::new(),
            Self::Unknown(why) => vec![why.clone()],
            Self::Broken(findings) => findings.clone(),
        }
    }
}

/// What one node has and lacks, by the books as they stood when the reading began.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeTally {
    /// Rows of the writer that are there, however their commits were answered.
    #[serde(default)]
    pub rows: u64,
    /// Acknowledged writes (with or without warning) that are there.
    pub present: u64,
    /// Acknowledged writes that are missing there.
    pub missing: u64,
    /// Why it couldn't be read.
    pub unreadable: Option<String>,
    /// Rows that only it or only the primary has; 0 where either couldn't be read.
    #[serde(default)]
    pub apart: u64,
}

/// What a verification says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
    /// When it was judged.
    pub at: Stamp,
    /// The primary it was judged against.
    pub primary: Option<NodeName>,
    /// Per node.
    pub nodes: BTreeMap<NodeName, NodeTally>,
    /// Acknowledged writes that the primary lacks.
    pub lost: u64,
    /// Those of them that another node still holds, outside the primary's history.
    pub stranded: u64,
    /// Of the lost ones, those acknowledged with a warning.
    pub lost_warned: u64,
    /// The ids of the lost ones.
    pub lost_ids: Ids,
    /// Those of the stranded ones.
    pub stranded_ids: Ids,
    /// What each node that was read to hold lost ones holds of them.
    #[serde(default)]
    pub held: BTreeMap<NodeName, Ids>,
    /// Nodes that could not be read, and may hold more.
    pub unread: Vec<NodeName>,
    /// Writes with unknown outcome that are there.
    pub unknown_present: u64,
    /// Writes with unknown outcome that are not.
    pub unknown_absent: u64,
    /// Rows on the primary that the writers had not tried to write when the reading began.
    #[serde(default)]
    pub strays: u64,
    /// Writes that were under way when the reading began: not judged.
    pub pending: u64,
    /// Whether the primary's rows were read at all, so that losses can be spoken of.
    pub judged: bool,
    /// Where two primaries run: each one's own, the lab's among them; empty otherwise.
    pub sides: BTreeMap<NodeName, Side>,
    /// Why elections didn't cover what had been promised of lost writes; empty where nothing was ever promised of them.
    #[serde(default)]
    pub uncovered: Vec<String>,
    /// Lost writes that a promise in force covered.
    #[serde(default)]
    pub lost_promised: u64,
    /// No synchronous rule was ever seen in force: every commit was asynchronous.
    #[serde(default)]
    pub asynchronous: bool,
    /// The verdict.
    pub verdict: Verdict,
}

/// One side of a split brain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Side {
    /// Rows that no other side has.
    pub only: Ids,
    /// The acknowledged ones among them: lost if this side doesn't win.
    pub acked_only: u64,
}

/// What the judge must know beside the books and the reading.
#[derive(Clone, Debug)]
pub struct Case<'a> {
    /// When.
    pub at: Stamp,
    /// The books as they stood before the first row was read.
    pub books: &'a Ledger,
    /// The books when everything was read. A row may be read before they hear that it is tried; and what an election ended meanwhile
    /// is promised no more.
    pub now: &'a Ledger,
    /// What was read.
    pub reading: &'a Reading,
    /// The node whose rows count: the current primary.
    pub primary: Option<&'a NodeName>,
    /// The lab's system identifier and marker.
    pub system_identifier: Option<u64>,
    /// The lab's id.
    pub lab: &'a str,
    /// Other primaries that ran when the nodes were read.
    pub rivals: &'a [NodeName],
}

/// Judges.
pub fn judge(case: &Case<'_>) -> Verification {
    let acked = or(&case.books.acked, &case.books.warned);
    let tally = |reading: &NodeReading| match reading {
        NodeReading::Rows { present, .. } => {
            let missing = count(&minus(&acked, present));
            NodeTally { rows: count(present), present: count(&acked) - missing, missing, ..NodeTally::default() }
        }
        NodeReading::Unreadable(why) => NodeTally { unreadable: Some(why.clone()), ..NodeTally::default() },
    };
    let mut result = Verification {
        at: case.at,
        primary: case.primary.cloned(),
        nodes: case.reading.nodes.iter().map(|(name, r)| (name.clone(), tally(r))).collect(),
        unread: unread(case.reading),
        pending: case.books.counts().pending,
        sides: sides(case, &acked),
        ..Verification::default()
    };
    match rows_that_count(case) {
        Err(why) => result.verdict = Verdict::Unknown(why),
        Ok(present) => weigh(case, present, &acked, &mut result),
    }
    result
}

fn unread(reading: &Reading) -> Vec<NodeName> {
    let silent = reading.nodes.iter().filter(|(_, r)| matches!(r, NodeReading::Unreadable(_)));
    silent.map(|(name, _)| name.clone()).collect()
}

/// What each of several primaries has to itself.
fn sides(case: &Case<'_>, acked: &Ids) -> BTreeMap<NodeName, Side> {
    if case.rivals.is_empty() {
        return BTreeMap::new();
    }
    let names: Vec<&NodeName> = case.primary.into_iter().chain(case.rivals).collect();
    let rows = |name: &NodeName| match case.reading.nodes.get(name) {
        Some(NodeReading::Rows { present, .. }) => Some(present),
        _ => None,
    };
    let side = |name: &&NodeName| {
        let own = rows(name)?;
        let others = names.iter().filter(|n| n != &name).filter_map(|n| rows(n));
        let only = others.fold(own.clone(), |left, other| minus(&left, other));
        Some(((*name).clone(), Side { acked_only: count(&and(&only, acked)), only }))
    };
    names.iter().filter_map(side).collect()
}

fn rows_that_count<'a>(case: &Case<'a>) -> Result<&'a Ids, String> {
    let name = case.primary.ok_or("there is no primary to read")?;
    match case.reading.nodes.get(name) {
        None => Err(format!("{name} was not read")),
        Some(NodeReading::Unreadable(why)) => Err(format!("{name} could not be read: {why}")),
        Some(NodeReading::Rows { present, system_identifier, marker }) => {
            foreign(case, *system_identifier, marker.as_deref()).map_or(Ok(present), |why| Err(format!("{name} {why}")))
        }
    }
}

/// Why rows that were read aren't this lab's, if so: ids are the same in every lab, so alone they say nothing.
fn foreign(case: &Case<'_>, system_identifier: u64, marker: Option<&str>) -> Option<&'static str> {
    if case.system_identifier.is_some_and(|id| id != system_identifier) {
        Some("has another system identifier: it is not this lab's database any more")
    } else if marker != Some(case.lab) {
        Some("doesn't carry this lab's marker row")
    } else {
        None
    }
}

fn weigh(case: &Case<'_>, present: &Ids, acked: &Ids, result: &mut Verification) {
    let lost = minus(acked, present);
    result.lost = count(&lost);
    result.lost_warned = count(&and(&lost, &case.books.warned));
    result.unknown_present = count(&and(&case.books.unknown, present));
    result.unknown_absent = count(&case.books.unknown) - result.unknown_present;
    result.held =
        case.reading.nodes.iter().filter_map(|(name, r)| Some((name.clone(), held(case, r, &lost)?))).collect();
    result.count_stranded();
    result.strays = count(&minus(present, &or(&case.books.tried, &case.now.tried)));
    for (name, reading) in &case.reading.nodes {
        if let (NodeReading::Rows { present: own, .. }, Some(tally)) = (reading, result.nodes.get_mut(name)) {
            tally.apart = count(&minus(own, present)) + count(&minus(present, own));
        }
    }
    result.judged = true;
    let ended = case.now.ended.iter().filter(|(_, ids)| count(&and(&lost, ids)) > 0);
    result.uncovered = ended.map(|(why, _)| why.clone()).collect();
    result.lost_promised = count(&and(&lost, &case.now.promised));
    result.asynchronous = !case.now.ruled;
    result.verdict = verdict(case, present, &lost);
    result.lost_ids = lost;
}

/// Those of the ids that this node holds, if any; what isn't this lab's holds none of them.
fn held(case: &Case<'_>, reading: &NodeReading, ids: &Ids) -> Option<Ids> {
    let NodeReading::Rows { present, system_identifier, marker } = reading else { return None };
    let ours = foreign(case, *system_identifier, marker.as_deref()).is_none();
    Some(and(ids, present)).filter(|held| ours && count(held) > 0)
}

impl Verification {
    /// What is still true of it once this node has become a copy of the present primary, or is gone: what only it held is nowhere
    /// any more. None where that can't be said without reading again.
    pub fn without(mut self, node: &NodeName, primary: Option<&NodeName>) -> Option<Self> {
        let concerned = self.held.remove(node).is_some() | self.sides.remove(node).is_some();
        let unread = self.unread.len();
        self.unread.retain(|n| n != node);
        let concerned = concerned || self.unread.len() < unread;
        // It was judged against a primary that isn't there any more.
        if self.primary.as_ref() == Some(node) || (concerned && self.primary.as_ref() != primary) {
            return None;
        }
        self.nodes.remove(node);
        if self.sides.len() < 2 {
            self.sides.clear();
        }
        self.count_stranded();
        Some(self)
    }

    fn count_stranded(&mut self) {
        self.stranded_ids = self.held.values().fold(Ids::new(), |all, held| or(&all, held));
        self.stranded = count(&self.stranded_ids);
    }
}

fn verdict(case: &Case<'_>, present: &Ids, lost: &Ids) -> Verdict {
    let broken = count(&and(lost, &case.now.promised));
    let unsettled = count(&and(lost, &case.now.unsettled()));
    let ghosts = count(&and(&case.books.failed, present));
    let mut findings = Vec::new();
    if broken > 0 {
        let were = if broken == 1 { "write was" } else { "writes were" };
        findings.push(format!("{broken} lost {were} promised by the synchronous rule in force"));
    }
    if ghosts > 0 {
        findings.push(format!("{ghosts} writes that failed are there all the same"));
    }
    if !case.books.adds_up() {
        findings.push("the books don't add up: tried is not acked + warned + failed + unknown + pending".to_owned());
    }
    if !findings.is_empty() {
        Verdict::Broken(findings)
    } else if unsettled > 0 {
        Verdict::Unknown(format!(
            "no look at the primary confirmed the rule in force for {unsettled} of the lost writes"
        ))
    } else {
        Verdict::Sound
    }
}

#[cfg(test)]
mod tests {
    use super::super::ledger::{Ack, IdRange};
    use super::super::loss::Weight;
    use super::*;

    fn books(acked: (u64, u64), promised: bool) -> Ledger {
        let mut ledger = Ledger::default();
        let range = IdRange { client: 1, first: acked.0, last: acked.1 };
        ledger.tried(&[range]);
        ledger.wrote(&[(range, Ack::Acked)]);
        ledger.settle_promise(promised);
        ledger
    }

    fn rows(first: u64, last: u64) -> NodeReading {
        let present = Ids::from([(1, [(first, last)].into_iter().collect())]);
        NodeReading::Rows { present, system_identifier: 7, marker: Some("lab".into()) }
    }

    fn verdict_of(books: &Ledger, nodes: &[(&str, NodeReading)]) -> Verification {
        read_while(books, books, nodes)
    }

    /// The books had this when the reading began, and that when it was over.
    fn read_while(books: &Ledger, now: &Ledger, nodes: &[(&str, NodeReading)]) -> Verification {
        let reading = Reading { nodes: nodes.iter().map(|(n, r)| (n.parse().unwrap(), r.clone())).collect() };
        let primary = "s1".parse().unwrap();
        judge(&Case {
            at: Stamp(0),
            books,
            now,
            reading: &reading,
            primary: Some(&primary),
            system_identifier: Some(7),
            lab: "lab",
            rivals: &[],
        })
    }

    #[test]
    fn a_loss_that_nothing_promised_is_sound() {
        let v = verdict_of(&books((1, 10), false), &[("s1", rows(1, 7)), ("p", rows(1, 9))]);
        assert_eq!((v.lost, v.stranded, v.verdict.clone()), (3, 2, Verdict::Sound));
        assert_eq!(v.in_words(), "1 acknowledged write is lost; 2 are stranded: on p, not on s1");
    }

    #[test]
    fn rows_of_another_cluster_or_lab_are_not_stranded() {
        let present = Ids::from([(1, [(1, 9)].into_iter().collect())]);
        for (system_identifier, marker) in [(8, Some("lab")), (7, Some("another")), (7, None)] {
            let marker = marker.map(str::to_owned);
            let other = NodeReading::Rows { present: present.clone(), system_identifier, marker };
            let v = verdict_of(&books((1, 10), false), &[("s1", rows(1, 7)), ("p", other)]);
            assert_eq!((v.lost, v.stranded, v.held.len()), (3, 0, 0));
        }
    }

    #[test]
    fn what_an_unread_node_may_hold_is_said() {
        let dead = NodeReading::Unreadable("connection refused".into());
        let v = verdict_of(&books((1, 10), false), &[("s1", rows(1, 7)), ("p", dead)]);
        let words = "3 acknowledged writes are not on s1; p could not be read and may still hold them";
        assert_eq!((v.in_words().as_str(), v.parts()[0].0), (words, Weight::Held));
        let dead = NodeReading::Unreadable("connection refused".into());
        let v = verdict_of(&books((1, 10), false), &[("s1", dead)]);
        assert_eq!(v.in_words(), "what is lost is not known", "the primary was not read");
    }

    #[test]
    fn nothing_is_lost_for_sure_while_writes_are_under_way() {
        let mut ledger = books((1, 10), false);
        let said = |ledger: &Ledger| verdict_of(ledger, &[("s1", rows(1, 9)), ("p", rows(1, 9))]).parts();
        assert_eq!(said(&ledger), [(Weight::Gone, "1 acknowledged write is lost".to_owned())]);
        ledger.tried(&[IdRange { client: 2, first: 1, last: 1 }]);
        let words = "1 acknowledged write is not on s1, nor on any other node";
        assert_eq!(said(&ledger)[0], (Weight::Held, words.to_owned()));
    }

    #[test]
    fn unknown_writes_are_kept_apart() {
        let mut ledger = books((1, 6), false);
        let range = IdRange { client: 1, first: 7, last: 10 };
        ledger.tried(&[range, IdRange { client: 2, first: 1, last: 1 }]);
        ledger.wrote(&[(range, Ack::Unknown)]);
        let v = verdict_of(&ledger, &[("s1", rows(1, 8))]);
        assert_eq!((v.lost, v.unknown_present, v.unknown_absent, v.pending), (0, 2, 2, 1));
        let words = "every acknowledged write is on s1; 4 writes have an unknown outcome, 2 of them are there; 1 still under way and not judged";
        assert_eq!(v.in_words(), words);
    }

    #[test]
    fn a_promised_loss_is_broken_unless_the_election_was_unsafe() {
        let v = verdict_of(&books((1, 10), true), &[("s1", rows(1, 7))]);
        assert_eq!((v.lost, v.verdict.word()), (3, "broken"));
        let mut ended = books((1, 10), true);
        ended.end_promises("s2 was ahead");
        let v = verdict_of(&ended, &[("s1", rows(1, 7))]);
        assert_eq!((v.lost, v.verdict.word()), (3, "sound"));
        assert_eq!(v.findings(), ["no promise covered that election (s2 was ahead)"]);
        // Where nothing is lost there is nothing to excuse.
        let v = verdict_of(&ended, &[("s1", rows(1, 10))]);
        assert_eq!((v.findings(), v.excuse()), (vec![], None));
        // Each write is judged by its own promise: one of a later day counts.
        let range = IdRange { client: 2, first: 1, last: 1 };
        ended.tried(&[range]);
        ended.wrote(&[(range, Ack::Acked)]);
        ended.settle_promise(true);
        let v = verdict_of(&ended, &[("s1", rows(1, 7))]);
        assert_eq!(v.findings(), ["1 lost write was promised by the synchronous rule in force"]);
    }

    /// The rows are read for a while; an election meanwhile ends promises that the books had when the reading began.
    #[test]
    fn a_promise_that_ends_during_the_reading_counts_no_more() {
        let (before, mut now) = (books((1, 10), true), books((1, 10), true));
        now.end_promises("p was fenced, and s1 kept");
        let judged = |now: &Ledger| read_while(&before, now, &[("s1", rows(1, 7))]).verdict.word();
        assert_eq!((judged(&before), judged(&now)), ("broken", "sound"));
    }

    #[test]
    fn rows_that_differ_or_that_nobody_tried_are_counted() {
        let v = verdict_of(&books((1, 10), false), &[("s1", rows(1, 12)), ("p", rows(3, 13))]);
        assert_eq!((v.strays, v.nodes["p"].apart, v.nodes["s1"].apart), (2, 3, 0));
        let v = verdict_of(&books((1, 10), false), &[("s1", rows(1, 10)), ("p", rows(1, 10))]);
        assert_eq!((v.strays, v.nodes["p"].apart), (0, 0));
    }

    #[test]
    fn what_is_read_before_the_books_hear_of_it_is_no_stray() {
        let (before, now) = (books((1, 10), false), books((1, 12), false));
        let strays = |now: &Ledger| read_while(&before, now, &[("s1", rows(1, 12))]).strays;
        assert_eq!((strays(&before), strays(&now)), (2, 0));
    }

    #[test]
    fn what_cannot_be_read_is_unknown() {
        for reading in [
            NodeReading::Unreadable("timed out".into()),
            NodeReading::Rows { present: Ids::new(), system_identifier: 8, marker: Some("lab".into()) },
            NodeReading::Rows { present: Ids::new(), system_identifier: 7, marker: None },
        ] {
            assert_eq!(verdict_of(&books((1, 10), true), &[("s1", reading)]).verdict.word(), "unknown");
        }
        assert_eq!(verdict_of(&books((1, 10), true), &[]).verdict.word(), "unknown");
    }

    #[test]
    fn a_failed_write_that_is_there_breaks_it() {
        let mut ledger = Ledger::default();
        let range = IdRange { client: 1, first: 1, last: 2 };
        ledger.tried(&[range]);
        ledger.wrote(&[(range, Ack::Failed)]);
        assert_eq!(verdict_of(&ledger, &[("s1", rows(1, 2))]).verdict.word(), "broken");
    }
}

//! Whose history a server's data is of. A timeline's number doesn't tell: two standbys that are promoted off one timeline both call theirs
//! by the next number, and PostgreSQL compares numbers alone. The lab saw who was promoted and when: each entry of `Model::timelines` is a
//! history of its own, and each node's data is of one of them, or of one that the lab did not see begin. Asks no server.

use std::fmt;

use super::cluster::Role;
use super::{Lsn, Model, Node, NodeName};

/// One timeline of a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Era {
    /// Its place in `Model::timelines`, which is what tells it from others.
    pub no: usize,
    /// Its number.
    pub id: u32,
    /// Who began it.
    pub by: NodeName,
    /// Where it forked off the one before, where that is known.
    pub fork: Option<Lsn>,
}

impl fmt::Display for Era {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "timeline {} of {}", self.id, self.by)
    }
}

/// Where two histories part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parting {
    /// They are one.
    Nowhere,
    /// The source's went on to another timeline there: a node that has no more than that has nothing of its own.
    Left(Option<Lsn>),
    /// Each went its own way from there.
    Apart(Option<Lsn>),
}

/// The histories of a node and of the one that it is to follow, each from the first timeline on; empty where the lab doesn't know it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pair {
    /// The node's.
    pub node: Vec<Era>,
    /// That of its source.
    pub source: Vec<Era>,
}

impl Pair {
    /// Where they part, when the servers say that they are on these timelines; an error where that can't be known, or where
    /// streaming and `pg_rewind` would take one history for the other.
    pub fn parting(&self, node: u32, source: u32) -> Result<Parting, String> {
        known(&self.node, node)?;
        known(&self.source, source)?;
        let common = self.common();
        let (own, theirs) = (self.node.get(common), self.source.get(common));
        if let Some(why) = self.one_number() {
            return Err(why);
        }
        Ok(match (own, theirs) {
            (None, None) => Parting::Nowhere,
            (None, Some(next)) => Parting::Left(next.fork),
            (Some(own), None) => Parting::Apart(own.fork),
            (Some(own), Some(theirs)) => Parting::Apart(own.fork.zip(theirs.fork).map(|(a, b)| a.min(b))),
        })
    }

    /// Why PostgreSQL would take one for the other, if so: a timeline that only the node has is called like one of the source, and it
    /// compares numbers alone.
    pub fn one_number(&self) -> Option<String> {
        let own = self.node.iter().skip(self.common());
        let twin = |era: &Era| self.source.iter().find(|s| s.id == era.id).cloned();
        let (own, other) = own.rev().find_map(|era| Some((era, twin(era)?)))?;
        // One node may have begun both.
        let later = |era: &Era, than: &Era| if era.by == than.by && era.no > than.no { " begun later" } else { "" };
        Some(format!("{own}{} and {other}{} are two histories with one number", later(own, &other), later(&other, own)))
    }

    fn common(&self) -> usize {
        self.node.iter().zip(&self.source).take_while(|(a, b)| a.no == b.no).count()
    }

    /// A timeline of one of the two as people tell it.
    pub fn called(&self, timeline: u32) -> String {
        let eras = self.node.iter().chain(&self.source);
        eras.rev().find(|era| era.id == timeline).map_or_else(|| format!("timeline {timeline}"), ToString::to_string)
    }
}

fn known(line: &[Era], timeline: u32) -> Result<(), String> {
    match line.last() {
        Some(era) if era.id == timeline => Ok(()),
        _ => Err(format!("the lab did not see who began timeline {timeline}, so histories can't be compared")),
    }
}

impl Model {
    /// The history of a node's data, from the first timeline on; empty where the lab doesn't know it.
    pub fn line_of(&self, node: &Node) -> Vec<Era> {
        let line = node.history.map(|at| self.line(at)).unwrap_or_default();
        let era = |no: usize| {
            let timeline = self.timelines.get(no)?;
            Some(Era { no, id: timeline.id, by: timeline.node.clone(), fork: timeline.fork })
        };
        line.into_iter().filter_map(era).collect()
    }

    /// The histories that led to this one, and itself.
    fn line(&self, at: usize) -> Vec<usize> {
        let before = |at: &usize| self.timelines.get(*at).and_then(|t| t.off).filter(|off| off < at);
        let mut line: Vec<usize> = std::iter::successors(Some(at), before).collect();
        line.reverse();
        line
    }

    /// The histories of a node and of the one that it is to follow.
    pub fn pair(&self, node: &NodeName, source: &NodeName) -> Pair {
        let line = |name: &NodeName| self.node(name).map(|n| self.line_of(n)).unwrap_or_default();
        Pair { node: line(node), source: line(source) }
    }

    /// Whether a node's data is of another history than that of `from`, so that it can't follow it whatever the numbers say. Where that isn't
    /// known: no. One that has only more of a timeline than `from` had when it left it isn't meant: no number hides that.
    pub fn has_parted(&self, node: &Node, from: &Node) -> bool {
        let (Some(own), Some(theirs)) = (node.history, from.history) else { return false };
        let (own, theirs) = (self.line(own), self.line(theirs));
        // What a standby was seen to follow may be newer than what is known of its upstream; a primary is where it is.
        let ahead = own.starts_with(&theirs) && from.role() != Some(Role::Primary);
        !theirs.starts_with(&own) && !ahead
    }

    /// Whether places in the logs of two nodes can be compared: one's history is the other's, or leads to it.
    pub fn comparable(&self, a: &Node, b: &Node) -> bool {
        let (Some(a), Some(b)) = (a.history, b.history) else { return true };
        let (a, b) = (self.line(a), self.line(b));
        a.starts_with(&b) || b.starts_with(&a)
    }

    /// Whether a node of this cluster is on another history than the lab's primary.
    pub fn has_diverged(&self, node: &Node) -> bool {
        self.primary_node().is_some_and(|primary| primary.name != node.name && self.has_parted(node, primary))
    }

    /// How a node's timeline is told where another has the same number: by who began it.
    pub fn began_by(&self, node: &Node) -> Option<&NodeName> {
        let own = self.timelines.get(node.history?)?;
        let namesakes = self.timelines.iter().filter(|t| t.id == own.id).count();
        (namesakes > 1).then_some(&own.node)
    }

    /// A standby was seen on a timeline: it has followed its upstreams there, where that is what one of them is on or came by. On a
    /// number that it had already it stays with its own history, whoever else has one of that number.
    pub(super) fn seen_on(&mut self, name: &NodeName, timeline: u32) {
        let Some(node) = self.node(name).filter(|n| n.role() == Some(Role::Standby)) else { return };
        let Some(own) = node.history else { return };
        if self.timelines.get(own).is_none_or(|t| t.id >= timeline) {
            return;
        }
        let mut at = node;
        for _ in 0..self.nodes.len() {
            let Some(up) = at.upstream.as_ref().and_then(|u| self.node(u)) else { return };
            if let Some(found) = up.history.and_then(|history| self.later(own, timeline, history)) {
                return self.is_of(name, Some(found));
            }
            at = up;
        }
    }

    /// A node's data is of this history.
    pub(super) fn is_of(&mut self, name: &NodeName, history: Option<usize>) {
        if let Some(node) = self.node_mut(name) {
            node.history = history;
        }
    }

    /// A node's data is of the history that another's is of.
    pub(super) fn is_of_one_with(&mut self, name: &NodeName, other: &NodeName) {
        let history = self.node(other).and_then(|n| n.history);
        self.is_of(name, history);
    }

    /// The history of this number that came of `own` and led to `of`.
    fn later(&self, own: usize, timeline: u32, of: usize) -> Option<usize> {
        let line = self.line(of);
        let after = line.iter().position(|at| *at == own)?;
        line[after..].iter().copied().find(|at| self.timelines[*at].id == timeline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn era(no: usize, id: u32, by: &str, fork: u64) -> Era {
        Era { no, id, by: by.parse().unwrap(), fork: (no > 0).then_some(Lsn(fork)) }
    }

    /// p began timeline 1; s1 and s2 each a timeline 2, off the same one; s2 a timeline 3; s3 a 4 off that of s1.
    fn eras() -> [Era; 5] {
        [era(0, 1, "p", 0), era(1, 2, "s1", 90), era(2, 2, "s2", 90), era(3, 3, "s2", 200), era(4, 4, "s3", 300)]
    }

    fn pair(node: &[usize], source: &[usize]) -> Pair {
        let line = |all: &[usize]| all.iter().map(|at| eras()[*at].clone()).collect();
        Pair { node: line(node), source: line(source) }
    }

    fn parting(node: &[usize], source: &[usize]) -> Result<Parting, String> {
        let number = |all: &[usize]| all.last().map_or(1, |at| eras()[*at].id);
        pair(node, source).parting(number(node), number(source))
    }

    #[test]
    fn histories_part_where_they_do() {
        assert_eq!(parting(&[0], &[0]), Ok(Parting::Nowhere));
        assert_eq!(parting(&[0, 2], &[0, 2]), Ok(Parting::Nowhere));
        assert_eq!(parting(&[0], &[0, 1]), Ok(Parting::Left(Some(Lsn(90)))));
        assert_eq!(parting(&[0, 2], &[0, 2, 3]), Ok(Parting::Left(Some(Lsn(200)))));
        assert_eq!(parting(&[0, 1], &[0]), Ok(Parting::Apart(Some(Lsn(90)))));
    }

    /// The same numbers in both, at the end or before it: `pg_rewind` takes the numbers for the histories.
    #[test]
    fn one_number_for_two_histories_is_noticed_wherever_it_stands() {
        let two = "timeline 2 of s1 and timeline 2 of s2 are two histories with one number";
        for (node, source) in [(&[0, 1][..], &[0, 2][..]), (&[0, 1], &[0, 2, 3]), (&[0, 1, 4], &[0, 2, 3])] {
            let why = parting(node, source).unwrap_err();
            assert!(why.starts_with(two), "{why}");
        }
    }

    #[test]
    fn what_the_lab_did_not_see_is_not_compared() {
        let why = pair(&[0], &[0, 1]).parting(2, 2).unwrap_err();
        assert_eq!(why, "the lab did not see who began timeline 2, so histories can't be compared");
        assert!(pair(&[], &[0]).parting(1, 1).is_err() && pair(&[0], &[0]).parting(1, 2).is_err());
        assert_eq!(pair(&[0, 1], &[0]).called(2), "timeline 2 of s1");
        assert_eq!(pair(&[0], &[0]).called(7), "timeline 7");
    }
}

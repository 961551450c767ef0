//! Whose the senders of a server are. PostgreSQL knows a receiver by its application_name, and anything may bear a name: a second standby,
//! `pg_receivewal`, a subscription. It counts them all for the synchronous rule. A node of the lab streams by the slot of its own name,
//! which tells its sender from others; where that doesn't, nobody knows. Derived from samples; keeps nothing.

use super::cluster::{Sample, SenderRow};
use super::command::Command;
use super::{Model, Node, NodeName};

/// What is known of a node's own sender on its upstream.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Feed<'a> {
    /// This is it.
    Own(&'a SenderRow),
    /// There is none.
    None,
    /// Several have its name, and none is surely its own.
    Unclear,
}

impl<'a> Feed<'a> {
    /// The row, where it is known.
    pub fn row(self) -> Option<&'a SenderRow> {
        match self {
            Self::Own(row) => Some(row),
            Self::None | Self::Unclear => None,
        }
    }
}

impl Model {
    /// The sender of a node on another.
    pub fn feed<'a>(&self, upstream: &'a Node, node: &Node) -> Feed<'a> {
        let Some(sample) = upstream.sample.as_ref() else { return Feed::None };
        // What bears its name while it is made is the base backup.
        let connected = node.answers() && node.sample.as_ref().is_some_and(|s| s.receiver.is_some());
        if node.name == upstream.name || (self.is_being_made(node) && !connected) {
            return Feed::None;
        }
        if self.is_fed_elsewhere(upstream, node) { Feed::None } else { own(sample, node) }
    }

    /// Whether it surely streams from another: by the slot of its name there.
    fn is_fed_elsewhere(&self, upstream: &Node, node: &Node) -> bool {
        let other = node.upstream.as_ref().filter(|u| **u != upstream.name).and_then(|u| self.node(u));
        let slots = other.and_then(|o| o.sample.as_ref()).map_or(&[][..], |s| &s.slots);
        slots.iter().any(|s| s.name == node.name.as_str() && s.pid.is_some())
    }

    fn is_being_made(&self, node: &Node) -> bool {
        let makes = |c: &Command| matches!(c, Command::Rejoin { node: n, .. } | Command::Add { name: n, .. } if *n == node.name);
        self.ops.values().filter_map(|op| op.command.as_ref()).any(makes)
    }

    /// Others that bear a node's name on its upstream.
    pub fn namesakes(&self, node: &Node) -> Vec<&SenderRow> {
        let upstream = node.upstream.as_ref().and_then(|u| self.node(u));
        upstream.map_or_else(Vec::new, |upstream| self.bearing(upstream, &node.name))
    }

    /// Senders of this name that aren't surely that node's.
    fn bearing<'a>(&'a self, on: &'a Node, name: &NodeName) -> Vec<&'a SenderRow> {
        let own = self.node(name).and_then(|n| self.feed(on, n).row());
        let senders = on.sample.as_ref().map_or(&[][..], |s| &s.senders);
        let others = senders.iter().filter(|r| is_called(r, name.as_str()));
        others.filter(|r| own.is_none_or(|own| !std::ptr::eq(own, *r))).collect()
    }

    /// Senders of the primary that the rule counts under a name by which no election can ask: those that bear a node's name and aren't
    /// its own, and for `*` whatever is no node. What they confirm need not be on any standby.
    pub fn impostors(&self) -> Vec<&SenderRow> {
        let (Some(primary), Some(rule)) = (self.primary_node(), self.rule()) else { return Vec::new() };
        let senders = primary.sample.as_ref().map_or(&[][..], |s| &s.senders);
        let by_name = |r: &SenderRow| rule.names().iter().any(|n| n.eq_ignore_ascii_case(&r.name));
        let strange = |r: &&SenderRow| match self.nodes.iter().find(|n| is_called(r, n.name.as_str())) {
            Some(node) => self.bearing(primary, &node.name).iter().any(|b| std::ptr::eq(*b, *r)),
            // An election waits for the answer of who is listed by name.
            None => !by_name(r),
        };
        senders.iter().filter(|r| rule.lists(&r.name)).filter(strange).collect()
    }

    /// The same in words, a sentence or two for each name.
    pub fn impostors_in_words(&self) -> Vec<String> {
        let Some(primary) = self.primary.as_ref() else { return Vec::new() };
        let mut names: Vec<&str> = self.impostors().iter().map(|r| r.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        let nothing = "The rule promises nothing for such commits.";
        names
            .into_iter()
            .filter_map(|name| self.of_one_name(primary, name))
            .map(|text| format!("{text} {nothing}"))
            .collect()
    }

    fn of_one_name(&self, primary: &NodeName, name: &str) -> Option<String> {
        let on = self.node(primary)?;
        let Some(node) = self.nodes.iter().find(|n| n.name.as_str().eq_ignore_ascii_case(name)) else {
            return Some(format!(
                "{name} is connected to {primary} too, and * counts it: a commit may be on no standby when {name} has confirmed it."
            ));
        };
        if self.is_being_made(node) {
            return None;
        }
        Some(match self.feed(on, node) {
            Feed::Own(_) => format!(
                "Another connection to {primary} is called {name} too, and PostgreSQL counts both. Which of them confirmed a commit \
                 isn't known."
            ),
            Feed::Unclear => format!(
                "Several connections to {primary} are called {name}, and PostgreSQL counts all. Which of them is the standby {name} \
                 isn't known, nor which confirmed a commit."
            ),
            Feed::None => format!(
                "A connection to {primary} is called {name} and isn't the standby {name}, but PostgreSQL counts it. What it confirms \
                 need not be on {name}."
            ),
        })
    }
}

fn is_called(row: &SenderRow, name: &str) -> bool {
    row.name.eq_ignore_ascii_case(name)
}

fn own<'a>(sample: &'a Sample, node: &Node) -> Feed<'a> {
    let name = node.name.as_str();
    let named = || sample.senders.iter().filter(move |r| is_called(r, name));
    let slot = sample.slots.iter().find(|s| s.name == name && !s.logical);
    if let Some(row) = slot.and_then(|s| s.pid).and_then(|pid| named().find(|r| r.pid == pid)) {
        return Feed::Own(row);
    }
    // A standby that streams by its slot isn't there while the slot lies idle; one that says that it uses none may be.
    let by_slot = node.sample.as_ref().and_then(|s| s.receiver.as_ref()).is_none_or(|r| r.slot.is_some());
    let idle = by_slot && slot.is_some_and(|s| !s.active);
    let streams = |r: &SenderRow| ["catchup", "streaming", "stopping"].contains(&r.state.as_str());
    let elsewhere = |r: &SenderRow| sample.slots.iter().any(|s| s.pid == Some(r.pid));
    let feeds = |r: &&SenderRow| !(elsewhere(r) || (idle && streams(r)));
    let mut may = named().filter(feeds);
    match (may.next(), may.next()) {
        (None, _) => Feed::None,
        (Some(row), None) => Feed::Own(row),
        (Some(_), Some(_)) => Feed::Unclear,
    }
}

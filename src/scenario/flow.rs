//! What can't go well, told without starting anything: the steps walked through with what each leaves behind. Knows the
//! commands, and no server: what depends on how things turn out is left alone.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::steps::Placed;
use super::tree::Reader;
use crate::model::NodeName;
use crate::model::command::{Command, nearest};
use crate::model::condition::Condition;
use crate::model::links::{Links, Which};
use crate::model::msg::Topology;
use crate::model::script::StepKind;

/// The lab as the steps leave it.
struct Walk<'r, 'a> {
    reader: &'r mut Reader<'a>,
    topology: &'r Topology,
    nodes: Vec<NodeName>,
    /// Every node there ever was: a condition may speak of one that is gone.
    known: BTreeSet<NodeName>,
    frozen: BTreeSet<NodeName>,
    /// Killed or stopped, and not started since.
    down: BTreeSet<NodeName>,
    links: Links,
    /// Something is or may be broken beside links and frozen nodes.
    broken: bool,
    sessions: BTreeMap<NodeName, NodeName>,
}

/// Walks through the steps; a step that names only its session gets the session's node.
pub fn check(reader: &mut Reader<'_>, topology: &Topology, steps: &mut [Placed]) {
    let nodes: Vec<NodeName> = topology.nodes.iter().map(|n| n.name.clone()).collect();
    let mut walk = Walk {
        reader,
        topology,
        known: nodes.iter().cloned().collect(),
        nodes,
        frozen: BTreeSet::new(),
        down: BTreeSet::new(),
        links: Links::default(),
        broken: false,
        sessions: BTreeMap::new(),
    };
    for placed in steps {
        walk.step(placed);
    }
}

impl Walk<'_, '_> {
    fn step(&mut self, placed: &mut Placed) {
        let span = placed.span.clone();
        // What shall be refused, is.
        let may_be_wrong = placed.step.refused.is_some();
        match &mut placed.step.kind {
            StepKind::Do(commands) | StepKind::Together(commands) => {
                for (command, span) in commands.iter().zip(&placed.spans) {
                    if !may_be_wrong {
                        self.command(command, span, placed.step.may_fail);
                    }
                }
            }
            StepKind::Sql(query) => {
                let [on, at] = [0, 1].map(|n| placed.spans.get(n).cloned().unwrap_or(span.clone()));
                if let Command::Sql { node, session: Some(session), .. } = &mut query.command {
                    self.open_or_resolve(node, session, placed.names_node, &at);
                }
                if let (Command::Sql { node, .. }, false) = (&query.command, may_be_wrong) {
                    self.node(node, &on);
                }
            }
            StepKind::Wait { condition, .. } => {
                self.condition(condition, &span);
                if !placed.timed {
                    self.reader.doubtful(span, "a wait without a deadline: add within = \"10s\", or what it may take");
                }
            }
            StepKind::Expect { condition, .. } => self.condition(condition, &span),
            StepKind::Say(_) | StepKind::Ask(_) | StepKind::Reveal(_) | StepKind::Pause(_) => {}
        }
    }

    fn open_or_resolve(&mut self, node: &mut NodeName, session: &NodeName, names_node: bool, span: &Range<usize>) {
        match (self.sessions.get(session), names_node) {
            (None, true) => {
                self.sessions.insert(session.clone(), node.clone());
            }
            (None, false) => {
                let hint = nearest(session.as_str(), self.sessions.keys().map(NodeName::as_str));
                let hint = hint.map_or_else(
                    || "its first step says where: on = \"p\"".to_owned(),
                    |n| format!("did you mean `{n}`?"),
                );
                self.reader.wrong(span.clone(), format!("session {session} is used before it is opened; {hint}"));
                // One complaint is enough: what comes after is on the primary, say.
                if let Some(primary) = self.topology.primary() {
                    node.clone_from(primary);
                    self.sessions.insert(session.clone(), primary.clone());
                }
            }
            (Some(at), false) => node.clone_from(at),
            (Some(at), true) if at != node => {
                self.reader.doubtful(span.clone(), format!("session {session} is on {at}, not on {node}"));
            }
            (Some(_), true) => {}
        }
    }

    fn condition(&mut self, condition: &Condition, span: &Range<usize>) {
        if let Some(why) = condition.doubt() {
            self.reader.doubtful(span.clone(), why);
        }
        if let Some(node) = condition.node()
            && !self.known.contains(node)
        {
            self.stranger(node.as_str(), span);
        }
        if let Some(name) = condition.named()
            && !self.known.iter().any(|node| node.as_str() == name)
        {
            self.stranger(name, span);
        }
        if let Some(session) = condition.of_session()
            && !self.sessions.contains_key(session)
        {
            let place = self.reader.part(span, session.as_str());
            self.reader.doubtful(place, format!("session {session} is asked of before it is opened"));
        }
    }

    fn stranger(&mut self, node: &str, span: &Range<usize>) {
        let place = self.reader.part(span, node);
        let names: Vec<&str> = self.nodes.iter().map(NodeName::as_str).collect();
        let near = nearest(node, names.iter().copied()).map_or(String::new(), |n| format!("; did you mean `{n}`?"));
        let node: String = node.chars().take(40).collect();
        let gone =
            if self.known.iter().any(|known| known.as_str() == node) { "no node any more called" } else { "no node" };
        self.reader.doubtful(place, format!("there is {gone} {node}; there are {}{near}", names.join(", ")));
    }

    fn node(&mut self, node: &NodeName, span: &Range<usize>) {
        if !self.nodes.contains(node) {
            self.stranger(node.as_str(), span);
        }
    }

    fn command(&mut self, command: &Command, span: &Range<usize>, may_fail: bool) {
        for node in named(command) {
            self.node(&node, span);
        }
        if !may_fail {
            self.impossible(command, span);
        }
        match command {
            Command::Freeze(n) => {
                self.frozen.insert(n.clone());
            }
            Command::Thaw(n) if !self.frozen.remove(n) => {
                self.reader.doubtful(span.clone(), format!("{n} is thawed here, but nothing froze it"));
            }
            Command::Kill(n) | Command::Stop(n) | Command::Fence(n) => {
                self.frozen.remove(n);
                self.down.insert(n.clone());
                self.broken = true;
            }
            Command::Start(n) | Command::Raise(n) | Command::Rejoin { node: n, .. } => {
                self.down.remove(n);
            }
            Command::PauseReplay(_) | Command::Promote(_) | Command::Failover { .. } | Command::AutoFailover(_) => {
                self.broken = true;
            }
            Command::Link(harm, which) => {
                let pairs = which.pairs(self.nodes.iter());
                self.links.harm(pairs, *harm);
            }
            Command::Heal(which) => self.heal(which.as_ref(), span),
            Command::Add { name, .. } | Command::AddFresh(name) => {
                self.nodes.push(name.clone());
                self.known.insert(name.clone());
            }
            Command::Remove(n) => {
                self.nodes.retain(|name| name != n);
                self.links.forget(n);
                self.frozen.remove(n);
                self.down.remove(n);
            }
            Command::Sql { node, session: Some(session), .. } => {
                self.sessions.insert(session.clone(), node.clone());
            }
            Command::Reset => {
                self.nodes = self.topology.nodes.iter().map(|n| n.name.clone()).collect();
                self.frozen.clear();
                self.down.clear();
                self.links = Links::default();
                self.broken = false;
                self.sessions.clear();
            }
            _ => {}
        }
    }

    /// What can't be, whatever happened before: a node that is down has nothing to kill, none follows itself.
    fn impossible(&mut self, command: &Command, span: &Range<usize>) {
        let why = match command {
            Command::Kill(n) | Command::Stop(n) | Command::Freeze(n) | Command::Promote(n) | Command::Switchover(n)
                if self.down.contains(n) =>
            {
                format!("{n} is down here, and nothing started it")
            }
            Command::Add { name, .. } | Command::AddFresh(name) if self.nodes.contains(name) => {
                format!("there is a node {name} already")
            }
            Command::Follow { standby, upstream } if standby == upstream => format!("{standby} can't follow itself"),
            Command::Link(_, which) if which.pairs(self.nodes.iter()).iter().any(|(a, b)| a == b) => {
                "no link leads back to its own end".to_owned()
            }
            _ => return,
        };
        self.reader.doubtful(span.clone(), why);
    }

    fn heal(&mut self, which: Option<&Which>, span: &Range<usize>) {
        match which {
            None => {
                if self.links.is_healthy() && self.frozen.is_empty() && !self.broken {
                    self.reader.doubtful(span.clone(), "there is no fault to heal here");
                }
                self.links = Links::default();
                self.frozen.clear();
                self.down.clear();
                self.broken = false;
            }
            Some(which) => {
                let pairs = which.pairs(self.nodes.iter());
                if !pairs.iter().any(|(a, b)| self.links.touches(a, b)) {
                    let message = format!("nothing was done to {} that could be healed here", which.in_words());
                    self.reader.doubtful(span.clone(), message);
                }
                self.links.heal(&pairs);
            }
        }
    }
}

/// The nodes that must be there for a command to make sense; a rule may name who isn't.
fn named(command: &Command) -> Vec<NodeName> {
    match command {
        Command::Kill(n)
        | Command::Stop(n)
        | Command::Start(n)
        | Command::Freeze(n)
        | Command::Thaw(n)
        | Command::Promote(n)
        | Command::FollowAll(n)
        | Command::Switchover(n)
        | Command::Fence(n)
        | Command::Remove(n)
        | Command::Raise(n)
        | Command::PauseReplay(n)
        | Command::ResumeReplay(n)
        | Command::Rejoin { node: n, .. }
        | Command::Sql { node: n, .. }
        | Command::Set { node: Some(n), .. }
        | Command::Target(Some(n))
        | Command::Add { from: Some(n), .. } => vec![n.clone()],
        Command::Follow { standby, upstream } => vec![standby.clone(), upstream.clone()],
        Command::Link(_, which) | Command::Heal(Some(which)) => {
            which.ends().into_iter().filter_map(|end| end.node().cloned()).collect()
        }
        _ => Vec::new(),
    }
}

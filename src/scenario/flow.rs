//! What can't go well, told without starting anything: the steps walked through with what each leaves behind. Knows the
//! commands, and no server: what depends on how things turn out is left alone.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::steps::{self, Placed};
use super::tree::Reader;
use crate::model::NodeName;
use crate::model::command::{Command, nearest};
use crate::model::condition::Condition;
use crate::model::msg::Topology;
use crate::model::script::StepKind;

mod cluster;

use cluster::Cluster;

/// The lab as the steps leave it.
struct Walk<'r, 'a> {
    reader: &'r mut Reader<'a>,
    topology: &'r Topology,
    cluster: Cluster<'r>,
    /// Each session's node.
    sessions: BTreeMap<NodeName, NodeName>,
    /// Sessions that the server ended, as the lesson says.
    closed: BTreeSet<NodeName>,
}

/// Walks through the steps; a step that names only its session gets the session's node.
pub fn check(reader: &mut Reader<'_>, topology: &Topology, steps: &mut [Placed]) {
    let cluster = Cluster::new(topology);
    let mut walk = Walk { reader, topology, cluster, sessions: BTreeMap::new(), closed: BTreeSet::new() };
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
                if let Command::Sql { node, session: Some(session), .. } = &mut query.command
                    && !(may_be_wrong && placed.names_node)
                {
                    self.open_or_resolve(node, session, placed.names_node, &at);
                }
                if !placed.named {
                    placed.step.name = steps::name_of_kind(&StepKind::Sql(query.clone()));
                }
                if let (Command::Sql { node, .. }, false) = (&query.command, may_be_wrong) {
                    self.node(node, &on, false);
                }
            }
            StepKind::Wait { condition, .. } => {
                self.condition(condition, &span);
                self.cluster.learns(condition);
                if !placed.timed {
                    self.reader.doubtful(span, "a wait without a deadline: add within = \"10s\", or what it may take");
                }
            }
            StepKind::Expect { condition, .. } => {
                self.condition(condition, &span);
                self.cluster.learns(condition);
            }
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
            (Some(_), true) => self.stays(node, session, span),
        }
    }

    /// A session stays on its node, until the server or the lesson ends it.
    fn stays(&mut self, node: &NodeName, session: &NodeName, span: &Range<usize>) {
        let closed = self.closed.remove(session);
        match self.sessions.get(session) {
            Some(at) if at != node && self.cluster.runs(at) && !closed => {
                self.reader.wrong(span.clone(), format!("session {session} is on {at}, not on {node}"));
            }
            _ => drop(self.sessions.insert(session.clone(), node.clone())),
        }
    }

    fn condition(&mut self, condition: &Condition, span: &Range<usize>) {
        if let Some(why) = condition.doubt() {
            self.reader.wrong(span.clone(), why);
        }
        let node = condition.node().map(NodeName::as_str);
        for name in node.into_iter().chain(condition.named()) {
            if !self.cluster.known.iter().any(|known| known.as_str() == name) {
                self.stranger(name, span);
            }
        }
        if let Some(session) = condition.of_session() {
            if !self.sessions.contains_key(session) {
                let place = self.reader.part(span, session.as_str());
                self.reader.wrong(place, format!("session {session} is asked of before it is opened"));
            } else if condition.is() == Some("closed") {
                self.closed.insert(session.clone());
            }
        }
    }

    fn stranger(&mut self, node: &str, span: &Range<usize>) {
        let place = self.reader.part(span, node);
        let names: Vec<&str> = self.cluster.nodes.iter().map(NodeName::as_str).collect();
        let near = nearest(node, names.iter().copied()).map_or(String::new(), |n| format!("; did you mean `{n}`?"));
        let node: String = node.chars().take(40).collect();
        let gone = self.cluster.known.iter().any(|known| known.as_str() == node);
        let gone = if gone { "no node any more called" } else { "no node" };
        self.reader.wrong(place, format!("there is {gone} {node}; there are {}{near}", names.join(", ")));
    }

    /// One that is gone may be named where a command may fail.
    fn node(&mut self, node: &NodeName, span: &Range<usize>, may_fail: bool) {
        let gone = may_fail && self.cluster.known.contains(node);
        if !gone && !self.cluster.nodes.contains(node) {
            self.stranger(node.as_str(), span);
        }
    }

    fn command(&mut self, command: &Command, span: &Range<usize>, may_fail: bool) {
        for node in named(command) {
            self.node(&node, span, may_fail);
        }
        if let Some(why) = self.cluster.refuses(command).filter(|_| !may_fail) {
            return self.reader.wrong(span.clone(), why);
        }
        match command {
            Command::Heal(None) if self.cluster.is_whole() => {
                self.reader.doubtful(span.clone(), "there is no fault to heal here");
            }
            Command::Sql { node, session: Some(session), .. } => self.stays(node, session, span),
            Command::Reset => {
                self.sessions.clear();
                self.closed.clear();
            }
            _ => {}
        }
        self.cluster.after(command, !may_fail);
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

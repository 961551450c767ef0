//! The cluster as the steps leave it, as far as a file alone can tell: which nodes there are, which of them run, who is a primary, who
//! follows whom, what is broken. What depends on how things turn out is not known here, and nothing is refused for its sake.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::NodeName;
use crate::model::cluster::Role;
use crate::model::command::Command;
use crate::model::condition::Condition;
use crate::model::links::{Links, Which};
use crate::model::msg::Topology;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Runs,
    Frozen,
    Down,
}

/// What is known of the cluster.
#[derive(Clone, Debug)]
pub struct Cluster<'t> {
    topology: &'t Topology,
    /// The nodes that are there.
    pub nodes: Vec<NodeName>,
    /// Every node there ever was: a condition may speak of one that is gone.
    pub known: BTreeSet<NodeName>,
    /// A node that isn't in one of these may be in any state, or have any role.
    states: BTreeMap<NodeName, State>,
    roles: BTreeMap<NodeName, Role>,
    /// Only what is known for certain.
    upstreams: BTreeMap<NodeName, NodeName>,
    replay_paused: BTreeMap<NodeName, bool>,
    links: Links,
    /// Whether `links` holds all that is wrong with links, and no more.
    links_known: bool,
    heartbeat: Option<bool>,
    /// The detector may be on: it kills and promotes by itself.
    auto: bool,
    /// Something is or may be broken beside links and frozen nodes.
    broken: bool,
}

impl<'t> Cluster<'t> {
    /// As a lesson begins.
    pub fn new(topology: &'t Topology) -> Self {
        let plans = || topology.nodes.iter();
        let nodes: Vec<NodeName> = plans().map(|n| n.name.clone()).collect();
        let role = |up: Option<&NodeName>| if up.is_some() { Role::Standby } else { Role::Primary };
        Self {
            topology,
            known: nodes.iter().cloned().collect(),
            states: nodes.iter().map(|n| (n.clone(), State::Runs)).collect(),
            roles: plans().map(|n| (n.name.clone(), role(n.upstream.as_ref()))).collect(),
            upstreams: plans().filter_map(|n| Some((n.name.clone(), n.upstream.clone()?))).collect(),
            replay_paused: nodes.iter().map(|n| (n.clone(), false)).collect(),
            nodes,
            links: Links::default(),
            links_known: true,
            heartbeat: Some(true),
            auto: false,
            broken: false,
        }
    }

    /// Whether that node certainly runs.
    pub fn runs(&self, node: &NodeName) -> bool {
        self.states.get(node) == Some(&State::Runs)
    }

    /// The primary, where it is known that there is exactly one.
    pub fn primary(&self) -> Option<&NodeName> {
        let mut primaries = self.nodes.iter().filter(|n| self.roles.get(*n) == Some(&Role::Primary));
        let all = self.nodes.iter().all(|n| self.roles.contains_key(n));
        primaries.next().filter(|_| all && primaries.next().is_none())
    }

    /// Whether `heal` has nothing to do.
    pub fn is_whole(&self) -> bool {
        let frozen = self.states.values().any(|s| *s == State::Frozen);
        self.links_known && self.links.is_healthy() && !frozen && !self.broken
    }

    /// Why a command can't be done, whatever comes of what is done before it.
    pub fn refuses(&self, command: &Command) -> Option<String> {
        match command {
            Command::Kill(n) => self.is_down(n),
            Command::Stop(n) | Command::Freeze(n) | Command::FollowAll(n) | Command::Add { from: Some(n), .. } => {
                self.runs_not(n)
            }
            Command::Start(n) => match self.states.get(n)? {
                State::Runs => Some(format!("{n} runs here already: nothing stopped or killed it")),
                State::Frozen => Some(format!("{n} is frozen here, not down: `thaw {n}`")),
                State::Down => None,
            },
            Command::Raise(n) => self.runs_not(n).filter(|_| self.is_down(n).is_none()),
            Command::Thaw(n) => {
                let other = self.states.get(n).is_some_and(|s| *s != State::Frozen);
                other.then(|| format!("{n} is thawed here, but nothing froze it"))
            }
            Command::Promote(n) => self.runs_not(n).or_else(|| self.is_primary(n)),
            Command::Switchover(n) => {
                let gone = || self.primary().and_then(|p| self.runs_not(p));
                self.runs_not(n).or_else(|| self.is_primary(n)).or_else(gone)
            }
            Command::Follow { standby, upstream } => self.cant_follow(standby, upstream),
            Command::Fence(n) if self.roles.get(n) == Some(&Role::Standby) => {
                Some(format!("{n} is a standby here: only one of two primaries is fenced"))
            }
            Command::Remove(n) if self.primary() == Some(n) => Some(format!("{n} is the primary here: it can't go")),
            Command::PauseReplay(n) => self.replay(n, true),
            Command::ResumeReplay(n) => self.replay(n, false),
            Command::Sync(_) | Command::Cancel | Command::Terminate | Command::Add { from: None, .. } => {
                self.primary().and_then(|p| self.runs_not(p))
            }
            Command::Failover { .. } => self
                .primary()
                .filter(|_| self.is_whole() && !self.auto)
                .map(|p| format!("nothing is broken here: {p} answers, and `switchover` is the planned way")),
            Command::AutoFailover(None) if !self.auto => Some("automatic failover is off here already".to_owned()),
            Command::Heartbeat(on) if self.heartbeat == Some(*on) => {
                Some(format!("the heartbeat is {} here already", if *on { "on" } else { "off" }))
            }
            Command::Link(_, which) | Command::Heal(Some(which)) => self.refuses_link(command, which),
            _ => None,
        }
        .or_else(|| self.name_taken(command))
    }

    fn name_taken(&self, command: &Command) -> Option<String> {
        let (Command::Add { name, .. } | Command::AddFresh(name)) = command else { return None };
        self.nodes.contains(name).then(|| format!("there is a node {name} already"))
    }

    fn is_down(&self, node: &NodeName) -> Option<String> {
        let down = self.states.get(node) == Some(&State::Down);
        down.then(|| format!("{node} is down here, and nothing started it"))
    }

    fn runs_not(&self, node: &NodeName) -> Option<String> {
        let frozen = || format!("{node} is frozen here, and nothing thawed it");
        self.is_down(node).or_else(|| (self.states.get(node) == Some(&State::Frozen)).then(frozen))
    }

    fn is_primary(&self, node: &NodeName) -> Option<String> {
        (self.roles.get(node) == Some(&Role::Primary)).then(|| format!("{node} is a primary here already"))
    }

    fn replay(&self, node: &NodeName, pause: bool) -> Option<String> {
        let same = || (self.replay_paused.get(node) == Some(&pause)).then_some(if pause { "" } else { "not " });
        let primary = || self.is_primary(node).map(|_| format!("{node} is a primary here: it replays nothing"));
        self.runs_not(node).or_else(primary).or_else(|| Some(format!("replay on {node} is {}paused here", same()?)))
    }

    fn cant_follow(&self, standby: &NodeName, upstream: &NodeName) -> Option<String> {
        if standby == upstream {
            return Some(format!("{standby} can't follow itself"));
        }
        let ring = || {
            let up = |n: &&NodeName| self.upstreams.get(*n);
            let mut above = std::iter::successors(Some(upstream), up).take(self.nodes.len() + 1);
            above
                .any(|n| n == standby)
                .then(|| format!("{upstream} itself follows {standby} here: that would be a ring"))
        };
        let primary =
            || self.is_primary(standby).map(|_| format!("{standby} is a primary here: it can't simply follow"));
        self.runs_not(standby).or_else(primary).or_else(ring)
    }

    fn refuses_link(&self, command: &Command, which: &Which) -> Option<String> {
        let pairs = which.pairs(self.nodes.iter());
        if pairs.iter().any(|(a, b)| a == b) {
            return Some("no link leads back to its own end".to_owned());
        }
        match command {
            _ if !self.links_known => None,
            Command::Link(harm, _) => {
                let done = !pairs.is_empty() && pairs.iter().all(|(a, b)| self.links.lane(a, b).has(*harm));
                done.then(|| format!("{} is {} here already", which.in_words(), harm.word()))
            }
            _ => {
                let healthy = !pairs.iter().any(|(a, b)| self.links.touches(a, b));
                healthy.then(|| format!("nothing was done to {} that could be healed here", which.in_words()))
            }
        }
    }

    /// The command was carried out; where that isn't `sure`, it may have been.
    pub fn after(&mut self, command: &Command, sure: bool) {
        match command {
            Command::Freeze(n) if self.auto => self.may_be_any(n),
            Command::Freeze(n) => self.is(n, State::Frozen),
            Command::Thaw(n) => self.is(n, State::Runs),
            Command::Kill(n) | Command::Stop(n) | Command::Fence(n) => self.goes_down(n),
            Command::Start(n) | Command::Raise(n) => {
                self.is(n, State::Runs);
                self.replay_paused.insert(n.clone(), false);
            }
            Command::Rejoin { node: n, .. } => self.comes_back(n),
            Command::PauseReplay(n) | Command::ResumeReplay(n) => {
                self.broken = true;
                self.replay_paused.insert(n.clone(), matches!(command, Command::PauseReplay(_)));
            }
            Command::Promote(_) | Command::Switchover(_) | Command::Failover { .. } | Command::AutoFailover(_) => {
                self.part_moves(command);
            }
            Command::Follow { standby, upstream } => drop(self.upstreams.insert(standby.clone(), upstream.clone())),
            Command::FollowAll(_) => self.upstreams.clear(),
            Command::Link(harm, which) => {
                let pairs = which.pairs(self.nodes.iter());
                self.links.harm(pairs, *harm);
                if self.auto {
                    // A primary that is cut off may be killed for it.
                    self.states.retain(|_, state| *state == State::Down);
                }
            }
            Command::Heal(None) => self.healed(),
            Command::Heal(Some(which)) => self.links.heal(&which.pairs(self.nodes.iter())),
            Command::Add { name, from } => {
                let upstream = from.clone().or_else(|| self.primary().cloned());
                self.appears(name);
                self.roles.insert(name.clone(), Role::Standby);
                self.upstreams.extend(upstream.map(|up| (name.clone(), up)));
            }
            Command::AddFresh(name) => self.appears(name),
            Command::Remove(n) if sure => self.goes(n),
            Command::Heartbeat(on) => self.heartbeat = Some(*on).filter(|_| sure),
            Command::Reset => {
                let known = std::mem::take(&mut self.known);
                let heartbeat = self.heartbeat;
                *self = Self { known, heartbeat, ..Self::new(self.topology) };
            }
            _ => {}
        }
        if !sure {
            self.unsure_of(command);
        }
    }

    fn unsure_of(&mut self, command: &Command) {
        for node in super::named(command) {
            self.may_be_any(&node);
        }
        if let Command::Add { name, .. } | Command::AddFresh(name) = command {
            self.may_be_any(name);
        }
        self.links_known &= !matches!(command, Command::Link(..) | Command::Heal(_));
        self.broken = true;
    }

    fn may_be_any(&mut self, node: &NodeName) {
        self.states.remove(node);
        self.roles.remove(node);
        self.upstreams.remove(node);
        self.replay_paused.remove(node);
    }

    fn is(&mut self, node: &NodeName, state: State) {
        self.states.insert(node.clone(), state);
    }

    fn goes_down(&mut self, node: &NodeName) {
        self.is(node, State::Down);
        self.replay_paused.remove(node);
        self.broken = true;
        if self.auto {
            self.moved_by_itself();
        }
    }

    fn comes_back(&mut self, node: &NodeName) {
        self.is(node, State::Runs);
        self.roles.insert(node.clone(), Role::Standby);
        self.replay_paused.insert(node.clone(), false);
        match self.primary().cloned() {
            Some(primary) => drop(self.upstreams.insert(node.clone(), primary)),
            None => drop(self.upstreams.remove(node)),
        }
    }

    fn appears(&mut self, node: &NodeName) {
        self.nodes.push(node.clone());
        self.known.insert(node.clone());
        self.is(node, State::Runs);
        self.replay_paused.insert(node.clone(), false);
    }

    fn goes(&mut self, node: &NodeName) {
        self.nodes.retain(|name| name != node);
        self.links.forget(node);
        self.may_be_any(node);
        self.upstreams.retain(|_, up| up != node);
    }

    /// The primary's part moves, or may.
    fn part_moves(&mut self, command: &Command) {
        match command {
            Command::Promote(n) => {
                self.broken = true;
                self.roles.insert(n.clone(), Role::Primary);
                self.upstreams.remove(n);
                self.replay_paused.insert(n.clone(), false);
            }
            Command::Switchover(n) => {
                let old = self.primary().cloned();
                self.roles.retain(|_, role| *role == Role::Standby);
                self.roles.extend(old.map(|old| (old, Role::Standby)));
                self.roles.insert(n.clone(), Role::Primary);
                self.upstreams.clear();
                self.replay_paused.remove(n);
            }
            _ => {
                self.broken = true;
                self.auto = match command {
                    Command::AutoFailover(auto) => auto.is_some(),
                    _ => self.auto,
                };
                self.moved_by_itself();
            }
        }
    }

    /// Who is the primary now isn't known, nor who was killed so that there is one only.
    fn moved_by_itself(&mut self) {
        let primaries: Vec<NodeName> =
            self.nodes.iter().filter(|n| self.roles.get(*n) != Some(&Role::Standby)).cloned().collect();
        self.states.retain(|n, state| *state == State::Down || (*state == State::Runs && !primaries.contains(n)));
        self.roles.clear();
        self.upstreams.clear();
        self.replay_paused.clear();
    }

    /// What was down comes up again, but for a former primary.
    fn healed(&mut self) {
        self.links = Links::default();
        self.links_known = true;
        let primary = self.primary().cloned();
        let roles = &self.roles;
        self.states.retain(|n, state| {
            let comes_up = roles.get(n) == Some(&Role::Standby) || primary.as_ref() == Some(n);
            let known = *state != State::Down || comes_up;
            *state = State::Runs;
            known
        });
        for paused in self.replay_paused.values_mut() {
            *paused = false;
        }
        self.broken = false;
    }

    /// What a lesson waits for or expects is so from then on: the person may have seen to it.
    pub fn learns(&mut self, condition: &Condition) {
        let word = condition.is();
        match (condition.quantity(), condition.node(), word) {
            ("state", Some(n), Some("frozen")) => self.is(n, State::Frozen),
            ("state", Some(n), Some("down")) => self.is(n, State::Down),
            ("state", Some(n), Some("running")) => self.is(n, State::Runs),
            ("state" | "link" | "reachable" | "idle", Some(n), _) => {
                let runs = self.runs(n);
                self.states.retain(|name, _| name != n || runs);
            }
            ("role", Some(n), Some(role)) => {
                let role = if role == "primary" { Role::Primary } else { Role::Standby };
                if self.roles.insert(n.clone(), role) != Some(role) {
                    self.upstreams.clear();
                }
            }
            ("replay_paused", Some(n), Some(word)) => drop(self.replay_paused.insert(n.clone(), word == "yes")),
            ("primary", ..) => {
                if word.is_none() || self.primary().map(NodeName::as_str) != word {
                    self.moved_by_itself();
                }
                let named = self.nodes.iter().find(|n| Some(n.as_str()) == word).cloned();
                self.roles.extend(named.map(|n| (n, Role::Primary)));
            }
            ("primaries" | "handover" | "waits_for", ..) => self.moved_by_itself(),
            ("faults" | "streaming" | "lagging", ..) => {
                self.states.retain(|_, state| *state == State::Runs);
                self.replay_paused.clear();
                self.links_known = false;
            }
            _ => {}
        }
    }
}

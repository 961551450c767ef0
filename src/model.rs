//! What the lab knows, and the one function that changes it: [`update`]. Reads no clock, does no I/O, never awaits.
//!
//! Everything that happens comes in as a [`msg::Msg`] with the moment it happened; what is to be done goes out as
//! [`msg::Effect`]s. Feed the same messages again and the same model comes out.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

pub mod admit;
pub mod cluster;
pub mod command;
pub mod condition;
pub mod detection;
pub mod detector;
pub mod election;
pub mod fault_log;
pub mod handover;
pub mod history;
pub mod ids;
pub mod journal;
pub mod ledger;
pub mod lineage;
pub mod links;
pub mod loss;
pub mod lsn;
pub mod msg;
pub mod outage;
pub mod promise;
pub mod ranges;
pub mod script;
pub mod senders;
pub mod sessions;
pub mod shortfall;
pub mod slots;
pub mod standing;
pub mod sync_rule;
pub mod text;
mod update;
pub mod verdict;
pub mod waits;

pub use ids::{NodeName, Stamp, WriteId};
pub use lsn::Lsn;
pub use text::safe_text;
pub use update::update;

use cluster::{LogLine, NodeState, Role, Sample};
use command::Command;
use detector::Detector;
use handover::{Handover, Timeline};
use history::History;
use journal::Journal;
use ledger::Ledger;
use links::{End, LinkFault, Links, Traffic};
use msg::{OpId, Origin, SqlResult, Topology, WriterPlan, WriterPulse};
use script::Script;
use sessions::Session;
use shortfall::Pause;
use sync_rule::SyncRule;
use verdict::Verification;

/// How far the lab's life is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// Nodes are being made.
    #[default]
    Starting,
    /// It runs.
    Live,
    /// Bring-up failed, and why.
    Failed(String),
}

/// A log line and when it came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Logged {
    /// When the lab saw it.
    pub at: Stamp,
    /// The line.
    pub line: LogLine,
}

/// A node and the last that is known of it. Old knowledge stays, with its age.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Its name.
    pub name: NodeName,
    /// Whom it was told to follow; None for a primary or a fresh server.
    pub upstream: Option<NodeName>,
    /// The container's or process tree's state, and since when.
    pub state: NodeState,
    /// When `state` changed last.
    pub state_since: Stamp,
    /// The last good look.
    pub sample: Option<Sample>,
    /// When that was.
    pub seen: Option<Stamp>,
    /// Where the look before it found a standby: when, timeline, position.
    #[serde(default)]
    pub before: Option<(Stamp, u32, Lsn)>,
    /// How many bytes of WAL a second came between the last three looks, the latest first.
    #[serde(default)]
    pub grew: [u64; 2],
    /// When something was last done whose outcome for it, or for its links, only a look tells.
    #[serde(default)]
    pub acted: Option<Stamp>,
    /// Since when it can't be asked, and why.
    pub unreachable: Option<(Stamp, String)>,
    /// What is being done to it ("pg_basebackup", "starting"), while that goes on.
    pub phase: Option<String>,
    /// The last lines of its log.
    pub logs: VecDeque<Logged>,
    /// Whether the journal has said that it can't be asked.
    pub unreachable_told: bool,
    /// What the journal last said of its link to its upstream.
    pub link_told: String,
    /// Whether the journal has said that its history has forked from its upstream's.
    pub forked_told: bool,
    /// Whether the journal has said that it is a primary beside the lab's.
    pub rival_told: bool,
    /// What the journal last said of each of its slots.
    pub slots_told: BTreeMap<String, String>,
    /// The history that its data is of: its place in `Model::timelines`; none where the lab doesn't know.
    #[serde(default)]
    pub history: Option<usize>,
    /// The setting that its log last called too low to replay on, while that is so.
    #[serde(default)]
    pub shortfall: Option<shortfall::Shortfall>,
    /// Whether replay was paused by somebody, as far as that is known.
    #[serde(default)]
    pub paused_by_hand: bool,
    /// Whether the journal has said that its disk is full.
    #[serde(default)]
    pub full_told: bool,
}

impl Node {
    /// A node of which nothing is known yet.
    pub fn new(name: NodeName, upstream: Option<NodeName>) -> Self {
        Self {
            name,
            upstream,
            state: NodeState::Created,
            state_since: Stamp(0),
            sample: None,
            seen: None,
            before: None,
            grew: [0; 2],
            acted: None,
            unreachable: None,
            phase: None,
            logs: VecDeque::new(),
            unreachable_told: false,
            link_told: String::new(),
            forked_told: false,
            rival_told: false,
            slots_told: BTreeMap::new(),
            history: None,
            shortfall: None,
            paused_by_hand: false,
            full_told: false,
        }
    }

    /// Its part by the last good look.
    pub fn role(&self) -> Option<Role> {
        self.sample.as_ref().map(|s| s.role)
    }

    /// Whether it called itself a primary at a look in this life of its processes: of one that was just started nothing is known
    /// yet, whatever it was before.
    pub fn is_primary_now(&self) -> bool {
        self.role() == Some(Role::Primary) && self.seen.is_some_and(|seen| seen >= self.state_since)
    }

    /// Whether the last look succeeded and its processes run, so that what is known of it is fresh.
    pub fn answers(&self) -> bool {
        self.sample.is_some() && self.unreachable.is_none() && self.state == NodeState::Running
    }
}

/// An operation under way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Op {
    /// The command behind it; None for the lab's own bring-up.
    pub command: Option<Command>,
    /// Who asked.
    pub origin: Origin,
    /// Since when.
    pub since: Stamp,
    /// The books when it began, where a verification needs them.
    pub books: Option<Ledger>,
    /// For a promotion: why the election wasn't safe, if it wasn't.
    pub unsafe_election: Option<String>,
    /// For `follow all`: whom it tells.
    pub targets: Vec<NodeName>,
    /// Whether it hasn't begun: it waits for a look that is younger than what was last done.
    #[serde(default)]
    pub put_off: bool,
}

/// The major version of PostgreSQL that a lab has when nobody asks for another.
pub const POSTGRES: u32 = 18;
/// Figures that come so many milliseconds after a moment bring all that was tried until then.
const TOLD_MS: u64 = 300;

/// The writer as the model sees it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Writer {
    /// Its orders.
    pub plan: WriterPlan,
    /// The orders it began with: what `reset` returns to.
    pub first: WriterPlan,
    /// Whether the target follows the primary.
    pub follows: bool,
    /// The node that its answers surely come from: whose first ack was told last. Those of the target before are all in the books then.
    #[serde(default)]
    pub arrived: Option<NodeName>,
    /// Its last figures.
    pub pulse: WriterPulse,
    /// When they came.
    pub pulse_at: Stamp,
}

impl Writer {
    /// Whether all that was tried until that moment is in the books: figures come four times a second, and each time all that came
    /// before.
    pub fn has_told(&self, until: Stamp) -> bool {
        self.pulse_at.ms_since(until) >= TOLD_MS
    }
}

/// A fault in force, for badges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Something is wrong with a link.
    Link(LinkFault),
    /// Every link of a node (or of the clients) is cut, both ways.
    Isolated(End),
    /// A node is frozen.
    Frozen(NodeName),
    /// A node is down.
    Down(NodeName),
    /// Replay is paused on a standby, by somebody.
    ReplayPaused(NodeName),
    /// PostgreSQL has paused replay on a standby: "max_connections 150 < 300 on p".
    ReplayStopped(NodeName, String),
    /// Another primary of the same cluster runs beside the lab's: two histories grow apart.
    Rival(NodeName),
}

/// All that the lab knows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Model {
    /// The latest moment that a message brought.
    pub now: Stamp,
    /// How far the lab is.
    pub stage: Stage,
    /// The lab's id.
    pub lab: String,
    /// "docker" or "process".
    pub runtime: String,
    /// The image or the programs' folder.
    pub source: String,
    /// The server's version, once known.
    pub postgres: String,
    /// What `reset` returns to.
    pub topology: Topology,
    /// Whether acts are refused.
    pub read_only: bool,
    /// What bring-up is doing, and how long bring-up took once it is done.
    pub phase: String,
    /// See `phase`.
    pub bring_up_ms: Option<u64>,
    /// Why links can't be cut, if so.
    pub direct_links: Option<String>,
    /// Why nodes can't be frozen here, if so.
    #[serde(default)]
    pub no_freezer: Option<String>,
    /// The engine's silence: since when and why.
    pub engine_down: Option<(Stamp, String)>,
    /// Bytes free where the nodes' data is, at the last look; None when that can't be seen.
    pub disk_free: Option<u64>,
    /// With fewer free the writer is held; 0 for never.
    pub disk_floor: u64,
    /// Whether the writer is held because there are fewer.
    pub disk_low: bool,
    /// The nodes, in the order they are shown.
    pub nodes: Vec<Node>,
    /// The node the lab takes for the primary: the one made or promoted last.
    pub primary: Option<NodeName>,
    /// The cluster's system identifier.
    pub system_identifier: Option<u64>,
    /// What was said of a node of this cluster that is another one now: from then on nothing proves what became of the writes.
    #[serde(default)]
    pub estranged: Option<String>,
    /// What is wrong with the links, also with those that there may be later.
    pub links: Links,
    /// What has passed them.
    pub traffic: Vec<Traffic>,
    /// The writer.
    pub writer: Writer,
    /// Whether the heartbeat beats.
    pub heartbeat: bool,
    /// Since when it beats on the present primary.
    pub heart_since: Stamp,
    /// When replab itself last went on after it had stood still: silence of before is its own.
    #[serde(default)]
    pub stood_still: Option<Stamp>,
    /// The books.
    pub ledger: Ledger,
    /// The rule found in force at the last look at the primary, for the promise of acks; None while it may be changing.
    pub rule_seen: Option<String>,
    /// Whether the rule now in force covers what was promised before.
    #[serde(default)]
    pub footing: promise::Footing,
    /// Why some promotion since the last reset, the first of them, was not of a surely most advanced standby. Excuses nothing: what such
    /// an election ends is in the books.
    pub unsafe_election: Option<String>,
    /// The failure detector.
    pub detector: Detector,
    /// How the primary's part went from node to node, oldest first.
    pub handovers: Vec<Handover>,
    /// Standbys that were away at a failover or switchover, and the old primary that they still follow.
    pub astray: BTreeMap<NodeName, NodeName>,
    /// The cluster's timelines, as far as the lab saw them begin.
    pub timelines: Vec<Timeline>,
    /// When a node that is down or frozen by order was first hit.
    pub fault_at: BTreeMap<NodeName, Stamp>,
    /// Since when the primary's links are broken.
    #[serde(default)]
    pub severed: outage::Severed,
    /// What nodes that came back had of their own.
    pub rejoins: Vec<(Stamp, NodeName, msg::Rejoined)>,
    /// What the last `verify` said.
    pub verification: Option<Verification>,
    /// What the last `sql` gave.
    pub sql: Option<(NodeName, SqlResult)>,
    /// What the last operations that ran SQL gave.
    #[serde(default)]
    pub answers: BTreeMap<OpId, SqlResult>,
    /// The kept sessions, by name.
    #[serde(default)]
    pub sessions: BTreeMap<NodeName, Session>,
    /// What the journal last said of connections that bear a standby's name.
    #[serde(default)]
    pub impostors_told: Vec<String>,
    /// How many commits the journal last said are waiting.
    pub waiting_told: usize,
    /// How the last operations ended, for the lesson that waits for them: None means well.
    pub ended: BTreeMap<OpId, Option<String>>,
    /// Operations under way.
    pub ops: BTreeMap<OpId, Op>,
    /// The number of the next operation.
    pub next_op: u64,
    /// Which fault was in force from when to when.
    pub fault_log: Vec<fault_log::FaultSpan>,
    /// What happened.
    pub journal: Journal,
    /// The charts' memory.
    pub history: History,
    /// The lesson, if one plays.
    pub script: Option<Script>,
    /// The lesson that was left, and can be come back to.
    #[serde(default)]
    pub set_aside: Option<Script>,
}

impl Model {
    /// The node of that name.
    pub fn node(&self, name: &NodeName) -> Option<&Node> {
        self.nodes.iter().find(|n| n.name == *name)
    }

    /// The lesson of this lab: the one that plays, or the one that was left.
    pub fn lesson(&self) -> Option<&Script> {
        self.script.as_ref().or(self.set_aside.as_ref())
    }

    /// Why the run is worth nothing, if so: the lab did not start, or lost its cluster.
    pub fn broken_off(&self) -> Option<&str> {
        match &self.stage {
            Stage::Failed(why) => Some(why),
            Stage::Starting | Stage::Live => self.estranged.as_deref(),
        }
    }

    /// Whether `reset` is under way: what is seen of the nodes meanwhile is their end and their beginning.
    pub fn is_resetting(&self) -> bool {
        self.ops.values().any(|op| matches!(op.command, Some(Command::Reset)))
    }

    /// The node of that name, to change it.
    fn node_mut(&mut self, name: &NodeName) -> Option<&mut Node> {
        self.nodes.iter_mut().find(|n| n.name == *name)
    }

    /// The node the lab takes for the primary.
    pub fn primary_node(&self) -> Option<&Node> {
        self.primary.as_ref().and_then(|name| self.node(name))
    }

    /// synchronous_standby_names of the primary, as it last reported it.
    pub fn rule_text(&self) -> Option<&str> {
        let sample = self.primary_node()?.sample.as_ref()?;
        Some(&sample.settings.synchronous_standby_names)
    }

    /// The rule in force on the primary, where the lab understands it.
    pub fn rule(&self) -> Option<SyncRule> {
        SyncRule::from_setting(self.rule_text()?)
    }

    /// The same as it works there: without the primary's own name.
    pub fn rule_at_work(&self) -> Option<SyncRule> {
        let primary = self.primary.as_ref()?;
        self.rule().map(|rule| rule.on(primary.as_str()))
    }

    /// Whether the link between two nodes is cut, in one direction at least.
    pub fn is_cut(&self, a: &NodeName, b: &NodeName) -> bool {
        self.links.is_cut(&End::Node(a.clone()), &End::Node(b.clone()))
    }

    /// Whether one end connects to the other, or would if it ran: clients do to every node, a standby to its upstream.
    pub fn connects(&self, from: &End, to: &End) -> bool {
        match (from, to) {
            (End::Client, End::Node(_)) => true,
            (End::Node(from), End::Node(to)) => self.node(from).is_some_and(|n| n.upstream.as_ref() == Some(to)),
            (_, End::Client) => false,
        }
    }

    /// Whether one of these links is there now, or would be if its ends ran.
    pub fn has_link(&self, which: &links::Which) -> bool {
        which.pairs(self.names()).iter().any(|(a, b)| self.connects(a, b) || self.connects(b, a))
    }

    /// The names of the nodes.
    pub fn names(&self) -> impl Iterator<Item = &NodeName> + Clone {
        self.nodes.iter().map(|n| &n.name)
    }

    /// The links' faults, an isolated end told as that.
    fn link_faults(&self) -> Vec<Fault> {
        let alone = self.links.isolated(self.names());
        let told =
            |f: &LinkFault| f.both && f.harm == links::Harm::Cut && (alone.contains(&f.from) || alone.contains(&f.to));
        let rest = self.links.faults().into_iter().filter(|f| !told(f)).map(Fault::Link).collect::<Vec<_>>();
        alone.iter().cloned().map(Fault::Isolated).chain(rest).collect()
    }

    /// Faults in force, for badges.
    pub fn faults(&self) -> Vec<Fault> {
        let states = self.nodes.iter().filter_map(|n| match n.state {
            NodeState::Frozen => Some(Fault::Frozen(n.name.clone())),
            NodeState::Exited(_) => Some(Fault::Down(n.name.clone())),
            _ if self.is_rival(n) => Some(Fault::Rival(n.name.clone())),
            _ => match self.pause_of(n)? {
                Pause::Person => Some(Fault::ReplayPaused(n.name.clone())),
                Pause::Postgres(low) => Some(Fault::ReplayStopped(n.name.clone(), self.shortfall_in_words(n, &low))),
                Pause::Unknown => None,
            },
        });
        self.link_faults().into_iter().chain(states).collect()
    }

    fn is_rival(&self, node: &Node) -> bool {
        let same = node.sample.as_ref().is_some_and(|s| Some(s.system_identifier) == self.system_identifier);
        same && node.is_primary_now() && self.primary.as_ref().is_some_and(|p| *p != node.name)
    }

    /// Other primaries of this cluster that run beside the lab's: a split brain.
    pub fn rivals(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|n| n.state == NodeState::Running && self.is_rival(n))
    }

    /// Standbys that are surely ahead of this one, and by how many bytes; the greatest of received and replayed counts. Only what
    /// was seen no later than this one's own position proves that: the log grows between two looks. So where another was looked
    /// at after this one, its look before that counts.
    pub fn ahead_of(&self, name: &NodeName) -> Vec<(NodeName, u64)> {
        let place = |n: &Node| n.sample.as_ref().map(|s| (s.timeline, s.wal));
        let Some((own, seen)) = self.node(name).and_then(|n| Some((place(n)?, n.seen?))) else { return Vec::new() };
        let by_then = |n: &Node| match n.seen {
            Some(at) if at > seen => n.before.filter(|b| b.0 <= seen).map(|(_, timeline, wal)| (timeline, wal)),
            _ => place(n),
        };
        let own_node = self.node(name);
        let others = self.nodes.iter().filter(|n| n.name != *name && n.role() == Some(Role::Standby));
        let others = others.filter(|n| own_node.is_none_or(|own| self.comparable(n, own)));
        let ahead = others.filter_map(|n| Some((n.name.clone(), by_then(n)?)));
        ahead.filter(|(_, at)| *at > own).map(|(n, at)| (n, at.1.bytes_ahead_of(own.1))).collect()
    }

    /// The operation that starts this node or brings it back, if there is one.
    pub fn return_of(&self, name: &NodeName) -> Option<&Command> {
        let its = |c: &&Command| matches!(c, Command::Start(n) | Command::Raise(n) | Command::Rejoin { node: n, .. } if n == name);
        self.ops.values().filter_map(|op| op.command.as_ref()).find(its)
    }

    /// The handover that goes on.
    pub fn handover(&self) -> Option<&Handover> {
        self.handovers.last().filter(|h| self.ops.contains_key(&h.op))
    }

    /// The handover whose election waits for more answers.
    pub fn waiting_election(&self) -> Option<&Handover> {
        self.handover().filter(|h| !h.waits_for.is_empty())
    }
}

//! Everything that can happen, as values: the stream of these is the lab's whole history.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::cluster::{Look, Observation};
use super::command::{Command, Rate, Way};
use super::detector::Probe;
use super::election::Answer;
use super::ledger::{Ack, IdRange, Ids};
use super::lineage;
use super::links::Links;
use super::script::Script;
use super::sync_rule::SyncRule;
use super::verdict::Reading;
use super::{Lsn, NodeName};

/// Who asked for a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// The person at the keys or the prompt.
    You,
    /// A scenario's step.
    Script,
    /// The lab itself.
    Lab,
    /// Another program of the person, through the lab's socket (`replab do`), and the number of what it asks for.
    Outside(u64),
}

/// The number of one operation under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct OpId(pub u64);

/// The wanted cluster: what bring-up makes and `reset` returns to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topology {
    /// Nodes in the order they are shown; a node without upstream is the primary.
    pub nodes: Vec<NodePlan>,
    /// Settings beside the lab's own, on every node.
    pub settings: BTreeMap<String, String>,
}

/// One node of a topology.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodePlan {
    /// Its name (and application_name, and slot).
    pub name: NodeName,
    /// Whom it follows; None for the primary.
    pub upstream: Option<NodeName>,
}

impl Topology {
    /// The usual one: primary p with standbys s1 to sN.
    pub fn primary_with(standbys: u32) -> Self {
        let name = |text: String| text.parse::<NodeName>().unwrap_or_else(|_| unreachable!("p and sN are names"));
        let p = name("p".to_owned());
        let rest = (1..=standbys).map(|n| NodePlan { name: name(format!("s{n}")), upstream: Some(p.clone()) });
        let nodes = std::iter::once(NodePlan { name: p.clone(), upstream: None }).chain(rest).collect();
        Self { nodes, settings: BTreeMap::new() }
    }

    /// The node without upstream.
    pub fn primary(&self) -> Option<&NodeName> {
        self.nodes.iter().find(|n| n.upstream.is_none()).map(|n| &n.name)
    }
}

/// What a lab is told about itself when it opens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Opening {
    /// The lab's id.
    pub lab: String,
    /// "docker" or "process".
    pub runtime: String,
    /// The image or the programs' folder, for people.
    pub source: String,
    /// The cluster to make.
    pub topology: Topology,
    /// The lesson to play, if any.
    pub script: Option<Script>,
    /// Whether acts are refused (`--read-only`).
    pub read_only: bool,
    /// The writer as it begins.
    pub writer: WriterPlan,
    /// Free bytes of the data's disk below which the writer is held; 0 for never.
    pub disk_floor: u64,
}

/// What the writer is asked to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WriterPlan {
    /// The node written to; None while there is none.
    pub target: Option<NodeName>,
    /// Clients, 0 to 64.
    pub clients: u32,
    /// How fast.
    pub rate: Rate,
    /// synchronous_commit of its sessions.
    pub level: String,
    /// Whether it rests, but for writes asked for one by one.
    pub paused: bool,
    /// Whether it writes nothing at all: there is no room on the disk.
    #[serde(default)]
    pub held: bool,
}

impl Default for WriterPlan {
    fn default() -> Self {
        Self { target: None, clients: 4, rate: Rate::PerSecond(20), level: "on".to_owned(), paused: false, held: false }
    }
}

/// A write under way for longer than a blink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InFlight {
    /// The client.
    pub client: u32,
    /// Its sequence number.
    pub seq: u64,
    /// For how long, in microseconds.
    pub age_us: u64,
}

/// What the writer measured since its last pulse (about every 250 ms).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WriterPulse {
    /// Length of the interval in microseconds.
    pub interval_us: u64,
    /// Commits that returned in it.
    pub commits: u64,
    /// Commit latency in microseconds; None when nothing returned.
    pub p50_us: Option<u64>,
    /// See `p50_us`.
    pub p99_us: Option<u64>,
    /// See `p50_us`.
    pub max_us: Option<u64>,
    /// Writes under way for more than 50 ms.
    pub waiting: Vec<InFlight>,
    /// Clients connected now.
    pub connected: u32,
    /// Why a client can't connect or write, the last such reason.
    pub trouble: Option<String>,
}

/// What running SQL gave.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SqlResult {
    /// Column names of the last result.
    pub columns: Vec<String>,
    /// Rows as text (None is NULL), at most a few hundred.
    pub rows: Vec<Vec<Option<String>>>,
    /// Rows beyond those kept.
    pub more: u64,
    /// Command tag ("INSERT 0 1", "SELECT 3").
    pub tag: String,
    /// Notices, as "WARNING: text".
    pub notices: Vec<String>,
    /// (SQLSTATE, message) when the server refused.
    pub error: Option<(String, String)>,
    /// How it left its session.
    #[serde(default)]
    pub standing: Standing,
}

/// How a session of a person or a lesson stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// Nothing under way, no transaction open.
    #[default]
    Idle,
    /// A transaction is open.
    InTransaction,
    /// A transaction is open that can only be rolled back.
    Failed,
    /// There is no such session any more.
    Closed,
}

impl Standing {
    /// "idle", "in_transaction", "failed" or "closed".
    pub fn word(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::InTransaction => "in_transaction",
            Self::Failed => "failed",
            Self::Closed => "closed",
        }
    }
}

/// What an operation brought, beyond being done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Happened {
    /// Nothing else to tell.
    Plain,
    /// The lab is up.
    BroughtUp {
        /// From the first request to all standbys streaming.
        ms: u64,
        /// The server's version.
        postgres: String,
        /// The cluster's system identifier.
        system_identifier: u64,
        /// Why links are direct and can't be cut, if so.
        direct_links: Option<String>,
        /// Why nodes can't be frozen here, if so.
        #[serde(default)]
        no_freezer: Option<String>,
    },
    /// A rule is in force on a node (as PostgreSQL reports it), and how many commits it let go.
    Rule {
        /// synchronous_standby_names, verbatim.
        names: String,
    },
    /// A standby is a primary now.
    Promoted {
        /// Its new timeline.
        timeline: u32,
        /// Where the new timeline forked off.
        fork: Option<Lsn>,
        /// The rule in its own files.
        names: String,
    },
    /// The standbys were asked how far they are (and the old primary is fenced, where that was asked for).
    Canvassed(Vec<Answer>),
    /// Another node is the primary now, and the others were told.
    HandedOver(Taken),
    /// Several standbys were told whom to follow.
    Followed {
        /// Those who could not be told, and why.
        missed: Vec<(NodeName, String)>,
    },
    /// A node is a standby again.
    Rejoined(Rejoined),
    /// Sessions were cancelled or terminated.
    Sessions(u64),
    /// The nodes were read.
    Verified(Reading),
    /// SQL was run.
    Sql(SqlResult),
}

/// What a node that took over has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// Its new timeline.
    pub timeline: u32,
    /// Where that forked off.
    pub fork: Option<Lsn>,
    /// The rule now in its files.
    pub names: String,
    /// Standbys that could not be told, or didn't follow in time, and why.
    pub missed: Vec<(NodeName, String)>,
    /// Those that follow.
    pub followed: Vec<NodeName>,
}

/// How a node came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Road {
    /// It had nothing of its own and simply followed.
    Straight,
    /// By pg_rewind.
    Rewound,
    /// By a fresh base backup.
    Rebuilt,
}

impl Road {
    /// "straight", "rewound" or "rebuilt".
    pub fn word(self) -> &'static str {
        match self {
            Self::Straight => "straight",
            Self::Rewound => "rewound",
            Self::Rebuilt => "rebuilt",
        }
    }
}

/// What became of a node's own history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejoined {
    /// The way it took.
    pub road: Road,
    /// Why a shorter way was not taken, if one was tried.
    pub detour: Option<String>,
    /// The node it follows.
    pub source: NodeName,
    /// Where the histories parted, if they did.
    pub fork: Option<Lsn>,
    /// How far its own history went.
    pub end: Option<Lsn>,
    /// Rows that only it had, or why they could not be counted.
    pub only: Result<Ids, String>,
}

/// How an operation ended, and what was done for it, in the words of the tools (SQL, file lines, engine calls).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// What came of it, or why it failed.
    pub result: Result<Happened, String>,
    /// The exact steps, in order.
    pub steps: Vec<String>,
}

/// A key of the person that moves the lesson.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Playback {
    /// Read; go on.
    Next,
    /// Back to the text before, to read it once more.
    Back,
    /// The question's answer, from 0.
    Answer(usize),
    /// A hint, please.
    Hint,
    /// To the chapter of that number, from 0: the cluster is made anew and taken there.
    Jump(usize),
    /// From the beginning.
    Restart,
    /// Go on by itself after a reading time, or wait for the person again.
    Auto,
    /// Texts give way sooner, or later.
    Pace {
        /// Sooner.
        faster: bool,
    },
    /// Leave the lesson; the lab stays, and the lesson can be come back to.
    Leave,
    /// Come back to the lesson that was left, where it was left.
    Return,
}

/// A long operation has come so far. Told at once, because the writer and the screen must not wait for its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reached {
    /// The old primary is down, as it was asked to be.
    Stopped,
    /// This standby surely has everything.
    Chosen(NodeName),
    /// This node accepts writes.
    Open(NodeName),
    /// All others who answer follow it.
    Followed,
    /// The rows that only the returning node has were counted; nothing of it is thrown away yet.
    Counted(Ids),
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Msg {
    /// The lab begins.
    Open(Box<Opening>),
    /// Somebody asks for something.
    Command(Command, Origin),
    /// The lesson is moved on.
    Play(Playback),
    /// A look at a node or the engine.
    Observed(Observation),
    /// Writes are about to be sent.
    Tried(Vec<IdRange>),
    /// Writes were answered.
    Wrote(Vec<(IdRange, Ack)>),
    /// The writer's figures.
    Pulse(WriterPulse),
    /// Bring-up (or another slow act) reached a phase; on a node, or on the whole.
    Phase(Option<NodeName>, String),
    /// A long operation has come so far.
    Reached(OpId, Reached),
    /// A probe of the failure detector came back.
    Probed(NodeName, Probe),
    /// The first write was acknowledged since the writer was told to write there.
    FirstAck(NodeName),
    /// The server ended a kept session while nothing ran in it, and why.
    SessionEnded(NodeName, String),
    /// An operation ended.
    Done(OpId, Outcome),
    /// Time passes.
    Tick,
    /// replab itself stood still for so many milliseconds (stopped by a signal, or a machine without time for it).
    StoodStill(u64),
}

impl Msg {
    /// Whether it comes all the time anyway: a picture that shows it a moment later is as good.
    pub fn is_routine(&self) -> bool {
        matches!(self, Self::Tick | Self::Pulse(_) | Self::Tried(_) | Self::Wrote(_) | Self::Probed(..))
            || matches!(
                self,
                Self::Observed(
                    Observation::Node(_, Look::Sample(_) | Look::Log(_))
                        | Observation::Traffic(_)
                        | Observation::Disk(_)
                )
            )
    }
}

/// Work for the adapters. Each `Run` is answered by one `Msg::Done` with its number; an operation may be several in turn.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Carry out.
    Run(OpId, Act),
    /// The writer's orders changed.
    Writer(WriterPlan),
    /// So many single writes, now.
    Burst(u32),
    /// The heartbeat goes to this node (None: to nobody).
    Heartbeat(Option<NodeName>),
    /// All nodes are probed, so many milliseconds apart (None: no more).
    Probe(Option<u64>),
    /// What became of a command from outside: the operations to wait for, or why it is refused.
    Answer(u64, Result<Vec<OpId>, String>),
    /// The lesson's sessions are closed, whatever runs in them.
    CloseSql,
}

/// What adapters can carry out. They decide nothing: all they need is in here.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "each is the act of the command of the same name")]
pub enum Act {
    BringUp(Topology),
    Reset(Topology),
    ApplyRule {
        node: NodeName,
        rule: SyncRule,
        nudge: bool,
    },
    Set {
        nodes: Vec<NodeName>,
        name: String,
        value: String,
    },
    CancelWaiting {
        node: NodeName,
        terminate: bool,
    },
    Kill(NodeName),
    Stop(NodeName),
    Start(NodeName),
    Freeze(NodeName),
    Thaw(NodeName),
    Promote(NodeName),
    Follow {
        standby: NodeName,
        upstream: NodeName,
    },
    FollowAll {
        standbys: Vec<NodeName>,
        upstream: NodeName,
    },
    /// Asks how far they are; with `counts` only who answers matters, and nothing that may still come is waited for.
    Canvass {
        standbys: Vec<NodeName>,
        fence: Option<NodeName>,
        after_ms: u64,
        counts: bool,
    },
    TakeOver {
        node: NodeName,
        rule: Option<SyncRule>,
        followers: Vec<NodeName>,
    },
    Switchover {
        old: NodeName,
        node: NodeName,
        rule: Option<SyncRule>,
        followers: Vec<NodeName>,
    },
    Rejoin {
        node: NodeName,
        source: NodeName,
        way: Option<Way>,
        histories: lineage::Pair,
    },
    Add {
        name: NodeName,
        upstream: NodeName,
    },
    AddFresh(NodeName),
    Remove {
        node: NodeName,
        upstream: Option<NodeName>,
    },
    Raise {
        node: NodeName,
        settings: Vec<(String, u64)>,
    },
    Replay {
        node: NodeName,
        pause: bool,
    },
    Links(Links),
    Verify(Vec<NodeName>),
    /// `opens`: the session isn't there yet, or no more. `lesson`: with the rights of a lesson, which reach no further than the lab's database.
    Sql {
        node: NodeName,
        session: Option<NodeName>,
        opens: bool,
        text: String,
        lesson: bool,
    },
}

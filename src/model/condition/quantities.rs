//! What a condition can ask about: the one table of quantities, and how each is read from the model.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::cluster::{NodeState, Role};
use crate::model::detection::Countdown;
use crate::model::handover::Split;
use crate::model::links::{End, Traffic};
use crate::model::msg::Rejoined;
use crate::model::sessions::Session;
use crate::model::shortfall::Pause;
use crate::model::slots::Slot;
use crate::model::standing::{Link, Rung};
use crate::model::verdict::{NodeTally, Side};
use crate::model::{Model, Node, NodeName, ledger};

use super::words;

/// What a quantity is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Value {
    /// A number, in the base unit of its quantity: bytes, milliseconds, writes.
    Number(f64),
    /// A word.
    Text(String),
    /// Several lines; what is shown of them is the last.
    Lines(Vec<String>),
    /// It can't be known now.
    Unknown,
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(n) if n.fract() == 0.0 => write!(f, "{n:.0}"),
            Self::Number(n) => write!(f, "{n:.3}"),
            Self::Text(t) => f.write_str(t),
            Self::Lines(lines) => write!(f, "\"{}\"", lines.last().map_or("", String::as_str)),
            Self::Unknown => f.write_str("unknown"),
        }
    }
}

/// The dimension of a number, for units and errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Dimension {
    /// Plain count.
    Count,
    /// Bytes: B, kB, MB, GB.
    Bytes,
    /// Time, kept in milliseconds: us, ms, s, min.
    Time,
    /// A word.
    Text,
    /// Lines of text.
    Lines,
}

/// What a quantity is asked of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// The lab as a whole.
    Lab,
    /// A node: `name(node)`.
    Node,
    /// A kept SQL session: `name(session)`.
    Session,
}

impl Of {
    /// What stands in its parentheses; None where there are none.
    pub fn word(self) -> Option<&'static str> {
        match self {
            Self::Lab => None,
            Self::Node => Some("node"),
            Self::Session => Some("session"),
        }
    }
}

/// Whom a quantity is read from.
#[derive(Clone, Copy, Debug)]
enum Read {
    Lab(fn(&Model, Option<&Node>) -> Value),
    Session(fn(&Session) -> Value),
}

/// One quantity that can be asked of the model.
#[derive(Debug)]
pub struct Quantity {
    /// Its name.
    pub name: &'static str,
    /// What it is asked of.
    pub of: Of,
    /// What it is measured in.
    pub dimension: Dimension,
    /// What it says.
    pub help: &'static str,
    read: Read,
}

impl Quantity {
    /// Its value now, of the node or session of that name where it is asked of one.
    pub fn now(&self, model: &Model, of: Option<&NodeName>) -> Value {
        match self.read {
            Read::Lab(read) => read(model, of.and_then(|name| model.node(name))),
            Read::Session(read) => of.and_then(|n| model.sessions.get(n)).map_or(Value::Unknown, read),
        }
    }
}

macro_rules! quantities {
    ($($name:literal $of:tt $dim:ident $help:literal => $read:expr;)*) => {
        /// All quantities.
        pub const QUANTITIES: &[Quantity] = &[$(Quantity { name: $name, of: quantities!(@of $of), dimension: Dimension::$dim, help: $help, read: quantities!(@read $of $read) }),*];
    };
    (@of true) => { Of::Node };
    (@of false) => { Of::Lab };
    (@of session) => { Of::Session };
    (@read session $read:expr) => { Read::Session($read) };
    (@read $of:tt $read:expr) => { Read::Lab($read) };
}

quantities! {
    "state" true Text "created, running, frozen, down, gone or unknown" => |_, n| text(n.map_or("gone", state_word));
    "role" true Text "primary or standby, by its last answer" => |_, n| fresh(n).and_then(Node::role).map_or(Value::Unknown, |r| text(match r { Role::Primary => "primary", Role::Standby => "standby" }));
    "link" true Text "streaming, catchup, last-known, disconnected or forked, as its upstream has it" => |m, n| n.map_or(Value::Unknown, |n| link_word(&m.rung(n).link));
    "sync_state" true Text "async, potential, sync or quorum" => |m, n| n.map(|n| m.rung(n).sync_state).filter(|s| !s.is_empty()).map_or(Value::Unknown, Value::Text);
    "replay_lag" true Bytes "bytes that replay is behind the upstream" => |m, n| n.and_then(|n| m.rung(n).behind).map_or(Value::Unknown, |b| Value::Number(b as f64));
    "replay_age" true Time "time that replay is behind the upstream" => |m, n| n.and_then(|n| m.rung(n).lag_us).map_or(Value::Unknown, |us| Value::Number(us as f64 / 1e3));
    "sender_gives_up" true Time "time until its upstream gives up on the silent standby (wal_sender_timeout)" => |m, n| left(n.and_then(|n| m.sender_countdown(n)));
    "receiver_gives_up" true Time "time until the standby gives up on its silent upstream (wal_receiver_timeout)" => |m, n| left(n.and_then(|n| m.receiver_countdown(n)));
    "slot_status" true Text "wal_status of its slot on its upstream: reserved, extended, unreserved or lost" => |m, n| slot(m, n).and_then(|s| s.row.wal_status).map_or(Value::Unknown, Value::Text);
    "slot_kept" true Bytes "WAL that its slot on its upstream holds back" => |m, n| slot(m, n).and_then(|s| s.kept()).map_or(Value::Unknown, |b| Value::Number(b as f64));
    "slot_safe" true Bytes "WAL that may still be written before its slot may be lost (safe_wal_size)" => |m, n| slot(m, n).and_then(|s| s.row.safe_bytes).map_or(Value::Unknown, |b| Value::Number(b as f64));
    "timeline" true Count "the timeline it is on" => |_, n| fresh(n).and_then(|n| n.sample.as_ref()).map_or(Value::Unknown, |s| Value::Number(f64::from(s.timeline)));
    "replay_paused" true Text "yes or no" => |_, n| fresh(n).and_then(|n| n.sample.as_ref()).map_or(Value::Unknown, |s| text(yes(s.replay_paused)));
    "replay_paused_by" true Text "nobody, person (`replay pause`, or its function) or postgresql (a setting is lower than on the primary)" => |m, n| fresh(n).map_or(Value::Unknown, |n| paused_by(m, n));
    "idle" true Text "yes when nothing but the heartbeat is written and nothing is behind" => |m, n| n.map_or(Value::Unknown, |n| text(yes(m.rung(n).idle)));
    "reachable" true Text "whether SQL answers" => |_, n| text(yes(n.is_some_and(Node::answers)));
    "streaming" false Count "standbys that stream from the server that the clients write to" => |m, _| standbys(m, |r| matches!(&r.link, Link::Connected(state) if state == "streaming"));
    "lagging" false Count "standbys of that server that have not replayed all that it has written" => |m, _| standbys(m, |r| r.behind != Some(0));
    "rule" false Text "synchronous_standby_names of the server that the clients write to, or off" => |m, _| m.serving_rule_text().map_or(Value::Unknown, |r| text(if r.is_empty() { "off" } else { r }));
    "level" false Text "synchronous_commit of the writer" => |m, _| text(&m.writer.plan.level);
    "waiting" false Count "commits that wait for a standby on the server that the clients write to" => |m, _| fresh(m.serving_node()).map_or(Value::Unknown, |_| Value::Number(m.waiting().len() as f64));
    "tried" false Count "writes attempted" => |m, _| Value::Number(m.ledger.counts().tried as f64);
    "acked" false Count "writes acknowledged" => |m, _| Value::Number(m.ledger.counts().acked as f64);
    "warned" false Count "writes acknowledged with a warning" => |m, _| Value::Number(m.ledger.counts().acked_with_warning as f64);
    "failed" false Count "writes refused" => |m, _| Value::Number(m.ledger.counts().failed as f64);
    "unknown" false Count "writes without an answer" => |m, _| Value::Number(m.ledger.counts().unknown as f64);
    "pending" false Count "writes under way" => |m, _| Value::Number(m.ledger.counts().pending as f64);
    "commits_per_s" false Count "commits that return per second, over the last pulse" => |m, _| Value::Number(per_second(m));
    "p50" false Time "median commit latency, over the last pulse" => |m, _| m.writer.pulse.p50_us.map_or(Value::Unknown, |us| Value::Number(us as f64 / 1e3));
    "p99" false Time "99th percentile of commit latency, over the last pulse" => |m, _| m.writer.pulse.p99_us.map_or(Value::Unknown, |us| Value::Number(us as f64 / 1e3));
    "lost" false Count "acknowledged writes that the primary lacked at the last verify" => |m, _| m.verification.as_ref().map_or(Value::Unknown, |v| Value::Number(v.lost as f64));
    "acked_lost" false Count "the same as `lost`" => |m, _| m.verification.as_ref().map_or(Value::Unknown, |v| Value::Number(v.lost as f64));
    "stranded" false Count "lost ones that another node still holds" => |m, _| m.verification.as_ref().map_or(Value::Unknown, |v| Value::Number(v.stranded as f64));
    "verdict" false Text "sound, unknown or broken, at the last verify" => |m, _| m.verification.as_ref().map_or(Value::Unknown, |v| text(v.verdict.word()));
    "present" true Count "acknowledged writes that the node had at the last verify" => |m, n| tally(m, n).map_or(Value::Unknown, |t| Value::Number(t.present as f64));
    "missing" true Count "acknowledged writes that the node lacked at the last verify" => |m, n| tally(m, n).map_or(Value::Unknown, |t| Value::Number(t.missing as f64));
    "only_on" true Count "rows of the writer that no other primary had, at the last verify with two primaries" => |m, n| side(m, n, |s| ledger::count(&s.only));
    "lost_if_it_loses" true Count "the acknowledged ones among them: lost when another primary is kept" => |m, n| side(m, n, |s| s.acked_only);
    "rto" false Time "from the fault to the first acknowledged write on the new primary, at the last handover" => |m, _| split(m, |s| s.rto_ms);
    "detection" false Time "from the fault until it was noticed, at the last handover (switchover: until the old primary was down)" => |m, _| split(m, |s| s.detection_ms);
    "election" false Time "from then until the successor was chosen, fencing included" => |m, _| split(m, |s| s.election_ms);
    "promotion" false Time "from then until the successor accepted writes" => |m, _| split(m, |s| s.promotion_ms);
    "repoint" false Time "from the promotion until the others followed" => |m, _| split(m, |s| s.repoint_ms);
    "handover" false Text "none, waiting (for standbys), running, done or failed: the last failover or switchover" => |m, _| text(handover_word(m));
    "waits_for" false Text "the standbys that the election waits for" => |m, _| m.handover().map_or(Value::Unknown, |h| Value::Text(h.waits_for.join(" ")));
    "primaries" false Count "running nodes of the cluster that call themselves primary" => |m, _| Value::Number(primaries(m) as f64);
    "thrown_away" true Count "rows of the writer that only this node had when it came back last" => |m, n| rejoin(m, n).and_then(|r| r.only.as_ref().ok()).map_or(Value::Unknown, |ids| Value::Number(ledger::count(ids) as f64));
    "came_back" true Text "straight, rewound or rebuilt: how it came back last" => |m, n| rejoin(m, n).map_or(Value::Unknown, |r| text(r.road.word()));
    "sql_value" false Text "the first column of the first row that the last `sql` gave" => |m, _| m.sql.as_ref().and_then(|(_, r)| r.rows.first()?.first()?.clone()).map_or(Value::Unknown, Value::Text);
    "sql_rows" false Count "how many rows the last `sql` gave" => |m, _| m.sql.as_ref().map_or(Value::Unknown, |(_, r)| Value::Number((r.rows.len() as u64 + r.more) as f64));
    "sqlstate" false Text "the error code of the last `sql`, or ok" => |m, _| m.sql.as_ref().map_or(Value::Unknown, |(_, r)| text(r.error.as_ref().map_or("ok", |e| &e.0)));
    "faults" false Count "faults in force: of links and nodes" => |m, _| Value::Number(m.faults().len() as f64);
    "client_bytes" true Bytes "what went to the node and back over the clients' link, while a relay carries it" => |m, n| clients(m, n).map_or(Value::Unknown, |t| Value::Number((t.up.bytes + t.down.bytes) as f64));
    "client_messages" true Count "protocol messages over the clients' link, while a relay carries it" => |m, n| clients(m, n).and_then(|t| Some(t.up.messages? + t.down.messages?)).map_or(Value::Unknown, |n| Value::Number(n as f64));
    "round_trips" true Count "round trips over the clients' link, while a relay carries it" => |m, n| clients(m, n).map_or(Value::Unknown, |t| Value::Number(t.round_trips as f64));
    "disk_free" false Bytes "bytes free where the nodes' data is" => |m, _| m.disk_free.map_or(Value::Unknown, |b| Value::Number(b as f64));
    "writer_held" false Text "yes while the writer is held because the disk is low" => |m, _| text(yes(m.disk_low));
    "longest_wait" false Time "how long the commit that waits longest has waited for a standby" => |m, _| fresh(m.serving_node()).map_or(Value::Unknown, |_| Value::Number(m.waiting().iter().map(|w| w.age_us).max().unwrap_or(0) as f64 / 1e3));
    "slowest" false Time "the longest commit latency, over the last pulse" => |m, _| m.writer.pulse.max_us.map_or(Value::Unknown, |us| Value::Number(us as f64 / 1e3));
    "rows" true Count "rows of the writer that the node had at the last verify" => |m, n| tally(m, n).map_or(Value::Unknown, |t| Value::Number(t.rows as f64));
    "differing" false Count "writer rows present on only one of the two: a node or the primary; over all nodes, at the last verify" => |m, _| differing(m).map_or(Value::Unknown, |n| Value::Number(n as f64));
    "strays" false Count "rows of the writer on the primary that nobody tried to write, at the last verify" => |m, _| m.verification.as_ref().filter(|v| v.judged).map_or(Value::Unknown, |v| Value::Number(v.strays as f64));
    "elections_safe" false Text "no once an election was not covered by enough answers, or a laggard was promoted" => |m, _| text(yes(m.unsafe_election.is_none()));
    "only_here" true Count "rows that this one of two primaries has to itself, at the last verify" => |m, n| m.verification.as_ref().zip(n).and_then(|(v, n)| v.sides.get(&n.name)).map_or(Value::Unknown, |s| Value::Number(ledger::count(&s.only) as f64));
    "log" true Lines "the lines it has logged since the lesson's last act began; compare with ~ (one has it) or !~ (none has)" => |m, n| n.map_or(Value::Unknown, |n| words::lines(m, n));
    "session" session Text "running, idle, in_transaction, failed (a transaction that can only be rolled back) or closed" => |s| text(s.word());
    "session_value" session Text "the first column of the first row of its last statement" => |s| s.result.as_ref().and_then(|r| r.rows.first()?.first()?.clone()).map_or(Value::Unknown, Value::Text);
    "session_rows" session Count "how many rows its last statement gave" => |s| s.result.as_ref().map_or(Value::Unknown, |r| Value::Number((r.rows.len() as u64 + r.more) as f64));
    "session_error" session Text "the error code of its last statement, or ok" => |s| s.result.as_ref().map_or(Value::Unknown, |r| text(r.error.as_ref().map_or("ok", |e| &e.0)));
    "session_notice" session Lines "what its last statement brought as notices and warnings" => |s| s.result.as_ref().map_or(Value::Unknown, |r| Value::Lines(r.notices.clone()));
    "primary" false Text "the node the lab takes for the primary" => |m, _| m.primary.as_ref().map_or(Value::Unknown, |p| text(p.as_str()));
}

/// What the last verify read of a node.
fn tally<'a>(model: &'a Model, node: Option<&Node>) -> Option<&'a NodeTally> {
    let tally = model.verification.as_ref()?.nodes.get(&node?.name)?;
    tally.unreadable.is_none().then_some(tally)
}

/// Unknown where a node could not be read.
fn differing(model: &Model) -> Option<u64> {
    let nodes = &model.verification.as_ref().filter(|v| v.judged)?.nodes;
    nodes.values().map(|tally| tally.unreadable.is_none().then_some(tally.apart)).sum()
}

fn split(model: &Model, part: fn(&Split) -> Option<f64>) -> Value {
    model.handovers.last().and_then(|h| part(&h.split())).map_or(Value::Unknown, Value::Number)
}

/// What a primary has to itself, where two were read.
fn side(model: &Model, node: Option<&Node>, of: fn(&Side) -> u64) -> Value {
    let side = model.verification.as_ref().zip(node).and_then(|(v, n)| v.sides.get(&n.name));
    side.map_or(Value::Unknown, |s| Value::Number(of(s) as f64))
}

fn handover_word(model: &Model) -> &'static str {
    match (model.handovers.last(), model.handover()) {
        (None, _) => "none",
        (_, Some(h)) if !h.waits_for.is_empty() => "waiting",
        (_, Some(_)) => "running",
        (Some(h), None) if h.failed.is_some() => "failed",
        _ => "done",
    }
}

fn primaries(model: &Model) -> usize {
    let is = |n: &&Node| n.state == NodeState::Running && n.is_primary_now();
    let ours = |n: &&Node| n.sample.as_ref().map(|s| s.system_identifier) == model.system_identifier;
    model.nodes.iter().filter(is).filter(ours).count()
}

fn rejoin<'a>(model: &'a Model, node: Option<&Node>) -> Option<&'a Rejoined> {
    let name = &node?.name;
    model.rejoins.iter().rev().find(|(_, n, _)| n == name).map(|(_, _, how)| how)
}

fn text(word: &str) -> Value {
    Value::Text(word.to_owned())
}

fn yes(it_is: bool) -> &'static str {
    if it_is { "yes" } else { "no" }
}

fn fresh(node: Option<&Node>) -> Option<&Node> {
    node.filter(|n| n.answers())
}

fn paused_by(model: &Model, node: &Node) -> Value {
    match model.pause_of(node) {
        None => text("nobody"),
        Some(Pause::Unknown) => Value::Unknown,
        Some(pause) => text(pause.word()),
    }
}

/// What has passed between the clients and a node.
fn clients<'a>(model: &'a Model, node: Option<&Node>) -> Option<&'a Traffic> {
    model.traffic.iter().find(|t| t.from == End::Client && t.to.node() == node.map(|n| &n.name))
}

fn state_word(node: &Node) -> &'static str {
    match node.state {
        NodeState::Created => "created",
        NodeState::Running => "running",
        NodeState::Frozen => "frozen",
        NodeState::Exited(_) => "down",
        NodeState::Unknown => "unknown",
    }
}

/// How many standbys of the server that the clients write to are so.
fn standbys(model: &Model, so: impl Fn(&Rung) -> bool) -> Value {
    let Some(server) = fresh(model.serving_node()) else { return Value::Unknown };
    let ladder = model.ladder();
    Value::Number(ladder.iter().filter(|r| r.upstream.as_ref() == Some(&server.name) && so(r)).count() as f64)
}

fn slot(model: &Model, node: Option<&Node>) -> Option<Slot> {
    model.slot_of(node?).filter(|s| s.fresh)
}

fn left(countdown: Option<Countdown>) -> Value {
    countdown.and_then(|c| c.left_ms()).map_or(Value::Unknown, |ms| Value::Number(ms as f64))
}

fn link_word(link: &Link) -> Value {
    match link {
        Link::Connected(state) => text(state),
        Link::LastKnown { .. } => text("last-known"),
        Link::Disconnected => text("disconnected"),
        Link::Forked => text("forked"),
        Link::Unseen => Value::Unknown,
    }
}

fn per_second(model: &Model) -> f64 {
    let pulse = &model.writer.pulse;
    if pulse.interval_us == 0 { 0.0 } else { pulse.commits as f64 * 1e6 / pulse.interval_us as f64 }
}

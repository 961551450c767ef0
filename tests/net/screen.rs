//! What the screen says, as values: taken from the same derivations that panels, badges and conditions show. Judges nothing.

use replab::model::cluster::WaitingCommit;
use replab::model::condition::{QUANTITIES, Value};
use replab::model::links::Harm;
use replab::model::{Fault, Model, Node, NodeName};

/// Everything that is said at one moment.
#[derive(Clone, Debug)]
pub struct Screen {
    pub nodes: Vec<NodeSays>,
    /// The server whose rule is shown, and the rule as it is shown.
    pub rule: Option<(String, String)>,
    /// The rule in plain words.
    pub words: String,
    pub waits: Vec<WaitSays>,
    pub sessions: Vec<SessionSays>,
}

/// What is said of a node.
#[derive(Clone, Debug)]
pub struct NodeSays {
    pub name: String,
    /// Whether it answers; when not, all the rest is said to be old, and isn't judged.
    pub answers: bool,
    /// When the look began that it was said by, in microseconds of the lab's life.
    pub looked: u64,
    pub role: Option<String>,
    pub timeline: Option<u32>,
    pub upstream: Option<String>,
    /// Its link to its upstream, and whether that is told of a fresh look.
    pub link: Option<String>,
    pub sync_state: Option<String>,
    pub behind: Option<u64>,
    /// Replay stands still, and by whose order: `nobody`, `person` or `postgresql`.
    pub paused: Option<String>,
    pub slots: Vec<SlotSays>,
    /// What it has to confirm may be on its way for any time.
    pub throttled: bool,
}

/// What is said of a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotSays {
    pub name: String,
    pub status: Option<String>,
    pub active: bool,
}

/// What is said of a commit that waits.
#[derive(Clone, Debug)]
pub struct WaitSays {
    /// The server that it waits on.
    pub server: String,
    /// Its backend there.
    pub pid: i32,
    pub age_ms: u64,
    /// The standbys whose answer it waits for.
    pub on: Vec<String>,
}

/// What is said of a kept session.
#[derive(Clone, Debug)]
pub struct SessionSays {
    pub name: String,
    pub node: String,
    pub word: String,
    /// Its backend, by its own word: the sessions of a net begin with `SELECT pg_backend_pid()`.
    pub pid: Option<i32>,
}

fn asked(model: &Model, quantity: &str, of: &NodeName) -> Option<String> {
    let row = QUANTITIES.iter().find(|q| q.name == quantity).unwrap_or_else(|| panic!("there is no {quantity}"));
    match row.now(model, Some(of)) {
        Value::Unknown => None,
        value => Some(value.to_string()),
    }
}

impl Screen {
    pub fn of(model: &Model) -> Self {
        let server = model.serving().map(ToString::to_string);
        Self {
            nodes: model.nodes.iter().map(|n| node(model, n)).collect(),
            rule: server.clone().zip(model.serving_rule_text().map(str::to_owned)),
            words: model.rule_in_words(),
            waits: server.map_or_else(Vec::new, |server| waits(model, &server)),
            sessions: model.sessions.iter().map(|(name, s)| session(name, s)).collect(),
        }
    }

    pub fn node(&mut self, name: &str) -> &mut NodeSays {
        self.nodes.iter_mut().find(|n| n.name == name).expect("a node")
    }
}

fn node(model: &Model, node: &Node) -> NodeSays {
    let ask = |quantity| asked(model, quantity, &node.name);
    let took = node.sample.as_ref().map_or(0, |s| s.took_us);
    let slots = model.slots().into_iter().filter(|s| s.on == node.name && s.fresh);
    let slow = |f: &Fault| match f {
        Fault::Link(f) => {
            matches!(f.harm, Harm::Throttle(_)) && [f.from.node(), f.to.node()].contains(&Some(&node.name))
        }
        _ => false,
    };
    NodeSays {
        name: node.name.to_string(),
        answers: node.answers(),
        looked: node.seen.map_or(0, |seen| seen.0.saturating_sub(took)),
        role: ask("role"),
        timeline: ask("timeline").and_then(|t| t.parse().ok()),
        upstream: node.upstream.as_ref().map(ToString::to_string),
        link: ask("link"),
        sync_state: ask("sync_state"),
        behind: ask("replay_lag").and_then(|b| b.parse().ok()),
        paused: ask("replay_paused_by"),
        slots: slots.map(|s| SlotSays { name: s.row.name, status: s.row.wal_status, active: s.row.active }).collect(),
        throttled: model.faults().iter().any(slow),
    }
}

/// Those that the screen names, of those that the server lists.
fn waits(model: &Model, server: &str) -> Vec<WaitSays> {
    let needs = model.needs();
    let on: Vec<String> = needs.each.into_iter().chain(needs.any.into_iter().flat_map(|(_, names)| names)).collect();
    let who = |w: &WaitingCommit| match w.application.strip_prefix("replab writer ") {
        Some(client) => format!("client {client}"),
        None => format!("pid {}", w.pid),
    };
    let said = |w: &WaitingCommit| {
        let named = model.waits().into_iter().find(|named| named.listed && named.who == who(w))?;
        Some(WaitSays { server: server.to_owned(), pid: w.pid, age_ms: named.age_us / 1_000, on: on.clone() })
    };
    model.waiting().iter().filter_map(said).collect()
}

fn session(name: &NodeName, session: &replab::model::sessions::Session) -> SessionSays {
    let value = session.result.as_ref().and_then(|r| r.rows.first()?.first()?.clone());
    SessionSays {
        name: name.to_string(),
        node: session.node.to_string(),
        word: session.word().to_owned(),
        pid: value.and_then(|v| v.parse().ok()),
    }
}

//! What a server's end, its freezing or a link's fault means for those at the other side: who learns of it at once, and who doesn't. Words
//! only; claims no more than the lab knows.

use crate::model::cluster::{NodeState, Role, SenderRow};
use crate::model::links::{End, Harm, Which};
use crate::model::{Model, Node, NodeName};

/// A node was killed.
pub fn killed(model: &Model, name: &NodeName) -> String {
    let others: Vec<&str> = model.rivals().filter(|n| n.name != *name).map(|n| n.name.as_str()).collect();
    if model.primary.as_ref() == Some(name) {
        return match (others.as_slice(), model.nodes.iter().any(|n| n.role() == Some(Role::Standby))) {
            ([], true) => {
                format!("{name} is killed: no server accepts writes until {name} is started or a standby is promoted")
            }
            ([], false) => format!("{name} is killed: no server accepts writes until {name} is started"),
            (others, _) => format!("{name} is killed; {} still accepts writes", others.join(", ")),
        };
    }
    format!(
        "{name} is killed{}",
        model.node(name).map_or(String::new(), |node| whether_its_upstream_knows(model, node))
    )
}

/// Whether a server lists a receiver of this name.
fn lists(senders: &[SenderRow], name: &NodeName) -> bool {
    senders.iter().any(|row| row.name.eq_ignore_ascii_case(name.as_str()))
}

/// The end of a connection is news like any other: it goes the way that the standby's bytes go.
fn whether_its_upstream_knows(model: &Model, node: &Node) -> String {
    let Some(upstream) = node.upstream.as_ref().and_then(|up| model.node(up)) else { return String::new() };
    let up = &upstream.name;
    let connected = upstream.sample.as_ref().is_some_and(|s| lists(&s.senders, &node.name));
    let back = model.links.between(&node.name, up);
    match upstream.state {
        NodeState::Running if !connected => String::new(),
        NodeState::Running if back.cut => {
            let limit = upstream.sample.as_ref().map_or(0, |s| s.settings.wal_sender_timeout_ms);
            let until = if limit > 0 { " until wal_sender_timeout" } else { "" };
            format!(": behind the cut {up} isn't told, and goes on counting it as connected{until}")
        }
        NodeState::Running => match back.slow {
            Some(slow) => format!(": its connections closed at once, and {up} hears of it {slow} later"),
            None => format!(": its connections closed at once, so {up} knows"),
        },
        NodeState::Frozen => format!(": {up} is frozen and learns of it when it is thawed"),
        _ => String::new(),
    }
}

/// A node was shut down. A primary waits for each standby that is connected; one behind a cut it gives up at last.
pub fn stopped(model: &Model, name: &NodeName) -> String {
    let is = format!("{name} is shut down cleanly");
    let Some(node) = model.node(name).filter(|n| n.role() == Some(Role::Primary)) else { return is };
    let senders = node.sample.as_ref().map_or(&[][..], |s| &s.senders);
    let connected = model.nodes.iter().filter(|n| lists(senders, &n.name));
    let reached = |n: &&Node| n.state == NodeState::Running && !model.is_cut(name, &n.name);
    let (have, lack): (Vec<&Node>, Vec<&Node>) = connected.partition(reached);
    let list = |nodes: &[&Node]| nodes.iter().map(|n| n.name.as_str()).collect::<Vec<_>>().join(", ");
    match (have.as_slice(), lack.as_slice()) {
        ([], []) => is,
        (have, []) => format!("{is}: it sent all that it had to {}", list(have)),
        ([], lack) => format!("{is}: what it had last may not have come to {}", list(lack)),
        (have, lack) => {
            format!("{is}: it sent all that it had to {}; it may not have come to {}", list(have), list(lack))
        }
    }
}

/// A node was frozen.
pub fn frozen(model: &Model, name: &NodeName) -> String {
    let upstream = model.node(name).and_then(|n| n.upstream.as_ref()).and_then(|up| model.node(up));
    let rows = |n: Option<&Node>| n.and_then(|n| n.sample.as_ref()).map(|s| s.senders.clone()).unwrap_or_default();
    let followed = !rows(model.node(name)).is_empty();
    let follows = lists(&rows(upstream), name);
    let served = model.serving() == Some(name);
    if followed || follows || served {
        format!("{name} is frozen: connected but silent. The others give up on it only after a timeout")
    } else {
        format!("{name} is frozen: it answers nobody")
    }
}

/// A node was fenced.
pub fn fenced(model: &Model, name: &NodeName) -> String {
    let rivals: Vec<&str> = model.rivals().map(|n| n.name.as_str()).collect();
    match &model.primary {
        Some(p) if rivals.is_empty() => {
            format!(
                "{name} is fenced: {p} is the only primary. `verify` says what is lost, `rejoin {name}` brings it back"
            )
        }
        Some(p) => format!("{name} is fenced; {p} and {} are primaries still", rivals.join(", ")),
        None => format!("{name} is fenced"),
    }
}

/// Waits were cancelled: the server answers its clients, and the answer goes the clients' way.
pub fn cancelled(model: &Model, waits: u64) -> String {
    let server = model.serving().cloned();
    let cut = server.is_some_and(|s| model.links.lane(&End::Node(s), &End::Client).cut);
    let but = if cut { ", which the cut keeps from the clients" } else { "" };
    format!(
        "{waits} waits cancelled: those commits are acknowledged with a warning{but}; they are there on the primary, perhaps \
         nowhere else"
    )
}

/// Links have a fault.
pub fn link(model: &Model, harm: Harm, which: &Which) -> String {
    let what = which.in_words();
    let pairs = which.pairs(model.names());
    let cut = pairs.iter().any(|(a, b)| model.links.is_cut(a, b));
    let healed = if cut { ", once the cut is healed" } else { "" };
    match (harm, which) {
        (Harm::Cut, Which::Of(end)) => format!("{end} is isolated: {what} is cut, silently; nobody is told"),
        (Harm::Cut, Which::Toward(a, b)) if model.links.lane(b, a).cut => {
            format!("{what} is cut, silently: neither side is told")
        }
        (Harm::Cut, Which::Toward(a, b)) if [a, b].iter().all(|end| hears(model, end)) => {
            format!("{what} is cut, silently: {b} hears nothing from {a}, and {a} still hears {b}")
        }
        (Harm::Cut, Which::Toward(a, b)) => format!("{what} is cut, silently: {b} hears nothing from {a}"),
        (Harm::Cut, _) => format!("{what} is cut, silently: neither side is told"),
        (Harm::Refuse, _) if cut => {
            format!("connections are refused on {what}; behind the cut nobody is told until it is healed")
        }
        (Harm::Refuse, _) => {
            let ends: Vec<&End> = pairs.iter().flat_map(|(a, b)| [a, b]).collect();
            match ends.into_iter().find(|end| is_frozen(model, end)) {
                Some(deaf) => format!(
                    "connections are refused on {what}: open ones are reset; {deaf} is frozen and learns of it later"
                ),
                None => format!("connections are refused on {what}: open ones are reset, so both sides know at once"),
            }
        }
        (Harm::Slow(slow), Which::Toward(..)) => format!("everything on {what} comes {slow} later{healed}"),
        (Harm::Slow(slow), _) => format!("everything on {what} comes {slow} later, each way{healed}"),
        (Harm::Throttle(_), _) => format!("{what} carries {} and no more{healed}", harm.amount()),
    }
}

/// Of a fault between ends of which neither follows the other now: it is the pair's, and waits for its link.
pub fn to_come(harm: Harm, which: &Which) -> String {
    let what = which.in_words();
    let fault = match harm {
        Harm::Cut => "cut".to_owned(),
        Harm::Refuse => "refused".to_owned(),
        Harm::Slow(slow) => format!("slowed by {slow}"),
        Harm::Throttle(_) => format!("limited to {}", harm.amount()),
    };
    format!("nothing goes over {what} now; from its first connection on it is {fault}")
}

fn is_frozen(model: &Model, end: &End) -> bool {
    end.node().and_then(|n| model.node(n)).is_some_and(|n| n.state == NodeState::Frozen)
}

/// Whether an end takes in what comes to it.
fn hears(model: &Model, end: &End) -> bool {
    end.node().is_none_or(|n| model.node(n).is_some_and(|n| n.state == NodeState::Running))
}

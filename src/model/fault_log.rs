//! Which fault was in force from when to when: the faults of each moment compared with those of the moment before.

use serde::{Deserialize, Serialize};

use super::links::{Harm, LinkFault};
use super::{Fault, Model, NodeName, Stage, Stamp};

/// Spans that are kept; a run of chaos has hundreds.
const SPANS: usize = 10_000;

/// One fault while it lasted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultSpan {
    /// What kind, in a word: cut, frozen, down and so on (docs/report-format.md lists them).
    pub kind: String,
    /// The fault in words, names and all.
    pub what: String,
    /// Since when.
    pub from: Stamp,
    /// Until when; None while it lasts.
    pub to: Option<Stamp>,
}

/// Takes in how things are now.
pub(super) fn keep(model: &mut Model) {
    if model.stage != Stage::Live {
        return;
    }
    // What a reset does to nodes is no fault.
    let now = if model.is_resetting() { Vec::new() } else { in_force(model) };
    let at = model.now;
    for span in model.fault_log.iter_mut().filter(|s| s.to.is_none()) {
        if !now.iter().any(|(_, what)| *what == span.what) {
            span.to = Some(at);
        }
    }
    for (kind, what) in now {
        if !model.fault_log.iter().any(|s| s.to.is_none() && s.what == what) {
            model.fault_log.push(FaultSpan { kind: kind.to_owned(), what, from: at, to: None });
        }
    }
    let over = model.fault_log.len().saturating_sub(SPANS);
    model.fault_log.drain(..over);
}

/// A process of a server died and took all its sessions with it: over at once.
pub(super) fn crashed(model: &mut Model, node: &NodeName) {
    let (at, what) = (model.now, format!("a process of {node} died"));
    model.fault_log.push(FaultSpan { kind: "crash".to_owned(), what, from: at, to: Some(at) });
}

/// The faults that `heal` knows, and those that it can't mend.
fn in_force(model: &Model) -> Vec<(&'static str, String)> {
    let engine = model.engine_down.iter().map(|_| ("engine-lost", "the engine doesn't answer".to_owned()));
    let slots =
        model.nodes.iter().flat_map(|n| n.sample.iter().flat_map(|s| &s.slots).map(move |slot| (&n.name, slot)));
    let lost = slots.filter(|(_, slot)| slot.wal_status.as_deref() == Some("lost"));
    let lost = lost.map(|(on, slot)| ("slot-lost", format!("slot {} on {on} is lost", slot.name)));
    model.faults().iter().map(|f| (kind(f), words(f))).chain(engine).chain(lost).collect()
}

/// One word for each kind.
fn kind(fault: &Fault) -> &'static str {
    match fault {
        Fault::Link(LinkFault { harm: Harm::Cut, .. }) => "cut",
        Fault::Link(LinkFault { harm: Harm::Refuse, .. }) => "refused",
        Fault::Link(LinkFault { harm: Harm::Slow(_), .. }) => "slow",
        Fault::Link(LinkFault { harm: Harm::Throttle(_), .. }) => "throttled",
        Fault::Isolated(_) => "isolated",
        Fault::Frozen(_) => "frozen",
        Fault::Down(_) => "down",
        Fault::ReplayPaused(_) => "replay-paused",
        Fault::ReplayStopped(..) => "replay-stopped",
        Fault::Rival(_) => "second-primary",
    }
}

fn words(fault: &Fault) -> String {
    match fault {
        Fault::Link(fault) => fault.to_string(),
        Fault::Isolated(end) => format!("{end} is isolated"),
        Fault::Frozen(n) => format!("{n} is frozen"),
        Fault::Down(n) => format!("{n} is down"),
        Fault::ReplayStopped(n, why) => format!("{n} has stopped replaying: {why}"),
        Fault::ReplayPaused(n) => format!("replay on {n} is paused"),
        Fault::Rival(n) => format!("{n} is a primary too"),
    }
}

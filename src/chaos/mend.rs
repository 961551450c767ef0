//! How a lab is brought back after a round: one command after another until everything streams again. Pure: looks at the model
//! and says what is next.

use crate::model::cluster::{NodeState, Role};
use crate::model::command::Command;
use crate::model::standing::Link;
use crate::model::{Fault, Model, Node, NodeName, Op, Stage, Stamp};

/// A standby that doesn't stream so long after the last act won't by itself: it is brought back as if it had left.
pub const STUCK_MS: u64 = 2_500;

/// What to do next; None: nothing but wait. `still_ms`: for how long nothing has been done. Asked again when that has ended.
pub fn next(model: &Model, still_ms: u64) -> Option<Command> {
    if model.stage != Stage::Live || model.ops.values().any(|op| !aside(model, op)) {
        return None;
    }
    if model.detector.auto.is_some() {
        return Some(Command::AutoFailover(None));
    }
    if model.faults().iter().any(|f| heals(model, f)) {
        return Some(Command::Heal(None));
    }
    let primary = model.primary_node().filter(|n| n.answers())?;
    let mut others = model.nodes.iter().filter(|n| n.name != primary.name && model.return_of(&n.name).is_none());
    others.find_map(|n| bring_back(model, n, &primary.name, still_ms))
}

/// A standby that starts or comes back leaves the others alone: they can be brought back meanwhile.
pub fn aside(model: &Model, op: &Op) -> bool {
    let own = |node| model.primary.as_ref() == Some(node);
    matches!(&op.command, Some(Command::Start(node) | Command::Rejoin { node, .. }) if !own(node))
}

/// Whether `heal` undoes it. A former primary that is down is left as it is.
fn heals(model: &Model, fault: &Fault) -> bool {
    match fault {
        Fault::Rival(_) => false,
        Fault::Down(n) if model.return_of(n).is_some() => false,
        Fault::Down(n) => model.primary.as_ref() == Some(n) || model.node(n).is_some_and(is_standby),
        Fault::Link(_) | Fault::Isolated(_) | Fault::Frozen(_) | Fault::ReplayPaused(_) | Fault::ReplayStopped(..) => {
            true
        }
    }
}

fn is_standby(node: &Node) -> bool {
    node.role() == Some(Role::Standby)
}

fn bring_back(model: &Model, node: &Node, primary: &NodeName, still_ms: u64) -> Option<Command> {
    let rejoin = || Some(Command::Rejoin { node: node.name.clone(), way: None });
    match &node.upstream {
        // It was a primary, or its return broke off.
        _ if !is_standby(node) || node.forked_told || model.has_diverged(node) => rejoin(),
        _ if node.state != NodeState::Running => rejoin(),
        Some(up) if up == primary => {
            if still_ms >= STUCK_MS && !streams(model, node) {
                rejoin()
            } else {
                None
            }
        }
        _ => Some(Command::Follow { standby: node.name.clone(), upstream: primary.clone() }),
    }
}

fn streams(model: &Model, node: &Node) -> bool {
    matches!(model.rung(node).link, Link::Connected(state) if state == "streaming")
}

/// Whether everything is as it should be, by looks taken wholly after `since`: no fault, every node answers and streams from
/// the primary, on its timeline. Else what isn't.
pub fn whole(model: &Model, since: Stamp) -> Result<(), String> {
    if let Some(op) = model.ops.values().next() {
        let what = op.command.as_ref().map_or_else(|| "bring-up".to_owned(), ToString::to_string);
        return Err(format!("`{what}` has not ended"));
    }
    if !model.faults().is_empty() {
        return Err(format!("{} faults are in force", model.faults().len()));
    }
    let primary = model.primary_node().ok_or("there is no primary")?;
    for node in &model.nodes {
        let name = &node.name;
        let sample = node.sample.as_ref().filter(|_| node.answers()).ok_or_else(|| format!("{name} doesn't answer"))?;
        let looked = node.seen.is_some_and(|seen| seen.0.saturating_sub(sample.took_us) >= since.0);
        if !looked {
            return Err(format!("{name} has not been looked at since"));
        }
        let timeline = primary.sample.as_ref().map(|s| s.timeline);
        match (sample.role, name == &primary.name) {
            (Role::Primary, false) => return Err(format!("{name} is a primary too")),
            (Role::Standby, true) => return Err(format!("{name} is a standby, and should be the primary")),
            (Role::Standby, false) if node.upstream.as_ref() != Some(&primary.name) => {
                return Err(format!("{name} doesn't follow {}", primary.name));
            }
            (Role::Standby, false) if !streams(model, node) => {
                return Err(format!("{name} doesn't stream from {}: {}", primary.name, word(model, node)));
            }
            (Role::Standby, false) if Some(sample.timeline) != timeline => {
                return Err(format!("{name} is on timeline {}, and not on that of {}", sample.timeline, primary.name));
            }
            _ => {}
        }
    }
    Ok(())
}

fn word(model: &Model, node: &Node) -> String {
    match model.rung(node).link {
        Link::Connected(state) => state,
        Link::LastKnown { state, ms } => format!("last known as {state} {ms} ms ago"),
        Link::Disconnected => "disconnected".to_owned(),
        Link::Forked => "forked".to_owned(),
        Link::Unseen => "never seen".to_owned(),
    }
}

/// Whether no write is under way and every standby has replayed all there is, by looks taken after `since`. Else what isn't so.
pub fn level(model: &Model, since: Stamp) -> Result<(), String> {
    whole(model, since)?;
    let pending = model.ledger.counts().pending;
    if pending > 0 {
        return Err(format!("{pending} writes are still under way"));
    }
    match model.ladder().into_iter().find(|r| r.behind != Some(0)) {
        Some(r) => {
            Err(format!("{} is {} bytes behind", r.name, r.behind.map_or("unknown".to_owned(), |b| b.to_string())))
        }
        None => Ok(()),
    }
}

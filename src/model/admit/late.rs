//! Judgments from a look that is older than the last act on a node: what they refuse may be right by now. The next look decides, and it
//! is a quarter of a second away.

use super::handover::nothing_else;
use crate::model::cluster::NodeState;
use crate::model::command::Command;
use crate::model::standing::Link;
use crate::model::{Model, Node, NodeName};

/// Looks that don't come within this are waited for no longer.
const PATIENCE_MS: u64 = 2_000;

/// Whether the judge of this command goes by a node of which only a look that is due tells how it is.
pub(super) fn look_is_due(model: &Model, command: &Command) -> bool {
    // That something else is under way needs no look.
    if !matches!(command, Command::Rejoin { .. }) && nothing_else(model).is_err() {
        return false;
    }
    concerned(model, command).into_iter().any(|node| unsettled(model, node)) || is_on_its_way(model, command)
}

fn concerned<'a>(model: &'a Model, command: &'a Command) -> Vec<&'a Node> {
    let named: Vec<&NodeName> = match command {
        Command::Promote(n) | Command::PauseReplay(n) | Command::ResumeReplay(n) | Command::Fence(n) => vec![n],
        Command::Follow { standby, upstream } => vec![standby, upstream],
        Command::Rejoin { node, .. } => {
            model.node(node).and_then(|n| n.upstream.as_ref()).into_iter().chain([node]).collect()
        }
        Command::Switchover(_) | Command::Failover { .. } | Command::FollowAll(_) => model.names().collect(),
        _ => Vec::new(),
    };
    named.into_iter().filter_map(|name| model.node(name)).collect()
}

/// Whether something was just done that no look has told the outcome of.
fn unsettled(model: &Model, node: &Node) -> bool {
    let begun = node.seen.zip(node.sample.as_ref()).map(|(seen, sample)| seen.0.saturating_sub(sample.took_us));
    let unseen = node.acted.is_some_and(|acted| begun.is_none_or(|begun| begun < acted.0));
    unseen && node.state == NodeState::Running && just_now(model, node)
}

fn just_now(model: &Model, node: &Node) -> bool {
    node.acted.is_some_and(|acted| model.now.ms_since(acted) < PATIENCE_MS)
}

/// Whether the next primary was just told to follow the present one, and doesn't stream yet.
fn is_on_its_way(model: &Model, command: &Command) -> bool {
    let Command::Switchover(name) = command else { return false };
    let follows = |n: &&Node| n.state == NodeState::Running && n.upstream == model.primary && just_now(model, n);
    let streams = |n: &Node| matches!(model.rung(n).link, Link::Connected(state) if state == "streaming");
    model.node(name).filter(follows).is_some_and(|n| !streams(n))
}

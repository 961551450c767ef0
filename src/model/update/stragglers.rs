//! Standbys that were away when the primary's part moved: each is told to follow the new primary as soon as it answers. Knows
//! nothing of how a standby is told.

use super::handing_over::{followers_of, moves_the_primary};
use crate::model::cluster::{NodeState, Role};
use crate::model::command::Command;
use crate::model::journal::{Tone, Who};
use crate::model::msg::{Effect, Origin};
use crate::model::{Model, Node, NodeName};

/// A handover is through: who still follows the old primary is remembered, and said. `missed`: those that were told and didn't
/// come, and why.
pub fn left_behind(model: &mut Model, old: &NodeName, new: &NodeName, missed: &[(NodeName, String)]) {
    let behind: Vec<NodeName> = followers_of(model, old).map(|n| n.name.clone()).filter(|n| n != new).collect();
    for name in behind {
        let why = match missed.iter().find(|(n, _)| *n == name) {
            Some((_, why)) => why.clone(),
            None => model.node(&name).map_or("gone", |n| away(&n.state)).to_owned(),
        };
        let text = format!("{name} still follows {old} ({why}); it is told to follow {new} as soon as it answers");
        model.say(Who::Lab, Tone::Warn, text);
        model.astray.insert(name, old.clone());
    }
}

fn away(state: &NodeState) -> &'static str {
    match state {
        NodeState::Frozen => "it is frozen",
        NodeState::Exited(_) => "it is down",
        _ => "it didn't answer",
    }
}

/// Tells those that are back. Where a person has given one another upstream meanwhile, that holds.
pub fn call_in(model: &mut Model) -> Vec<Effect> {
    if model.astray.is_empty() {
        return Vec::new();
    }
    let moving = model.ops.values().filter_map(|op| op.command.as_ref()).any(|c| *c == Command::Reset || moves(c));
    let Some(primary) = model.primary_node().filter(|n| n.answers() && !moving).map(|n| n.name.clone()) else {
        return Vec::new();
    };
    let astray = std::mem::take(&mut model.astray);
    let mut effects = Vec::new();
    for (name, old) in astray {
        let Some(node) = model.node(&name).filter(|n| n.upstream.as_ref() == Some(&old) && old != primary) else {
            continue;
        };
        if !is_back(model, node) {
            model.astray.insert(name, old);
        } else if node.role() == Some(Role::Standby) {
            effects.extend(tell(model, &name, &old, &primary));
        }
    }
    effects
}

/// Whether it was seen to answer since it runs again: right after its start the last good look is the one before its end. While it
/// is being started or thawed it is left alone.
fn is_back(model: &Model, node: &Node) -> bool {
    let begun = node.seen.zip(node.sample.as_ref()).map(|(seen, sample)| seen.0.saturating_sub(sample.took_us));
    let coming = |c: &Command| matches!(c, Command::Start(n) | Command::Raise(n) | Command::Thaw(n) if *n == node.name);
    let busy = model.ops.values().filter_map(|op| op.command.as_ref()).any(coming);
    node.answers() && !busy && begun.is_some_and(|begun| begun >= node.state_since.0)
}

fn moves(command: &Command) -> bool {
    moves_the_primary(command) && !matches!(command, Command::Start(_))
}

fn tell(model: &mut Model, name: &NodeName, old: &NodeName, primary: &NodeName) -> Vec<Effect> {
    let text =
        format!("{name} is back and still follows {old}, which is no primary any more: it is told to follow {primary}");
    model.say(Who::Lab, Tone::Plain, text);
    let command = Command::Follow { standby: name.clone(), upstream: primary.clone() };
    match super::commands::request(model, command.clone(), Origin::Lab) {
        Ok((_, effects)) => effects,
        Err(why) => {
            model.say(Who::Lab, Tone::Bad, format!("{command}: {why}"));
            Vec::new()
        }
    }
}

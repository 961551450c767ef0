//! Commands that wait for a look: what is known of a node is older than what was last done to it, and would refuse them wrongly.

use super::{commands, outcomes};
use crate::model::admit::{admit_now, look_is_due};
use crate::model::command::Command;
use crate::model::journal::Tone;
use crate::model::msg::{Effect, OpId, Origin};
use crate::model::{Model, NodeName, Op};

/// Whether a command that is judged so now has to wait. A rejoin throws away what a node has to itself: it never goes by an old look.
pub fn must_wait(model: &Model, command: &Command, verdict: &Result<(), String>) -> bool {
    (verdict.is_err() || matches!(command, Command::Rejoin { .. })) && look_is_due(model, command)
}

/// The command is under way, and begins when the look has come.
pub fn put_off(model: &mut Model, command: Command, origin: Origin) -> OpId {
    let id = commands::number(model);
    let op = Op {
        command: Some(command),
        origin,
        since: model.now,
        books: None,
        unsafe_election: None,
        targets: Vec::new(),
        put_off: true,
    };
    model.ops.insert(id, op);
    id
}

/// Begins those whose look has come, or refuses them.
pub fn take_up(model: &mut Model) -> Vec<Effect> {
    let waiting: Vec<OpId> = model.ops.iter().filter(|(_, op)| op.put_off).map(|(id, _)| *id).collect();
    let mut effects = Vec::new();
    for id in waiting {
        let Some(op) = model.ops.remove(&id) else { continue };
        let Some(command) = op.command.clone() else { continue };
        let verdict = admit_now(model, &command);
        if must_wait(model, &command, &verdict) {
            model.ops.insert(id, op);
            continue;
        }
        match verdict.and_then(|()| commands::carry(model, id, command.clone(), op.origin)) {
            Ok(work) => effects.extend(work),
            Err(why) => {
                // A lesson says itself what became of its step.
                if op.origin != Origin::Script {
                    model.say(op.origin.into(), Tone::Bad, format!("{command}: {why}"));
                }
                outcomes::remember(model, id, Some(why));
            }
        }
    }
    effects
}

/// What an operation may have changed for which nodes, so that only their next look tells how they are.
pub fn done(model: &mut Model, command: &Command) {
    let upstream_of = |n: &NodeName| model.node(n).and_then(|n| n.upstream.clone());
    let with_upstream = |n: &NodeName| [Some(n.clone()), upstream_of(n)].into_iter().flatten().collect();
    let touched: Vec<NodeName> = match command {
        Command::Sql { node, .. } | Command::PauseReplay(node) | Command::ResumeReplay(node) => vec![node.clone()],
        Command::Start(n)
        | Command::Raise(n)
        | Command::Thaw(n)
        | Command::Kill(n)
        | Command::Stop(n)
        | Command::Fence(n)
        | Command::Add { name: n, .. } => with_upstream(n),
        Command::Follow { standby, upstream } => vec![standby.clone(), upstream.clone()],
        Command::Rejoin { node, .. } => model.primary.iter().chain([node]).cloned().collect(),
        Command::Heal(_) | Command::FollowAll(_) | Command::Failover { .. } | Command::Switchover(_) => {
            model.names().cloned().collect()
        }
        _ => Vec::new(),
    };
    let now = model.now;
    for node in model.nodes.iter_mut().filter(|n| touched.contains(&n.name)) {
        node.acted = Some(now);
    }
}

//! The judge of what moves the primary's part: switchover, failover, fencing, coming back.

use super::{Verdict, exists, not_returning, promotable, running, up};
use crate::model::cluster::{NodeState, Role};
use crate::model::command::{Command, Way};
use crate::model::standing::{Link, Rung};
use crate::model::{Model, Node, NodeName};

/// Across a cut nobody streams, whatever the last look found.
fn streams(model: &Model, node: &Node) -> bool {
    let cut = node.upstream.as_ref().is_some_and(|up| model.is_cut(up, &node.name));
    node.state == NodeState::Running
        && !cut
        && matches!(model.rung(node).link, Link::Connected(state) if state == "streaming")
}

/// Nothing else may move the primary at the same time, nor come back to it.
pub(super) fn nothing_else(model: &Model) -> Verdict {
    none_under_way(model, moves_the_primary)?;
    nobody_comes_back(model)
}

/// Who comes back needs the primary that it comes back to.
pub(super) fn nobody_comes_back(model: &Model) -> Verdict {
    none_under_way(model, |c| matches!(c, Command::Rejoin { .. }))
}

fn moves_the_primary(command: &Command) -> bool {
    matches!(command, Command::Failover { .. } | Command::Switchover(_) | Command::Promote(_))
}

fn none_under_way(model: &Model, what: impl Fn(&Command) -> bool) -> Verdict {
    let mut commands = model.ops.values().filter_map(|op| op.command.as_ref());
    commands.find(|c| what(c)).map_or(Ok(()), |c| Err(format!("`{c}` is under way")))
}

/// An election that waits ends when somebody is promoted by hand; any other handover is about to make a primary of its own.
pub(super) fn promotable_by_hand(model: &Model, name: &NodeName) -> Verdict {
    if model.waiting_election().is_none() {
        none_under_way(model, |c| matches!(c, Command::Failover { .. } | Command::Switchover(_)))?;
    }
    promotable(model, name)
}

pub(super) fn switchable(model: &Model, name: &NodeName) -> Verdict {
    nothing_else(model)?;
    promotable(model, name)?;
    let primary = model.primary_node().ok_or("there is no primary to hand over; `promote` makes one")?;
    running(model, &primary.name).map_err(|why| format!("{why}; a primary that is gone is replaced by `failover`"))?;
    let node = exists(model, name)?;
    if node.upstream.as_ref() != Some(&primary.name) {
        return Err(format!("{name} doesn't follow {0} itself; `follow {name} {0}` first", primary.name));
    }
    if !streams(model, node) {
        return Err(format!("{name} doesn't stream from {}, so it can't get everything", primary.name));
    }
    match model.ladder().iter().find(|r| r.upstream.as_ref() == Some(&primary.name) && is_silent(model, r)) {
        Some(r) => Err(format!(
            "{0} is silent: {1} would wait for it until wal_sender_timeout before it stops; heal or stop {0} first",
            r.name, primary.name
        )),
        None => Ok(()),
    }
}

/// A shutdown waits until each connected standby has confirmed everything; one behind a cut can't, noticed yet or not.
fn is_silent(model: &Model, standby: &Rung) -> bool {
    let cut = |up: &NodeName| model.is_cut(up, &standby.name);
    match standby.link {
        Link::LastKnown { .. } => true,
        Link::Connected(_) => standby.upstream.as_ref().is_some_and(cut),
        _ => false,
    }
}

pub(super) fn failable(model: &Model, allow_loss: bool) -> Verdict {
    // An election that waits may be told to make do with the answers it has.
    if allow_loss && model.waiting_election().is_some() {
        return Ok(());
    }
    nothing_else(model)?;
    let primary = model.primary_node().ok_or("there is no primary to replace; `promote` a standby")?;
    let standby = |n: &&Node| n.role() == Some(Role::Standby) && !model.has_diverged(n);
    let standbys: Vec<&Node> = model.nodes.iter().filter(standby).collect();
    if standbys.is_empty() {
        return Err("there is nobody left to fail over to".to_owned());
    }
    if !standbys.iter().any(|n| n.answers()) {
        return Err("no standby answers: there is nobody to fail over to".to_owned());
    }
    let follows = |n: &&&Node| n.upstream.as_ref() == Some(&primary.name) && streams(model, n);
    match standbys.iter().find(follows).filter(|_| primary.answers()) {
        Some(n) => Err(format!(
            "{p} answers and {n} streams from it; `switchover {n}` is the planned way, `kill {p}` the other",
            p = primary.name,
            n = n.name
        )),
        None => Ok(()),
    }
}

pub(super) fn fenceable(model: &Model, name: &NodeName) -> Verdict {
    up(model, name)?;
    let others = |n: &&Node| n.state == NodeState::Running && n.role() == Some(Role::Primary) && n.name != *name;
    let ours = |n: &&Node| n.sample.as_ref().map(|s| s.system_identifier) == model.system_identifier;
    if exists(model, name)?.role() != Some(Role::Primary) {
        return Err(format!("{name} is no primary: there is nothing to fence; `kill {name}` kills it"));
    }
    if model.nodes.iter().filter(others).any(|n| ours(&n)) {
        Ok(())
    } else {
        Err(format!("{name} is the only primary; fencing ends one of two. `kill {name}` kills it"))
    }
}

pub(super) fn followable_by_all(model: &Model, upstream: &NodeName) -> Verdict {
    running(model, upstream)?;
    let can = |n: &Node| {
        let command = Command::Follow { standby: n.name.clone(), upstream: upstream.clone() };
        n.name != *upstream && n.upstream.as_ref() != Some(upstream) && super::judge(model, &command).is_ok()
    };
    if model.nodes.iter().any(can) { Ok(()) } else { Err(format!("every standby that can follow {upstream} does")) }
}

/// Several may come back at once: each on its own, to the same primary.
pub(super) fn rejoinable(model: &Model, name: &NodeName, way: Option<Way>) -> Verdict {
    none_under_way(model, moves_the_primary)?;
    let node = exists(model, name)?;
    not_returning(model, name)?;
    let primary = model.primary_node().ok_or("there is no primary to follow; promote a standby first")?;
    if primary.name == *name {
        let rival = model.rivals().next().map(|n| &n.name);
        return Err(match (&node.state, rival) {
            (NodeState::Running, Some(rival)) => format!(
                "{name} is the lab's primary, and {rival} runs beside it: if {name} is to win, `fence {rival}`, then \
                 `rejoin {rival}`; if {rival} is, `fence {name}` first"
            ),
            (NodeState::Running, None) => {
                format!("{name} is the primary, and the only one: there is nobody it could follow")
            }
            _ => format!("{name} was the last primary: `start {name}`, or promote a standby first"),
        });
    }
    running(model, &primary.name)?;
    if node.state == NodeState::Frozen {
        return Err(format!("{name} is frozen; `thaw {name}` or `kill {name}` first"));
    }
    if node.sample.as_ref().is_some_and(|s| Some(s.system_identifier) != model.system_identifier) {
        return Err(format!("{name} is a server of its own: its system identifier differs, it can never follow"));
    }
    if model.is_cut(name, &primary.name) {
        return Err(format!("the link between {name} and {0} is cut; `heal {name} {0}` first", primary.name));
    }
    if let Some(why) = model.pair(name, &primary.name).one_number().filter(|_| way == Some(Way::Rewind)) {
        return Err(format!("pg_rewind would take one for the other: {why}; `rejoin {name}` makes it anew"));
    }
    let healthy = node.role() == Some(Role::Standby) && streams(model, node) && !model.has_diverged(node);
    if healthy {
        let upstream = node.upstream.as_ref().map_or("its upstream", NodeName::as_str);
        return Err(format!("{name} is a healthy standby: it streams from {upstream}"));
    }
    Ok(())
}

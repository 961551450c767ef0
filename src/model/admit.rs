//! The one judge: may this command run now, and if not, why. Keys, prompt, scripts and scenarios all ask here.

mod handover;
mod late;

use super::cluster::{NodeState, Role};
use super::command::Command;
use super::links::{Harm, Lane, Which};
use super::text::size;
use super::{Model, Node, NodeName, Stage};

type Verdict = Result<(), String>;

/// Whether a command may run now, or as soon as a look that is due shows that it may; the error is a sentence that says why not and what
/// would help.
pub fn admit(model: &Model, command: &Command) -> Verdict {
    admit_now(model, command).or_else(|why| if look_is_due(model, command) { Ok(()) } else { Err(why) })
}

/// Whether what is known of the nodes that this command is judged by is older than what was last done to them: a refusal may be out of
/// date.
pub fn look_is_due(model: &Model, command: &Command) -> bool {
    late::look_is_due(model, command)
}

/// Whether it may run by what is known now.
pub fn admit_now(model: &Model, command: &Command) -> Verdict {
    if model.read_only && !matches!(command, Command::Verify) {
        return Err("this lab is read-only".to_owned());
    }
    match &model.stage {
        Stage::Starting => return Err("the lab is still starting".to_owned()),
        Stage::Failed(why) => return Err(format!("the lab did not start: {why}")),
        Stage::Live => {}
    }
    if let (Some((_, why)), true) = (&model.engine_down, needs_engine(command)) {
        return Err(format!("the engine doesn't answer ({why})"));
    }
    if model.is_resetting() {
        return Err("the lab is being reset".to_owned());
    }
    judge(model, command)
}

fn needs_engine(command: &Command) -> bool {
    use Command as C;
    matches!(
        command,
        C::Kill(_)
            | C::Stop(_)
            | C::Start(_)
            | C::Raise(_)
            | C::Freeze(_)
            | C::Thaw(_)
            | C::Add { .. }
            | C::AddFresh(_)
            | C::Remove(_)
            | C::Fence(_)
            | C::Failover { .. }
            | C::Switchover(_)
            | C::Rejoin { .. }
            | C::Reset
    )
}

fn judge(model: &Model, command: &Command) -> Verdict {
    match command {
        Command::Sync(_) | Command::Cancel | Command::Terminate => answers(model.serving_node()),
        Command::Set { node, .. } => node.as_ref().map_or(Ok(()), |n| exists(model, n).map(drop)),
        Command::Target(node) => node.as_ref().map_or(Ok(()), |n| exists(model, n).map(drop)),
        Command::Write(_) => room_to_write(model),
        Command::Kill(n) => up(model, n),
        Command::Start(n) => down(model, n),
        Command::Stop(n) => running(model, n),
        Command::Freeze(n) => freezable(model, n),
        Command::Thaw(n) => frozen(model, n),
        Command::Promote(n) => handover::promotable_by_hand(model, n),
        Command::Follow { standby, upstream } => followable(model, standby, upstream),
        Command::FollowAll(upstream) => handover::followable_by_all(model, upstream),
        Command::Switchover(n) => handover::switchable(model, n),
        Command::Failover { allow_loss } => handover::failable(model, *allow_loss),
        Command::AutoFailover(None) if model.detector.auto.is_none() => {
            Err("automatic failover is off already".to_owned())
        }
        Command::Fence(n) => handover::fenceable(model, n),
        Command::Rejoin { node, way } => handover::rejoinable(model, node, *way),
        Command::Add { name, from } => addable(model, name, from.as_ref()),
        Command::AddFresh(name) => unused(model, name),
        Command::Remove(n) => removable(model, n),
        Command::Raise(n) => raisable(model, n),
        Command::PauseReplay(n) => replay(model, n, false),
        Command::ResumeReplay(n) => replay(model, n, true),
        Command::Link(harm, which) => harmable(model, *harm, which),
        Command::Heal(Some(which)) => healable(model, which),
        Command::Heartbeat(on) if *on == model.heartbeat => {
            Err(format!("the heartbeat is {} already", if *on { "on" } else { "off" }))
        }
        Command::Sql { node, session, .. } => {
            exists(model, node)?;
            session.as_ref().map_or(Ok(()), |name| model.may_ask(name, node))
        }
        _ => Ok(()),
    }
}

fn exists<'a>(model: &'a Model, name: &NodeName) -> Result<&'a Node, String> {
    model.node(name).ok_or_else(|| {
        let names: Vec<&str> = model.nodes.iter().map(|n| n.name.as_str()).collect();
        format!("there is no node {name}; there are {}", names.join(", "))
    })
}

fn answers(primary: Option<&Node>) -> Verdict {
    let node = primary.ok_or("there is no primary; promote a standby first")?;
    match node.state {
        NodeState::Running => Ok(()),
        NodeState::Frozen => Err(format!("{0} is frozen; `thaw {0}` first", node.name)),
        _ => Err(format!("{0} is down; `start {0}`, or promote a standby", node.name)),
    }
}

fn up(model: &Model, name: &NodeName) -> Verdict {
    match exists(model, name)?.state {
        NodeState::Exited(_) | NodeState::Created => Err(format!("{name} is down already")),
        _ => Ok(()),
    }
}

fn running(model: &Model, name: &NodeName) -> Verdict {
    match exists(model, name)?.state {
        NodeState::Running => Ok(()),
        NodeState::Frozen => Err(format!("{name} is frozen; `thaw {name}` first")),
        _ => Err(format!("{name} is down; `start {name}` first")),
    }
}

fn not_returning(model: &Model, name: &NodeName) -> Verdict {
    model.return_of(name).map_or(Ok(()), |already| Err(format!("`{already}` is under way")))
}

fn down(model: &Model, name: &NodeName) -> Verdict {
    match exists(model, name)?.state {
        NodeState::Exited(_) | NodeState::Created => not_returning(model, name),
        NodeState::Frozen => Err(format!("{name} is frozen, not down; `thaw {name}`")),
        _ => Err(format!("{name} runs already")),
    }
}

fn frozen(model: &Model, name: &NodeName) -> Verdict {
    if exists(model, name)?.state == NodeState::Frozen { Ok(()) } else { Err(format!("{name} is not frozen")) }
}

fn promotable(model: &Model, name: &NodeName) -> Verdict {
    running(model, name)?;
    not_returning(model, name)?;
    handover::nobody_comes_back(model)?;
    match exists(model, name)?.role() {
        Some(Role::Primary) => Err(format!("{name} is a primary already")),
        Some(Role::Standby) => model.stopped_by(name).map_or(Ok(()), |why| {
            Err(format!("{name} has stopped replaying ({why}): PostgreSQL promotes none such; `raise {name}` first"))
        }),
        None => Err(format!("{name} has not answered yet")),
    }
}

fn room_to_write(model: &Model) -> Verdict {
    let Some(free) = model.disk_free.filter(|_| model.disk_low) else { return Ok(()) };
    Err(format!(
        "the disk of the nodes' data has only {} free, and the floor is {}: make room first",
        size(free),
        size(model.disk_floor)
    ))
}

fn followable(model: &Model, standby: &NodeName, upstream: &NodeName) -> Verdict {
    exists(model, upstream)?;
    if standby == upstream {
        return Err(format!("{standby} can't follow itself"));
    }
    running(model, standby)?;
    match exists(model, standby)?.role() {
        Some(Role::Primary) => {
            Err(format!("{standby} is a primary; it can't simply follow: its history may have forked"))
        }
        Some(Role::Standby) if parted(model, standby, upstream) => Err(format!(
            "{standby} has diverged from {upstream}: their histories have parted; `rejoin {standby}` makes it a copy of the primary"
        )),
        Some(Role::Standby) if follows_already(model, upstream, standby) => {
            Err(format!("{upstream} itself follows {standby}; that would be a circle"))
        }
        Some(Role::Standby) => Ok(()),
        None => Err(format!("{standby} has not answered yet")),
    }
}

fn parted(model: &Model, node: &NodeName, from: &NodeName) -> bool {
    model.node(node).zip(model.node(from)).is_some_and(|(node, from)| model.has_parted(node, from))
}

/// Whether `node` follows `other`, directly or through others.
fn follows_already(model: &Model, node: &NodeName, other: &NodeName) -> bool {
    let mut at = model.node(node);
    for _ in 0..model.nodes.len() {
        match at.filter(|n| n.role() != Some(Role::Primary)).and_then(|n| n.upstream.as_ref()) {
            Some(up) if up == other => return true,
            Some(up) => at = model.node(up),
            None => return false,
        }
    }
    false
}

fn unused(model: &Model, name: &NodeName) -> Verdict {
    let being_made = model
        .ops
        .values()
        .any(|op| matches!(&op.command, Some(Command::Add { name: n, .. } | Command::AddFresh(n)) if n == name));
    if model.node(name).is_some() || being_made { Err(format!("there is a node {name} already")) } else { Ok(()) }
}

fn addable(model: &Model, name: &NodeName, from: Option<&NodeName>) -> Verdict {
    unused(model, name)?;
    match from {
        Some(from) => running(model, from),
        None => answers(model.primary_node()),
    }
}

fn removable(model: &Model, name: &NodeName) -> Verdict {
    exists(model, name)?;
    if model.primary.as_ref() == Some(name) {
        Err(format!("{name} is the primary; promote a standby first, or `reset`"))
    } else {
        Ok(())
    }
}

fn freezable(model: &Model, name: &NodeName) -> Verdict {
    running(model, name)?;
    model.no_freezer.as_ref().map_or(Ok(()), |why| Err(format!("nodes can't be frozen here: {why}")))
}

fn replay(model: &Model, name: &NodeName, paused: bool) -> Verdict {
    running(model, name)?;
    let node = exists(model, name)?;
    if node.role() == Some(Role::Primary) {
        return Err(format!("{name} is a primary: it replays nothing"));
    }
    if let Some(why) = model.stopped_by(name) {
        let then = if paused { "; resumed, it would shut down" } else { "" };
        return Err(format!("PostgreSQL has paused replay on {name} itself: {why}{then}. `raise {name}` mends it"));
    }
    match node.sample.as_ref().map(|s| s.replay_paused) {
        Some(now) if now != paused => {
            Err(format!("replay on {name} is {}", if now { "paused already" } else { "not paused" }))
        }
        _ => Ok(()),
    }
}

/// One that is down is raised, too: started as it is it would shut down again.
fn raisable(model: &Model, name: &NodeName) -> Verdict {
    let node = exists(model, name)?;
    not_returning(model, name)?;
    match node.state {
        NodeState::Running | NodeState::Exited(_) => {}
        NodeState::Frozen => return Err(format!("{name} is frozen; `thaw {name}` first")),
        NodeState::Created | NodeState::Unknown => return Err(format!("nothing is known of {name} yet")),
    }
    if model.shortfalls(node).is_empty() {
        return Err(format!("no setting of {name} is known to be lower than a standby may have it"));
    }
    Ok(())
}

fn harmable(model: &Model, harm: Harm, which: &Which) -> Verdict {
    named(model, which)?;
    let pairs = which.pairs(model.names());
    if let (Some(why), true) = (&model.direct_links, which.is_between_nodes(model.names())) {
        return Err(format!("links between nodes can't be faulted here, they are direct: {why}"));
    }
    if let (Harm::Refuse, Which::Toward(a, b)) = (harm, which)
        && model.connects(b, a)
    {
        return Err(format!("{a} opens no connection to {b}; {b} connects to {a}: `refuse {b} -> {a}`"));
    }
    if pairs.iter().all(|(a, b)| model.links.lane(a, b).has(harm)) {
        return Err(format!("{} is {} already", which.in_words(), harm.word()));
    }
    Ok(())
}

/// All ends are there, and no link leads to where it began.
fn named(model: &Model, which: &Which) -> Verdict {
    for end in which.ends() {
        end.node().map_or(Ok(()), |n| exists(model, n).map(drop))?;
    }
    match which.pairs(model.names()).iter().find(|(a, b)| a == b) {
        Some((a, _)) => Err(format!("{a} has no link to itself")),
        None => Ok(()),
    }
}

fn healable(model: &Model, which: &Which) -> Verdict {
    named(model, which)?;
    if which.pairs(model.names()).iter().any(|(a, b)| model.links.lane(a, b) != Lane::default()) {
        return Ok(());
    }
    let frozen = |n: &&Node| n.state == NodeState::Frozen;
    let hint = match which {
        Which::Of(end) => end.node().and_then(|n| model.node(n)).filter(frozen),
        _ => None,
    };
    let hint = hint.map_or(String::new(), |n| format!("; {0} is frozen: `thaw {0}`", n.name));
    let what = match which {
        Which::Of(end) => format!("any link of {end}"),
        _ => which.in_words(),
    };
    Err(format!("nothing is wrong with {what}{hint}"))
}

//! Since when the lab's own faults keep the primary from its work: what a handover is timed from. A fault that is over times nothing
//! any more. Pure; decides nothing.

use serde::{Deserialize, Serialize};

use super::cluster::NodeState;
use super::command::Command;
use super::detector::Cause;
use super::links::End;
use super::{Model, NodeName, Stamp};

/// Since when links of the primary are cut or refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Severed {
    /// The one that its clients come by.
    pub clients: Option<Stamp>,
    /// Those to all of its standbys.
    pub standbys: Option<Stamp>,
}

/// Takes in how things are now.
pub(super) fn keep(model: &mut Model) {
    let now = model.now;
    let since = |before: Option<Stamp>, is_so: bool| is_so.then(|| before.unwrap_or(now));
    let (clients, standbys) = severed(model);
    let before = model.severed;
    model.severed = Severed { clients: since(before.clients, clients), standbys: since(before.standbys, standbys) };
    forget_the_well(model);
}

/// Whether the primary's clients, and whether all of its standbys are cut off from it.
fn severed(model: &Model) -> (bool, bool) {
    // Asked at every message, and mostly there is nothing to look for.
    let Some(primary) = model.primary.as_ref().filter(|_| !model.links.is_healthy()) else { return (false, false) };
    let here = End::from(primary.clone());
    let broken =
        |end: &End| [model.links.lane(&here, end), model.links.lane(end, &here)].iter().any(|l| l.cut || l.refuse);
    let standbys = model.witnesses(primary);
    let all = !standbys.is_empty() && standbys.into_iter().all(|n| broken(&End::from(n)));
    (broken(&End::Client), all)
}

/// Who runs, with nobody about to end that, is well: what happens to it next begins then.
fn forget_the_well(model: &mut Model) {
    let mut at = std::mem::take(&mut model.fault_at);
    at.retain(|name, _| {
        let runs = model.node(name).is_none_or(|n| n.state == NodeState::Running);
        !runs || model.ops.values().any(|op| op.command.as_ref().and_then(victim) == Some(name))
    });
    model.fault_at = at;
}

/// Whom a command takes out of service.
pub(super) fn victim(command: &Command) -> Option<&NodeName> {
    match command {
        Command::Kill(n) | Command::Stop(n) | Command::Freeze(n) | Command::Fence(n) => Some(n),
        _ => None,
    }
}

/// Whether a command that runs ends the processes of this node, or may, on its way: then their end is no news.
pub(super) fn ends(model: &Model, command: &Command, node: &NodeName) -> bool {
    match command {
        Command::Kill(n)
        | Command::Stop(n)
        | Command::Fence(n)
        | Command::Start(n)
        | Command::Raise(n)
        | Command::Remove(n)
        | Command::Add { name: n, .. }
        | Command::AddFresh(n)
        | Command::Rejoin { node: n, .. } => n == node,
        Command::Failover { .. } | Command::Switchover(_) => {
            model.handover().is_some_and(|h| h.old.as_ref() == Some(node))
        }
        Command::Reset => true,
        _ => false,
    }
}

impl Model {
    /// When the fault began for which the primary is replaced, if it is one of the lab's own. A primary without standbys serves its
    /// clients still: that counts only where it is the reason, and not where the primary died of something else later.
    pub(in crate::model) fn fault_behind(&self, cause: Cause) -> Option<Stamp> {
        let primary = self.primary_node()?;
        let out_of_service = self.fault_at.get(&primary.name).copied().into_iter().chain(self.severed.clients).min();
        match cause {
            Cause::Refused | Cause::Silent => out_of_service,
            Cause::CutOff => self.severed.standbys,
            Cause::Ordered => out_of_service.or(self.severed.standbys.filter(|_| primary.state == NodeState::Running)),
        }
    }
}

//! How the primary's part moved, for the report: timelines, handovers, returns, the sides of a split brain.

use super::{HandoverReport, NodeReport, RejoinReport, SideReport, TimelineReport, ranges};
use crate::model::handover::{Handover, Kind};
use crate::model::msg::Rejoined;
use crate::model::verdict::Verification;
use crate::model::{Model, NodeName, Stamp};

pub(super) fn timelines(model: &Model) -> Vec<TimelineReport> {
    let one = |t: &crate::model::handover::Timeline| TimelineReport {
        id: t.id,
        parent: t.parent,
        parent_node: t.off.and_then(|at| model.timelines.get(at)).map(|off| off.node.to_string()),
        fork: t.fork.map(|lsn| lsn.to_string()),
        node: t.node.to_string(),
        at_ms: t.at.0 / 1_000,
    };
    model.timelines.iter().map(one).collect()
}

pub(super) fn handover(h: &Handover) -> HandoverReport {
    let (kind, cause, from) = match (h.kind, h.exact) {
        (Kind::Switchover, _) => ("switchover", "asked for", "order"),
        (Kind::Failover(cause), true) => ("failover", cause.words(), "fault"),
        (Kind::Failover(cause), false) => ("failover", cause.words(), "last good probe"),
    };
    HandoverReport {
        kind: kind.to_owned(),
        cause: cause.to_owned(),
        old: h.old.as_ref().map(ToString::to_string),
        new: h.new.as_ref().filter(|_| h.promoted.is_some()).map(ToString::to_string),
        from: from.to_owned(),
        split: h.split(),
        failed: h.failed.clone(),
    }
}

pub(super) fn rejoin((at, node, how): &(Stamp, NodeName, Rejoined)) -> RejoinReport {
    RejoinReport {
        node: node.to_string(),
        at_ms: at.0 / 1_000,
        road: how.road.word().to_owned(),
        detour: how.detour.clone(),
        fork: how.fork.map(|lsn| lsn.to_string()),
        end: how.end.map(|lsn| lsn.to_string()),
        thrown_away: how.only.as_ref().ok().map(ranges),
    }
}

pub(super) fn nodes(v: &Verification) -> Vec<NodeReport> {
    let node = |(node, tally): (&NodeName, &crate::model::verdict::NodeTally)| NodeReport {
        node: node.to_string(),
        rows: tally.rows,
        present: tally.present,
        missing: tally.missing,
        unreadable: tally.unreadable.clone(),
    };
    v.nodes.iter().map(node).collect()
}

pub(super) fn sides(v: &Verification) -> Vec<SideReport> {
    let side = |(node, side): (&NodeName, &crate::model::verdict::Side)| SideReport {
        node: node.to_string(),
        only: ranges(&side.only),
        lost_if_it_loses: side.acked_only,
    };
    v.sides.iter().map(side).collect()
}

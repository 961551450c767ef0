//! What the replication slots hold back: how much WAL each keeps, how near it is to its limit, and in what state its WAL
//! is by PostgreSQL's own word. Derived from samples; keeps nothing.

use super::cluster::SlotRow;
use super::{Model, Node, NodeName};

/// One slot.
#[derive(Clone, Debug, PartialEq)]
pub struct Slot {
    /// The node it is on.
    pub on: NodeName,
    /// What PostgreSQL says of it.
    pub row: SlotRow,
    /// max_slot_wal_keep_size of that node; None for no limit.
    pub limit: Option<u64>,
    /// Whether that is known now; else it is the last known.
    pub fresh: bool,
}

impl Slot {
    /// Whether its WAL may go, or is gone.
    pub fn in_danger(&self) -> bool {
        matches!(self.row.wal_status.as_deref(), Some("unreserved" | "lost"))
    }

    /// Whether nobody can stream from it any more.
    pub fn is_lost(&self) -> bool {
        self.row.wal_status.as_deref() == Some("lost")
    }

    /// Bytes kept; None where it keeps nothing, or can't any more.
    pub fn kept(&self) -> Option<u64> {
        self.row.kept_bytes.map(|b| b.max(0).unsigned_abs()).filter(|_| !self.is_lost())
    }
}

impl Model {
    /// All slots of all nodes.
    pub fn slots(&self) -> Vec<Slot> {
        self.nodes.iter().flat_map(slots_on).collect()
    }

    /// The slot that this standby uses: the one of its name on its upstream.
    pub fn slot_of(&self, standby: &Node) -> Option<Slot> {
        let upstream = self.node(standby.upstream.as_ref()?)?;
        slots_on(upstream).find(|s| s.row.name == standby.name.as_str())
    }
}

fn slots_on(node: &Node) -> impl Iterator<Item = Slot> {
    node.sample.iter().flat_map(move |sample| {
        sample.slots.iter().map(move |row| Slot {
            on: node.name.clone(),
            row: row.clone(),
            limit: sample.settings.max_slot_wal_keep_bytes,
            fresh: node.answers(),
        })
    })
}

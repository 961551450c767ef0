//! The table: the faults with what brings and what mends them, the modes, and what a client must see in each pair.

/// How commits are acknowledged.
pub struct Mode {
    pub name: &'static str,
    pub commands: &'static [&'static str],
    /// What it is, for the page.
    pub what: &'static str,
    /// Whether an acknowledged write is on a standby too, so that a right failover loses none.
    pub promises: bool,
}

pub const MODES: &[Mode] = &[
    Mode { name: "async", commands: &["sync off"], what: "no synchronous rule", promises: false },
    Mode { name: "FIRST", commands: &["sync first 1 (s1, s2)"], what: "`FIRST 1 (s1, s2)`", promises: true },
    Mode { name: "ANY", commands: &["sync any 1 (s1, s2)"], what: "`ANY 1 (s1, s2)`", promises: true },
    Mode {
        name: "local",
        commands: &["sync first 1 (s1, s2)", "commit local"],
        what: "`FIRST 1 (s1, s2)`, and clients with `synchronous_commit = local`",
        promises: false,
    },
];

/// What brings a fault.
pub enum Strike {
    /// These commands of the lab.
    Commands(&'static [&'static str]),
    /// SIGKILL to the backend of one client.
    Backend,
    /// s1 is stopped, WAL is written beyond max_slot_wal_keep_size, a checkpoint comes.
    Slot,
    /// The way to the engine is cut.
    Engine,
}

/// How the lab shows it.
pub enum Shown {
    /// This condition of the scenario format holds.
    Holds(&'static str),
    /// The journal says this.
    Said(&'static str),
    /// The engine is shown as silent.
    Engine,
}

/// What the client sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Sight {
    /// Commits go on.
    GoesOn,
    /// They stand still for a while, then go on by themselves.
    Pauses,
    /// They wait until somebody does something.
    Waits,
    /// Its connections end, and new ones are refused.
    Ends,
    /// Its connections end; it comes back by itself.
    ComesBack,
}

impl Sight {
    pub fn words(self) -> &'static str {
        match self {
            Self::GoesOn => "commits go on",
            Self::Pauses => "commits wait, then go on by themselves",
            Self::Waits => "commits wait",
            Self::Ends => "connections end, new ones are refused",
            Self::ComesBack => "connections end; the clients come back",
        }
    }
}

/// A row of the table.
pub struct Fault {
    /// For the command line and file names.
    pub key: &'static str,
    /// For people.
    pub name: &'static str,
    pub strike: Strike,
    pub shown: Shown,
    /// What the lab must say of it, in every mode; numbers left out.
    pub says: &'static [&'static str],
    pub mend: &'static [&'static str],
    /// What the clients see under async, FIRST, ANY and local, in the order of [`MODES`].
    pub sights: [Sight; 4],
    /// Whether the clients get acknowledgements of writes that no standby has: then async and local lose some at the failover.
    pub loses: bool,
}

use Sight::{ComesBack, Ends, GoesOn, Pauses, Waits};

const FAILOVER: &[&str] = &["failover", "rejoin p"];
/// p answers still, but for its links.
const FAILOVER_AND_HEAL: &[&str] = &["failover", "heal", "rejoin p"];
const SILENT: &str = "s1 has not answered p for … s; PostgreSQL still calls it \"streaming\"";
/// Undone by the verb that undoes every fault; the primary itself was well all the while.
pub const HEAL: &[&str] = &["heal"];

const fn of_links(
    key: &'static str,
    name: &'static str,
    cut: &'static [&'static str],
    says: &'static [&'static str],
) -> Fault {
    Fault {
        key,
        name,
        strike: Strike::Commands(cut),
        shown: Shown::Holds("link(s1) = last-known"),
        says,
        mend: HEAL,
        sights: [GoesOn, Pauses, GoesOn, GoesOn],
        loses: false,
    }
}

const fn of_primary(
    key: &'static str,
    name: &'static str,
    strike: &'static [&'static str],
    sight: Sight,
    says: &'static [&'static str],
) -> Fault {
    Fault {
        key,
        name,
        strike: Strike::Commands(strike),
        shown: Shown::Holds("link(s1) = last-known"),
        says,
        mend: FAILOVER,
        sights: [sight; 4],
        loses: false,
    }
}

pub const FAULTS: &[Fault] = &[
    Fault {
        shown: Shown::Holds("state(p) = down"),
        ..of_primary(
            "kill-primary",
            "The primary is killed",
            &["kill p"],
            Ends,
            &["p is killed: no server accepts writes until"],
        )
    },
    Fault {
        shown: Shown::Holds("state(p) = frozen"),
        ..of_primary(
            "freeze-primary",
            "The primary is frozen",
            &["freeze p"],
            Waits,
            &["p is frozen: connected but silent"],
        )
    },
    Fault {
        mend: FAILOVER_AND_HEAL,
        ..of_primary(
            "cut-primary",
            "The primary is cut off from everybody, its clients too",
            &["isolate p"],
            Waits,
            &["every link of p is cut, silently", SILENT],
        )
    },
    Fault {
        shown: Shown::Holds("state(s1) = down"),
        sights: [GoesOn; 4],
        ..of_links(
            "kill-standby",
            "A standby is killed",
            &["kill s1"],
            &["s1 is killed: its connections closed at once", "s1 is not connected to p any more"],
        )
    },
    of_links(
        "freeze-standby",
        "A standby is frozen",
        &["freeze s1"],
        &["s1 is frozen: connected but silent", "s1 is silent, and on p PostgreSQL still calls it \"streaming\""],
    ),
    of_links(
        "cut-standby",
        "A standby is cut off",
        &["cut p s1"],
        &["the link between p and s1 is cut, silently", SILENT],
    ),
    Fault {
        mend: FAILOVER_AND_HEAL,
        sights: [GoesOn, Waits, Waits, GoesOn],
        loses: true,
        ..of_links(
            "cut-group",
            "The primary and its clients are cut off from both standbys",
            &["cut p | s1 s2"],
            &["every link between p and s1, s2 is cut, silently", SILENT],
        )
    },
    of_links(
        "cut-one-way",
        "A standby hears, and isn't heard",
        &["cut s1 -> p"],
        &["p hears nothing from s1, and s1 still hears p", SILENT],
    ),
    Fault {
        key: "kill-backend",
        name: "One backend of the primary is killed",
        strike: Strike::Backend,
        shown: Shown::Said("a server process of p was killed"),
        says: &["a server process of p was killed: PostgreSQL ends all its sessions and recovers"],
        mend: &[],
        sights: [ComesBack; 4],
        loses: false,
    },
    Fault {
        key: "lose-slot",
        name: "A standby's slot is lost",
        strike: Strike::Slot,
        shown: Shown::Holds("slot_status(s1) = lost"),
        says: &["s1 is not connected to p any more", "the slot s1 on p is lost"],
        mend: &["remove s1", "add s1"],
        sights: [GoesOn; 4],
        loses: false,
    },
    Fault {
        key: "pause-replay",
        name: "Replay is paused on a standby",
        strike: Strike::Commands(&["replay pause s1"]),
        shown: Shown::Holds("replay_paused(s1) = yes"),
        says: &["replay on s1 is paused: it receives and flushes, but shows nothing new"],
        mend: HEAL,
        sights: [GoesOn; 4],
        loses: false,
    },
    Fault {
        key: "lose-engine",
        name: "The engine stops answering",
        strike: Strike::Engine,
        shown: Shown::Engine,
        says: &["the engine stopped answering", "what is shown is the last known"],
        mend: &[],
        sights: [GoesOn; 4],
        loses: false,
    },
];

/// The row of this key.
pub fn fault(key: &str) -> &'static Fault {
    FAULTS.iter().find(|f| f.key == key).unwrap_or_else(|| panic!("there is no fault {key}"))
}

/// The mode of this name, and its place.
pub fn mode(name: &str) -> (usize, &'static Mode) {
    MODES.iter().enumerate().find(|(_, m)| m.name == name).unwrap_or_else(|| panic!("there is no mode {name}"))
}

//! What one look at a node tells: the types that samplers fill and the model keeps. Knows no SQL and no runtime.

use serde::{Deserialize, Serialize};

use super::{Lsn, NodeName};

/// The state of a node's container or process tree, as the engine or the operating system has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeState {
    /// Made, never started yet.
    #[default]
    Created,
    /// Runs (which doesn't say that PostgreSQL in it answers).
    Running,
    /// Paused: the container is frozen, or the whole process tree is stopped by signal.
    Frozen,
    /// Not running: cleanly stopped, killed, or crashed; with the exit code where known (137 after SIGKILL in a container).
    Exited(Option<i64>),
    /// The lab can't tell: the engine doesn't answer.
    Unknown,
}

/// Which part a server plays, as `pg_is_in_recovery()` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// Accepts writes.
    Primary,
    /// In recovery.
    Standby,
}

/// One row of `pg_stat_replication` (manual 27.2.4): what a sender knows of one receiver.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SenderRow {
    /// application_name: the name that the synchronous rule matches.
    pub name: String,
    /// The walsender's process id.
    pub pid: i32,
    /// startup, catchup, streaming, backup, stopping.
    pub state: String,
    /// async, potential, sync, quorum.
    pub sync_state: String,
    /// Sent up to here (over the connection).
    pub sent: Option<Lsn>,
    /// Written by the standby to its operating system.
    pub write: Option<Lsn>,
    /// Flushed to the standby's disk.
    pub flush: Option<Lsn>,
    /// Replayed (visible there).
    pub replay: Option<Lsn>,
    /// PostgreSQL's own time lags, in microseconds; NULL when all is confirmed and idle.
    pub write_lag_us: Option<i64>,
    /// See `write_lag_us`.
    pub flush_lag_us: Option<i64>,
    /// See `write_lag_us`.
    pub replay_lag_us: Option<i64>,
    /// Age of the standby's last reply in microseconds, by the sender's clock (`clock_timestamp() - reply_time`).
    pub reply_age_us: Option<i64>,
}

/// The row of `pg_stat_wal_receiver` (manual 27.2.5).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReceiverRow {
    /// stopped, starting, streaming, waiting, restarting, stopping.
    pub status: String,
    /// Where it connects to: the host and port of the relay, never the password.
    pub sender: String,
    /// The slot it uses, if any.
    pub slot: Option<String>,
    /// Timeline of the last WAL received and flushed.
    pub received_tli: Option<i32>,
    /// Age of the last message from the sender, in microseconds.
    pub last_msg_age_us: Option<i64>,
}

/// One row of `pg_replication_slots` (manual 52.19).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SlotRow {
    /// slot_name.
    pub name: String,
    /// Whether something is connected to it.
    pub active: bool,
    /// Keeps WAL from here on.
    pub restart: Option<Lsn>,
    /// reserved, extended, unreserved, lost; none where the slot keeps nothing yet.
    pub wal_status: Option<String>,
    /// Bytes of WAL held back by it, from restart_lsn to the current position.
    pub kept_bytes: Option<i64>,
    /// Bytes that may still be written before the slot may get lost; none without max_slot_wal_keep_size.
    pub safe_bytes: Option<i64>,
    /// The process id of the walsender that uses it.
    #[serde(default)]
    pub pid: Option<i32>,
    /// Whether it is a logical one: a subscription's.
    #[serde(default)]
    pub logical: bool,
    /// Why it is lost (`wal_removed`, `idle_timeout`), where PostgreSQL tells: from 17 on.
    #[serde(default)]
    pub invalidated: Option<String>,
}

/// A backend whose commit waits for a synchronous standby (`wait_event` = SyncRep).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WaitingCommit {
    /// The backend's process id.
    pub pid: i32,
    /// How long it has waited, in microseconds (`clock_timestamp() - state_change` or `query_start`).
    pub age_us: i64,
    /// application_name of the backend (the lab's writers are `replab writer N`).
    pub application: String,
    /// The first 120 characters of its statement.
    pub query: String,
}

/// The settings that the lab shows at all times, as `current_setting` reports them on that node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSettings {
    /// synchronous_standby_names, verbatim.
    pub synchronous_standby_names: String,
    /// synchronous_commit of the lab's own session default.
    pub synchronous_commit: String,
    /// wal_sender_timeout in milliseconds.
    pub wal_sender_timeout_ms: u64,
    /// wal_receiver_timeout in milliseconds.
    pub wal_receiver_timeout_ms: u64,
    /// wal_receiver_status_interval in milliseconds.
    pub wal_receiver_status_interval_ms: u64,
    /// max_slot_wal_keep_size in bytes; None for no limit (-1).
    pub max_slot_wal_keep_bytes: Option<u64>,
}

/// One good look at a server through SQL, all of it read in one round trip.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Primary or standby.
    pub role: Role,
    /// The timeline it writes (primary) or last replayed from (standby).
    pub timeline: u32,
    /// system_identifier of pg_control_system(): the same on every true copy.
    pub system_identifier: u64,
    /// The marker row of the lab (its id), if it could be read.
    pub lab_marker: Option<String>,
    /// Primary: pg_current_wal_lsn (written). Standby: greatest of received and replayed.
    pub wal: Lsn,
    /// Primary: pg_current_wal_flush_lsn. Standby: pg_last_wal_receive_lsn, if anything was ever received.
    pub flushed: Option<Lsn>,
    /// Standby: pg_last_wal_replay_lsn.
    pub replayed: Option<Lsn>,
    /// Standby: replay is paused, by whomever (pg_get_wal_replay_pause_state is not `not paused`).
    pub replay_paused: bool,
    /// Standby: age of the last replayed commit in microseconds, by the server's clock.
    pub replay_age_us: Option<i64>,
    /// Seconds since the server started, so that a restart is noticed.
    pub start_epoch_us: i64,
    /// Receivers connected to this server.
    pub senders: Vec<SenderRow>,
    /// This server's own receiver, when it is a standby with one.
    pub receiver: Option<ReceiverRow>,
    /// Slots on this server.
    pub slots: Vec<SlotRow>,
    /// Commits that wait for a synchronous standby here.
    pub waiting: Vec<WaitingCommit>,
    /// Settings in force.
    pub settings: NodeSettings,
    /// Those that a standby may not have lower than its primary, in the order of [`AT_LEAST`](super::shortfall::AT_LEAST).
    #[serde(default)]
    pub limits: Option<[u64; 5]>,
    /// Rows in the lab's write table by an estimate that costs nothing are not kept here; see `verify`.
    pub took_us: u64,
}

/// One line of a server's log, made safe for a terminal already.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// LOG, WARNING, ERROR, FATAL, PANIC, HINT, DETAIL … or empty when the line has none.
    pub severity: String,
    /// The message without the prefix.
    pub text: String,
}

/// What a look at a node brought. A failed look is an observation too.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Look {
    /// The server answered.
    Sample(Box<Sample>),
    /// The server couldn't be asked: why, in a few words.
    Unreachable(String),
    /// The container or process changed state.
    State(NodeState),
    /// The server logged something.
    Log(Vec<LogLine>),
    /// It listens on another port than before, because another program has that one.
    Moved {
        /// Where it listened.
        from: u16,
        /// Where it listens.
        to: u16,
    },
}

/// A look at a node, or at the engine under all of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Observation {
    /// About one node.
    Node(NodeName, Look),
    /// The engine: None when it answers, else why it doesn't.
    Engine(Option<String>),
    /// What has passed the links' relays.
    Traffic(Vec<super::links::Traffic>),
    /// Bytes free where the nodes' data is; None when that can't be seen.
    Disk(Option<u64>),
}

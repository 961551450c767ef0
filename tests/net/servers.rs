//! What the servers answer to plain `psql`: a query or two that share no code with the lab, and their answers as values. The five
//! settings that a standby must not have lower than its primary stand here by their names in the manual (26.4.3, "Administrator's Overview").

use std::collections::BTreeMap;
use std::time::Duration;

use replab::runtime::Runtime;
use serde::Deserialize;

use crate::common::stage::Stage;

/// A server that takes longer says nothing.
const PATIENCE: Duration = Duration::from_secs(2);

/// All answers of one moment, by node; a server that did not answer in time is not in it.
pub type Answers = BTreeMap<String, Answer>;

#[derive(Clone, Debug, Deserialize)]
pub struct Answer {
    pub recovery: bool,
    /// When the server started: another life, another server.
    pub started: f64,
    pub rule: String,
    /// The end of what is there: written (primary), or the later of received and replayed.
    pub end: u64,
    pub flushed: Option<u64>,
    pub replayed: Option<u64>,
    /// `not paused`, `pause requested` or `paused`.
    pub pause: Option<String>,
    /// Timelines that it may be said to be on: of its WAL files, its receiver, its control file.
    pub timelines: Vec<u32>,
    #[serde(default)]
    pub senders: Vec<Sender>,
    pub receiver: Option<String>,
    #[serde(default)]
    pub slots: Vec<Slot>,
    /// Commits that wait for a standby, by backend.
    #[serde(default)]
    pub waits: BTreeMap<i32, Wait>,
    /// Client backends and their states.
    #[serde(default)]
    pub backends: BTreeMap<i32, String>,
    /// The settings that a standby must not have lower than its primary.
    pub limits: BTreeMap<String, u64>,
    /// How many rows of the writer, and their hash.
    pub rows: (u64, String),
}

#[derive(Clone, Debug, Deserialize)]
pub struct Sender {
    pub name: String,
    pub pid: i32,
    pub state: String,
    pub sync_state: String,
    pub sent: Option<u64>,
    pub write: Option<u64>,
    pub flush: Option<u64>,
    pub replay: Option<u64>,
    /// When its last reply was sent; none came yet where it is none.
    pub reply: Option<f64>,
    /// How old that is, in ms.
    pub reply_age: Option<f64>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Wait {
    /// When its statement began: what tells one commit of a backend from the next.
    pub began: f64,
    /// How long ago that is, in ms.
    pub age: f64,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Slot {
    pub name: String,
    pub status: Option<String>,
    pub active: bool,
}

const QUERY: &str = "
SELECT json_build_object(
  'recovery', r,
  'started', extract(epoch FROM pg_postmaster_start_time()),
  'rule', current_setting('synchronous_standby_names'),
  'end', CASE WHEN r THEN greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) ELSE pg_current_wal_lsn() END - '0/0'::pg_lsn,
  'flushed', CASE WHEN NOT r THEN pg_current_wal_flush_lsn() - '0/0'::pg_lsn END,
  'replayed', CASE WHEN r THEN pg_last_wal_replay_lsn() - '0/0'::pg_lsn END,
  'pause', CASE WHEN r THEN pg_get_wal_replay_pause_state() END,
  'timelines', (SELECT json_agg(DISTINCT tli) FROM (
      SELECT ('x' || substr(name, 1, 8))::bit(32)::int AS tli FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{24}$'
      UNION ALL SELECT received_tli FROM pg_stat_wal_receiver WHERE received_tli IS NOT NULL
      UNION ALL SELECT timeline_id FROM pg_control_checkpoint()) t
      WHERE CASE WHEN r THEN true ELSE tli = ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int END),
  'senders', coalesce((SELECT json_agg(json_build_object('name', application_name, 'pid', pid, 'state', state, 'sync_state', sync_state,
      'sent', sent_lsn - '0/0'::pg_lsn, 'write', write_lsn - '0/0'::pg_lsn, 'flush', flush_lsn - '0/0'::pg_lsn, 'replay', replay_lsn - '0/0'::pg_lsn,
      'reply', extract(epoch FROM reply_time), 'reply_age', extract(epoch FROM clock_timestamp() - reply_time) * 1000)) FROM pg_stat_replication), '[]'),
  'receiver', (SELECT status FROM pg_stat_wal_receiver),
  'slots', coalesce((SELECT json_agg(json_build_object('name', slot_name, 'status', wal_status, 'active', active)) FROM pg_replication_slots), '[]'),
  'waits', coalesce((SELECT json_object_agg(pid, json_build_object('began', extract(epoch FROM query_start),
      'age', extract(epoch FROM clock_timestamp() - query_start) * 1000)) FROM pg_stat_activity WHERE wait_event = 'SyncRep'), '{}'),
  'backends', coalesce((SELECT json_object_agg(pid, coalesce(state, '')) FROM pg_stat_activity WHERE backend_type = 'client backend'), '{}'),
  'limits', (SELECT json_object_agg(name, setting::bigint) FROM pg_settings WHERE name IN
      ('max_connections', 'max_worker_processes', 'max_wal_senders', 'max_prepared_transactions', 'max_locks_per_transaction')),
  'rows', (SELECT json_build_array(count(*), coalesce(sum(hashtextextended(client || ':' || seq, 0)), 0)::text) FROM replab.writes))
FROM (SELECT pg_is_in_recovery() AS r) here";

/// Asks all nodes at once, while the lab goes on.
pub async fn ask<R: Runtime>(stage: &mut Stage<R>) -> Answers {
    let names: Vec<String> = stage.model().nodes.iter().map(|n| n.name.to_string()).collect();
    let said = stage.psql_of_all(&names, QUERY, PATIENCE).await;
    let read = |(name, text): (String, String)| {
        let answer =
            serde_json::from_str(&text).unwrap_or_else(|e| panic!("{name} says what isn't understood, {e}: {text}"));
        (name, answer)
    };
    said.into_iter().map(read).collect()
}

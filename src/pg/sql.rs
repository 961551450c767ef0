//! All SQL text of the lab. Knows no connection; every statement runs on PostgreSQL 15 to 19, on a primary and, where it
//! only reads, on a standby. The statements behind a person's acts are public and hold their values: what is shown of an act
//! is the very text that was sent.

use super::quote::{ident, literal};

/// The lab's own superuser: samples, settings, failover.
pub const CONTROL_ROLE: &str = "replab";
/// The role of the writers.
pub const WRITER_ROLE: &str = "replab_writer";
/// The role that standbys, base backups and rewinds log in as.
pub const REPL_ROLE: &str = "replab_repl";
/// The role that lessons run their SQL as: a file from elsewhere reaches no further than the lab's database.
pub const LESSON_ROLE: &str = "replab_lesson";
/// The database with the lab's tables.
pub const DATABASE: &str = "lab";
/// A database that every server has.
pub const DATABASE_OF_ALL: &str = "postgres";
/// `application_name` of the control connection.
pub const CONTROL_NAME: &str = "replab control";

/// The template's roles, database and tables, for psql in database `postgres`. `verifier` is a literal.
///
/// The functions granted are those that `pg_rewind` needs where it doesn't log in as superuser (manual, `pg_rewind`, Notes).
pub(super) fn template(verifier: &str) -> String {
    format!(
        "\
\\set ON_ERROR_STOP on
CREATE ROLE {CONTROL_ROLE} LOGIN SUPERUSER PASSWORD {verifier};
CREATE ROLE {WRITER_ROLE} LOGIN;
CREATE ROLE {REPL_ROLE} LOGIN REPLICATION;
CREATE ROLE {LESSON_ROLE} LOGIN;
GRANT pg_monitor, pg_checkpoint TO {LESSON_ROLE};
GRANT EXECUTE ON FUNCTION pg_catalog.pg_ls_dir(text, boolean, boolean) TO {REPL_ROLE};
GRANT EXECUTE ON FUNCTION pg_catalog.pg_stat_file(text, boolean) TO {REPL_ROLE};
GRANT EXECUTE ON FUNCTION pg_catalog.pg_read_binary_file(text) TO {REPL_ROLE};
GRANT EXECUTE ON FUNCTION pg_catalog.pg_read_binary_file(text, bigint, bigint, boolean) TO {REPL_ROLE};
CREATE DATABASE {DATABASE} OWNER {CONTROL_ROLE};
\\connect {DATABASE}
{TABLES}"
    )
}

/// The heartbeat has a table of its own, outside publications, books and row figures (facts "Limits").
const TABLES: &str = "\
SET ROLE replab;
CREATE SCHEMA replab;
CREATE TABLE replab.writes (
    client int NOT NULL,
    seq bigint NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    payload text NOT NULL DEFAULT '',
    PRIMARY KEY (client, seq)
);
CREATE TABLE replab.heartbeat (id int PRIMARY KEY, beat bigint NOT NULL, at timestamptz NOT NULL);
CREATE TABLE replab.marker (lab text NOT NULL);
GRANT USAGE ON SCHEMA replab TO replab_writer;
GRANT SELECT, INSERT ON replab.writes TO replab_writer;
GRANT USAGE ON SCHEMA replab TO replab_lesson;
GRANT SELECT ON replab.writes, replab.heartbeat, replab.marker TO replab_lesson;
GRANT CREATE ON SCHEMA public TO replab_lesson;
";

/// Gives a role a password by its verifier, so that the password is in no log (manual, CREATE ROLE, PASSWORD).
pub(super) fn set_verifier(role: &str, verifier: &str) -> String {
    format!("ALTER ROLE {} PASSWORD {};", ident(role), literal(verifier))
}

/// How every control session begins. `synchronous_commit = local`: the lab's own statements never wait for a standby.
/// No `jit`, no parallel workers: the statements are small, and compiling them would cost more than running them. Set here and
/// not by the start packet, whose options would stand where [`DEFAULT_LEVEL`] looks for the server's own.
pub(super) const SESSION: &str = "\
SET synchronous_commit = local; SET statement_timeout = '60s'; SET lock_timeout = '5s'; \
SET idle_in_transaction_session_timeout = '60s'; SET jit = off; SET max_parallel_workers_per_gather = 0; \
SET client_min_messages = warning; SET datestyle = iso";

/// What [`Sample`](crate::model::cluster::Sample) needs at every look: one row, whatever the role. Each function that
/// fails in the wrong role stands in a CASE arm (manual 9.28: `pg_current_wal_lsn` fails during recovery,
/// `pg_get_wal_replay_pause_state` fails outside of it). The functions under the views `pg_stat_replication`,
/// `pg_stat_wal_receiver` and `pg_replication_slots` are called themselves: the views join `pg_authid` and `pg_database` too.
/// A lost slot goes through JSON, where a column that only 17 and later have is NULL before that.
/// The list of backends, which is dear, is read only where there is a rule that a commit can wait for.
pub(super) const SAMPLE: &str = "\
WITH here AS MATERIALIZED (
    SELECT r.standby, clock_timestamp() AS clock,
        CASE WHEN r.standby THEN greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())
             ELSE pg_current_wal_lsn() END AS wal
    FROM (SELECT pg_is_in_recovery() AS standby) r
)
SELECT here.standby,
    here.wal,
    CASE WHEN here.standby THEN pg_last_wal_receive_lsn() ELSE pg_current_wal_flush_lsn() END,
    CASE WHEN here.standby THEN pg_last_wal_replay_lsn() END,
    CASE WHEN here.standby THEN pg_get_wal_replay_pause_state() <> 'not paused' ELSE false END,
    CASE WHEN here.standby
         THEN (date_part('epoch', here.clock - pg_last_xact_replay_timestamp()) * 1000000)::bigint END,
    CASE WHEN NOT here.standby THEN pg_walfile_name(here.wal) END,
    ARRAY(SELECT ROW(s.pid, s.state, s.sync_state,
            s.sent_lsn, s.write_lsn, s.flush_lsn, s.replay_lsn,
            (date_part('epoch', s.write_lag) * 1000000)::bigint,
            (date_part('epoch', s.flush_lag) * 1000000)::bigint,
            (date_part('epoch', s.replay_lag) * 1000000)::bigint,
            (date_part('epoch', here.clock - s.reply_time) * 1000000)::bigint)::text
        FROM pg_stat_get_wal_senders() s),
    (SELECT ROW(w.status, w.sender_host, w.sender_port, w.slot_name, w.received_tli,
            (date_part('epoch', here.clock - w.last_msg_receipt_time) * 1000000)::bigint)::text
        FROM pg_stat_get_wal_receiver() w WHERE here.standby AND w.pid IS NOT NULL),
    ARRAY(SELECT ROW(s.slot_name, s.active, s.restart_lsn, s.wal_status,
            (here.wal - s.restart_lsn)::bigint, s.safe_wal_size,
            CASE WHEN s.wal_status = 'lost' THEN to_jsonb(s) ->> 'invalidation_reason' END,
            s.active_pid, s.slot_type = 'logical')::text
        FROM pg_get_replication_slots() s),
    ARRAY(SELECT ROW(b.pid, (date_part('epoch', here.clock - b.query_start) * 1000000)::bigint,
            b.application_name, left(b.query, 120))::text
        FROM pg_stat_get_activity(NULL) b
        WHERE current_setting('synchronous_standby_names') <> '' AND b.wait_event = 'SyncRep'),
    current_setting('synchronous_standby_names'),
    current_setting('wal_sender_timeout'),
    current_setting('wal_receiver_timeout'),
    current_setting('wal_receiver_status_interval'),
    (date_part('epoch', pg_conf_load_time()) * 1000000)::bigint,
    current_setting('max_slot_wal_keep_size')
FROM here";

/// Who the senders are: their application_name.
pub(super) const SENDER_NAMES: &str =
    "SELECT pid, application_name FROM pg_stat_get_activity(NULL) WHERE backend_type = 'walsender'";

/// Which standbys stream from here: all that bring-up has to know, and much less to read for a server that has just started than a
/// whole look.
pub(super) const STREAMING: &str = "\
SELECT a.application_name FROM pg_stat_get_wal_senders() s JOIN pg_stat_get_activity(NULL) a USING (pid)
WHERE s.state = 'streaming'";

/// Which cluster this is.
pub(super) const SYSTEM_IDENTIFIER: &str = "SELECT system_identifier FROM pg_control_system()";

/// What changes seldom. The control file's functions read a file. Its timeline is that of the last restart point, which a standby makes
/// seldom: one that has followed a new primary for a minute may still have the old one there. What it has received stands in
/// the names of its WAL files.
pub(super) const IDENTITY: &str = "\
SELECT (SELECT system_identifier FROM pg_control_system()),
    (date_part('epoch', pg_postmaster_start_time()) * 1000000)::bigint,
    greatest((SELECT timeline_id FROM pg_control_checkpoint()),
             (SELECT min_recovery_end_timeline FROM pg_control_recovery())),
    current_setting('server_version'),
    (SELECT max(name COLLATE \"C\") FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{24}$'),
    ARRAY(SELECT current_setting(name)::bigint FROM unnest($1::text[]) WITH ORDINALITY AS t(name, n) ORDER BY n)";

/// What new sessions get for `synchronous_commit` (this session has set its own). It costs 0.5 ms, as all settings are
/// looked through: read at connect, and again when the server has read its files again. Not by the view: to read what a view is
/// made of is most of what a server just started has to read for this.
pub(super) const DEFAULT_LEVEL: &str = "SELECT reset_val FROM pg_show_all_settings() WHERE name = 'synchronous_commit'";

/// Whether the lab's tables are on this server (a freshly initialised one has none).
pub(super) const HAS_TABLES: &str = "SELECT to_regclass('replab.marker') IS NOT NULL";
/// The marker.
pub(super) const MARKER: &str = "SELECT lab FROM replab.marker LIMIT 1";
/// One beat of the lab's heart, on the primary.
pub(super) const BEAT: &str = "\
INSERT INTO replab.heartbeat AS h (id, beat, at) VALUES (1, $1, clock_timestamp())
ON CONFLICT (id) DO UPDATE SET beat = excluded.beat, at = excluded.at";
/// The beat that is visible here.
pub(super) const BEAT_SEEN: &str = "SELECT beat FROM replab.heartbeat WHERE id = 1";
/// Writes the marker, replacing another lab's.
pub(super) fn mark(lab: &str) -> String {
    format!("WITH old AS (DELETE FROM replab.marker) INSERT INTO replab.marker (lab) VALUES ({})", literal(lab))
}
/// A transaction of a few bytes that changes no table: its WAL makes every standby reply, and a reply is what releases
/// waiting commits after the rule was changed (facts "Lag and detection"). Manual 9.28.6.
/// Nothing on a standby.
pub const NUDGE: &str =
    "SELECT CASE WHEN NOT pg_is_in_recovery() THEN pg_logical_emit_message(true, 'replab', 'nudge') END";
/// Makes the server read its files again.
pub const RELOAD: &str = "SELECT pg_reload_conf()";
/// Starts a promotion without waiting for it: the waiting form polls every 100 ms (facts "Speed").
pub const PROMOTE: &str = "SELECT pg_promote(wait => false)";
/// Pauses replay.
pub const REPLAY_PAUSE: &str = "SELECT pg_wal_replay_pause()";
/// Resumes replay.
pub const REPLAY_RESUME: &str = "SELECT pg_wal_replay_resume()";
/// When a setting takes effect (postmaster, sighup, user …); nothing for one that no module has made known.
pub(super) const SETTING_CONTEXT: &str = "SELECT context FROM pg_settings WHERE lower(name) = lower($1)";
/// Those of the settings $1 that ALTER SYSTEM has changed on this server.
pub(super) const ALTERED: &str = "\
SELECT name, setting FROM pg_settings WHERE name = ANY ($1) AND sourcefile LIKE '%/postgresql.auto.conf'";
/// Makes a physical slot that keeps WAL from now on; nothing where it is already there and of use. A lost one, for whatever
/// reason, protects nothing any more and takes nobody in (18): it is dropped first.
pub fn create_slot(name: &str) -> String {
    create_slots(&[name])
}
/// The same for several.
pub fn create_slots(names: &[&str]) -> String {
    let names = names.iter().map(|name| literal(name)).collect::<Vec<_>>().join(", ");
    format!(
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_get_replication_slots() \
         WHERE slot_name = ANY (ARRAY[{names}]::text[]) AND slot_type = 'physical' AND wal_status = 'lost'; \
         SELECT pg_create_physical_replication_slot(name, true) FROM unnest(ARRAY[{names}]::text[]) name \
         WHERE NOT EXISTS (SELECT FROM pg_get_replication_slots() WHERE slot_name = name)"
    )
}
/// Drops a slot; nothing where there is none.
pub fn drop_slot(name: &str) -> String {
    let name = literal(name);
    format!("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = {name}")
}
/// Cancels the wait of commits that wait for a standby: of these backends, or (None) of all. The commit stays, locally
/// (facts, first table). Counts those that were signalled.
pub fn cancel_waiting(pids: Option<&[i32]>) -> String {
    signal_waiting("pg_cancel_backend", pids)
}
/// Ends the sessions of such backends.
pub fn terminate_waiting(pids: Option<&[i32]>) -> String {
    signal_waiting("pg_terminate_backend", pids)
}
fn signal_waiting(function: &str, pids: Option<&[i32]>) -> String {
    let list = |pids: &[i32]| pids.iter().map(i32::to_string).collect::<Vec<_>>().join(",");
    let among = pids.map_or_else(String::new, |pids| format!(" AND pid = ANY ('{{{}}}'::int[])", list(pids)));
    format!(
        "SELECT count(*) FROM (SELECT {function}(pid) AS done FROM pg_stat_activity \
         WHERE wait_event = 'SyncRep'{among}) x WHERE done"
    )
}
/// Where the next WAL record goes.
pub(super) const INSERT_POSITION: &str = "SELECT pg_current_wal_insert_lsn()";
/// A checkpoint.
pub const CHECKPOINT: &str = "CHECKPOINT";
/// The rows of the clients $1 to $2 as unbroken runs of numbers (gaps and islands), in order.
pub(super) const LEDGER: &str = "\
SELECT client, min(seq), max(seq)
FROM (SELECT client, seq, seq - row_number() OVER (PARTITION BY client ORDER BY seq) AS island
      FROM replab.writes WHERE client BETWEEN $1 AND $2) numbered
GROUP BY client, island ORDER BY 1, 2";
/// Whether a write is visible here.
pub(super) const VISIBLE: &str = "SELECT EXISTS (SELECT FROM replab.writes WHERE client = $1 AND seq = $2)";
/// Where a timeline forked off, from the last line of its history file $1 (manual 26.3.6 "Timelines"); no row without it.
pub(super) const FORK_POINT: &str = "\
SELECT split_part(line, E'\\t', 2) FROM regexp_split_to_table(pg_read_file($1, 0, 1000000, true), E'\\n')
    WITH ORDINALITY AS t(line, n) WHERE line ~ '^[0-9]' ORDER BY n DESC LIMIT 1";
/// All forks of a timeline's history: the parent's number and where it was left.
pub(super) const FORKS: &str = "\
SELECT split_part(line, E'\\t', 1)::bigint, split_part(line, E'\\t', 2)
FROM regexp_split_to_table(pg_read_file($1, 0, 1000000, true), E'\\n') line WHERE line ~ '^[0-9]'";
/// Whether the server still is a standby: the cheapest question.
pub(super) const IN_RECOVERY: &str = "SELECT pg_is_in_recovery()";
/// What the failure detector asks: the part, the place in the log, and whether a standby is connected as far as it knows.
pub(super) const PROBE: &str = "\
SELECT r.standby,
    CASE WHEN r.standby THEN greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) ELSE pg_current_wal_lsn() END,
    EXISTS (SELECT FROM pg_stat_get_wal_receiver() w WHERE w.status = 'streaming')
FROM (SELECT pg_is_in_recovery() AS standby) r";
/// The writers' statement.
pub const INSERT: &str = "INSERT INTO replab.writes(client, seq, payload) VALUES ($1, $2, $3)";

/// Sets or (None) resets a setting of this server. The name has been checked to be one.
pub fn alter_system(name: &str, value: Option<&str>) -> String {
    match value {
        Some(value) => format!("ALTER SYSTEM SET {name} = {}", literal(value)),
        None => format!("ALTER SYSTEM RESET {name}"),
    }
}

/// What the writers wait for at commit.
pub(super) fn set_level(level: &str) -> String {
    format!("SET synchronous_commit = {}", literal(level))
}

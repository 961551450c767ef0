//! What docs/facts.md says of PostgreSQL, shown on real servers through the lab's own commands, so that a version that
//! changes one of them is noticed. Slots are in tests/slots.rs, what a failover loses in tests/truth.rs.

mod common;

use std::ops::RangeInclusive;
use std::time::Duration;

use common::stage::{Stage, name};
use replab::model::Model;
use replab::model::cluster::SenderRow;
use replab::model::command::Rate;
use replab::model::ledger::{Counts, Ids};
use replab::model::msg::WriterPlan;
use replab::runtime::Runtime;
use replab::runtime::versions::major_of;

const CLIENTS: u32 = 4;
const ROWS: &str = "SELECT count(*) FROM replab.writes";

fn writer() -> WriterPlan {
    WriterPlan { clients: CLIENTS, rate: Rate::PerSecond(400), ..WriterPlan::default() }
}

on_every_version! { writer();
    what_a_client_learns_of_a_commit_that_waits
    levels_against_faults
    names_and_roles
    fresh_is_who_was_waited_for
    what_goes_by_the_version
}

fn acked(m: &Model) -> u64 {
    m.ledger.counts().acked
}

async fn all_wait<R: Runtime>(stage: &mut Stage<R>) {
    // The last look may be older than the rule: the server itself is asked first.
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    stage.until_psql("p", waiting, &CLIENTS.to_string()).await;
    // The server's view and the clients' own books come by different ways: either may be the later one, and while commits flow
    // slowly all clients have one under way, too.
    stage.books_are_up_to_date().await;
    let all = |m: &Model| m.waiting().len() == CLIENTS as usize && m.ledger.counts().pending == u64::from(CLIENTS);
    stage.until_so("all clients to wait", all).await;
}

/// So long nothing may be acknowledged, and everybody waits at the end of it.
async fn nobody_returns<R: Runtime>(stage: &mut Stage<R>, ms: u64, what: &str) {
    all_wait(stage).await;
    let (since, before) = (stage.model().now, acked(stage.model()));
    stage.until_so("time to pass", |m| m.now.ms_since(since) > ms).await;
    assert_eq!(acked(stage.model()), before, "{what}: a commit returned\n{}", stage.journal());
    assert_eq!(stage.model().waiting().len(), CLIENTS as usize, "{what}");
}

async fn commits_return<R: Runtime>(stage: &mut Stage<R>, what: &str) {
    let before = acked(stage.model());
    stage.until_so(what, |m| acked(m) >= before + u64::from(3 * CLIENTS)).await;
}

/// How many of these rows `psql` finds on a node.
async fn there<R: Runtime>(stage: &mut Stage<R>, node: &str, ids: &Ids) -> u64 {
    let ranges = ids.iter().flat_map(|(client, set)| {
        set.as_slice().iter().map(move |(first, last)| format!("client = {client} AND seq BETWEEN {first} AND {last}"))
    });
    let these = ranges.chain(["false".to_owned()]).collect::<Vec<_>>().join(" OR ");
    stage.psql(node, &format!("SELECT count(*) FROM replab.writes WHERE {these}")).await.parse().unwrap()
}

/// A row of the table: what happens to the waiting commits, what their clients learn, and how the test goes on.
struct Event {
    does: &'static str,
    class: Class,
    then: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Class {
    Acked,
    Warned,
    Unknown,
}

impl Class {
    fn count(self, counts: Counts) -> u64 {
        match self {
            Self::Acked => counts.acked,
            Self::Warned => counts.acked_with_warning,
            Self::Unknown => counts.unknown,
        }
    }

    fn ids(self, m: &Model) -> Ids {
        match self {
            Self::Acked => m.ledger.acked.clone(),
            Self::Warned => m.ledger.warned.clone(),
            Self::Unknown => m.ledger.unknown.clone(),
        }
    }
}

const EVENTS: &[Event] = &[
    Event { does: "cancel", class: Class::Warned, then: "" },
    Event { does: "terminate", class: Class::Unknown, then: "" },
    Event { does: "sync off", class: Class::Acked, then: "sync first 1 (s1)" },
    Event { does: "stop p", class: Class::Unknown, then: "start p" },
    Event { does: "kill p", class: Class::Unknown, then: "start p" },
];

async fn what_a_client_learns_of_a_commit_that_waits<R: Runtime>(mut stage: Stage<R>) {
    // A fast stop waits for a connected frozen standby until this is over.
    stage.command("set wal_sender_timeout 2s").await;
    stage.command("sync first 1 (s1)").await;
    commits_return(&mut stage, "commits under the rule").await;
    stage.command("freeze s1").await;
    all_wait(&mut stage).await;
    invisible(&mut stage).await;
    timeouts_do_not_fire(&mut stage).await;
    for event in EVENTS {
        happens(&mut stage, event).await;
    }
    a_timeout_in_a_procedure_fires(&mut stage).await;
    another_backend_dies(&mut stage).await;
    a_client_goes_away(&mut stage).await;
    stage.command("thaw s1").await;
    commits_return(&mut stage, "commits after the thaw").await;
    assert_eq!(stage.model().ledger.counts().failed, 0, "none of all this is a refusal");
    stage.close().await;
}

/// A commit that waits is flushed, and nobody else sees its row.
async fn invisible<R: Runtime>(stage: &mut Stage<R>) {
    let waiting: i64 = stage
        .psql("p", "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'IPC' AND wait_event = 'SyncRep'")
        .await
        .parse()
        .unwrap();
    assert_eq!(waiting, i64::from(CLIENTS));
    let rows: u64 = stage.psql("p", "SELECT count(*) FROM replab.writes").await.parse().unwrap();
    assert_eq!(rows, acked(stage.model()), "only what was acknowledged is visible");
    let statuses = "SELECT string_agg(DISTINCT pg_xact_status(backend_xid::text::xid8), ' ') \
                    FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    assert_eq!(stage.psql("p", statuses).await, "in progress", "flushed, and yet");
}

/// One server process dies by SIGKILL: all sessions end with "roll back the current transaction", and the rows are there.
async fn another_backend_dies<R: Runtime>(stage: &mut Stage<R>) {
    all_wait(stage).await;
    let before = stage.model().ledger.counts();
    // The heartbeat's or a sampler's own session will do as well as any.
    let other = "SELECT min(pid) FROM pg_stat_activity \
                 WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND wait_event IS DISTINCT FROM 'SyncRep'";
    let pid = stage.psql("p", other).await.parse().unwrap();
    stage.kill_process_of("p", pid).await;
    stage.until_so("unknown outcomes", |m| m.ledger.counts().unknown >= before.unknown + u64::from(CLIENTS)).await;
    let after = stage.model().ledger.counts();
    assert_eq!((before.acked, before.acked_with_warning), (after.acked, after.acked_with_warning));
    stage
        .until_so("the lab to say so", |m| m.journal.entries().any(|e| e.text.contains("a server process of p was")))
        .await;
    stage.until_psql("p", "SELECT 1", "1").await;
    let unknown = stage.model().ledger.unknown.clone();
    assert_eq!(there(stage, "p", &unknown).await, after.unknown, "they were told to expect a rollback; it is there");
}

/// A wait that is ended, whoever ended it.
const CANCELLED: &str = "WARNING:  canceling wait for synchronous replication due to user request";
/// A timeout that fires does so long before this.
const FIRES_WITHIN: Duration = Duration::from_secs(20);

/// COMMIT inside DO: there statement_timeout does fire, and what it ends is the wait, not the commit.
async fn a_timeout_in_a_procedure_fires<R: Runtime>(stage: &mut Stage<R>) {
    stage.psql("p", "CREATE TABLE IF NOT EXISTS replab.probe (id int)").await;
    stage.command("set statement_timeout 300ms on p").await;
    let body = "DO $$ BEGIN PERFORM set_config('synchronous_commit', 'on', false); \
                INSERT INTO replab.probe VALUES (1); COMMIT; END $$";
    let said = stage.psql_within(FIRES_WITHIN, "p", body).await.expect("statement_timeout is 300 ms");
    assert!(said.contains(CANCELLED), "{said}");
    stage.command("set statement_timeout 0 on p").await;
    stage.until_psql("p", "SELECT count(*) FROM replab.probe", "1").await;
    assert!(stage.model().node(&name("s1")).unwrap().state == replab::model::cluster::NodeState::Frozen);
}

async fn timeouts_do_not_fire<R: Runtime>(stage: &mut Stage<R>) {
    let mut timeouts = vec!["statement_timeout"];
    if major_of(&stage.model().postgres) >= Some(17) {
        timeouts.push("transaction_timeout");
    }
    for timeout in timeouts {
        stage.command(&format!("set {timeout} 300ms on p")).await;
        // A timer is set when a statement or a transaction begins: those that wait already are let go, and the next begin under it.
        let warned = stage.model().ledger.counts().acked_with_warning + u64::from(CLIENTS);
        stage.command("cancel").await;
        stage.until_so("new writes", |m| m.ledger.counts().acked_with_warning >= warned).await;
        nobody_returns(stage, 900, timeout).await;
        stage.command(&format!("set {timeout} 0 on p")).await;
    }
    assert_eq!(stage.model().ledger.counts().unknown, 0, "nobody was told anything");
}

/// The clients' connections close: their backends go on waiting, and the rows appear when they are released.
async fn a_client_goes_away<R: Runtime>(stage: &mut Stage<R>) {
    all_wait(stage).await;
    let before = stage.model().ledger.unknown.clone();
    stage.command("pause").await;
    stage.command("target s2").await;
    stage.until_so("no answer", |m| m.ledger.counts().pending == 0).await;
    let gone = replab::model::ledger::minus(&stage.model().ledger.unknown, &before);
    assert_eq!(gone.values().map(replab::model::ranges::Ranges::count).sum::<u64>(), u64::from(CLIENTS));
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    assert_eq!(stage.psql("p", waiting).await, CLIENTS.to_string(), "they go on waiting");
    assert_eq!(there(stage, "p", &gone).await, 0, "nobody sees the rows");
    stage.command("sync off").await;
    stage.until_psql("p", waiting, "0").await;
    assert_eq!(there(stage, "p", &gone).await, u64::from(CLIENTS), "released, they are there");
    for command in ["sync first 1 (s1)", "target primary", "resume"] {
        stage.command(command).await;
    }
}

async fn happens<R: Runtime>(stage: &mut Stage<R>, event: &Event) {
    all_wait(stage).await;
    let before = stage.model().ledger.counts();
    stage.command(event.does).await;
    let wanted = event.class.count(before) + u64::from(CLIENTS);
    stage.until_so(event.does, |m| event.class.count(m.ledger.counts()) >= wanted).await;
    let after = stage.model().ledger.counts();
    for other in [Class::Acked, Class::Warned, Class::Unknown].into_iter().filter(|c| *c != event.class) {
        assert_eq!(other.count(before), other.count(after), "{}: {other:?} too", event.does);
    }
    if event.then.starts_with("start") {
        stage.command(event.then).await;
    }
    let ids = event.class.ids(stage.model());
    let all = ids.values().map(replab::model::ranges::Ranges::count).sum::<u64>();
    assert_eq!(there(stage, "p", &ids).await, all, "{}: the rows are there, locally", event.does);
    if event.then.starts_with("sync") {
        stage.command(event.then).await;
    }
}

/// A row of the table: a rule, a fault under it and its cure, the levels at which commits go on, those at which they wait.
struct Case {
    rule: &'static str,
    fault: &'static str,
    cure: &'static str,
    go_on: &'static [&'static str],
    wait: &'static [&'static str],
}

const CASES: &[Case] = &[
    Case {
        rule: "first 1 (s1, s2)",
        fault: "freeze s1",
        cure: "thaw s1",
        go_on: &["off", "local"],
        wait: &["remote_write", "on", "remote_apply"],
    },
    Case {
        rule: "first 1 (s1, s2)",
        fault: "replay pause s1",
        cure: "replay resume s1",
        go_on: &["off", "local", "remote_write", "on"],
        wait: &["remote_apply"],
    },
    Case {
        rule: "first 1 (s1, s2)",
        fault: "stop s1",
        cure: "start s1",
        go_on: &["remote_write", "on", "remote_apply"],
        wait: &[],
    },
    Case {
        rule: "any 1 (s1, s2)",
        fault: "freeze s1",
        cure: "thaw s1",
        go_on: &["remote_write", "on", "remote_apply"],
        wait: &[],
    },
    Case {
        rule: "first 2 (s1, s2)",
        fault: "stop s1",
        cure: "start s1",
        go_on: &["off", "local"],
        wait: &["remote_write", "on", "remote_apply"],
    },
];

async fn levels_against_faults<R: Runtime>(mut stage: Stage<R>) {
    for case in CASES {
        against(&mut stage, case).await;
    }
    // Accepted without a warning, and nobody can ever meet it.
    stage.command("sync first 2 (s1)").await;
    nobody_returns(&mut stage, 600, "FIRST 2 (s1)").await;
    stage.command("sync first 1 (s1)").await;
    apply_delay(&mut stage).await;
    stage.close().await;
}

/// A name is a name in whatever case; a cascaded standby is none; each server has its own rule, and one that names itself hangs.
async fn names_and_roles<R: Runtime>(mut stage: Stage<R>) {
    stage.command("follow s2 s1").await;
    stage.until_psql("s1", "SELECT count(*) FROM pg_stat_replication", "1").await;
    stage.command("sync first 1 (s2)").await;
    nobody_returns(&mut stage, 600, "s2 follows s1, so p doesn't see it").await;
    stage.command("sync first 1 (S1)").await;
    commits_return(&mut stage, "S1 is s1").await;
    assert_eq!(stage.psql("s1", "SHOW synchronous_standby_names").await, "", "the rule isn't replicated");
    stage.command("set synchronous_standby_names 'FIRST 1 (s1)' on s1").await;
    stage.command("kill p").await;
    stage.command("promote s1").await;
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    stage.until_psql("s1", waiting, &CLIENTS.to_string()).await;
    assert_eq!(stage.psql("s1", "SELECT pg_is_in_recovery()").await, "f");
    stage.command("sync first 1 (s2)").await;
    commits_return(&mut stage, "s2 follows s1 and is a standby of it now").await;
    stage.close().await;
}

/// `remote_apply` mends read-your-writes on the standby that the commit waited for, and on no other.
async fn fresh_is_who_was_waited_for<R: Runtime>(mut stage: Stage<R>) {
    stage.command("sync first 1 (s1)").await;
    stage.command("commit remote_apply").await;
    commits_return(&mut stage, "commits under the rule").await;
    stage.rest().await;
    let before = stage.psql("p", ROWS).await.parse::<u64>().unwrap();
    stage.until_psql("s2", ROWS, &before.to_string()).await;
    stage.command("replay pause s2").await;
    let acked_before = acked(stage.model());
    stage.command("write 1").await;
    stage.until_so("its acknowledgement", |m| acked(m) > acked_before).await;
    // Asked once only: acknowledged means visible there.
    assert_eq!(
        stage.psql("s1", ROWS).await,
        (before + 1).to_string(),
        "s1 shows it by the time of the acknowledgement"
    );
    let end = stage.psql("p", "SELECT pg_current_wal_flush_lsn()").await;
    stage.until_psql("s2", &format!("SELECT pg_last_wal_receive_lsn() >= '{end}'"), "t").await;
    assert_eq!(stage.psql("s2", ROWS).await, before.to_string(), "s2 has received it, and doesn't show it");
    stage.command("replay resume s2").await;
    stage.until_psql("s2", ROWS, &(before + 1).to_string()).await;
    stage.close().await;
}

/// A standby that replays two seconds late makes `remote_apply` take two seconds, and `on` no longer than ever.
async fn apply_delay<R: Runtime>(stage: &mut Stage<R>) {
    stage.command("commit on").await;
    stage.command("set recovery_min_apply_delay 2s on s1").await;
    commits_return(stage, "commits at `on`").await;
    // The last figure may still be that of commits which waited for something else.
    stage.until_so("quick commits at `on`", |m| m.writer.pulse.p50_us.is_some_and(|us| us < 1_000_000)).await;
    stage.command("commit remote_apply").await;
    stage.until_so("a commit of two seconds", |m| m.writer.pulse.p50_us >= Some(1_900_000)).await;
    stage.command("set recovery_min_apply_delay 0 on s1").await;
    stage.until_so("quick commits again", |m| m.writer.pulse.p50_us.is_some_and(|us| us < 1_000_000)).await;
}

/// PostgreSQL counts both standbys under the rule.
fn both_count(m: &Model) -> bool {
    let counts = |s: &&SenderRow| s.state == "streaming" && s.sync_state != "async";
    let sample = m.node(&name("p")).and_then(|p| p.sample.as_ref());
    sample.is_some_and(|s| s.senders.iter().filter(counts).count() == 2)
}

async fn against<R: Runtime>(stage: &mut Stage<R>, case: &Case) {
    stage.command("commit on").await;
    stage.command(&format!("sync {}", case.rule)).await;
    stage.until_so("both standbys to count", both_count).await;
    commits_return(stage, case.rule).await;
    // What began at a level waits at that level: nobody writes while it changes.
    for level in case.go_on.iter().chain(case.wait) {
        let what = format!("{}, {}, {level}", case.rule, case.fault);
        stage.rest().await;
        if level == case.go_on.first().or(case.wait.first()).unwrap() {
            stage.command(case.fault).await;
        }
        stage.command(&format!("commit {level}")).await;
        stage.command("resume").await;
        if case.wait.contains(level) {
            nobody_returns(stage, 600, &what).await;
            stage.command("pause").await;
            // Else one that is cancelled could write once more.
            stage.books_are_up_to_date().await;
            stage.command("cancel").await;
        } else {
            commits_return(stage, &what).await;
        }
    }
    stage.command(case.cure).await;
    stage.command("resume").await;
    commits_return(stage, "commits after the cure").await;
}

/// What there is from one version to another: settings by their names, columns of views as `view.column`.
const THERE: &[(&str, RangeInclusive<u32>)] = &[
    ("escape_string_warning", 15..=18),
    ("io_workers", 18..=18),
    ("io_min_workers", 19..=NEWEST),
    ("io_max_workers", 19..=NEWEST),
    ("transaction_timeout", 17..=NEWEST),
    ("sync_replication_slots", 17..=NEWEST),
    ("synchronized_standby_slots", 17..=NEWEST),
    ("idle_replication_slot_timeout", 18..=NEWEST),
    ("max_active_replication_origins", 18..=NEWEST),
    ("effective_wal_level", 19..=NEWEST),
    ("wal_sender_shutdown_timeout", 19..=NEWEST),
    ("pg_replication_slots.conflicting", 16..=NEWEST),
    ("pg_replication_slots.failover", 17..=NEWEST),
    ("pg_replication_slots.invalidation_reason", 17..=NEWEST),
    ("pg_replication_slots.slotsync_skip_reason", 19..=NEWEST),
    ("pg_stat_recovery.pause_state", 19..=NEWEST),
    ("pg_stat_subscription_stats.sync_error_count", 15..=18),
    ("pg_stat_subscription_stats.sync_table_error_count", 19..=NEWEST),
    ("pg_stat_subscription_stats.sync_seq_error_count", 19..=NEWEST),
    ("pg_stat_subscription_stats.confl_update_missing", 18..=NEWEST),
    ("pg_stat_subscription_stats.confl_update_deleted", 19..=NEWEST),
    ("pg_subscription.suborigin", 16..=NEWEST),
    ("pg_subscription.subfailover", 17..=NEWEST),
    ("pg_subscription.subretaindeadtuples", 19..=NEWEST),
];
const NEWEST: u32 = 99;

/// Defaults that differ: the setting, the version with which it changed, what it was and is.
const DEFAULTS: &[(&str, u32, &str, &str)] =
    &[("jit", 19, "on", "off"), ("log_lock_waits", 19, "off", "on"), ("max_locks_per_transaction", 19, "64", "128")];

/// docs/facts.md, "What goes by the version".
async fn what_goes_by_the_version<R: Runtime>(mut stage: Stage<R>) {
    let major = major_of(&stage.model().postgres).unwrap();
    assert_eq!(stage.psql("p", "SELECT current_setting('server_version_num')::int / 10000").await, major.to_string());
    for (what, versions) in THERE {
        let sql = match what.split_once('.') {
            Some((view, column)) => format!(
                "SELECT count(*) FROM pg_attribute WHERE attrelid = to_regclass('pg_catalog.{view}') AND attname = '{column}'"
            ),
            None => format!("SELECT count(*) FROM pg_settings WHERE name = '{what}'"),
        };
        let there = u32::from(versions.contains(&major)).to_string();
        assert_eq!(stage.psql("p", &sql).await, there, "{what} on {major}");
    }
    for (setting, changed, before, after) in DEFAULTS {
        let sql = format!("SELECT boot_val FROM pg_settings WHERE name = '{setting}'");
        assert_eq!(
            stage.psql("p", &sql).await,
            if major < *changed { *before } else { *after },
            "{setting} on {major}"
        );
    }
    let waits = "WAIT FOR LSN '0/1' WITH (MODE 'standby_replay', TIMEOUT '5s')";
    match stage.try_psql("s1", waits).await {
        Ok(said) => assert!(major >= 19 && said == "success", "{said} on {major}"),
        Err(why) => assert!(major < 19 && why.contains("syntax error at or near \"WAIT\""), "{why} on {major}"),
    }
    // The template's own: few of these processes in each of many small servers.
    if let Some(workers) = ["io_workers", "io_min_workers"].get((major as usize).wrapping_sub(18)) {
        assert_eq!(stage.psql("p", &format!("SHOW {workers}")).await, "1");
    }
    a_changed_rule_on_a_quiet_primary(&mut stage, major).await;
    stage.close().await;
}

/// Up to 18 a rule that changes releases nobody by itself: s2's next reply does, 10 s after the last one. On 19 it may: with and
/// without a reply, both was seen.
async fn a_changed_rule_on_a_quiet_primary<R: Runtime>(stage: &mut Stage<R>, major: u32) {
    stage.rest().await;
    stage.command("heartbeat off").await;
    stage.command("sync first 1 (s1)").await;
    stage.until_psql("p", "SELECT sync_state FROM pg_stat_replication WHERE application_name = 's1'", "sync").await;
    stage.command("freeze s1").await;
    stage.command("write 1").await;
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    stage.until_psql("p", waiting, "1").await;
    let told_all =
        "SELECT replay_lsn = pg_current_wal_flush_lsn() FROM pg_stat_replication WHERE application_name = 's2'";
    stage.until_psql("p", told_all, "t").await;
    let reply = "SELECT reply_time FROM pg_stat_replication WHERE application_name = 's2'";
    let before = stage.psql("p", reply).await;
    stage.command("sync first 1 (s2)").await;
    stage.until_psql("p", waiting, "0").await;
    let after = stage.psql("p", reply).await;
    println!("PostgreSQL {major}: released with s2's reply of {after}, before that of {before}");
    assert!(major >= 19 || before != after, "released without a reply on {major}");
}

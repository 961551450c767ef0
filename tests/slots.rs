//! What slots keep, and the room on the disk: as the lab says it and as `psql` and `df` do, on real PostgreSQL.

mod common;

use std::process::Command;

use common::stage::{Stage, name};
use replab::model::condition::Condition;
use replab::model::journal::Entry;
use replab::model::ledger::count;
use replab::model::msg::{Topology, WriterPlan};
use replab::model::slots::Slot;
use replab::model::standing::Link;
use replab::model::{Model, Node};
use replab::runtime::Runtime;

on_every_version! { WriterPlan::default();
    a_slot_from_reserved_to_lost
    a_low_disk_holds_the_writer
    an_unreserved_slot_can_go_back
}

fn s1(model: &Model) -> &Node {
    model.node(&name("s1")).unwrap()
}

fn slot(model: &Model) -> Option<Slot> {
    model.slot_of(s1(model))
}

async fn until_status<R: Runtime>(stage: &mut Stage<R>, status: &str) {
    let condition: Condition = format!("slot_status(s1) = {status}").parse().unwrap();
    stage.until_so(&condition.text, |m| condition.check(m).0).await;
    let sql = "SELECT wal_status FROM pg_replication_slots WHERE slot_name = 's1'";
    assert_eq!(stage.psql("p", sql).await, status, "PostgreSQL's own word");
}

/// So many megabytes of WAL that dirty no page, so that a checkpoint takes no time.
async fn wal<R: Runtime>(stage: &mut Stage<R>, megabytes: u32) {
    let sql = format!(
        "SELECT count(pg_logical_emit_message(false, 'replab', repeat('x', 1000000))) FROM generate_series(1, {megabytes})"
    );
    stage.psql("p", &sql).await;
}

async fn a_slot_from_reserved_to_lost<R: Runtime>(mut stage: Stage<R>) {
    for setting in ["wal_keep_size 0", "max_wal_size 32MB"] {
        stage.command(&format!("set {setting}")).await;
    }
    until_status(&mut stage, "reserved").await;
    assert_eq!(slot(stage.model()).and_then(|s| s.limit), None, "PostgreSQL's default is no limit");
    // One that somebody left: who comes under its name later must not find a lost one.
    stage.psql("p", "SELECT pg_create_physical_replication_slot('s3', true)").await;
    stage.command("stop s1").await;
    wal(&mut stage, 45).await;
    until_status(&mut stage, "extended").await;
    stage.until_so("all that is kept", |m| slot(m).and_then(|s| s.kept()) > Some(40 << 20)).await;
    stage.command("set max_slot_wal_keep_size 64MB on p").await;
    stage.until_so("the limit", |m| slot(m).and_then(|s| s.limit) == Some(64 << 20)).await;
    // Each checkpoint resets the count of what was written since, so that the server starts none itself here.
    stage.psql("p", "CHECKPOINT").await;
    wal(&mut stage, 12).await;
    until_status(&mut stage, "extended").await;
    stage.psql("p", "CHECKPOINT").await;
    wal(&mut stage, 12).await;
    until_status(&mut stage, "unreserved").await;
    stage.psql("p", "CHECKPOINT").await;
    until_status(&mut stage, "lost").await;
    assert_eq!(slot(stage.model()).and_then(|s| s.kept()), None, "it keeps nothing any more");
    let why = if major(stage.model()) >= 17 { " (wal_removed)" } else { "" };
    let words = format!("the slot s1 on p is lost{why}: s1 can't stream");
    assert!(stage.journal().contains(&words), "{}", stage.journal());
    rebuilt(&mut stage).await;
    let s3 = "SELECT wal_status, active FROM pg_replication_slots WHERE slot_name = 's3'";
    assert_eq!(stage.psql("p", s3).await, "lost|f");
    stage.command("add s3").await;
    stage.until_psql("p", s3, "reserved|t").await;
    stage.close().await;
}

fn major(model: &Model) -> u32 {
    replab::runtime::versions::major_of(&model.postgres).unwrap()
}

/// A lost slot is refused in other words since 18 (docs/facts.md, "Slots").
fn refusal(model: &Model) -> &'static str {
    if major(model) >= 18 { "can no longer access replication slot \"s1\"" } else { "has already been removed" }
}

async fn until_refused<R: Runtime>(stage: &mut Stage<R>) {
    let words = refusal(stage.model());
    stage.until_so(words, |m| s1(m).logs.iter().any(|l| l.line.text.contains(words))).await;
}

/// s1 can't stream any more, though it tries again and again (then its link says "startup" for a moment); made anew it does.
async fn rebuilt<R: Runtime>(stage: &mut Stage<R>) {
    stage.command("start s1").await;
    until_refused(stage).await;
    stage.until_so("s1 to be disconnected", |m| m.rung(s1(m)).link == Link::Disconnected).await;
    stage.command("rejoin s1").await;
    stage.until_so("s1 to stream", |m| m.rung(s1(m)).link == Link::Connected("streaming".into())).await;
    until_status(stage, "reserved").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_slot_is_lost_on_18() {
    an_idle_slot_is_lost(18).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_slot_is_lost_on_19() {
    an_idle_slot_is_lost(19).await;
}

/// From 18 on: a slot that nobody uses for so long is lost at the next checkpoint, however little it keeps; not before.
async fn an_idle_slot_is_lost(major: u32) {
    let topology = Topology::primary_with(2);
    let Some(mut stage) = Stage::in_docker(major, topology, WriterPlan::default()).await else { return };
    until_status(&mut stage, "reserved").await;
    stage.command("set idle_replication_slot_timeout 1s on p").await;
    stage.command("stop s1").await;
    let idle = "SELECT inactive_since < now() - interval '1.5s' FROM pg_replication_slots WHERE slot_name = 's1'";
    stage.until_psql("p", idle, "t").await;
    until_status(&mut stage, "reserved").await;
    stage.psql("p", "CHECKPOINT").await;
    until_status(&mut stage, "lost").await;
    let why = "SELECT string_agg(slot_name || ' ' || coalesce(invalidation_reason, 'fine'), ', ' ORDER BY slot_name) \
               FROM pg_replication_slots";
    assert_eq!(stage.psql("p", why).await, "s1 idle_timeout, s2 fine");
    assert!(stage.journal().contains("the slot s1 on p is lost (idle_timeout): "), "{}", stage.journal());
    // The new slot waits for the copy to be made, and making one begins with a checkpoint.
    stage.command("set idle_replication_slot_timeout 0 on p").await;
    rebuilt(&mut stage).await;
    stage.close().await;
}

/// What `df` says of the disk that holds the test's folders, and here the engine's too.
fn df() -> u64 {
    let out = Command::new("df").args(["--output=avail", "-B1"]).arg(env!("CARGO_TARGET_TMPDIR")).output().unwrap();
    String::from_utf8_lossy(&out.stdout).lines().last().unwrap().trim().parse().unwrap()
}

async fn a_low_disk_holds_the_writer<R: Runtime>(mut stage: Stage<R>) {
    let free = stage.until("a look at the disk", |m| m.disk_free).await;
    println!("free: {free}, by df: {}", df());
    assert!(free.abs_diff(df()) < 4 << 30, "others write here too, but not that much");
    // Writes asked for beside the plan are held, too.
    stage.command("write 200000").await;
    stage.until_so("acked writes", |m| m.ledger.counts().acked > 10).await;
    // More than any disk has.
    stage.session.model.disk_floor = 1 << 60;
    stage.until_so("the writer to be held", |m| m.disk_low).await;
    stage.until_so("nothing under way", |m| m.ledger.counts().pending == 0 && m.writer.pulse.commits == 0).await;
    let rows = stage.psql("p", "SELECT count(*) FROM replab.writes").await;
    assert!(stage.try_command("write 3").await.unwrap_err().contains("make room first"));
    stage.command("rate max").await;
    let seen = stage.model().now;
    stage.until_so("a second", |m| m.now.ms_since(seen) > 1_000).await;
    assert_eq!(stage.psql("p", "SELECT count(*) FROM replab.writes").await, rows, "it writes nothing");
    stage.session.model.disk_floor = 1 << 20;
    let acked = stage.model().ledger.counts().acked;
    stage.until_so("acked writes again", |m| m.ledger.counts().acked > acked + 10).await;
    let told: Vec<&Entry> = stage.model().journal.entries().filter(|e| e.text.contains("free")).collect();
    assert_eq!(told.len(), 2, "{told:#?}");
    stage.close().await;
}

/// docs/facts.md, "Slots": below max_wal_size no limit ever shows extended, and unreserved can go back.
async fn an_unreserved_slot_can_go_back<R: Runtime>(mut stage: Stage<R>) {
    stage.command("set wal_keep_size 0").await;
    stage.command("set max_slot_wal_keep_size 16MB").await;
    until_status(&mut stage, "reserved").await;
    stage.command("stop s1").await;
    for _ in 0..6 {
        wal(&mut stage, 4).await;
    }
    until_status(&mut stage, "unreserved").await;
    assert!(!stage.journal().contains("extended"), "{}", stage.journal());
    stage.command("start s1").await;
    stage.until_so("s1 to stream", |m| m.rung(s1(m)).link == Link::Connected("streaming".into())).await;
    until_status(&mut stage, "reserved").await;
    stage.close().await;
}

/// pg_receivewal under the name of a standby: PostgreSQL counts it for the rule, so both standbys may freeze and commits return; the lab
/// says so, promises nothing meanwhile, and doesn't take it for the standby.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_of_a_standbys_name_is_not_that_standby() {
    let topology = Topology::primary_with(2);
    let Some(mut stage) = Stage::of_processes(topology, WriterPlan::default()).await else { return };
    let promised = |m: &Model| count(&m.ledger.promised);
    stage.command("sync any 1 (s1, s2)").await;
    stage.until_so("promises", |m| promised(m) > 20).await;
    let (mut receiver, _folder) = receivewal(&stage, "s1").await;
    stage.until_so("two to be seen", |m| m.namesakes(s1(m)).len() == 1).await;
    let rows = "SELECT count(*) FROM pg_stat_replication WHERE application_name = 's1' AND sync_state = 'quorum'";
    stage.until_psql("p", rows, "2").await;
    let told = "Another connection to p is called s1 too, and PostgreSQL counts both.";
    stage.until_so("the words", |m| m.rule_in_words().contains(told)).await;
    for standby in ["s1", "s2"] {
        stage.command(&format!("freeze {standby}")).await;
    }
    stage.until_so("s1 to be silent", |m| matches!(m.rung(s1(m)).link, Link::LastKnown { .. })).await;
    let (before, acked) = (promised(stage.model()), stage.model().ledger.counts().acked);
    stage.until_so("writes that only it confirms", |m| m.ledger.counts().acked > acked + 40).await;
    assert_eq!(promised(stage.model()), before);
    receiver.kill().await.unwrap();
    stage.command("heal").await;
    stage.until_so("promises again", |m| promised(m) > before + 20).await;
    assert!(stage.journal().contains("only standbys of the lab count for the rule again"), "{}", stage.journal());
    // Where s1 is down it is no more connected for that.
    stage.command("stop s1").await;
    let (mut receiver, _folder) = receivewal(&stage, "s1").await;
    stage.until_psql("p", rows, "1").await;
    let told = "A connection to p is called s1 and isn't the standby s1, but PostgreSQL counts it.";
    stage.until_so("the words", |m| m.rule_in_words().contains(told)).await;
    assert_eq!(stage.model().rung(s1(stage.model())).link, Link::Disconnected);
    receiver.kill().await.unwrap();
    stage.close().await;
}

async fn receivewal<R: Runtime>(stage: &Stage<R>, called: &str) -> (tokio::process::Child, tempfile::TempDir) {
    let lab = &stage.session.lab;
    let address = lab.runtime.control_address(&name("p")).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (host, port) = (address.ip(), address.port());
    let to = format!("host={host} port={port} user=replab_repl application_name={called}");
    let mut receivewal = tokio::process::Command::new(common::pgserver::programs().unwrap().join("pg_receivewal"));
    receivewal.args(["--synchronous", "--no-loop", "-D"]).arg(folder.path()).args(["-d", &to]);
    receivewal.env("PGPASSWORD", lab.passwords.replication.reveal()).kill_on_drop(true);
    (receivewal.spawn().unwrap(), folder)
}

//! What the lab says of lost writes, held against an independent reader: `psql` on the same servers and a plain count, on
//! real PostgreSQL.

mod common;

use std::collections::HashSet;

use common::stage::{Stage, name};
use replab::model::Model;
use replab::model::command::Rate;
use replab::model::msg::{Topology, WriterPlan};
use replab::model::ranges::Ranges;
use replab::pg::conf;
use replab::report::Report;
use replab::runtime::Runtime;

type Id = (u32, u64);

fn flat_out() -> WriterPlan {
    WriterPlan { clients: 8, rate: Rate::Max, ..WriterPlan::default() }
}

everywhere! { flat_out();
    what_a_kill_alone_loses
    what_a_cut_loses
    what_a_frozen_standby_loses
    a_synchronous_rule_loses_nothing
    a_promised_write_that_goes_missing_breaks_the_verdict
    waits_that_were_cancelled_are_lost
    an_emptied_rule_loses
    a_crash_alone_loses_what_was_not_flushed
}

/// The writer of lesson 07.
fn lessons_writer() -> WriterPlan {
    replab::scenario::load("07").unwrap().writer
}

everywhere! { lessons_writer();
    what_lesson_07_says
}

/// The acknowledged ids, read from the report as docs/report-format.md has it.
fn acked_ids(report: &str) -> HashSet<Id> {
    let report: serde_json::Value = serde_json::from_str(report).unwrap();
    let mut ids = HashSet::new();
    for (client, ranges) in report["acked_ids"].as_object().unwrap() {
        for range in ranges.as_array().unwrap() {
            let (first, last) = (range[0].as_u64().unwrap(), range[1].as_u64().unwrap());
            ids.extend((first..=last).map(|seq| (client.parse().unwrap(), seq)));
        }
    }
    ids
}

fn unknown_ids(model: &Model) -> HashSet<Id> {
    let ids = |(client, set): (&u32, &Ranges)| {
        let client = *client;
        set.as_slice().iter().flat_map(move |(first, last)| (*first..=*last).map(move |seq| (client, seq))).collect()
    };
    model.ledger.unknown.iter().flat_map(|one| -> Vec<Id> { ids(one) }).collect()
}

/// What is in the table on a node, as `psql` prints it.
async fn rows<R: Runtime>(stage: &mut Stage<R>, node: &str) -> HashSet<Id> {
    let text = stage.psql(node, "SELECT client, seq FROM replab.writes").await;
    let row = |line: &str| {
        let (client, seq) = line.split_once('|')?;
        Some((client.parse().ok()?, seq.parse().ok()?))
    };
    text.lines().map(|line| row(line).unwrap_or_else(|| panic!("{line:?} is no row"))).collect()
}

fn acked(model: &Model) -> u64 {
    model.ledger.counts().acked
}

/// So many more acknowledged writes.
async fn writes_go_on<R: Runtime>(stage: &mut Stage<R>, count: u64) {
    let before = acked(stage.model());
    stage.until_so("writes", |m| acked(m) >= before + count).await;
}

/// p dies and s1 is promoted; the writer rests, everything is read and judged.
async fn fail_over<R: Runtime>(stage: &mut Stage<R>, before_promotion: &[&str]) -> Report {
    stage.command("kill p").await;
    for command in before_promotion {
        stage.command(command).await;
    }
    stage.command("promote s1").await;
    writes_go_on(stage, 100).await;
    judge(stage).await
}

async fn judge<R: Runtime>(stage: &mut Stage<R>) -> Report {
    stage.rest().await;
    stage.command("verify").await;
    let report = Report::of(stage.model());
    assert_eq!(report.verdict, "sound", "{:?}", report.findings);
    report
}

/// The lab's count and the reader's: the same.
async fn agree<R: Runtime>(stage: &mut Stage<R>, report: &Report) -> HashSet<Id> {
    agree_on(stage, "s1", report).await
}

async fn agree_on<R: Runtime>(stage: &mut Stage<R>, primary: &str, report: &Report) -> HashSet<Id> {
    let acked = acked_ids(&report.json());
    assert_eq!(acked.len() as u64, report.writes.acked + report.writes.acked_with_warning);
    let there = rows(stage, primary).await;
    let lost: HashSet<Id> = acked.difference(&there).copied().collect();
    println!(
        "{} acked, {} lost, {} unknown; the reader: {} lost",
        acked.len(),
        report.writes.lost,
        report.writes.unknown,
        lost.len()
    );
    assert_eq!(report.writes.lost, lost.len() as u64, "the lab and the reader differ");
    lost
}

/// What s2 got before it was cut off, or while s1 was frozen, is stranded there.
async fn held_by_s2<R: Runtime>(stage: &mut Stage<R>, report: &Report, lost: &HashSet<Id>) {
    let held = rows(stage, "s2").await;
    assert_eq!(report.writes.stranded, lost.iter().filter(|id| held.contains(id)).count() as u64);
}

/// The lost writes are found again on the old primary, as soon as that answers.
async fn stranded_on_p<R: Runtime>(stage: &mut Stage<R>, lost: &HashSet<Id>) {
    stage.command("start p").await;
    let report = judge(stage).await;
    let there = rows(stage, "p").await;
    let stranded = lost.iter().filter(|id| there.contains(id)).count() as u64;
    assert_eq!((report.writes.lost, report.writes.stranded), (lost.len() as u64, stranded));
    assert_eq!(stranded, lost.len() as u64, "p had acknowledged them all, so it must hold them");
}

/// Without a cut hardly anything: what was sent still arrives. What doesn't, the old primary has.
async fn what_a_kill_alone_loses<R: Runtime>(mut stage: Stage<R>) {
    writes_go_on(&mut stage, 3_000).await;
    let report = fail_over(&mut stage, &[]).await;
    let lost = agree(&mut stage, &report).await;
    assert!(
        (lost.len() as u64) < report.writes.acked / 4,
        "{} of {} lost, and no link was cut",
        lost.len(),
        report.writes.acked
    );
    assert_eq!(report.writes.acked_with_warning, 0);
    held_by_s2(&mut stage, &report, &lost).await;
    stranded_on_p(&mut stage, &lost).await;
    stage.close().await;
}

async fn what_a_cut_loses<R: Runtime>(mut stage: Stage<R>) {
    writes_go_on(&mut stage, 1_000).await;
    stage.command("cut p s1").await;
    stage.command("cut p s2").await;
    writes_go_on(&mut stage, 2_000).await;
    let report = fail_over(&mut stage, &[]).await;
    assert!(report.writes.lost > 1_000, "the link was cut, and only {} are lost", report.writes.lost);
    let lost = agree(&mut stage, &report).await;
    held_by_s2(&mut stage, &report, &lost).await;
    stranded_on_p(&mut stage, &lost).await;
    stage.close().await;
}

async fn what_a_frozen_standby_loses<R: Runtime>(mut stage: Stage<R>) {
    writes_go_on(&mut stage, 1_000).await;
    stage.command("freeze s1").await;
    // What fits into sockets on the way still arrives after the primary's death: they are filled first.
    stage.psql("p", "CREATE TABLE filler AS SELECT g, repeat('x', 1000) AS x FROM generate_series(1, 40000) g").await;
    writes_go_on(&mut stage, 1_000).await;
    let report = fail_over(&mut stage, &["thaw s1"]).await;
    assert!(report.writes.lost > 0, "s1 was frozen while 1000 writes were acknowledged");
    let lost = agree(&mut stage, &report).await;
    held_by_s2(&mut stage, &report, &lost).await;
    stranded_on_p(&mut stage, &lost).await;
    stage.close().await;
}

async fn a_synchronous_rule_loses_nothing<R: Runtime>(mut stage: Stage<R>) {
    stage.command("sync first 1 (s1)").await;
    writes_go_on(&mut stage, 1_000).await;
    stage.command("cut p s1").await;
    stage.until_so("all clients wait", |m| m.waiting().len() == 8).await;
    let report = fail_over(&mut stage, &[]).await;
    assert_eq!((report.writes.lost, report.writes.acked_with_warning), (0, 0));
    assert!(report.writes.unknown >= 8, "those that waited got no answer: {:?}", report.writes);
    assert!(agree(&mut stage, &report).await.is_empty());
    assert_eq!(stage.model().primary, Some(name("s1")));
    // They wait for nothing but an answer: on p's own disk they are.
    let unknown = unknown_ids(stage.model());
    assert_eq!(unknown.len() as u64, report.writes.unknown);
    stage.command("start p").await;
    let there = rows(&mut stage, "p").await;
    let missing: Vec<&Id> = unknown.difference(&there).collect();
    assert!(missing.is_empty(), "{missing:?} of {unknown:?}");
    let on_s1 = rows(&mut stage, "s1").await;
    println!("{} of the {} unknown ones are on s1 too", unknown.intersection(&on_s1).count(), unknown.len());
    stage.close().await;
}

/// A row that was promised is taken away behind the lab's back, which no rule can prevent: the lab has to see that it promised it.
async fn a_promised_write_that_goes_missing_breaks_the_verdict<R: Runtime>(mut stage: Stage<R>) {
    stage.command("sync first 1 (s1)").await;
    let some =
        |m: &Model| m.ledger.promised.iter().find_map(|(client, set)| Some((*client, set.as_slice().first()?.0)));
    // Of what was acknowledged before two looks had found the rule nobody can say so.
    let (client, seq) = stage.until("a promised write", some).await;
    stage.rest().await;
    let report = judge(&mut stage).await;
    assert!(agree_on(&mut stage, "p", &report).await.is_empty());
    stage.psql("p", &format!("DELETE FROM replab.writes WHERE client = {client} AND seq = {seq}")).await;
    stage.command("verify").await;
    let report = Report::of(stage.model());
    let findings = ["1 lost write was promised by the synchronous rule in force"];
    assert_eq!((report.verdict.as_str(), &report.findings[..]), ("broken", &findings.map(str::to_owned)[..]));
    assert!(!report.good(), "the exit code hangs on this");
    assert_eq!((report.writes.lost, &report.lost_ids), (1, &[(client, vec![(seq, seq)])].into()));
    assert_eq!(agree_on(&mut stage, "p", &report).await, HashSet::from([(client, seq)]));
    stage.close().await;
}

/// Commits that wait behind a cut.
async fn all_wait_behind_a_cut<R: Runtime>(stage: &mut Stage<R>) {
    stage.command("sync first 1 (s1)").await;
    writes_go_on(stage, 500).await;
    stage.command("cut p | s1 s2").await;
    stage.until_so("all clients wait", |m| m.waiting().len() == 8).await;
}

async fn waits_that_were_cancelled_are_lost<R: Runtime>(mut stage: Stage<R>) {
    all_wait_behind_a_cut(&mut stage).await;
    for more in 1..=5 {
        stage.command("cancel").await;
        stage.until_so("acks with a warning", |m| m.ledger.counts().acked_with_warning >= 8 * more).await;
        // By the server's own word: the lab's last look may be the one before the cancel.
        stage.until_psql("p", "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'", "8").await;
    }
    let report = fail_over(&mut stage, &[]).await;
    let lost = agree(&mut stage, &report).await;
    let warned = stage.model().ledger.warned.clone();
    let is_warned = |(client, seq): &Id| warned.get(client).is_some_and(|set| set.contains(*seq));
    // What waited first may have been on its way already: it arrives, and only its confirmation is cut.
    assert!(lost.len() >= 32 && lost.iter().all(is_warned), "{} lost", lost.len());
    assert_eq!(stage.model().verification.as_ref().unwrap().lost_warned, lost.len() as u64);
    stage.close().await;
}

async fn an_emptied_rule_loses<R: Runtime>(mut stage: Stage<R>) {
    all_wait_behind_a_cut(&mut stage).await;
    stage.command("sync off").await;
    writes_go_on(&mut stage, 1_500).await;
    let report = fail_over(&mut stage, &[]).await;
    // The last answers of before the cut may be among those counted.
    assert!(agree(&mut stage, &report).await.len() >= 1_000);
    assert_eq!(report.writes.acked_with_warning, 0, "nobody was warned");
    stage.close().await;
}

/// So many crashes don't all lose nothing under `off`.
const CRASHES: usize = 8;

/// No failover at all: with `off` a crash loses what was acknowledged and not flushed yet, with `on` nothing.
async fn a_crash_alone_loses_what_was_not_flushed<R: Runtime>(mut stage: Stage<R>) {
    writes_go_on(&mut stage, 1_000).await;
    stage.command("kill p").await;
    stage.command("start p").await;
    writes_go_on(&mut stage, 100).await;
    let report = judge(&mut stage).await;
    assert_eq!(report.writes.lost, 0, "every one was flushed before it was acknowledged");
    assert!(agree_on(&mut stage, "p", &report).await.is_empty());
    stage.command("commit off").await;
    // What the server had just written out when it was killed is there: not every crash loses something.
    for _ in 0..CRASHES {
        stage.command("resume").await;
        writes_go_on(&mut stage, 5_000).await;
        stage.command("kill p").await;
        stage.command("start p").await;
        writes_go_on(&mut stage, 100).await;
        let report = judge(&mut stage).await;
        if !agree_on(&mut stage, "p", &report).await.is_empty() {
            stage.close().await;
            return;
        }
    }
    panic!("8 writers flat out, and the last moment before {CRASHES} crashes was flushed?");
}

/// The lesson is played to its end; what its report says is lost, `psql` misses too.
async fn what_lesson_07_says<R: Runtime>(mut stage: Stage<R>) {
    stage.session.model.script = Some(replab::scenario::load("07").unwrap().script);
    stage.until_so("the lesson's end", |m| m.script.as_ref().is_some_and(replab::model::script::Script::over)).await;
    let report = Report::of(stage.model());
    assert!(report.steps.iter().all(|s| s.ok), "{:#?}", report.steps);
    let kept = report.steps.iter().find(|s| s.detail.starts_with("lost = 0: it is 0"));
    assert!(kept.is_some(), "under FIRST 1 nothing is lost");
    let lost = agree(&mut stage, &report).await;
    assert!(lost.len() >= 100, "{} lost", lost.len());
    stage.close().await;
}

/// Behind the lab's back p's data directory becomes another cluster's, as where one on a tmpfs is initialised again at a restart: it is said
/// once, nothing is judged any more, and a run without a screen ends with an error. As processes only: where an engine stores layers
/// through FUSE, initdb can't fill a directory of a container that was emptied ("File exists").
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_directory_made_anew_ends_the_run() {
    let Some(mut stage) = Stage::of_processes(Topology::primary_with(2), flat_out()).await else { return };
    stage.until_so("acked writes", |m| acked(m) > 100).await;
    stage.rest().await;
    stage.command("stop p").await;
    let (lab, p) = (stage.session.lab.clone(), name("p"));
    lab.runtime.empty(&p).await.unwrap();
    lab.runtime.put(&p, &[conf::superuser_file(&lab.passwords)]).await.unwrap();
    let made = lab.runtime.run(&p, &conf::initdb_job(&lab.key)).await.unwrap();
    assert_eq!(made.code, Some(0), "{}", made.output);
    lab.runtime.put(&p, &conf::fresh_files(&p, &lab.passwords, &[], &[])).await.unwrap();
    drop(lab);
    stage.command("start p").await;
    let told = |m: &Model| m.journal.entries().filter(|e| e.text.contains("p is another cluster now")).count();
    stage.until_so("the lab to say so", |m| told(m) > 0).await;
    stage.command("verify").await;
    assert_eq!(told(stage.model()), 1, "{}", stage.journal());
    let report = Report::of(stage.model());
    assert_eq!((report.verdict.as_str(), report.writes.lost, report.writes.stranded), ("unknown", 0, 0));
    assert!(report.error.is_some_and(|why| why.starts_with("p is another cluster now")));
    assert_eq!(stage.play_on().await, replab::cli::exit::ENGINE);
}

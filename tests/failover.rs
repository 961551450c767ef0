//! The primary's part moves on real PostgreSQL: switchover, failover, coming back, two primaries at once. What the lab says is
//! confirmed by plain SQL.

mod common;

use std::time::Duration;

use common::stage::{Stage, name};
use replab::model::Model;
use replab::model::admit::admit;
use replab::model::cluster::{NodeState, Role};
use replab::model::command::{Command, Rate};
use replab::model::handover::Handover;
use replab::model::ledger::count;
use replab::model::msg::{Origin, Rejoined, Road, WriterPlan};
use replab::runtime::{Place, Runtime};

fn steady() -> WriterPlan {
    WriterPlan { clients: 4, rate: Rate::PerSecond(200), ..WriterPlan::default() }
}

everywhere! { steady();
    switchover_loses_nothing
    switchover_waits_for_one_that_is_behind
    a_switchover_that_would_lose_comes_to_nothing
    a_laggard_is_promoted_with_a_warning
    the_old_primary_is_rewound
    what_a_rewind_cannot_mend_is_rebuilt
    failover_by_hand_and_by_itself
    an_election_waits_for_enough_answers
    two_primaries
    two_histories_of_one_number
    silent_and_cut_off_primaries
    a_timeline_is_known_when_the_stream_has_ended
    without_fencing_two_primaries_remain
    a_loss_that_is_allowed_is_taken
    what_no_wal_leads_back_to_is_rebuilt
    a_standby_that_was_away_is_called_in
    a_standby_that_is_ahead_cannot_follow
    promotion_overrides_what_holds_replay_back
}

const ROWS: &str = "SELECT count(*) FROM replab.writes";

fn sender(standby: &str) -> String {
    format!("SELECT state FROM pg_stat_replication WHERE application_name = '{standby}'")
}

fn acked(m: &Model) -> u64 {
    m.ledger.counts().acked
}

async fn writes_go_on<R: Runtime>(stage: &mut Stage<R>, more: u64) {
    let before = acked(stage.model());
    stage.until_so("acknowledged writes", |m| acked(m) >= before + more).await;
}

async fn rests<R: Runtime>(stage: &mut Stage<R>) {
    stage.rest().await;
}

/// Waits until a standby has received all that its upstream has.
async fn level<R: Runtime>(stage: &mut Stage<R>, upstream: &str, standby: &str) {
    let end = stage.psql(upstream, "SELECT pg_current_wal_flush_lsn()").await;
    stage.until_psql(standby, &format!("SELECT pg_last_wal_receive_lsn() >= '{end}'"), "t").await;
}

/// The rows are read and judged: how many acknowledged writes are lost.
async fn lost<R: Runtime>(stage: &mut Stage<R>) -> u64 {
    rests(stage).await;
    stage.command("verify").await;
    let verification = stage.model().verification.clone().unwrap();
    assert_eq!(verification.verdict.word(), "sound", "{:?}\n{}", verification.verdict, stage.journal());
    stage.command("resume").await;
    verification.lost
}

async fn refused<R: Runtime>(stage: &mut Stage<R>, command: &str, part: &str) {
    let why = stage.try_command(command).await.expect_err(command);
    assert!(why.contains(part), "{command}: {why}");
}

async fn is_standby_of<R: Runtime>(stage: &mut Stage<R>, standby: &str, upstream: &str) {
    assert_eq!(stage.psql(standby, "SELECT pg_is_in_recovery()").await, "t");
    stage.until_psql(upstream, &sender(standby), "streaming").await;
    assert_eq!(stage.psql(standby, "SHOW cluster_name").await, standby);
    assert_eq!(stage.psql(standby, "SHOW primary_slot_name").await, standby);
}

async fn told<R: Runtime>(stage: &mut Stage<R>, part: &str) {
    stage.until_so(part, |m| m.journal.entries().any(|e| e.text.contains(part))).await;
}

fn last(m: &Model) -> &Handover {
    m.handovers.last().unwrap()
}

fn how(m: &Model) -> &Rejoined {
    &m.rejoins.last().unwrap().2
}

/// All parts of the last handover are known, and add up.
async fn figures<R: Runtime>(stage: &mut Stage<R>) -> f64 {
    stage.until_so("the figures", |m| last(m).told).await;
    let split = last(stage.model()).split();
    let parts = [split.detection_ms, split.election_ms, split.promotion_ms, split.first_ack_ms];
    let sum: f64 = parts.iter().map(|p| p.expect("every part is known")).sum();
    let rto = split.rto_ms.unwrap();
    println!("{}", last(stage.model()).sentence().unwrap());
    assert!((sum - rto).abs() < 0.01, "{split:?}");
    rto
}

async fn switchover_loses_nothing<R: Runtime>(mut stage: Stage<R>) {
    stage.command("sync first 1 (s1, s2)").await;
    stage.command("set work_mem 7MB on p").await;
    writes_go_on(&mut stage, 200).await;
    refused(&mut stage, "switchover p", "is a primary already").await;
    refused(&mut stage, "failover", "`switchover s1` is the planned way").await;
    stage.command("switchover s1").await;
    figures(&mut stage).await;
    assert_eq!(stage.model().primary, Some(name("s1")));
    assert_eq!(stage.psql("s1", "SHOW synchronous_standby_names").await, "FIRST 1 (s2)", "the rule came along");
    for standby in ["p", "s2"] {
        is_standby_of(&mut stage, standby, "s1").await;
    }
    assert_eq!(stage.psql("p", "SHOW work_mem").await, "7MB", "it keeps its own settings");
    assert_eq!(stage.psql("p", "SELECT count(*) FROM pg_replication_slots").await, "0", "no slot holds back its WAL");
    writes_go_on(&mut stage, 200).await;
    assert_eq!(lost(&mut stage).await, 0);
    let timeline = stage.model().timelines.last().unwrap().clone();
    assert_eq!((timeline.id, timeline.parent), (2, Some(1)));
    let file = stage.psql("s1", "SELECT pg_read_file('pg_wal/00000002.history')").await;
    assert!(file.contains(&timeline.fork.unwrap().to_string()), "{file}");
    stage.command("switchover p").await;
    is_standby_of(&mut stage, "s1", "p").await;
    is_standby_of(&mut stage, "s2", "p").await;
    assert_eq!(lost(&mut stage).await, 0);
    stage.close().await;
}

/// Nothing is synchronous, and s1 comes to be some hundred kB behind on a link this narrow, up to the moment of its switchover.
async fn falls_behind<R: Runtime>(stage: &mut Stage<R>, rate: &str) {
    writes_go_on(stage, 100).await;
    stage.command(&format!("throttle p -> s1 {rate}")).await;
    // In small commits: a standby confirms whole messages, and one that is long on its way makes it look silent.
    let message = "PERFORM pg_logical_emit_message(true, 'replab', repeat('x', 4000)); COMMIT";
    stage.psql("p", &format!("DO $$ BEGIN FOR n IN 1..100 LOOP {message}; END LOOP; END $$")).await;
    let switchover: Command = "switchover s1".parse().unwrap();
    stage.until_so("s1 to be one to switch over to", |m| admit(m, &switchover).is_ok()).await;
    let received = stage.psql("s1", "SELECT pg_last_wal_receive_lsn()").await;
    let behind = format!("SELECT pg_wal_lsn_diff(pg_current_wal_flush_lsn(), '{received}')::bigint");
    let behind: u64 = stage.psql("p", &behind).await.parse().unwrap();
    println!("s1 is {behind} bytes behind");
    assert!(behind > 200_000, "{behind}");
}

async fn switchover_waits_for_one_that_is_behind<R: Runtime>(mut stage: Stage<R>) {
    falls_behind(&mut stage, "100kB/s").await;
    let took = stage.command("switchover s1").await;
    assert!(took > Duration::from_secs(2), "400 kB came within {took:?}");
    let booked = acked(stage.model());
    stage.command("heal").await;
    writes_go_on(&mut stage, 100).await;
    assert_eq!(stage.model().primary, Some(name("s1")));
    assert_eq!(lost(&mut stage).await, 0);
    rests(&mut stage).await;
    let rows = stage.psql("s1", ROWS).await;
    assert!(rows.parse::<u64>().unwrap() >= booked + 100, "{rows} rows, {booked} were acknowledged before");
    stage.until_psql("p", ROWS, &rows).await;
    stage.close().await;
}

/// s1 is lost while p stops, and lacks what p has: p is started again, and nobody is promoted.
async fn a_switchover_that_would_lose_comes_to_nothing<R: Runtime>(mut stage: Stage<R>) {
    falls_behind(&mut stage, "50kB/s").await;
    stage.session.ask("switchover s1".parse().unwrap(), Origin::You);
    let stops = |m: &Model| m.node(&name("p")).unwrap().phase.as_deref() == Some("stopping");
    stage.until_so("p to be stopping", stops).await;
    stage.command("refuse s1 -> p").await;
    stage.until_so("the end of it", |m| m.handover().is_none()).await;
    let why = last(stage.model()).failed.clone().expect("it failed");
    let words = ["s1 has replayed up to ", " only; p's last record is at ", "p is started again and stays the primary"];
    assert!(words.iter().all(|part| why.contains(part)), "{why}");
    told(&mut stage, &why).await;
    assert_eq!(stage.model().primary, Some(name("p")));
    for (node, standby) in [("p", "f"), ("s1", "t"), ("s2", "t")] {
        assert_eq!(stage.psql(node, "SELECT pg_is_in_recovery()").await, standby, "{node}");
    }
    writes_go_on(&mut stage, 100).await;
    stage.command("heal").await;
    for standby in ["s1", "s2"] {
        is_standby_of(&mut stage, standby, "p").await;
    }
    assert_eq!(lost(&mut stage).await, 0);
    assert_eq!(stage.psql("p", "SELECT timeline_id FROM pg_control_checkpoint()").await, "1");
    stage.close().await;
}

async fn a_laggard_is_promoted_with_a_warning<R: Runtime>(mut stage: Stage<R>) {
    writes_go_on(&mut stage, 50).await;
    stage.command("cut p s1").await;
    writes_go_on(&mut stage, 200).await;
    rests(&mut stage).await;
    let all = stage.psql("p", ROWS).await;
    stage.until_psql("s2", ROWS, &all).await;
    stage.command("kill p").await;
    stage.until_so("the lab to see it", |m| !m.ahead_of(&name("s1")).is_empty()).await;
    stage.command("promote s1").await;
    told(&mut stage, "ahead of s1 in the log: s2 by").await;
    stage.command("follow all s1").await;
    told(&mut stage, "s2 can't follow s1").await;
    let only = all.parse::<u64>().unwrap() - stage.psql("s1", ROWS).await.parse::<u64>().unwrap();
    assert!(only >= 100, "s1 was cut off while 200 writes were made, and lacks only {only}");
    nobody_takes_over_from_one_that_is_well(&mut stage).await;
    // One that is ahead of the promoted one comes back by a rewind.
    stage.command("rejoin s2").await;
    assert_eq!((how(stage.model()).road, how(stage.model()).only.as_ref().map(count)), (Road::Rewound, Ok(only)));
    is_standby_of(&mut stage, "s2", "s1").await;
    refused(&mut stage, "rejoin s2", "is a healthy standby").await;
    refused(&mut stage, "rejoin s1", "is the primary, and the only one").await;
    stage.close().await;
}

/// s1's only follower gets nothing, for several timeouts of the detector: that is its own fault, not s1's.
async fn nobody_takes_over_from_one_that_is_well<R: Runtime>(stage: &mut Stage<R>) {
    stage.command("auto-failover on timeout 1s no-fence").await;
    stage.command("resume").await;
    writes_go_on(stage, 50).await;
    let (from, handovers) = (stage.model().now, stage.model().handovers.len());
    stage.until_so("four timeouts", |m| m.now.ms_since(from) > 4_000).await;
    writes_go_on(stage, 50).await;
    assert_eq!(stage.model().handovers.len(), handovers, "{}", stage.journal());
    stage.command("auto-failover off").await;
}

/// p is cut off with writes of its own, dies, and s1 takes its place; how many rows only p has.
async fn diverged<R: Runtime>(stage: &mut Stage<R>) -> u64 {
    writes_go_on(stage, 100).await;
    // In this order, so that s1 has all that s2 has.
    stage.command("cut p s2").await;
    stage.command("cut p s1").await;
    writes_go_on(stage, 300).await;
    rests(stage).await;
    let all: u64 = stage.psql("p", ROWS).await.parse().unwrap();
    stage.command("kill p").await;
    stage.command("promote s1").await;
    let only = all - stage.psql("s1", ROWS).await.parse::<u64>().unwrap();
    assert!(only >= 200, "{only}");
    stage.command("follow all s1").await;
    stage.command("resume").await;
    writes_go_on(stage, 100).await;
    only
}

async fn back_as_a_copy<R: Runtime>(stage: &mut Stage<R>, standby: &str) {
    is_standby_of(stage, standby, "s1").await;
    rests(stage).await;
    let rows = stage.psql("s1", ROWS).await;
    stage.until_psql(standby, ROWS, &rows).await;
    stage.command("resume").await;
}

/// `rejoin p`; the finding is told while pg_rewind hasn't thrown away anything yet, or is just at it.
async fn rejoin_tells_first<R: Runtime>(stage: &mut Stage<R>, only: u64) {
    let finding = format!("{only} rows of the writer are only on p: stranded (");
    let at = |m: &Model, part: &str| m.journal.entries().find(|e| e.text.contains(part)).map(|e| e.at);
    stage.session.ask("rejoin p".parse().unwrap(), Origin::You);
    let phase = |m: &Model| m.node(&name("p")).unwrap().phase.clone();
    let phase = stage.until("the finding", |m| at(m, &finding).map(|_| phase(m))).await;
    assert!(["counting, cut off", "pg_rewind"].map(str::to_owned).map(Some).contains(&phase), "{phase:?}");
    assert!(stage.model().rejoins.is_empty());
    stage.until_so("the end of it", |m| m.ops.is_empty()).await;
    let told = stage.journal();
    assert!(told.contains(&format!("{only} of them acknowledged")), "{told}");
    assert!(at(stage.model(), &finding) < at(stage.model(), "are thrown away"), "{told}");
}

async fn the_old_primary_is_rewound<R: Runtime>(mut stage: Stage<R>) {
    stage.command("set work_mem 7MB on p").await;
    let only = diverged(&mut stage).await;
    refused(&mut stage, "rejoin p", "`heal p s1` first").await;
    stage.command("heal").await;
    rejoin_tells_first(&mut stage, only).await;
    let found = how(stage.model()).clone();
    assert_eq!((found.road, found.detour, found.only.as_ref().map(count)), (Road::Rewound, None, Ok(only)));
    let acknowledged = replab::model::ledger::and(&found.only.unwrap(), &stage.model().ledger.acked);
    assert_eq!(count(&acknowledged), only, "they were all acknowledged");
    let fork = stage.psql("s1", "SELECT pg_read_file('pg_wal/00000002.history')").await;
    assert!(fork.contains(&found.fork.unwrap().to_string()), "{fork}");
    assert!(found.end > found.fork);
    back_as_a_copy(&mut stage, "p").await;
    assert_eq!(stage.psql("p", "SHOW work_mem").await, "7MB");
    assert_eq!(
        stage
            .psql("p", "SELECT count(*) FROM pg_hba_file_rules WHERE database = '{replication}' AND type = 'host'")
            .await,
        "1"
    );
    assert_eq!(lost(&mut stage).await, only, "what was thrown away is lost");
    // Nothing of its own: then it simply follows.
    stage.command("kill p").await;
    stage.command("rejoin p").await;
    assert_eq!(how(stage.model()).road, Road::Straight);
    assert_eq!(how(stage.model()).only.as_ref().map(count), Ok(0));
    back_as_a_copy(&mut stage, "p").await;
    stage.close().await;
}

async fn what_a_rewind_cannot_mend_is_rebuilt<R: Runtime>(mut stage: Stage<R>) {
    stage.command("set work_mem 7MB on p").await;
    diverged(&mut stage).await;
    stage.command("heal").await;
    // pg_rewind may list the source's files, and is refused when it wants to copy them: it fails half-way.
    let function = "pg_catalog.pg_read_binary_file(text, bigint, bigint, boolean)";
    let revoke = format!("REVOKE EXECUTE ON FUNCTION {function} FROM replab_repl");
    stage.psql_in("postgres", "s1", &revoke, |_| ()).await.unwrap();
    refused(&mut stage, "rejoin p rewind", "`rejoin p rebuild` makes it anew").await;
    let signal = Place::Data("standby.signal".to_owned());
    let there = stage.session.lab.runtime.read(&name("p"), &signal).await.unwrap();
    assert!(there.is_some(), "started as it is, it must not be a primary");
    // Whatever a server can make of what is left: no second primary comes of it.
    stage.session.lab.runtime.start(&name("p")).await.unwrap();
    let log =
        |m: &Model| m.node(&name("p")).unwrap().logs.iter().any(|l| l.line.text.contains("entering standby mode"));
    stage.until_so("p to enter standby mode", log).await;
    assert_ne!(stage.try_psql("p", "SELECT pg_is_in_recovery()").await.as_deref(), Ok("f"));
    assert_eq!(stage.model().rivals().count(), 0);
    stage.command("kill p").await;
    stage.command("rejoin p").await;
    let found = how(stage.model()).clone();
    assert_eq!(found.road, Road::Rebuilt);
    assert!(found.detour.unwrap().contains("half-way") && found.only.is_err());
    back_as_a_copy(&mut stage, "p").await;
    assert_eq!(stage.psql("p", "SHOW work_mem").await, "7MB", "a copy of s1, with its own settings");
    // By order, with nothing of its own.
    stage.command("kill p").await;
    stage.command("rejoin p rebuild").await;
    let found = how(stage.model()).clone();
    assert_eq!((found.road, found.only.as_ref().map(count)), (Road::Rebuilt, Ok(0)));
    back_as_a_copy(&mut stage, "p").await;
    assert_eq!(stage.psql("p", "SHOW work_mem").await, "7MB");
    assert_ne!(stage.psql("s1", "SHOW work_mem").await, "7MB", "which s1 hasn't");
    // A data directory that no server can run in: nothing can be counted, and it is made anew.
    stage.command("stop p").await;
    stage.session.lab.runtime.empty(&name("p")).await.unwrap();
    refused(&mut stage, "rejoin p rewind", "there is no database in it").await;
    stage.command("rejoin p").await;
    assert_eq!(how(stage.model()).road, Road::Rebuilt);
    assert!(how(stage.model()).only.is_err());
    back_as_a_copy(&mut stage, "p").await;
    a_base_backup_that_fails_costs_no_settings(&mut stage).await;
    stage.close().await;
}

/// A base backup that s1 refuses costs p nothing: it has its data and settings, and can be started, as a standby.
async fn a_base_backup_that_fails_costs_no_settings<R: Runtime>(stage: &mut Stage<R>) {
    stage.command("set work_mem 9MB on p").await;
    stage.command("stop p").await;
    stage.psql("s1", "ALTER ROLE replab_repl NOREPLICATION").await;
    refused(stage, "rejoin p rebuild", "pg_basebackup: ").await;
    refused(stage, "rejoin p rebuild", "p keeps the data that it had, and stays down").await;
    stage.command("start p").await;
    assert_eq!(stage.psql("p", "SELECT pg_is_in_recovery(), current_setting('work_mem')").await, "t|9MB");
    stage.command("stop p").await;
    stage.psql("s1", "ALTER ROLE replab_repl REPLICATION").await;
    stage.command("rejoin p rebuild").await;
    assert_eq!(how(stage.model()).road, Road::Rebuilt);
    back_as_a_copy(stage, "p").await;
    assert_eq!(stage.psql("p", "SHOW work_mem").await, "9MB");
    assert_ne!(stage.psql("s1", "SHOW work_mem").await, "9MB", "which s1 hasn't");
}

async fn failover_by_hand_and_by_itself<R: Runtime>(mut stage: Stage<R>) {
    writes_go_on(&mut stage, 100).await;
    stage.command("kill p").await;
    stage.command("failover").await;
    figures(&mut stage).await;
    let first = stage.model().primary.clone().unwrap();
    assert_ne!(first, name("p"));
    stage.command("rejoin p").await;
    stage.command("auto-failover on timeout 1s").await;
    let fresh = |m: &Model| first_probe(m, first.as_str());
    stage.until_so("the first probes", fresh).await;
    writes_go_on(&mut stage, 100).await;
    stage.command(&format!("kill {first}")).await;
    let next = |m: &Model| m.handovers.len() == 2 && last(m).told;
    stage.until_so("another primary", next).await;
    let rto = figures(&mut stage).await;
    assert!(last(stage.model()).exact);
    let detection = last(stage.model()).split().detection_ms.unwrap();
    assert!(detection < 1_000.0, "a refused connection is death at once, and it took {detection} ms");
    assert!(rto < 5_000.0, "{rto}");
    writes_go_on(&mut stage, 100).await;
    let primary = stage.model().primary.clone().unwrap();
    assert_eq!(stage.psql(primary.as_str(), "SELECT pg_is_in_recovery()").await, "f");
    stage.command("auto-failover off").await;
    refused(&mut stage, "auto-failover off", "off already").await;
    stage.command(&format!("rejoin {first}")).await;
    is_standby_of(&mut stage, first.as_str(), primary.as_str()).await;
    stage.close().await;
}

fn first_probe(m: &Model, node: &str) -> bool {
    m.detector.last_good(&name(node)).is_some()
}

async fn an_election_waits_for_enough_answers<R: Runtime>(mut stage: Stage<R>) {
    stage.command("sync any 1 (s1, s2)").await;
    writes_go_on(&mut stage, 100).await;
    stage.command("stop s1").await;
    writes_go_on(&mut stage, 100).await;
    // Whoever may still run isn't fenced for an election that comes to nothing.
    stage.command("freeze p").await;
    refused(&mut stage, "failover", "s1 is missing").await;
    assert_eq!(stage.model().node(&name("p")).unwrap().state, NodeState::Frozen);
    stage.command("thaw p").await;
    writes_go_on(&mut stage, 100).await;
    assert_eq!(stage.psql("p", "SELECT pg_is_in_recovery()").await, "f");
    stage.command("kill p").await;
    refused(&mut stage, "failover", "s1 is missing").await;
    stage.command("auto-failover on timeout 500ms").await;
    stage.command("start p").await;
    stage.until_so("the first probe", |m| first_probe(m, "p")).await;
    writes_go_on(&mut stage, 100).await;
    stage.command("kill p").await;
    stage.until_so("a waiting election", |m| m.handover().is_some_and(|h| h.waits_for == ["s1"])).await;
    assert_eq!(stage.psql("s2", "SELECT pg_is_in_recovery()").await, "t", "nobody is promoted meanwhile");
    // A primary that comes back meanwhile isn't killed, and stays it.
    stage.command("start p").await;
    told(&mut stage, "p is back: no failover").await;
    stage.until_so("the first probe", |m| first_probe(m, "p")).await;
    writes_go_on(&mut stage, 100).await;
    stage.command("kill p").await;
    stage.until_so("another waiting election", |m| m.handover().is_some_and(|h| h.waits_for == ["s1"])).await;
    stage.command("start s1").await;
    stage.until_so("another primary", |m| m.primary == Some(name("s2"))).await;
    figures(&mut stage).await;
    assert_eq!(stage.psql("s2", "SHOW synchronous_standby_names").await, "ANY 1 (s1)");
    writes_go_on(&mut stage, 100).await;
    assert_eq!(lost(&mut stage).await, 0);
    stage.command("stop s1").await;
    stage.command("auto-failover off").await;
    stage.command("kill s2").await;
    refused(&mut stage, "failover", "nobody to fail over to").await;
    stage.close().await;
}

async fn two_primaries<R: Runtime>(mut stage: Stage<R>) {
    writes_go_on(&mut stage, 100).await;
    refused(&mut stage, "fence p", "the only primary").await;
    stage.command("target p").await;
    stage.command("promote s1").await;
    stage.until_so("both to be seen", |m| m.rivals().count() == 1).await;
    writes_go_on(&mut stage, 200).await;
    stage.command("target primary").await;
    writes_go_on(&mut stage, 200).await;
    rests(&mut stage).await;
    stage.command("verify").await;
    let rows = |a: &str| format!("SELECT count(*) FROM replab.writes {a}");
    let (p, s1): (u64, u64) =
        (stage.psql("p", &rows("")).await.parse().unwrap(), stage.psql("s1", &rows("")).await.parse().unwrap());
    let sides = stage.model().verification.clone().unwrap().sides;
    let (ours, theirs) = (&sides[&name("s1")], &sides[&name("p")]);
    let (only_s1, only_p) = (count(&ours.only), count(&theirs.only));
    assert!(only_s1 >= 100 && only_p >= 100, "{only_s1} {only_p}");
    assert_eq!(p - only_p, s1 - only_s1, "what both have is the same");
    assert_eq!(stage.model().verification.as_ref().unwrap().lost, theirs.acked_only);
    stage.command("fence p").await;
    assert!(stage.try_psql("p", "SELECT 1").await.is_err());
    stage.command("rejoin p").await;
    assert_eq!(how(stage.model()).only.as_ref().map(count), Ok(only_p));
    back_as_a_copy(&mut stage, "p").await;
    stage.close().await;
}

/// A frozen primary is dead after the timeout, and so is one that all its standbys have lost; what it holds then is stranded.
/// s1 and s2 are promoted at one place, each with a standby below it; the clients go on with s2. What is of s1's history is never taken
/// for a copy of s2, whatever the numbers say, and after a switchover neither.
async fn two_histories_of_one_number<R: Runtime>(mut stage: Stage<R>) {
    writes_go_on(&mut stage, 50).await;
    stage.command("add c from s1").await;
    for command in ["pause", "heartbeat off"] {
        stage.command(command).await;
    }
    rests(&mut stage).await;
    level(&mut stage, "p", "s1").await;
    level(&mut stage, "p", "s2").await;
    for command in ["kill p", "promote s1", "promote s2", "rejoin p", "add d from s2"] {
        stage.command(command).await;
    }
    assert_ne!(how(stage.model()).road, Road::Rebuilt, "no number hides p's history");
    for (node, row) in [("s1", "only s1"), ("s2", "only s2")] {
        stage.psql(node, &format!("CREATE TABLE own AS SELECT '{row}'::text AS t")).await;
        assert_eq!(stage.psql(node, "SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)").await, "00000002");
    }
    let own = "SELECT string_agg(t, ', ') FROM own";
    stage.until_psql("c", own, "only s1").await;
    stage.until_psql("d", own, "only s2").await;
    refused(&mut stage, "follow c s2", "c has diverged from s2: their histories have parted").await;
    refused(&mut stage, "rejoin c rewind", "timeline 2 of s1 and timeline 2 of s2 are two histories with one number")
        .await;
    // Told so behind the lab's back it may stream, and is called what it is.
    stage.command("fence s1").await;
    stage.command("rejoin s1").await;
    told(
        &mut stage,
        "s1 has diverged from s2: timeline 2 of s1 and timeline 2 of s2 are two histories with one number",
    )
    .await;
    assert_eq!((how(stage.model()).road, how(stage.model()).only.as_ref().map(count)), (Road::Rebuilt, Ok(0)));
    is_standby_of(&mut stage, "s1", "s2").await;
    stage.until_psql("s1", own, "only s2").await;
    told(&mut stage, "c has diverged from s1: timeline 2 of s1 and timeline 2 of s2").await;
    // The number of the next timeline hides it from pg_rewind, which looks for the last that both have.
    stage.command("switchover s1").await;
    stage.command("rejoin c").await;
    assert_eq!(how(stage.model()).road, Road::Rebuilt);
    assert!(how(stage.model()).detour.as_ref().unwrap().contains("two histories with one number"));
    for standby in ["c", "d", "p", "s2"] {
        stage.until_psql(standby, own, "only s2").await;
        is_standby_of(&mut stage, standby, "s1").await;
    }
    assert!(stage.model().nodes.iter().all(|n| !stage.model().has_diverged(n)), "{}", stage.journal());
    stage.close().await;
}

async fn silent_and_cut_off_primaries<R: Runtime>(mut stage: Stage<R>) {
    stage.command("auto-failover on timeout 1s").await;
    stage.until_so("the first probes", |m| ["p", "s1", "s2"].iter().all(|n| first_probe(m, n))).await;
    writes_go_on(&mut stage, 100).await;
    stage.command("freeze p").await;
    stage.until_so("another primary", |m| m.handovers.len() == 1 && last(m).told).await;
    let rto = figures(&mut stage).await;
    // Silence is counted from the last good answer, up to a probe (100 ms) before the fault.
    assert!((850.0..5_000.0).contains(&rto), "{rto}");
    let down = |m: &Model| matches!(m.node(&name("p")).unwrap().state, NodeState::Exited(_));
    stage.until_so("p to be fenced", down).await;
    let now = stage.model().primary.clone().unwrap();
    let other = if now == name("s1") { "s2" } else { "s1" };
    stage.command("rejoin p").await;
    stage.until_so("its probe", |m| first_probe(m, now.as_str()) && first_probe(m, "p")).await;
    stage.command(&format!("cut {now} p")).await;
    stage.command(&format!("cut {now} {other}")).await;
    stage.until_so("a third primary", |m| m.handovers.len() == 2 && last(m).told).await;
    figures(&mut stage).await;
    let is_primary = |m: &Model| m.primary_node().is_some_and(|n| n.role() == Some(Role::Primary) && n.answers());
    stage.until_so("it to answer", is_primary).await;
    writes_go_on(&mut stage, 100).await;
    let lost = lost(&mut stage).await;
    stage.command("heal").await;
    stage.command(&format!("rejoin {now}")).await;
    let only = stage.model().rejoins.iter().map(|(_, _, how)| count(how.only.as_ref().unwrap())).sum::<u64>();
    assert!(only >= lost, "{lost} lost, and only {only} were stranded where the primaries had been");
    tokio::time::timeout(Duration::from_mins(1), stage.close()).await.unwrap();
}

/// The control file of a standby that followed a new primary still names the old timeline, and nobody streams to it any more: an
/// election must not take it for one that stayed behind.
async fn a_timeline_is_known_when_the_stream_has_ended<R: Runtime>(mut stage: Stage<R>) {
    writes_go_on(&mut stage, 50).await;
    stage.command("switchover s1").await;
    writes_go_on(&mut stage, 50).await;
    let control = "SELECT timeline_id FROM pg_control_checkpoint()";
    let behind = stage.psql("s2", control).await;
    assert_eq!(behind, "1", "the fact that this test stands on");
    let timeline = |m: &Model| m.node(&name("s2")).unwrap().sample.as_ref().unwrap().timeline;
    stage.until_so("timeline 2", |m| timeline(m) == 2).await;
    stage.command("kill s1").await;
    stage.until_psql("s2", "SELECT count(*) FROM pg_stat_wal_receiver", "0").await;
    let seen = |m: &Model| m.node(&name("s2")).unwrap().sample.as_ref().is_some_and(|s| s.receiver.is_none());
    stage.until_so("a look without a stream", seen).await;
    assert_eq!(timeline(stage.model()), 2, "{}", stage.journal());
    // Restarted it has nothing but its files to tell from.
    stage.command("stop s2").await;
    stage.command("start s2").await;
    stage.until_so("a look", seen).await;
    assert_eq!(timeline(stage.model()), 2, "{}", stage.journal());
    stage.close().await;
}

/// p is cut off from both standbys and its clients stay with it: replaced and not fenced, it goes on acknowledging.
async fn without_fencing_two_primaries_remain<R: Runtime>(mut stage: Stage<R>) {
    stage.command("target p").await;
    stage.command("auto-failover on timeout 1s no-fence").await;
    stage.until_so("the first probes", |m| ["p", "s1", "s2"].iter().all(|n| first_probe(m, n))).await;
    writes_go_on(&mut stage, 100).await;
    stage.command("cut p | s1 s2").await;
    stage.until_so("another primary", |m| m.handovers.len() == 1 && m.handover().is_none()).await;
    assert_eq!(last(stage.model()).failed, None, "{}", stage.journal());
    let now = stage.model().primary.clone().unwrap();
    assert_ne!(now, name("p"));
    told(&mut stage, &format!("p is a primary too, beside {now}")).await;
    for node in ["p", now.as_str()] {
        assert_eq!(stage.psql(node, "SELECT pg_is_in_recovery()").await, "f");
    }
    writes_go_on(&mut stage, 200).await;
    stage.command("auto-failover off").await;
    stage.command("target primary").await;
    writes_go_on(&mut stage, 200).await;
    let lost = lost(&mut stage).await;
    rests(&mut stage).await;
    stage.command("verify").await;
    let judged = stage.model().verification.clone().unwrap();
    let (theirs, ours) = (&judged.sides[&name("p")], &judged.sides[&now]);
    // A few of those counted above were on their way to p when the writer moved.
    assert!(theirs.acked_only >= 150 && ours.acked_only >= 150, "{theirs:?} {ours:?}");
    assert_eq!((lost, judged.lost), (theirs.acked_only, theirs.acked_only));
    told(&mut stage, &format!("if {now} wins, {lost} of p")).await;
    let (p, new): (u64, u64) =
        (stage.psql("p", ROWS).await.parse().unwrap(), stage.psql(now.as_str(), ROWS).await.parse().unwrap());
    assert_eq!(p - count(&theirs.only), new - count(&ours.only), "the rest both have");
    for command in ["fence p", "heal", "rejoin p", "resume"] {
        stage.command(command).await;
    }
    assert_eq!(how(stage.model()).only.as_ref().map(count), Ok(count(&theirs.only)));
    stage.close().await;
}

/// ANY 1: all was acknowledged by s1 alone, and s1 is away. s2 takes over only when told that it may cost writes.
async fn a_loss_that_is_allowed_is_taken<R: Runtime>(mut stage: Stage<R>) {
    stage.command("sync any 1 (s1, s2)").await;
    writes_go_on(&mut stage, 100).await;
    stage.command("cut p s2").await;
    writes_go_on(&mut stage, 200).await;
    rests(&mut stage).await;
    let all: u64 = stage.psql("p", ROWS).await.parse().unwrap();
    stage.command("stop s1").await;
    stage.command("kill p").await;
    refused(&mut stage, "failover", "s1 is missing. `failover allow-loss` goes on without").await;
    stage.command("start p").await;
    // By itself it waits, until the same is said.
    stage.command("auto-failover on timeout 500ms").await;
    stage.until_so("the first probe", |m| first_probe(m, "p")).await;
    stage.command("kill p").await;
    told(&mut stage, "could be lost (`failover allow-loss` goes on without them)").await;
    stage.command("failover allow-loss").await;
    stage.until_so("s2 to take over", |m| m.primary == Some(name("s2")) && m.handover().is_none()).await;
    stage.command("auto-failover off").await;
    told(&mut stage, "acknowledged writes may be lost: only 1 of the 2 required standbys answered").await;
    let kept: u64 = stage.psql("s2", ROWS).await.parse().unwrap();
    let lost = lost(&mut stage).await;
    assert!(lost >= 150 && lost == all - kept, "{lost} lost, {all} there were, {kept} are left");
    told(&mut stage, "No promise was broken: none covered that election (only 1 of the 2 required standbys answered")
        .await;
    // s1 comes back with all of them: it is told to follow, and can't.
    told(&mut stage, "s1 still follows p (it is down); it is told to follow s2").await;
    stage.command("start s1").await;
    told(&mut stage, "s1 is back and still follows p").await;
    told(&mut stage, "s1 can't follow s2").await;
    stage.command("rejoin s1").await;
    assert_eq!(how(stage.model()).road, Road::Rewound);
    is_standby_of(&mut stage, "s1", "s2").await;
    a_later_promise_counts(&mut stage, "s2").await;
    stage.close().await;
}

/// One promised row is taken away behind the lab's back: that breaks the verdict, whatever election there was before.
async fn a_later_promise_counts<R: Runtime>(stage: &mut Stage<R>, primary: &str) {
    writes_go_on(stage, 50).await;
    let some =
        |m: &Model| m.ledger.promised.iter().find_map(|(client, set)| Some((*client, set.as_slice().first()?.0)));
    let (client, seq) = stage.until("a promised write", some).await;
    rests(stage).await;
    stage.psql(primary, &format!("DELETE FROM replab.writes WHERE client = {client} AND seq = {seq}")).await;
    stage.command("verify").await;
    let judged = stage.model().verification.clone().unwrap();
    assert_eq!(judged.findings(), ["1 lost write was promised by the synchronous rule in force"]);
}

/// p's log before the fork is gone: pg_rewind has nothing to go by, and p is made anew; its own rows are counted first.
async fn what_no_wal_leads_back_to_is_rebuilt<R: Runtime>(mut stage: Stage<R>) {
    // A sender that is stuck on a cut link holds its slot, and the checkpoint waits for it until its timeout.
    let settings = [
        "wal_keep_size 0",
        "max_slot_wal_keep_size 1MB",
        "max_wal_size 2MB",
        "min_wal_size 2MB",
        "wal_sender_timeout 1s",
    ];
    for setting in settings {
        stage.command(&format!("set {setting} on p")).await;
    }
    writes_go_on(&mut stage, 100).await;
    stage.command("cut p s2").await;
    stage.command("cut p s1").await;
    writes_go_on(&mut stage, 200).await;
    rests(&mut stage).await;
    for _ in 0..3 {
        let wal =
            "SELECT count(pg_logical_emit_message(false, 'replab', repeat('x', 1000000))) FROM generate_series(1, 8)";
        stage.psql("p", wal).await;
        stage.psql("p", "CHECKPOINT").await;
    }
    let all: u64 = stage.psql("p", ROWS).await.parse().unwrap();
    for command in ["kill p", "promote s1", "follow all s1", "heal"] {
        stage.command(command).await;
    }
    let only = all - stage.psql("s1", ROWS).await.parse::<u64>().unwrap();
    assert!(only >= 150, "{only}");
    stage.command("rejoin p").await;
    let found = how(stage.model()).clone();
    println!("{:?}", found.detour);
    assert_eq!((found.road, found.only.as_ref().map(count)), (Road::Rebuilt, Ok(only)));
    assert!(found.detour.unwrap().contains("could not"), "pg_rewind's own words");
    stage.command("resume").await;
    back_as_a_copy(&mut stage, "p").await;
    assert_eq!(lost(&mut stage).await, only);
    stage.close().await;
}

/// Whoever was frozen or down at a failover follows the new primary by itself afterwards.
async fn a_standby_that_was_away_is_called_in<R: Runtime>(mut stage: Stage<R>) {
    // A beat between `level` and the kill could reach the one away and not the one elected.
    stage.command("heartbeat off").await;
    for (old, new, fault, cure, back) in
        [("p", "s1", "freeze s2", "thaw s2", true), ("s1", "p", "stop s2", "start s2", false)]
    {
        writes_go_on(&mut stage, 100).await;
        stage.command(fault).await;
        // The elected one must have all that the one away has, also what lies in a frozen one's socket: else that one is ahead,
        // and can't follow (the next test).
        rests(&mut stage).await;
        level(&mut stage, old, new).await;
        stage.command(&format!("kill {old}")).await;
        stage.command("failover").await;
        stage.command("resume").await;
        assert_eq!(stage.model().primary, Some(name(new)), "the only one that answers");
        told(&mut stage, &format!("s2 still follows {old}")).await;
        stage.command(cure).await;
        is_standby_of(&mut stage, "s2", new).await;
        told(&mut stage, &format!("s2 is back and still follows {old}")).await;
        stage.until_so("the model to know", |m| m.node(&name("s2")).unwrap().upstream == Some(name(new))).await;
        if back {
            stage.command(&format!("rejoin {old}")).await;
            is_standby_of(&mut stage, old, new).await;
        }
    }
    stage.close().await;
}

/// A standby that has replayed more than the new primary had: its log says so again and again and it goes on answering reads;
/// started a second time it doesn't come up any more (facts, "Rejoining the old primary"). `rejoin` mends either.
async fn a_standby_that_is_ahead_cannot_follow<R: Runtime>(mut stage: Stage<R>) {
    stage.command("cut p s1").await;
    writes_go_on(&mut stage, 100).await;
    rests(&mut stage).await;
    level(&mut stage, "p", "s2").await;
    for command in ["kill p", "promote s1", "follow s2 s1"] {
        stage.command(command).await;
    }
    told(&mut stage, "s2 can't follow s1").await;
    let (ahead, new) = (stage.psql("s2", ROWS).await, stage.psql("s1", ROWS).await);
    assert!(ahead.parse::<u64>().unwrap() >= new.parse::<u64>().unwrap() + 100, "{ahead} on s2, {new} on s1");
    stage.command("stop s2").await;
    stage.try_command("start s2").await.expect_err("its history is no part of its upstream's");
    told(&mut stage, "s2: requested timeline").await;
    told(&mut stage, "`rejoin s2` mends it").await;
    stage.command("rejoin s2").await;
    is_standby_of(&mut stage, "s2", "s1").await;
    stage.until_psql("s2", ROWS, &new).await;
    stage.close().await;
}

/// What was received counts, whatever held its replay back: paused on one, delayed on the other.
async fn promotion_overrides_what_holds_replay_back<R: Runtime>(mut stage: Stage<R>) {
    stage.command("set recovery_min_apply_delay 10min on s2").await;
    stage.command("replay pause s1").await;
    writes_go_on(&mut stage, 200).await;
    rests(&mut stage).await;
    let (all, end) = (stage.psql("p", ROWS).await, stage.psql("p", "SELECT pg_current_wal_flush_lsn()").await);
    for standby in ["s1", "s2"] {
        stage.until_psql(standby, &format!("SELECT pg_last_wal_receive_lsn() >= '{end}'"), "t").await;
        assert_ne!(stage.psql(standby, ROWS).await, all, "{standby} is behind in what it shows");
    }
    stage.command("kill p").await;
    // Both: that makes two primaries, which is no matter here.
    for standby in ["s1", "s2"] {
        stage.command(&format!("promote {standby}")).await;
        assert_eq!(stage.psql(standby, ROWS).await, all, "all that was received is there");
    }
    stage.close().await;
}

/// Where the old primary can't be fenced, nobody takes over: it may still acknowledge writes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_follows_whom_nobody_can_fence() {
    let topology = replab::model::msg::Topology::primary_with(2);
    let Some((mut stage, mut way)) = Stage::in_docker_by_a_way(18, topology, steady()).await else { return };
    stage.command("auto-failover on timeout 1s").await;
    way.cut();
    stage.until_so("the engine to be gone", |m| m.engine_down.is_some()).await;
    stage.session.ask("cut p | s1 s2".parse().unwrap(), replab::model::msg::Origin::You);
    told(&mut stage, "p could not be fenced, so nobody is promoted").await;
    for standby in ["s1", "s2"] {
        assert_eq!(stage.psql(standby, "SELECT pg_is_in_recovery()").await, "t");
    }
    assert_eq!(stage.psql("p", "SELECT pg_is_in_recovery()").await, "f", "it was left alone");
    way.open(true);
    stage.until_so("the engine to be back", |m| m.engine_down.is_none()).await;
    stage.command("auto-failover off").await;
    stage.command("heal").await;
    stage.close().await;
}

//! Untruths planted into what the screen said on a real lab: each must be found, and nothing before it was planted. Those of hands-on use
//! come first: a copy that isn't one, waits of the wrong server, a wait for nobody, a rule that is said to hold commits up, whose pause it is.

use std::time::Duration;

use replab::model::command::Rate;
use replab::model::msg::{Topology, WriterPlan};
use replab::runtime::Runtime;

use super::play::{Haul, cast};
use super::screen::{Screen, WaitSays};
use crate::common::stage::Stage;

const SYNC_WAITS: &str = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
const SILENT: &str =
    "SELECT bool_and(clock_timestamp() - reply_time > '1.6 s' AND sent_lsn > write_lsn) FROM pg_stat_replication";

/// A haul in which nothing is untrue; moments at which a node could not be judged are passed over.
async fn true_haul<R: Runtime>(stage: &mut Stage<R>) -> Haul {
    for _ in 0..20 {
        let haul = cast(stage).await;
        assert!(haul.findings().is_empty(), "{:?}\n{}", haul.findings(), stage.journal());
        if haul.screen.nodes.iter().all(|n| n.answers && n.looked >= haul.since) && haul.after.len() == 3 {
            return haul;
        }
    }
    panic!("no moment at which all nodes were looked at\n{}", stage.journal());
}

fn caught(haul: &Haul, kind: &str, plant: impl FnOnce(&mut Screen)) {
    let mut planted =
        Haul { before: haul.before.clone(), screen: haul.screen.clone(), after: haul.after.clone(), ..*haul };
    plant(&mut planted.screen);
    let found = planted.findings();
    assert!(found.iter().any(|f| f.kind == kind), "{kind} was not caught: {found:?}");
}

pub async fn all_are_caught() {
    let writer = WriterPlan { clients: 2, rate: Rate::PerSecond(50), ..WriterPlan::default() };
    let Some(mut stage) = Stage::of_processes(Topology::primary_with(2), writer).await else { return };
    stage.command("sync any 1 (p, s1, s2)").await;
    stage.command("sql p:open BEGIN; SELECT pg_backend_pid()").await;
    in_peace(&mut stage).await;
    behind_a_cut(&mut stage).await;
    stage.close().await;
}

async fn in_peace<R: Runtime>(stage: &mut Stage<R>) {
    let haul = true_haul(stage).await;
    let pid = haul.screen.sessions[0].pid.expect("its backend");
    let wait = |on: &str| WaitSays { server: "p".to_owned(), pid, age_ms: 60_000, on: vec![on.to_owned()] };
    caught(&haul, "wait", |s| s.waits.push(wait("s2")));
    caught(&haul, "stuck", |s| "Commits wait for a standby that never comes.".clone_into(&mut s.words));
    caught(&haul, "pause", |s| s.node("s1").paused = Some("person".to_owned()));
    caught(&haul, "pause", |s| s.node("s1").paused = Some("postgresql".to_owned()));
    caught(&haul, "role", |s| s.node("s1").role = Some("primary".to_owned()));
    caught(&haul, "rule", |s| s.rule = Some(("p".to_owned(), String::new())));
    caught(&haul, "timeline", |s| s.node("s2").timeline = Some(2));
    caught(&haul, "behind", |s| s.node("s1").behind = Some(1 << 30));
    caught(&haul, "stream", |s| s.node("s1").link = Some("disconnected".to_owned()));
    caught(&haul, "sync_state", |s| s.node("s2").sync_state = Some("async".to_owned()));
    caught(&haul, "slot", |s| s.node("p").slots[0].status = Some("lost".to_owned()));
    caught(&haul, "slot", |s| s.node("p").slots.clear());
    caught(&haul, "session", |s| "idle".clone_into(&mut s.sessions[0].word));
    a_copy_that_is_none(stage).await;
    // Ended by the server, behind the lab's back.
    stage.psql("p", &format!("SELECT pg_terminate_backend({pid})")).await;
    stage.until_psql("p", &format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}"), "0").await;
    stage.until_so("the session's end", |m| m.sessions.values().all(|s| s.word() == "closed")).await;
    let haul = true_haul(stage).await;
    caught(&haul, "session", |s| "in_transaction".clone_into(&mut s.sessions[0].word));
}

/// The lab makes none any more, and a real standby can't be made to differ: here the server's answers are changed instead.
async fn a_copy_that_is_none<R: Runtime>(stage: &mut Stage<R>) {
    stage.command("pause").await;
    stage.command("heartbeat off").await;
    let level = "SELECT bool_and(replay_lsn = pg_current_wal_lsn()) FROM pg_stat_replication";
    stage.until_psql("p", level, "t").await;
    let haul = true_haul(stage).await;
    let mut planted = Haul { before: haul.before, screen: haul.screen, after: haul.after, ..haul };
    for answers in [&mut planted.before, &mut planted.after] {
        let copy = answers.get_mut("s1").expect("s1");
        copy.rows.1.push('1');
    }
    assert!(planted.findings().iter().any(|f| f.kind == "rows"), "{:?}", planted.findings());
    stage.command("heartbeat on").await;
    stage.command("resume").await;
}

async fn behind_a_cut<R: Runtime>(stage: &mut Stage<R>) {
    stage.command("cut p | s1 s2").await;
    stage.until_psql("p", SYNC_WAITS, "2").await;
    stage.until_psql("p", SILENT, "t").await;
    stage
        .until_so("waits on the screen", |m| m.waits().iter().filter(|w| w.listed && w.age_us > 1_000_000).count() == 2)
        .await;
    let haul = true_haul(stage).await;
    assert_eq!(haul.screen.waits.len(), 2, "{:?}", haul.screen);
    // Told of another server; for somebody who isn't listed.
    caught(&haul, "wait", |s| s.waits.iter_mut().for_each(|w| "s1".clone_into(&mut w.server)));
    caught(&haul, "wait", |s| s.waits[0].on = vec!["s3".to_owned()]);
    caught(&haul, "rule", |s| s.rule = Some(("s1".to_owned(), "ANY 1 (p, s1, s2)".to_owned())));
    caught(&haul, "stream", |s| s.node("s2").link = Some("streaming".to_owned()));
    stage.command("heal").await;
    let flows = Duration::from_secs(30);
    let end = std::time::Instant::now() + flows;
    stage.until_so("commits", |m| m.waiting().is_empty() || std::time::Instant::now() > end).await;
}

//! Settings that a standby may not have lower than its primary: PostgreSQL stops replaying, or doesn't start, and the lab says why and mends
//! it. On real PostgreSQL, with `psql` for its word.

mod common;

use common::stage::{Stage, name};
use replab::model::Fault;
use replab::model::condition::Condition;
use replab::model::msg::WriterPlan;
use replab::model::shortfall::AT_LEAST;
use replab::runtime::Runtime;

everywhere! { WriterPlan { clients: 1, ..WriterPlan::default() };
    each_setting_that_is_too_low_is_told_and_mended
    a_pause_by_the_person_is_another_thing
    a_standby_that_starts_with_too_low_a_setting
}

const PAUSED: &str = "SELECT pg_get_wal_replay_pause_state()";

async fn until<R: Runtime>(stage: &mut Stage<R>, condition: &str) {
    let condition: Condition = condition.parse().unwrap();
    stage.until_so(&condition.text, |m| condition.check(m).0).await;
}

/// Gives p a higher value, as one does who doesn't know: on the primary first. Gives the old one and the new one.
async fn raised_on_p<R: Runtime>(stage: &mut Stage<R>, setting: &str) -> (u64, u64) {
    let old: u64 = stage.psql("p", &format!("SHOW {setting}")).await.parse().unwrap();
    let new = old + 5;
    stage.psql("p", &format!("ALTER SYSTEM SET {setting} = {new}")).await;
    stage.command("stop p").await;
    stage.command("start p").await;
    (old, new)
}

async fn both_replay<R: Runtime>(stage: &mut Stage<R>) {
    for standby in ["s1", "s2"] {
        until(stage, &format!("link({standby}) = streaming")).await;
        until(stage, &format!("replay_paused_by({standby}) = nobody")).await;
        assert_eq!(stage.psql(standby, PAUSED).await, "not paused");
    }
    until(stage, "faults = 0").await;
}

async fn each_setting_that_is_too_low_is_told_and_mended<R: Runtime>(mut stage: Stage<R>) {
    for setting in AT_LEAST {
        let (old, new) = raised_on_p(&mut stage, setting).await;
        for standby in ["s1", "s2"] {
            until(&mut stage, &format!("replay_paused_by({standby}) = postgresql")).await;
            stage.until_psql(standby, PAUSED, "paused").await;
            let why = format!("{setting} {old} < {new} on p");
            let told = format!("{standby} has stopped replaying: {why}");
            stage.until_so(&told, |m| m.journal.entries().any(|e| e.text.starts_with(&told))).await;
            let fault = Fault::ReplayStopped(name(standby), why.clone());
            assert!(stage.model().faults().contains(&fault), "{:?}", stage.model().faults());
            assert!(stage.try_command(&format!("promote {standby}")).await.unwrap_err().contains(&why));
        }
        let refused = stage.try_command("replay resume s1").await.unwrap_err();
        assert!(refused.contains("resumed, it would shut down. `raise s1` mends it"), "{refused}");
        stage.command("heal").await;
        both_replay(&mut stage).await;
        for standby in ["s1", "s2"] {
            assert_eq!(stage.psql(standby, &format!("SHOW {setting}")).await, new.to_string());
        }
    }
    let by_person = stage.model().fault_log.iter().any(|f| f.kind == "replay-paused");
    assert!(!by_person, "nobody paused it: {:?}", stage.model().fault_log);
    // Who comes later has them, too, and comes at all.
    stage.command("add s3").await;
    until(&mut stage, "link(s3) = streaming").await;
    stage.close().await;
}

async fn a_pause_by_the_person_is_another_thing<R: Runtime>(mut stage: Stage<R>) {
    stage.command("replay pause s1").await;
    assert_eq!(stage.model().faults(), [Fault::ReplayPaused(name("s1"))]);
    stage.psql("s2", "SELECT pg_wal_replay_pause()").await;
    for standby in ["s1", "s2"] {
        until(&mut stage, &format!("replay_paused_by({standby}) = person")).await;
    }
    // What p has now they have not replayed: it is the person's pause still. Resumed, s2 learns of it.
    raised_on_p(&mut stage, "max_connections").await;
    until(&mut stage, "replay_paused_by(s1) = person").await;
    stage.command("replay resume s2").await;
    until(&mut stage, "replay_paused_by(s2) = postgresql").await;
    until(&mut stage, "replay_paused_by(s1) = person").await;
    stage.command("heal").await;
    both_replay(&mut stage).await;
    assert!(!stage.journal().contains("s1 has stopped replaying"), "{}", stage.journal());
    stage.close().await;
}

async fn a_standby_that_starts_with_too_low_a_setting<R: Runtime>(mut stage: Stage<R>) {
    let (old, new) = raised_on_p(&mut stage, "max_wal_senders").await;
    until(&mut stage, "replay_paused_by(s1) = postgresql").await;
    stage.command("stop s1").await;
    let why = format!("max_wal_senders {old} < {new} on p");
    let failed = stage.try_command("start s1").await.unwrap_err();
    assert!(failed.contains("ended while it started"), "{failed}");
    let told = format!("(s1: recovery aborted because of insufficient parameter settings: {why}; `raise s1` mends it)");
    assert!(stage.journal().contains(&told), "{}", stage.journal());
    let told = format!("s1 shuts down, because it can't replay: {why}. `raise s1`");
    assert!(stage.journal().contains(&told), "{}", stage.journal());
    stage.command("raise s1").await;
    until(&mut stage, "replay_paused_by(s1) = nobody").await;
    assert!(stage.try_command("raise s1").await.unwrap_err().contains("no setting of s1 is known to be lower"));
    // Resumed behind the lab's back it goes down.
    drop(stage.try_psql("s2", "SELECT pg_wal_replay_resume()").await);
    until(&mut stage, "state(s2) = down").await;
    stage.command("heal").await;
    both_replay(&mut stage).await;
    stage.close().await;
}

//! The `pg` floor against real servers: samples, acts, passwords, and the table of docs/facts that the classifier rests on.

mod common;

use std::time::{Duration, Instant};

use common::pgserver::{Lab, START, Server, free_port, wait_for};
use replab::model::WriteId;
use replab::model::cluster::{Role, Sample};
use replab::pg::ControlError;
use replab::pg::conf::{self, Upstream};

async fn streaming(primary: &Server, name: &str) -> Sample {
    wait_for("a streaming standby", async || {
        let sample = primary.control.sample().await.unwrap();
        sample.senders.iter().any(|s| s.name == name && s.state == "streaming").then_some(sample)
    })
    .await
}

#[tokio::test]
async fn samples_of_a_primary_and_its_standby() {
    let Some(lab) = Lab::new() else { return };
    let p = lab.primary("p", &[]).await;
    let statements = lab.passwords.statements().unwrap();
    p.control.settle_in(&statements, &lab.passwords, "12345678", &[]).await.unwrap();
    p.control.create_slot("s1").await.unwrap();
    p.control.create_slot("s1").await.unwrap();
    let s1 = lab.standby("s1", p.address.port()).await;
    let sample = streaming(&p, "s1").await;
    assert_eq!((sample.role, sample.timeline), (Role::Primary, 1));
    assert_eq!(sample.lab_marker.as_deref(), Some("12345678"));
    assert_eq!(sample.settings.synchronous_commit, "on", "not the lab's own `local`");
    assert_eq!(sample.settings.wal_sender_timeout_ms, 60_000);
    assert_eq!(sample.settings.wal_receiver_status_interval_ms, 10_000);
    assert_eq!(sample.slots.len(), 1);
    assert_eq!((sample.slots[0].name.as_str(), sample.slots[0].active), ("s1", false));
    assert!(sample.receiver.is_none() && sample.waiting.is_empty() && sample.replayed.is_none());
    p.control.beat(7).await.unwrap();
    let seen = wait_for("the beat", async || s1.control.beat_seen().await.unwrap().filter(|b| *b == 7)).await;
    assert_eq!(seen, 7);
    let there = s1.control.sample().await.unwrap();
    assert_eq!((there.role, there.timeline), (Role::Standby, 1));
    assert_eq!(there.system_identifier, sample.system_identifier);
    assert_eq!(there.receiver.as_ref().unwrap().sender, format!("127.0.0.1:{}", p.address.port()));
    assert!(there.replayed.unwrap() <= there.wal && there.replay_age_us.is_some());
    assert!(!there.replay_paused);
    let late = wait_for("the marker on the standby", async || s1.control.sample().await.ok()?.lab_marker).await;
    assert_eq!(late, "12345678");
    assert!(s1.control.beat(8).await.unwrap_err().is_read_only());
    assert!(s1.control.nudge().await.is_ok());
    p.control.drop_slot("s1").await.unwrap();
    p.control.drop_slot("s1").await.unwrap();
}

#[tokio::test]
async fn passwords_become_the_labs_own_and_no_log_has_them() {
    let Some(lab) = Lab::new() else { return };
    let p = lab.primary("p", &["log_statement=all", "log_min_messages=debug1"]).await;
    let s1 = lab.standby("s1", p.address.port()).await;
    streaming(&p, "s1").await;
    let stranger = replab::pg::Control::new(p.address, vec![lab.key.secret.clone()]);
    let refused = stranger.sample().await.unwrap_err();
    assert!(refused.is_wrong_password(), "the template's key opens no longer: {refused}");
    wait_for("the new password on the standby", async || {
        let late = replab::pg::Control::new(s1.address, vec![lab.passwords.control.clone()]);
        late.sample().await.ok()
    })
    .await;
    for secret in [&lab.passwords.control, &lab.passwords.writer, &lab.passwords.replication, &lab.key.secret] {
        assert!(!p.log().contains(secret.reveal()) && !s1.log().contains(secret.reveal()));
    }
}

#[tokio::test]
async fn promote_pause_and_settings() {
    let Some(lab) = Lab::new() else { return };
    let p = lab.primary("p", &[]).await;
    let s1 = lab.standby("s1", p.address.port()).await;
    streaming(&p, "s1").await;
    s1.control.pause_replay().await.unwrap();
    wait_for("the pause", async || s1.control.sample().await.unwrap().replay_paused.then_some(())).await;
    p.psql("insert into replab.writes(client, seq) values (1, 1), (1, 2), (1, 4), (2, 9)");
    assert!(!s1.control.is_visible(WriteId { client: 1, seq: 1 }).await.unwrap());
    s1.control.resume_replay().await.unwrap();
    wait_for("the rows", async || s1.control.is_visible(WriteId { client: 2, seq: 9 }).await.unwrap().then_some(()))
        .await;
    assert_eq!(s1.control.read_ledger(0..=u32::MAX).await.unwrap(), [(1, 1, 2), (1, 4, 4), (2, 9, 9)]);
    assert_eq!(s1.control.read_ledger(2..=2).await.unwrap(), [(2, 9, 9)]);
    p.control.alter_system("wal_sender_timeout", Some("3s")).await.unwrap();
    wait_for("the setting", async || {
        (p.control.sample().await.unwrap().settings.wal_sender_timeout_ms == 3_000).then_some(())
    })
    .await;
    let bad = p.control.alter_system("work_mem", Some("it's \\ wrong")).await.unwrap_err();
    assert_eq!(bad.code(), Some("22023"), "{bad}");
    assert!(p.control.alter_system("work_mem; drop", None).await.is_err());
    s1.control.promote().await.unwrap();
    let sample =
        wait_for("the promotion", async || s1.control.sample().await.ok().filter(|s| s.role == Role::Primary)).await;
    assert_eq!(sample.timeline, 2);
    assert!(s1.control.insert_position().await.unwrap() >= sample.wal);
}

#[tokio::test]
async fn a_blocked_commit_shows_and_emptied_names_release_it() {
    let Some(lab) = Lab::new() else { return };
    let p = lab.primary("p", &[]).await;
    p.control.set_rule("FIRST 1 (s1)").await.unwrap();
    // The checkpointer tells commits of a rule; it has read this one when it makes a checkpoint.
    p.control.checkpoint().await.unwrap();
    let insert = "set synchronous_commit = on; insert into replab.writes(client, seq) values (1, 1)";
    let mut psql = p.program("psql");
    psql.args(["-X", "-q", "-h", "127.0.0.1", "-U", "replab", "-d", "lab", "-c", insert]);
    let mut blocked = psql.arg("-p").arg(p.address.port().to_string()).spawn().unwrap();
    let waiting = wait_for("a waiting commit", async || {
        p.control.sample().await.ok()?.waiting.into_iter().find(|w| w.age_us > 100_000)
    })
    .await;
    assert!(waiting.query.contains("insert into replab.writes") && waiting.application == "psql", "{waiting:?}");
    assert!(!p.control.is_visible(WriteId { client: 1, seq: 1 }).await.unwrap());
    let began = Instant::now();
    p.control.set_rule("").await.unwrap();
    assert!(blocked.wait().unwrap().success());
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert!(p.control.is_visible(WriteId { client: 1, seq: 1 }).await.unwrap());
}

#[tokio::test]
async fn a_frozen_server_misses_the_deadline_and_a_dead_one_says_so() {
    let Some(lab) = Lab::new() else { return };
    let mut p = lab.primary("p", &[]).await;
    let backends: String =
        p.psql("select string_agg(pid::text, ' ') from pg_stat_activity where application_name = 'replab control'");
    for pid in backends.split(' ') {
        let pid = rustix::process::Pid::from_raw(pid.parse().unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    }
    let began = Instant::now();
    let error = p.control.sample().await.unwrap_err();
    assert!(matches!(error, ControlError::Deadline(_)), "{error}");
    assert!(began.elapsed() < Duration::from_secs(3));
    p.control.sample().await.expect("a new connection, though the old one hangs");
    for pid in backends.split(' ') {
        let pid = rustix::process::Pid::from_raw(pid.parse().unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
    }
    p.kill();
    let error = wait_for("the loss", async || p.control.sample().await.err()).await;
    let told = error.code() == Some("57P01"); // "unexpected postmaster exit"
    assert!(told || matches!(error, ControlError::Lost(_) | ControlError::Connect(..)), "{error}");
    let error = p.control.sample().await.unwrap_err();
    assert!(matches!(error, ControlError::Connect(..)), "{error}");
}

#[tokio::test]
async fn base_backup_and_rewind_and_a_fresh_server() {
    let Some(lab) = Lab::new() else { return };
    let mut p = lab.primary("p", &[]).await;
    p.control.create_slot("s2").await.unwrap();
    let from = Upstream { host: "127.0.0.1".to_owned(), port: p.address.port(), slot: Some("s2".to_owned()) };
    let passfile = |node: &str| lab_passfile(&lab, node);
    let files = |node: &str, from: &Upstream| {
        conf::standby_files(&node.parse().unwrap(), from, &passfile(node), &lab.passwords, &[], &[])
    };
    let private = conf::passfile(&lab.passwords.replication);
    lab.fill("s2", &conf::base_backup_job(&from), &[private], &files("s2", &from));
    let s2 = lab.launch("s2");
    s2.control.until_ready(START).await.unwrap();
    streaming(&p, "s2").await;
    // The old primary goes on writing after the promotion, stops, and is rewound.
    s2.control.promote().await.unwrap();
    wait_for("promotion", async || (s2.control.sample().await.unwrap().role == Role::Primary).then_some(())).await;
    p.psql("insert into replab.writes(client, seq) values (1, 1)");
    p.stop();
    s2.psql("insert into replab.writes(client, seq) values (1, 2)");
    s2.control.checkpoint().await.unwrap();
    let source = Upstream { host: "127.0.0.1".to_owned(), port: s2.address.port(), slot: None };
    let said = lab.job("p", &conf::rewind_job(&source));
    assert!(said.contains("Done!"), "{said}");
    lab.fill("p", &noop(), &[], &files("p", &source));
    let p = lab.launch("p");
    p.control.until_ready(START).await.unwrap();
    streaming(&s2, "p").await;
    wait_for("the row", async || (p.psql("select seq from replab.writes") == "2").then_some(())).await;
    let key = &lab.key;
    let fresh = conf::fresh_files(&"x".parse().unwrap(), &lab.passwords, &[], &[]);
    lab.fill("x", &conf::initdb_job(key), &[conf::superuser_file(&lab.passwords)], &fresh);
    let x = lab.launch("x");
    x.control.until_ready(START).await.unwrap();
    let sample = x.control.sample().await.unwrap();
    assert_eq!((sample.role, sample.lab_marker), (Role::Primary, None));
    assert_ne!(sample.system_identifier, p.control.sample().await.unwrap().system_identifier);
    assert!(matches!(x.control.beat_seen().await, Err(ControlError::Shape(_))));
}

fn lab_passfile(lab: &Lab, node: &str) -> String {
    lab.private(node, conf::PASSFILE)
}

/// A job that does nothing to the folders.
fn noop() -> replab::runtime::Job {
    replab::runtime::Job {
        program: "pg_config".to_owned(),
        args: Vec::new(),
        env: Vec::new(),
        limit: Duration::from_secs(1),
        ..replab::runtime::Job::default()
    }
}

/// docs/facts.md: what is on the command line wins, and neither ALTER SYSTEM nor the reload says a word.
#[tokio::test]
async fn a_rule_on_the_command_line_beats_alter_system() {
    let Some(lab) = Lab::new() else { return };
    let mut p = lab.primary("p", &[]).await;
    p.stop();
    drop(p);
    let p = lab.launch_with("p", free_port(), &["synchronous_standby_names=FIRST 1 (s1)"]);
    p.control.until_ready(START).await.unwrap();
    p.control.set_rule("FIRST 1 (s2)").await.unwrap();
    // What is changed after it is in force: so the rule has been read too.
    p.control.alter_system("work_mem", Some("7MB")).await.unwrap();
    wait_for("the reload", async || (p.psql("SHOW work_mem") == "7MB").then_some(())).await;
    let told = p.psql("SELECT setting, source FROM pg_settings WHERE name = 'synchronous_standby_names'");
    assert_eq!(told, "FIRST 1 (s1)|command line");
    let written = "SELECT setting FROM pg_file_settings WHERE name = 'synchronous_standby_names'";
    assert_eq!(p.psql(written), "FIRST 1 (s2)", "written down, and of no effect");
    let sample = p.control.sample().await.unwrap();
    assert_eq!(sample.settings.synchronous_standby_names, "FIRST 1 (s1)", "the lab shows the one in force");
}

//! Two primaries, cuts and quick commands on real servers: what the lab says, held against what `psql` says of the very server.

mod common;

use std::cell::Cell;

use common::stage::{Stage, name};
use replab::model::Model;
use replab::model::msg::{Topology, WriterPlan};
use replab::model::standing::Link;
use replab::runtime::process::ProcessRuntime;
use replab::ui::view::View;
use replab::ui::{self, ColourMode, Shade};

const WAITING: &str = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";

async fn lab() -> Option<Stage<ProcessRuntime>> {
    let stage = Stage::of_processes(Topology::primary_with(2), WriterPlan::default()).await;
    let mut stage = stage?;
    stage.until_so("acked writes", |m| m.ledger.counts().acked > 20).await;
    Some(stage)
}

fn link(model: &Model, node: &str) -> Link {
    model.rung(model.node(&name(node)).unwrap()).link
}

fn picture(model: &Model, width: u16, height: u16) -> String {
    let mut terminal = ratatui::Terminal::new(ratatui::backend::TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| ui::render(frame, model, &View::new(ColourMode::Full, Shade::Dark))).unwrap();
    terminal.backend().buffer().content.iter().map(ratatui::buffer::Cell::symbol).collect()
}

/// The clients stay on p under its rule, cut off from both standbys, and s1 is promoted over there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waits_and_rule_are_those_of_the_server_where_the_clients_are() {
    let Some(mut stage) = lab().await else { return };
    for command in ["sync any 1 (s1, s2)", "target p", "cut p | s1 s2"] {
        stage.command(command).await;
    }
    stage.until_so("all clients to wait", |m| m.waits().iter().filter(|w| w.listed).count() == 4).await;
    stage.command("promote s1").await;
    let from = stage.model().now;
    let looked = |m: &Model| ["p", "s1", "s2"].iter().all(|n| m.node(&name(n)).unwrap().seen > Some(from));
    stage.until_so("a look at each", looked).await;
    stage.until_so("silence to be known", |m| matches!(link(m, "s2"), Link::LastKnown { ms, .. } if ms > 1_500)).await;
    let model = stage.model();
    assert_eq!((model.primary.as_ref(), model.serving()), (Some(&name("s1")), Some(&name("p"))));
    assert_eq!((model.needs().in_words(), model.needs().held), ("1 of s1, s2".to_owned(), true));
    assert_eq!(model.waits().iter().filter(|w| w.listed).count(), 4, "{}", stage.journal());
    let rule = model.serving_rule_text().unwrap().to_owned();
    for (width, height) in [(160, 45), (80, 24)] {
        let drawn = picture(model, width, height);
        assert!(drawn.contains("p: ANY 1 (s1, s2)") && drawn.contains("Commits waiting on p: 4"), "{drawn}");
        assert!(!drawn.contains("waits for an answer"), "{drawn}");
    }
    assert_eq!(stage.psql("p", "SHOW synchronous_standby_names").await, rule);
    assert_eq!(stage.psql("p", WAITING).await, "4");
    assert_eq!(stage.psql("s1", WAITING).await, "0");
    // The heart beats for s1 alone now: for as long as p's own sender would believe it, nobody is said to stream from p.
    let until = stage.model().now.0 + 3_000_000;
    stage.until_so("three seconds more", |m| m.now.0 > until).await;
    assert!(matches!(link(stage.model(), "s2"), Link::LastKnown { .. }));
    assert!(!stage.journal().contains("s2 streams from p"), "{}", stage.journal());
    // The panel's key acts on what the panel tells.
    stage.command("cancel").await;
    stage.until_so("answers with a warning", |m| m.ledger.counts().acked_with_warning >= 4).await;
    stage.command("sync off").await;
    assert_eq!(stage.psql("p", "SHOW synchronous_standby_names").await, "");
    stage.close().await;
}

/// ANY 1 with one of two cut off goes on: a hundred writes a second, and nobody is said to wait, or to wait for the one that is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_that_a_healthy_standby_confirms_are_not_said_to_wait() {
    let Some(mut stage) = lab().await else { return };
    for command in ["sync any 1 (s1, s2)", "rate 100", "cut p s2"] {
        stage.command(command).await;
    }
    let (before, listed, looks) = (stage.model().ledger.counts().acked, Cell::new(0_usize), Cell::new(0_usize));
    // What a busy machine really makes wait is long; everything else is not to be shown.
    let judge = |m: &Model| {
        // A machine that stands still for half a second makes s1 silent: then commits are held.
        if matches!(link(m, "s1"), Link::Connected(_)) {
            assert_eq!((m.needs().in_words(), m.needs().held), ("s1".to_owned(), false));
            let long = m.waiting().iter().any(|w| w.age_us > 400_000)
                || m.writer.pulse.waiting.iter().any(|flight| flight.age_us > 400_000);
            assert!(long || m.waits().is_empty(), "{:?}", m.waits());
        }
        listed.set(listed.get() + m.waiting().len());
        looks.set(looks.get() + 1);
        m.ledger.counts().acked > before + 400
    };
    stage.until_so("400 writes more", judge).await;
    println!("{} looks at the model, {} commits listed in all of them", looks.get(), listed.get());
    assert!(!stage.journal().contains("waits for 1 of s2"));
    stage.close().await;
}

/// Killed behind a cut: the upstream isn't told, and goes on listing it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_killed_behind_a_cut_is_not_said_to_be_known_as_dead() {
    let Some(mut stage) = lab().await else { return };
    let row = "SELECT state FROM pg_stat_replication WHERE application_name = 's1'";
    stage.command("cut p s1").await;
    stage.command("kill s1").await;
    let told =
        "s1 is killed: behind the cut p isn't told, and goes on counting it as connected until wal_sender_timeout";
    assert!(stage.journal().contains(told), "{}", stage.journal());
    assert_eq!(stage.psql("p", row).await, "streaming");
    // Where the news gets through it is said, and so.
    stage.command("kill s2").await;
    assert!(
        stage.journal().contains("s2 is killed: its connections closed at once, so p knows"),
        "{}",
        stage.journal()
    );
    stage.until_psql("p", "SELECT count(*) FROM pg_stat_replication WHERE application_name = 's2'", "0").await;
    assert_eq!(stage.psql("p", row).await, "streaming");
    stage.close().await;
}

/// There and back again, as fast as commands can be given: what was seen before the first doesn't refuse the second.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_switchover_is_undone_at_once() {
    let Some(mut stage) = lab().await else { return };
    for (to, from) in [("s1", "p"), ("p", "s1"), ("s2", "p"), ("p", "s2")] {
        stage.command(&format!("switchover {to}")).await;
        assert_eq!(stage.model().primary, Some(name(to)), "{}", stage.journal());
        assert_eq!(stage.model().node(&name(from)).unwrap().upstream, Some(name(to)));
    }
    assert_eq!(stage.psql("p", "SELECT pg_is_in_recovery()").await, "f");
    // Paused and resumed behind the judge's back, and at once by command.
    stage.command("sql s1 SELECT pg_wal_replay_pause()").await;
    stage.command("replay resume s1").await;
    stage.command("replay pause s1").await;
    assert_eq!(stage.psql("s1", "SELECT pg_get_wal_replay_pause_state() <> 'not paused'").await, "t");
    stage.command("replay resume s1").await;
    assert_eq!(stage.psql("s1", "SELECT pg_get_wal_replay_pause_state()").await, "not paused");
    stage.close().await;
}

//! The countdown to what notices a silent link, held against the moment at which real PostgreSQL does notice.

mod common;

use std::time::{Duration, Instant};

use common::stage::{Stage, name};
use replab::model::detection::Countdown;
use replab::model::msg::WriterPlan;
use replab::model::standing::Link;
use replab::model::{Model, Node};
use replab::runtime::Runtime;

everywhere! { WriterPlan::default();
    a_cut_link_is_noticed_when_the_countdown_says
}

/// Two looks (4 a second), and what a busy machine and a starting `psql` take.
const SLACK: Duration = Duration::from_millis(900);

fn s1(model: &Model) -> &Node {
    model.node(&name("s1")).unwrap()
}

/// From now until `psql` on `node` counts no row any more, against what the countdown said.
async fn noticed<R: Runtime>(stage: &mut Stage<R>, countdown: Countdown, rows: &str) {
    let (began, left) = (Instant::now(), Duration::from_millis(countdown.left_ms().expect("a timeout is set")));
    println!("{countdown:?}");
    assert_eq!(countdown.timeout_ms, 5_000);
    assert!(left < Duration::from_secs(5), "silence is counted from the last message: {left:?}");
    stage.until_psql(countdown.by.as_str(), rows, "0").await;
    let took = began.elapsed();
    println!("{} gave up on {} after {took:?}; the countdown said {left:?}", countdown.by, countdown.on);
    assert!(took.abs_diff(left) < SLACK, "{} gave up after {took:?}, not {left:?}", countdown.by);
}

async fn a_cut_link_is_noticed_when_the_countdown_says<R: Runtime>(mut stage: Stage<R>) {
    stage.command("set wal_sender_timeout 5s").await;
    stage.command("set wal_receiver_timeout 5s").await;
    stage.until_so("an acked write", |m| m.ledger.counts().acked > 20).await;
    assert_eq!(stage.model().countdowns(), [], "nothing is silent");
    stage.command("cut p s1").await;
    let sender = stage.until("the sender's countdown", |m| m.sender_countdown(s1(m))).await;
    let listed = "SELECT count(*) FROM pg_stat_replication WHERE application_name = 's1'";
    assert_eq!(stage.psql("p", listed).await, "1", "PostgreSQL still calls it streaming");
    assert!(matches!(stage.model().rung(s1(stage.model())).link, Link::LastKnown { .. }));
    noticed(&mut stage, sender, listed).await;
    stage.until_so("the row to go", |m| m.rung(s1(m)).link == Link::Disconnected).await;
    stage.until_so("the sender's countdown to end", |m| m.sender_countdown(s1(m)).is_none()).await;
    stage.command("heal p s1").await;
    stage.until_so("s1 to stream", |m| m.rung(s1(m)).link == Link::Connected("streaming".into())).await;

    // A frozen primary hears and tells nothing: its standbys' receivers are what notices.
    stage.command("freeze p").await;
    let receiver = stage.until("the receiver's countdown", |m| m.receiver_countdown(s1(m))).await;
    assert!(stage.model().sender_countdown(s1(stage.model())).is_none(), "a frozen primary gives up on nobody");
    noticed(&mut stage, receiver, "SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming'").await;
    stage.command("thaw p").await;
    stage.until_so("nothing to count down", |m| m.countdowns().is_empty()).await;
    stage.close().await;
}

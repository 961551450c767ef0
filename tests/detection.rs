//! The countdowns to what notices a silent link or a lost primary, held against the moment at which real PostgreSQL, or the lab's
//! detector over it, does notice.

mod common;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use common::stage::{DEADLINE, Stage, name};
use replab::model::detection::Countdown;
use replab::model::detector::Cause;
use replab::model::handover::Kind;
use replab::model::msg::WriterPlan;
use replab::model::standing::Link;
use replab::model::{Model, Node};
use replab::runtime::Runtime;

everywhere! { WriterPlan::default();
    a_cut_link_is_noticed_when_the_countdown_says
    a_cut_of_one_way_is_noticed_on_one_side
    the_detector_gives_up_on_a_silent_primary_as_it_says
    the_detector_gives_up_on_a_cut_off_primary_as_it_says
}

/// Two looks (4 a second), and what a busy machine and a starting `psql` take.
const SLACK: Duration = Duration::from_millis(900);

fn s1(model: &Model) -> &Node {
    model.node(&name("s1")).unwrap()
}

/// p's sender for s1, and the receiver that a node has.
const SENDER: &str = "SELECT count(*) FROM pg_stat_replication WHERE application_name = 's1'";
const RECEIVER: &str = "SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming'";

/// From now until `psql` counts no row any more on the node that counts down, against what it said. Who counted down meanwhile.
async fn noticed<R: Runtime>(stage: &mut Stage<R>, countdown: Countdown, rows: &str) -> String {
    let (began, left) = (Instant::now(), Duration::from_millis(countdown.left_ms().expect("a timeout is set")));
    println!("{countdown:?}");
    assert_eq!(countdown.timeout_ms, 5_000);
    assert!(left < Duration::from_secs(5), "silence is counted from the last message: {left:?}");
    let mut counting = BTreeSet::new();
    // What is meant goes on to five seconds; a shorter silence is a server that had its hands full.
    let really = |c: &Countdown| c.silent_ms > 2_000;
    let mut look = |m: &Model| counting.extend(m.countdowns().into_iter().filter(really).map(|c| c.by.to_string()));
    while stage.psql_while(countdown.by.as_str(), rows, &mut look).await.as_deref() != Ok("0") {
        assert!(began.elapsed() < DEADLINE, "{} doesn't give up\n{}", countdown.by, stage.journal());
    }
    let took = began.elapsed();
    println!("{} gave up on {} after {took:?}; the countdown said {left:?}", countdown.by, countdown.on);
    assert!(took.abs_diff(left) < SLACK, "{} gave up after {took:?}, not {left:?}", countdown.by);
    counting.into_iter().collect::<Vec<_>>().join(" ")
}

/// The lab has seen it too: what it knew before may be of the connection that ended.
async fn streams_again<R: Runtime>(stage: &mut Stage<R>) {
    stage.until_psql("s1", RECEIVER, "1").await;
    let from = stage.model().now;
    let streams = |m: &Model| m.rung(s1(m)).link == Link::Connected("streaming".into());
    let looked = |m: &Model| m.node(&name("p")).unwrap().seen > Some(from);
    stage.until_so("s1 to stream", |m| looked(m) && streams(m)).await;
    stage.until_so("nothing to count down", |m| m.countdowns().is_empty()).await;
}

async fn a_cut_link_is_noticed_when_the_countdown_says<R: Runtime>(mut stage: Stage<R>) {
    stage.command("set wal_sender_timeout 5s").await;
    stage.command("set wal_receiver_timeout 5s").await;
    stage.until_so("an acked write", |m| m.ledger.counts().acked > 20).await;
    stage.until_so("nothing to count down", |m| m.countdowns().is_empty()).await;
    stage.command("cut p s1").await;
    let sender = stage.until("the sender's countdown", |m| m.sender_countdown(s1(m))).await;
    assert_eq!(stage.psql("p", SENDER).await, "1", "PostgreSQL still calls it streaming");
    assert!(matches!(stage.model().rung(s1(stage.model())).link, Link::LastKnown { .. }));
    assert_eq!(noticed(&mut stage, sender, SENDER).await, "p s1", "neither hears the other");
    stage.until_so("the row to go", |m| m.rung(s1(m)).link == Link::Disconnected).await;
    stage.until_so("the sender's countdown to end", |m| m.sender_countdown(s1(m)).is_none()).await;
    stage.command("heal p s1").await;
    streams_again(&mut stage).await;

    // A frozen primary hears and tells nothing: its standbys' receivers are what notices.
    stage.command("freeze p").await;
    let receiver = stage.until("the receiver's countdown", |m| m.receiver_countdown(s1(m))).await;
    assert!(stage.model().sender_countdown(s1(stage.model())).is_none(), "a frozen primary gives up on nobody");
    assert_eq!(noticed(&mut stage, receiver, RECEIVER).await, "s1 s2");
    stage.command("thaw p").await;
    stage.until_so("nothing to count down", |m| m.countdowns().is_empty()).await;
    stage.close().await;
}

/// Whoever still hears the other counts nothing down.
async fn a_cut_of_one_way_is_noticed_on_one_side<R: Runtime>(mut stage: Stage<R>) {
    for setting in ["wal_sender_timeout 5s", "wal_receiver_timeout 5s", "wal_receiver_status_interval 1s"] {
        stage.command(&format!("set {setting}")).await;
    }
    stage.until_so("acked writes", |m| m.ledger.counts().acked > 20).await;
    // p has s1's replies all the time; it learns that s1 gave up by the end of its connection.
    stage.command("cut p -> s1").await;
    let receiver = stage.until("the receiver's countdown", |m| m.receiver_countdown(s1(m))).await;
    assert_eq!(noticed(&mut stage, receiver, RECEIVER).await, "s1");
    stage.command("heal p -> s1").await;
    streams_again(&mut stage).await;
    // s1 has all that p sends.
    stage.command("cut s1 -> p").await;
    let sender = stage.until("the sender's countdown", |m| m.sender_countdown(s1(m))).await;
    assert_eq!(noticed(&mut stage, sender, SENDER).await, "p");
    stage.command("heal s1 -> p").await;
    streams_again(&mut stage).await;
    stage.close().await;
}

/// What the failure detector says at some moment of its countdown, against the moment at which it does take the primary for dead.
async fn the_detector_keeps_its_word<R: Runtime>(mut stage: Stage<R>, fault: &str, cause: Cause) {
    stage.command("auto-failover on timeout 3s no-fence").await;
    let seen = |m: &Model| ["p", "s1", "s2"].iter().all(|n| m.detector.last_good(&name(n)).is_some());
    stage.until_so("the first probes", seen).await;
    stage.until_so("acked writes", |m| m.ledger.counts().acked > 20).await;
    stage.until_so("nothing to count down", |m| m.fails_over_in().is_none()).await;
    stage.command(fault).await;
    let (from, (said, left)) = stage.until("the countdown", |m| Some((m.now, m.fails_over_in()?))).await;
    let detected = stage.until("the failover", |m| m.handovers.last()?.detected).await;
    let took = Duration::from_millis(detected.ms_since(from));
    println!("{fault}: after {took:?}; the countdown said {left} ms ({said:?})");
    assert_eq!((said, stage.model().handovers[0].kind), (cause, Kind::Failover(cause)));
    assert!(left < 3_000, "it counts from the last good answer: {left} ms");
    assert!(took.abs_diff(Duration::from_millis(left)) < SLACK, "it took {took:?}, not {left} ms");
    stage.until_so("the end of it", |m| m.handover().is_none()).await;
    let handover = stage.model().handovers[0].clone();
    assert!(handover.exact && handover.failed.is_none(), "{handover:?}\n{}", stage.journal());
    stage.close().await;
}

async fn the_detector_gives_up_on_a_silent_primary_as_it_says<R: Runtime>(stage: Stage<R>) {
    the_detector_keeps_its_word(stage, "freeze p", Cause::Silent).await;
}

async fn the_detector_gives_up_on_a_cut_off_primary_as_it_says<R: Runtime>(stage: Stage<R>) {
    the_detector_keeps_its_word(stage, "cut p | s1 s2", Cause::CutOff).await;
}

//! Faults on links of real PostgreSQL: each is proven by a probe row that doesn't arrive (or arrives late) while the lab's own
//! SQL works on both sides, and each is undone by its heal.

mod common;

use std::time::{Duration, Instant};

use common::firewall::Firewall;
use common::stage::{DEADLINE, Stage, name};
use replab::model::Model;
use replab::model::cluster::NodeState;
use replab::model::command::Rate;
use replab::model::condition::{Condition, Value};
use replab::model::links::{End, Traffic};
use replab::model::msg::{Topology, WriterPlan};
use replab::model::standing::Link;
use replab::runtime::{Runtime, owner};

everywhere! { WriterPlan { clients: 4, rate: Rate::PerSecond(100), ..WriterPlan::default() };
    cuts_both_ways_and_one_way
    refusals_isolation_and_groups
    delays_and_rates
    faults_outlast_restarts_and_new_links
    what_is_down_is_reached_by_nobody
    the_clients_way
    what_passes_is_counted
}

/// Long enough for a row that can come to have come many times over.
const LONG: Duration = Duration::from_millis(700);

fn acked(m: &Model) -> u64 {
    m.ledger.counts().acked
}

/// A stage whose only traffic is what the test makes: no writer, no heartbeat.
async fn hush<R: Runtime>(stage: &mut Stage<R>) {
    stage.rest().await;
    stage.command("heartbeat off").await;
    stage.command("set wal_receiver_status_interval 1s").await;
    // Its one row is there on all nodes before anything is broken.
    for standby in ["s1", "s2"] {
        assert!(probe(stage, standby, DEADLINE).await.is_some());
    }
}

/// Writes a probe on the primary; how long it took to be seen on the standby, if it came within the limit. On the lab's own
/// connections, which have to work whatever is broken between the nodes; the heartbeat would write over it.
async fn probe<R: Runtime>(stage: &mut Stage<R>, standby: &str, limit: Duration) -> Option<Duration> {
    let lab = stage.session.lab.clone();
    let (p, s) = (lab.control(&name("p")).unwrap(), lab.control(&name(standby)).unwrap());
    let work = async {
        let beat = fastrand::i64(1..i64::MAX);
        let began = Instant::now();
        p.beat(beat).await.expect("SQL works on the primary");
        while began.elapsed() < limit {
            if s.beat_seen().await.expect("SQL works on the standby") == Some(beat) {
                return Some(began.elapsed());
            }
            // The lab's own heart may have been at its last beat.
            if p.beat_seen().await.expect("SQL works on the primary") != Some(beat) {
                p.beat(beat).await.expect("SQL works on the primary");
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        None
    };
    stage.during(work, |_| ()).await
}

async fn blocked<R: Runtime>(stage: &mut Stage<R>, standbys: &[&str]) {
    for standby in standbys {
        let came = probe(stage, standby, LONG).await;
        assert!(came.is_none(), "a row came to {standby} after {came:?}\n{}", stage.journal());
    }
}

async fn arrives<R: Runtime>(stage: &mut Stage<R>, standbys: &[&str]) {
    for standby in standbys {
        assert!(probe(stage, standby, DEADLINE).await.is_some(), "nothing comes to {standby}\n{}", stage.journal());
    }
}

fn badges(stage: &Stage<impl Runtime>) -> String {
    stage.model().links.faults().iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

async fn cuts_both_ways_and_one_way<R: Runtime>(mut stage: Stage<R>) {
    hush(&mut stage).await;
    let row = |column: &str| format!("SELECT {column} FROM pg_stat_replication WHERE application_name = 's1'");
    stage.command("cut p s1").await;
    blocked(&mut stage, &["s1"]).await;
    arrives(&mut stage, &["s2"]).await;
    assert_eq!(stage.psql("p", &row("state")).await, "streaming", "a cut is silent");
    stage.command("heal p s1").await;
    arrives(&mut stage, &["s1"]).await;

    // No WAL to s1, and its replies still come: the primary hears of a standby that is alive and stays behind.
    stage.command("cut p -> s1").await;
    assert_eq!(badges(&stage), "p→s1 cut");
    blocked(&mut stage, &["s1"]).await;
    let begun = stage.psql("p", &row("reply_time")).await;
    stage.until_psql("p", &row(&format!("reply_time > '{begun}'")), "t").await;
    assert_eq!(stage.psql("p", &row("replay_lsn < pg_current_wal_lsn()")).await, "t");
    stage.command("heal p -> s1").await;
    arrives(&mut stage, &["s1"]).await;

    // WAL comes to s1, and nobody hears of it: a synchronous commit waits though the row is there.
    stage.command("sync first 1 (s1)").await;
    stage.until_psql("p", &row("sync_state"), "sync").await;
    stage.command("cut s1 -> p").await;
    let told = stage.psql("p", &row("flush_lsn")).await;
    arrives(&mut stage, &["s1"]).await;
    assert_eq!(stage.psql("p", &row("flush_lsn")).await, told, "s1's word came through the cut");
    stage.command("write").await;
    stage.until_so("a commit that waits", |m| m.waiting().len() == 1).await;
    assert!(stage.psql("s1", "SELECT pg_last_wal_replay_lsn()").await > told);
    let before = acked(stage.model());
    stage.command("heal s1 -> p").await;
    stage.until_so("its return", |m| acked(m) == before + 1).await;
    assert!(stage.try_command("heal p s1").await.unwrap_err().contains("nothing is wrong with"));
    stage.close().await;
}

async fn refusals_isolation_and_groups<R: Runtime>(mut stage: Stage<R>) {
    hush(&mut stage).await;
    let senders = "SELECT string_agg(application_name, ' ' ORDER BY application_name) FROM pg_stat_replication";
    let refused = stage.try_command("refuse p -> s1").await.unwrap_err();
    assert!(refused.contains("`refuse s1 -> p`"), "{refused}");
    stage.command("refuse s1 -> p").await;
    let took = stage.until_psql("p", senders, "s2").await;
    println!("the refused standby left after {} ms", took.as_millis());
    blocked(&mut stage, &["s1"]).await;
    assert_eq!(stage.psql("s1", "SELECT count(*) FROM pg_stat_wal_receiver").await, "0", "it knows at once");
    stage.command("heal s1").await;
    arrives(&mut stage, &["s1"]).await;

    stage.command("isolate s1").await;
    assert_eq!(stage.model().links.isolated(stage.model().names()), [End::from(name("s1"))]);
    blocked(&mut stage, &["s1"]).await;
    arrives(&mut stage, &["s2"]).await;
    stage.command("heal s1").await;
    arrives(&mut stage, &["s1"]).await;

    stage.command("cut p | s1 s2").await;
    blocked(&mut stage, &["s1", "s2"]).await;
    stage.command("heal").await;
    arrives(&mut stage, &["s1", "s2"]).await;
    assert!(stage.model().faults().is_empty());
    stage.close().await;
}

/// The middle one of some probes, in milliseconds.
async fn latency<R: Runtime>(stage: &mut Stage<R>, standby: &str) -> u128 {
    let mut times = Vec::new();
    for _ in 0..7 {
        times.push(probe(stage, standby, DEADLINE).await.expect("it comes").as_millis());
    }
    times.sort_unstable();
    times[3]
}

async fn delays_and_rates<R: Runtime>(mut stage: Stage<R>) {
    hush(&mut stage).await;
    let before = latency(&mut stage, "s1").await;
    stage.command("slow p s1 150ms").await;
    let (slow, other) = (latency(&mut stage, "s1").await, latency(&mut stage, "s2").await);
    println!("a row takes {before} ms, over a slow link {slow} ms, over the other {other} ms");
    assert!((150..150 + before + 100).contains(&slow), "{slow} ms");
    assert!(other < 100, "{other} ms on a link that isn't slow");
    // A synchronous commit pays the round trip.
    stage.command("sync first 1 (s1)").await;
    stage.command("clients 1").await;
    stage.command("rate max").await;
    stage.command("resume").await;
    stage
        .until_so("the round trip", |m| m.writer.pulse.p50_us.is_some_and(|us| (300_000..500_000).contains(&us)))
        .await;
    stage.until_so("replies", |m| matches!(m.rung(m.node(&name("s1")).unwrap()).link, Link::Connected(_))).await;
    stage.command("heartbeat on").await;
    // Slow isn't silent, and a fault beside it doesn't replace it.
    stage.command("throttle p -> s1 1MB/s").await;
    stage.command("slow p s1 100ms ±20ms").await;
    assert_eq!(badges(&stage), "p–s1 slow 100ms ±20ms, p→s1 1MB/s");
    let end = Instant::now() + Duration::from_secs(3);
    while Instant::now() < end {
        stage.psql("p", "SELECT 1").await;
        let link = stage.model().rung(stage.model().node(&name("s1")).unwrap()).link;
        assert!(matches!(link, Link::Connected(_)), "{link:?}");
    }
    stage.command("heal s1").await;
    stage.command("sync off").await;
    hush(&mut stage).await;

    // Half a megabyte of WAL at 100 kB/s; without the throttle it takes no time.
    stage.psql("p", "CREATE TABLE bulk (filler text)").await;
    stage.until_psql("s1", "SELECT count(*) FROM bulk", "0").await;
    stage.command("throttle p s1 100kB/s").await;
    let (began, before) = (Instant::now(), stage.psql("p", "SELECT pg_current_wal_lsn()").await);
    let filler = "SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 40)";
    stage.psql("p", &format!("INSERT INTO bulk SELECT ({filler} WHERE n > 0) FROM generate_series(1, 400) n")).await;
    let size = format!("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '{before}')::bigint");
    let size: f64 = stage.psql("p", &size).await.parse().unwrap();
    stage.until_psql("s2", "SELECT count(*) FROM bulk", "400").await;
    assert!(began.elapsed() < Duration::from_secs(2), "s2 isn't throttled");
    stage.until_psql("s1", "SELECT count(*) FROM bulk", "400").await;
    let rate = size / began.elapsed().as_secs_f64() / 1024.0;
    println!("{:.0} kB of WAL came at {rate:.0} kB/s", size / 1024.0);
    assert!((50.0..115.0).contains(&rate), "{rate} kB/s");
    stage.close().await;
}

async fn faults_outlast_restarts_and_new_links<R: Runtime>(mut stage: Stage<R>) {
    hush(&mut stage).await;
    stage.command("cut p s1").await;
    stage.command("slow p s1 50ms").await;
    for node in ["s1", "p"] {
        stage.command(&format!("kill {node}")).await;
        stage.command(&format!("start {node}")).await;
        stage.until_psql("p", "SELECT count(*) FROM pg_stat_replication WHERE application_name = 's2'", "1").await;
        blocked(&mut stage, &["s1"]).await;
    }
    stage.command("heal p s1").await;
    arrives(&mut stage, &["s1"]).await;
    // A link that isn't there yet is cut when it is made.
    stage.command("cut s1 s2").await;
    stage.command("follow s2 s1").await;
    blocked(&mut stage, &["s2"]).await;
    assert_eq!(stage.psql("s1", "SELECT count(*) FROM pg_stat_replication").await, "0");
    stage.command("heal s1 s2").await;
    arrives(&mut stage, &["s2"]).await;
    stage.command("throttle p s2 1MB/s").await;
    assert_eq!(badges(&stage), "p–s2 1MB/s", "that one is kept for later");
    stage.command("remove s2").await;
    assert!(stage.model().faults().is_empty());
    stage.close().await;
}

/// How often a standby was turned away, as far as its log is kept.
fn turned_away(m: &Model, standby: &str) -> usize {
    let lines = m.node(&name(standby)).map(|n| n.logs.iter().map(|l| &l.line.text));
    lines.into_iter().flatten().filter(|text| text.contains("could not connect to the primary server")).count()
}

/// An engine gives the address of what is down to the next container that starts. Nobody may stream from the wrong server.
async fn what_is_down_is_reached_by_nobody<R: Runtime>(mut stage: Stage<R>) {
    stage.command("stop s1").await;
    stage.command("kill p").await;
    stage.command("start s1").await;
    let before = ["s1", "s2"].map(|standby| turned_away(stage.model(), standby));
    for (standby, before) in ["s1", "s2"].into_iter().zip(before) {
        stage.until_so("it to be turned away", |m| turned_away(m, standby) > before + 2).await;
    }
    assert_eq!(stage.psql("s1", "SELECT count(*) FROM pg_stat_replication").await, "0");
    stage.command("start p").await;
    stage.until_psql("p", "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'", "2").await;
    stage.close().await;
}

/// Containers that somebody else starts have each other's addresses then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_started_from_outside_is_reached_where_it_is() {
    let Some(mut stage) = Stage::in_docker(17, Topology::primary_with(2), WriterPlan::default()).await else { return };
    let engine = common::house::bare().await.expect("an engine");
    let lab = stage.model().lab.clone();
    stage.command("stop s1").await;
    stage.command("kill p").await;
    for node in ["s1", "p"] {
        engine.start_container(&format!("replab-{lab}-{node}"), None).await.expect("started");
        stage.until_so("its state", |m| m.node(&name(node)).is_some_and(|n| n.state == NodeState::Running)).await;
    }
    stage.until_psql("p", "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'", "2").await;
    stage.close().await;
}

async fn the_clients_way<R: Runtime>(mut stage: Stage<R>) {
    stage.until_so("writes", |m| acked(m) > 20).await;
    let unknown = stage.model().ledger.counts().unknown;
    stage.command("cut client p").await;
    stage.books_are_up_to_date().await;
    let held = stage.until("writes that hang", |m| (m.ledger.counts().pending == 4).then(|| acked(m))).await;
    let there = stage.psql("p", "SELECT count(*) FROM replab.writes").await;
    stage.until_psql("s1", "SELECT count(*) FROM replab.writes", &there).await;
    // What p had done when the link was cut may have been answered in vain.
    let done: u64 = there.parse().unwrap();
    assert!(acked(stage.model()) == held && (held..=held + 4).contains(&done), "{held} acknowledged, {done} there");
    assert_eq!(stage.psql("p", "SELECT count(*) FROM replab.writes").await, there, "nothing gets to p, and p serves");
    stage.command("heal client p").await;
    stage.until_so("writes again", |m| acked(m) > held + 20).await;

    // p does what it is asked, and its answers get lost on the way.
    stage.command("cut p -> client").await;
    stage.books_are_up_to_date().await;
    let held = stage.until("answers that don't come", |m| (m.ledger.counts().pending == 4).then(|| acked(m))).await;
    stage.until_psql("p", "SELECT count(*) FROM replab.writes", &(held + 4).to_string()).await;
    assert_eq!(acked(stage.model()), held);
    stage.command("heal").await;
    stage.until_so("their answers", |m| acked(m) >= held + 4).await;

    stage.command("slow client p 80ms").await;
    stage.until_so("slow writes", |m| m.writer.pulse.p50_us.is_some_and(|us| (160_000..260_000).contains(&us))).await;
    let way = (End::Client, End::from(name("p")));
    let turns = |m: &Model| m.traffic.iter().find(|t| (&t.from, &t.to) == (&way.0, &way.1)).map(|t| t.round_trips);
    let before = stage.until("counts", turns).await;
    stage.until_so("round trips", |m| turns(m).is_some_and(|n| n > before + 4)).await;
    stage.command("heal").await;
    stage.until_so("fast writes", |m| m.writer.pulse.p50_us.is_some_and(|us| us < 100_000)).await;
    assert_eq!(
        stage.model().ledger.counts().unknown,
        unknown,
        "no write was lost from sight by the lab's own rerouting"
    );

    stage.command("refuse client p").await;
    stage.until_so("trouble", |m| m.writer.pulse.connected == 0 && m.writer.pulse.trouble.is_some()).await;
    stage.command("heartbeat off").await;
    arrives(&mut stage, &["s1"]).await;
    stage.command("isolate p").await;
    assert_eq!(stage.model().links.isolated(stage.model().names()), [End::from(name("p"))]);
    stage.command("heal p").await;
    let healed = acked(stage.model());
    stage.until_so("writes at last", |m| acked(m) > healed + 20).await;
    stage.command("verify").await;
    assert_eq!(stage.model().verification.clone().unwrap().verdict.word(), "sound");
    stage.close().await;
}

/// What the quantities of the clients' link to p say: bytes, messages, round trips.
fn counted(m: &Model) -> Option<[u64; 3]> {
    let now = |quantity: &str| match format!("{quantity}(p) >= 0").parse::<Condition>().unwrap().check(m).1 {
        Value::Number(n) => Some(n as u64),
        _ => None,
    };
    Some([now("client_bytes")?, now("client_messages")?, now("round_trips")?])
}

fn passed(m: &Model, from: End, to: End) -> Option<Traffic> {
    m.traffic.iter().find(|t| (&t.from, &t.to) == (&from, &to)).cloned()
}

async fn what_passes_is_counted<R: Runtime>(mut stage: Stage<R>) {
    hush(&mut stage).await;
    assert_eq!(counted(stage.model()), None, "no relay carries a healthy clients' link");
    stage.command("slow client p 1ms").await;
    // The clients have come over to the relay by then, and nothing but writes goes there.
    let mut done = acked(stage.model());
    stage.command("write 20").await;
    stage.until_so("their return", |m| acked(m) == done + 20).await;
    let from = stage.model().now;
    stage.until_so("the next count, twice a second", |m| m.now.ms_since(from) > 1_200).await;
    let before = stage.until("counts", counted).await;
    let way = |m: &Model| passed(m, End::Client, End::from(name("p"))).unwrap();
    let (began, mut writes) = (way(stage.model()), 0);
    while writes < 40 {
        (done, writes) = (acked(stage.model()), writes + 10);
        stage.command("write 10").await;
        stage.until_so("their return", |m| acked(m) == done + 10).await;
    }
    // A write is Bind, Execute and Sync; its answer BindComplete, CommandComplete and ReadyForQuery.
    let more = |m: &Model, i: usize| counted(m).unwrap()[i] - before[i];
    stage.until_so("40 round trips", |m| more(m, 1) >= 240 && more(m, 2) >= 40).await;
    assert_eq!([more(stage.model(), 1), more(stage.model(), 2)], [240, 40]);
    let (ended, bytes) = (way(stage.model()), more(stage.model(), 0));
    let of = |now: u64, then: u64| now - then;
    assert_eq!(of(ended.up.messages.unwrap(), began.up.messages.unwrap()), 120);
    let (up, down) = (of(ended.up.bytes, began.up.bytes), of(ended.down.bytes, began.down.bytes));
    println!("{bytes} bytes for 40 writes: {up} up, {down} down");
    assert!(bytes == up + down && up > down && down > 40 * 20, "{up} up, {down} down");

    // A standby connects to its upstream: up go its replies, down comes the WAL.
    let link = |m: &Model| passed(m, End::from(name("s1")), End::from(name("p"))).unwrap();
    let began = link(stage.model());
    stage.psql("p", "SELECT pg_logical_emit_message(true, 'replab', repeat('x', 400000))").await;
    stage.until_so("the WAL", |m| link(m).down.bytes >= began.down.bytes + 400_000).await;
    stage.until_so("replies", |m| link(m).up.bytes > began.up.bytes).await;
    let up = link(stage.model()).up.bytes - began.up.bytes;
    assert!(up < 40_000, "{up} bytes of replies");
    stage.close().await;
}

/// A firewall drops what containers send to this host: the lab comes up with direct links, says why, and refuses their faults.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn containers_that_cannot_reach_the_host_are_linked_directly() {
    // Its image is there before anybody waits for the network.
    if !Firewall::can_be() || common::images::ground_or_skip(17).await.is_none() {
        return;
    }
    let lab = owner::new_lab_id();
    let closing = tokio::spawn({
        let lab = lab.clone();
        async move { Firewall::around(&lab).await }
    });
    let Some(mut stage) = Stage::in_docker_as(lab, 17, Topology::primary_with(2), WriterPlan::default()).await else {
        closing.abort();
        return;
    };
    let firewall = closing.await.unwrap();
    let why = stage.model().direct_links.clone().expect("the links are direct");
    assert!(why.contains("reaches this host at") && why.contains("allow TCP from the lab's network"), "{why}");
    assert!(stage.journal().contains("links between nodes are direct and can't be faulted"), "{}", stage.journal());
    stage.command("heartbeat off").await;
    arrives(&mut stage, &["s1", "s2"]).await;
    for fault in ["cut p s1", "isolate s1", "slow p s1 80ms"] {
        let refused = stage.try_command(fault).await.unwrap_err();
        assert!(refused.contains("they are direct: no connection of s"), "{refused}");
    }
    // What leads from here to the containers goes on, so the clients' faults do too.
    stage.command("slow client p 80ms").await;
    stage.until_so("slow writes", |m| m.writer.pulse.p50_us.is_some_and(|us| us > 160_000)).await;
    stage.command("heal").await;
    stage.command("follow s2 s1").await;
    arrives(&mut stage, &["s2"]).await;
    drop(firewall);
    stage.command("reset").await;
    stage.command("heartbeat off").await;
    assert_eq!(stage.model().direct_links, None, "once they can, they have relays");
    stage.command("cut p s1").await;
    blocked(&mut stage, &["s1"]).await;
    stage.close().await;
}

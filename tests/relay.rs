//! The relay: whole byte streams through faults of every kind, silence during a cut, one way and both, refusals that are
//! resets, delays that add latency and keep order, a throttle's rate, counts that are right or unknown, and a standby behind it.

mod common;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use common::pgserver::{Lab, wait_for};
use replab::model::links::{Lane, Passed, Slow};
use replab::relay::{Dialled, Faults, Relay};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::time::timeout;

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

fn relay_to(upstream: Option<SocketAddr>) -> (Relay, watch::Sender<Option<Dialled>>) {
    let (tell, told) = watch::channel(upstream.map(Dialled::from));
    (Relay::start(ANY, told).unwrap(), tell)
}

/// The two ends of one relayed connection.
async fn connection() -> (Relay, TcpStream, TcpStream) {
    let listener = TcpListener::bind(ANY).await.unwrap();
    let (relay, _) = relay_to(Some(listener.local_addr().unwrap()));
    let (near, far) = tokio::join!(TcpStream::connect(relay.address()), listener.accept());
    (relay, near.unwrap(), far.unwrap().0)
}

/// The same where the upstream is a socket file.
async fn connection_to_file() -> (Relay, TcpStream, UnixStream) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("upstream");
    let listener = UnixListener::bind(&file).unwrap();
    let (_tell, told) = watch::channel(Some(Dialled::File(file)));
    let relay = Relay::start(ANY, told).unwrap();
    let (near, far) = tokio::join!(TcpStream::connect(relay.address()), listener.accept());
    (relay, near.unwrap(), far.unwrap().0)
}

fn bytes(seed: u64, length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..length).map(|_| random.u8(..)).collect()
}

fn slow(delay_ms: u64, jitter_ms: u64) -> Lane {
    Lane { slow: Slow::new(delay_ms * 1_000, jitter_ms * 1_000), ..Lane::default() }
}

/// Cut, slow, throttled, or some of it; never refused.
fn any_lane(random: &mut fastrand::Rng) -> Lane {
    let slow = if random.bool() { Slow::new(random.u64(500..3_000), random.u64(0..500)) } else { None };
    let rate = if random.u8(..) < 80 { Some(random.u64(1_000_000..50_000_000)) } else { None };
    Lane { cut: random.u8(..) < 80, refuse: false, slow, rate }
}

const PATIENCE: Duration = Duration::from_secs(30);
const QUIET: Duration = Duration::from_millis(150);

/// Whether this byte comes, and no other. What is wanted is waited for, however long a busy machine takes.
async fn comes(stream: &mut TcpStream, byte: u8, wanted: bool) -> bool {
    let mut buffer = [0; 8];
    match timeout(if wanted { PATIENCE } else { QUIET }, stream.read(&mut buffer)).await {
        Ok(count) => (count.unwrap(), buffer[0]) == (1, byte),
        Err(_) => false,
    }
}

fn is_reset(read: &std::io::Result<usize>) -> bool {
    read.as_ref().is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionReset)
}

async fn send(mut to: impl AsyncWrite + Unpin, data: Vec<u8>, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut rest = &data[..];
    while !rest.is_empty() {
        let piece = random.usize(1..=rest.len().min(60_000));
        to.write_all(&rest[..piece]).await.unwrap();
        rest = &rest[piece..];
    }
    to.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_bytes_arrive_whole_through_cuts_and_heals() {
    for seed in 0..6 {
        let (relay, near, far) = connection().await;
        arrive_whole(seed, relay, near, far).await;
    }
    for seed in 6..9 {
        let (relay, near, far) = connection_to_file().await;
        arrive_whole(seed, relay, near, far).await;
    }
}

async fn arrive_whole(
    seed: u64,
    relay: Relay,
    near: TcpStream,
    far: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) {
    let (up, down) = (bytes(seed, 3_000_000), bytes(seed + 100, 2_000_000));
    let ((mut near_in, near_out), (mut far_in, far_out)) = (near.into_split(), split(far));
    let sending = tokio::spawn(send(near_out, up.clone(), seed));
    let answering = tokio::spawn(send(far_out, down.clone(), seed + 7));
    let mut random = fastrand::Rng::with_seed(seed);
    let faults = async {
        for _ in 0..40 {
            // The even ones are cuts and heals alone; the odd ones anything.
            let (one, other) = (any_lane(&mut random), any_lane(&mut random));
            relay.set(if seed.is_multiple_of(2) { Faults::cut() } else { Faults { up: one, down: other } });
            tokio::time::sleep(Duration::from_micros(random.u64(0..3_000))).await;
            if seed.is_multiple_of(2) || random.bool() {
                relay.set(Faults::none());
            }
            tokio::time::sleep(Duration::from_micros(random.u64(0..1_000))).await;
        }
        relay.set(Faults::none());
    };
    let (mut got_up, mut got_down) = (Vec::new(), Vec::new());
    let (one, two, ()) = tokio::join!(far_in.read_to_end(&mut got_up), near_in.read_to_end(&mut got_down), faults);
    one.unwrap();
    two.unwrap();
    assert!(got_up == up && got_down == down, "seed {seed}");
    sending.await.unwrap();
    answering.await.unwrap();
    let reading = relay.reading();
    assert_eq!((reading.up.bytes, reading.down.bytes, reading.opened), (3_000_000, 2_000_000, 1));
    assert_eq!((reading.up.messages, reading.down.messages), (None, None), "that was no PostgreSQL");
    wait_for("the connection's end", async || (relay.reading().open == 0).then_some(())).await;
}

#[tokio::test]
async fn an_upstream_that_is_nowhere_is_refused_until_it_is_told_anew() {
    let (relay, tell) = relay_to(None);
    let mut waits = TcpStream::connect(relay.address()).await.unwrap();
    assert!(timeout(QUIET, waits.read_u8()).await.is_err(), "nothing was told yet: it waits");
    tell.send_replace(Some(Dialled::Nowhere));
    assert_eq!(waits.read(&mut [0]).await.unwrap(), 0, "closed");
    let mut late = TcpStream::connect(relay.address()).await.unwrap();
    assert_eq!(late.read(&mut [0]).await.unwrap(), 0, "closed as soon as it came");
    let listener = TcpListener::bind(ANY).await.unwrap();
    tell.send_replace(Some(listener.local_addr().unwrap().into()));
    let (near, far) = tokio::join!(TcpStream::connect(relay.address()), listener.accept());
    far.unwrap().0.write_u8(7).await.unwrap();
    assert!(comes(&mut near.unwrap(), 7, true).await);
}

#[tokio::test]
async fn an_attempt_ends_when_the_upstream_is_told_to_be_elsewhere() {
    // Nobody accepts there, and there is no room to wait in: the next attempt is neither taken nor refused.
    let full = TcpSocket::new_v4().unwrap();
    full.bind(ANY).unwrap();
    let full = full.listen(0).unwrap();
    let there = full.local_addr().unwrap();
    let mut room = Vec::new();
    while let Ok(taken) = timeout(QUIET, TcpStream::connect(there)).await {
        room.push(taken.unwrap());
    }
    let (relay, tell) = relay_to(Some(there));
    let mut near = TcpStream::connect(relay.address()).await.unwrap();
    assert!(timeout(QUIET, near.read_u8()).await.is_err(), "it is under way");
    let listener = TcpListener::bind(ANY).await.unwrap();
    tell.send_replace(Some(listener.local_addr().unwrap().into()));
    let reached = timeout(PATIENCE, listener.accept()).await;
    reached
        .expect("the new address is dialled, within the second that an attempt may take")
        .unwrap()
        .0
        .write_u8(7)
        .await
        .unwrap();
    assert!(comes(&mut near, 7, true).await);
    drop((full, room));
}

#[tokio::test]
async fn a_cut_is_silence_both_ways_with_no_reset() {
    let (relay, mut near, mut far) = connection().await;
    near.write_all(b"before").await.unwrap();
    let mut buffer = [0; 64];
    assert_eq!(far.read(&mut buffer).await.unwrap(), 6);
    relay.set(Faults::cut());
    near.write_all(b"up").await.unwrap();
    far.write_all(b"down").await.unwrap();
    let quiet = Duration::from_millis(150);
    assert!(timeout(quiet, far.read(&mut buffer)).await.is_err(), "something came through a cut");
    assert!(timeout(quiet, near.read(&mut buffer)).await.is_err(), "something came back through a cut");
    let mut late = TcpStream::connect(relay.address()).await.unwrap();
    late.write_all(b"hello").await.unwrap();
    assert!(timeout(quiet, late.read(&mut buffer)).await.is_err(), "a new connection got an answer");
    relay.set(Faults::none());
    assert_eq!(far.read(&mut buffer).await.unwrap(), 2);
    assert_eq!(near.read(&mut buffer).await.unwrap(), 4);
}

#[tokio::test]
async fn an_end_that_dies_during_a_cut_is_not_heard_of_before_the_heal() {
    let (relay, mut near, far) = connection().await;
    relay.set(Faults::cut());
    drop(far);
    let mut buffer = [0; 8];
    assert!(timeout(Duration::from_millis(150), near.read(&mut buffer)).await.is_err());
    relay.set(Faults::none());
    assert_eq!(near.read(&mut buffer).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn one_way_is_cut_and_the_other_carries() {
    for (up, down) in [(true, false), (false, true)] {
        let (relay, mut near, mut far) = connection().await;
        let lane = |cut| Lane { cut, ..Lane::default() };
        relay.set(Faults { up: lane(up), down: lane(down) });
        near.write_all(b"u").await.unwrap();
        far.write_all(b"d").await.unwrap();
        assert_eq!((comes(&mut far, b'u', !up).await, comes(&mut near, b'd', !down).await), (!up, !down));
        // A connection needs both ways.
        let mut more = TcpStream::connect(relay.address()).await.unwrap();
        assert!(timeout(QUIET, more.read(&mut [0])).await.is_err(), "a new connection got an answer");
        assert_eq!(relay.reading().open, 2);
        relay.set(Faults::none());
        assert_eq!((comes(&mut far, b'u', up).await, comes(&mut near, b'd', down).await), (up, down));
    }
}

/// The end that breaks is heard of where news still gets through, and only there.
#[tokio::test]
async fn news_of_an_end_travels_the_way_that_is_open() {
    let (relay, mut near, far) = connection().await;
    relay.set(Faults { up: Lane { cut: true, ..Lane::default() }, down: Lane::default() });
    drop(far);
    assert_eq!(timeout(PATIENCE, near.read(&mut [0])).await.expect("the end comes").unwrap_or(0), 0);
    let (relay, near, mut far) = connection().await;
    relay.set(Faults { up: Lane { cut: true, ..Lane::default() }, down: Lane::default() });
    drop(near);
    assert!(timeout(QUIET, far.read(&mut [0])).await.is_err(), "the upstream heard of an end through a cut");
}

#[tokio::test]
async fn refused_connections_are_reset() {
    let (relay, mut near, mut far) = connection().await;
    let refuse = Lane { refuse: true, ..Lane::default() };
    near.write_all(b"x").await.unwrap();
    assert!(comes(&mut far, b'x', true).await);
    relay.set(Faults { up: refuse, down: Lane::default() });
    let mut buffer = [0; 8];
    assert!(is_reset(&far.read(&mut buffer).await), "the open connection's upstream");
    assert!(is_reset(&near.read(&mut buffer).await), "the open connection");
    let late = async {
        let mut late = TcpStream::connect(relay.address()).await?;
        late.read(&mut buffer).await
    };
    assert!(is_reset(&late.await), "a new one");
    // Behind a cut nobody hears of it.
    relay.set(Faults { up: Lane { cut: true, ..refuse }, down: Lane::default() });
    let mut silent = TcpStream::connect(relay.address()).await.unwrap();
    assert!(timeout(QUIET, silent.read(&mut buffer)).await.is_err());
    relay.set(Faults { up: refuse, down: Lane::default() });
    assert!(is_reset(&silent.read(&mut buffer).await));
    // The reset comes before the relay has counted it.
    let counted = async {
        while relay.reading().open > 0 {
            tokio::task::yield_now().await;
        }
        relay.reading().opened
    };
    assert_eq!(timeout(PATIENCE, counted).await, Ok(3));
}

/// From sending a byte to its arrival, in milliseconds.
async fn latency(from: &mut TcpStream, to: &mut TcpStream) -> u128 {
    let began = Instant::now();
    from.write_all(b"x").await.unwrap();
    to.read_exact(&mut [0]).await.unwrap();
    began.elapsed().as_millis()
}

#[tokio::test]
async fn a_delay_adds_latency_and_no_more() {
    let (relay, mut near, mut far) = connection().await;
    relay.set(Faults { up: slow(60, 0), down: slow(120, 20) });
    // Never less than the delay; a moment in which the machine had other things to do may come on top.
    let (mut ups, mut downs) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        ups.push(latency(&mut near, &mut far).await);
        downs.push(latency(&mut far, &mut near).await);
    }
    assert!(ups.iter().all(|ms| *ms >= 60) && ups.iter().min() < Some(&90), "{ups:?} ms up");
    assert!(downs.iter().all(|ms| *ms >= 100) && downs.iter().min() < Some(&170), "{downs:?} ms down");
    // Three megabytes in hundreds of pieces wait for the delay once, not once a piece: that would be more than five seconds.
    let data = bytes(1, 3_000_000);
    let began = Instant::now();
    let (near_in, near_out) = near.into_split();
    let sending = tokio::spawn(send(near_out, data.clone(), 5));
    let mut got = vec![0; data.len()];
    far.read_exact(&mut got).await.unwrap();
    assert!(got == data && began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    // The end comes last, and no earlier than the delay.
    assert_eq!(far.read(&mut [0]).await.unwrap(), 0);
    sending.await.unwrap();
    // A new connection takes a round trip more, as TCP's handshake would.
    let mut late = TcpStream::connect(relay.address()).await.unwrap();
    let began = Instant::now();
    late.write_all(b"x").await.unwrap();
    assert!(
        late.read(&mut [0]).await.is_err() || began.elapsed() >= Duration::from_millis(180),
        "{:?}",
        began.elapsed()
    );
    drop(near_in);
}

#[tokio::test]
async fn what_is_under_way_at_a_heal_comes_at_once() {
    let (relay, mut near, mut far) = connection().await;
    relay.set(Faults { up: slow(30_000, 0), down: Lane::default() });
    near.write_all(b"abc").await.unwrap();
    assert!(timeout(QUIET, far.read(&mut [0; 3])).await.is_err());
    relay.set(Faults::none());
    let mut got = [0; 3];
    timeout(Duration::from_secs(1), far.read_exact(&mut got)).await.expect("it comes").unwrap();
    assert_eq!(&got, b"abc");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_throttle_is_kept_by_all_connections_together() {
    const RATE: u64 = 1_000_000;
    let listener = TcpListener::bind(ANY).await.unwrap();
    let (relay, _tell) = relay_to(Some(listener.local_addr().unwrap()));
    relay.set(Faults { up: Lane { rate: Some(RATE), ..Lane::default() }, down: Lane::default() });
    let mut work = tokio::task::JoinSet::new();
    let began = Instant::now();
    for seed in 0..2 {
        let (near, far) = tokio::join!(TcpStream::connect(relay.address()), listener.accept());
        let (near, mut far) = (near.unwrap(), far.unwrap().0);
        let (_, out) = near.into_split();
        work.spawn(send(out, bytes(seed, 400_000), seed));
        work.spawn(async move {
            let mut got = Vec::new();
            far.read_to_end(&mut got).await.unwrap();
            assert_eq!(got.len(), 400_000);
        });
    }
    while let Some(done) = work.join_next().await {
        done.unwrap();
    }
    let rate = 800_000.0 / began.elapsed().as_secs_f64();
    assert!((0.7..=1.1).contains(&(rate / RATE as f64)), "{rate} bytes/s");
}

#[tokio::test]
async fn half_close_passes_and_the_other_half_lives() {
    let (_relay, mut near, mut far) = connection().await;
    near.shutdown().await.unwrap();
    let mut rest = Vec::new();
    far.read_to_end(&mut rest).await.unwrap();
    far.write_all(b"still here").await.unwrap();
    drop(far);
    near.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"still here");
}

#[tokio::test]
async fn a_relay_outlives_its_upstream_and_follows_it() {
    let (relay, tell) = relay_to(None);
    let mut rest = Vec::new();
    let mut early = TcpStream::connect(relay.address()).await.unwrap();
    assert!(timeout(Duration::from_millis(100), early.read(&mut [0])).await.is_err(), "it waits for an upstream");
    let listener = TcpListener::bind(ANY).await.unwrap();
    tell.send_replace(Some(listener.local_addr().unwrap().into()));
    drop(listener.accept().await.unwrap());
    assert_eq!(early.read_to_end(&mut rest).await.unwrap_or(0), 0);
    drop(listener);
    for _ in 0..2 {
        let listener = TcpListener::bind(ANY).await.unwrap();
        tell.send_replace(Some(listener.local_addr().unwrap().into()));
        let (near, far) = tokio::join!(TcpStream::connect(relay.address()), listener.accept());
        let (mut near, mut far) = (near.unwrap(), far.unwrap().0);
        far.write_all(b"x").await.unwrap();
        drop(far);
        assert_eq!(near.read_to_end(&mut rest).await.unwrap(), 1);
    }
    assert_eq!(relay.reading().opened, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_between_a_standby_and_its_primary_is_proved_by_a_probe() {
    let Some(lab) = Lab::new() else { return };
    let p = lab.primary("p", &[]).await;
    let (relay, _tell) = relay_to(Some(p.address));
    let s1 = lab.standby("s1", relay.port()).await;
    let arrives = async |beat: i64, limit: Duration| {
        p.control.beat(beat).await.unwrap();
        let end = Instant::now() + limit;
        while Instant::now() < end {
            if s1.control.beat_seen().await.unwrap() == Some(beat) {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        false
    };
    assert!(arrives(1, Duration::from_secs(10)).await);
    relay.set(Faults::cut());
    assert!(!arrives(2, Duration::from_millis(500)).await, "the probe passed a cut link");
    let sample = p.control.sample().await.unwrap();
    assert_eq!(sample.senders[0].state, "streaming", "no reset: the primary doesn't know yet");
    relay.set(Faults::none());
    assert!(arrives(3, Duration::from_secs(2)).await, "the link was healed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_and_round_trips_of_a_real_session_are_counted() {
    let Some(lab) = Lab::new() else { return };
    let p = lab.primary("p", &[]).await;
    let (relay, _tell) = relay_to(Some(p.address));
    let control = p.control_at(relay.address());
    control.beat(1).await.unwrap();
    // An answer is counted once it has been handed on: whoever got it may look before that.
    let all = async || {
        let now = relay.reading();
        tokio::time::sleep(Duration::from_millis(100)).await;
        (relay.reading() == now).then_some(now)
    };
    let before = wait_for("all that has passed", all).await;
    for beat in 2..12 {
        control.beat(beat).await.unwrap();
    }
    let after = wait_for("all that has passed", all).await;
    let sent = |p: Passed| p.messages.expect("nothing was lost");
    assert_eq!(after.round_trips - before.round_trips, 10, "one statement, one round trip");
    // Bind, Execute, Sync; BindComplete, CommandComplete, ReadyForQuery.
    let (up, down) = (sent(after.up) - sent(before.up), sent(after.down) - sent(before.down));
    println!("{up} messages up, {down} down in 10 statements");
    assert!(up >= 30 && up % 10 == 0 && down >= 30 && down % 10 == 0, "{up} up, {down} down");
    // The same inside a stream of WAL.
    let (stream, _tell) = relay_to(Some(p.address));
    let s1 = lab.standby("s1", stream.port()).await;
    let wal = async || {
        let passed = stream.reading().down;
        (passed.bytes > 0 && s1.control.beat_seen().await.ok().flatten() == Some(11)).then_some(passed)
    };
    let begun = sent(wait_for("the stream", wal).await);
    p.control.beat(99).await.unwrap();
    wait_for("more of it", async || (sent(stream.reading().down) > begun).then_some(())).await;
}

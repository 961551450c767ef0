//! The writers and their classifier against real servers: every row of the table in docs/facts that can be made here, and
//! books that agree with what plain psql counts.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use common::pgserver::{Lab, START, Server, wait_for};
use replab::model::WriteId;
use replab::model::ledger::Ack;
use replab::pg::{Classifier, Insert, Limits, Outcome, Said, Wire, WireError};
use replab::workload::{ClientState, WriterCommand, WriterEvent, WriterPlan, Writers};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// One write on a connection of its own, to be waited for.
async fn write(lab: &Lab, server: &Server, seq: u64) -> JoinHandle<Outcome> {
    let login = server.login(&lab.passwords.writer, &[("synchronous_commit", "on")]);
    let mut wire = Wire::connect(&login).await.unwrap();
    wire.prepare_insert().await.unwrap();
    tokio::spawn(async move {
        let mut classifier = Classifier::default();
        wire.send(Insert::new(1, "x").unwrap().with(seq)).await.unwrap();
        match wire.answer(&mut classifier).await {
            Ok(outcome) => outcome,
            Err(_) => classifier.closed(),
        }
    })
}

/// From now on every commit waits. They do so once the checkpointer has read the rule; it reads it before it makes a checkpoint.
async fn rule_of_nobody(server: &Server) {
    server.control.set_rule("FIRST 1 (nobody)").await.unwrap();
    server.control.checkpoint().await.unwrap();
}

/// One write that waits for a standby that isn't there.
async fn waiting_write(lab: &Lab, server: &Server, seq: u64) -> (JoinHandle<Outcome>, i32) {
    rule_of_nobody(server).await;
    let write = write(lab, server, seq).await;
    let pid = wait_for("a waiting commit", async || {
        server.control.sample().await.ok()?.waiting.first().map(|waiting| waiting.pid)
    })
    .await;
    assert!(!server.control.is_visible(WriteId { client: 1, seq }).await.unwrap());
    (write, pid)
}

async fn is_there(server: &Server, seq: u64) -> bool {
    server.control.is_visible(WriteId { client: 1, seq }).await.unwrap()
}

fn code(outcome: &Outcome) -> Option<&str> {
    outcome.said.as_ref().map(|said| said.code.as_str())
}

#[tokio::test]
async fn the_classifiers_table_on_a_real_server() {
    let Some(lab) = Lab::new() else { return };
    let mut p = lab.primary("p", &[]).await;
    let outcome = write(&lab, &p, 1).await.await.unwrap();
    assert_eq!((outcome.ack, outcome.said), (Ack::Acked, None));
    let outcome = write(&lab, &p, 1).await.await.unwrap();
    assert_eq!((outcome.ack, code(&outcome)), (Ack::Failed, Some("23505")));
    let (cancelled, pid) = waiting_write(&lab, &p, 2).await;
    assert_eq!(p.control.cancel_waiting(Some(&[pid])).await.unwrap(), 1);
    let outcome = cancelled.await.unwrap();
    assert_eq!((outcome.ack, code(&outcome)), (Ack::AckedWithWarning, Some("01000")));
    assert!(is_there(&p, 2).await, "there, locally");
    let (terminated, _) = waiting_write(&lab, &p, 3).await;
    assert_eq!(p.control.terminate_waiting(None).await.unwrap(), 1);
    let outcome = terminated.await.unwrap();
    assert_eq!((outcome.ack, code(&outcome)), (Ack::Unknown, Some("57P01")));
    assert!(is_there(&p, 3).await);
    let (released, _) = waiting_write(&lab, &p, 4).await;
    p.control.set_rule("").await.unwrap();
    let outcome = released.await.unwrap();
    assert_eq!((outcome.ack, outcome.said), (Ack::Acked, None), "no warning when the names are emptied");
    let (stopped, _) = waiting_write(&lab, &p, 5).await;
    p.stop();
    assert_eq!(stopped.await.unwrap().ack, Ack::Unknown);
    let mut p = lab.launch("p");
    p.control.until_ready(START).await.unwrap();
    assert!(is_there(&p, 5).await, "a fast stop leaves it there");
    let (killed, _) = waiting_write(&lab, &p, 6).await;
    p.kill();
    assert_eq!(killed.await.unwrap().ack, Ack::Unknown);
}

#[tokio::test]
async fn a_killed_neighbour_and_a_lost_socket_leave_it_unknown() {
    let Some(lab) = Lab::new() else { return };
    let p = lab.primary("p", &[]).await;
    let (lost, pid) = waiting_write(&lab, &p, 1).await;
    lost.abort();
    assert!(lost.await.unwrap_err().is_cancelled());
    let still = p.control.sample().await.unwrap().waiting;
    assert!(still.iter().any(|waiting| waiting.pid == pid), "the backend goes on waiting");
    p.control.set_rule("").await.unwrap();
    wait_for("the row", async || is_there(&p, 1).await.then_some(())).await;
    let (crashed, pid) = waiting_write(&lab, &p, 2).await;
    let victim = p.psql("select pid from pg_stat_activity where backend_type = 'client backend' limit 1");
    assert_ne!(victim, pid.to_string());
    let victim = rustix::process::Pid::from_raw(victim.parse().unwrap()).unwrap();
    // The control connection's backend, or psql's own: any other one.
    let _ = rustix::process::kill_process(victim, rustix::process::Signal::KILL);
    let outcome = crashed.await.unwrap();
    assert_eq!(outcome.ack, Ack::Unknown, "{outcome:?}");
    assert!(matches!(code(&outcome), Some("57P02") | None), "{outcome:?}");
    p.control.until_ready(START).await.unwrap();
    assert!(is_there(&p, 2).await, "committed, though the warning speaks of rolling back");
}

/// In the extended protocol `CommandComplete` comes before the commit is done, so it acknowledges nothing.
#[tokio::test]
async fn command_complete_reaches_a_terminated_waiter() {
    let Some(lab) = Lab::new() else { return };
    let p = lab.primary("p", &[]).await;
    rule_of_nobody(&p).await;
    let mut wire = Wire::connect(&p.login(&lab.passwords.writer, &[])).await.unwrap();
    wire.prepare_insert().await.unwrap();
    wire.send(Insert::new(1, "x").unwrap().with(1)).await.unwrap();
    wait_for("a waiting commit", async || p.control.sample().await.ok()?.waiting.pop()).await;
    p.control.terminate_waiting(None).await.unwrap();
    let mut tags = String::new();
    while let Ok(frame) = wire.next().await {
        tags.push(char::from(frame.tag));
    }
    assert!(tags.starts_with("2CN"), "BindComplete, CommandComplete, WARNING: {tags}");
    assert!(!tags.contains('Z'));
}

/// What the books say in sum.
#[derive(Debug, Default)]
struct Seen {
    tried: BTreeSet<(u32, u64)>,
    settled: BTreeMap<(u32, u64), Ack>,
    waiting: Vec<(WriteId, u64)>,
    states: BTreeMap<u32, ClientState>,
    said: Vec<String>,
    latencies: u64,
}

impl Seen {
    fn take(&mut self, event: WriterEvent) {
        match event {
            WriterEvent::Books { tried, settled } => {
                for range in tried {
                    for seq in range.first..=range.last {
                        assert!(self.tried.insert((range.client, seq)), "tried twice");
                    }
                }
                for (range, ack) in settled {
                    for seq in range.first..=range.last {
                        assert!(self.tried.contains(&(range.client, seq)), "settled before it was tried");
                        assert_eq!(self.settled.insert((range.client, seq), ack), None, "settled twice");
                    }
                }
            }
            WriterEvent::InFlight(waiting) => self.waiting = waiting,
            WriterEvent::FirstAck(_) => {}
            WriterEvent::Clients(states) => self.states.extend(states),
            WriterEvent::Said(said) => self.said.extend(said.into_iter().map(|(_, text)| text)),
            WriterEvent::Latency(latency) => self.latencies += latency.count,
        }
    }

    fn count(&self, ack: Ack) -> usize {
        self.settled.values().filter(|a| **a == ack).count()
    }
}

struct Desk {
    writers: Writers,
    events: mpsc::Receiver<WriterEvent>,
    seen: Seen,
}

impl Desk {
    fn open(lab: &Lab) -> Self {
        Self::from(lab, 1)
    }

    /// Client numbers of a server that has been written to must be new ones.
    fn from(lab: &Lab, first_client: u32) -> Self {
        let (tell, events) = mpsc::channel(16);
        let writers = Writers::spawn(lab.passwords.writer.clone(), first_client, tell).unwrap();
        Self { writers, events, seen: Seen::default() }
    }

    async fn until(&mut self, what: &str, mut done: impl FnMut(&Seen) -> bool) {
        let end = tokio::time::Instant::now() + START;
        while !done(&self.seen) {
            match tokio::time::timeout_at(end, self.events.recv()).await {
                Ok(Some(event)) => self.seen.take(event),
                other => panic!("waited in vain for {what}: {other:?}, {:?}", self.seen.states),
            }
        }
    }

    async fn close(mut self) -> Seen {
        let (mut events, mut seen) = (self.events, std::mem::take(&mut self.seen));
        let taking = tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                seen.take(event);
            }
            seen
        });
        self.writers.stop().await;
        let seen = taking.await.unwrap();
        assert_eq!(seen.tried.len(), seen.settled.len(), "after the end nothing is in flight");
        seen
    }
}

fn plan(server: &Server, clients: u32) -> WriterPlan {
    WriterPlan { target: Some(server.address), clients, ..WriterPlan::default() }
}

async fn agrees(server: &Server, seen: &Seen) {
    assert_eq!(server.psql("select count(*) from replab.writes"), seen.count(Ack::Acked).to_string());
    let islands = server.control.read_ledger(0..=u32::MAX).await.unwrap();
    let rows: u64 = islands.iter().map(|(_, first, last)| last - first + 1).sum();
    assert_eq!(rows, seen.count(Ack::Acked) as u64);
}

#[tokio::test]
async fn books_agree_with_what_psql_counts() {
    let Some(lab) = Lab::new() else { return };
    let p = lab.primary("p", &[]).await;
    let mut desk = Desk::open(&lab);
    desk.writers.set(WriterPlan { level: "off".to_owned(), ..plan(&p, 8) });
    desk.until("5000 writes", |seen| seen.settled.len() > 5_000).await;
    desk.writers.set(WriterPlan { payload_bytes: 5_000, level: "local".to_owned(), ..plan(&p, 3) });
    desk.until("5 clients gone", |seen| seen.states.values().filter(|s| **s == ClientState::Gone).count() == 5).await;
    // All have changed over: who still does so when the pause comes writes once more.
    let changed = desk.seen.settled.len();
    desk.until("writes at the new level", |seen| seen.settled.len() > changed + 100).await;
    desk.writers.set(WriterPlan { paused: true, ..plan(&p, 3) });
    desk.until("quiet", |seen| seen.tried.len() == seen.settled.len()).await;
    let before = desk.seen.tried.len();
    desk.writers.command(WriterCommand::One);
    desk.writers.command(WriterCommand::Burst(10));
    desk.until("11 more", |seen| seen.settled.len() >= before + 11).await;
    desk.writers.set(WriterPlan { paused: true, ..plan(&p, 12) });
    desk.until("clients of new numbers", |seen| seen.states.get(&17) == Some(&ClientState::Connected)).await;
    // They come with the next pulse.
    desk.until("their latencies", |seen| seen.latencies > 5_000).await;
    let seen = desk.close().await;
    assert_eq!(seen.settled.len(), before + 11);
    assert_eq!(seen.count(Ack::Acked), seen.tried.len());
    assert_ne!(p.psql("select count(*) from replab.writes where length(payload) = 5000"), "0");
    agrees(&p, &seen).await;
}

#[tokio::test]
async fn a_killed_server_leaves_unknowns_and_the_counting_goes_on() {
    let Some(lab) = Lab::new() else { return };
    let mut p = lab.primary("p", &[]).await;
    let mut desk = Desk::open(&lab);
    desk.writers.set(plan(&p, 4));
    desk.until("writes", |seen| seen.settled.len() > 200).await;
    p.kill();
    desk.until("refusals", |seen| seen.states.values().any(|s| matches!(s, ClientState::Refused(_)))).await;
    let (at, port) = (desk.seen.settled.len(), p.address.port());
    drop(p);
    wait_for("the end of the old server's children", async || {
        std::net::TcpListener::bind(("127.0.0.1", port)).ok().map(drop)
    })
    .await;
    let p = lab.launch_at("p", port);
    p.control.until_ready(START).await.unwrap();
    desk.until("writes after the restart", |seen| seen.settled.len() > at + 200).await;
    let seen = desk.close().await;
    let unknown: Vec<_> = seen.settled.iter().filter(|(_, ack)| **ack == Ack::Unknown).map(|(id, _)| *id).collect();
    assert!((1..=8).contains(&unknown.len()), "{unknown:?}");
    assert_eq!(seen.count(Ack::Acked) + unknown.len(), seen.tried.len());
    let present: usize = p.psql("select count(*) from replab.writes").parse().unwrap();
    let acked = seen.count(Ack::Acked);
    assert!((acked..=acked + unknown.len()).contains(&present), "{acked} acked, {present} present");
    for client in 1..=4 {
        let numbers: Vec<_> = seen.tried.iter().filter(|(c, _)| *c == client).map(|(_, seq)| *seq).collect();
        assert!(numbers.iter().copied().eq(1..=numbers.len() as u64), "no number twice, none left out");
    }
}

#[tokio::test]
async fn a_blocked_write_is_told_and_a_change_of_target_makes_it_unknown() {
    let Some(lab) = Lab::new() else { return };
    let p = lab.primary("p", &[]).await;
    let s1 = lab.standby("s1", p.address.port()).await;
    rule_of_nobody(&p).await;
    let mut desk = Desk::open(&lab);
    desk.writers.set(plan(&p, 3));
    desk.until("waiting writes", |seen| seen.waiting.len() == 3 && seen.waiting[0].1 > 200).await;
    assert_eq!(desk.seen.settled.len(), 0, "no class by time");
    let began = Instant::now();
    desk.writers.set(WriterPlan { rate: Some(50.0), ..plan(&s1, 2) });
    desk.until("unknowns", |seen| seen.count(Ack::Unknown) == 3).await;
    assert!(began.elapsed() < Duration::from_secs(1));
    desk.until("refused writes", |seen| seen.count(Ack::Failed) >= 6 && seen.waiting.is_empty()).await;
    assert!(desk.seen.said.iter().any(|said| said.contains("25006")), "{:?}", desk.seen.said);
    desk.writers.set(WriterPlan { target: None, ..plan(&s1, 2) });
    let seen = desk.close().await;
    assert_eq!(seen.count(Ack::Unknown), 3);
    assert_eq!(seen.count(Ack::Acked), 0);
}

#[tokio::test]
async fn rates_are_kept_and_stopping_ends_a_blocked_client() {
    let Some(lab) = Lab::new() else { return };
    let p = lab.primary("p", &[]).await;
    for (rate, clients, first) in [(10.0, 4, 1), (500.0, 4, 11)] {
        let mut desk = Desk::from(&lab, first);
        desk.writers.set(WriterPlan { rate: Some(rate), level: "off".to_owned(), ..plan(&p, clients) });
        desk.until("the beginning", |seen| !seen.tried.is_empty()).await;
        // What a pace is late by for longer than a moment is forgotten: the best of three windows shows the pace, not the machine.
        let mut off = Vec::new();
        while off.len() < 3 && off.iter().all(|off| *off >= 0.15) {
            let (began, from) = (Instant::now(), desk.seen.tried.len());
            desk.until("two seconds", |_| began.elapsed() > Duration::from_secs(2)).await;
            let got = (desk.seen.tried.len() - from) as f64 / began.elapsed().as_secs_f64();
            off.push((got / rate - 1.0).abs());
        }
        assert!(off.iter().any(|off| *off < 0.15), "off by {off:?} of {rate} a second");
        desk.close().await;
    }
    rule_of_nobody(&p).await;
    let mut desk = Desk::from(&lab, 21);
    desk.writers.set(plan(&p, 2));
    desk.until("waiting writes", |seen| seen.waiting.len() == 2).await;
    assert_eq!(desk.close().await.count(Ack::Unknown), 2);
}

#[tokio::test]
async fn nothing_is_lost_when_nobody_takes_the_books_for_a_while() {
    let Some(lab) = Lab::new() else { return };
    let p = lab.primary("p", &[]).await;
    let (tell, events) = mpsc::channel(1);
    let writers = Writers::spawn(lab.passwords.writer.clone(), 1, tell).unwrap();
    writers.set(WriterPlan { level: "off".to_owned(), ..plan(&p, 2) });
    let rows = || p.psql("select count(*) from replab.writes").parse::<u64>().unwrap();
    wait_for("rows", async || (rows() > 100).then_some(())).await;
    // Ranges stay few, so the clients go on; what matters is that nothing is lost when the lab wakes up.
    let mut desk = Desk { writers, events, seen: Seen::default() };
    desk.until("books", |seen| seen.settled.len() > 100).await;
    desk.writers.set(WriterPlan { paused: true, ..plan(&p, 2) });
    desk.until("quiet", |seen| seen.tried.len() == seen.settled.len()).await;
    agrees(&p, &desk.close().await).await;
}

#[tokio::test]
async fn the_prompt_brings_rows_tags_notices_and_errors() {
    let Some(lab) = Lab::new() else { return };
    let p = lab.primary("p", &[]).await;
    let text = "select generate_series(1, 500) as n; do $$ begin raise notice 'hello'; end $$; select 1/0; select 2";
    let answer = p.control.run_text(text, Limits { rows: 3, ..Limits::default() }).await.unwrap();
    let Said::Rows { columns, rows, more } = &answer.said[0] else { panic!("{answer:?}") };
    assert_eq!((columns.as_slice(), rows.len(), *more), (["n".to_owned()].as_slice(), 3, 497));
    assert_eq!(answer.said[1], Said::Tag("SELECT 500".to_owned()));
    assert!(matches!(&answer.said[2], Said::Notice(notice) if notice.message == "hello"));
    assert!(matches!(answer.said.last(), Some(Said::Error(error)) if error.code == "22012"));
    let copy = p.control.run_text("copy replab.marker from stdin; select 1", Limits::default()).await.unwrap();
    assert!(matches!(copy.said.last(), Some(Said::Error(error)) if error.code == "57014"), "{copy:?}");
    rule_of_nobody(&p).await;
    let limits = Limits { time: Duration::from_millis(700), ..Limits::default() };
    let blocked = p.control.run_text("insert into replab.marker values ('x')", limits).await.unwrap();
    assert!(blocked.unfinished, "{blocked:?}");
}

#[tokio::test]
async fn a_writer_is_refused_in_words() {
    let Some(lab) = Lab::new() else { return };
    let p = lab.primary("p", &[]).await;
    let wrong = replab::pg::Secret::new("wrong");
    let error = Wire::connect(&p.login(&wrong, &[])).await.unwrap_err();
    assert!(matches!(&error, WireError::Server(said) if said.code == "28P01"), "{error}");
}

//! Models made by hand, one per situation that the screen must show well.

use replab::model::cluster::{
    LogLine, NodeSettings, NodeState, ReceiverRow, Role, Sample, SenderRow, SlotRow, WaitingCommit,
};
use replab::model::command::{Command, Rate};
use replab::model::detector::{AutoFailover, Cause, Probe};
use replab::model::handover::{Handover, Kind, Timeline};
use replab::model::history::{History, Point};
use replab::model::journal::{Entry, Tone, Who};
use replab::model::ledger::{Ack, IdRange, Ledger};
use replab::model::links::{End, Harm, Passed, Slow, Traffic, Which};
use replab::model::msg::{InFlight, OpId, Origin, Topology, WriterPlan, WriterPulse};
use replab::model::script::{Progress, Question, Script, Step, StepKind, StepResult};
use replab::model::verdict::{NodeTally, Verification};
use replab::model::{Logged, Lsn, Model, Node, NodeName, Op, Stage, Stamp};

fn end(text: &str) -> End {
    text.parse().unwrap()
}

pub fn name(text: &str) -> NodeName {
    text.parse().unwrap()
}

pub fn at(seconds: f64) -> Stamp {
    Stamp((seconds * 1e6) as u64)
}

const WAL: u64 = 0x5A1_C3F0;

fn sample(role: Role, wal: u64, names: &str) -> Sample {
    Sample {
        role,
        timeline: 1,
        system_identifier: 7,
        lab_marker: Some("lab".into()),
        wal: Lsn(wal),
        flushed: Some(Lsn(wal)),
        replayed: (role == Role::Standby).then_some(Lsn(wal)),
        replay_paused: false,
        replay_age_us: Some(0),
        start_epoch_us: 0,
        senders: Vec::new(),
        receiver: None,
        slots: Vec::new(),
        waiting: Vec::new(),
        settings: NodeSettings {
            synchronous_standby_names: names.into(),
            synchronous_commit: "on".into(),
            wal_sender_timeout_ms: 5_000,
            wal_receiver_timeout_ms: 5_000,
            wal_receiver_status_interval_ms: 1_000,
            max_slot_wal_keep_bytes: Some(64 << 20),
        },
        limits: None,
        took_us: 900,
    }
}

/// A standby's own connection, as it sees it.
fn receiver() -> ReceiverRow {
    ReceiverRow {
        status: "streaming".into(),
        sender: String::new(),
        slot: None,
        received_tli: Some(1),
        last_msg_age_us: Some(40_000),
    }
}

pub fn sender(name: &str, sync: &str, behind: [u64; 4]) -> SenderRow {
    let lsn = |bytes: u64| Some(Lsn(WAL - bytes));
    SenderRow {
        name: name.into(),
        pid: 71,
        state: "streaming".into(),
        sync_state: sync.into(),
        sent: lsn(behind[0]),
        write: lsn(behind[1]),
        flush: lsn(behind[2]),
        replay: lsn(behind[3]),
        write_lag_us: Some(300),
        flush_lag_us: Some(700),
        replay_lag_us: Some(900),
        reply_age_us: Some(40_000),
    }
}

/// Nodes as a topology has them, nothing known of any.
fn blank(topology: Topology) -> Model {
    Model {
        now: at(4.2),
        lab: "1f2e3d4c".into(),
        runtime: "docker".into(),
        source: "postgres:18".into(),
        primary: topology.primary().cloned(),
        nodes: topology.nodes.iter().map(|n| Node::new(n.name.clone(), n.upstream.clone())).collect(),
        topology,
        heartbeat: true,
        ..Model::default()
    }
}

pub fn starting() -> Model {
    let mut model = blank(Topology::primary_with(2));
    model.phase = "starting p".into();
    model.nodes[0].phase = Some("starting the server".into());
    model.nodes[0].state = NodeState::Running;
    model.nodes[1].phase = Some("copying the template".into());
    model
}

pub fn failed() -> Model {
    let mut model = starting();
    let why = "create p: the image postgres:18 is not on this machine and pulling it got no bytes for 10 s. \
               Try `replab doctor`, or `replab --runtime process`.";
    model.stage = Stage::Failed(why.into());
    model
}

/// A lab that runs: p with standbys, a rule, nobody writes.
pub fn live(standbys: u32, rule: &str) -> Model {
    let mut model = blank(Topology::primary_with(standbys));
    model.stage = Stage::Live;
    model.now = at(192.4);
    model.postgres = "18.6".into();
    model.bring_up_ms = Some(2_900);
    for node in &mut model.nodes {
        let part = if node.upstream.is_none() { Role::Primary } else { Role::Standby };
        node.state = NodeState::Running;
        node.seen = Some(at(192.3));
        let receiver = (part == Role::Standby).then(receiver);
        node.sample = Some(Sample { receiver, ..sample(part, WAL, rule) });
    }
    let on = !rule.is_empty();
    let senders = (1..=standbys).map(|i| {
        let sync = if !on {
            "async"
        } else if i == 1 {
            "sync"
        } else {
            "potential"
        };
        sender(&format!("s{i}"), sync, [0; 4])
    });
    model.nodes[0].sample.as_mut().unwrap().senders = senders.collect();
    model.writer.plan = WriterPlan {
        target: Some(name("p")),
        clients: 4,
        rate: Rate::PerSecond(20),
        level: "on".into(),
        paused: true,
        held: false,
    };
    model.writer.pulse_at = at(192.3);
    model.writer.pulse.interval_us = 250_000;
    tell(&mut model, 2.9, Who::Lab, Tone::Good, "the lab is up: p with s1 and s2, PostgreSQL 18.6, in 2.9 s", &[]);
    model
}

pub fn tell(model: &mut Model, when: f64, who: Who, tone: Tone, text: &str, steps: &[&str]) {
    let steps = steps.iter().map(ToString::to_string).collect();
    model.journal.add(Entry { at: at(when), who, tone, text: text.into(), steps });
}

fn books(model: &mut Model, acked: u64, warned: u64, unknown: u64, pending: u64) {
    let mut seq = 1;
    for (n, ack) in [
        (acked, Some(Ack::Acked)),
        (warned, Some(Ack::AckedWithWarning)),
        (unknown, Some(Ack::Unknown)),
        (pending, None),
    ] {
        if n > 0 {
            let range = IdRange { client: 1, first: seq, last: seq + n - 1 };
            model.ledger.tried(&[range]);
            if let Some(ack) = ack {
                model.ledger.wrote(&[(range, ack)]);
            }
            seq += n;
        }
    }
}

/// A minute of history; commits stop at `stop` seconds before now.
fn history(model: &mut Model, stop: f64) {
    for i in 0..240 {
        let ago = 60.0 - f64::from(i) * 0.25;
        let wave = (f64::from(i) / 9.0).sin();
        let stopped = ago < stop;
        model.history.push(Point {
            at: Stamp(model.now.0 - (ago * 1e6) as u64),
            commits_per_s: if stopped { 0.0 } else { 1_150.0 + 140.0 * wave },
            p50_us: (!stopped).then_some((900.0 + 150.0 * wave) as u64),
            p99_us: (!stopped).then_some((2_100.0 + 900.0 * wave) as u64),
            oldest_us: if stopped { ((stop - ago) * 1e6) as u64 } else { 2_500 },
            behind: Vec::new(),
        });
    }
}

/// Eight clients flat out, FIRST 1, all well.
pub fn loaded() -> Model {
    let mut model = live(2, "FIRST 1 (s1, s2)");
    let senders = vec![sender("s1", "sync", [0, 312, 624, 1_400]), sender("s2", "potential", [0, 700, 4_096, 9_200])];
    model.nodes[0].sample.as_mut().unwrap().senders = senders;
    model.writer.plan = WriterPlan { clients: 8, rate: Rate::Max, paused: false, ..model.writer.plan };
    model.writer.pulse = WriterPulse {
        interval_us: 250_000,
        commits: 301,
        p50_us: Some(910),
        p99_us: Some(2_140),
        max_us: Some(3_900),
        waiting: Vec::new(),
        connected: 8,
        trouble: None,
    };
    books(&mut model, 48_203, 0, 0, 8);
    history(&mut model, 0.0);
    tell(
        &mut model,
        21.0,
        Who::You,
        Tone::Plain,
        "sync first 1 (s1, s2): a commit now waits until s1 has flushed it",
        &["p: ALTER SYSTEM SET synchronous_standby_names = 'FIRST 1 (s1, s2)'", "p: SELECT pg_reload_conf()"],
    );
    tell(&mut model, 31.5, Who::You, Tone::Plain, "clients 8: eight clients write, flat out", &[]);
    model
}

/// The picture of the sketch: s1 frozen under FIRST 1, eight commits wait, the countdown runs.
pub fn frozen() -> Model {
    let mut model = loaded();
    let s1 = &mut model.nodes[1];
    s1.state = NodeState::Frozen;
    s1.sample.as_mut().unwrap().replayed = Some(Lsn(WAL - 8_704));
    s1.state_since = at(188.3);
    s1.seen = Some(at(188.2));
    s1.unreachable = Some((at(188.8), "no answer within 500 ms".into()));
    let p = model.nodes[0].sample.as_mut().unwrap();
    let silent = SenderRow { reply_age_us: Some(4_000_000), ..sender("s1", "sync", [0, 8_704, 8_704, 8_704]) };
    p.senders = vec![silent, sender("s2", "potential", [0; 4])];
    p.waiting = (0..8)
        .map(|i| WaitingCommit {
            pid: 4_100 + i,
            age_us: 4_000_000 - i64::from(i) * 1_300,
            application: format!("replab writer {}", i + 1),
            query: "INSERT INTO replab.writes VALUES ($1, $2)".into(),
        })
        .collect();
    model.writer.pulse = WriterPulse {
        interval_us: 250_000,
        waiting: (1..=8).map(|c| InFlight { client: c, seq: 6_020 + u64::from(c), age_us: 4_000_000 }).collect(),
        connected: 8,
        ..WriterPulse::default()
    };
    model.history = History::default();
    history(&mut model, 4.1);
    tell(
        &mut model,
        188.3,
        Who::You,
        Tone::Plain,
        "freeze s1: its connections stay open, but it is silent",
        &["docker: POST /containers/replab-1f2e3d4c-s1/pause"],
    );
    tell(
        &mut model,
        188.8,
        Who::Lab,
        Tone::Warn,
        "s1 has not answered for 0.5 s; PostgreSQL still calls it streaming",
        &[],
    );
    tell(
        &mut model,
        189.3,
        Who::Lab,
        Tone::Warn,
        "8 commits wait for s1; the primary gives up on it after wal_sender_timeout (5 s)",
        &[],
    );
    model
}

/// p was killed under load.
/// p is dead, and who has what was acknowledged isn't known without s2. The lab's heart doesn't beat.
pub fn waiting_election() -> Model {
    let mut model = killed();
    model.heartbeat = false;
    model.detector.auto = Some(AutoFailover::default());
    let (id, kind) = (OpId(8), Kind::Failover(Cause::Refused));
    let mut handover = Handover::new(id, kind, Some(name("p")), at(190.0), true);
    (handover.detected, handover.waits_for) = (Some(at(190.1)), vec!["s2".to_owned()]);
    model.handovers.push(handover);
    let failover = Op {
        command: Some(Command::Failover { allow_loss: false }),
        origin: Origin::Lab,
        since: at(190.1),
        books: None,
        unsafe_election: None,
        targets: Vec::new(),
        put_off: false,
    };
    model.ops.insert(id, failover);
    model
}

pub fn killed() -> Model {
    let mut model = loaded();
    model.nodes[0].state = NodeState::Exited(Some(137));
    model.nodes[0].state_since = at(190.0);
    model.nodes[0].seen = Some(at(189.9));
    model.nodes[0].unreachable = Some((at(190.1), "connection refused".into()));
    // The standbys know at once, and say themselves what they have.
    for (node, behind) in model.nodes[1..].iter_mut().zip([1_400, 9_000]) {
        let sample = node.sample.as_mut().unwrap();
        (sample.receiver, sample.flushed, sample.replayed) = (None, Some(Lsn(WAL - 600)), Some(Lsn(WAL - behind)));
    }
    model.writer.pulse =
        WriterPulse { interval_us: 250_000, trouble: Some("connection to p refused".into()), ..WriterPulse::default() };
    model.ledger = Ledger::default();
    books(&mut model, 48_203, 0, 8, 0);
    tell(
        &mut model,
        190.0,
        Who::You,
        Tone::Plain,
        "kill p: SIGKILL, as a crash would",
        &["docker: POST /containers/replab-1f2e3d4c-p/kill"],
    );
    tell(
        &mut model,
        190.1,
        Who::Lab,
        Tone::Bad,
        "p is down; 8 writes have no answer: nobody can say yet whether they are there",
        &[],
    );
    model
}

/// s1 was promoted after the cut; 7 acknowledged writes are lost, 5 of them stranded on the old primary.
pub fn promoted() -> Model {
    let mut model = killed();
    model.primary = Some(name("s1"));
    let s1 = model.nodes[1].sample.as_mut().unwrap();
    *s1 = sample(Role::Primary, WAL + 4_000, "");
    s1.timeline = 2;
    s1.senders = vec![SenderRow {
        sent: Some(Lsn(WAL + 4_000)),
        write: Some(Lsn(WAL + 4_000)),
        flush: Some(Lsn(WAL + 4_000)),
        replay: Some(Lsn(WAL + 4_000)),
        ..sender("s2", "async", [0; 4])
    }];
    model.nodes[1].upstream = None;
    let timeline = |id, parent, fork, node| Timeline { id, parent, fork, node: name(node), at: at(0.5), off: None };
    model.timelines = vec![timeline(1, None, None, "p"), timeline(2, Some(1), Some(Lsn(WAL)), "s1")];
    model.nodes[2].upstream = Some(name("s1"));
    let s2 = model.nodes[2].sample.as_mut().unwrap();
    *s2 = sample(Role::Standby, WAL + 4_000, "");
    s2.timeline = 2;
    model.writer.plan.target = Some(name("s1"));
    model.writer.pulse = WriterPulse {
        interval_us: 250_000,
        commits: 5,
        p50_us: Some(800),
        p99_us: Some(1_000),
        connected: 8,
        ..WriterPulse::default()
    };
    let tally = |present, missing| NodeTally { rows: present, present, missing, ..NodeTally::default() };
    model.verification = Some(Verification {
        at: at(192.0),
        primary: Some(name("s1")),
        nodes: [(name("s1"), tally(48_196, 7)), (name("s2"), tally(48_196, 7)), (name("p"), tally(48_203, 0))].into(),
        lost: 7,
        stranded: 5,
        lost_warned: 0,
        unknown_present: 2,
        held: [(name("p"), [(3, [(6_021, 6_025)].into_iter().collect())].into())].into(),
        judged: true,
        ..Verification::default()
    });
    tell(
        &mut model,
        191.2,
        Who::You,
        Tone::Warn,
        "promote s1: it is a primary on timeline 2, and runs without a synchronous rule now",
        &["s1: SELECT pg_promote()"],
    );
    tell(&mut model, 192.0, Who::Lab, Tone::Bad, "7 acknowledged writes are lost: s1 never received them", &[]);
    model
}

/// The engine went away.
pub fn stale() -> Model {
    let mut model = loaded();
    model.engine_down = Some((at(180.0), "connection to /var/run/docker.sock refused".into()));
    for node in &mut model.nodes {
        node.unreachable = Some((at(180.2), "timed out".into()));
        node.seen = Some(at(179.9));
    }
    model
}

/// s1 cut off, s2's replay paused, an add under way.
pub fn busy() -> Model {
    let mut model = live(3, "ANY 1 (s1, s2, s3)");
    model.links.harm(vec![(end("p"), end("s1")), (end("s1"), end("p"))], Harm::Cut);
    let p = model.nodes[0].sample.as_mut().unwrap();
    p.senders[0] = SenderRow { reply_age_us: Some(2_300_000), ..sender("s1", "quorum", [0, 90_000, 90_000, 90_000]) };
    p.senders[1] = sender("s2", "quorum", [0, 0, 0, 45_000]);
    p.senders.pop();
    let s1 = model.nodes[1].sample.as_mut().unwrap();
    s1.replay_age_us = Some(2_300_000);
    s1.receiver = Some(ReceiverRow {
        status: "streaming".into(),
        sender: "127.0.0.1:5432".into(),
        slot: Some("s1".into()),
        received_tli: Some(1),
        last_msg_age_us: Some(2_200_000),
    });
    model.nodes[2].sample.as_mut().unwrap().replay_paused = true;
    model.nodes[2].paused_by_hand = true;
    model.nodes[2].sample.as_mut().unwrap().replayed = Some(Lsn(WAL - 45_000));
    model.nodes[3].upstream = Some(name("s2"));
    model.nodes.push(Node {
        phase: Some("pg_basebackup 40%".into()),
        state: NodeState::Running,
        ..Node::new(name("s4"), Some(name("p")))
    });
    model.ops.insert(
        OpId(9),
        Op {
            command: Some(Command::Add { name: name("s4"), from: None }),
            origin: Origin::You,
            since: at(190.2),
            books: None,
            unsafe_election: None,
            targets: Vec::new(),
            put_off: false,
        },
    );
    model
}

/// s1 slow both ways and throttled one way, s2 cut one way, the clients' link slow; counted.
pub fn links() -> Model {
    let mut model = live(2, "FIRST 1 (s1, s2)");
    let harms = [
        ("p s1", Harm::Slow(Slow::new(80_000, 10_000).unwrap())),
        ("p -> s1", Harm::Throttle(1 << 20)),
        ("p -> s2", Harm::Cut),
        ("client p", Harm::Slow(Slow::new(40_000, 0).unwrap())),
    ];
    for (which, harm) in harms {
        let pairs = which.parse::<Which>().unwrap().pairs(model.names());
        model.links.harm(pairs, harm);
    }
    model.traffic = vec![Traffic {
        from: end("s1"),
        to: end("p"),
        up: Passed { bytes: 48_211, messages: Some(1_204) },
        down: Passed { bytes: 13_048_211, messages: Some(48_311) },
        round_trips: 1_190,
        open: 1,
    }];
    model
}

/// s1 on its own, and a link refused that is a follower's of it no more.
pub fn isolated() -> Model {
    let mut model = live(3, "ANY 1 (s1, s2, s3)");
    model.links.harm(Which::Of(end("s1")).pairs(model.names()), Harm::Cut);
    model.links.harm(vec![(end("s2"), end("p")), (end("p"), end("s2"))], Harm::Refuse);
    model.nodes[0].sample.as_mut().unwrap().senders.retain(|s| s.name != "s2");
    model
}

/// s1 is away for long: its slot is beyond the limit; s2's is lost, and the disk is nearly full.
pub fn slots() -> Model {
    let mut model = loaded();
    model.nodes[1].state = NodeState::Exited(Some(0));
    model.nodes[2].state = NodeState::Exited(Some(137));
    let slot = |name: &str, status: &str, kept: i64, safe: i64| SlotRow {
        name: name.into(),
        active: false,
        restart: Some(Lsn(WAL)),
        wal_status: Some(status.into()),
        kept_bytes: Some(kept << 20),
        safe_bytes: Some(safe << 20),
        invalidated: None,
        pid: None,
        logical: false,
    };
    let p = model.nodes[0].sample.as_mut().unwrap();
    p.senders.clear();
    p.slots = vec![slot("s1", "unreserved", 70, -6), slot("s2", "lost", 150, -86), slot("s3", "reserved", 20, 44)];
    model.disk_free = Some(700 << 20);
    model.disk_floor = 1 << 30;
    model.disk_low = true;
    model
}

/// Sixteen nodes: as many as the screen promises.
pub fn many() -> Model {
    let mut model = live(15, "FIRST 2 (s1, s2, s3)");
    for (node, upstream) in [(9, "s1"), (10, "s1"), (11, "s2"), (12, "s9")] {
        model.nodes[node].upstream = Some(name(upstream));
    }
    history(&mut model, 0.0);
    model
}

/// The frozen picture inside a lesson.
pub fn lesson() -> Model {
    let mut model = frozen();
    let say = |text: &str| StepKind::Say(text.into());
    let expect = StepKind::Expect { condition: "waiting > 0".parse().unwrap(), within_ms: 3_000, during_ms: 0 };
    let step = |name: &str, kind| Step::new(name, kind);
    model.script = Some(Script {
        name: "10-freeze-is-not-crash".into(),
        title: "Freeze is not crash".into(),
        summary: "s1 frozen: commits wait until the primary gives up on it".into(),
        steps: vec![
            step("say", say("First.")),
            step("freeze s1", StepKind::Do(vec![Command::Freeze(name("s1"))])),
            step("commits wait", expect),
            step(
                "say",
                say(
                    "## Nothing returns\n\ns1 is **frozen**, not dead: its socket is open, so `p` still counts it as *connected*, \
                     and under `FIRST 1 (s1, s2)` only s1 will do.\n\n- The rows are on disk on p already.\n- Nobody sees them yet.\n\n\
                     **Question:** how long will the writers wait? Look at the countdown.",
                ),
            ),
            step("wait", StepKind::Wait { condition: "waiting = 0".parse().unwrap(), within_ms: 8_000 }),
            step("say", say("Last.")),
        ],
        by_hand: true,
        at: 3,
        progress: Progress::Reading(at(190.0)),
        results: vec![
            StepResult { ok: true, ms: 0, detail: String::new(), after: 0 },
            StepResult { ok: true, ms: 80, detail: String::new(), after: 0 },
            StepResult { ok: true, ms: 310, detail: "waiting was 8 after 0.3 s".into(), after: 0 },
        ],
        ..Script::default()
    });
    model
}

/// The lesson while it waits by itself.
pub fn lesson_waits() -> Model {
    let mut model = lesson();
    let script = model.script.as_mut().unwrap();
    script.at = 4;
    script.progress = Progress::Watching { since: at(191.0), held: None };
    script.results.push(StepResult { ok: true, ms: 900, detail: String::new(), after: 0 });
    model
}

/// The lesson asks, with a hint taken.
pub fn lesson_asks() -> Model {
    let mut model = lesson();
    let script = model.script.as_mut().unwrap();
    let question = Question {
        text: "## What will the commits do?\n\ns1 is **frozen**, s2 is well.".into(),
        choices: vec!["They go on with s2".into(), "They wait until p gives up on s1".into()],
        answer: 1,
        why: "# Connected, but silent\n\np hears nothing, and nothing tells it otherwise.".into(),
    };
    script.steps[3] = Step {
        chapter: Some("A freeze".into()),
        hints: vec!["What does p know of s1?".into(), "Look at the countdown.".into()],
        ..Step::new("ask", StepKind::Ask(question))
    };
    script.steps[5] = Step::new("answer", StepKind::Reveal(3));
    script.progress = Progress::Asking(at(190.0));
    script.hints = 1;
    model
}

/// And tells: the answer was wrong.
pub fn lesson_tells() -> Model {
    let mut model = lesson_asks();
    let script = model.script.as_mut().unwrap();
    script.answers.insert(3, 0);
    let passed = StepResult { ok: true, ms: 900, detail: "nobody waits after 0.9 s".into(), after: 0 };
    script.results.extend([passed.clone(), passed]);
    (script.at, script.hints, script.progress) = (5, 0, Progress::Reading(at(192.0)));
    model
}

/// The lesson goes on by itself, at twice the usual pace.
pub fn lesson_auto() -> Model {
    let mut model = lesson();
    let now = model.now;
    let script = model.script.as_mut().unwrap();
    (script.auto, script.speed, script.progress) = (Some(at(10.0)), 2, Progress::Reading(now));
    model
}

/// And is over.
pub fn lesson_over() -> Model {
    let mut model = lesson_tells();
    let script = model.script.as_mut().unwrap();
    let told = StepResult { ok: true, ms: 9_000, detail: "answered wrongly".into(), after: 0 };
    script.results.push(told);
    script.at = script.steps.len();
    model
}

/// It stopped: what it waited for did not come.
pub fn lesson_stopped() -> Model {
    let mut model = lesson_waits();
    let script = model.script.as_mut().unwrap();
    script.steps[4].name = "nobody waits any more".into();
    let detail = "waiting = 0: it is 8 (after 8004 ms)".into();
    script.results.push(StepResult { ok: false, ms: 8_004, detail, after: 0 });
    script.at = script.steps.len();
    model
}

pub fn with_logs(mut model: Model) -> Model {
    let line = |s: f64, severity: &str, text: &str| Logged {
        at: at(s),
        line: LogLine { severity: severity.into(), text: text.into() },
    };
    model.nodes[0].logs = [
        line(1.0, "LOG", "database system is ready to accept connections"),
        line(21.1, "LOG", "parameter \"synchronous_standby_names\" changed to \"FIRST 1 (s1, s2)\""),
        line(193.3, "LOG", "terminating walsender process due to replication timeout"),
        line(193.4, "ERROR", "cannot execute INSERT in a read-only transaction, a long line that has to be wrapped because it doesn't fit into the window at eighty columns"),
        line(193.5, "STATEMENT", "INSERT INTO replab.writes VALUES (1, 2)"),
    ]
    .into();
    model
}

/// Two primaries, and the writer on one of them.
pub fn split_brain() -> Model {
    let mut model = promoted();
    if let Some(p) = model.nodes.iter_mut().find(|n| n.name == name("p")) {
        p.state = NodeState::Running;
        p.unreachable = None;
        p.seen = Some(model.now);
    }
    model.system_identifier = model.nodes.iter().find_map(|n| n.sample.as_ref()).map(|s| s.system_identifier);
    model
}

/// Two standbys were promoted off one timeline; s1, which the clients left, is fenced.
pub fn two_of_one_number() -> Model {
    let mut model = promoted();
    model.primary = Some(name("s2"));
    let at = model.timelines[1].at;
    model.timelines[1].off = Some(0);
    model.timelines.push(Timeline { id: 2, parent: Some(1), fork: Some(Lsn(WAL)), node: name("s2"), at, off: Some(0) });
    let s2 = sample(Role::Primary, WAL + 4_000, "");
    model.nodes[2].sample = Some(Sample { timeline: 2, ..s2 });
    model.nodes[2].upstream = None;
    model.nodes[1].state = NodeState::Exited(Some(137));
    for (node, history) in model.nodes.iter_mut().zip([0, 1, 2]) {
        node.history = Some(history);
    }
    model
}

/// The clients stay on the old primary, whose rule nobody can satisfy across the cut; another one was promoted over there.
pub fn left_on_the_old_primary() -> Model {
    let mut model = frozen();
    let p = model.nodes[0].sample.as_mut().unwrap();
    "ANY 1 (s1, s2)".clone_into(&mut p.settings.synchronous_standby_names);
    p.senders = ["s1", "s2"]
        .map(|s| SenderRow { reply_age_us: Some(4_000_000), ..sender(s, "quorum", [0, 8_704, 8_704, 8_704]) })
        .to_vec();
    let pairs = "p | s1 s2".parse::<Which>().unwrap().pairs(model.names());
    model.links.harm(pairs, Harm::Cut);
    let s1 = &mut model.nodes[1];
    (s1.state, s1.state_since, s1.unreachable, s1.upstream) = (NodeState::Running, at(1.0), None, None);
    s1.seen = Some(model.now);
    let mut sample = sample(Role::Primary, WAL + 4_000, "");
    sample.timeline = 2;
    model.system_identifier = Some(sample.system_identifier);
    s1.sample = Some(sample);
    model.primary = Some(name("s1"));
    model.writer.plan.target = Some(name("p"));
    model
}

/// s1 is behind s2.
/// The failure detector counts down to a primary that is frozen, or that its standbys have lost.
pub fn counting(cut_off: bool) -> Model {
    let mut model = live(2, "");
    model.detector.auto = Some(AutoFailover::default());
    let mut probe = |when: f64, node: &str, role, wal| {
        model.detector.probed(
            at(when),
            &name(node),
            &Probe::Answered { role, wal: Lsn(wal), streams: true },
            Some(&name("p")),
        );
    };
    let standbys = ["s1", "s2"].map(|node| (node, Role::Standby));
    for (node, role) in [("p", Role::Primary)].into_iter().chain(standbys) {
        probe(190.9, node, role, WAL);
    }
    if cut_off {
        probe(192.4, "p", Role::Primary, WAL + 8_192);
        for (node, role) in standbys {
            probe(192.4, node, role, WAL);
        }
        let pairs = "p | s1 s2".parse::<Which>().unwrap().pairs(model.names());
        model.links.harm(pairs, Harm::Cut);
        for sender in model.nodes[0].sample.iter_mut().flat_map(|s| &mut s.senders) {
            sender.reply_age_us = Some(1_400_000);
        }
    } else {
        model.nodes[0].state = NodeState::Frozen;
        model.nodes[0].unreachable = Some((at(191.1), "no answer".into()));
        model.nodes[0].seen = Some(at(190.9));
    }
    model
}

pub fn laggard() -> Model {
    let mut model = killed();
    if let Some(s1) = model.nodes[1].sample.as_mut() {
        s1.wal = Lsn(s1.wal.0 - 8_704);
    }
    model
}

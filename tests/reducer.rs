//! The reducer, driven by messages alone: what the model says after them, and what it wants done.

use replab::model::cluster::{
    LogLine, Look, NodeSettings, NodeState, Observation, ReceiverRow, Role, Sample, SenderRow, SlotRow, WaitingCommit,
};
use replab::model::detector::{Cause, Probe};
use replab::model::election::Answer;
use replab::model::handover::Kind;
use replab::model::ledger::{Ack, IdRange, Ids};
use replab::model::links::End;
use replab::model::msg::{
    Act, Effect, Happened, Msg, OpId, Opening, Origin, Outcome, Reached, Rejoined, Road, SqlResult, Taken, Topology,
    WriterPlan, WriterPulse,
};
use replab::model::standing::Link;
use replab::model::verdict::{NodeReading, Reading};
use replab::model::{Fault, Lsn, Model, NodeName, Stage, Stamp, update};
use replab::report::Report;

#[path = "reducer/histories.rs"]
mod histories;
#[path = "reducer/names.rs"]
mod names;
#[path = "reducer/pauses.rs"]
mod pauses;

fn name(text: &str) -> NodeName {
    text.parse().unwrap()
}

/// A lab driven by hand: time moves with each message.
struct Lab {
    model: Model,
    at: u64,
}

impl Lab {
    fn open(script: Option<&str>) -> Self {
        let script = script.map(|text| replab::scenario::parse("test", text).unwrap().script);
        let mut lab = Self { model: Model::default(), at: 0 };
        let opening = Opening {
            lab: "lab".into(),
            runtime: "fake".into(),
            source: String::new(),
            topology: Topology::primary_with(2),
            script,
            read_only: false,
            writer: WriterPlan::default(),
            disk_floor: 1 << 30,
        };
        lab.msg(Msg::Open(Box::new(opening)));
        lab
    }

    fn live(script: Option<&str>) -> Self {
        let mut lab = Self::open(script);
        let up = Happened::BroughtUp {
            ms: 500,
            postgres: "18.6".into(),
            system_identifier: 7,
            direct_links: None,
            no_freezer: None,
        };
        for node in ["p", "s1", "s2"] {
            lab.msg(Msg::Observed(Observation::Node(name(node), Look::State(NodeState::Running))));
        }
        lab.done(0, Ok(up));
        lab.see_all("");
        lab
    }

    fn msg(&mut self, msg: Msg) -> Vec<Effect> {
        self.at += 1_000;
        update(&mut self.model, Stamp(self.at), msg)
    }

    fn wait_ms(&mut self, ms: u64) {
        self.at += ms * 1_000;
        self.msg(Msg::Tick);
    }

    fn say(&mut self, text: &str) -> Vec<Effect> {
        let command = text.parse().unwrap();
        self.msg(Msg::Command(command, Origin::You))
    }

    fn done(&mut self, id: u64, result: Result<Happened, String>) -> Vec<Effect> {
        self.msg(Msg::Done(OpId(id), Outcome { result, steps: Vec::new() }))
    }

    fn see(&mut self, node: &str, sample: Sample) {
        self.msg(Msg::Observed(Observation::Node(name(node), Look::Sample(Box::new(sample)))));
    }

    fn see_all(&mut self, rule: &str) {
        self.see("p", primary(rule, &[("s1", "async", 100), ("s2", "async", 100)], 0));
        self.see("s1", standby(100));
        self.see("s2", standby(100));
    }

    fn last_words(&self) -> String {
        self.model.journal.entries().next_back().map(|e| e.text.clone()).unwrap_or_default()
    }

    fn said(&self, part: &str) -> bool {
        self.model.journal.entries().any(|e| e.text.contains(part))
    }
}

fn sample(role: Role, wal: u64) -> Sample {
    Sample {
        role,
        timeline: 1,
        system_identifier: 7,
        lab_marker: Some("lab".into()),
        wal: Lsn(wal),
        flushed: Some(Lsn(wal)),
        replayed: (role == Role::Standby).then_some(Lsn(wal)),
        replay_paused: false,
        replay_age_us: None,
        start_epoch_us: 1,
        senders: Vec::new(),
        receiver: None,
        slots: Vec::new(),
        waiting: Vec::new(),
        settings: NodeSettings {
            synchronous_commit: "on".into(),
            wal_sender_timeout_ms: 60_000,
            wal_receiver_timeout_ms: 60_000,
            wal_receiver_status_interval_ms: 10_000,
            ..NodeSettings::default()
        },
        limits: None,
        took_us: 0,
    }
}

fn standby(wal: u64) -> Sample {
    let receiver = ReceiverRow {
        status: "streaming".into(),
        sender: String::new(),
        slot: None,
        received_tli: Some(1),
        last_msg_age_us: None,
    };
    Sample { receiver: Some(receiver), ..sample(Role::Standby, wal) }
}

/// A primary at 100 with these standbys: name, sync_state, replayed.
fn primary(rule: &str, standbys: &[(&str, &str, u64)], waiting: usize) -> Sample {
    let row = |(name, sync, at): &(&str, &str, u64)| SenderRow {
        name: (*name).to_owned(),
        pid: 1,
        state: "streaming".into(),
        sync_state: (*sync).to_owned(),
        sent: Some(Lsn(100)),
        write: Some(Lsn(*at)),
        flush: Some(Lsn(*at)),
        replay: Some(Lsn(*at)),
        write_lag_us: None,
        flush_lag_us: None,
        replay_lag_us: Some(500_000),
        reply_age_us: Some(1_000),
    };
    let commit =
        |n: usize| WaitingCommit { pid: n as i32, age_us: 600_000, application: "w".into(), query: "INSERT".into() };
    let mut sample = sample(Role::Primary, 100);
    rule.clone_into(&mut sample.settings.synchronous_standby_names);
    sample.senders = standbys.iter().map(row).collect();
    sample.waiting = (0..waiting).map(commit).collect();
    sample
}

#[test]
fn nothing_is_admitted_before_the_lab_is_up() {
    let mut lab = Lab::open(None);
    assert!(lab.say("kill p").is_empty());
    assert!(lab.last_words().contains("still starting"));
    lab.done(0, Err("no room on the disk".into()));
    assert!(matches!(lab.model.stage, Stage::Failed(_)));
}

#[test]
fn idle_is_not_lagging_whatever_replay_lag_says() {
    let lab = Lab::live(None);
    let rung = lab.model.ladder().into_iter().find(|r| r.name.as_str() == "s1").unwrap();
    assert_eq!((rung.behind, rung.lag_us, rung.idle), (Some(0), Some(0), true));
    assert_eq!(rung.link, Link::Connected("streaming".into()));
}

/// Who writes with psql, at the prompt or in a lesson's session isn't in the writer's pulse: the log tells. A single leap is what a
/// checkpoint or autovacuum makes of a heartbeat.
#[test]
fn what_anybody_writes_is_not_idle() {
    let mut lab = Lab::live(None);
    let mut wal = 100;
    let mut after = |bytes: u64| {
        wal += bytes;
        let mut sample = primary("", &[("s1", "async", wal), ("s2", "async", wal)], 0);
        sample.wal = Lsn(wal);
        lab.wait_ms(250);
        lab.see("p", sample);
        assert_eq!(lab.model.writer.pulse.commits, 0);
        let rung = &lab.model.ladder()[0];
        assert_eq!(rung.behind, Some(0));
        rung.idle
    };
    assert_eq!([600, 1_000, 68_952, 600, 500].map(&mut after), [true; 5], "heartbeats, and a checkpoint among them");
    assert_eq!([3_000, 3_000, 50_000, 3_000].map(&mut after), [true, false, false, false]);
    assert_eq!([600, 600].map(&mut after), [true, true]);
}

/// A standby's own standby has what comes down the cascade.
#[test]
fn what_is_written_far_up_is_not_idle_below() {
    let mut lab = Lab::live(None);
    lab.say("follow s2 s1");
    lab.done(1, Ok(Happened::Plain));
    let mut s1 = standby(100);
    s1.senders = primary("", &[("s2", "async", 100)], 0).senders;
    lab.see("s1", s1);
    let idle = |lab: &Lab| lab.model.rung(lab.model.node(&name("s2")).unwrap()).idle;
    assert!(idle(&lab));
    for wal in [20_000, 40_000] {
        let mut sample = primary("", &[("s1", "async", 100)], 0);
        sample.wal = Lsn(wal);
        lab.see("p", sample);
    }
    assert!(!idle(&lab), "s1 stands still, but p doesn't");
}

#[test]
fn a_silent_standby_is_last_known_and_then_disconnected() {
    let mut lab = Lab::live(None);
    lab.wait_ms(2_000);
    let mut sample = primary("", &[("s1", "async", 60), ("s2", "async", 100)], 0);
    sample.senders[0].reply_age_us = Some(900_000);
    lab.see("p", sample);
    let link = |lab: &Lab| lab.model.ladder()[0].link.clone();
    assert!(matches!(link(&lab), Link::LastKnown { ms, .. } if ms >= 900));
    assert!(lab.said("s1 has not answered p for 0.9 s; PostgreSQL still calls it \"streaming\""));
    assert_eq!(lab.model.ladder()[0].lag_us, None, "a lag that isn't known is not shown");
    lab.see("p", primary("", &[("s2", "async", 100)], 0));
    assert_eq!(link(&lab), Link::Disconnected);
}

/// The heartbeat is written on the primary alone: behind a cut, and on a primary that was left behind, no standby has
/// anything to reply to, and that isn't silence.
#[test]
fn quiet_where_no_heartbeat_comes_is_not_silent() {
    let mut lab = Lab::live(None);
    lab.say("follow s2 s1");
    lab.done(1, Ok(Happened::Plain));
    lab.say("cut p s1");
    lab.done(2, Ok(Happened::Plain));
    lab.wait_ms(2_000);
    let quiet = |mut sample: Sample| {
        sample.senders[0].reply_age_us = Some(2_000_000);
        sample
    };
    lab.see("p", quiet(primary("", &[("s1", "async", 60)], 0)));
    let mut s1 = standby(100);
    s1.senders = quiet(primary("", &[("s2", "async", 100)], 0)).senders;
    lab.see("s1", s1);
    let links = |lab: &Lab| lab.model.ladder().into_iter().map(|r| r.link).collect::<Vec<_>>();
    assert!(matches!(links(&lab)[0], Link::LastKnown { .. }));
    assert_eq!(links(&lab)[1], Link::Connected("streaming".into()));

    let mut lab = Lab::live(None);
    lab.say("promote s2");
    lab.done(1, Ok(Happened::Promoted { timeline: 2, fork: None, names: String::new() }));
    lab.wait_ms(5_000);
    lab.see("p", quiet(primary("", &[("s1", "async", 100)], 0)));
    assert_eq!(links(&lab), [Link::Connected("streaming".into())]);
    assert!(!lab.said("has not answered"));
}

#[test]
fn a_port_that_another_program_took_is_told() {
    let mut lab = Lab::live(None);
    lab.msg(Msg::Observed(Observation::Node(name("s1"), Look::Moved { from: 15_001, to: 15_002 })));
    assert!(lab.said("another program has port 15001 of this machine: s1 listens on 15002 from now on"));
}

#[test]
fn what_is_known_of_a_dead_primary_stays_and_ages() {
    let mut lab = Lab::live(None);
    lab.say("kill p");
    lab.done(1, Ok(Happened::Plain));
    lab.wait_ms(3_000);
    assert!(matches!(lab.model.ladder()[0].link, Link::LastKnown { ms, .. } if ms >= 3_000));
    assert!(lab.model.rule_in_words().contains("p is down"));
    assert!(!lab.said("has not answered"), "the standbys are well");
    // s1 was connected and knows that it isn't any more; s2 still takes itself to be.
    lab.see("s1", sample(Role::Standby, 100));
    lab.see("s2", standby(100));
    let links: Vec<Link> = lab.model.ladder().into_iter().map(|rung| rung.link).collect();
    assert!(matches!(links[..], [Link::Disconnected, Link::LastKnown { .. }]), "{links:?}");
    assert!(!lab.said("not connected to p any more"), "that p is dead is said");
}

/// A throttle holds up what a standby is to confirm: that it still owes it says nothing.
#[test]
fn throttled_is_not_silent() {
    let mut lab = Lab::live(None);
    lab.wait_ms(2_000);
    let mut owes = primary("", &[("s1", "async", 60), ("s2", "async", 100)], 0);
    owes.senders[0].reply_age_us = Some(2_000_000);
    for (command, silent) in [("throttle p s1 50kB/s", false), ("heal p s1", true)] {
        lab.say(command);
        lab.done(lab.model.next_op - 1, Ok(Happened::Plain));
        lab.see("p", owes.clone());
        assert_eq!(matches!(lab.model.ladder()[0].link, Link::LastKnown { .. }), silent, "{command}");
    }
}

#[test]
fn a_rule_that_nobody_is_left_for_is_said_to_be_gone() {
    for (rule, names, told) in [
        ("FIRST 1 (s2)", "", "the rule FIRST 1 (s2) lists no other standby and is gone: commits wait for no standby"),
        ("", "", "there is no synchronous rule"),
        ("ANY 1 (s1, s2)", "ANY 1 (s1)", "the rule came along: ANY 1 (s1)"),
    ] {
        let mut lab = Lab::live(None);
        lab.see("p", primary(rule, &[("s1", "async", 100), ("s2", "sync", 100)], 0));
        lab.say("switchover s2");
        let id = lab.model.next_op - 1;
        lab.msg(Msg::Reached(OpId(id), Reached::Open(name("s2"))));
        let taken = Taken { timeline: 2, fork: None, names: names.into(), missed: vec![], followed: vec![] };
        lab.done(id, Ok(Happened::HandedOver(taken)));
        assert!(lab.said(told), "{rule}: {}", lab.last_words());
    }
}

/// A single value is what was asked for; "SELECT 1" would look like the answer to another question.
#[test]
fn an_answer_of_one_value_is_told() {
    let mut lab = Lab::live(None);
    for (rows, told) in
        [(vec![vec![Some("42".to_owned())]], "s2: 42"), (vec![vec![None]], "s2: NULL"), (vec![], "s2: SELECT n")]
    {
        lab.say("sql s2 SELECT 41 + 1");
        let result = SqlResult { columns: vec!["n".into()], rows, tag: "SELECT n".into(), ..SqlResult::default() };
        lab.done(lab.model.next_op - 1, Ok(Happened::Sql(result)));
        assert_eq!(lab.last_words(), told);
    }
}

#[test]
fn waiting_commits_are_told_with_whom_they_wait_for() {
    let mut lab = Lab::live(None);
    let rule = "FIRST 1 (s1)";
    lab.say("sync first 1 (s1)");
    lab.done(1, Ok(Happened::Rule { names: rule.into() }));
    lab.msg(Msg::Observed(Observation::Node(name("s1"), Look::State(NodeState::Frozen))));
    lab.see("p", primary(rule, &[("s1", "sync", 60), ("s2", "async", 100)], 8));
    assert_eq!(lab.model.waiting().len(), 8);
    assert!(lab.said("8 commits wait for a synchronous standby (s1)"));
    assert!(lab.model.gives_up_in().is_some_and(|c| c.on.as_str() == "s1" && c.left_ms() > Some(50_000)));
    assert!(lab.model.rule_in_words().contains("s1 is silent"));
    lab.see("p", primary(rule, &[("s1", "sync", 100), ("s2", "async", 100)], 0));
    assert!(lab.said("no commit waits any more"));
}

#[test]
fn a_rule_that_names_a_stranger_is_called_out() {
    let mut lab = Lab::live(None);
    let effects = lab.say("sync first 1 (standby1)");
    assert!(lab.said("no standby is called standby1"));
    assert!(
        matches!(effects[..], [Effect::Run(_, Act::ApplyRule { .. })]),
        "PostgreSQL accepts it, and so does the lab"
    );
}

#[test]
fn the_writer_follows_a_promotion_and_the_rule_does_not() {
    let mut lab = Lab::live(None);
    lab.say("kill p");
    lab.done(1, Ok(Happened::Plain));
    lab.say("promote s1");
    let effects = lab.done(2, Ok(Happened::Promoted { timeline: 2, fork: Some(Lsn(100)), names: String::new() }));
    assert!(effects.iter().any(|e| matches!(e, Effect::Writer(plan) if plan.target == Some(name("s1")))));
    assert!(lab.last_words().contains("without a synchronous rule"));
    assert_eq!(lab.model.primary, Some(name("s1")));
    assert!(lab.say("promote s1").is_empty() && lab.last_words().contains("is a primary already"));
}

#[test]
fn commits_left_behind_by_a_promotion_are_not_said_to_return() {
    let mut lab = Lab::live(None);
    lab.see("p", primary("FIRST 1 (s1)", &[("s1", "sync", 60), ("s2", "async", 100)], 4));
    assert!(lab.said("4 commits wait for a synchronous standby"));
    lab.say("promote s2");
    lab.done(1, Ok(Happened::Promoted { timeline: 2, fork: None, names: String::new() }));
    lab.see("s2", primary("", &[], 0));
    assert!(lab.said("4 commits still wait on p; the writer moved on"));
    assert!(!lab.said("no commit waits any more"));
}

#[test]
fn a_standby_that_is_ahead_of_its_new_upstream_is_called_out_once() {
    let mut lab = Lab::live(None);
    lab.say("promote s2");
    lab.done(1, Ok(Happened::Promoted { timeline: 2, fork: None, names: String::new() }));
    lab.say("follow s1 s2");
    lab.done(2, Ok(Happened::Plain));
    let text = "new timeline 2 forked off current database system timeline 1 before current recovery point 0/D58450";
    for _ in 0..3 {
        let line = LogLine { severity: "LOG".into(), text: text.into() };
        lab.msg(Msg::Observed(Observation::Node(name("s1"), Look::Log(vec![line]))));
    }
    let told = lab.model.journal.entries().filter(|e| e.text.starts_with("s1 can't follow s2"));
    assert_eq!(told.count(), 1);
    // What its upstream says of it, again and again, is no following, and places in two histories can't be compared.
    lab.see("s2", primary("", &[("s1", "async", 60)], 0));
    let rung = lab.model.ladder().into_iter().find(|rung| rung.name.as_str() == "s1").unwrap();
    assert_eq!((rung.link, rung.behind, rung.lag_us), (Link::Forked, None, None));
    lab.say("follow s1 s2");
    assert!(!lab.said("s1 streams from s2"));
}

/// It told the guests who knocked meanwhile something else, and no server process was killed.
#[test]
fn a_failed_start_says_what_the_server_said_of_itself() {
    let mut lab = Lab::live(None);
    let state = |state| Msg::Observed(Observation::Node(name("s2"), Look::State(state)));
    lab.say("stop s2");
    lab.msg(state(NodeState::Exited(Some(0))));
    lab.done(1, Ok(Happened::Plain));
    lab.say("start s2");
    lab.msg(state(NodeState::Running));
    let lines = [
        ("FATAL", "requested timeline 2 does not contain minimum recovery point 0/C837F0 on timeline 1"),
        ("LOG", "startup process (PID 11354) exited with exit code 1"),
        ("LOG", "terminating any other active server processes"),
        ("FATAL", "the database system is in recovery mode"),
    ];
    let lines = lines.map(|(severity, text)| LogLine { severity: severity.into(), text: text.into() });
    lab.msg(Msg::Observed(Observation::Node(name("s2"), Look::Log(lines.into()))));
    lab.msg(state(NodeState::Exited(Some(1))));
    lab.done(2, Err("s2 ended while it started".into()));
    assert!(
        lab.said("start s2 failed: s2 ended while it started (s2: requested timeline 2 does not"),
        "{}",
        lab.last_words()
    );
    assert!(lab.said("`rejoin s2` mends it") && !lab.said("was killed"));
    let killed = "server process (PID 7) was terminated by signal 9: Killed";
    let line = LogLine { severity: "LOG".into(), text: killed.into() };
    lab.msg(Msg::Observed(Observation::Node(name("p"), Look::Log(vec![line]))));
    assert!(lab.said("a server process of p was killed"));
    let crash = lab.model.fault_log.last().unwrap();
    assert_eq!((crash.kind.as_str(), crash.to), ("crash", Some(crash.from)));
}

/// Only the server's log says why writes fail: the journal repeats it, once until there is room again.
#[test]
fn a_full_disk_is_told_as_the_reason_why_writes_fail() {
    let mut lab = Lab::live(None);
    let full = "could not extend file \"base/16384/16389\": No space left on device";
    let fills = |lab: &mut Lab| {
        let line = LogLine { severity: "ERROR".into(), text: full.into() };
        lab.msg(Msg::Observed(Observation::Node(name("p"), Look::Log(vec![line]))));
        let told = |entry: &&replab::model::journal::Entry| entry.text.contains("the disk of p's data is full");
        lab.model.journal.entries().filter(told).count()
    };
    assert_eq!((fills(&mut lab), fills(&mut lab)), (1, 1));
    assert!(lab.said("that is why writes fail there"), "{}", lab.last_words());
    lab.msg(Msg::Observed(Observation::Disk(Some(2 << 30))));
    assert_eq!(fills(&mut lab), 2);
}

#[test]
fn nothing_cancelled_is_no_warning() {
    let mut lab = Lab::live(None);
    lab.say("cancel");
    lab.done(1, Ok(Happened::Sessions(0)));
    assert_eq!(lab.last_words(), "cancel: no commit waited for a standby, so nothing was done");
}

#[test]
fn heal_says_what_it_leaves_and_a_refused_cure_takes_no_other_along() {
    let mut lab = Lab::live(None);
    lab.say("kill p");
    lab.done(1, Ok(Happened::Plain));
    lab.say("promote s1");
    lab.done(2, Ok(Happened::Promoted { timeline: 2, fork: None, names: String::new() }));
    assert!(lab.say("heal").is_empty());
    assert!(lab.last_words().contains("p stays down: it was a primary"), "{}", lab.last_words());

    let mut lab = Lab::live(None);
    lab.say("cut p s1");
    lab.done(1, Ok(Happened::Plain));
    lab.say("freeze s2");
    lab.done(2, Ok(Happened::Plain));
    lab.msg(Msg::Observed(Observation::Engine(Some("no answer".into()))));
    let effects = lab.say("heal");
    assert!(matches!(effects[..], [Effect::Run(_, Act::Links(_))]), "{effects:?}");
    assert!(lab.last_words().contains("thaw s2: the engine doesn't answer"), "{}", lab.last_words());
}

#[test]
fn the_writer_leaves_a_node_that_is_taken_away() {
    let mut lab = Lab::live(None);
    lab.say("target s2");
    lab.say("remove s2");
    let effects = lab.done(1, Ok(Happened::Plain));
    assert!(matches!(&effects[..], [Effect::Writer(plan)] if plan.target == Some(name("p"))), "{effects:?}");
}

#[test]
fn reset_takes_the_writers_orders_back_too() {
    let mut lab = Lab::live(None);
    let first = lab.model.writer.plan.clone();
    for text in ["commit remote_apply", "clients 1", "pause", "target s1", "heartbeat off"] {
        lab.say(text);
    }
    lab.say("reset");
    let up = Happened::BroughtUp {
        ms: 500,
        postgres: "18.6".into(),
        system_identifier: 7,
        direct_links: None,
        no_freezer: None,
    };
    lab.done(1, Ok(up));
    assert_eq!((&lab.model.writer.plan, lab.model.heartbeat), (&first, true));
}

/// Writes acked under a rule are promised only between two looks that found it in force.
#[test]
fn a_promise_needs_the_rule_before_and_after() {
    let rule = "FIRST 1 (s1)";
    let run = |change_between: bool| {
        let mut lab = Lab::live(None);
        lab.say("sync first 1 (s1)");
        lab.done(1, Ok(Happened::Rule { names: rule.into() }));
        lab.see("p", primary(rule, &[("s1", "sync", 100), ("s2", "async", 100)], 0));
        let range = IdRange { client: 1, first: 1, last: 10 };
        lab.msg(Msg::Tried(vec![range]));
        lab.msg(Msg::Wrote(vec![(range, Ack::Acked)]));
        let after = if change_between { "" } else { rule };
        lab.see("p", primary(after, &[("s1", "sync", 100), ("s2", "async", 100)], 0));
        replab::model::ledger::count(&lab.model.ledger.promised)
    };
    assert_eq!((run(false), run(true)), (10, 0));
}

#[test]
fn a_promised_loss_breaks_the_verdict() {
    let rule = "FIRST 2 (s1, s2)";
    let mut lab = Lab::live(None);
    lab.say("sync first 2 (s1, s2)");
    lab.done(1, Ok(Happened::Rule { names: rule.into() }));
    let both = [("s1", "sync", 100), ("s2", "sync", 100)];
    lab.see("p", primary(rule, &both, 0));
    let range = IdRange { client: 1, first: 1, last: 10 };
    lab.msg(Msg::Tried(vec![range]));
    lab.msg(Msg::Wrote(vec![(range, Ack::Acked)]));
    lab.see("p", primary(rule, &both, 0));
    lab.say("kill p");
    lab.done(2, Ok(Happened::Plain));
    lab.say("promote s1");
    lab.done(3, Ok(Happened::Promoted { timeline: 2, fork: None, names: String::new() }));
    lab.say("verify");
    let rows = |last| {
        let present = [(1, [(1, last)].into_iter().collect())].into();
        NodeReading::Rows { present, system_identifier: 7, marker: Some("lab".into()) }
    };
    let nodes = [(name("s1"), rows(8)), (name("s2"), rows(9)), (name("p"), NodeReading::Unreadable("down".into()))];
    lab.done(4, Ok(Happened::Verified(Reading { nodes: nodes.into() })));
    let v = lab.model.verification.clone().unwrap();
    assert_eq!((v.lost, v.stranded, v.verdict.word()), (2, 1, "broken"));
}

#[test]
fn an_engine_that_is_gone_greys_what_needs_it() {
    let mut lab = Lab::live(None);
    lab.msg(Msg::Observed(Observation::Engine(Some("no answer".into()))));
    assert!(lab.say("kill p").is_empty());
    assert!(lab.last_words().contains("engine doesn't answer"));
    lab.msg(Msg::Observed(Observation::Engine(None)));
    let gone = lab.model.fault_log.last().unwrap();
    assert_eq!((gone.kind.as_str(), gone.to.is_some()), ("engine-lost", true));
    assert!(!lab.say("kill p").is_empty());
}

#[test]
fn heal_undoes_every_fault_by_its_own_verb() {
    let mut lab = Lab::live(None);
    lab.say("cut p s1");
    lab.done(1, Ok(Happened::Plain));
    lab.say("freeze s2");
    lab.done(2, Ok(Happened::Plain));
    let acts: Vec<String> = lab.say("heal").iter().map(|e| format!("{e:?}")).collect();
    assert!(acts.iter().any(|a| a.contains("Links")) && acts.iter().any(|a| a.contains("Thaw")), "{acts:?}");
    assert!(lab.say("heal p s2").is_empty(), "a link that isn't cut can't be healed");
}

/// The faults that the last of these effects carries.
fn told(effects: &[Effect]) -> String {
    match effects {
        [.., Effect::Run(_, Act::Links(links))] => {
            links.faults().iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        }
        other => format!("{other:?}"),
    }
}

#[test]
fn faults_of_links_add_up_before_the_first_is_done() {
    let mut lab = Lab::live(None);
    lab.say("cut p -> s1");
    assert_eq!(told(&lab.say("slow p s1 80ms")), "p→s1 cut, p–s1 slow 80ms");
    assert_eq!(told(&lab.say("slow p s1 20ms ±5ms")), "p→s1 cut, p–s1 slow 20ms ±5ms");
    assert_eq!(told(&lab.say("refuse s1 -> p")), "p→s1 cut, p–s1 slow 20ms ±5ms, s1→p refused");
    assert_eq!(told(&lab.say("heal p -> s1")), "s1→p refused, s1→p slow 20ms ±5ms");
    assert_eq!(told(&lab.say("throttle client p 1MB/s")), "client–p 1MB/s, s1→p refused, s1→p slow 20ms ±5ms");
    assert_eq!(told(&lab.say("heal s1")), "client–p 1MB/s");
    assert_eq!(told(&lab.say("cut p | s1 s2")), "client–p 1MB/s, p–s1 cut, p–s2 cut");
    lab.say("remove s2");
    lab.done(9, Ok(Happened::Plain));
    assert_eq!(lab.model.faults().len(), 2, "{:?}", lab.model.faults());
    lab.say("reset");
    let up = Happened::BroughtUp {
        ms: 5,
        postgres: "18.6".into(),
        system_identifier: 7,
        direct_links: None,
        no_freezer: None,
    };
    lab.done(10, Ok(up));
    assert!(lab.model.links.is_healthy());
}

#[test]
fn an_isolated_node_is_one_fault() {
    let mut lab = Lab::live(None);
    lab.say("isolate s1");
    assert!(matches!(lab.model.faults()[..], [Fault::Isolated(_)]), "{:?}", lab.model.faults());
    lab.say("slow p s1 80ms");
    assert_eq!(lab.model.faults().len(), 2);
    lab.say("heal client s1");
    assert!(!lab.model.faults().iter().any(|f| matches!(f, Fault::Isolated(_))));
}

/// The lab knows its own delays: a reply that is late for them is not missing.
#[test]
fn slow_is_not_silent() {
    for (command, silent) in [("slow p s1 500ms", false), ("slow p s1 100ms", true)] {
        let mut lab = Lab::live(None);
        lab.say(command);
        lab.wait_ms(2_000);
        let mut sample = primary("", &[("s1", "async", 60), ("s2", "async", 100)], 0);
        sample.senders[0].reply_age_us = Some(1_100_000);
        lab.see("p", sample);
        assert_eq!(matches!(lab.model.ladder()[0].link, Link::LastKnown { .. }), silent, "{command}");
    }
}

#[test]
fn nodes_that_cant_be_frozen_say_why_before_it_is_tried() {
    let mut lab = Lab::open(None);
    let why = "this engine can't freeze containers: no control group";
    let up = Happened::BroughtUp {
        ms: 500,
        postgres: "18.6".into(),
        system_identifier: 7,
        direct_links: None,
        no_freezer: Some(why.into()),
    };
    for node in ["p", "s1", "s2"] {
        lab.msg(Msg::Observed(Observation::Node(name(node), Look::State(NodeState::Running))));
    }
    lab.done(0, Ok(up));
    assert!(lab.model.journal.entries().any(|e| e.text == format!("nodes can't be frozen here: {why}")));
    lab.see_all("");
    assert!(lab.say("freeze s1").is_empty());
    assert!(lab.last_words().contains(why), "{}", lab.last_words());
    assert!(!lab.say("kill s1").is_empty(), "everything else goes on");
}

#[test]
fn direct_links_have_no_faults_and_say_why() {
    let mut lab = Lab::live(None);
    lab.model.direct_links = Some("a firewall".into());
    for text in ["cut p s1", "isolate s1", "slow p s2 80ms"] {
        assert!(lab.say(text).is_empty());
        assert!(lab.last_words().contains("they are direct: a firewall"), "{}", lab.last_words());
    }
    assert!(!lab.say("cut client p").is_empty(), "clients are on this side");
}

#[test]
fn what_cannot_be_done_is_refused_with_the_reason() {
    let mut lab = Lab::live(None);
    for (text, why) in [
        ("kill s9", "there is no node s9; there are p, s1, s2"),
        ("thaw s1", "s1 is not frozen"),
        ("start s1", "s1 runs already"),
        ("promote p", "p is a primary already"),
        ("follow p s1", "p is a primary"),
        ("follow s1 s1", "can't follow itself"),
        ("remove p", "p is the primary"),
        ("add s1", "there is a node s1 already"),
        ("cut p s9", "there is no node s9"),
        ("isolate s9", "there is no node s9"),
        ("cut p p", "p has no link to itself"),
        ("cut p s1 | p", "p has no link to itself"),
        ("refuse p -> s1", "`refuse s1 -> p`"),
        ("refuse p -> client", "`refuse client -> p`"),
        ("heal s1", "nothing is wrong with any link of s1"),
        ("heal client p", "nothing is wrong with the link between client and p"),
        ("replay resume s1", "not paused"),
        ("heartbeat on", "on already"),
    ] {
        assert!(lab.say(text).is_empty(), "{text} was let through");
        assert!(lab.last_words().contains(why), "{text}: {}", lab.last_words());
    }
}

/// Faults belong to pairs: whether one follows the other now doesn't matter.
#[test]
fn a_fault_may_come_before_its_link() {
    for (text, fault) in [
        ("cut s1 s2", "cut"),
        ("cut s1 -> s2", "cut"),
        ("cut s1 | s2", "cut"),
        ("refuse s1 s2", "refused"),
        ("refuse s2 -> s1", "refused"),
        ("slow s1 s2 80ms", "slowed by 80ms"),
        ("throttle s2 -> s1 1MB/s", "limited to 1MB/s"),
    ] {
        let mut lab = Lab::live(None);
        let effects = lab.say(text);
        let [Effect::Run(id, Act::Links(links))] = effects.as_slice() else { panic!("{text}: {effects:?}") };
        let (s1, s2) = (End::Node(name("s1")), End::Node(name("s2")));
        assert!(links.touches(&s1, &s2), "{text}");
        assert!(lab.say(text).is_empty(), "it is so already");
        lab.done(id.0, Ok(Happened::Plain));
        let words = lab.last_words();
        assert!(words.contains("nothing goes over") && words.contains(&format!("it is {fault}")), "{text}: {words}");
        assert_eq!(lab.model.faults().len(), 1, "{text}");
        lab.say("heal s1 s2");
        assert!(lab.model.faults().is_empty(), "{text}");
    }
}

const LESSON: &str = "title = \"T\"\nsummary = \"S\"\n\
    [[step]]\nsay = \"Hello\"\n[[step]]\ndo = \"freeze s1\"\n[[step]]\nwait = \"acked >= 1\"\nwithin = \"1s\"\n\
    [[step]]\nexpect = \"state(s1) = frozen\"\n[[step]]\ndo = \"thaw s2\"\nrefused = \"not frozen\"\n";

fn play(until_acked: bool) -> Model {
    let mut lab = Lab::live(Some(LESSON));
    lab.done(1, Ok(Happened::Plain));
    if until_acked {
        let range = IdRange { client: 1, first: 1, last: 1 };
        lab.msg(Msg::Tried(vec![range]));
        lab.msg(Msg::Wrote(vec![(range, Ack::Acked)]));
        lab.msg(Msg::Pulse(WriterPulse::default()));
    }
    for _ in 0..30 {
        lab.wait_ms(100);
        lab.see_all("");
    }
    lab.model
}

#[test]
fn a_lesson_goes_through_its_steps() {
    let script = play(true).script.unwrap();
    let results: Vec<bool> = script.results.iter().map(|r| r.ok).collect();
    assert_eq!(results, [true; 5], "{:?}", script.results);
    assert_eq!((script.over(), script.tally()), (true, (1, 0)));
}

#[test]
fn a_wait_that_runs_out_ends_the_lesson_and_says_what_it_saw() {
    let script = play(false).script.unwrap();
    assert!(script.over());
    let last = script.results.last().unwrap();
    assert!(!last.ok && last.detail.contains("acked >= 1: it is 0"), "{last:?}");
}

/// The same messages make the same model: the ground that recordings stand on.
#[test]
fn the_model_is_a_function_of_its_messages() {
    assert_eq!(play(true), play(true));
}

#[test]
fn a_disk_that_fills_holds_the_writer_until_there_is_room() {
    let mut lab = Lab::live(None);
    let disk = |free: Option<u64>| Msg::Observed(Observation::Disk(free));
    let held = |effects: &[Effect]| matches!(effects, [Effect::Writer(plan)] if plan.held);
    assert!(lab.msg(disk(Some(2 << 30))).is_empty());
    assert!(held(&lab.msg(disk(Some(900 << 20)))), "the writer is held");
    assert!(lab.said("only 900 MB are free") && lab.said("the floor of 1.0 GB"));
    assert!(lab.msg(disk(Some(800 << 20))).is_empty(), "it is held already");
    assert!(held(&lab.say("clients 8")), "whatever it is told");
    assert!(held(&lab.say("resume")));
    lab.say("write 5");
    assert!(lab.said("write 5: the disk of the nodes' data has only 800 MB free"));
    assert!(lab.msg(disk(None)).is_empty(), "what can't be seen changes nothing");
    assert!(lab.model.disk_low);
    assert!(lab.msg(disk(Some(1 << 30))).is_empty(), "at the edge it doesn't stop and go");
    let effects = lab.msg(disk(Some(2 << 30)));
    assert!(matches!(&effects[..], [Effect::Writer(plan)] if !plan.paused && plan.clients == 8), "{effects:?}");
    assert!(lab.said("the writer goes on"));
}

#[test]
fn slots_in_danger_are_told_once() {
    let mut lab = Lab::live(None);
    let slot = |status, kept| slot("s1", status, kept);
    let see = |lab: &mut Lab, row: SlotRow| {
        let mut sample = primary("", &[("s2", "async", 100)], 0);
        sample.slots = vec![row];
        lab.see("p", sample);
    };
    see(&mut lab, slot("reserved", 1_000));
    assert!(!lab.said("the slot s1"), "that is how it should be");
    see(&mut lab, slot("unreserved", 5_000));
    assert!(lab.said("the slot s1 on p is unreserved"));
    let condition =
        |text: &str, lab: &Lab| text.parse::<replab::model::condition::Condition>().unwrap().check(&lab.model).0;
    assert!(condition("slot_status(s1) = unreserved", &lab) && condition("slot_kept(s1) > 4kB", &lab));
    see(&mut lab, slot("lost", 9_000));
    assert!(lab.said("`rejoin s1` makes it and its slot anew"));
    assert!(
        condition("slot_status(s1) = lost", &lab) && !condition("slot_kept(s1) > 0", &lab),
        "nothing is kept any more"
    );
    let told = lab.model.journal.written();
    assert_eq!(lab.model.fault_log.last().map(|f| f.kind.as_str()), Some("slot-lost"));
    see(&mut lab, slot("lost", 9_000));
    assert_eq!(lab.model.journal.written(), told);
}

#[test]
fn each_fault_is_logged_from_when_to_when() {
    let mut lab = Lab::live(None);
    lab.say("cut p s1");
    lab.done(1, Ok(Happened::Plain));
    lab.wait_ms(1_500);
    lab.msg(Msg::Observed(Observation::Node(name("s2"), Look::State(NodeState::Frozen))));
    lab.say("heal p s1");
    lab.done(2, Ok(Happened::Plain));
    let log = &lab.model.fault_log;
    let kinds: Vec<(&str, bool)> = log.iter().map(|s| (s.kind.as_str(), s.to.is_some())).collect();
    assert_eq!(kinds, [("cut", true), ("frozen", false)]);
    let (from, to) = (log[0].from, log[0].to.unwrap());
    assert!((1_500..1_700).contains(&to.ms_since(from)), "{from:?} {to:?}");
    let report = replab::report::Report::of(&lab.model).faults;
    assert_eq!((report[1].what.as_str(), report[1].to_ms), ("s2 is frozen", None));
}

fn answer(node: &str, wal: u64) -> Answer {
    Answer { node: name(node), timeline: 1, wal: Lsn(wal) }
}

fn acts(effects: &[Effect]) -> Vec<&Act> {
    effects.iter().filter_map(|e| if let Effect::Run(_, act) = e { Some(act) } else { None }).collect()
}

/// A lab whose detector has seen everybody well.
fn watched(rule: &str, setting: &str) -> Lab {
    let mut lab = Lab::live(None);
    lab.see_all(rule);
    assert!(matches!(lab.say(setting)[..], [Effect::Probe(Some(_))]));
    for (node, role) in [("p", Role::Primary), ("s1", Role::Standby), ("s2", Role::Standby)] {
        lab.msg(Msg::Probed(name(node), Probe::Answered { role, wal: Lsn(100), streams: true }));
    }
    lab
}

fn refuses(lab: &mut Lab) -> Vec<Effect> {
    lab.msg(Msg::Probed(name("p"), Probe::Refused("refused".into())))
}

/// p is seen to be down, and then to refuse.
fn dies(lab: &mut Lab) -> Vec<Effect> {
    lab.msg(Msg::Observed(Observation::Node(name("p"), Look::State(NodeState::Exited(Some(137))))));
    refuses(lab)
}

/// Whom the only act, a question to the standbys, fences.
fn fenced(effects: &[Effect]) -> Option<NodeName> {
    match acts(effects)[..] {
        [Act::Canvass { fence, .. }] => fence.clone(),
        _ => panic!("{effects:?}"),
    }
}

#[test]
fn a_refused_primary_is_fenced_and_the_most_advanced_takes_over() {
    let mut lab = watched("FIRST 1 (s1, s2)", "auto-failover on timeout 3s");
    let effects = dies(&mut lab);
    let Act::Canvass { fence, standbys, .. } = acts(&effects)[0] else { panic!("{effects:?}") };
    assert_eq!((fence, standbys.len()), (&Some(name("p")), 2));
    assert!(refuses(&mut lab).is_empty(), "one failover at a time");
    let id = lab.model.next_op - 1;
    let effects = lab.done(id, Ok(Happened::Canvassed(vec![answer("s1", 90), answer("s2", 100)])));
    assert!(matches!(&effects[0], Effect::Writer(plan) if plan.paused && plan.target == Some(name("s2"))));
    let Act::TakeOver { node, rule, followers } = acts(&effects)[0] else { panic!("{effects:?}") };
    assert_eq!((node, followers), (&name("s2"), &vec![name("s1")]));
    assert_eq!(rule.as_ref().unwrap().to_string(), "first 1 (s1)", "the rule comes along without its own name");
    assert_eq!(lab.model.primary, Some(name("p")), "not before it accepts writes");
    let effects = lab.msg(Msg::Reached(OpId(id), Reached::Open(name("s2"))));
    assert!(matches!(&effects[0], Effect::Writer(plan) if !plan.paused && plan.target == Some(name("s2"))));
    lab.msg(Msg::FirstAck(name("s2")));
    let taken = Taken {
        timeline: 2,
        fork: Some(Lsn(100)),
        names: "FIRST 1 (s1)".into(),
        missed: vec![],
        followed: vec![name("s1")],
    };
    lab.done(id, Ok(Happened::HandedOver(taken)));
    assert_eq!(lab.model.node(&name("s1")).unwrap().upstream, Some(name("s2")));
    assert!(lab.said("from the last good probe to the first acknowledged write (detection"));
    assert_eq!(lab.model.timelines.iter().map(|t| (t.id, t.parent)).collect::<Vec<_>>(), [(1, None), (2, Some(1))]);
    assert_eq!(lab.model.unsafe_election, None);
}

/// p's end is noticed in this way.
fn notice(lab: &mut Lab, cause: Cause) {
    let steps = 0..35;
    match cause {
        Cause::Refused => drop(refuses(lab)),
        Cause::Silent => steps.for_each(|_| lab.wait_ms(100)),
        Cause::CutOff => steps.for_each(|step| {
            lab.wait_ms(100);
            for (node, role, wal) in
                [("p", Role::Primary, 200 + step), ("s1", Role::Standby, 100), ("s2", Role::Standby, 100)]
            {
                lab.msg(Msg::Probed(name(node), Probe::Answered { role, wal: Lsn(wal), streams: true }));
            }
        }),
        Cause::Ordered => {
            lab.see("p", primary("", &[], 0));
            lab.say("failover");
        }
    }
}

/// The command from whose moment the failover after this story is timed; None: from when p was last seen well. Between two commands
/// are 5 s. p may also die or run again outside the lab.
fn timed_from(story: &[&str], noticed: Cause) -> Option<usize> {
    let mut lab = watched("", "auto-failover on timeout 3s");
    let mut moments = Vec::new();
    for text in story {
        let state = |state| Msg::Observed(Observation::Node(name("p"), Look::State(state)));
        match *text {
            "p dies" => drop(lab.msg(state(NodeState::Exited(Some(137))))),
            "p runs" => drop(lab.msg(state(NodeState::Running))),
            command => drop(lab.say(command)),
        }
        moments.push(Stamp(lab.at));
        let ids: Vec<u64> = lab.model.ops.keys().map(|id| id.0).collect();
        for id in ids {
            lab.done(id, Ok(Happened::Plain));
        }
        lab.wait_ms(5_000);
    }
    notice(&mut lab, noticed);
    let handover = lab.model.handovers.last().unwrap_or_else(|| panic!("{story:?}: {}", lab.last_words()));
    assert_eq!(handover.kind, Kind::Failover(noticed), "{story:?}");
    let command = moments.iter().position(|at| *at == handover.began);
    assert_eq!(command.is_some(), handover.exact, "{story:?}: {:?} {moments:?}", handover.began);
    assert!(handover.exact || Some(&handover.began) > moments.last(), "{story:?}: p was seen well after all of this");
    command
}

#[test]
fn a_failover_is_timed_from_the_fault_that_is_behind_it() {
    use Cause::{CutOff, Ordered, Refused, Silent};
    for (story, noticed, wanted) in [
        (&["kill p"][..], Refused, Some(0)),
        // The first that took p out of service, whatever came after it.
        (&["kill p", "isolate s2"], Ordered, Some(0)),
        (&["kill p", "isolate p"], Ordered, Some(0)),
        (&["kill p", "cut p s1", "heal p s1"], Refused, Some(0)),
        (&["freeze p", "kill p"], Refused, Some(0)),
        (&["cut client p", "kill p"], Refused, Some(0)),
        // What p does without: it serves its clients still.
        (&["cut p s1", "kill p"], Refused, Some(1)),
        (&["cut p | s1 s2", "kill p"], Ordered, Some(1)),
        (&["cut p s2", "p dies"], Refused, None),
        (&["cut p s2", "p dies"], Ordered, None),
        (&["cut p | s1 s2", "p dies"], Refused, None),
        (&["cut p | s1 s2", "p dies"], Ordered, None),
        // What only slows doesn't count.
        (&["slow p s1 80ms", "throttle client p 1MB/s"], Refused, None),
        // Cut off from its clients, or from all its standbys.
        (&["isolate p"], Silent, Some(0)),
        (&["cut p -> client"], Silent, Some(0)),
        (&["refuse client p"], Refused, Some(0)),
        (&["cut p | s1 s2"], CutOff, Some(0)),
        (&["cut p | s1 s2"], Ordered, Some(0)),
        (&["cut p s1", "refuse s2 -> p"], CutOff, Some(1)),
        (&["cut p | s1 s2", "heal p s1", "cut p -> s1"], CutOff, Some(2)),
        // What is over.
        (&["cut client p", "heal"], Silent, None),
        (&["isolate p", "heal p"], Silent, None),
        (&["freeze p", "thaw p"], Silent, None),
        (&["kill p", "start p", "kill p"], Refused, Some(2)),
        (&["kill p", "p runs", "p dies"], Refused, None),
    ] {
        assert_eq!(timed_from(story, noticed), wanted, "{story:?} {noticed:?}");
    }
}

#[test]
fn a_fault_that_failed_times_nothing() {
    let mut lab = watched("", "auto-failover on timeout 3s");
    lab.say("kill p");
    lab.done(1, Err("no such process".into()));
    refuses(&mut lab);
    assert!(!lab.model.handovers.last().unwrap().exact);
}

#[test]
fn an_election_with_too_few_answers_waits_and_says_for_whom() {
    let mut lab = watched("ANY 1 (s1, s2)", "auto-failover on timeout 3s no-fence");
    let effects = refuses(&mut lab);
    assert!(matches!(acts(&effects)[0], Act::Canvass { fence: None, .. }));
    let id = lab.model.next_op - 1;
    let effects = lab.done(id, Ok(Happened::Canvassed(vec![answer("s2", 100)])));
    assert!(matches!(acts(&effects)[0], Act::Canvass { after_ms: 250, .. }), "it asks again");
    assert!(lab.said("the election waits for s1: only 1 of the 2 required standbys answered"));
    let waiting: replab::model::condition::Condition = "handover = waiting".parse().unwrap();
    assert!(waiting.check(&lab.model).0);
    lab.say("auto-failover off");
    lab.done(id, Ok(Happened::Canvassed(vec![answer("s2", 100)])));
    assert!(lab.said("failed: automatic failover was switched off") && lab.model.ops.is_empty());
    // By hand it isn't waited for; with a loss allowed it goes on, and the promise doesn't cover what is lost.
    lab.say("kill p");
    lab.done(id + 1, Ok(Happened::Plain));
    lab.say("failover");
    lab.done(id + 2, Ok(Happened::Canvassed(vec![answer("s2", 100)])));
    assert!(lab.said("s1 is missing. `failover allow-loss` goes on without"));
    lab.say("failover allow-loss");
    let effects = lab.done(id + 3, Ok(Happened::Canvassed(vec![answer("s2", 100)])));
    assert!(matches!(acts(&effects)[0], Act::TakeOver { node, .. } if *node == name("s2")));
    lab.msg(Msg::Reached(OpId(id + 3), Reached::Open(name("s2"))));
    assert!(lab.model.unsafe_election.is_some());
}

/// An automatic failover under ANY 1 whose election waits for s1; its operation.
fn waits_for_s1(setting: &str) -> (Lab, u64) {
    let mut lab = watched("ANY 1 (s1, s2)", setting);
    dies(&mut lab);
    let id = lab.model.next_op - 1;
    asked_s2(&mut lab, id);
    (lab, id)
}

/// Only s2 has answered the election.
fn asked_s2(lab: &mut Lab, id: u64) -> Vec<Effect> {
    lab.done(id, Ok(Happened::Canvassed(vec![answer("s2", 100)])))
}

/// Both standbys have answered it.
fn asked_both(lab: &mut Lab, id: u64, s1: u64) -> Vec<Effect> {
    lab.done(id, Ok(Happened::Canvassed(vec![answer("s1", s1), answer("s2", 100)])))
}

/// A refused connection is no proof that p is down.
#[test]
fn a_primary_that_may_run_is_fenced_once_enough_have_answered() {
    let mut lab = watched("ANY 1 (s1, s2)", "auto-failover on timeout 3s");
    assert_eq!(fenced(&refuses(&mut lab)), None);
    let id = lab.model.next_op - 1;
    assert_eq!(fenced(&asked_s2(&mut lab, id)), None, "it waits, and leaves p alone");
    assert!(lab.said("the election waits for s1: only 1 of the 2 required standbys answered"), "{}", lab.last_words());
    let effects = asked_both(&mut lab, id, 90);
    assert_eq!(fenced(&effects), Some(name("p")));
    assert!(matches!(acts(&effects)[..], [Act::Canvass { after_ms: 0, .. }]));
    assert!(lab.model.waiting_election().is_none() && lab.model.handovers[0].elected.is_none());
    // What p wrote on until the fence counts.
    let effects = asked_both(&mut lab, id, 120);
    assert!(matches!(acts(&effects)[..], [Act::TakeOver { node, .. }] if *node == name("s1")), "{effects:?}");
    // Where s1 falls silent just then, what it has cost is told.
    let mut lab = watched("ANY 1 (s1, s2)", "auto-failover on timeout 3s");
    refuses(&mut lab);
    assert_eq!(fenced(&asked_both(&mut lab, id, 90)), Some(name("p")));
    assert_eq!(fenced(&asked_s2(&mut lab, id)), None);
    assert!(
        lab.said("the election waits for s1: p is fenced, and only 1 of the 2 required standbys answered"),
        "{}",
        lab.last_words()
    );
    // One that is just being killed by order is fenced with the only question.
    let mut lab = watched("ANY 1 (s1, s2)", "auto-failover on timeout 3s");
    lab.say("kill p");
    assert_eq!(fenced(&refuses(&mut lab)), Some(name("p")));
    let id = lab.model.next_op - 1;
    let effects = asked_both(&mut lab, id, 90);
    assert!(matches!(acts(&effects)[..], [Act::TakeOver { node, .. }] if *node == name("s2")), "{effects:?}");
}

#[test]
fn a_failover_that_is_refused_by_hand_fences_nobody() {
    let mut lab = Lab::live(None);
    lab.see_all("ANY 1 (s1, s2)");
    lab.say("freeze p");
    lab.done(1, Ok(Happened::Plain));
    assert_eq!(fenced(&lab.say("failover")), None);
    assert!(acts(&asked_s2(&mut lab, 2)).is_empty());
    assert!(
        lab.said("failover failed: only 1 of the 2 required standbys answered. s1 is missing."),
        "{}",
        lab.last_words()
    );
    assert_eq!(fenced(&lab.say("failover")), None);
    assert_eq!(fenced(&asked_both(&mut lab, 3, 90)), Some(name("p")));
    asked_s2(&mut lab, 3);
    assert!(
        lab.said("failover failed: p is fenced, and only 1 of the 2 required standbys answered"),
        "{}",
        lab.last_words()
    );
}

#[test]
fn a_promotion_by_hand_ends_the_election_that_waits() {
    let (mut lab, id) = waits_for_s1("auto-failover on timeout 3s");
    assert!(matches!(acts(&lab.say("promote s2"))[..], [Act::Promote(_)]), "{}", lab.last_words());
    assert_eq!(fenced(&asked_both(&mut lab, id, 120)), None, "nobody is elected beside it");
    lab.done(id + 1, Ok(Happened::Promoted { timeline: 2, fork: None, names: String::new() }));
    let effects = asked_both(&mut lab, id, 120);
    assert!(acts(&effects).is_empty(), "{effects:?}");
    assert_eq!(lab.last_words(), "s2 has become the primary meanwhile: no failover");
    assert!(lab.model.ops.is_empty() && lab.model.primary == Some(name("s2")));
    // One that failed leaves the election as it was.
    let (mut lab, id) = waits_for_s1("auto-failover on timeout 3s");
    lab.say("promote s2");
    lab.done(id + 1, Err("the node burns".into()));
    let effects = asked_both(&mut lab, id, 120);
    assert!(matches!(acts(&effects)[..], [Act::TakeOver { node, .. }] if *node == name("s1")), "{effects:?}");
}

#[test]
fn nobody_is_promoted_by_hand_beside_a_handover() {
    let refused = |lab: &mut Lab, why: &str| {
        assert!(lab.say("promote s2").is_empty(), "{why}");
        assert!(lab.last_words().contains(why), "{}", lab.last_words());
    };
    let mut lab = Lab::live(None);
    assert!(matches!(acts(&lab.say("switchover s1"))[..], [Act::Switchover { .. }]), "{}", lab.last_words());
    refused(&mut lab, "`switchover s1` is under way");
    // An election that doesn't wait (any more).
    let mut lab = watched("ANY 1 (s1, s2)", "auto-failover on timeout 3s");
    refuses(&mut lab);
    refused(&mut lab, "`failover` is under way");
    let id = lab.model.next_op - 1;
    asked_s2(&mut lab, id);
    asked_both(&mut lab, id, 90);
    refused(&mut lab, "`failover` is under way");
}

#[test]
fn a_loss_may_be_allowed_while_the_election_waits() {
    for allowed in ["failover allow-loss", "auto-failover on timeout 3s allow-loss"] {
        let (mut lab, id) = waits_for_s1("auto-failover on timeout 3s");
        assert!(lab.said("could be lost (`failover allow-loss` goes on without them)"), "{}", lab.last_words());
        lab.say("failover");
        assert!(lab.last_words().contains("is under way"), "waiting for the same once more brings nothing");
        assert!(matches!(acts(&asked_s2(&mut lab, id))[0], Act::Canvass { .. }), "it goes on waiting");
        lab.say(allowed);
        assert!(!lab.last_words().contains("under way"), "{}", lab.last_words());
        assert_eq!(lab.model.ops.len(), 1, "the same election goes on");
        let effects = asked_s2(&mut lab, id);
        assert!(matches!(acts(&effects)[0], Act::TakeOver { node, .. } if *node == name("s2")), "{effects:?}");
        lab.msg(Msg::Reached(OpId(id), Reached::Open(name("s2"))));
        assert!(lab.model.unsafe_election.is_some(), "{allowed}: the promise doesn't cover what is lost");
    }
    // Where nobody answers at all there is nothing to make do with.
    let mut lab = watched("ANY 1 (s1, s2)", "auto-failover on timeout 3s");
    refuses(&mut lab);
    lab.done(lab.model.next_op - 1, Ok(Happened::Canvassed(vec![])));
    assert!(lab.said("the election waits for s1, s2") && !lab.said("goes on without them"));
}

#[test]
fn a_primary_that_comes_back_while_the_election_waits_stays_the_primary() {
    let state = |s| Msg::Observed(Observation::Node(name("p"), Look::State(s)));
    let (mut lab, id) = waits_for_s1("auto-failover on timeout 3s");
    lab.say("start p");
    lab.msg(state(NodeState::Running));
    assert_eq!(fenced(&asked_s2(&mut lab, id)), None, "it is coming up: it isn't killed, and nobody is promoted");
    assert_eq!(fenced(&asked_both(&mut lab, id, 100)), None);
    lab.see("p", primary("ANY 1 (s1, s2)", &BOTH, 0));
    let effects = asked_s2(&mut lab, id);
    assert!(acts(&effects).is_empty(), "{effects:?}");
    assert_eq!(lab.last_words(), "p is back: no failover");
    lab.done(id + 1, Ok(Happened::Plain));
    assert!(lab.model.ops.is_empty() && lab.model.primary == Some(name("p")));
    // A last refusal on its way is nothing new; that it dies again is.
    assert!(acts(&refuses(&mut lab)).is_empty());
    lab.msg(Msg::Probed(name("p"), Probe::Answered { role: Role::Primary, wal: Lsn(100), streams: true }));
    assert!(matches!(acts(&refuses(&mut lab))[..], [Act::Canvass { after_ms: 0, .. }]));
    // One that doesn't come up is fenced after all.
    let (mut lab, id) = waits_for_s1("auto-failover on timeout 3s");
    lab.say("start p");
    lab.msg(state(NodeState::Running));
    lab.wait_ms(11_000);
    assert_eq!(fenced(&asked_s2(&mut lab, id)), None, "not for an election that goes on waiting");
    assert_eq!(fenced(&asked_both(&mut lab, id, 100)), Some(name("p")));
}

/// A primary that is cut off answers all the while; it is back when a standby hears it again.
#[test]
fn a_cut_off_primary_is_back_when_a_standby_hears_it() {
    let mut lab = watched("ANY 1 (s1, s2)", "auto-failover on timeout 300ms no-fence");
    let probe = |lab: &mut Lab, p: u64, s2: u64| {
        for (node, role, wal) in [("p", Role::Primary, p), ("s1", Role::Standby, 100), ("s2", Role::Standby, s2)] {
            lab.msg(Msg::Probed(name(node), Probe::Answered { role, wal: Lsn(wal), streams: true }));
        }
    };
    for step in 0..10 {
        lab.wait_ms(50);
        probe(&mut lab, 200 + step, 100);
    }
    assert!(lab.said("p answers, but every standby has lost it"), "{}", lab.last_words());
    let id = lab.model.next_op - 1;
    let waits = |lab: &mut Lab| matches!(acts(&asked_s2(lab, id))[..], [Act::Canvass { after_ms: 250, .. }]);
    assert!(waits(&mut lab));
    lab.see("p", primary("ANY 1 (s1, s2)", &BOTH, 0));
    assert!(waits(&mut lab), "that it answers is nothing new");
    lab.say("auto-failover on timeout 500ms no-fence");
    probe(&mut lab, 300, 100);
    assert!(waits(&mut lab), "nor are other orders");
    probe(&mut lab, 310, 310);
    assert!(acts(&asked_s2(&mut lab, id)).is_empty());
    assert_eq!(lab.last_words(), "p is back: no failover");
}

/// Standbys that get nothing make p cut off, but not where each could get nothing from a healthy p either.
#[test]
fn who_cannot_follow_says_nothing_about_the_primary() {
    for (forked, lost, fails_over) in [(false, false, true), (true, false, false), (false, true, false)] {
        let mut lab = watched("", "auto-failover on timeout 300ms no-fence");
        if forked {
            let text = "new timeline 2 forked off current database system timeline 1 before current recovery point 0/1";
            for standby in ["s1", "s2"] {
                let line = LogLine { severity: "LOG".into(), text: text.into() };
                lab.msg(Msg::Observed(Observation::Node(name(standby), Look::Log(vec![line]))));
            }
        }
        if lost {
            let mut sample = primary("", &[], 0);
            sample.slots = ["s1", "s2"].map(|standby| slot(standby, "lost", 0)).into();
            lab.see("p", sample);
        }
        for step in 0..10 {
            lab.wait_ms(50);
            for (node, role, wal) in
                [("p", Role::Primary, 200 + step), ("s1", Role::Standby, 100), ("s2", Role::Standby, 100)]
            {
                lab.msg(Msg::Probed(name(node), Probe::Answered { role, wal: Lsn(wal), streams: false }));
            }
        }
        assert_eq!(lab.said("p answers, but every standby has lost it"), fails_over, "{forked} {lost}");
    }
}

fn slot(standby: &str, status: &str, kept: i64) -> SlotRow {
    SlotRow {
        name: standby.into(),
        active: false,
        restart: Some(Lsn(1)),
        wal_status: Some(status.into()),
        kept_bytes: Some(kept),
        safe_bytes: Some(10),
        invalidated: None,
        pid: None,
        logical: false,
    }
}

/// A node of the lab that comes back as another cluster is told once, and the run is worth nothing from then on; a server that always
/// was one of its own is no such node.
#[test]
fn a_node_that_is_another_cluster_breaks_the_run_off() {
    let mut lab = Lab::live(None);
    let other = Sample { system_identifier: 8, ..standby(100) };
    let told = |lab: &Lab| lab.model.journal.entries().filter(|e| e.text.contains("is another cluster now")).count();
    lab.say("add x fresh");
    lab.see("x", Sample { system_identifier: 9, ..primary("", &[], 0) });
    lab.done(1, Ok(Happened::Plain));
    lab.see("x", Sample { system_identifier: 9, ..primary("", &[], 0) });
    assert_eq!((told(&lab), Report::of(&lab.model).error), (0, None));
    for _ in 0..2 {
        lab.see("s1", other.clone());
    }
    let report = Report::of(&lab.model);
    assert_eq!(told(&lab), 1, "{}", lab.last_words());
    assert!(report.error.is_some_and(|why| why.starts_with("s1 is another cluster now")));
    // With a reset everything is new, and what is still seen of the old nodes says nothing.
    lab.say("reset");
    lab.see("s2", other);
    let up = Happened::BroughtUp {
        ms: 500,
        postgres: "18.6".into(),
        system_identifier: 7,
        direct_links: None,
        no_freezer: None,
    };
    lab.done(2, Ok(up));
    assert_eq!((told(&lab), Report::of(&lab.model).error), (1, None));
}

/// Where none of the writer's rows is on its own branch, there may still be others: the sentence doesn't say that nothing was there.
#[test]
fn wal_without_a_row_of_the_writer_is_told() {
    for (end, words) in [
        (Lsn(200), "went on to 0/C8, 100 bytes: WAL beyond the fork, but no row of the writer"),
        (Lsn(100), "pg_rewind took it back; no row of the writer was only there"),
    ] {
        let mut lab = Lab::live(None);
        lab.say("kill s1");
        lab.done(1, Ok(Happened::Plain));
        lab.see("p", primary("", &[("s2", "async", 100)], 0));
        lab.say("rejoin s1");
        let (road, source, only) = (Road::Rewound, name("p"), Ok(Ids::new()));
        let (fork, end) = (Some(Lsn(100)), Some(end));
        lab.done(2, Ok(Happened::Rejoined(Rejoined { road, source, only, detour: None, fork, end })));
        assert!(lab.last_words().ends_with(words), "{}", lab.last_words());
    }
}

/// What would be thrown away is told while it is there; where there is nothing, nothing is.
#[test]
fn what_only_a_returning_node_has_is_told_before_the_end() {
    let mut lab = Lab::live(None);
    lab.msg(Msg::Tried(vec![IdRange { client: 1, first: 1, last: 9 }]));
    lab.msg(Msg::Wrote(vec![(IdRange { client: 1, first: 1, last: 8 }, Ack::Acked)]));
    for (id, command) in [(1, "kill p"), (2, "promote s1"), (3, "rejoin p")] {
        lab.say(command);
        let promoted = Happened::Promoted { timeline: 2, fork: Some(Lsn(100)), names: String::new() };
        if id < 3 {
            lab.done(id, Ok(if id == 1 { Happened::Plain } else { promoted }));
        }
    }
    lab.msg(Msg::Reached(OpId(3), Reached::Counted(Ids::new())));
    assert!(!lab.said("stranded"), "{}", lab.last_words());
    let only = Ids::from([(1, [(5, 9)].into_iter().collect())]);
    lab.msg(Msg::Reached(OpId(3), Reached::Counted(only)));
    assert_eq!(lab.last_words(), "5 rows of the writer are only on p: stranded (1: 5-9), 4 of them acknowledged");
    assert!(!lab.model.ops.is_empty() && lab.model.rejoins.is_empty(), "it is still on its way");
    let one: Ids = [(1, [(7, 7)].into_iter().collect())].into();
    let (road, source, only) = (Road::Rewound, name("s1"), Ok(one.clone()));
    lab.done(3, Ok(Happened::Rejoined(Rejoined { road, source, only, detour: None, fork: None, end: None })));
    let end = lab.last_words();
    assert!(
        end.ends_with("; 1 row of the writer that only it had (1: 7) is thrown away, 1 of them acknowledged"),
        "{end}"
    );
    // A late word of an operation that is over says nothing.
    lab.msg(Msg::Reached(OpId(3), Reached::Counted(one)));
    assert_eq!(lab.last_words(), end);
}

#[test]
fn moving_the_primary_is_refused_where_it_makes_no_sense() {
    let mut lab = Lab::live(None);
    for (text, why) in [
        ("switchover p", "is a primary already"),
        ("failover", "is the planned way"),
        ("fence p", "the only primary"),
        ("fence s1", "is no primary"),
        ("rejoin p", "the only one"),
        ("rejoin s1", "healthy standby"),
        ("follow all p", "every standby that can follow p does"),
        ("auto-failover off", "off already"),
    ] {
        assert!(lab.say(text).is_empty(), "{text} was let through");
        assert!(lab.last_words().contains(why), "{text}: {}", lab.last_words());
    }
    // Behind a cut that nobody has noticed yet it is as silent as a frozen one.
    for (id, fault, cure, other) in [(1, "cut p -> s2", "heal", "s1"), (3, "freeze s1", "thaw s1", "s2")] {
        lab.say(fault);
        lab.done(id, Ok(Happened::Plain));
        assert!(lab.say(&format!("switchover {other}")).is_empty(), "{fault}");
        assert!(lab.last_words().contains("would wait for it until wal_sender_timeout"), "{}", lab.last_words());
        lab.say(cure);
        lab.done(id + 1, Ok(Happened::Plain));
        lab.see_all("");
    }
    // No standby at all.
    let mut lab = Lab::live(None);
    lab.model.nodes.truncate(1);
    assert!(lab.say("failover").is_empty());
    assert!(lab.last_words().contains("there is nobody left to fail over to"), "{}", lab.last_words());
}

#[test]
fn promoting_a_laggard_names_who_is_ahead() {
    let mut lab = Lab::live(None);
    lab.see("s1", standby(60));
    lab.say("promote s1");
    assert!(lab.said("ahead of s1 in the log: s2 by 40 bytes"));
    // Whichever was looked at last.
    let mut lab = Lab::live(None);
    lab.see("s1", standby(60));
    lab.see("s2", standby(100));
    lab.say("promote s1");
    assert!(lab.said("ahead of s1 in the log: s2 by 40 bytes"));
}

/// Of two in step the one looked at last always seems to be ahead.
#[test]
fn who_is_in_step_is_no_laggard() {
    let mut lab = Lab::live(None);
    for wal in [120, 140, 160] {
        for (node, step) in [("s1", 0), ("s2", 10)] {
            lab.see(node, standby(wal + step));
            assert_eq!((lab.model.ahead_of(&name("s1")), lab.model.ahead_of(&name("s2"))), (vec![], vec![]), "{wal}");
        }
    }
}

/// A lesson of one step that does these; how that went.
fn one_step(step: &str, results: &[Result<Happened, String>]) -> bool {
    let mut lab = Lab::live(Some(&format!("title = \"T\"\nsummary = \"S\"\n[[step]]\n{step}\n")));
    for (id, result) in (1..).zip(results) {
        lab.done(id, result.clone());
    }
    lab.wait_ms(100);
    let script = lab.model.script.unwrap();
    assert!(script.over(), "{step}");
    script.results[0].ok
}

#[test]
fn what_is_to_be_refused_must_be_and_what_may_fail_may() {
    let (well, badly) = (Ok(Happened::Plain), Err("the node burns".to_owned()));
    for (step, results, wanted) in [
        ("do = \"fence p\"", vec![], false),
        ("do = \"thaw s1\"\nrefused = \"not frozen\"", vec![], true),
        ("do = \"thaw s1\"\nrefused = \"on holiday\"", vec![], false),
        ("do = \"kill s1\"\nrefused = \"down already\"", vec![well.clone()], false),
        ("do = \"kill s1\"\nrefused = \"burns\"", vec![badly.clone()], true),
        ("do = [\"thaw s1\", \"kill s1\", \"kill s2\"]\nmay_fail = true", vec![badly, well], true),
    ] {
        assert_eq!(one_step(step, &results), wanted, "{step}");
    }
}

fn present(ranges: &[(u64, u64)]) -> NodeReading {
    let present = [(1, ranges.iter().copied().collect())].into();
    NodeReading::Rows { present, system_identifier: 7, marker: Some("lab".into()) }
}

/// s1 takes over from p under this rule (its own, from then on), and holds what these rows are.
fn taken_over(lab: &mut Lab, by: &str) {
    let id = lab.model.next_op;
    lab.say(&format!("promote {by}"));
    lab.done(id, Ok(Happened::Promoted { timeline: 2, fork: None, names: String::new() }));
}

fn writes(lab: &mut Lab, first: u64, last: u64) {
    let range = IdRange { client: 1, first, last };
    lab.msg(Msg::Tried(vec![range]));
    lab.msg(Msg::Wrote(vec![(range, Ack::Acked)]));
}

fn verdict(lab: &mut Lab, primary: &str, ranges: &[(u64, u64)]) -> &'static str {
    let id = lab.model.next_op;
    lab.say("verify");
    lab.done(id, Ok(Happened::Verified(Reading { nodes: [(name(primary), present(ranges))].into() })));
    lab.model.verification.as_ref().unwrap().verdict.word()
}

const BOTH: [(&str, &str, u64); 2] = [("s1", "quorum", 100), ("s2", "quorum", 100)];

/// What was acknowledged after the last look at a primary that died stays a question for good, also when the next one has been
/// looked at; but only where a rule was in force.
#[test]
fn unconfirmed_acks_stay_unknown_after_the_handover() {
    for (rule, wanted) in [("ANY 2 (s1, s2)", "unknown"), ("", "sound")] {
        let mut lab = Lab::live(None);
        lab.see("p", primary(rule, &BOTH, 0));
        lab.see("p", primary(rule, &BOTH, 0));
        writes(&mut lab, 1, 10);
        lab.say("kill p");
        lab.done(1, Ok(Happened::Plain));
        taken_over(&mut lab, "s1");
        lab.see("s1", primary("", &[("s2", "async", 100)], 0));
        lab.see("s1", primary("", &[("s2", "async", 100)], 0));
        assert_eq!(verdict(&mut lab, "s1", &[(1, 8)]), wanted, "{rule}");
        assert_eq!(verdict(&mut lab, "s1", &[(1, 10)]), "sound");
    }
}

/// A second election right after the first asks those that the second rule lists; they need not have what the first promised.
#[test]
fn a_promise_ends_where_a_second_primary_is_lost_at_once() {
    let rule = "ANY 1 (s1, s2)";
    for (caught_up, wanted) in [(false, "sound"), (true, "broken")] {
        let mut lab = Lab::live(None);
        lab.see("p", primary(rule, &BOTH, 0));
        lab.see("p", primary(rule, &BOTH, 0));
        writes(&mut lab, 1, 10);
        lab.see("p", primary(rule, &BOTH, 0));
        assert_eq!(replab::model::ledger::count(&lab.model.ledger.promised), 10);
        lab.say("kill p");
        lab.done(1, Ok(Happened::Plain));
        taken_over(&mut lab, "s1");
        if caught_up {
            // Every standby has all there was; p is one of them again.
            for _ in 0..3 {
                lab.see("s1", primary("ANY 1 (s2)", &[("s2", "quorum", 100), ("p", "async", 100)], 0));
            }
        }
        taken_over(&mut lab, "s2");
        assert_eq!(verdict(&mut lab, "s2", &[(1, 8)]), wanted, "caught up: {caught_up}");
        let why = if caught_up {
            "2 lost writes were promised by the synchronous rule in force"
        } else {
            "no promise covered that election (the rule had just changed)"
        };
        assert_eq!(lab.model.verification.unwrap().findings(), [why]);
    }
}

/// How s1 becomes the primary though the rule promised nothing of it: s2 is ahead, s2 isn't asked, or p, which got the writes, is
/// given up.
fn s1_takes_over_in_doubt(lab: &mut Lab, way: &str) {
    let names = || "ANY 1 (s2)".to_owned();
    if way != "fence p" {
        lab.say("kill p");
        lab.done(lab.model.next_op - 1, Ok(Happened::Plain));
    }
    match way {
        "promote s1" => {
            lab.see("s1", standby(60));
            lab.say(way);
            lab.done(lab.model.next_op - 1, Ok(Happened::Promoted { timeline: 2, fork: None, names: names() }));
        }
        "fence p" => {
            lab.see("s1", primary("ANY 1 (s2)", &[], 0));
            lab.say(way);
            lab.done(lab.model.next_op - 1, Ok(Happened::Plain));
        }
        _ => {
            lab.say(way);
            let id = lab.model.next_op - 1;
            lab.done(id, Ok(Happened::Canvassed(vec![answer("s1", 100)])));
            lab.msg(Msg::Reached(OpId(id), Reached::Open(name("s1"))));
            let taken = Taken { timeline: 2, fork: None, names: names(), missed: vec![], followed: vec![name("s2")] };
            lab.done(id, Ok(Happened::HandedOver(taken)));
        }
    }
    assert_eq!(lab.model.primary, Some(name("s1")), "{way}\n{}", lab.last_words());
}

fn promised(lab: &Lab) -> u64 {
    replab::model::ledger::count(&lab.model.ledger.promised)
}

/// s1 is looked at twice, and has its own rule.
fn looked_at_s1(lab: &mut Lab) {
    for _ in 0..2 {
        lab.see("s1", primary("ANY 1 (s2)", &[("s2", "quorum", 100)], 0));
    }
}

/// What was promised before it is lost and no more; what is promised after it is judged like everything else.
#[test]
fn an_unsafe_election_ends_the_promises_before_it_and_none_after_it() {
    for (way, why) in [
        ("promote s1", "s2 is ahead of s1"),
        ("failover allow-loss", "only 1 of the 2 required standbys answered"),
        ("fence p", "p was fenced, and s1 kept"),
    ] {
        let mut lab = Lab::live(None);
        let rule = "ANY 1 (s1, s2)";
        lab.see("p", primary(rule, &BOTH, 0));
        lab.see("p", primary(rule, &BOTH, 0));
        writes(&mut lab, 1, 10);
        lab.see("p", primary(rule, &BOTH, 0));
        assert_eq!(promised(&lab), 10);
        // These are never confirmed: nobody may call them unknown either.
        writes(&mut lab, 11, 12);
        s1_takes_over_in_doubt(&mut lab, way);
        let sound = format!("no promise covered that election ({why})");
        assert_eq!(verdict(&mut lab, "s1", &[(1, 8)]), "sound", "{way}");
        let report = replab::report::Report::of(&lab.model);
        assert_eq!((report.writes.lost, &report.findings), (4, &vec![sound.clone()]), "{way}");
        assert!(
            lab.last_words().starts_with(&format!("No promise was broken: {}", sound.replace("no promise", "none"))),
            "{}",
            lab.last_words()
        );
        assert_eq!(verdict(&mut lab, "s1", &[(1, 10)]), "sound", "{way}: the open ones alone");
        // A new rule, new promises, and an election that they cover.
        lab.msg(Msg::FirstAck(name("s1")));
        looked_at_s1(&mut lab);
        writes(&mut lab, 13, 20);
        looked_at_s1(&mut lab);
        assert_eq!(promised(&lab), 8, "{way}");
        lab.see("s2", standby(100));
        lab.say("kill s1");
        lab.done(lab.model.next_op - 1, Ok(Happened::Plain));
        taken_over(&mut lab, "s2");
        assert_eq!(verdict(&mut lab, "s2", &[(1, 8), (13, 18)]), "broken", "{way}");
        let findings = lab.model.verification.clone().unwrap().findings();
        assert_eq!(findings, ["2 lost writes were promised by the synchronous rule in force"], "{way}");
        assert_eq!(verdict(&mut lab, "s2", &[(1, 8), (13, 20)]), "sound", "{way}");
        assert_eq!(
            lab.model.verification.clone().unwrap().excuse(),
            Some(sound.replace("no promise", "none")),
            "{way}"
        );
        // Whoever asks later still learns of it, until the next reset.
        assert_eq!(lab.model.unsafe_election.as_deref(), Some(why));
    }
}

/// The new primary's rule promises nothing of what the old one acknowledges: on its way when the part moved, or because the writer
/// was told to stay there.
#[test]
fn what_an_old_primary_acknowledges_is_not_promised_by_the_new_ones_rule() {
    let mut lab = Lab::live(None);
    lab.see("s1", standby(60));
    taken_over(&mut lab, "s1");
    looked_at_s1(&mut lab);
    writes(&mut lab, 1, 5);
    looked_at_s1(&mut lab);
    assert_eq!(promised(&lab), 0, "p's last answers");
    lab.msg(Msg::FirstAck(name("s1")));
    writes(&mut lab, 6, 10);
    looked_at_s1(&mut lab);
    assert_eq!(promised(&lab), 5);
    lab.say("target p");
    writes(&mut lab, 11, 12);
    lab.msg(Msg::FirstAck(name("p")));
    writes(&mut lab, 13, 15);
    looked_at_s1(&mut lab);
    assert_eq!(promised(&lab), 5);
    lab.say("target primary");
    writes(&mut lab, 16, 17);
    looked_at_s1(&mut lab);
    assert_eq!(promised(&lab), 5, "still p's");
    lab.msg(Msg::FirstAck(name("s1")));
    writes(&mut lab, 18, 20);
    looked_at_s1(&mut lab);
    assert_eq!(promised(&lab), 8);
    assert_eq!(verdict(&mut lab, "s1", &[(6, 10), (18, 20)]), "sound");
    assert_eq!(verdict(&mut lab, "s1", &[(6, 10), (18, 19)]), "broken");
}

/// p is back as a standby of s1, by pg_rewind.
fn rewound(lab: &mut Lab, node: &str) {
    let id = lab.model.next_op;
    lab.say(&format!("rejoin {node}"));
    let how = Rejoined {
        road: Road::Rewound,
        detour: None,
        source: lab.model.primary.clone().unwrap(),
        fork: None,
        end: None,
        only: Err("not counted".into()),
    };
    lab.done(id, Ok(Happened::Rejoined(how)));
}

#[test]
fn what_a_rejoin_throws_away_is_stranded_no_more() {
    let judged = |nodes: &[(&str, NodeReading)]| {
        let mut lab = Lab::live(None);
        writes(&mut lab, 1, 10);
        lab.say("kill p");
        lab.done(1, Ok(Happened::Plain));
        taken_over(&mut lab, "s1");
        lab.say("verify");
        let nodes = nodes.iter().map(|(n, r)| (name(n), r.clone())).collect();
        lab.done(lab.model.next_op - 1, Ok(Happened::Verified(Reading { nodes })));
        lab
    };
    let words = |lab: &Lab| lab.model.verification.as_ref().unwrap().in_words();
    let s1 = ("s1", present(&[(1, 7)]));
    let mut lab = judged(&[s1.clone(), ("s2", present(&[(1, 8)])), ("p", present(&[(1, 10)]))]);
    assert_eq!(words(&lab), "3 acknowledged writes are stranded: on p and s2, not on s1");
    rewound(&mut lab, "p");
    assert_eq!(words(&lab), "2 acknowledged writes are lost; 1 is stranded: on s2, not on s1");
    let report = replab::report::Report::of(&lab.model);
    assert_eq!((report.writes.lost, report.writes.stranded), (3, 1));
    lab.say("remove s2");
    lab.done(lab.model.next_op - 1, Ok(Happened::Plain));
    assert_eq!(words(&lab), "3 acknowledged writes are lost");
    // It may have held them; now it doesn't.
    let mut lab = judged(&[s1, ("p", NodeReading::Unreadable("down".into()))]);
    rewound(&mut lab, "p");
    assert_eq!(words(&lab), "3 acknowledged writes are lost");
    // What was judged against the node itself says nothing any more.
    let mut lab = Lab::live(None);
    writes(&mut lab, 1, 10);
    assert_eq!(verdict(&mut lab, "p", &[(1, 10)]), "sound");
    lab.say("kill p");
    lab.done(lab.model.next_op - 1, Ok(Happened::Plain));
    taken_over(&mut lab, "s1");
    rewound(&mut lab, "p");
    assert_eq!(lab.model.verification, None);
}

/// Each comes back on its own, to the same primary; what comes back isn't started beside that, nor a primary made meanwhile.
#[test]
fn several_come_back_at_once() {
    let mut lab = Lab::live(None);
    for (id, node) in [(1, "p"), (2, "s2")] {
        lab.say(&format!("kill {node}"));
        lab.done(id, Ok(Happened::Plain));
    }
    taken_over(&mut lab, "s1");
    lab.see("s1", primary("", &[], 0));
    lab.say("rejoin p");
    lab.say("rejoin s2");
    assert_eq!(lab.model.ops.len(), 2, "{}", lab.last_words());
    let refused = [
        ("rejoin p", "`rejoin p` is under way"),
        ("start s2", "`rejoin s2` is under way"),
        ("failover", "is under way"),
        ("switchover s2", "is under way"),
    ];
    for (command, why) in refused {
        lab.say(command);
        let last = lab.last_words();
        assert!(last.starts_with(command) && last.contains(why), "{command}: {last}");
    }
    // It runs for a while meanwhile, as the standby that it is to be.
    lab.msg(Msg::Observed(Observation::Node(name("s2"), Look::State(NodeState::Running))));
    lab.say("promote s2");
    assert!(lab.last_words().contains("`rejoin s2` is under way"), "{}", lab.last_words());
    let before = lab.model.journal.written();
    lab.say("heal");
    let said: Vec<_> = lab.model.journal.since(before).map(|e| e.text.clone()).collect();
    assert_eq!((lab.model.ops.len(), said.len()), (2, 1), "heal leaves them to their return: {said:?}");
    // A start is a return as well.
    let mut lab = Lab::live(None);
    lab.say("kill s2");
    lab.done(1, Ok(Happened::Plain));
    lab.say("start s2");
    lab.say("start s2");
    assert!(lab.last_words().contains("`start s2` is under way"), "{}", lab.last_words());
}

/// What chaos does next to bring a lab back.
#[test]
fn chaos_heals_first_and_then_brings_back_who_does_not_come() {
    use replab::chaos::mend;
    let next = |lab: &Lab, still| mend::next(&lab.model, still).map(|c| c.to_string());
    let mut lab = Lab::live(None);
    let whole = |lab: &Lab, since| mend::whole(&lab.model, Stamp(since));
    assert_eq!((next(&lab, 9_000), whole(&lab, 0)), (None, Ok(())));
    assert!(whole(&lab, lab.at + 1).unwrap_err().contains("not been looked at"), "what was seen before proves nothing");
    lab.say("freeze s1");
    assert_eq!(next(&lab, 0), None, "one thing after another");
    lab.done(1, Ok(Happened::Plain));
    assert_eq!(next(&lab, 0).as_deref(), Some("heal"));
    assert!(whole(&lab, 0).unwrap_err().contains("faults"));
    lab.say("thaw s1");
    lab.done(2, Ok(Happened::Plain));
    assert_eq!(next(&lab, 0), None);
    // s2 is away, and doesn't come by itself.
    lab.see("p", primary("", &[("s1", "async", 100)], 0));
    assert_eq!((next(&lab, 0), next(&lab, mend::STUCK_MS).as_deref()), (None, Some("rejoin s2")));
    assert!(whole(&lab, 0).unwrap_err().contains("s2 doesn't stream from p: disconnected"));
    // p is gone, s1 is the primary: p comes back by rejoin alone, and s2 must be told.
    lab.say("kill p");
    lab.done(3, Ok(Happened::Plain));
    assert_eq!(next(&lab, 0).as_deref(), Some("heal"), "the lab's own primary is started");
    taken_over(&mut lab, "s1");
    lab.see("s1", primary("", &[], 0));
    assert_eq!(next(&lab, 0).as_deref(), Some("rejoin p"));
    // Nor does p wait for a standby that starts.
    let id = lab.model.next_op;
    lab.say("kill s2");
    lab.done(id, Ok(Happened::Plain));
    assert_eq!(next(&lab, 0).as_deref(), Some("heal"));
    lab.say("heal");
    assert_eq!((lab.model.ops.len(), next(&lab, 0).as_deref()), (1, Some("rejoin p")));
    lab.say("rejoin p");
    assert_eq!((lab.model.ops.len(), next(&lab, mend::STUCK_MS)), (2, None), "both are on their way back");
    lab.say("auto-failover on timeout 1s");
    assert_eq!(next(&lab, 0).as_deref(), Some("auto-failover off"));
}

/// p is dead, s1 elected and promoted; `followed` are those that were told.
fn handed_to_s1(lab: &mut Lab, followed: &[&str]) {
    lab.say("kill p");
    let id = lab.model.next_op;
    lab.done(id - 1, Ok(Happened::Plain));
    lab.say("failover");
    lab.done(id, Ok(Happened::Canvassed(vec![answer("s1", 100)])));
    lab.msg(Msg::Reached(OpId(id), Reached::Open(name("s1"))));
    let followed = followed.iter().map(|n| name(n)).collect();
    let taken = Taken { timeline: 2, fork: Some(Lsn(100)), names: String::new(), missed: vec![], followed };
    lab.done(id, Ok(Happened::HandedOver(taken)));
}

fn follows(effects: &[Effect]) -> Vec<String> {
    let told = |act: &Act| match act {
        Act::Follow { standby, upstream } => Some(format!("{standby} {upstream}")),
        _ => None,
    };
    acts(effects).into_iter().filter_map(told).collect()
}

#[test]
fn a_standby_that_was_away_at_a_failover_is_told_when_it_is_back() {
    let mut lab = Lab::live(None);
    lab.say("freeze s2");
    lab.done(1, Ok(Happened::Plain));
    lab.msg(Msg::Observed(Observation::Node(name("s2"), Look::Unreachable("no answer".into()))));
    handed_to_s1(&mut lab, &[]);
    assert!(lab.said("s2 still follows p (it is frozen); it is told to follow s1 as soon as it answers"));
    assert_eq!(follows(&lab.msg(Msg::Tick)), [""; 0], "it doesn't hear yet");
    lab.say("thaw s2");
    let id = lab.model.next_op - 1;
    lab.msg(Msg::Observed(Observation::Node(name("s2"), Look::State(NodeState::Running))));
    assert_eq!(follows(&lab.msg(Msg::Tick)), [""; 0], "the last look is the one before it went");
    lab.see("s2", standby(90));
    assert_eq!(follows(&lab.msg(Msg::Tick)), [""; 0], "it is still being thawed");
    lab.done(id, Ok(Happened::Plain));
    assert_eq!(follows(&lab.msg(Msg::Tick)), ["s2 s1"]);
    assert!(lab.said("s2 is back and still follows p, which is no primary any more"));
    assert_eq!(follows(&lab.msg(Msg::Tick)), [""; 0], "once");
    // What a person says meanwhile holds.
    let mut lab = Lab::live(None);
    lab.say("kill s2");
    lab.done(1, Ok(Happened::Plain));
    handed_to_s1(&mut lab, &[]);
    lab.model.nodes[2].upstream = Some(name("s1"));
    lab.msg(Msg::Observed(Observation::Node(name("s2"), Look::State(NodeState::Running))));
    lab.see("s2", standby(90));
    assert_eq!(follows(&lab.msg(Msg::Tick)), [""; 0]);
    assert!(lab.model.astray.is_empty());
}

#[test]
fn two_promotions_off_one_timeline_are_two_timelines() {
    let mut lab = Lab::live(None);
    for (node, fork) in [("s1", 90), ("s2", 100)] {
        lab.say(&format!("promote {node}"));
        let promoted = Happened::Promoted { timeline: 2, fork: Some(Lsn(fork)), names: String::new() };
        lab.done(lab.model.next_op - 1, Ok(promoted));
        lab.see(node, Sample { timeline: 2, ..primary("", &[], 0) });
    }
    // A third one follows neither: it goes on from the first, whatever its number, and is promoted outside the lab.
    lab.see("p", standby(100));
    lab.see("p", Sample { timeline: 3, ..primary("", &[], 0) });
    let timelines = |t: &replab::model::handover::Timeline| (t.id, t.parent, t.fork, t.node.to_string());
    let all: Vec<_> = lab.model.timelines.iter().map(timelines).collect();
    let of = |id, parent, fork: Option<u64>, node: &str| (id, parent, fork.map(Lsn), node.to_owned());
    let (first, s1, s2) = (of(1, None, None, "p"), of(2, Some(1), Some(90), "s1"), of(2, Some(1), Some(100), "s2"));
    assert_eq!(all, [first, s1, s2, of(3, Some(1), None, "p")]);
}

#[test]
fn two_primaries_are_called_out_and_what_either_choice_costs() {
    let mut lab = Lab::live(None);
    assert_eq!(lab.model.split_brain_in_words(), None);
    lab.say("target p");
    lab.say("promote s1");
    let id = lab.model.next_op - 1;
    lab.done(id, Ok(Happened::Promoted { timeline: 2, fork: Some(Lsn(100)), names: String::new() }));
    lab.see("p", primary("", &[], 0));
    lab.see("p", primary("", &[], 0));
    let told = lab.model.journal.entries().filter(|e| e.text.contains("p is a primary too, beside s1")).count();
    assert_eq!(told, 1, "once");
    assert!(lab.model.split_brain_in_words().unwrap().contains("The writer writes to p; the other gets none"));
    lab.say("rejoin s1");
    assert!(lab.last_words().contains("s1 is the lab's primary, and p runs beside it"), "{}", lab.last_words());
    assert!(lab.last_words().contains("if p is, `fence s1` first"), "{}", lab.last_words());
    let range = |first, last| IdRange { client: 1, first, last };
    lab.msg(Msg::Tried(vec![range(1, 20)]));
    lab.msg(Msg::Wrote(vec![(range(1, 20), Ack::Acked)]));
    lab.say("verify");
    let rows = |ranges: &[(u64, u64)]| NodeReading::Rows {
        present: [(1, ranges.iter().copied().collect())].into(),
        system_identifier: 7,
        marker: Some("lab".into()),
    };
    let nodes = [(name("p"), rows(&[(1, 15)])), (name("s1"), rows(&[(1, 10), (16, 20)]))].into();
    lab.done(lab.model.next_op - 1, Ok(Happened::Verified(Reading { nodes })));
    let words = lab.last_words();
    assert!(
        words.contains("two primaries: if p wins, 5 acknowledged writes of s1 are lost; if s1 wins, 5 of p"),
        "{words}"
    );
    assert!(
        words.contains("only p has 5 rows of the writer (1: 11-15); only s1 has 5 rows of the writer (1: 16-20)"),
        "{words}"
    );
    for condition in ["only_on(p) = 5", "lost_if_it_loses(s1) = 5", "lost = 5"] {
        let condition: replab::model::condition::Condition = condition.parse().unwrap();
        assert!(condition.check(&lab.model).0, "{condition}");
    }
}

/// Of a node that was just started nothing is known: a former primary may come back as a standby.
#[test]
fn a_former_primary_is_no_rival_before_it_has_answered() {
    let mut lab = Lab::live(None);
    let state = |s| Msg::Observed(Observation::Node(name("p"), Look::State(s)));
    lab.say("kill p");
    lab.done(1, Ok(Happened::Plain));
    taken_over(&mut lab, "s1");
    lab.msg(state(NodeState::Running));
    assert_eq!((lab.model.rivals().count(), lab.model.faults()), (0, vec![]));
    lab.see("p", standby(100));
    assert_eq!(lab.model.rivals().count(), 0);
    lab.see("p", primary("", &[], 0));
    assert_eq!((lab.model.rivals().count(), lab.model.faults()), (1, vec![Fault::Rival(name("p"))]));
    assert!(lab.model.fault_log.iter().filter(|f| f.kind == "second-primary").count() == 1);
}

/// The elected one went down while the others were being told: it is the primary, and nobody followed it.
#[test]
fn a_failover_that_broke_off_tells_no_figures() {
    let mut lab = watched("ANY 1 (s1, s2)", "auto-failover on timeout 3s");
    dies(&mut lab);
    let id = lab.model.next_op - 1;
    asked_both(&mut lab, id, 100);
    lab.msg(Msg::Reached(OpId(id), Reached::Open(name("s1"))));
    lab.done(id, Err("the database system is shutting down".into()));
    lab.msg(Msg::FirstAck(name("s1")));
    assert!(lab.said("failover failed: the database system is shutting down"));
    assert!(!lab.said("first acknowledged write (detection") && !lab.said("the others followed"));
    assert_eq!(lab.model.primary, Some(name("s1")));
}

/// Colours tell a person what happened to the cluster, not whether the call went well.
#[test]
fn damage_is_no_good_news() {
    use replab::model::journal::Tone;
    let mut lab = Lab::live(None);
    for (order, tone) in [
        ("freeze s1", Tone::Warn),
        ("thaw s1", Tone::Good),
        ("replay pause s1", Tone::Warn),
        ("sync first 1 (s2)", Tone::Good),
        ("sync off", Tone::Plain),
        ("stop s2", Tone::Warn),
        ("start s2", Tone::Good),
        ("kill p", Tone::Warn),
    ] {
        let id =
            lab.say(order).iter().find_map(|e| if let Effect::Run(id, _) = e { Some(id.0) } else { None }).unwrap();
        let done = match order {
            "sync first 1 (s2)" => Happened::Rule { names: "FIRST 1 (s2)".into() },
            _ => Happened::Plain,
        };
        lab.done(id, Ok(done));
        let entry = lab.model.journal.entries().next_back().unwrap();
        assert_eq!(entry.tone, tone, "{order}: {}", entry.text);
    }
}

/// What was promised, and what became of it, is said of a loss that nothing promised to prevent.
#[test]
fn a_loss_of_asynchronous_commits_is_told_in_the_words_of_promises() {
    use replab::model::journal::Tone;
    for (rule, why) in [("", "asynchronous commits promise nothing"), ("FIRST 1 (s1)", "no rule promised to keep them")]
    {
        let mut lab = Lab::live(None);
        // A rule that was in force for a while, and isn't any more.
        for rule in [rule, ""] {
            lab.see("p", primary(rule, &[("s1", "async", 100), ("s2", "async", 100)], 0));
        }
        let range = IdRange { client: 1, first: 1, last: 10 };
        lab.msg(Msg::Tried(vec![range]));
        lab.msg(Msg::Wrote(vec![(range, Ack::Acked)]));
        lab.see_all("");
        assert_eq!(verdict(&mut lab, "p", &[(1, 3)]), "sound");
        let entry = lab.model.journal.entries().next_back().unwrap();
        let words = format!("No promise was broken: {why}; 7 acknowledged writes are lost");
        assert!(entry.text.starts_with(&words) && entry.tone == Tone::Warn, "{entry:?}");
    }
}

/// replab was stopped for 20 s, and all it carries stood still: that is told as its own, and blamed on nobody.
#[test]
fn when_replab_stood_still_no_node_is_to_blame() {
    let mut lab = Lab::live(None);
    lab.say("auto-failover on");
    lab.wait_ms(3_000);
    let probed = |lab: &mut Lab| {
        for (node, role) in [("p", Role::Primary), ("s1", Role::Standby), ("s2", Role::Standby)] {
            lab.msg(Msg::Probed(name(node), Probe::Answered { role, wal: Lsn(100), streams: true }));
        }
    };
    probed(&mut lab);
    lab.see_all("FIRST 1 (s1)");
    lab.wait_ms(50);
    let told = lab.model.journal.written();
    // What p says at the first looks after it: nothing came for 20 s, and a commit waited all that time; then s2 is gone.
    let silent = |age_us: i64, standbys: &[(&str, &str, u64)]| {
        let mut sample = primary("FIRST 1 (s1)", standbys, 1);
        sample.wal = Lsn(200);
        for row in &mut sample.senders {
            (row.write, row.reply_age_us) = (Some(Lsn(100)), Some(age_us));
        }
        sample
    };
    lab.at += 20_000_000;
    lab.msg(Msg::StoodStill(20_000));
    let both = [("s1", "sync", 100), ("s2", "potential", 100)];
    lab.see("p", silent(20_100_000, &both));
    assert!(lab.model.ladder().iter().all(|rung| matches!(rung.link, Link::Connected(_))), "{:?}", lab.model.ladder());
    lab.wait_ms(100);
    lab.see("p", silent(20_200_000, &both[..1]));
    for _ in 0..20 {
        probed(&mut lab);
        lab.wait_ms(100);
    }
    let said: Vec<&str> = lab.model.journal.since(told).map(|e| e.text.as_str()).collect();
    let own = "replab stood still for 20 s. Meanwhile it looked at no node";
    assert!(said.len() == 1 && said[0].starts_with(own), "{said:#?}");
    assert!(lab.model.handovers.is_empty() && lab.model.countdowns().is_empty());
    // What goes on being so is told.
    lab.wait_ms(2_000);
    lab.see("p", silent(24_300_000, &both[..1]));
    for part in ["s1 has not answered p", "s2 is not connected to p any more", "1 commit waits for"] {
        assert!(lab.said(part), "{part}");
    }
}

//! What is told of waits, rules and links belongs to the server where the clients are, and is no more than the lab knows: driven by
//! messages alone.

use replab::model::cluster::{
    Look, NodeSettings, NodeState, Observation, ReceiverRow, Role, Sample, SenderRow, WaitingCommit,
};
use replab::model::election::Answer;
use replab::model::ledger::Ids;
use replab::model::msg::{
    Act, Effect, Happened, InFlight, Msg, OpId, Opening, Origin, Outcome, Reached, SqlResult, Taken, Topology,
    WriterPlan, WriterPulse,
};
use replab::model::standing::Link;
use replab::model::{Lsn, Model, NodeName, Stamp, update};

fn name(text: &str) -> NodeName {
    text.parse().unwrap()
}

/// A lab driven by hand: time moves with each message.
struct Lab {
    model: Model,
    at: u64,
}

impl Lab {
    /// A primary and so many standbys that stream, all level; the heart has beaten for a while.
    fn live(standbys: u32) -> Self {
        let mut lab = Self { model: Model::default(), at: 0 };
        let opening = Opening {
            lab: "lab".into(),
            runtime: "fake".into(),
            source: String::new(),
            topology: Topology::primary_with(standbys),
            script: None,
            read_only: false,
            writer: WriterPlan::default(),
            disk_floor: 0,
        };
        lab.msg(Msg::Open(Box::new(opening)));
        let names: Vec<String> = lab.model.names().map(ToString::to_string).collect();
        for node in &names {
            lab.state(node, NodeState::Running);
        }
        let up = Happened::BroughtUp {
            ms: 500,
            postgres: "18.6".into(),
            system_identifier: 7,
            direct_links: None,
            no_freezer: None,
        };
        lab.done(0, Ok(up));
        lab.wait_ms(2_000);
        lab.see_all("", &[]);
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

    fn state(&mut self, node: &str, state: NodeState) {
        self.msg(Msg::Observed(Observation::Node(name(node), Look::State(state))));
    }

    fn say(&mut self, text: &str) -> Vec<Effect> {
        self.msg(Msg::Command(text.parse().unwrap(), Origin::You))
    }

    /// The last command's operation ends.
    fn ends(&mut self, happened: Happened) -> Vec<Effect> {
        self.done(self.model.next_op - 1, Ok(happened))
    }

    fn done(&mut self, id: u64, result: Result<Happened, String>) -> Vec<Effect> {
        self.msg(Msg::Done(OpId(id), Outcome { result, steps: Vec::new() }))
    }

    /// Says it, and it ends well.
    fn act(&mut self, text: &str) {
        let begun = self.model.next_op;
        self.say(text);
        assert!(self.model.next_op > begun, "{text}: {}", self.last_words());
        self.ends(Happened::Plain);
    }

    fn promote(&mut self, node: &str) {
        self.say(&format!("promote {node}"));
        self.ends(Happened::Promoted { timeline: 2, fork: Some(Lsn(100)), names: String::new() });
    }

    fn see(&mut self, node: &str, sample: Sample) {
        self.msg(Msg::Observed(Observation::Node(name(node), Look::Sample(Box::new(sample)))));
    }

    /// A look at each node: p with all its standbys level and this rule, but for those that last replied so many milliseconds ago.
    fn see_all(&mut self, rule: &str, silent: &[(&str, i64)]) {
        let standbys: Vec<String> = self.model.names().skip(1).map(ToString::to_string).collect();
        let word = if rule.starts_with("ANY") { "quorum" } else { "sync" };
        let rows = standbys.iter().map(|s| {
            let listed = rule.contains(s.as_str());
            let age = silent.iter().find(|(n, _)| n == s).map_or(1, |(_, ms)| *ms);
            row(s, if listed { word } else { "async" }, age)
        });
        let p = Sample { senders: rows.collect(), ..ruled(rule) };
        self.see("p", p);
        for standby in &standbys {
            self.see(standby, self::standby(100));
        }
    }

    /// p lists commits that have waited for so many milliseconds; its standbys as they were.
    fn waiting(&mut self, ages_ms: &[i64]) {
        let mut p = self.model.node(&name("p")).unwrap().sample.clone().unwrap();
        p.waiting = ages_ms
            .iter()
            .zip(1..)
            .map(|(ms, n)| WaitingCommit {
                pid: 4_000 + n,
                age_us: ms * 1_000,
                application: format!("replab writer {n}"),
                query: "INSERT".into(),
            })
            .collect();
        self.see("p", p);
    }

    /// The writer misses answers for so long.
    fn flights(&mut self, ages_ms: &[u64]) {
        let flight = |(ms, client): (&u64, u32)| InFlight { client, seq: 7, age_us: ms * 1_000 };
        let waiting = ages_ms.iter().zip(1..).map(flight).collect();
        self.msg(Msg::Pulse(WriterPulse { interval_us: 250_000, waiting, ..WriterPulse::default() }));
    }

    fn needs(&self) -> (String, bool) {
        let needs = self.model.needs();
        (needs.in_words(), needs.held)
    }

    fn link(&self, node: &str) -> Link {
        self.model.rung(self.model.node(&name(node)).unwrap()).link
    }

    fn value(&self, condition: &str) -> bool {
        condition.parse::<replab::model::condition::Condition>().unwrap().check(&self.model).0
    }

    fn last_words(&self) -> String {
        self.model.journal.entries().next_back().map(|e| e.text.clone()).unwrap_or_default()
    }

    fn times_said(&self, part: &str) -> usize {
        self.model.journal.entries().filter(|e| e.text.contains(part)).count()
    }

    fn said(&self, part: &str) -> bool {
        self.times_said(part) > 0
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
        limits: None,
        settings: NodeSettings {
            synchronous_commit: "on".into(),
            wal_sender_timeout_ms: 60_000,
            wal_receiver_timeout_ms: 60_000,
            wal_receiver_status_interval_ms: 10_000,
            ..NodeSettings::default()
        },
        took_us: 0,
    }
}

/// A primary with this rule, and nobody connected.
fn ruled(rule: &str) -> Sample {
    let mut sample = sample(Role::Primary, 100);
    rule.clone_into(&mut sample.settings.synchronous_standby_names);
    sample
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

fn row(name: &str, sync: &str, reply_age_ms: i64) -> SenderRow {
    let at = Some(Lsn(100));
    SenderRow {
        name: name.to_owned(),
        pid: 1,
        state: "streaming".into(),
        sync_state: sync.to_owned(),
        sent: at,
        write: at,
        flush: at,
        replay: at,
        write_lag_us: None,
        flush_lag_us: None,
        replay_lag_us: None,
        reply_age_us: Some(reply_age_ms * 1_000),
    }
}

/// The story: the clients stay on p under its rule, cut off from both standbys, and s1 is promoted over there.
fn two_primaries() -> Lab {
    let mut lab = Lab::live(2);
    lab.say("sync any 1 (s1, s2)");
    lab.ends(Happened::Rule { names: "ANY 1 (s1, s2)".into() });
    lab.say("target p");
    lab.act("cut p | s1 s2");
    lab.see_all("ANY 1 (s1, s2)", &[("s1", 700), ("s2", 700)]);
    lab.promote("s1");
    lab.see("s1", Sample { timeline: 2, ..ruled("") });
    let p = Sample { senders: vec![row("s1", "quorum", 3_000), row("s2", "quorum", 3_000)], ..ruled("ANY 1 (s1, s2)") };
    lab.see("p", p);
    lab.waiting(&[2_000, 2_000]);
    lab
}

#[test]
fn waits_rule_stream_and_countdown_are_those_of_the_server_where_the_clients_are() {
    let mut lab = two_primaries();
    lab.flights(&[2_100, 2_100]);
    assert_eq!((lab.model.primary.clone(), lab.model.serving()), (Some(name("s1")), Some(&name("p"))));
    assert!(lab.model.serves_beside_another());
    assert_eq!(lab.model.serving_rule_text(), Some("ANY 1 (s1, s2)"));
    let waits = lab.model.waits();
    assert_eq!(
        waits.iter().map(|w| (w.who.as_str(), w.listed)).collect::<Vec<_>>(),
        [("client 1", true), ("client 2", true)]
    );
    assert_eq!(lab.needs(), ("1 of s1, s2".to_owned(), true));
    let words = format!("{} {}", lab.model.split_brain_in_words().unwrap(), lab.model.rule_in_words());
    assert!(
        words.contains("On p: A commit returns when any 1 of s1, s2 has flushed it. No required standby answers now"),
        "{words}"
    );
    assert!(matches!(lab.link("s2"), Link::LastKnown { ms, .. } if ms >= 3_000), "{:?}", lab.link("s2"));
    let countdown = lab.model.gives_up_in().unwrap();
    assert_eq!((countdown.by, countdown.on), (name("p"), name("s2")));
    for condition in ["rule = ANY 1 (s1, s2)", "waiting = 2", "longest_wait >= 2s", "streaming = 0"] {
        assert!(lab.value(condition), "{condition}");
    }
    assert!(lab.said("2 commits wait for a synchronous standby (1 of s1, s2): done on p, not acknowledged"));
    // What the panel tells is what its keys act on.
    for (command, on) in [("cancel", "p"), ("sync off", "p")] {
        let effects = lab.say(command);
        assert!(format!("{effects:?}").contains(&format!("node: NodeName(\"{on}\")")), "{command}: {effects:?}");
        lab.ends(if command == "cancel" { Happened::Sessions(2) } else { Happened::Rule { names: String::new() } });
    }
    assert!(!lab.said("s2 streams from p") && !lab.said("no commit waits any more"));
    assert!(lab.value("rule = off"));
}

/// The heart beats for the new primary alone: across a cut the old one's rows are old all the same, however quiet it is.
#[test]
fn nobody_streams_across_a_cut() {
    let mut lab = two_primaries();
    for age in [4_000, 9_000, 30_000] {
        lab.wait_ms(5_000);
        lab.see("p", Sample { senders: vec![row("s2", "quorum", age)], ..ruled("ANY 1 (s1, s2)") });
        assert!(matches!(lab.link("s2"), Link::LastKnown { .. }), "{age}: {:?}", lab.link("s2"));
    }
    assert!(!lab.said("s2 streams from p"));
    lab.act("heal p s2");
    lab.see("p", Sample { senders: vec![row("s2", "quorum", 1)], ..ruled("ANY 1 (s1, s2)") });
    assert!(lab.said("s2 streams from p"));
}

/// A target that takes no writes has no commits: what is told is the primary's.
#[test]
fn a_standby_serves_nobody() {
    let mut lab = Lab::live(2);
    lab.see_all("FIRST 1 (s1)", &[]);
    lab.say("target s2");
    assert_eq!(lab.model.serving(), Some(&name("p")));
    assert!(!lab.model.serves_beside_another());
    assert!(lab.value("rule = FIRST 1 (s1)"));
}

#[test]
fn commits_that_the_clients_leave_on_another_server_are_told() {
    let mut lab = two_primaries();
    lab.say("target s1");
    assert!(lab.said("2 commits still wait on p; the writer moved on and won't learn what becomes of them"));
    assert_eq!(lab.model.serving(), Some(&name("s1")));
    assert!(lab.value("waiting = 0") && lab.value("rule = off"));
}

#[test]
fn a_commit_waits_for_those_whom_it_truly_needs() {
    let needs = |rule: &str, standbys, faults: &[&str], silent: &[(&str, i64)], gone: &[&str]| {
        let mut lab = Lab::live(standbys);
        lab.see_all(rule, &[]);
        for fault in faults {
            lab.act(fault);
        }
        lab.see_all(rule, silent);
        let mut p = lab.model.node(&name("p")).unwrap().sample.clone().unwrap();
        p.senders.retain(|r| !gone.contains(&r.name.as_str()));
        lab.see("p", p);
        lab.needs()
    };
    let told = |text: &str, held| (text.to_owned(), held);
    // s2 was just cut: p needs s1, which is well, and isn't stuck.
    assert_eq!(needs("ANY 1 (s1, s2)", 2, &["cut p s2"], &[], &[]), told("s1", false));
    assert_eq!(needs("ANY 1 (s1, s2)", 2, &["cut p s2"], &[("s2", 2_000)], &[]), told("s1", false));
    assert_eq!(needs("ANY 1 (s1, s2)", 2, &[], &[], &[]), told("1 of s1, s2", false));
    assert_eq!(needs("ANY 2 (s1, s2)", 2, &["cut p s2"], &[], &[]), told("s2", true));
    assert_eq!(needs("ANY 2 (s1, s2, s3)", 3, &["cut p | s2 s3"], &[], &[]), told("1 of s2, s3", true));
    assert_eq!(needs("ANY 2 (s1, s2, s3)", 3, &["cut p s3"], &[], &["s2"]), told("1 of s2, s3", true));
    // A rule that names the server itself never waits for it.
    assert_eq!(needs("ANY 1 (p, s1, s2)", 2, &["cut p s1"], &[], &["s2"]), told("1 of s1, s2", true));
    assert_eq!(needs("FIRST 1 (s1)", 2, &["cut p s1"], &[], &[]), told("s1", true));
    assert_eq!(needs("FIRST 1 (s1)", 2, &[], &[], &["s1"]), told("s1", true));
    assert_eq!(needs("FIRST 1 (s1)", 2, &[], &[], &[]), told("s1", false));
    assert_eq!(needs("FIRST 2 (s1, s2)", 2, &["cut p s1"], &[], &["s2"]), told("s1 and s2", true));
    assert_eq!(needs("FIRST 2 (s1, s2, s3)", 3, &["cut p s1"], &[], &["s2", "s3"]), told("s1 and 1 of s2, s3", true));
    assert_eq!(needs("", 2, &["cut p s1"], &[], &[]), told("", false));
}

/// At 100 writes a second some commit is always on its way, and none waits.
#[test]
fn a_wait_is_shown_when_it_is_long_or_held() {
    let mut lab = Lab::live(2);
    lab.see_all("ANY 1 (s1, s2)", &[]);
    for age in [1, 80, 499] {
        lab.waiting(&[age]);
        lab.flights(&[u64::try_from(age).unwrap()]);
        lab.wait_ms(200);
        assert_eq!((lab.model.waits(), lab.model.waiting().len()), (vec![], 1), "{age}");
    }
    lab.waiting(&[700, 20]);
    assert_eq!(lab.model.waits().len(), 1, "the one that is long");
    assert!(
        lab.last_words().contains("1 commit waits for a synchronous standby (1 of s1, s2)"),
        "{}",
        lab.last_words()
    );
    lab.waiting(&[20]);
    assert_eq!(lab.last_words(), "no commit waits any more", "one is always on its way");
    // Held by a fault: there is nothing to be waited for before it is told.
    lab.act("cut p | s1 s2");
    lab.waiting(&[20]);
    assert_eq!(lab.model.waits().len(), 1);
    assert!(
        lab.last_words().contains("1 commit waits for a synchronous standby (1 of s1, s2)"),
        "{}",
        lab.last_words()
    );
}

/// Its clients have lost it: whatever becomes of their commits, they wait for nobody.
#[test]
fn nobody_waits_on_a_server_that_is_down() {
    let mut lab = Lab::live(2);
    lab.see_all("ANY 1 (s1, s2)", &[]);
    lab.act("cut p | s1 s2");
    lab.waiting(&[900, 900]);
    assert_eq!(lab.model.waits().len(), 2);
    lab.act("kill p");
    lab.wait_ms(3_000);
    assert_eq!(lab.model.waits(), vec![]);
}

/// What the writer alone knows of: the server's answers can't come.
#[test]
fn an_answer_that_is_missed_is_a_wait_when_it_is_long_or_the_way_is_cut() {
    let mut lab = Lab::live(2);
    lab.flights(&[120]);
    assert_eq!(lab.model.waits(), []);
    lab.flights(&[620]);
    assert_eq!(lab.model.waits().len(), 1);
    lab.flights(&[120]);
    lab.act("cut client p");
    assert_eq!(lab.model.waits().iter().map(|w| (w.who.as_str(), w.listed)).collect::<Vec<_>>(), [("client 1", false)]);
}

/// How far a dead server was isn't known: what its standbys lack of it isn't either.
#[test]
fn nobody_is_level_with_a_dead_primary() {
    let mut lab = Lab::live(2);
    lab.act("kill p");
    let behind = |lab: &Lab| lab.model.ladder().into_iter().map(|r| (r.behind, r.lag_us, r.idle)).collect::<Vec<_>>();
    assert_eq!(behind(&lab), [(None, None, false); 2]);
    lab.wait_ms(500);
    for node in ["s1", "s2"] {
        lab.see(node, sample(Role::Standby, 100));
    }
    assert_eq!((lab.link("s1"), behind(&lab)), (Link::Disconnected, vec![(None, None, false); 2]));
    assert!(!lab.value("replay_lag(s1) = 0") && !lab.value("replay_lag(s1) > 0"));
}

#[test]
fn standbys_follow_where_there_are_any() {
    let mut lab = Lab::live(1);
    assert!(lab.model.rule_in_words().contains("Standbys follow later"));
    lab.see("p", ruled(""));
    let words = lab.model.rule_in_words();
    assert!(words.contains("No standby is connected") && !words.contains("follow"), "{words}");
}

/// What the other side knows is claimed only where the news can reach it.
#[test]
fn nobody_is_said_to_know_what_no_news_can_have_told() {
    let told = |acts: &[&str]| {
        let mut lab = Lab::live(2);
        for act in acts {
            lab.act(act);
        }
        lab.last_words()
    };
    for (acts, words) in [
        (&["kill s1"][..], "s1 is killed: its connections closed at once, so p knows"),
        (
            &["cut p s1", "kill s1"],
            "s1 is killed: behind the cut p isn't told, and goes on counting it as connected until wal_sender_timeout",
        ),
        (
            &["cut s1 -> p", "kill s1"],
            "s1 is killed: behind the cut p isn't told, and goes on counting it as connected until wal_sender_timeout",
        ),
        // What comes from s1 still passes.
        (&["cut p -> s1", "kill s1"], "s1 is killed: its connections closed at once, so p knows"),
        (&["slow p s1 80ms", "kill s1"], "s1 is killed: its connections closed at once, and p hears of it 80ms later"),
        (&["freeze p", "kill s1"], "s1 is killed: p is frozen and learns of it when it is thawed"),
        (&["kill p", "kill s1"], "s1 is killed"),
        (&["stop s1"], "s1 is shut down cleanly"),
        (&["stop p"], "p is shut down cleanly: it sent all that it had to s1, s2"),
        (&["cut p s1", "stop p"], "p is shut down cleanly: it sent all that it had to s2; it may not have come to s1"),
        (&["cut p | s1 s2", "stop p"], "p is shut down cleanly: what it had last may not have come to s1, s2"),
        (&["kill p"], "p is killed: no server accepts writes until p is started or a standby is promoted"),
        (&["cut p -> s1"], "the way from p to s1 is cut, silently: s1 hears nothing from p, and p still hears s1"),
        (&["cut s1 -> p", "cut p -> s1"], "the way from p to s1 is cut, silently: neither side is told"),
        (&["freeze p", "cut p -> s1"], "the way from p to s1 is cut, silently: s1 hears nothing from p"),
        (
            &["refuse s1 -> p"],
            "connections are refused on the way from s1 to p: open ones are reset, so both sides know at once",
        ),
        (
            &["cut p s1", "refuse s1 -> p"],
            "connections are refused on the way from s1 to p; behind the cut nobody is told until it is healed",
        ),
        (
            &["freeze s1", "refuse s1 -> p"],
            "connections are refused on the way from s1 to p: open ones are reset; s1 is frozen and learns of it later",
        ),
        (
            &["cut p s1", "slow p s1 80ms"],
            "everything on the link between p and s1 comes 80ms later, each way, once the cut is healed",
        ),
    ] {
        assert_eq!(told(acts), words, "{acts:?}");
    }
}

/// The upstream gave up; the standby, behind the cut, goes on believing.
#[test]
fn a_standby_that_was_given_up_behind_a_cut_is_not_said_to_know() {
    let mut lab = Lab::live(2);
    lab.act("cut p s1");
    lab.see_all("", &[("s1", 5_000)]);
    lab.see("p", Sample { senders: vec![row("s2", "async", 1)], ..ruled("") });
    assert_eq!(lab.last_words(), "p gave up on s1 and closed the connection; behind the cut s1 isn't told");
}

#[test]
fn a_primary_that_is_killed_beside_another_leaves_one_that_accepts_writes() {
    let mut lab = two_primaries();
    lab.act("kill s1");
    assert_eq!(lab.last_words(), "s1 is killed; p still accepts writes");
}

/// Whether a crash was to be expected is a matter of what the commands under way do, not of how their text ends.
#[test]
fn a_crash_is_expected_only_where_a_command_ends_that_node() {
    let crash = |command: &str, node: &str| {
        let mut lab = Lab::live(3);
        lab.say(command);
        lab.state(node, NodeState::Exited(Some(2)));
        lab.said(&format!("{node} went down by itself (exit code 2)"))
    };
    for (command, node, told) in [
        ("kill p", "p", false),
        ("stop s1", "s1", false),
        ("reset", "s2", false),
        ("switchover s1", "p", false),
        ("remove s3", "s3", false),
        ("add s4 from s1", "s1", true),
        ("sql p SELECT 1 AS p", "p", true),
        ("sql s1 SELECT 'a backup'", "p", true),
        ("follow s2 s1", "s1", true),
        ("follow s2 s1", "s2", true),
        ("kill s1", "s2", true),
        ("switchover s1", "s1", true),
        ("switchover s1", "s2", true),
        ("freeze s1", "s1", true),
        ("cut p s1", "s1", true),
        ("verify", "p", true),
    ] {
        assert_eq!(crash(command, node), told, "{command}: {node}");
    }
}

/// p hands over to s1 and follows it, by what the operation itself tells; no look has come since.
fn handed_over() -> Lab {
    let mut lab = Lab::live(2);
    lab.say("switchover s1");
    let id = lab.model.next_op - 1;
    lab.msg(Msg::Reached(OpId(id), Reached::Open(name("s1"))));
    let followed = vec![name("s2"), name("p")];
    let taken = Taken { timeline: 2, fork: Some(Lsn(100)), names: String::new(), missed: vec![], followed };
    lab.done(id, Ok(Happened::HandedOver(taken)));
    lab
}

fn runs(effects: &[Effect], what: fn(&Act) -> bool) -> bool {
    effects.iter().any(|e| matches!(e, Effect::Run(_, act) if what(act)))
}

/// What was known of p and s1 is older than the handover: the way back waits for a look at both.
#[test]
fn a_switchover_back_at_once_waits_for_the_look() {
    let mut lab = handed_over();
    let begun = lab.model.next_op;
    assert_eq!(lab.say("switchover p"), [], "{}", lab.last_words());
    assert!(lab.model.ops.get(&OpId(begun)).is_some_and(|op| op.put_off), "{}", lab.last_words());
    lab.see("p", Sample { timeline: 2, ..standby(100) });
    assert!(lab.model.ops.contains_key(&OpId(begun)));
    let s1 = Sample { timeline: 2, senders: vec![row("s2", "async", 1), row("p", "async", 1)], ..ruled("") };
    let effects = lab.msg(Msg::Observed(Observation::Node(name("s1"), Look::Sample(Box::new(s1)))));
    assert!(
        runs(
            &effects,
            |act| matches!(act, Act::Switchover { old, node, .. } if old.as_str() == "s1" && node.as_str() == "p")
        ),
        "{effects:?}"
    );
    assert!(!lab.model.ops[&OpId(begun)].put_off);
    assert!(!lab.said("is a primary already") && !lab.said("doesn't stream from"));
}

/// A look that doesn't come isn't waited for without end, and what it would have to show is said.
#[test]
fn a_look_that_does_not_come_is_waited_for_two_seconds() {
    let mut lab = handed_over();
    let begun = lab.model.next_op;
    lab.say("switchover p");
    lab.wait_ms(1_900);
    assert!(lab.model.ops.contains_key(&OpId(begun)));
    lab.wait_ms(200);
    assert!(lab.model.ops.is_empty());
    assert_eq!(lab.last_words(), "switchover p: p doesn't stream from s1, so it can't get everything");
    assert!(lab.model.ended[&OpId(begun)].is_some());
}

/// What a person's SQL did is seen by a look only.
#[test]
fn what_sql_did_is_looked_at_before_anything_is_refused_for_it() {
    let mut lab = Lab::live(2);
    lab.say("sql s1 SELECT pg_wal_replay_pause()");
    lab.ends(Happened::Sql(SqlResult::default()));
    assert_eq!(lab.say("replay resume s1"), []);
    let paused = Sample { replay_paused: true, ..standby(100) };
    let effects = lab.msg(Msg::Observed(Observation::Node(name("s1"), Look::Sample(Box::new(paused)))));
    assert!(runs(&effects, |act| matches!(act, Act::Replay { pause: false, .. })), "{effects:?}");
}

/// A node that just came back isn't brought back again because of what it was before.
#[test]
fn a_node_that_just_came_back_does_not_come_back_twice() {
    let mut lab = Lab::live(2);
    lab.act("kill p");
    lab.promote("s1");
    lab.see("s1", Sample { timeline: 2, ..ruled("") });
    lab.say("rejoin p");
    let back = replab::model::msg::Rejoined {
        road: replab::model::msg::Road::Straight,
        detour: None,
        source: name("s1"),
        fork: None,
        end: None,
        only: Ok(Ids::new()),
    };
    lab.ends(Happened::Rejoined(back));
    assert_eq!(lab.say("rejoin p"), []);
    lab.see("p", Sample { timeline: 2, ..standby(100) });
    let s1 = Sample { timeline: 2, senders: vec![row("p", "async", 1)], ..ruled("") };
    lab.see("s1", s1);
    assert_eq!(lab.last_words(), "rejoin p: p is a healthy standby: it streams from s1");
}

/// Nobody streams across a cut: a failover by hand needs no look to know.
#[test]
fn a_failover_right_after_the_cut_is_not_refused_for_what_was_before() {
    let mut lab = Lab::live(2);
    assert!(lab.say("failover").is_empty() && lab.last_words().contains("p answers and s1 streams from it"));
    lab.act("cut p | s1 s2");
    assert!(runs(&lab.say("failover"), |act| matches!(act, Act::Canvass { .. })), "{}", lab.last_words());
}

/// `heal` right after the act that it undoes.
#[test]
fn what_was_just_paused_is_healed() {
    let mut lab = Lab::live(2);
    lab.act("replay pause s1");
    assert!(runs(&lab.say("heal"), |act| matches!(act, Act::Replay { pause: false, .. })), "{}", lab.last_words());
}

/// "The others followed" is said where there are others.
#[test]
fn nobody_follows_where_there_is_nobody_else() {
    for (others, said) in [(&[][..], false), (&["s2"][..], true)] {
        let mut lab = Lab::live(1 + u32::try_from(others.len()).unwrap());
        lab.act("kill p");
        lab.say("failover");
        let id = lab.model.next_op - 1;
        let answers = ["s1", "s2"][..=others.len()].iter();
        let answers = answers.map(|n| Answer { node: name(n), timeline: 1, wal: Lsn(100) }).collect();
        lab.done(id, Ok(Happened::Canvassed(answers)));
        lab.msg(Msg::Reached(OpId(id), Reached::Open(name("s1"))));
        lab.msg(Msg::Reached(OpId(id), Reached::Followed));
        lab.msg(Msg::FirstAck(name("s1")));
        let followed = others.iter().map(|n| name(n)).collect();
        let taken = Taken { timeline: 2, fork: Some(Lsn(100)), names: String::new(), missed: vec![], followed };
        lab.done(id, Ok(Happened::HandedOver(taken)));
        assert_eq!(lab.times_said("to the first acknowledged write"), 1, "{}", lab.last_words());
        assert_eq!(lab.said("the others followed"), said, "{others:?}");
        assert_eq!(lab.model.handovers[0].split().repoint_ms.is_some(), said);
    }
}

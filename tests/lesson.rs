//! A lesson as it plays, driven by messages alone: questions, hints, going back, chapters, SQL and its sessions.

use replab::model::cluster::{Look, NodeState, Observation};
use replab::model::msg::{
    Act, Effect, Happened, Msg, OpId, Opening, Origin, Outcome, Playback, SqlResult, Standing, Topology, WriterPlan,
};
use replab::model::script::{Progress, Script};
use replab::model::{Model, NodeName, Stamp, update};

/// A lab driven by hand: time moves with each message, and what is to be done is kept.
struct Lab {
    model: Model,
    at: u64,
    acts: Vec<(OpId, Act)>,
    closed: bool,
    /// All that came in, as a recording has it.
    told: Vec<(Stamp, Msg)>,
}

fn name(text: &str) -> NodeName {
    text.parse().unwrap()
}

impl Lab {
    fn live(steps: &str, by_hand: bool) -> Self {
        let text = format!("title = \"T\"\nsummary = \"S\"\n{steps}");
        let script = replab::scenario::parse("test", &text).unwrap_or_else(|e| panic!("{e}")).script;
        let opening = Opening {
            lab: "lab".into(),
            runtime: "fake".into(),
            source: String::new(),
            topology: Topology::primary_with(1),
            script: Some(Script { by_hand, ..script }),
            read_only: false,
            writer: WriterPlan::default(),
            disk_floor: 0,
        };
        let mut lab = Self { model: Model::default(), at: 0, acts: Vec::new(), closed: false, told: Vec::new() };
        lab.msg(Msg::Open(Box::new(opening)));
        lab.acts.clear();
        lab.up(0);
        lab
    }

    /// The nodes run, and bring-up or a reset with that number is done.
    fn up(&mut self, id: u64) {
        for node in ["p", "s1"] {
            self.msg(Msg::Observed(Observation::Node(name(node), Look::State(NodeState::Running))));
        }
        let up = Happened::BroughtUp {
            ms: 500,
            postgres: "18.6".into(),
            system_identifier: 7,
            direct_links: None,
            no_freezer: None,
        };
        self.done(OpId(id), Ok(up));
    }

    /// The reset that was asked for last is done.
    fn is_reset(&mut self) {
        let (id, act) = self.acts.pop().expect("a reset under way");
        assert!(matches!(act, Act::Reset(_)), "{act:?}");
        self.up(id.0);
    }

    /// Somebody else froze a node.
    fn frozen(&mut self, node: &str) {
        self.msg(Msg::Observed(Observation::Node(name(node), Look::State(NodeState::Frozen))));
    }

    fn msg(&mut self, msg: Msg) {
        self.at += 1_000;
        self.told.push((Stamp(self.at), msg.clone()));
        for effect in update(&mut self.model, Stamp(self.at), msg) {
            match effect {
                Effect::Run(id, act) => self.acts.push((id, act)),
                Effect::CloseSql => self.closed = true,
                _ => {}
            }
        }
    }

    fn wait_ms(&mut self, ms: u64) {
        self.at += ms * 1_000;
        self.msg(Msg::Tick);
    }

    fn key(&mut self, key: Playback) {
        self.msg(Msg::Play(key));
    }

    fn done(&mut self, id: OpId, result: Result<Happened, String>) {
        self.msg(Msg::Done(id, Outcome { result, steps: Vec::new() }));
    }

    /// The last act asked for is an SQL act; it is answered.
    fn answer(&mut self, result: SqlResult) -> Act {
        let (id, act) = self.acts.pop().expect("an act under way");
        assert!(matches!(act, Act::Sql { .. }), "{act:?}");
        self.done(id, Ok(Happened::Sql(result)));
        act
    }

    fn script(&self) -> &Script {
        self.model.script.as_ref().unwrap()
    }

    fn details(&self) -> Vec<&str> {
        self.script().results.iter().map(|r| r.detail.as_str()).collect()
    }
}

fn rows(values: &[&str]) -> SqlResult {
    SqlResult {
        columns: vec!["x".into()],
        rows: values.iter().map(|v| vec![Some((*v).to_owned())]).collect(),
        tag: format!("SELECT {}", values.len()),
        ..SqlResult::default()
    }
}

const QUESTION: &str = r#"
[[step]]
chapter = "First"
say = "One"
[[step]]
ask = "Which?"
choices = ["this", "that"]
answer = 2
why = "So."
hint = ["mild", "strong"]
[[step]]
do = "pause"
[[step]]
chapter = "Second"
say = "Two"
"#;

#[test]
fn a_question_waits_for_its_answer_and_is_told_before_the_next_text() {
    let mut lab = Lab::live(QUESTION, true);
    assert!(matches!(lab.script().progress, Progress::Reading(_)));
    lab.key(Playback::Next);
    assert!(matches!(lab.script().progress, Progress::Asking(_)));
    for _ in 0..3 {
        lab.key(Playback::Hint);
    }
    assert_eq!((lab.script().hints, lab.script().hints_taken), (2, 2), "there are but two hints");
    lab.key(Playback::Next);
    lab.key(Playback::Answer(7));
    assert!(matches!(lab.script().progress, Progress::Asking(_)), "neither Space nor a wrong digit answers");
    lab.key(Playback::Answer(0));
    assert!(lab.model.writer.plan.paused, "what follows is done at once");
    assert_eq!(lab.script().step().unwrap().word(), "reveal");
    assert_eq!(lab.script().score(), (0, 0), "not told yet");
    lab.key(Playback::Next);
    assert_eq!(lab.script().score(), (0, 1));
    assert_eq!(lab.details()[3], "Not quite. The answer is: that");
    assert_eq!(lab.script().chapter_of(lab.script().at), Some((2, "Second")));
    lab.key(Playback::Next);
    assert!(lab.script().over());
}

#[test]
fn played_by_itself_a_question_stops_nobody() {
    let lab = Lab::live(QUESTION, false);
    assert!(lab.script().over());
    assert_eq!(lab.details(), ["", "2 choices", "", "The answer is: that", ""]);
    assert_eq!((lab.script().tally(), lab.script().score()), ((0, 0), (0, 0)));
}

#[test]
fn one_can_go_back_to_read_and_on_again() {
    let mut lab = Lab::live(QUESTION, true);
    lab.key(Playback::Back);
    assert_eq!(lab.script().reread, None, "there is nothing before the first text");
    lab.key(Playback::Next);
    lab.key(Playback::Answer(1));
    lab.key(Playback::Back);
    lab.key(Playback::Back);
    assert_eq!((lab.script().reread, lab.script().at), (Some(0), 3), "the lesson itself stays where it is");
    lab.key(Playback::Next);
    assert_eq!(lab.script().reread, Some(1));
    lab.key(Playback::Next);
    assert_eq!((lab.script().reread, lab.script().at), (None, 3));
    lab.key(Playback::Next);
    assert_eq!(lab.script().at, 4);
}

#[test]
fn a_jump_resets_the_lab_and_does_everything_before_without_reading() {
    let mut lab = Lab::live(QUESTION, true);
    lab.key(Playback::Jump(1));
    let (id, act) = lab.acts.pop().unwrap();
    assert!(matches!(act, Act::Reset(_)));
    lab.wait_ms(100);
    assert_eq!(lab.script().at, 0, "nothing is done before the reset is");
    lab.up(id.0);
    assert_eq!(lab.script().at, 4, "the text of the chapter, on the screen");
    assert!(matches!(lab.script().progress, Progress::Reading(_)) && lab.script().jump.is_none());
    assert!(lab.model.writer.plan.paused, "what the steps before do is done");
    lab.key(Playback::Restart);
    lab.is_reset();
    assert!(lab.script().at == 0 && matches!(lab.script().progress, Progress::Reading(_)));
    assert!(!lab.model.writer.plan.paused);
}

const CHAPTERS: &str = r#"
[[step]]
say = "Before"
[[step]]
chapter = "One"
do = "clients 2"
[[step]]
say = "1"
[[step]]
say = "more of 1"
[[step]]
chapter = "Two"
say = "2"
[[step]]
chapter = "Three"
say = "3"
"#;

#[test]
fn jumps_are_counted_from_where_the_lesson_is_being_taken() {
    let mut lab = Lab::live(CHAPTERS, true);
    assert_eq!((lab.script().chapter_back(), lab.script().chapter_on()), (0, Some(1)));
    lab.key(Playback::Jump(0));
    let (id, act) = lab.acts.pop().unwrap();
    assert!(matches!(act, Act::Reset(_)));
    // The keys again and again, before the reset is done: one reset serves them all.
    assert_eq!((lab.script().chapter_back(), lab.script().chapter_on()), (0, Some(4)));
    lab.key(Playback::Jump(1));
    lab.key(Playback::Jump(2));
    assert_eq!((lab.script().chapter_back(), lab.script().chapter_on()), (4, None));
    lab.wait_ms(100);
    assert!(lab.acts.is_empty() && !lab.script().over(), "nothing more is asked for, and the lesson lives");
    lab.up(id.0);
    assert_eq!((lab.script().at, lab.script().jump.is_none()), (5, true));
    assert!(lab.script().skipped, "what was jumped over was not played");
    lab.key(Playback::Restart);
    lab.is_reset();
    assert!(!lab.script().skipped && lab.script().at == 0);
}

#[test]
fn back_and_on_again_over_what_was_played_skips_nothing_and_keeps_the_answers() {
    let mut lab = Lab::live(QUESTION, true);
    lab.key(Playback::Next);
    lab.key(Playback::Answer(1));
    lab.key(Playback::Next);
    assert_eq!(lab.script().at, 4);
    for chapter in [0, 1] {
        lab.key(Playback::Jump(chapter));
        lab.is_reset();
    }
    lab.key(Playback::Next);
    assert!(lab.script().over() && !lab.script().skipped);
    assert_eq!(lab.script().score(), (1, 1));
    lab.key(Playback::Restart);
    lab.is_reset();
    assert!(lab.script().answers.is_empty());
}

/// A step that can't be done ends the lesson there, not at its last step: jumps are counted from it, and nothing after it was played.
#[test]
fn a_lesson_that_broke_off_is_where_it_broke() {
    let steps = CHAPTERS.replace("do = \"clients 2\"", "do = \"freeze s1\"");
    let mut lab = Lab::live(&steps, true);
    lab.frozen("s1");
    lab.key(Playback::Next);
    assert!(lab.script().over() && lab.script().results.len() == 2, "{:?}", lab.script().results);
    assert_eq!((lab.script().chapter_back(), lab.script().chapter_on()), (0, Some(4)));
    lab.key(Playback::Jump(2));
    assert!(lab.script().skipped, "chapters that were never come to");
}

/// What a lesson says after an act that failed is not so: it stops there, says so, and shows none of it, be it read on or back.
#[test]
fn a_lesson_whose_act_failed_stops_and_says_so() {
    let steps = QUESTION.replace("do = \"pause\"", "do = \"freeze s1\"");
    let mut lab = Lab::live(&steps, true);
    lab.key(Playback::Next);
    lab.frozen("s1");
    lab.key(Playback::Answer(1));
    let script = lab.script();
    assert!(script.over() && !script.results[2].ok, "{:?}", script.results);
    assert_eq!((script.stopped_at(), script.text_at(), script.here()), (Some(2), Some(1), 2));
    assert_eq!(script.chapter_of(script.stands_at()), Some((1, "First")));
    assert_eq!(script.tally(), (0, 1), "what failed counts");
    let said: Vec<String> = lab.model.journal.entries().map(|e| e.text.clone()).collect();
    assert_eq!(said.last().unwrap(), "the lesson stops here, at step 3 of 5: what it has left to tell is not so");
    let notes = replab::ui::notes::Notes::of(&lab.model).unwrap();
    assert_eq!((notes.step, notes.state.as_str(), &notes.next, &notes.coming), (3, "stopped: it failed", &None, &None));
    lab.key(Playback::Back);
    lab.key(Playback::Back);
    assert_eq!(lab.script().text_at(), Some(0));
    for _ in 0..4 {
        lab.key(Playback::Next);
    }
    assert_eq!(lab.script().text_at(), Some(1), "the texts after it are not come to");
    assert!(!replab::report::Report::of(&lab.model).good(), "the exit code is 1");
}

#[test]
fn a_jump_waits_for_a_reset_that_is_not_its_own() {
    let mut lab = Lab::live(CHAPTERS, true);
    lab.key(Playback::Jump(2));
    lab.is_reset();
    assert_eq!(lab.script().at, 5);
    lab.key(Playback::Jump(1));
    let (own, _) = lab.acts.pop().unwrap();
    lab.up(own.0);
    lab.msg(Msg::Command("reset".parse().unwrap(), Origin::Outside(1)));
    let (other, _) = lab.acts.pop().unwrap();
    lab.key(Playback::Jump(0));
    lab.wait_ms(100);
    assert!(lab.acts.is_empty() && !lab.script().over(), "neither acts nor gives up");
    lab.up(other.0);
    lab.wait_ms(100);
    let (id, act) = lab.acts.pop().expect("its own reset");
    assert!(matches!(act, Act::Reset(_)));
    lab.up(id.0);
    assert_eq!(lab.script().at, 2);
}

#[test]
fn sql_that_is_asked_again_and_again_goes_on_at_once_when_one_comes_back() {
    let wish = "[[step]]\nsql = \"SELECT 1\"\non = \"p\"\nvalue = 2\nwithin = \"20s\"\n";
    let mut lab = Lab::live(wish, true);
    for _ in 0..20 {
        lab.answer(rows(&["1"]));
        lab.wait_ms(300);
    }
    lab.answer(rows(&["1"]));
    lab.key(Playback::Leave);
    lab.wait_ms(60_000);
    lab.key(Playback::Return);
    lab.wait_ms(50);
    lab.answer(rows(&["2"]));
    assert!(lab.script().over() && lab.script().results[0].ok);
}

#[test]
fn a_last_answer_that_is_late_hides_none_before_it() {
    let wish = "[[step]]\nsql = \"SELECT 1\"\non = \"p\"\nvalue = 2\nwithin = \"1s\"\n[[step]]\npause = \"1s\"\n";
    let mut lab = Lab::live(wish, false);
    lab.answer(rows(&["1"]));
    lab.wait_ms(300);
    assert_eq!(lab.acts.len(), 1, "asked once more");
    lab.wait_ms(800);
    assert!(lab.details()[0].starts_with("rows 1, where 2 was expected after 11"), "{:?}", lab.details());
    assert!(!lab.script().over(), "what was only looked at ends nothing");
    let mut lab = Lab::live(wish, false);
    lab.wait_ms(1_100);
    assert!(lab.details()[0].contains("no answer") && lab.script().over(), "{:?}", lab.details());
    lab.acts.clear();
}

#[test]
fn back_goes_to_the_beginning_of_a_chapter_and_from_there_to_the_one_before() {
    let mut lab = Lab::live(CHAPTERS, true);
    lab.key(Playback::Next);
    assert_eq!((lab.script().at, lab.script().chapter_back()), (2, 0), "at the first text of One");
    lab.key(Playback::Next);
    assert_eq!((lab.script().at, lab.script().chapter_back()), (3, 1), "further into One");
    lab.key(Playback::Next);
    assert_eq!((lab.script().at, lab.script().chapter_back()), (4, 1), "at the beginning of Two");
    lab.key(Playback::Next);
    lab.key(Playback::Next);
    assert!(lab.script().over() && !lab.script().skipped);
    assert_eq!(lab.script().chapter_back(), 5);
}

#[test]
fn a_reset_of_the_persons_own_is_waited_for() {
    let mut lab = Lab::live(CHAPTERS, true);
    lab.msg(Msg::Command("reset".parse().unwrap(), Origin::You));
    let (own, _) = lab.acts.pop().unwrap();
    lab.key(Playback::Jump(1));
    lab.wait_ms(100);
    assert!(lab.acts.is_empty() && !lab.script().over());
    lab.up(own.0);
    lab.wait_ms(100);
    let (id, act) = lab.acts.pop().expect("the lesson's own reset");
    assert!(matches!(act, Act::Reset(_)));
    lab.up(id.0);
    assert_eq!(lab.script().at, 4);
}

#[test]
fn a_lesson_that_was_left_is_come_back_to_where_it_was() {
    let steps = "[[step]]\nsql = \"BEGIN\"\non = \"p\"\nsession = \"a\"\n[[step]]\nsay = \"One\"\n\
                 [[step]]\nwait = \"tried >= 5\"\nwithin = \"5s\"\n[[step]]\nsay = \"Two\"\n";
    let mut lab = Lab::live(steps, true);
    lab.answer(SqlResult { standing: Standing::InTransaction, ..SqlResult::default() });
    lab.key(Playback::Next);
    assert_eq!(lab.script().at, 2);
    lab.key(Playback::Leave);
    assert!(lab.model.script.is_none() && !lab.closed, "its sessions stay open");
    lab.wait_ms(60_000);
    lab.key(Playback::Return);
    assert_eq!(lab.script().at, 2, "what it waits for has its whole time again");
    lab.wait_ms(4_000);
    assert!(lab.script().at == 2 && lab.model.sessions[&name("a")].word() == "in_transaction");
    lab.wait_ms(2_000);
    assert!(lab.script().over() && !lab.script().results[2].ok);
    lab.key(Playback::Leave);
    lab.key(Playback::Return);
    assert!(lab.script().over(), "one that is over can be read once more");
}

#[test]
fn sql_that_was_to_be_refused_and_ran_fails() {
    let steps = "[[step]]\nsql = \"SELECT 1\"\non = \"p\"\nrefused = \"read-only\"\n[[step]]\npause = \"1s\"\n";
    let mut lab = Lab::live(steps, false);
    lab.answer(rows(&["1"]));
    let result = &lab.script().results[0];
    assert!(!result.ok && result.detail.contains("nothing was refused"), "{result:?}");
    assert!(lab.script().over());
    let steps = steps.replace("on = \"p\"", "on = \"p\"\nsession = \"a\"\nbackground = true");
    let lab = Lab::live(&steps, false);
    assert!(lab.script().over() && !lab.script().results[0].ok);
    let steps = steps.replace("on = \"p\"", "on = \"s9\"").replace("read-only", "no node s9");
    let lab = Lab::live(&steps, false);
    assert!(lab.script().results[0].ok, "{:?}", lab.script().results);
}

#[test]
fn what_did_not_come_in_time_says_what_the_node_logged() {
    let mut lab = Lab::live("[[step]]\nsql = \"SELECT 1\"\non = \"s1\"\nvalue = 7\nwithin = \"1s\"\n", false);
    let line = replab::model::cluster::LogLine { severity: "LOG".into(), text: "checkpoint starting".into() };
    lab.msg(Msg::Observed(Observation::Node(name("s1"), Look::Log(vec![line]))));
    lab.wait_ms(1_100);
    lab.answer(rows(&["6"]));
    assert!(lab.details()[0].contains("s1 logged last: LOG checkpoint starting"), "{:?}", lab.details());
}

#[test]
fn sql_is_asked_again_until_it_gives_what_it_must() {
    let mut lab = Lab::live("[[step]]\nsql = \"SELECT 1\"\non = \"s1\"\nvalue = 7\nwithin = \"2s\"\n", false);
    let act = lab.answer(rows(&["6"]));
    assert!(matches!(act, Act::Sql { lesson: true, session: None, .. }), "with a lesson's rights: {act:?}");
    lab.wait_ms(100);
    assert!(lab.acts.is_empty(), "not in a frenzy");
    lab.wait_ms(300);
    lab.answer(rows(&["7"]));
    assert!(lab.script().over());
    assert_eq!((lab.details(), lab.script().tally()), (vec!["7"], (1, 0)));
}

#[test]
fn sql_that_gives_something_else_fails_and_says_what() {
    let error = |state: &str| SqlResult { error: Some((state.into(), "no".into())), ..SqlResult::default() };
    let warned =
        SqlResult { tag: "INSERT 0 1".into(), notices: vec!["WARNING: canceling".into()], ..SqlResult::default() };
    for (wish, got, ok, part) in [
        ("rows = [[1], [2]]", rows(&["1", "2"]), true, "1 2"),
        ("rows = [[1], [2]]", rows(&["1"]), false, "rows 1, where 1 2 was expected"),
        ("rows = []", rows(&[]), true, "none"),
        ("error = \"25006\"", error("25006"), true, "SQLSTATE 25006: no"),
        ("error = \"25006\"", error("42P01"), false, "where 25006 was expected"),
        ("error = \"25006\"", rows(&["1"]), false, "no error"),
        ("notice = \"canceling\"", warned.clone(), true, "INSERT 0 1; WARNING: canceling"),
        ("notice = \"promoted\"", warned.clone(), false, "no notice with \"promoted\""),
        ("", error("42P01"), false, "SQLSTATE 42P01: no"),
    ] {
        let mut lab =
            Lab::live(&format!("[[step]]\nsql = \"X\"\non = \"p\"\n{wish}\n[[step]]\npause = \"1s\"\n"), false);
        lab.answer(got);
        let result = &lab.script().results[0];
        assert!(result.ok == ok && result.detail.contains(part), "{wish}: {result:?}");
        assert_eq!(lab.script().over(), wish.is_empty(), "an error nobody expected ends the lesson: {wish}");
    }
}

const SESSION: &str = r#"
[[step]]
sql = "INSERT"
on = "p"
session = "a"
background = true
[[step]]
wait = "session(a) = in_transaction"
within = "5s"
[[step]]
sql = "COMMIT"
session = "a"
"#;

#[test]
fn a_session_runs_in_the_background_and_is_kept() {
    let mut lab = Lab::live(SESSION, false);
    assert_eq!(lab.script().at, 1, "the lesson goes on while it runs");
    assert_eq!(lab.model.sessions[&name("a")].word(), "running");
    lab.msg(Msg::Command("sql p:a SELECT 1".parse().unwrap(), Origin::You));
    let refused = lab.model.journal.entries().any(|e| e.text.contains("session a still runs its last statement"));
    assert!(refused && lab.acts.len() == 1, "one statement at a time");
    lab.answer(SqlResult { standing: Standing::InTransaction, ..SqlResult::default() });
    lab.wait_ms(2_100);
    let (id, act) = lab.acts.pop().expect("COMMIT");
    assert!(
        matches!(&act, Act::Sql { node, session: Some(s), .. } if *node == name("p") && *s == name("a")),
        "{act:?}"
    );
    assert!(!lab.closed);
    lab.done(id, Ok(Happened::Sql(SqlResult { tag: "COMMIT".into(), ..SqlResult::default() })));
    assert!(lab.script().over() && lab.closed, "at the end the lesson's sessions are closed");
    assert_eq!(lab.model.sessions[&name("a")].word(), "closed");
}

/// Nothing runs in it, so nobody else would notice. A statement that was begun meanwhile is answered by its own end.
#[test]
fn a_session_that_its_server_ends_is_closed_at_once() {
    let mut lab = Lab::live("[[step]]\npause = \"100s\"\n", false);
    let word = |lab: &Lab| lab.model.sessions[&name("a")].word();
    let ended = || Msg::SessionEnded(name("a"), "FATAL 25P03: terminating connection".to_owned());
    let ask = |lab: &mut Lab| {
        lab.msg(Msg::Command("sql s1:a BEGIN".parse().unwrap(), Origin::You));
        let Some((id, Act::Sql { opens, .. })) = lab.acts.pop() else { panic!("{:?}", lab.acts) };
        (id, opens)
    };
    let open = || Happened::Sql(SqlResult { standing: Standing::InTransaction, ..SqlResult::default() });
    let (id, opens) = ask(&mut lab);
    assert!(opens);
    lab.done(id, Ok(open()));
    assert_eq!(word(&lab), "in_transaction");
    lab.msg(ended());
    assert_eq!(word(&lab), "closed");
    let told = |lab: &Lab| {
        lab.model.journal.entries().filter(|e| e.text.contains("s1 has ended the session a: FATAL")).count()
    };
    assert_eq!(told(&lab), 1);
    let (id, opens) = ask(&mut lab);
    assert!(opens, "another one of that name");
    lab.done(id, Ok(open()));
    let (id, opens) = ask(&mut lab);
    assert!(!opens);
    lab.msg(ended());
    assert_eq!(word(&lab), "running");
    lab.done(id, Ok(Happened::Sql(SqlResult { standing: Standing::Closed, ..SqlResult::default() })));
    assert_eq!((word(&lab), told(&lab)), ("closed", 1));
}

#[test]
fn a_session_ends_with_its_server() {
    let mut lab = Lab::live(SESSION, false);
    let (id, _) = lab.acts.pop().unwrap();
    lab.done(id, Err("the connection ended".into()));
    assert_eq!(lab.model.sessions[&name("a")].word(), "closed");
    let mut lab = Lab::live(SESSION, false);
    lab.answer(SqlResult::default());
    assert_eq!(lab.model.sessions[&name("a")].word(), "idle");
    lab.msg(Msg::Observed(Observation::Node(name("p"), Look::State(NodeState::Exited(Some(137))))));
    assert_eq!(lab.model.sessions[&name("a")].word(), "closed");
}

#[test]
fn commands_can_begin_together() {
    let steps = "[[step]]\ndo = [\"freeze p\", \"freeze s1\"]\ntogether = true\n[[step]]\npause = \"1s\"\n";
    let mut lab = Lab::live(steps, false);
    assert_eq!(lab.acts, [(OpId(1), Act::Freeze(name("p"))), (OpId(2), Act::Freeze(name("s1")))]);
    lab.done(OpId(2), Ok(Happened::Plain));
    assert_eq!(lab.script().at, 0);
    lab.done(OpId(1), Ok(Happened::Plain));
    assert_eq!(lab.script().at, 1);
}

const TEXTS: &str = r#"
[[step]]
say = "One two three four five six seven eight nine ten - **eleven** twelve"
note = "notes delay nobody"
[[step]]
say = "Two"
[[step]]
ask = "Which?"
choices = ["this", "that"]
answer = 2
why = "So."
[[step]]
say = "Three"
"#;

/// Waits in steps of 100 ms until the lesson is at that step; gives the time it took.
fn until_step(lab: &mut Lab, step: usize) -> u64 {
    let begun = lab.at;
    while lab.script().at != step {
        lab.wait_ms(100);
        assert!(lab.at - begun < 60_000_000, "the lesson stays at step {}", lab.script().at);
    }
    (lab.at - begun) / 1_000
}

#[test]
fn in_auto_play_texts_give_way_after_a_time_for_their_words_and_questions_wait() {
    let mut lab = Lab::live(TEXTS, true);
    lab.wait_ms(60_000);
    assert_eq!(lab.script().at, 0, "without auto-play a text waits for ever");
    lab.key(Playback::Auto);
    let (left, whole) = lab.script().goes_on_in(lab.model.now).unwrap();
    assert!(left == whole, "what was read before doesn't count: {left} of {whole}");
    let long = until_step(&mut lab, 1);
    let short = until_step(&mut lab, 2);
    assert!(long.abs_diff(whole) < 300 && long > short + 3_000, "{long} ms, {short} ms");
    lab.wait_ms(120_000);
    assert!(matches!(lab.script().progress, Progress::Asking(_)), "a question waits");
    lab.key(Playback::Answer(1));
    assert_eq!(until_step(&mut lab, 4).min(1), 1, "the answer is told for its time");
    lab.wait_ms(120_000);
    assert!(lab.script().over(), "the answer and the last text give way too");
    assert_eq!(lab.script().score(), (1, 1));
}

#[test]
fn the_pace_of_auto_play_can_be_changed_and_it_can_be_left() {
    let time = |faster: bool, keys: usize| {
        let mut lab = Lab::live(TEXTS, true);
        lab.key(Playback::Auto);
        for _ in 0..keys {
            lab.key(Playback::Pace { faster });
        }
        (lab.script().pace(), until_step(&mut lab, 1))
    };
    let (_, usual) = time(true, 0);
    for (faster, keys, pace) in [(true, 2, 2.0), (true, 9, 4.0), (false, 9, 0.5)] {
        let (got, took) = time(faster, keys);
        assert!(
            (got - pace).abs() < f64::EPSILON && took.abs_diff((usual as f64 / pace) as u64) < 300,
            "×{got}: {took} of {usual} ms"
        );
    }
    let mut lab = Lab::live(TEXTS, true);
    lab.key(Playback::Auto);
    lab.wait_ms(3_000);
    lab.key(Playback::Auto);
    lab.wait_ms(60_000);
    assert_eq!(lab.script().at, 0);
    lab.key(Playback::Next);
    assert_eq!(lab.script().at, 1, "Space goes on as ever");
}

#[test]
fn auto_play_waits_for_one_who_reads_an_earlier_text_again() {
    let mut lab = Lab::live(TEXTS, true);
    lab.key(Playback::Next);
    lab.key(Playback::Auto);
    lab.key(Playback::Back);
    lab.wait_ms(60_000);
    assert_eq!((lab.script().at, lab.script().reread), (1, Some(0)));
    lab.key(Playback::Next);
    assert_eq!(lab.script().at, 1, "back at its own text it begins anew");
    assert!(until_step(&mut lab, 2) > 2_000);
}

#[test]
fn a_recording_of_auto_play_goes_the_same_way() {
    let mut lab = Lab::live(TEXTS, true);
    for key in [Playback::Auto, Playback::Pace { faster: true }] {
        lab.key(key);
    }
    until_step(&mut lab, 2);
    let mut again = Model::default();
    for (at, msg) in serde_json::from_str::<Vec<(Stamp, Msg)>>(&serde_json::to_string(&lab.told).unwrap()).unwrap() {
        update(&mut again, at, msg);
    }
    assert_eq!(again, lab.model);
}

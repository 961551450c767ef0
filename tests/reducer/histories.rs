//! Whose history each node is on, where numbers of timelines don't tell.

use super::*;
use replab::model::lineage::{Pair, Parting};

fn on(timeline: u32, sample: Sample) -> Sample {
    Sample { timeline, ..sample }
}

fn promote(lab: &mut Lab, node: &str, timeline: u32) {
    lab.say(&format!("promote {node}"));
    let promoted = Happened::Promoted { timeline, fork: Some(Lsn(100)), names: String::new() };
    lab.done(lab.model.next_op - 1, Ok(promoted));
    lab.see(node, on(timeline, primary("", &[], 0)));
}

fn rejoined(lab: &mut Lab, node: &str, source: &str, road: Road) {
    let how = Rejoined { road, detour: None, source: name(source), fork: None, end: None, only: Ok(Ids::new()) };
    lab.say(&format!("rejoin {node}"));
    lab.done(lab.model.next_op - 1, Ok(Happened::Rejoined(how)));
}

fn line(lab: &Lab, node: &str) -> String {
    let eras = lab.model.line_of(lab.model.node(&name(node)).unwrap());
    eras.iter().map(|era| format!("{} of {}", era.id, era.by)).collect::<Vec<_>>().join(", ")
}

fn diverged(lab: &Lab, node: &str) -> bool {
    lab.model.has_diverged(lab.model.node(&name(node)).unwrap())
}

/// p is dead, s1 and s2 are promoted at the same place; `c` was added below s1 before.
fn two_promoted() -> Lab {
    let mut lab = Lab::live(None);
    lab.say("add c from s1");
    lab.done(1, Ok(Happened::Plain));
    lab.see("c", standby(100));
    lab.say("kill p");
    lab.done(2, Ok(Happened::Plain));
    promote(&mut lab, "s1", 2);
    lab.see("c", on(2, standby(110)));
    promote(&mut lab, "s2", 2);
    lab
}

fn histories(effects: &[Effect]) -> Pair {
    match acts(effects)[..] {
        [Act::Rejoin { histories, .. }] => histories.clone(),
        _ => panic!("{effects:?}"),
    }
}

#[test]
fn two_histories_of_one_number_are_told_apart_before_anything_starts() {
    let mut lab = two_promoted();
    assert_eq!((line(&lab, "s1"), line(&lab, "s2")), ("1 of p, 2 of s1".to_owned(), "1 of p, 2 of s2".to_owned()));
    assert!(lab.said(
        "s2 is a primary on timeline 2 (s1 began another timeline 2: two histories with one number), forked off at"
    ));
    assert_eq!(line(&lab, "p"), "1 of p");
    assert!(diverged(&lab, "s1") && !diverged(&lab, "p"), "p went no further as far as anybody knows");
    lab.say("fence s1");
    lab.done(lab.model.next_op - 1, Ok(Happened::Plain));
    lab.say("rejoin s1 rewind");
    assert!(
        lab.last_words().contains("pg_rewind would take one for the other: timeline 2 of s1"),
        "{}",
        lab.last_words()
    );
    let effects = lab.say("rejoin s1");
    let told = "s1 has diverged from s2: timeline 2 of s1 and timeline 2 of s2 are two histories with one number";
    assert!(lab.said(told), "{}", lab.last_words());
    assert!(histories(&effects).parting(2, 2).is_err(), "neither streamed nor rewound");
    let how =
        Rejoined { road: Road::Rebuilt, detour: None, source: name("s2"), fork: None, end: None, only: Ok(Ids::new()) };
    lab.done(lab.model.next_op - 1, Ok(Happened::Rejoined(how)));
    assert_eq!((line(&lab, "s1"), diverged(&lab, "s1")), ("1 of p, 2 of s2".to_owned(), false));
    let effects = lab.say("rejoin p");
    assert_eq!(histories(&effects).parting(1, 2), Ok(Parting::Left(Some(Lsn(100)))));
}

#[test]
fn a_cascade_goes_with_its_upstream_and_no_further() {
    let mut lab = two_promoted();
    assert_eq!(line(&lab, "c"), "1 of p, 2 of s1");
    lab.say("follow c s2");
    assert!(
        lab.last_words().contains("c has diverged from s2: their histories have parted; `rejoin c`"),
        "{}",
        lab.last_words()
    );
    lab.say("follow all s2");
    assert!(lab.last_words().contains("every standby that can follow s2 does"), "{}", lab.last_words());
    // It streams well, and yet from the wrong one.
    lab.see("s1", on(2, primary("", &[("c", "async", 100)], 0)));
    assert!(diverged(&lab, "c"));
    assert!(histories(&lab.say("rejoin c")).parting(2, 2).is_err());
    // Its place in another log says nothing.
    assert!(lab.model.ahead_of(&name("s2")).is_empty());
}

/// Told behind the lab's back to follow another primary it may stream for good, and is no copy.
#[test]
fn one_that_streams_from_another_history_is_called_diverged() {
    let mut lab = two_promoted();
    lab.say("fence s1");
    lab.done(lab.model.next_op - 1, Ok(Happened::Plain));
    rejoined(&mut lab, "s1", "s2", Road::Rebuilt);
    lab.see("s1", on(2, standby(110)));
    lab.see("c", on(2, standby(110)));
    let told =
        lab.model.journal.entries().filter(|e| e.text.starts_with("c has diverged from s1: timeline 2 of s1 and"));
    assert_eq!(told.count(), 1);
    assert!(!lab.said("c can't follow"));
    assert_eq!(lab.model.rung(lab.model.node(&name("c")).unwrap()).link, Link::Forked);
}

#[test]
fn nobody_of_another_history_is_elected() {
    let mut lab = two_promoted();
    lab.say("add d");
    lab.done(lab.model.next_op - 1, Ok(Happened::Plain));
    lab.see("d", on(2, standby(105)));
    lab.say("kill s2");
    lab.done(lab.model.next_op - 1, Ok(Happened::Plain));
    let effects = lab.say("failover");
    let Act::Canvass { standbys, .. } = acts(&effects)[0] else { panic!("{effects:?}") };
    assert_eq!(standbys, &[name("d")]);
    lab.done(lab.model.next_op - 1, Err("no".into()));
    lab.say("promote c");
    let doubt = &lab.model.ops.values().last().unwrap().unsafe_election;
    assert_eq!(doubt.as_deref(), Some("c is on another history than s2"));
}

/// Each look may be late: what a handover itself proves counts.
#[test]
fn a_switchover_right_after_a_failover_is_one_line() {
    let mut lab = Lab::live(None);
    lab.say("kill p");
    lab.done(1, Ok(Happened::Plain));
    lab.say("failover");
    lab.done(2, Ok(Happened::Canvassed(vec![answer("s1", 100), answer("s2", 100)])));
    lab.msg(Msg::Reached(OpId(2), Reached::Open(name("s1"))));
    let taken = |timeline, followed: &str| Taken {
        timeline,
        fork: Some(Lsn(100)),
        names: String::new(),
        missed: vec![],
        followed: vec![name(followed)],
    };
    lab.done(2, Ok(Happened::HandedOver(taken(2, "s2"))));
    lab.see("s1", on(2, primary("", &[("s2", "async", 100)], 0)));
    assert_eq!(line(&lab, "s2"), "1 of p, 2 of s1", "it was seen to stream, though not looked at");
    lab.say("switchover s2");
    lab.msg(Msg::Reached(OpId(3), Reached::Stopped));
    lab.msg(Msg::Reached(OpId(3), Reached::Chosen(name("s2"))));
    lab.msg(Msg::Reached(OpId(3), Reached::Open(name("s2"))));
    // A look that comes before the end.
    lab.see("s2", on(3, primary("", &[], 0)));
    lab.done(3, Ok(Happened::HandedOver(taken(3, "s1"))));
    assert_eq!(
        (line(&lab, "s2"), line(&lab, "s1")),
        ("1 of p, 2 of s1, 3 of s2".to_owned(), "1 of p, 2 of s1, 3 of s2".to_owned())
    );
    assert_eq!(lab.model.timelines.len(), 3);
    assert_eq!(histories(&lab.say("rejoin p")).parting(1, 3), Ok(Parting::Left(Some(Lsn(100)))));
}

/// Brought back and promoted again, a node begins another history of the same number.
#[test]
fn one_node_may_begin_two_histories_of_one_number() {
    let mut lab = Lab::live(None);
    promote(&mut lab, "s1", 2);
    lab.see("p", primary("", &[], 0));
    lab.say("add a from s1");
    lab.done(lab.model.next_op - 1, Ok(Happened::Plain));
    lab.see("a", on(2, standby(100)));
    lab.say("fence s1");
    lab.done(lab.model.next_op - 1, Ok(Happened::Plain));
    assert_eq!(lab.model.primary, Some(name("p")));
    rejoined(&mut lab, "s1", "p", Road::Rewound);
    assert_eq!(line(&lab, "s1"), "1 of p");
    lab.see("s1", standby(100));
    promote(&mut lab, "s1", 2);
    assert_eq!((line(&lab, "s1"), lab.model.timelines.len()), ("1 of p, 2 of s1".to_owned(), 3));
    assert!(diverged(&lab, "a"), "a is of the first");
    let why = lab.model.pair(&name("a"), &name("s1")).one_number().unwrap();
    assert!(why.starts_with("timeline 2 of s1 and timeline 2 of s1 begun later are two histories"), "{why}");
}

#[test]
fn a_standby_too_far_ahead_is_told_with_the_names_of_the_histories() {
    let mut lab = Lab::live(None);
    promote(&mut lab, "s2", 2);
    lab.say("follow s1 s2");
    lab.done(lab.model.next_op - 1, Ok(Happened::Plain));
    lab.see("s1", standby(200));
    assert!(!diverged(&lab, "s1"), "no number hides that: PostgreSQL notices");
    let text = "new timeline 2 forked off current database system timeline 1 before current recovery point 0/1";
    let lines = vec![LogLine { severity: "LOG".into(), text: text.into() }];
    lab.msg(Msg::Observed(Observation::Node(name("s1"), Look::Log(lines))));
    assert_eq!(
        lab.last_words(),
        "s1 can't follow s2: s1 has replayed more of timeline 1 of p than s2 had when it began timeline 2. It only goes on answering \
         reads; `rejoin s1` mends it"
    );
}

#[test]
fn a_restart_and_a_reset_keep_and_forget() {
    let mut lab = two_promoted();
    lab.say("kill s1");
    lab.done(lab.model.next_op - 1, Ok(Happened::Plain));
    lab.say("start s1");
    lab.done(lab.model.next_op - 1, Ok(Happened::Plain));
    lab.see("s1", on(2, primary("", &[], 0)));
    assert_eq!((line(&lab, "s1"), lab.model.timelines.len()), ("1 of p, 2 of s1".to_owned(), 3));
    lab.say("reset");
    let up = Happened::BroughtUp {
        ms: 500,
        postgres: "18.6".into(),
        system_identifier: 8,
        direct_links: None,
        no_freezer: None,
    };
    lab.done(lab.model.next_op - 1, Ok(up));
    assert_eq!((line(&lab, "s1"), line(&lab, "s2")), ("1 of p".to_owned(), "1 of p".to_owned()));
}

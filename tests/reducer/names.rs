//! Names in a synchronous rule that aren't simply those of standbys.

use super::*;

/// A lab whose rule names the primary too, as one writes it to keep it over handovers.
fn with_rule(rule: &str) -> Lab {
    let mut lab = Lab::live(None);
    lab.see("p", primary(rule, &[("s1", "quorum", 100), ("s2", "quorum", 100)], 0));
    lab
}

#[test]
fn a_rule_that_names_the_primary_counts_without_it() {
    let mut lab = Lab::live(None);
    lab.say("sync any 1 (p, s1, s2)");
    assert!(lab.said("p is the primary, no standby of its own: commits wait for the others of the rule"));
    assert!(!lab.said("never comes") && !lab.said("no standby is called p"));
    let lab = with_rule("ANY 1 (p, s1, s2)");
    assert_eq!(
        lab.model.rule_in_words(),
        "A commit returns when any 1 of s1, s2 has flushed it. If 2 standbys fail, commits wait. The rule \
         names p too. A server is no standby of its own, so p never counts."
    );
    let lab = with_rule("FIRST 1 (p)");
    assert!(
        lab.model.rule_in_words().starts_with("The rule asks for 1 standby but lists none: no commit can ever return.")
    );
}

#[test]
fn commits_wait_for_no_primary() {
    let rule = "ANY 2 (p, s1, s2)";
    let mut lab = with_rule(rule);
    lab.see("p", primary(rule, &[("s1", "quorum", 100)], 3));
    assert_eq!(lab.model.needs().in_words(), "s2");
}

#[test]
fn a_stranger_beside_enough_others_holds_nothing_up() {
    let mut lab = Lab::live(None);
    lab.say("sync any 1 (s1, nobody)");
    assert!(
        lab.said("no standby is called nobody: PostgreSQL accepts such a rule, and commits wait for the others alone")
    );
    lab.say("sync any 2 (s1, nobody)");
    assert!(lab.said(
        "no standby is called nobody: PostgreSQL accepts such a rule, and commits wait for a standby that never"
    ));
    lab.say("sync first 1 (p)");
    assert!(
        lab.said("p is the primary, no standby of its own: without it the rule names fewer standbys than it asks for")
    );
}

/// Both who can have confirmed a write answer, so the election is safe; with one of them it isn't.
#[test]
fn an_election_needs_no_answer_of_the_primary_that_is_gone() {
    let dead = || {
        let mut lab = with_rule("ANY 1 (p, s1, s2)");
        lab.say("kill p");
        lab.done(1, Ok(Happened::Plain));
        lab.say("failover");
        lab
    };
    let mut lab = dead();
    let effects = lab.done(2, Ok(Happened::Canvassed(vec![answer("s1", 90), answer("s2", 100)])));
    let Act::TakeOver { node, rule, .. } = acts(&effects)[0] else { panic!("{effects:?}") };
    assert_eq!((node, rule.as_ref().map(ToString::to_string)), (&name("s2"), Some("any 1 (p, s1)".to_owned())));
    assert_eq!(lab.model.handovers[0].doubt, None);
    let mut lab = dead();
    lab.done(2, Ok(Happened::Canvassed(vec![answer("s2", 100)])));
    assert!(lab.said("only 1 of the 2 required standbys answered. s1 is missing"));
}

#[test]
fn a_promotion_by_hand_is_covered_without_the_primarys_answer() {
    let mut lab = with_rule("FIRST 1 (p, s1)");
    lab.say("kill p");
    lab.done(1, Ok(Happened::Plain));
    lab.say("promote s1");
    assert_eq!(lab.model.ops[&OpId(2)].unsafe_election, None);
}

/// p under a rule, with these senders: name, process id, state of the rule, what it has flushed; and the walsenders of the slots.
fn fed(rule: &str, senders: &[(&str, i32, &str, u64)], slots: &[(&str, Option<i32>, bool)]) -> Sample {
    let row = |(called, pid, sync, at): &(&str, i32, &str, u64)| {
        let one = primary(rule, &[(called, sync, *at)], 0).senders.remove(0);
        SenderRow { pid: *pid, ..one }
    };
    let slot = |(name, pid, logical): &(&str, Option<i32>, bool)| SlotRow {
        active: pid.is_some(),
        pid: *pid,
        logical: *logical,
        ..slot(name, "reserved", 0)
    };
    let (senders, slots) = (senders.iter().map(row).collect(), slots.iter().map(slot).collect());
    Sample { senders, slots, ..primary(rule, &[], 0) }
}

const SLOTS: &[(&str, Option<i32>, bool)] = &[("s1", Some(11), false), ("s2", Some(12), false)];

/// Writes acknowledged between two looks at this primary; how many of them are promised.
fn promised_between(lab: &mut Lab, looks: [Sample; 2], first: u64) -> u64 {
    let [before, after] = looks;
    let promised = |lab: &Lab| replab::model::ledger::count(&lab.model.ledger.promised);
    lab.see("p", before);
    let had = promised(lab);
    let range = IdRange { client: 1, first, last: first + 9 };
    lab.msg(Msg::Tried(vec![range]));
    lab.msg(Msg::Wrote(vec![(range, Ack::Acked)]));
    lab.see("p", after);
    promised(lab) - had
}

#[test]
fn what_another_of_a_standbys_name_may_have_confirmed_is_promised_nothing() {
    let rule = "ANY 1 (s1, s2)";
    let both = || fed(rule, &[("s1", 11, "quorum", 100), ("s2", 12, "quorum", 100)], SLOTS);
    let three = || fed(rule, &[("s1", 11, "quorum", 60), ("S1", 99, "quorum", 100), ("s2", 12, "quorum", 100)], SLOTS);
    let mut lab = Lab::live(None);
    lab.see("p", both());
    assert_eq!(promised_between(&mut lab, [both(), both()], 1), 10);
    assert_eq!(promised_between(&mut lab, [both(), three()], 11), 0, "it came in between");
    let told = "Another connection to p is called S1 too, and PostgreSQL counts both. Which of them confirmed a commit isn't known. The \
                rule promises nothing for such commits.";
    assert!(lab.model.rule_in_words().ends_with(told), "{}", lab.model.rule_in_words());
    assert_eq!(promised_between(&mut lab, [three(), both()], 21), 0, "and went");
    assert_eq!(lab.model.journal.entries().filter(|e| e.text == told).count(), 1);
    assert!(lab.said("only standbys of the lab count for the rule again"));
    assert_eq!(promised_between(&mut lab, [both(), both()], 31), 10);
    // The figures of s1 are its own all the while.
    lab.see("p", three());
    let rung = lab.model.rung(lab.model.node(&name("s1")).unwrap());
    assert_eq!((rung.steps[3], lab.model.namesakes(lab.model.node(&name("s1")).unwrap()).len()), (Some(Lsn(60)), 1));
}

/// s1 is away, and its slot lies idle or is a subscription's: what bears its name is something else.
#[test]
fn a_sender_of_a_standbys_name_alone_is_not_the_standby() {
    let rule = "FIRST 1 (s1)";
    let slots: [&[(&str, Option<i32>, bool)]; 3] =
        [&[("s1", None, false)], &[("s1", Some(99), true)], &[("s1", None, false), ("feed", Some(99), true)]];
    for slots in slots {
        let sample = || fed(rule, &[("s1", 99, "sync", 100), ("s2", 12, "async", 100)], slots);
        let mut lab = Lab::live(None);
        let own = standby(100);
        let receiver = own.receiver.clone().map(|r| ReceiverRow { slot: Some("s1".into()), ..r });
        lab.see("s1", Sample { receiver, ..own });
        lab.msg(Msg::Observed(Observation::Node(name("s1"), Look::State(NodeState::Exited(Some(0))))));
        assert_eq!(promised_between(&mut lab, [sample(), sample()], 1), 0, "{slots:?}");
        assert_eq!(lab.model.rung(lab.model.node(&name("s1")).unwrap()).link, Link::Disconnected, "{slots:?}");
        let words = lab.model.rule_in_words();
        assert!(
            words.contains("A connection to p is called s1 and isn't the standby s1, but PostgreSQL counts it."),
            "{words}"
        );
        assert!(!words.contains("Only 0"), "{words}");
    }
}

#[test]
fn where_no_slot_tells_nobody_knows_which_is_the_standby() {
    let rule = "FIRST 1 (s1)";
    let sample = || fed(rule, &[("s1", 11, "sync", 60), ("s1", 99, "potential", 100)], &[]);
    let mut lab = Lab::live(None);
    assert_eq!(promised_between(&mut lab, [sample(), sample()], 1), 0);
    assert!(lab.said(
        "Several connections to p are called s1, and PostgreSQL counts all. Which of them is the standby s1 isn't known"
    ));
    let rung = lab.model.rung(lab.model.node(&name("s1")).unwrap());
    assert_eq!(rung.link, Link::Connected("streaming".into()), "by its own word");
    assert_eq!((rung.steps[0], rung.sync_state.as_str()), (None, ""));
}

#[test]
fn an_asterisk_counts_whatever_connects() {
    let sample = |rule: &str| fed(rule, &[("pg_receivewal", 99, "quorum", 100), ("s1", 11, "quorum", 100)], SLOTS);
    let mut lab = Lab::live(None);
    let any = || sample("ANY 1 (*)");
    assert_eq!(promised_between(&mut lab, [any(), any()], 1), 0);
    assert!(lab.said("pg_receivewal is connected to p too, and * counts it: a commit may be on no standby"));
    // Listed by its name it is one that an election asks for, and never gets an answer of.
    let listed = || sample("ANY 1 (s1, pg_receivewal)");
    lab.see("p", listed());
    assert_eq!(promised_between(&mut lab, [listed(), listed()], 11), 10);
    // Named like the primary it counts, where the rule names the primary.
    let own = || fed("ANY 1 (p, s1)", &[("p", 99, "quorum", 100), ("s1", 11, "quorum", 100)], SLOTS);
    lab.see("p", own());
    assert_eq!(promised_between(&mut lab, [own(), own()], 21), 0);
}

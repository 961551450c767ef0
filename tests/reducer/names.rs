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
    assert_eq!(lab.model.waited_for(), ["s2"]);
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

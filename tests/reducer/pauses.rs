//! Who paused replay: somebody, or PostgreSQL because a setting is lower than on the primary.

use super::*;

const LIMITS: [u64; 5] = [150, 40, 40, 0, 64];

fn limited(sample: Sample, max_connections: u64, paused: bool) -> Sample {
    let mut limits = LIMITS;
    limits[0] = max_connections;
    Sample { limits: Some(limits), replay_paused: paused, ..sample }
}

fn see(lab: &mut Lab, p: u64, s1: u64, paused: bool) {
    lab.see("p", limited(primary("", &[("s1", "async", 100), ("s2", "async", 100)], 0), p, false));
    lab.see("s1", limited(standby(100), s1, paused));
}

fn logged(lab: &mut Lab, severity: &str, text: &str) {
    let detail = "max_connections = 150 is a lower setting than on the primary server, where its value was 300.";
    let line = |severity: &str, text: &str| LogLine { severity: severity.into(), text: text.into() };
    let lines = vec![line(severity, text), line("DETAIL", detail)];
    lab.msg(Msg::Observed(Observation::Node(name("s1"), Look::Log(lines))));
}

fn stopped() -> Fault {
    Fault::ReplayStopped(name("s1"), "max_connections 150 < 300 on p".into())
}

fn raises(effects: &[Effect]) -> bool {
    let settings = vec![("max_connections".to_owned(), 300)];
    matches!(effects, [Effect::Run(_, act)] if *act == Act::Raise { node: name("s1"), settings })
}

#[test]
fn a_pause_while_nothing_is_too_low_is_somebodys() {
    let mut lab = Lab::live(None);
    see(&mut lab, 150, 150, true);
    assert!(lab.model.faults().is_empty(), "PostgreSQL's own line in the log may be on its way");
    see(&mut lab, 150, 150, true);
    assert_eq!(lab.model.faults(), [Fault::ReplayPaused(name("s1"))]);
    // p has more now; what s1 has not replayed stops nobody.
    see(&mut lab, 300, 150, true);
    assert_eq!(lab.model.faults(), [Fault::ReplayPaused(name("s1"))]);
    assert!(raises(&lab.say("heal")), "resumed, it would stop again");
}

#[test]
fn a_pause_of_postgresql_is_told_by_its_log_or_by_both_servers_values() {
    let mut lab = Lab::live(None);
    see(&mut lab, 150, 150, true);
    logged(&mut lab, "WARNING", "hot standby is not possible because of insufficient parameter settings");
    assert_eq!(lab.model.faults(), [stopped()]);
    assert!(lab.said("s1 has stopped replaying: max_connections 150 < 300 on p. PostgreSQL paused it"));
    assert!(lab.say("replay resume s1").is_empty() && lab.last_words().contains("resumed, it would shut down"));
    assert!(lab.say("promote s1").is_empty() && lab.last_words().contains("`raise s1` first"));
    assert!(raises(&lab.say("heal")));
    see(&mut lab, 300, 300, false);
    assert!(lab.model.faults().is_empty() && lab.model.shortfalls(lab.model.node(&name("s1")).unwrap()).is_empty());

    let mut lab = Lab::live(None);
    see(&mut lab, 150, 150, false);
    see(&mut lab, 300, 150, true);
    assert_eq!(lab.model.faults(), [stopped()]);
}

#[test]
fn a_standby_that_shuts_down_for_a_setting_is_raised_by_heal() {
    let mut lab = Lab::live(None);
    see(&mut lab, 150, 150, false);
    logged(&mut lab, "FATAL", "recovery aborted because of insufficient parameter settings");
    lab.msg(Msg::Observed(Observation::Node(name("s1"), Look::State(NodeState::Exited(Some(1))))));
    assert!(lab.said("s1 shuts down, because it can't replay: max_connections 150 < 300 on p. `raise s1`"));
    assert!(raises(&lab.say("heal")));
}

/// It would wait half a minute for a promotion that PostgreSQL refuses.
#[test]
fn who_has_stopped_replaying_is_not_promoted_by_a_failover() {
    let mut lab = Lab::live(None);
    see(&mut lab, 150, 150, true);
    logged(&mut lab, "WARNING", "hot standby is not possible because of insufficient parameter settings");
    lab.say("kill p");
    lab.done(1, Ok(Happened::Plain));
    lab.say("failover");
    let effects = lab.done(2, Ok(Happened::Canvassed(vec![answer("s1", 100), answer("s2", 90)])));
    assert!(!acts(&effects).iter().any(|act| matches!(act, Act::TakeOver { .. })), "{effects:?}");
    assert!(lab.said("s1 has most of the log, and PostgreSQL doesn't promote it"), "{}", lab.last_words());
    assert!(lab.said("`raise s1`, then `failover`"));
}

//! Operations that ended: what they change in the model, and the sentence that says so.

use super::handing_over;
use crate::model::cluster::{NodeState, Role};
use crate::model::command::Command;
use crate::model::journal::{Tone, Who};
use crate::model::ledger::Ids;
use crate::model::msg::{Effect, Happened, OpId, Outcome};
use crate::model::verdict::{self, Case, Verdict, Verification};
use crate::model::{Model, NodeName, Op, Stage};

/// Ended operations remembered for a lesson that waits for them.
const ENDED: usize = 64;

/// An operation ended.
pub fn done(model: &mut Model, id: OpId, outcome: Outcome) -> Vec<Effect> {
    let Some(op) = model.ops.remove(&id) else { return Vec::new() };
    let outcome = match outcome {
        Outcome { result: Ok(Happened::Canvassed(answers)), steps } => {
            if let Some(why) = handing_over::called_off(model, id) {
                remember(model, id, Some(why.clone()));
                return handing_over::broke_off(model, id, &why);
            }
            match handing_over::canvassed(model, id, &op, &answers, steps.clone()) {
                Ok(effects) => {
                    model.ops.insert(id, op);
                    return effects;
                }
                Err(why) => Outcome { result: Err(why), steps },
            }
        }
        outcome => outcome,
    };
    remember(model, id, outcome.result.as_ref().err().cloned());
    sql_answered(model, id, &outcome);
    if let Some(command) = &op.command {
        super::later::done(model, command);
    }
    match (&op.command, &outcome.result) {
        (_, Err(why)) => {
            failed(model, &op, &why.clone(), outcome.steps.clone());
            handing_over::broke_off(model, id, why)
        }
        (None, Ok(_)) => started(model, &outcome),
        (Some(command), Ok(happened)) => {
            let effects = apply(model, id, command, happened, &op, &outcome);
            let (tone, sentence) = super::wording::after(model, command, happened, op.since);
            model.note(Who::Lab, tone, sentence, outcome.steps.clone());
            effects
        }
    }
}

pub fn remember(model: &mut Model, id: OpId, error: Option<String>) {
    model.ended.insert(id, error);
    while model.ended.len() > ENDED {
        model.ended.pop_first();
    }
}

fn sql_answered(model: &mut Model, id: OpId, outcome: &Outcome) {
    match &outcome.result {
        Ok(Happened::Sql(result)) => {
            model.session_ended(id, Some(result));
            model.answers.insert(id, result.clone());
            while model.answers.len() > ENDED {
                model.answers.pop_first();
            }
        }
        Err(_) => model.session_ended(id, None),
        Ok(_) => {}
    }
}

/// A server ended a session in which nothing ran. Of one that is down that is said already.
pub fn session_lost(model: &mut Model, name: &NodeName, why: &str) -> Vec<Effect> {
    if let Some(node) = model.session_lost(name) {
        model.say(Who::Lab, Tone::Warn, format!("{node} has ended the session {name}: {why}"));
    }
    Vec::new()
}

fn failed(model: &mut Model, op: &Op, why: &str, steps: Vec<String>) {
    match &op.command {
        None => model.stage = Stage::Failed(why.to_owned()),
        Some(Command::Reset) => model.stage = Stage::Failed(format!("reset: {why}")),
        Some(Command::Add { name, .. } | Command::AddFresh(name)) => {
            let name = name.clone();
            model.nodes.retain(|n| n.name != name || n.sample.is_some());
        }
        // Only a relay for clients can fail to be made.
        Some(Command::Link(..)) => model.links.spare_clients(),
        Some(_) => {}
    }
    let what = op.command.as_ref().map_or_else(|| "bring-up".to_owned(), ToString::to_string);
    let why = &last_words(model, op).map_or_else(|| why.to_owned(), |last| format!("{why} ({last})"));
    if let Stage::Failed(told) = &mut model.stage {
        told.clone_from(why);
    }
    model.note(Who::Lab, Tone::Bad, format!("{what} failed: {why}"), steps);
}

/// What a server that ended said last, where an operation failed because of it.
fn last_words(model: &Model, op: &Op) -> Option<String> {
    let dead = model.nodes.iter().filter(|n| matches!(n.state, NodeState::Exited(_)) && n.state_since >= op.since);
    let mut said = dead.flat_map(|n| n.logs.iter().rev().map(move |l| (&n.name, l)));
    let (name, last) = said.find(|(_, l)| {
        let line = &l.line;
        l.at >= op.since
            && ["FATAL", "PANIC"].contains(&line.severity.as_str())
            // Who knocks while it starts or ends is turned away with a FATAL of its own.
            && !line.text.starts_with("the database system is ")
    })?;
    // A configuration that isn't taken ends the server with the file's name; what is wrong in it stands in the line before.
    let before = said.next().filter(|_| last.line.text.ends_with("contains errors"));
    let wrong = before.and_then(|(_, l)| l.line.text.split_once(" in file ")).map(|(what, _)| format!("{what}; "));
    let low = |name| model.node(name).and_then(|n| n.shortfall.as_ref().map(|low| model.shortfall_in_words(n, low)));
    // The history of a standby that was ahead is no part of its upstream's (facts, "Rejoining the old primary").
    let cure = if last.line.text.starts_with("requested timeline") {
        format!("; `rejoin {name}` mends it")
    } else if let Some(why) = low(name).filter(|_| last.line.text.ends_with("insufficient parameter settings")) {
        format!(": {why}; `raise {name}` mends it")
    } else {
        String::new()
    };
    Some(format!("{name}: {}{}{cure}", wrong.unwrap_or_default(), last.line.text))
}

fn started(model: &mut Model, outcome: &Outcome) -> Vec<Effect> {
    let effects = super::commands::go_live(model, outcome);
    let count = model.nodes.len();
    let ms = model.bring_up_ms.unwrap_or_default();
    let text = format!(
        "{count} nodes are up after {:.1} s: PostgreSQL {} ({})",
        ms as f64 / 1e3,
        model.postgres,
        model.runtime
    );
    model.note(Who::Lab, Tone::Good, text, outcome.steps.clone());
    effects
}

fn apply(
    model: &mut Model,
    id: OpId,
    command: &Command,
    happened: &Happened,
    op: &Op,
    outcome: &Outcome,
) -> Vec<Effect> {
    match command {
        Command::Sync(_) => rule_applied(model, happened),
        Command::Fence(n) => {
            state(model, n, NodeState::Exited(Some(137)));
            return handing_over::fenced(model, n);
        }
        Command::Failover { .. } | Command::Switchover(_) => {
            if let Happened::HandedOver(taken) = happened {
                handing_over::handed_over(model, id, taken);
            }
        }
        Command::FollowAll(upstream) => followed_all(model, upstream, happened, op),
        Command::Rejoin { node, .. } => rejoined(model, node, happened),
        Command::Kill(n) => state(model, n, NodeState::Exited(Some(137))),
        Command::Stop(n) => state(model, n, NodeState::Exited(Some(0))),
        Command::PauseReplay(n) | Command::ResumeReplay(n) => {
            if let Some(node) = model.node_mut(n) {
                node.paused_by_hand = matches!(command, Command::PauseReplay(_));
                // Known before the next look: `heal` goes by it.
                if let Some(sample) = &mut node.sample {
                    sample.replay_paused = node.paused_by_hand;
                }
            }
        }
        Command::Start(n) | Command::Raise(n) | Command::Thaw(n) => {
            state(model, n, NodeState::Running);
            model.heart_since = model.now;
        }
        Command::Freeze(n) => state(model, n, NodeState::Frozen),
        Command::Promote(n) => return promoted(model, n, happened, op),
        Command::Follow { standby, upstream } => follow(model, standby, upstream),
        Command::Add { name, .. } | Command::AddFresh(name) => {
            state(model, name, NodeState::Running);
            if let Some(node) = model.node_mut(name) {
                node.phase = None;
            }
        }
        Command::Remove(n) => return removed(model, n),
        Command::Verify => verified(model, happened, op),
        Command::Sql { node, .. } => {
            if let Happened::Sql(result) = happened {
                model.sql = Some((node.clone(), result.clone()));
            }
        }
        Command::Reset => {
            super::commands::lay_out(model, model.topology.clone());
            model.writer.plan.clone_from(&model.writer.first);
            model.heartbeat = true;
            model.waiting_told = 0;
            model.handovers.clear();
            model.astray.clear();
            model.timelines.clear();
            model.rejoins.clear();
            for node in &mut model.nodes {
                node.state = NodeState::Running;
            }
            return super::commands::go_live(model, outcome);
        }
        _ => {}
    }
    Vec::new()
}

/// The engine's event says it too, often earlier; whichever comes first counts.
fn state(model: &mut Model, name: &NodeName, state: NodeState) {
    let now = model.now;
    let differs = |now: &NodeState| std::mem::discriminant(now) != std::mem::discriminant(&state);
    if let Some(node) = model.node_mut(name).filter(|n| differs(&n.state)) {
        node.state_since = now;
        node.state = state;
    }
}

fn rule_applied(model: &mut Model, happened: &Happened) {
    model.rule_seen = None;
    let Happened::Rule { names } = happened else { return };
    model.ledger.ruled |= !names.is_empty();
    let server = model.serving().cloned();
    if let Some(sample) = server.and_then(|p| model.node_mut(&p)).and_then(|n| n.sample.as_mut()) {
        sample.settings.synchronous_standby_names.clone_from(names);
    }
}

fn promoted(model: &mut Model, name: &NodeName, happened: &Happened, op: &Op) -> Vec<Effect> {
    let effects = handing_over::take_office(model, name, op.unsafe_election.clone());
    if let Happened::Promoted { timeline, fork, names } = happened {
        handing_over::settle_in(model, name, *timeline, *fork, names);
    }
    effects
}

fn followed_all(model: &mut Model, upstream: &NodeName, happened: &Happened, op: &Op) {
    let Happened::Followed { missed } = happened else { return };
    for standby in super::commands::all_that_can_follow(model, upstream) {
        if op.targets.contains(&standby) && !missed.iter().any(|(n, _)| *n == standby) {
            follow(model, &standby, upstream);
        }
    }
}

/// What only the returning node has is told while it is still there.
pub fn counted(model: &mut Model, id: OpId, only: &Ids) -> Vec<Effect> {
    let returning = match model.ops.get(&id).and_then(|op| op.command.as_ref()) {
        Some(Command::Rejoin { node, .. }) if !only.is_empty() => node.clone(),
        _ => return Vec::new(),
    };
    let text = super::wording::stranded(model, &returning, only);
    model.say(Who::Lab, Tone::Warn, text);
    Vec::new()
}

/// A node is a standby again; what only it had is gone with its old history.
fn rejoined(model: &mut Model, name: &NodeName, happened: &Happened) {
    let Happened::Rejoined(how) = happened else { return };
    let served = model.serving().cloned();
    follow(model, name, &how.source);
    model.is_of_one_with(name, &how.source);
    state(model, name, NodeState::Running);
    if let Some(node) = model.node_mut(name) {
        node.phase = None;
        // Its settings are those of its source now.
        node.shortfall = None;
        if let Some(sample) = &mut node.sample {
            sample.role = Role::Standby;
        }
    }
    leave_waiting_behind(model, served.as_ref());
    let at = model.now;
    model.rejoins.push((at, name.clone(), how.clone()));
    holds_no_more(model, name);
}

/// What a node had to itself is gone: the last verification must not go on saying that it is there.
fn holds_no_more(model: &mut Model, name: &NodeName) {
    let read = model.verification.take();
    model.verification = read.and_then(|v| v.without(name, model.primary.as_ref()));
}

/// The clients may have gone from a server to another: commits that wait on the old one go on waiting there, and nobody may say that
/// they returned.
pub fn leave_waiting_behind(model: &mut Model, before: Option<&NodeName>) {
    if model.serving() == before {
        return;
    }
    let told = std::mem::take(&mut model.waiting_told);
    let Some(old) = before.and_then(|n| model.node(n)).filter(|n| n.answers()) else { return };
    let waiting = old.sample.as_ref().map_or(0, |s| s.waiting.len());
    if told > 0 && waiting > 0 {
        let text = format!(
            "{waiting} commits still wait on {}; the writer moved on and won't learn what becomes of them",
            old.name
        );
        model.say(Who::Lab, Tone::Warn, text);
    }
}

fn follow(model: &mut Model, standby: &NodeName, upstream: &NodeName) {
    if let Some(node) = model.node_mut(standby) {
        node.forked_told = false;
        node.upstream = Some(upstream.clone());
    }
}

fn removed(model: &mut Model, name: &NodeName) -> Vec<Effect> {
    if model.serving() == Some(name) {
        // What waited there went with it.
        model.waiting_told = 0;
    }
    model.nodes.retain(|n| n.name != *name);
    model.links.forget(name);
    holds_no_more(model, name);
    if model.writer.plan.target.as_ref() != Some(name) {
        return Vec::new();
    }
    model.writer.follows = true;
    model.writer.plan.target.clone_from(&model.primary);
    model.say(Who::Lab, Tone::Plain, "the writer follows the primary again: its target is gone");
    vec![Effect::Writer(model.writer.plan.clone())]
}

fn verified(model: &mut Model, happened: &Happened, op: &Op) {
    let Happened::Verified(reading) = happened else { return };
    let books = op.books.clone().unwrap_or_else(|| model.ledger.clone());
    let rivals: Vec<NodeName> = model.rivals().map(|n| n.name.clone()).collect();
    let mut verification = verdict::judge(&Case {
        at: model.now,
        books: &books,
        now: &model.ledger,
        reading,
        primary: model.primary.as_ref(),
        system_identifier: model.system_identifier,
        lab: &model.lab,
        rivals: &rivals,
    });
    // Until a promotion is complete nobody can say which history counts.
    let promotes = model.ops.values().any(|op| matches!(op.command, Some(Command::Promote(_))));
    if promotes || model.handover().is_some() {
        let why = "a promotion is under way".to_owned();
        verification =
            Verification { judged: false, lost: 0, stranded: 0, verdict: Verdict::Unknown(why), ..verification };
    }
    model.verification = Some(verification);
}

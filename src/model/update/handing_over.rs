//! The primary's part moves to another node: watched for, elected, timed. What is decided is decided in `election` and
//! `detector`; here it becomes effects, stamps and sentences.

use crate::model::cluster::{NodeState, Role};
use crate::model::command::Command;
use crate::model::detector::{AutoFailover, Cause, Probe};
use crate::model::election::{Answer, Choice, Race};
use crate::model::handover::{Handover, Kind, Question, Timeline};
use crate::model::journal::{Tone, Who};
use crate::model::msg::{Act, Effect, OpId, Origin, Reached, Taken, WriterPlan};
use crate::model::sync_rule::SyncRule;
use crate::model::{Lsn, Model, Node, NodeName, Op};

/// An election that waits asks again after this long.
const ASK_AGAIN_MS: u64 = 250;
/// A primary that was started while an election waits is waited for so long: crash recovery takes a second or two.
const COMES_UP_MS: u64 = 10_000;
/// Why an election doesn't cover promises of an earlier rule (see `promise`).
const RULE_CHANGED: &str = "the rule had just changed";
/// An automatic failover that failed isn't tried again before this.
const TRY_AGAIN_MS: u64 = 5_000;

/// `auto-failover`: the detector is set, and probes begin or end.
pub fn set_detector(model: &mut Model, auto: Option<AutoFailover>) -> Effect {
    // Other orders make nothing unseen.
    if model.detector.auto.is_none() {
        model.detector.begin_anew(model.now);
    }
    model.detector.auto.clone_from(&auto);
    Effect::Probe(auto.map(|a| a.probe_ms()))
}

/// A probe came back.
pub fn probed(model: &mut Model, node: &NodeName, probe: &Probe) -> Vec<Effect> {
    model.detector.probed(model.now, node, probe, model.primary.as_ref());
    watch(model)
}

/// Asks the detector, and begins a failover when the primary is gone.
pub fn watch(model: &mut Model) -> Vec<Effect> {
    let Some(primary) = model.primary.clone().filter(|_| model.detector.auto.is_some()) else { return Vec::new() };
    let (now, under_way) =
        (model.now, |what: fn(&Command) -> bool| model.ops.values().filter_map(|op| op.command.as_ref()).any(what));
    let (busy, repoints) = (under_way(moves_the_primary), under_way(repoints));
    if busy || repoints {
        model.detector.forgive(now);
    }
    let witnesses = model.witnesses(&primary);
    let Some(cause) = model.detector.judge(now, &primary, &witnesses) else { return Vec::new() };
    let failed = |h: &Handover| {
        h.failed.is_some()
            && !h.called_off
            && h.kind != Kind::Failover(Cause::Ordered)
            && now.ms_since(h.detected.unwrap_or(h.began)) < TRY_AGAIN_MS
    };
    if busy || model.handovers.last().is_some_and(failed) || !model.nodes.iter().any(is_standby) {
        return Vec::new();
    }
    let exact = model.fault_behind(cause);
    let began = exact.or_else(|| model.detector.last_good(&primary)).unwrap_or(now);
    let allow_loss = model.detector.auto.as_ref().is_some_and(|a| a.allow_loss);
    model.say(Who::Lab, Tone::Bad, format!("{primary} {}: it is taken for dead", cause.words()));
    let id = super::commands::begin(model, Some(Command::Failover { allow_loss }), Origin::Lab);
    let mut handover = Handover::new(id, Kind::Failover(cause), Some(primary), began, exact.is_some());
    (handover.detected, handover.question) = (Some(now), question(model, 0));
    model.handovers.push(handover);
    vec![Effect::Run(id, canvass(model, 0))]
}

/// What changes who is primary: while it goes on the detector's word doesn't count.
pub fn moves_the_primary(command: &Command) -> bool {
    use Command as C;
    matches!(
        command,
        C::Failover { .. } | C::Switchover(_) | C::Promote(_) | C::Reset | C::Rejoin { .. } | C::Start(_) | C::Fence(_)
    )
}

/// What takes standbys from one upstream to another.
fn repoints(command: &Command) -> bool {
    matches!(command, Command::Follow { .. } | Command::FollowAll(_) | Command::Add { .. })
}

fn is_standby(node: &Node) -> bool {
    node.role() == Some(Role::Standby)
}

/// The standbys that follow `node` directly.
pub fn followers_of<'a>(model: &'a Model, node: &'a NodeName) -> impl Iterator<Item = &'a Node> {
    model.nodes.iter().filter(move |n| is_standby(n) && n.upstream.as_ref() == Some(node))
}

/// A person's `failover` or `switchover` begins.
pub fn by_order(model: &mut Model, id: OpId, command: &Command) {
    let old = model.primary.clone();
    let fault = model.fault_behind(Cause::Ordered);
    let seen = model.primary_node().and_then(|n| n.seen);
    let handover = match command {
        Command::Failover { .. } => {
            let began = fault.or(seen).unwrap_or(model.now);
            let mut handover = Handover::new(id, Kind::Failover(Cause::Ordered), old, began, fault.is_some());
            (handover.detected, handover.question) = (Some(model.now), question(model, 0));
            handover
        }
        _ => Handover::new(id, Kind::Switchover, old, model.now, true),
    };
    model.handovers.push(handover);
}

/// The question to all standbys. A primary that has ended is fenced before the first, where that is wanted: it stays down then.
/// One that may still run isn't fenced for an election that may come to nothing (see `fence_and_ask`).
pub fn canvass(model: &Model, after_ms: u64) -> Act {
    let fence = after_ms == 0 && fences(model) && has_ended(model, after_ms);
    let counts = question(model, after_ms) == Question::Counts;
    Act::Canvass { standbys: candidates(model), fence: model.primary.clone().filter(|_| fence), after_ms, counts }
}

/// What the answers to a question that is put now are good for.
fn question(model: &Model, after_ms: u64) -> Question {
    if fences(model) && !has_ended(model, after_ms) { Question::Counts } else { Question::Decides }
}

/// Whether the old primary is to be fenced before another is promoted.
fn fences(model: &Model) -> bool {
    model.detector.auto.as_ref().is_none_or(|a| a.fence)
}

/// Whether nothing more can come from the primary when a question that is put now is answered: it is down. One that is just being
/// killed by order may be fenced with the first question, which takes nothing away.
fn has_ended(model: &Model, after_ms: u64) -> bool {
    let killed = |p: &Node| model.ops.values().any(|op| op.command.as_ref() == Some(&Command::Kill(p.name.clone())));
    let ended = |p: &Node| matches!(p.state, NodeState::Exited(_)) || (after_ms == 0 && killed(p));
    model.primary_node().is_some_and(ended)
}

/// Too little is known for an election: the same question a little later.
fn ask_again(model: &mut Model, id: OpId) -> Vec<Effect> {
    let question = question(model, ASK_AGAIN_MS);
    if let Some(h) = handover(model, id) {
        h.question = question;
    }
    vec![Effect::Run(id, canvass(model, ASK_AGAIN_MS))]
}

/// Enough standbys have answered: now the old primary is fenced, and they are asked once more, since it may have written on. What
/// it has sent by then still arrives, and nothing more can come.
fn fence_and_ask(model: &mut Model, id: OpId) -> Vec<Effect> {
    if let Some(h) = handover(model, id) {
        h.question = Question::Fences;
        h.waits_for.clear();
    }
    let act = Act::Canvass { standbys: candidates(model), fence: model.primary.clone(), after_ms: 0, counts: false };
    vec![Effect::Run(id, act)]
}

/// What an election that comes to nothing for now has cost already, to stand before the reason.
fn cost(model: &Model, asked: Question) -> String {
    let fenced = model.primary.as_ref().filter(|_| asked == Question::Fences);
    fenced.map_or_else(String::new, |old| format!("{old} is fenced, and "))
}

/// The handover whose election waits, also while its operation is being judged.
fn waiting(model: &Model) -> Option<&Handover> {
    model.handovers.last().filter(|h| !h.waits_for.is_empty())
}

/// Whether the primary was started or thawed while the election waited.
fn revived(model: &Model, waiting: &Handover) -> bool {
    let since = waiting.detected.unwrap_or(waiting.began);
    model.primary_node().is_some_and(|p| p.state == NodeState::Running && p.state_since > since)
}

/// Whether it was revived and hasn't had the time to come up: it isn't to be fenced, and nobody else promoted.
fn starts(model: &Model, waiting: &Handover) -> bool {
    let in_time = |p: &Node| model.now.ms_since(p.state_since) < COMES_UP_MS;
    revived(model, waiting) && model.primary_node().is_some_and(in_time)
}

/// Whether the primary for which the election waits answers as a primary again, and why it was taken for dead is over.
fn is_back(model: &Model, waiting: &Handover) -> bool {
    let since = waiting.detected.unwrap_or(waiting.began);
    let Some(primary) = model.primary_node().filter(|p| p.answers() && p.is_primary_now()) else { return false };
    let over = match waiting.kind {
        Kind::Failover(Cause::CutOff) => followers_of(model, &primary.name).any(|n| model.detector.is_fed(&n.name)),
        _ => model.detector.last_good(&primary.name) > Some(since),
    };
    over || revived(model, waiting)
}

/// Calls an election off when nobody needs it any more; the reason, if so.
pub fn called_off(model: &mut Model, id: OpId) -> Option<String> {
    let why = format!("{}: no failover", needless(model, id)?);
    // What was seen before has led to this failover, and must not lead to the next.
    model.detector.begin_anew(model.now);
    handover(model, id)?.called_off = true;
    model.say(Who::Lab, Tone::Good, why.clone());
    Some(why)
}

/// Why an election isn't needed any more: another node has the primary's part, or the one for which it waits is back.
fn needless(model: &Model, id: OpId) -> Option<String> {
    let election = model.handovers.last().filter(|h| h.op == id)?;
    let primary = model.primary.as_ref()?;
    if election.old.as_ref() != Some(primary) {
        return Some(format!("{primary} has become the primary meanwhile"));
    }
    (!election.waits_for.is_empty() && is_back(model, election)).then(|| format!("{primary} is back"))
}

/// Whether somebody is being promoted by hand, which is allowed while an election waits: nobody else is promoted beside it.
fn is_promoting(model: &Model) -> bool {
    model.ops.values().any(|op| matches!(op.command, Some(Command::Promote(_))))
}

/// Standbys of this cluster that are on the primary's history, or on the way to it.
fn candidates(model: &Model) -> Vec<NodeName> {
    let ours = |n: &&Node| n.sample.as_ref().map(|s| s.system_identifier) == model.system_identifier;
    model
        .nodes
        .iter()
        .filter(|n| is_standby(n) && !model.has_diverged(n))
        .filter(ours)
        .map(|n| n.name.clone())
        .collect()
}

fn handover(model: &mut Model, id: OpId) -> Option<&mut Handover> {
    model.handovers.iter_mut().rev().find(|h| h.op == id)
}

/// The standbys have answered: one is elected, or the old primary is fenced before that, or more answers are waited for. An error
/// ends the operation.
pub fn canvassed(
    model: &mut Model,
    id: OpId,
    op: &Op,
    answers: &[Answer],
    steps: Vec<String>,
) -> Result<Vec<Effect>, String> {
    let by_itself = op.origin == Origin::Lab;
    let asked = handover(model, id).map(|h| h.question).unwrap_or_default();
    let cost = cost(model, asked);
    if by_itself && model.detector.auto.is_none() {
        return Err(format!("{cost}automatic failover was switched off"));
    }
    // The order may have come while it waited: to this election, or to the detector.
    let allow_loss = matches!(op.command, Some(Command::Failover { allow_loss: true }))
        || (by_itself && model.detector.auto.as_ref().is_some_and(|a| a.allow_loss));
    if is_promoting(model) || waiting(model).is_some_and(|h| starts(model, h)) {
        return Ok(ask_again(model, id));
    }
    for answer in answers {
        model.seen_on(&answer.node, answer.timeline);
    }
    let (rule, at_work, standbys) = (model.rule(), model.rule_at_work(), candidates(model));
    let race = Race { rule: at_work.as_ref(), standbys: &standbys, answers };
    match race.elect(allow_loss) {
        Choice::Nobody => Err(format!("{cost}there is no standby left")),
        Choice::Wait { have, need, whom } if by_itself => {
            let way_out = if answers.is_empty() { "" } else { " (`failover allow-loss` goes on without them)" };
            wait_on(model, id, &format!("{cost}{}", answered(have, need)), whom, way_out);
            Ok(ask_again(model, id))
        }
        Choice::Wait { have, need, whom } => Err(format!(
            "{cost}{}. {} missing. `failover allow-loss` goes on without",
            answered(have, need),
            listed(&whom)
        )),
        Choice::Elected { node, .. } if model.stopped_by(&node).is_some() => Err(format!(
            "{cost}{node} has most of the log, and PostgreSQL doesn't promote it: it has stopped replaying ({}). `raise {node}`, \
             then `failover`",
            model.stopped_by(&node).unwrap_or_default()
        )),
        Choice::Elected { .. } if asked == Question::Counts && fences(model) => Ok(fence_and_ask(model, id)),
        Choice::Elected { node, doubt } => {
            let mut text = elected(answers, &node, doubt.as_deref());
            if let Some(other) = model.impostors().first() {
                text += &format!(
                    "; a connection called {} counted too, and {node} may lack what it alone confirmed",
                    other.name
                );
            }
            let tone = if doubt.is_some() { Tone::Warn } else { Tone::Plain };
            model.note(Who::Lab, tone, text, steps);
            let now = model.now;
            if let Some(h) = handover(model, id) {
                (h.elected, h.new, h.doubt) = (Some(now), Some(node.clone()), doubt);
                h.waits_for.clear();
            }
            let mut effects = get_ready(model, &node);
            effects.push(Effect::Run(id, take_over(model, rule.as_ref(), node)));
            Ok(effects)
        }
    }
}

/// The writer logs in where it will write next, and holds back until that one accepts writes: a log-in takes longer than the
/// promotion of a small server.
fn get_ready(model: &Model, next: &NodeName) -> Vec<Effect> {
    let plan = WriterPlan { target: Some(next.clone()), paused: true, ..model.writer.plan.clone() };
    if model.writer.follows { vec![Effect::Writer(plan)] } else { Vec::new() }
}

/// The rule as the next primary should have it: without its own name. None: it has that already, or the rule isn't known.
fn carried(model: &Model, rule: Option<&SyncRule>, node: &NodeName) -> Option<SyncRule> {
    let rule = rule?.without(node.as_str());
    let has = model.node(node).and_then(|n| n.sample.as_ref()).map(|s| s.settings.synchronous_standby_names.as_str());
    (has != Some(rule.setting().as_str())).then_some(rule)
}

/// The act of a planned handover.
pub fn switchover(model: &Model, old: NodeName, node: NodeName) -> Act {
    let followers = followers_of(model, &old).map(|n| n.name.clone()).filter(|n| *n != node).collect();
    let rule = carried(model, model.rule().as_ref(), &node);
    Act::Switchover { old, node, rule, followers }
}

/// `failover allow-loss` while an election waits: the next time it asks it makes do with whoever answers.
pub fn makes_do(model: &mut Model, command: &Command, origin: Origin) -> Option<OpId> {
    let id = model.waiting_election()?.op;
    let op = model.ops.get_mut(&id).filter(|_| *command == Command::Failover { allow_loss: true })?;
    op.command = Some(command.clone());
    model.say(origin.into(), Tone::Plain, format!("{command}: the election makes do with the standbys that answer"));
    Some(id)
}

fn wait_on(model: &mut Model, id: OpId, so_far: &str, whom: Vec<String>, way_out: &str) {
    let told = handover(model, id).map(|h| std::mem::replace(&mut h.waits_for, whom.clone()));
    if told.as_ref() != Some(&whom) {
        let whom = whom.join(", ");
        let text =
            format!("the election waits for {whom}: {so_far}; without them acknowledged writes could be lost{way_out}");
        model.say(Who::Lab, Tone::Warn, text);
    }
}

/// What an election lacks.
fn answered(have: usize, need: usize) -> String {
    format!("only {have} of the {need} required {} answered", if need == 1 { "standby" } else { "standbys" })
}

/// "s2 is", "s1 and s2 are".
fn listed(whom: &[String]) -> String {
    format!("{} {}", whom.join(" and "), if whom.len() == 1 { "is" } else { "are" })
}

fn elected(answers: &[Answer], node: &NodeName, doubt: Option<&str>) -> String {
    let places: Vec<String> = answers.iter().map(|a| format!("{} at {}", a.node, a.wal)).collect();
    let but = doubt.map_or(String::new(), |why| format!("; acknowledged writes may be lost: {why}"));
    format!("{node} is elected ({}){but}", places.join(", "))
}

fn take_over(model: &Model, rule: Option<&SyncRule>, node: NodeName) -> Act {
    let primary = model.primary.clone();
    let others = |n: &&Node| n.name != node && n.state == NodeState::Running && !model.has_diverged(n);
    let followers = primary.iter().flat_map(|p| followers_of(model, p)).filter(others).map(|n| n.name.clone());
    Act::TakeOver { followers: followers.collect(), rule: carried(model, rule, &node), node }
}

/// A long operation has come so far.
pub fn reached(model: &mut Model, id: OpId, reached: Reached) -> Vec<Effect> {
    let now = model.now;
    let Some(h) = handover(model, id) else { return Vec::new() };
    match reached {
        Reached::Stopped => h.detected = Some(now),
        Reached::Chosen(node) => {
            h.elected = Some(now);
            if let Some(old) = h.old.clone() {
                model.is_of_one_with(&node, &old);
            }
            return get_ready(model, &node);
        }
        Reached::Followed => h.repointed = Some(now),
        Reached::Counted(_) => {}
        Reached::Open(node) => {
            (h.promoted, h.new) = (Some(now), Some(node.clone()));
            let doubt = h.doubt.clone();
            return take_office(model, &node, doubt);
        }
    }
    Vec::new()
}

/// What becomes of the promises when the primary's part moves: `doubt` says why the new one may lack what was promised, and ends them
/// all, those too that no look had confirmed yet. So shortly after a change of the rule the earlier ones end.
fn carry_promises(model: &mut Model, doubt: Option<String>) {
    if !model.footing.moved() && doubt.is_none() {
        model.ledger.end_promises(RULE_CHANGED);
    }
    model.ledger.primary_moved();
    if let Some(why) = doubt {
        model.ledger.end_promises(&why);
        model.unsafe_election.get_or_insert(why);
    }
}

/// A node is the primary from now on: the writer and the heartbeat go there. `doubt`: why it may lack what was promised, if so.
pub fn take_office(model: &mut Model, name: &NodeName, doubt: Option<String>) -> Vec<Effect> {
    model.rule_seen = None;
    carry_promises(model, doubt);
    let served = model.serving().cloned();
    model.primary = Some(name.clone());
    if let Some(node) = model.node_mut(name) {
        node.upstream = None;
        node.forked_told = false;
        if let Some(sample) = &mut node.sample {
            sample.role = Role::Primary;
            sample.receiver = None;
            sample.waiting.clear();
        }
    }
    let now = model.now;
    model.detector.begin_anew(now);
    let mut effects = Vec::new();
    if model.writer.follows {
        model.writer.plan.target = Some(name.clone());
        effects.push(Effect::Writer(model.writer.plan.clone()));
    }
    super::outcomes::leave_waiting_behind(model, served.as_ref());
    if model.heartbeat {
        model.heart_since = now;
        effects.push(Effect::Heartbeat(Some(name.clone())));
    }
    effects
}

/// A timeline that a node began when it was on the one before. Two that are promoted off the same one both call theirs by the same
/// number, and one node may begin several of one number, when it was brought back in between.
pub fn begins(model: &mut Model, name: &NodeName, timeline: u32, before: Option<u32>, fork: Option<Lsn>) {
    let (at, off) = (model.now, model.node(name).and_then(|n| n.history));
    if let Some(known) = off.and_then(|at| model.timelines.get_mut(at)).filter(|t| t.id == timeline && t.node == *name)
    {
        known.fork = known.fork.or(fork);
        return;
    }
    let of_off = off.and_then(|at| model.timelines.get(at)).map(|t| t.id);
    let older = || model.timelines.iter().map(|t| t.id).filter(|id| *id < timeline).max();
    let parent = of_off.or(before).filter(|id| *id < timeline).or_else(older);
    model.timelines.push(Timeline { id: timeline, parent, fork, node: name.clone(), at, off });
    let history = model.timelines.len() - 1;
    model.is_of(name, Some(history));
}

/// What is known of a new primary once it is one.
pub fn settle_in(model: &mut Model, name: &NodeName, timeline: u32, fork: Option<Lsn>, names: &str) {
    let before = model.node(name).and_then(|n| n.sample.as_ref()).map(|s| s.timeline);
    begins(model, name, timeline, before, fork);
    if let Some(sample) = model.node_mut(name).and_then(|n| n.sample.as_mut()) {
        sample.timeline = timeline;
        names.clone_into(&mut sample.settings.synchronous_standby_names);
    }
}

/// A failover or switchover is through.
pub fn handed_over(model: &mut Model, id: OpId, taken: &Taken) {
    let now = model.now;
    let Some(h) = handover(model, id) else { return };
    h.alone = taken.followed.is_empty() && taken.missed.is_empty();
    h.repointed = h.repointed.or(Some(now)).filter(|_| !h.alone);
    let (old, new) = (h.old.clone(), h.new.clone());
    let Some(new) = new else { return };
    settle_in(model, &new, taken.timeline, taken.fork, &taken.names);
    let history = model.node(&new).and_then(|n| n.history);
    for node in &mut model.nodes {
        if taken.followed.contains(&node.name) {
            node.upstream = Some(new.clone());
            node.forked_told = false;
            node.history = history;
            if let Some(sample) = &mut node.sample {
                sample.role = Role::Standby;
            }
        }
    }
    if let Some(old) = old {
        super::stragglers::left_behind(model, &old, &new, &taken.missed);
    }
    tell_figures(model);
}

/// The first write was acknowledged on the node that the writer was told of.
pub fn first_ack(model: &mut Model, node: &NodeName) {
    let now = model.now;
    let wanted = |h: &&mut Handover| h.new.as_ref() == Some(node) && h.promoted.is_some() && h.acked.is_none();
    if let Some(h) = model.handovers.last_mut().filter(wanted) {
        h.acked = Some(now);
        // Whether there are others to follow is known at its end.
        if model.handover().is_none() {
            tell_figures(model);
        }
    }
}

fn tell_figures(model: &mut Model) {
    let Some(h) = model.handovers.last_mut().filter(|h| !h.told && h.failed.is_none()) else { return };
    if let Some(sentence) = h.sentence() {
        h.told = true;
        model.say(Who::Lab, Tone::Good, sentence);
    }
}

/// It came to nothing: the writer goes back to where it was.
pub fn broke_off(model: &mut Model, id: OpId, why: &str) -> Vec<Effect> {
    let Some(h) = handover(model, id) else { return Vec::new() };
    h.failed = Some(why.to_owned());
    h.waits_for.clear();
    vec![Effect::Writer(model.writer.plan.clone())]
}

/// A node was told to die so that only one primary is left: if that was the lab's, the other one is it from now on.
pub fn fenced(model: &mut Model, name: &NodeName) -> Vec<Effect> {
    let other = model.nodes.iter().find(|n| {
        n.name != *name
            && n.state == NodeState::Running
            && n.role() == Some(Role::Primary)
            && n.sample.as_ref().map(|s| s.system_identifier) == model.system_identifier
    });
    match other.map(|n| n.name.clone()).filter(|_| model.primary.as_ref() == Some(name)) {
        Some(other) => {
            let doubt = format!("{name} was fenced, and {other} kept");
            take_office(model, &other, Some(doubt))
        }
        None => Vec::new(),
    }
}

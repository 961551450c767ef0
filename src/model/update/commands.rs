//! Commands: judged, booked as operations, turned into effects.

use super::handing_over;
use crate::model::admit::admit_now;
use crate::model::cluster::{NodeState, Role};
use crate::model::command::Command;
use crate::model::detector::Detector;
use crate::model::election::{Answer, Race};
use crate::model::handover::Timeline;
use crate::model::journal::{Tone, Who};
use crate::model::ledger::Ledger;
use crate::model::links::{Links, Which};
use crate::model::msg::{Act, Effect, Happened, OpId, Opening, Origin, Outcome, Topology};
use crate::model::promise::Footing;
use crate::model::sync_rule::SyncRule;
use crate::model::{Fault, Model, Node, NodeName, Op, Stage, Writer, outage};

/// The lab begins: nodes are named, bring-up is ordered.
pub fn open(model: &mut Model, opening: Opening) -> Vec<Effect> {
    model.lab = opening.lab;
    model.runtime = opening.runtime;
    model.source = opening.source;
    model.read_only = opening.read_only;
    model.script = opening.script;
    model.heartbeat = true;
    model.disk_floor = opening.disk_floor;
    model.writer = Writer { first: opening.writer.clone(), plan: opening.writer, follows: true, ..Writer::default() };
    lay_out(model, opening.topology);
    let id = begin(model, None, Origin::Lab);
    vec![Effect::Run(id, Act::BringUp(model.topology.clone()))]
}

/// Puts the topology's nodes into the model, as if nothing had ever happened to them.
pub fn lay_out(model: &mut Model, topology: Topology) {
    model.nodes = topology.nodes.iter().map(|n| Node::new(n.name.clone(), n.upstream.clone())).collect();
    model.primary = topology.primary().cloned();
    model.topology = topology;
    model.links = Links::default();
}

/// A command came in: what is refused is said, the rest begins.
pub fn requested(model: &mut Model, command: Command, origin: Origin) -> Vec<Effect> {
    let (answer, mut effects) = match request(model, command.clone(), origin) {
        Ok((ops, effects)) => (Ok(ops), effects),
        Err(why) => {
            model.say(origin.into(), Tone::Bad, format!("{command}: {why}"));
            (Err(why), Vec::new())
        }
    };
    if let Origin::Outside(number) = origin {
        effects.push(Effect::Answer(number, answer));
    }
    effects
}

/// The same for a caller that waits: the operations it became (none where it is done at once), or why it is refused.
pub fn request(model: &mut Model, command: Command, origin: Origin) -> Result<(Vec<OpId>, Vec<Effect>), String> {
    let verdict = admit_now(model, &command);
    if super::later::must_wait(model, &command, &verdict) {
        return Ok((vec![super::later::put_off(model, command, origin)], Vec::new()));
    }
    verdict?;
    if let Some(effects) = at_once(model, &command, origin) {
        return Ok((Vec::new(), effects));
    }
    if command == Command::Heal(None) {
        return heal_all(model, origin);
    }
    if let Some(id) = handing_over::makes_do(model, &command, origin) {
        return Ok((vec![id], Vec::new()));
    }
    let id = number(model);
    let effects = carry(model, id, command, origin)?;
    Ok((vec![id], effects))
}

/// The command's operation begins.
pub fn carry(model: &mut Model, id: OpId, command: Command, origin: Origin) -> Result<Vec<Effect>, String> {
    change_links(model, &command);
    let act = act_of(model, &command, origin)?;
    model.say(origin.into(), Tone::Plain, command.to_string());
    if let Command::Sync(rule) = &command {
        model.rule_seen = None;
        call_out_strangers(model, rule);
    }
    match &act {
        Act::Add { name, upstream } => appear(model, name, Some(upstream.clone())),
        Act::AddFresh(name) => appear(model, name, None),
        _ => {}
    }
    let mut effects = Vec::new();
    if command == Command::Reset {
        model.writer.plan.target = None;
        effects.extend([Effect::Heartbeat(None), Effect::Writer(model.writer.plan.clone())]);
    }
    remember_fault(model, &command);
    warn_of_a_laggard(model, &command);
    warn_of_one_number(model, &command);
    begin_as(model, id, Some(command.clone()), origin);
    if matches!(command, Command::Failover { .. } | Command::Switchover(_)) {
        handing_over::by_order(model, id, &command);
    }
    if let Command::Sql { node, session: Some(session), .. } = &command {
        model.session_begins(session, node, id, origin);
    }
    effects.push(Effect::Run(id, act));
    Ok(effects)
}

/// Faults of links are wanted at once, so that the next command adds to them; the act carries all of them.
fn change_links(model: &mut Model, command: &Command) {
    let pairs = |which: &Which| which.pairs(model.names());
    match command {
        Command::Link(harm, which) => model.links.harm(pairs(which), *harm),
        Command::Heal(Some(which)) => model.links.heal(&pairs(which)),
        _ => {}
    }
}

/// When a node was taken out of service: of several such faults the first counts, until it is well again (see `outage`).
fn remember_fault(model: &mut Model, command: &Command) {
    if let Some(node) = outage::victim(command) {
        let now = model.now;
        model.fault_at.entry(node.clone()).or_insert(now);
    }
}

/// Promoting one that is behind another is allowed, and said.
fn warn_of_a_laggard(model: &mut Model, command: &Command) {
    let Command::Promote(node) = command else { return };
    if let Some(ahead) = super::wording::ahead(model, node) {
        model.say(Who::Lab, Tone::Warn, ahead);
    }
}

/// One that comes back to a history whose numbers are those of its own: said before anything is begun.
fn warn_of_one_number(model: &mut Model, command: &Command) {
    let (Command::Rejoin { node, .. }, Some(source)) = (command, model.primary.clone()) else { return };
    if let Some(why) = model.pair(node, &source).one_number() {
        let text = format!(
            "{node} has diverged from {source}: {why}. PostgreSQL compares only numbers, so neither streaming nor pg_rewind would notice. \
             The rows that only {node} has are counted, then {node} is made anew"
        );
        model.say(Who::Lab, Tone::Warn, text);
    }
}

/// Standbys that `follow all` repoints: all that run and don't follow that node already, but for those it follows itself.
pub fn all_that_can_follow(model: &Model, upstream: &NodeName) -> Vec<NodeName> {
    let can = |n: &&Node| {
        let command = Command::Follow { standby: n.name.clone(), upstream: upstream.clone() };
        n.upstream.as_ref() != Some(upstream) && n.state == NodeState::Running && admit_now(model, &command).is_ok()
    };
    model.nodes.iter().filter(can).map(|n| n.name.clone()).collect()
}

/// A node that an operation is making appears while it is made.
fn appear(model: &mut Model, name: &NodeName, upstream: Option<NodeName>) {
    if model.node(name).is_none() {
        let history = upstream.as_ref().and_then(|u| model.node(u)).and_then(|n| n.history);
        model.nodes.push(Node { history, ..Node::new(name.clone(), upstream) });
    }
}

/// Names in a new rule that no standby has: PostgreSQL takes them all the same.
fn call_out_strangers(model: &mut Model, rule: &SyncRule) {
    let server = model.serving().cloned();
    let own = |name: &str| server.as_ref().is_some_and(|p| p.as_str().eq_ignore_ascii_case(name));
    let known = |name: &str| name == "*" || model.standing(name).is_some();
    let (there, strangers): (Vec<&String>, Vec<&String>) = rule.names().iter().partition(|n| known(n));
    let enough = there.iter().any(|n| *n == "*") || there.len() >= rule.needed() as usize;
    let told: Vec<(Tone, String)> = strangers
        .into_iter()
        .map(|name| match (own(name), enough) {
            (true, true) => {
                (Tone::Plain, format!("{name} is the primary, no standby of its own: commits wait for the others of the rule"))
            }
            (true, false) => (
                Tone::Warn,
                format!(
                    "{name} is the primary, no standby of its own: without it the rule names fewer standbys than it asks \
                     for, and commits wait"
                ),
            ),
            (false, true) => (
                Tone::Warn,
                format!("no standby is called {name}: PostgreSQL accepts such a rule, and commits wait for the others alone"),
            ),
            (false, false) => (
                Tone::Warn,
                format!(
                    "no standby is called {name}: PostgreSQL accepts such a rule, and commits wait for a standby that \
                     never comes"
                ),
            ),
        })
        .collect();
    for (tone, text) in told {
        model.say(Who::Lab, tone, text);
    }
}

/// An operation begins.
pub fn begin(model: &mut Model, command: Option<Command>, origin: Origin) -> OpId {
    let id = number(model);
    begin_as(model, id, command, origin);
    id
}

/// The number of the next operation.
pub fn number(model: &mut Model) -> OpId {
    let id = OpId(model.next_op);
    model.next_op += 1;
    id
}

fn begin_as(model: &mut Model, id: OpId, command: Option<Command>, origin: Origin) {
    let books = matches!(command, Some(Command::Verify)).then(|| model.ledger.clone());
    let unsafe_election = match &command {
        Some(Command::Promote(node)) => election_doubt(model, node),
        _ => None,
    };
    let targets = match &command {
        Some(Command::FollowAll(upstream)) => all_that_can_follow(model, upstream),
        _ => Vec::new(),
    };
    model.ops.insert(id, Op { command, origin, since: model.now, books, unsafe_election, targets, put_off: false });
}

/// Why a promotion by hand isn't one that the rule's promise covers, if so (see `election`).
fn election_doubt(model: &Model, chosen: &NodeName) -> Option<String> {
    let rule = model.rule_at_work();
    if let (Some(node), Some(primary)) = (model.node(chosen).filter(|n| model.has_diverged(n)), &model.primary) {
        return Some(format!("{} is on another history than {primary}", node.name));
    }
    let asked = |n: &&Node| n.role() == Some(Role::Standby) && n.answers() && !model.has_diverged(n);
    let standbys: Vec<&Node> = model.nodes.iter().filter(asked).collect();
    let answers: Vec<Answer> = standbys
        .iter()
        .filter_map(|n| {
            let sample = n.sample.as_ref()?;
            Some(Answer { node: n.name.clone(), timeline: sample.timeline, wal: sample.wal })
        })
        .collect();
    let standbys: Vec<NodeName> = standbys.iter().map(|n| n.name.clone()).collect();
    Race { rule: rule.as_ref(), standbys: &standbys, answers: &answers }.doubt(chosen)
}

/// What needs no adapter's answer.
fn at_once(model: &mut Model, command: &Command, origin: Origin) -> Option<Vec<Effect>> {
    let (before, plan) = (model.serving().cloned(), &mut model.writer.plan);
    match command {
        Command::Commit(level) => {
            plan.level.clone_from(level);
            model.rule_seen = None;
        }
        Command::Clients(n) => plan.clients = *n,
        Command::Rate(rate) => plan.rate = *rate,
        Command::Pause => plan.paused = true,
        Command::Resume => plan.paused = false,
        Command::Write(_) => {}
        Command::Target(node) => {
            model.writer.follows = node.is_none();
            plan.target = node.clone().or_else(|| model.primary.clone());
            super::outcomes::leave_waiting_behind(model, before.as_ref());
        }
        Command::AutoFailover(auto) => {
            let effect = handing_over::set_detector(model, auto.clone());
            let sentence = super::wording::at_once(model, command);
            model.note(origin.into(), Tone::Plain, sentence, Vec::new());
            return Some(vec![effect]);
        }
        Command::Heartbeat(on) => {
            model.heartbeat = *on;
            model.heart_since = model.now;
        }
        _ => return None,
    }
    let sentence = super::wording::at_once(model, command);
    model.note(origin.into(), Tone::Plain, sentence, Vec::new());
    Some(match command {
        Command::Write(n) => vec![Effect::Burst(*n)],
        Command::Heartbeat(on) => vec![Effect::Heartbeat(model.primary.clone().filter(|_| *on))],
        _ => vec![Effect::Writer(model.writer.plan.clone())],
    })
}

/// `heal`: each fault by its own verb. A former primary that is down stays down: started, it would be a second one.
fn heal_all(model: &mut Model, origin: Origin) -> Result<(Vec<OpId>, Vec<Effect>), String> {
    let cures: Vec<Command> = model
        .faults()
        .into_iter()
        .filter_map(|fault| match fault {
            Fault::Frozen(n) => Some(Command::Thaw(n)),
            Fault::ReplayStopped(n, _) => Some(Command::Raise(n)),
            // Resumed, it would stop again.
            Fault::ReplayPaused(n) if model.lacks(&n) => Some(Command::Raise(n)),
            Fault::ReplayPaused(n) => Some(Command::ResumeReplay(n)),
            Fault::Link(_) | Fault::Isolated(_) | Fault::Rival(_) => None,
            Fault::Down(n) if model.return_of(&n).is_some() => None,
            Fault::Down(n) if model.rejoins_by_itself(&n) && model.lacks(&n) => Some(Command::Raise(n)),
            Fault::Down(n) => {
                (model.primary.as_ref() == Some(&n) || model.rejoins_by_itself(&n)).then_some(Command::Start(n))
            }
        })
        .collect();
    model.say(origin.into(), Tone::Plain, "heal");
    call_out_former_primaries(model);
    if model.faults().is_empty() {
        model.say(Who::Lab, Tone::Plain, "there is no fault to heal");
    }
    let (mut ids, mut effects, mut refused) = (Vec::new(), Vec::new(), None);
    if !model.links.is_healthy() {
        model.links = Links::default();
        ids.push(begin(model, Some(Command::Heal(None)), Origin::Lab));
        effects.push(Effect::Run(ids[0], Act::Links(Links::default())));
    }
    for cure in cures {
        // One that is refused must not take the others along: they have begun.
        match request(model, cure.clone(), Origin::Lab) {
            Ok((more, work)) => {
                ids.extend(more);
                effects.extend(work);
            }
            Err(why) => {
                model.say(Who::Lab, Tone::Bad, format!("{cure}: {why}"));
                refused = Some(why);
            }
        }
    }
    refused.filter(|_| ids.is_empty()).map_or(Ok((ids, effects)), Err)
}

/// Says of each former primary why `heal` leaves it as it is.
fn call_out_former_primaries(model: &mut Model) {
    for fault in model.faults() {
        if let Fault::Down(n) | Fault::Rival(n) = &fault
            && model.return_of(n).is_some()
        {
            continue;
        }
        let text = match fault {
            Fault::Down(n) if model.primary.as_ref() != Some(&n) && !model.rejoins_by_itself(&n) => {
                format!(
                    "{n} stays down: it was a primary, and started it would be a second one; `rejoin {n}` makes it a standby"
                )
            }
            Fault::Rival(n) => {
                format!("{n} stays a primary of its own: `rejoin {n}` makes it a standby, `fence {n}` ends it")
            }
            _ => continue,
        };
        model.say(Who::Lab, Tone::Warn, text);
    }
}

impl Model {
    /// Whether a setting of this standby is too low to replay on.
    fn lacks(&self, name: &NodeName) -> bool {
        self.node(name).is_some_and(|n| !self.shortfalls(n).is_empty())
    }

    /// Whether a node that is down comes back as a standby when started: it was one when it was last seen.
    fn rejoins_by_itself(&self, name: &NodeName) -> bool {
        self.node(name).is_some_and(|n| n.role() == Some(crate::model::cluster::Role::Standby))
    }
}

fn act_of(model: &Model, command: &Command, origin: Origin) -> Result<Act, String> {
    let primary = || model.primary.clone().ok_or("there is no primary");
    let serving = || model.serving().cloned().ok_or("there is no primary");
    Ok(match command.clone() {
        Command::Sync(rule) => Act::ApplyRule { node: serving()?, rule, nudge: model.heartbeat },
        Command::Set { name, value, node } => Act::Set { nodes: targets(model, node), name, value },
        Command::Cancel => Act::CancelWaiting { node: serving()?, terminate: false },
        Command::Terminate => Act::CancelWaiting { node: serving()?, terminate: true },
        Command::Kill(n) | Command::Fence(n) => Act::Kill(n),
        Command::Stop(n) => Act::Stop(n),
        Command::Start(n) => Act::Start(n),
        Command::Freeze(n) => Act::Freeze(n),
        Command::Thaw(n) => Act::Thaw(n),
        Command::Promote(n) => Act::Promote(n),
        Command::Follow { standby, upstream } => Act::Follow { standby, upstream },
        Command::FollowAll(upstream) => Act::FollowAll { standbys: all_that_can_follow(model, &upstream), upstream },
        Command::Failover { .. } => handing_over::canvass(model, 0),
        Command::Switchover(node) => handing_over::switchover(model, primary()?, node),
        Command::Rejoin { node, way } => {
            let source = primary()?;
            Act::Rejoin { histories: model.pair(&node, &source), node, source, way }
        }
        Command::Add { name, from } => Act::Add { name, upstream: from.map_or_else(primary, Ok)? },
        Command::AddFresh(name) => Act::AddFresh(name),
        Command::Remove(node) => Act::Remove { upstream: model.node(&node).and_then(|n| n.upstream.clone()), node },
        Command::Raise(node) => {
            let low = model.node(&node).map(|n| model.shortfalls(n)).unwrap_or_default();
            Act::Raise { node, settings: low.into_iter().map(|s| (s.setting, s.needed)).collect() }
        }
        Command::PauseReplay(node) => Act::Replay { node, pause: true },
        Command::ResumeReplay(node) => Act::Replay { node, pause: false },
        Command::Link(..) | Command::Heal(_) => Act::Links(model.links.clone()),
        Command::Verify => Act::Verify(model.nodes.iter().map(|n| n.name.clone()).collect()),
        Command::Reset => Act::Reset(model.topology.clone()),
        Command::Sql { node, session, text } => {
            let opens = session.as_ref().is_some_and(|name| !model.has_session(name));
            Act::Sql { node, session, opens, text, lesson: origin == Origin::Script }
        }
        other => return Err(format!("{other} is not carried out by an adapter")),
    })
}

fn targets(model: &Model, node: Option<NodeName>) -> Vec<NodeName> {
    node.map_or_else(|| model.nodes.iter().map(|n| n.name.clone()).collect(), |n| vec![n])
}

/// Bring-up or reset is over: the lab is live, the writer and the heartbeat begin.
pub fn go_live(model: &mut Model, outcome: &Outcome) -> Vec<Effect> {
    let Ok(Happened::BroughtUp { ms, postgres, system_identifier, direct_links, no_freezer }) = &outcome.result else {
        return Vec::new();
    };
    model.stage = Stage::Live;
    model.bring_up_ms = Some(*ms);
    model.postgres.clone_from(postgres);
    model.system_identifier = Some(*system_identifier);
    model.estranged = None;
    model.direct_links.clone_from(direct_links);
    model.no_freezer.clone_from(no_freezer);
    model.phase.clear();
    if let Some(why) = no_freezer {
        model.say(Who::Lab, Tone::Warn, format!("nodes can't be frozen here: {why}"));
    }
    if let Some(why) = direct_links {
        model.say(Who::Lab, Tone::Warn, format!("links between nodes are direct and can't be faulted: {why}"));
    }
    model.ledger = Ledger::default();
    model.verification = None;
    model.unsafe_election = None;
    model.footing = Footing::default();
    model.rule_seen = None;
    model.sql = None;
    model.answers.clear();
    model.sessions.clear();
    model.writer.follows = true;
    model.writer.plan.target.clone_from(&model.primary);
    // No earlier target has anything left to answer.
    model.writer.arrived.clone_from(&model.primary);
    for node in &mut model.nodes {
        node.phase = None;
    }
    for node in &mut model.nodes {
        node.history = Some(0);
    }
    if let Some(node) = model.primary.clone() {
        model.timelines = vec![Timeline { id: 1, parent: None, fork: None, node, at: model.now, off: None }];
    }
    model.detector = Detector::default();
    let beat = model.primary.clone().filter(|_| model.heartbeat);
    model.heart_since = model.now;
    vec![Effect::Writer(model.writer.plan.clone()), Effect::Heartbeat(beat), Effect::Probe(None)]
}

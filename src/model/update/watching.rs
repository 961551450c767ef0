//! Observations, writes and time: what the lab sees without having asked for it.

use crate::model::cluster::{LogLine, Look, NodeState, Observation, Role, Sample, SlotRow};
use crate::model::command::Command;
use crate::model::history::Point;
use crate::model::journal::{Tone, Who};
use crate::model::ledger::{Ack, IdRange};
use crate::model::msg::{Effect, WriterPulse};
use crate::model::shortfall::Shortfall;
use crate::model::standing::Link;
use crate::model::{Logged, Lsn, Model, Node, NodeName, Stage, Stamp, outage};

/// Log lines kept per node.
const LOG_LINES: usize = 500;

/// The time from one look at a node to the next.
const LOOK_MS: u64 = 250;

/// A node that can't be asked for this long is worth a sentence.
const UNREACHABLE_TOLD_MS: u64 = 500;

/// A look at a node or at the engine.
pub fn observed(model: &mut Model, observation: Observation) -> Vec<Effect> {
    match observation {
        Observation::Disk(free) => return super::disk::seen(model, free),
        Observation::Engine(why) => engine(model, why),
        Observation::Traffic(traffic) => model.traffic = traffic,
        Observation::Node(name, Look::Sample(sample)) => sampled(model, &name, *sample),
        Observation::Node(name, Look::Unreachable(why)) => unreachable(model, &name, why),
        Observation::Node(name, Look::State(state)) => changed_state(model, &name, state),
        Observation::Node(name, Look::Moved { from, to }) => {
            let text = format!("another program has port {from} of this machine: {name} listens on {to} from now on");
            model.say(Who::Lab, Tone::Warn, text);
        }
        Observation::Node(name, Look::Log(lines)) => {
            tell_fork(model, &name, &lines);
            tell_crash(model, &name, &lines);
            tell_shortfall(model, &name, &lines);
            super::disk::tell_full(model, &name, &lines);
            let at = model.now;
            if let Some(node) = model.node_mut(&name) {
                node.logs.extend(lines.into_iter().map(|line| Logged { at, line }));
                let over = node.logs.len().saturating_sub(LOG_LINES);
                node.logs.drain(..over);
            }
        }
    }
    Vec::new()
}

/// A standby that is ahead of the timeline it should follow only repeats a line in its log (facts "Electing safely").
fn tell_fork(model: &mut Model, name: &NodeName, lines: &[LogLine]) {
    let forked = |l: &LogLine| l.text.contains("forked off current database system timeline");
    let Some(node) = model.node_mut(name).filter(|n| !n.forked_told && lines.iter().any(forked)) else { return };
    node.forked_told = true;
    let text = super::wording::too_far_ahead(model, name);
    model.say(Who::Lab, Tone::Bad, text);
}

/// One whose history is another than its upstream's is told as that whatever its log says: where the timelines have one number,
/// PostgreSQL may stream for good and make no copy.
fn tell_parted(model: &mut Model, name: &NodeName) {
    let Some(node) = model.node(name).filter(|n| !n.forked_told && n.role() == Some(Role::Standby)) else { return };
    let Some(upstream) = node.upstream.as_ref().and_then(|u| model.node(u)) else { return };
    if model.return_of(name).is_some() || !model.has_parted(node, upstream) {
        return;
    }
    let text = super::wording::parted(model, name, &upstream.name);
    if let Some(node) = model.node_mut(name) {
        node.forked_told = true;
    }
    model.say(Who::Lab, Tone::Bad, text);
}

/// One server process that dies by a signal takes all sessions with it, and the log is the only one to say so. The process that
/// replays WAL takes the whole server with it instead.
fn tell_crash(model: &mut Model, name: &NodeName, lines: &[LogLine]) {
    let crash = |l: &LogLine| l.text.contains(") was terminated by signal ") && !l.text.starts_with("startup process");
    if !lines.iter().any(crash) {
        return;
    }
    let text = format!(
        "a server process of {name} was killed: PostgreSQL ends all its sessions and recovers. Clients are told to \
         expect a rollback, but what was flushed is committed"
    );
    model.say(Who::Lab, Tone::Bad, text);
    crate::model::fault_log::crashed(model, name);
}

/// PostgreSQL finds a setting too low for what the primary can do: it pauses replay, or ends. The line before says which.
fn tell_shortfall(model: &mut Model, name: &NodeName, lines: &[LogLine]) {
    let Some(node) = model.node(name) else { return };
    let mut before = node.logs.back().map(|l| l.line.severity.clone());
    let mut told = Vec::new();
    for line in lines {
        if let Some(low) = Shortfall::told(&line.text) {
            told.push((low, before.as_deref() == Some("FATAL")));
        }
        before = Some(line.severity.clone());
    }
    for (low, ends) in told {
        let Some(node) = model.node_mut(name) else { return };
        let known = node.shortfall.replace(low.clone()).is_some_and(|old| old == low);
        let Some(node) = model.node(name).filter(|_| ends || !known) else { continue };
        let why = model.shortfall_in_words(node, &low);
        let text = if ends {
            format!(
                "{name} shuts down, because it can't replay: {why}. `raise {name}` raises the setting and starts {name}"
            )
        } else {
            format!(
                "{name} has stopped replaying: {why}. PostgreSQL paused it; resumed, {name} would shut down. \
                 `raise {name}` (or `heal`) raises the setting and restarts {name}"
            )
        };
        model.say(Who::Lab, Tone::Bad, text);
    }
}

/// Who paused replay. A pause that is seen twice, and before a look at the primary, while no setting is too low is somebody's:
/// PostgreSQL's comes with a line in the log.
fn see_pause(model: &mut Model, name: &NodeName, before: bool) {
    let Some(node) = model.node(name) else { return };
    let Some(sample) = &node.sample else { return };
    let over = node.shortfall.as_ref().is_some_and(|low| low.is_over(sample));
    let paused = sample.replay_paused;
    // The primary may have come up with other settings that no look has shown yet.
    let since = node.before.map(|(at, ..)| at);
    let known = model.source_of(node).is_none_or(|source| !source.answers() || source.seen > since);
    let by_hand = paused && (node.paused_by_hand || (before && known && model.shortfalls(node).is_empty()));
    let Some(node) = model.node_mut(name) else { return };
    node.paused_by_hand = by_hand;
    if over {
        node.shortfall = None;
    }
}

fn engine(model: &mut Model, why: Option<String>) {
    match (why, model.engine_down.take()) {
        (Some(why), None) => {
            model.say(
                Who::Lab,
                Tone::Bad,
                format!("the engine stopped answering: {why}; what is shown is the last known"),
            );
            model.engine_down = Some((model.now, why));
        }
        (Some(why), Some((since, _))) => model.engine_down = Some((since, why)),
        (None, Some((since, _))) => {
            let text = format!("the engine answers again after {:.1} s", model.now.ms_since(since) as f64 / 1e3);
            model.say(Who::Lab, Tone::Good, text);
        }
        (None, None) => {}
    }
}

fn sampled(model: &mut Model, name: &NodeName, sample: Sample) {
    let now = model.now;
    let was_ours = is_ours(model, name);
    let Some(node) = model.node_mut(name) else { return };
    let before = node.sample.as_ref().map(|s| (s.role, s.timeline));
    let was_paused = node.sample.as_ref().is_some_and(|s| s.replay_paused);
    let silent = node.unreachable.take();
    if node.state == NodeState::Created {
        node.state = NodeState::Running;
        node.state_since = now;
    }
    let after = (sample.role, sample.timeline);
    let ruled = sample.role == Role::Primary && !sample.settings.synchronous_standby_names.is_empty();
    let last = node.sample.as_ref().filter(|s| s.role == Role::Standby);
    node.grew = [growth(node, now, &sample), node.grew[0]];
    node.before = node.seen.zip(last).map(|(at, s)| (at, s.timeline, s.wal));
    node.seen = Some(now);
    node.sample = Some(sample);
    let told = std::mem::take(&mut node.unreachable_told);
    see_pause(model, name, was_paused);
    if model.is_resetting() {
        return;
    }
    model.ledger.ruled |= ruled;
    if was_ours && !is_ours(model, name) {
        tell_estranged(model, name);
    }
    if let Some((since, _)) = silent.filter(|_| told) {
        let text = format!("{name} answers again after {:.1} s", now.ms_since(since) as f64 / 1e3);
        model.say(Who::Lab, Tone::Good, text);
    }
    if let Some(before) = before.filter(|b| *b != after) {
        tell_role(model, name, before, after);
    }
    // A promotion always begins a new one.
    if after.0 == Role::Primary && before.is_some_and(|b| b.1 < after.1) && is_ours(model, name) {
        super::handing_over::begins(model, name, after.1, before.map(|b| b.1), None);
    }
    model.seen_on(name, after.1);
    tell_parted(model, name);
    tell_rival(model, name);
    if model.primary.as_ref() == Some(name) {
        settle_promise(model);
    }
    if model.serving() == Some(name) {
        tell_waiting(model);
    }
    tell_links(model, Some(name));
    tell_slots(model, name);
    if model.primary.as_ref() == Some(name) {
        tell_impostors(model);
    }
}

/// Bytes of WAL a second since the last look. Looks that came late come close together: what lies between them took no less
/// than the time from one look to the next.
fn growth(node: &Node, now: Stamp, sample: &Sample) -> u64 {
    let Some((seen, last)) = node.seen.zip(node.sample.as_ref()) else { return 0 };
    sample.wal.bytes_ahead_of(last.wal).saturating_mul(1_000) / now.ms_since(seen).max(LOOK_MS)
}

/// A server that finds its data directory empty may be set up to initialise it silently, and goes on as if nothing had happened (facts, "What a
/// failover loses").
fn tell_estranged(model: &mut Model, name: &NodeName) {
    let text = format!(
        "{name} is another cluster now: its system identifier has changed, so its data directory was made anew behind \
         the lab's back. What becomes of the writes can't be judged any more; `reset` begins anew"
    );
    model.say(Who::Lab, Tone::Bad, text.clone());
    model.estranged.get_or_insert(text);
}

/// Says once that a second primary runs; not while the part moves, when what was seen may be a moment old.
fn tell_rival(model: &mut Model, name: &NodeName) {
    let moving = model.ops.values().filter_map(|op| op.command.as_ref()).any(super::handing_over::moves_the_primary);
    let rival = model.rivals().any(|n| n.name == *name);
    let Some(node) = model.node_mut(name).filter(|_| !moving) else { return };
    if std::mem::replace(&mut node.rival_told, rival) || !rival {
        return;
    }
    let beside = model.primary.as_ref().map_or("nobody", NodeName::as_str);
    let text = format!(
        "{name} is a primary too, beside {beside}: two histories grow apart, and each may acknowledge what the other \
         lacks. `fence {name}` ends one of them; `verify` says what each has to itself"
    );
    model.say(Who::Lab, Tone::Bad, text);
}

/// Says once when a slot's WAL comes into danger, is lost, or is safe again.
fn tell_slots(model: &mut Model, name: &NodeName) {
    let rows: Vec<SlotRow> = model.slots().into_iter().filter(|s| s.on == *name).map(|s| s.row).collect();
    for row in rows {
        let (Some(node), Some(status)) = (model.node_mut(name), row.wal_status.clone()) else { continue };
        let before = node.slots_told.insert(row.name.clone(), status.clone());
        if before.as_ref().is_some_and(|b| *b != status) || (before.is_none() && status != "reserved") {
            let (tone, text) = super::wording::slot(name, &row);
            model.say(Who::Lab, tone, text);
        }
    }
}

/// Says once what the rule counts that is no standby of the lab, or may be none.
fn tell_impostors(model: &mut Model) {
    let now = model.impostors_in_words();
    let before = std::mem::replace(&mut model.impostors_told, now.clone());
    for text in now.iter().filter(|text| !before.contains(text)) {
        model.say(Who::Lab, Tone::Warn, text.clone());
    }
    if now.is_empty() && !before.is_empty() && !model.rule_text().unwrap_or_default().trim().is_empty() {
        model.say(Who::Lab, Tone::Good, "only standbys of the lab count for the rule again");
    }
}

fn is_ours(model: &Model, name: &NodeName) -> bool {
    let sample = model.node(name).and_then(|n| n.sample.as_ref());
    sample.is_some_and(|s| Some(s.system_identifier) == model.system_identifier)
}

fn tell_role(model: &mut Model, name: &NodeName, before: (Role, u32), after: (Role, u32)) {
    let text = match (before, after) {
        ((Role::Standby, _), (Role::Primary, tl)) => format!("{name} says that it is a primary now, on timeline {tl}"),
        ((Role::Primary, _), (Role::Standby, tl)) => format!("{name} says that it is a standby now, on timeline {tl}"),
        ((_, old), (_, new)) => format!("{name} went from timeline {old} to {new}"),
    };
    model.say(Who::Lab, Tone::Plain, text);
}

/// What was acked since the last look counts as promised only if this look finds the same synchronous rule as the last
/// one, and nothing was changing it in between.
fn settle_promise(model: &mut Model) {
    let Some(sample) = model.primary_node().and_then(|n| n.sample.as_ref()) else { return };
    let seen = sample.settings.synchronous_standby_names.clone();
    let is_primary = sample.role == Role::Primary;
    let changing = model.ops.values().any(|op| matches!(op.command, Some(Command::Sync(_) | Command::Set { .. })));
    let same = model.rule_seen.as_ref() == Some(&seen);
    let end = sample.wal;
    // Where it isn't known who confirms, nothing is promised.
    let clear = model.impostors().is_empty();
    let counts = same && is_primary && !changing && clear && may_be_promised(model);
    let promised = model.ledger.settle_promise(counts);
    if is_primary {
        let mut footing = std::mem::take(&mut model.footing);
        footing.seen(&seen, end, promised, |at| all_have(model, at));
        model.footing = footing;
    }
    model.rule_seen = (!changing && is_primary && clear).then_some(seen);
}

/// Whether the last look found a rule in force that the writer's commits wait for. The rule is the primary's: what an old one
/// acknowledges, right after another took office or because the writer was told to stay, isn't promised by it.
fn may_be_promised(model: &Model) -> bool {
    let writer = &model.writer;
    let waits = ["remote_write", "on", "remote_apply"].contains(&writer.plan.level.as_str());
    let there = writer.arrived == model.primary && writer.plan.target == model.primary;
    waits && there && model.rule_seen.as_ref().is_some_and(|rule| !rule.is_empty())
}

/// Whether every other node of the lab has flushed the primary's log up to here, by the primary's word.
fn all_have(model: &Model, at: Lsn) -> bool {
    let Some(primary) = model.primary_node() else { return false };
    let has = |n: &Node| model.feed(primary, n).row().is_some_and(|row| row.flush >= Some(at));
    model.nodes.iter().filter(|n| n.name != primary.name).all(has)
}

fn tell_waiting(model: &mut Model) {
    let waiting = model.waits().iter().filter(|w| w.listed).count();
    // Where there is no rule any more, they are just being let go.
    let ruled = model.serving_rule_text().is_some_and(|text| !text.trim().is_empty());
    match (model.waiting_told, waiting) {
        (0, 1..) if ruled && !model.comes_to_itself() => {
            let whom = model.needs().in_words();
            let server = model.serving().map_or("the primary", NodeName::as_str);
            let wait = if waiting == 1 { "commit waits" } else { "commits wait" };
            let text =
                format!("{waiting} {wait} for a synchronous standby ({whom}): done on {server}, not acknowledged");
            model.say(Who::Lab, Tone::Warn, text);
            model.waiting_told = waiting;
        }
        (1.., 0) => {
            model.say(Who::Lab, Tone::Good, "no commit waits any more");
            model.waiting_told = 0;
        }
        _ => {}
    }
}

/// Says once when a standby's link changes its nature: those that a look at this node tells of, or all.
fn tell_links(model: &mut Model, seen: Option<&NodeName>) {
    if model.is_resetting() {
        return;
    }
    let concerns = |n: &Node| seen.is_none_or(|seen| n.name == *seen || n.upstream.as_ref() == Some(seen));
    for rung in model.ladder_of(concerns) {
        let word = match &rung.link {
            Link::Connected(state) => state.clone(),
            Link::LastKnown { .. } => "last known".to_owned(),
            Link::Disconnected => "disconnected".to_owned(),
            Link::Forked => "forked".to_owned(),
            Link::Unseen => continue,
        };
        let upstream = rung.upstream.as_ref().map(ToString::to_string).unwrap_or_default();
        // Of an upstream that doesn't answer nothing can be said that isn't old; its own fate is told elsewhere.
        let told_by_upstream = rung.upstream.as_ref().and_then(|u| model.node(u)).is_some_and(Node::answers);
        // What broke while replab stood still mends itself; if it doesn't, that is told then.
        let lost = matches!(rung.link, Link::LastKnown { .. } | Link::Disconnected);
        let own = lost && model.comes_to_itself();
        let cut = rung.upstream.as_ref().is_some_and(|up| model.links.between(up, &rung.name).cut);
        let Some(node) = model.node_mut(&rung.name) else { continue };
        let frozen = node.state == NodeState::Frozen;
        let receives =
            node.sample.as_ref().is_some_and(|s| s.receiver.as_ref().is_some_and(|r| r.status == "streaming"));
        let takes_itself_for_connected = cut && receives && node.answers();
        if own && node.state == NodeState::Running {
            continue;
        }
        let before = std::mem::replace(&mut node.link_told, word.clone());
        if before == word || before.is_empty() {
            continue;
        }
        let name = &rung.name;
        let (tone, text) = match rung.link {
            Link::LastKnown { state, .. } if frozen => {
                (Tone::Warn, format!("{name} is silent, and on {upstream} PostgreSQL still calls it \"{state}\""))
            }
            Link::LastKnown { .. } | Link::Disconnected if !told_by_upstream => continue,
            Link::LastKnown { state, ms } => (
                Tone::Warn,
                format!(
                    "{name} has not answered {upstream} for {:.1} s; PostgreSQL still calls it \"{state}\"",
                    ms as f64 / 1e3
                ),
            ),
            Link::Connected(state) if state == "streaming" => (Tone::Good, format!("{name} streams from {upstream}")),
            Link::Disconnected if takes_itself_for_connected => {
                let text =
                    format!("{upstream} gave up on {name} and closed the connection; behind the cut {name} isn't told");
                (Tone::Warn, text)
            }
            Link::Disconnected => (Tone::Warn, format!("{name} is not connected to {upstream} any more")),
            _ => continue,
        };
        model.say(Who::Lab, tone, text);
    }
}

fn unreachable(model: &mut Model, name: &NodeName, why: String) {
    let (now, resetting) = (model.now, model.is_resetting());
    let Some(node) = model.node_mut(name) else { return };
    let since = node.unreachable.as_ref().map_or(now, |(since, _)| *since);
    node.unreachable = Some((since, why.clone()));
    // One missed look is a busy machine; that a node is down or frozen is said already.
    let new = !node.unreachable_told && node.sample.is_some() && node.state == NodeState::Running;
    if new && !resetting && now.ms_since(since) >= UNREACHABLE_TOLD_MS {
        node.unreachable_told = true;
        model.say(Who::Lab, Tone::Warn, format!("{name} does not answer SQL: {why}"));
    }
    tell_links(model, Some(name));
}

fn changed_state(model: &mut Model, name: &NodeName, state: NodeState) {
    let now = model.now;
    let Some(node) = model.node_mut(name) else { return };
    if node.state == state || (matches!((&node.state, &state), (NodeState::Exited(_), NodeState::Exited(_)))) {
        return;
    }
    let mut commands = model.ops.values().filter_map(|op| op.command.as_ref());
    let expected = commands.any(|c| outage::ends(model, c, name));
    let Some(node) = model.node_mut(name) else { return };
    node.state = state.clone();
    node.state_since = now;
    let NodeState::Exited(code) = state else { return };
    if model.stage == Stage::Live && !expected {
        let how = code.map_or(String::new(), |c| format!(" (exit code {c})"));
        model.say(Who::Lab, Tone::Bad, format!("{name} went down by itself{how}"));
    }
}

/// Attempts, booked before they are sent.
pub fn tried(model: &mut Model, ranges: &[IdRange]) -> Vec<Effect> {
    model.ledger.tried(ranges);
    Vec::new()
}

/// Answers.
pub fn wrote(model: &mut Model, answers: &[(IdRange, Ack)]) -> Vec<Effect> {
    model.ledger.wrote(answers);
    if !may_be_promised(model) {
        model.ledger.settle_promise(false);
    }
    Vec::new()
}

/// The writer's figures; a point of the charts.
pub fn pulse(model: &mut Model, pulse: WriterPulse) -> Vec<Effect> {
    let seconds = pulse.interval_us as f64 / 1e6;
    let behind = model.ladder().into_iter().filter_map(|r| Some((r.name, r.behind?))).collect();
    model.history.push(Point {
        at: model.now,
        commits_per_s: if seconds > 0.0 { pulse.commits as f64 / seconds } else { 0.0 },
        p50_us: pulse.p50_us,
        p99_us: pulse.p99_us,
        oldest_us: pulse.waiting.iter().map(|w| w.age_us).max().unwrap_or(0),
        behind,
    });
    model.writer.pulse_at = model.now;
    model.writer.pulse = pulse;
    Vec::new()
}

/// A slow act reached a phase.
pub fn phase(model: &mut Model, node: Option<&NodeName>, text: String) -> Vec<Effect> {
    match node.and_then(|name| model.node_mut(name)) {
        Some(node) => node.phase = (!text.is_empty()).then_some(text),
        None => model.phase = text,
    }
    Vec::new()
}

/// replab itself stood still: it looked at nobody, and what its relays carry came to nobody. The gap is told as its own, and no
/// silence of that time counts.
pub fn stood_still(model: &mut Model, ms: u64) -> Vec<Effect> {
    let now = model.now;
    // The heart stood still with it.
    (model.stood_still, model.heart_since) = (Some(now), now);
    model.detector.forgive_silence(now);
    let lasted = if ms < 10_000 { format!("{:.1} s", ms as f64 / 1e3) } else { format!("{} s", ms / 1_000) };
    let text = format!(
        "replab stood still for {lasted}. Meanwhile it looked at no node, wrote nothing and carried nothing on its links: no \
         node is to blame for that silence"
    );
    model.say(Who::Lab, Tone::Warn, text);
    Vec::new()
}

/// Time passes: links may have become silent.
pub fn tick(model: &mut Model) -> Vec<Effect> {
    if model.stage == Stage::Live {
        tell_links(model, None);
        let mut effects = super::handing_over::watch(model);
        effects.extend(super::stragglers::call_in(model));
        return effects;
    }
    Vec::new()
}

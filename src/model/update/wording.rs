//! After each act one sentence: what happened, why, and what to look at. Words only; changes nothing.

use super::aftermath;
use crate::model::cluster::SlotRow;
use crate::model::command::{Command, Rate};
use crate::model::journal::Tone;
use crate::model::ledger::{Ids, and, count, or};
use crate::model::lineage::Era;
use crate::model::msg::{Happened, Rejoined, Road, SqlResult, Taken};
use crate::model::verdict::{Side, Verdict};
use crate::model::{Model, Node, NodeName, Stamp};

/// For commands that need no adapter.
pub fn at_once(model: &Model, command: &Command) -> String {
    let plan = &model.writer.plan;
    let rate = match plan.rate {
        Rate::Max => "flat out".to_owned(),
        Rate::PerSecond(n) => format!("{n} writes/s in all"),
    };
    match command {
        Command::Commit(level) => format!("{command}: new commits of the writer use synchronous_commit = {level}"),
        Command::Clients(_) | Command::Rate(_) => format!("{command}: {} clients, {rate}", plan.clients),
        Command::Pause => "pause: the writer rests; what is under way still finishes".to_owned(),
        Command::Resume => format!("resume: {} clients, {rate}", plan.clients),
        Command::Write(_) if !plan.target.as_ref().and_then(|n| model.node(n)).is_some_and(Node::answers) => {
            format!("{command}: no server takes writes now; they wait until one does")
        }
        Command::Target(None) => "target primary: the writer follows the primary".to_owned(),
        Command::Target(Some(n)) => format!("target {n}: the writer stays on {n}, whatever happens"),
        Command::Heartbeat(true) => "heartbeat on: a small write every 100 ms keeps standbys answering".to_owned(),
        Command::Heartbeat(false) => {
            "heartbeat off: on an idle primary a standby now answers only every wal_receiver_status_interval".to_owned()
        }
        Command::AutoFailover(None) => "auto-failover off: a primary that is gone stays gone".to_owned(),
        Command::AutoFailover(Some(auto)) => {
            let fence = if auto.fence { "fenced first" } else { "not fenced: it may go on as a second one" };
            format!("{command}: the primary is probed every {} ms; if it is gone it is {fence}", auto.probe_ms())
        }
        other => other.to_string(),
    }
}

/// For a promotion: who is ahead of the chosen one, and by how much.
pub fn ahead(model: &Model, chosen: &NodeName) -> Option<String> {
    let ahead = model.ahead_of(chosen);
    let list: Vec<String> = ahead.iter().map(|(n, bytes)| format!("{n} by {bytes} bytes")).collect();
    (!list.is_empty()).then(|| {
        format!(
            "ahead of {chosen} in the log: {}. What {chosen} lacks is lost with its promotion. A standby that is \
             ahead can't follow {chosen} until it is rewound",
            list.join(", ")
        )
    })
}

/// Of a standby whose log says that its upstream's timeline forked off before its own place.
pub fn too_far_ahead(model: &Model, name: &NodeName) -> String {
    let upstream = model.node(name).and_then(|n| n.upstream.clone());
    let Some(upstream) = upstream else {
        return format!("{name} can't follow its upstream: their histories have parted");
    };
    let pair = model.pair(name, &upstream);
    let why = match (pair.node.last(), pair.source.get(pair.node.len())) {
        (Some(own), Some(next)) if pair.node.iter().zip(&pair.source).all(|(a, b)| a.no == b.no) => {
            format!("{name} has replayed more of {own} than {} had when it began timeline {}", next.by, next.id)
        }
        _ => format!("{name} has replayed WAL that is no part of {upstream}'s history"),
    };
    format!("{name} can't follow {upstream}: {why}. It only goes on answering reads; `rejoin {name}` mends it")
}

/// Of a standby on another history than its upstream's.
pub fn parted(model: &Model, name: &NodeName, upstream: &NodeName) -> String {
    let pair = model.pair(name, upstream);
    let on = |line: &[Era]| line.last().map_or_else(|| "a history of its own".to_owned(), ToString::to_string);
    let why = pair.one_number().map_or_else(
        || format!("{name} is on {}, and {upstream} on {}", on(&pair.node), on(&pair.source)),
        |why| format!("{why}. PostgreSQL compares only numbers and may stream all the same"),
    );
    format!("{name} has diverged from {upstream}: {why}. {name} is no copy of {upstream}; `rejoin {name}` mends it")
}

/// For operations that went well, begun at `since`.
pub fn after(model: &Model, command: &Command, happened: &Happened, since: Stamp) -> (Tone, String) {
    match (command, happened) {
        (Command::Verify, _) => verify(model),
        (Command::Promote(n), Happened::Promoted { timeline, fork, names }) => {
            let fork = fork.map_or(String::new(), |lsn| format!(", forked off at {lsn}"));
            let twin = namesake(model, n).map_or(String::new(), |other| {
                format!(" ({other} began another timeline {timeline}: two histories with one number)")
            });
            let rule = if names.is_empty() {
                "without a synchronous rule".to_owned()
            } else {
                format!("with its own rule {names}")
            };
            (
                Tone::Warn,
                format!(
                    "{n} is a primary on timeline {timeline}{twin}{fork}; it now runs {rule} (rules are not replicated)"
                ),
            )
        }
        (Command::Failover { .. } | Command::Switchover(_), Happened::HandedOver(taken)) => taken_over(model, taken),
        (Command::FollowAll(upstream), Happened::Followed { missed }) if !missed.is_empty() => {
            let list: Vec<String> = missed.iter().map(|(n, why)| format!("{n} ({why})")).collect();
            (Tone::Warn, format!("told to follow {upstream}, but for {}", list.join(", ")))
        }
        (Command::Rejoin { node, .. }, Happened::Rejoined(how)) => rejoined(model, node, how, since),
        (Command::Sql { node, .. }, Happened::Sql(result)) => match &result.error {
            Some((state, message)) => (Tone::Bad, format!("{node} refused: {message} (SQLSTATE {state})")),
            None => (Tone::Plain, format!("{node}: {}", answer(result))),
        },
        (Command::Reset, _) => {
            let seconds = model.now.ms_since(since) as f64 / 1e3;
            (Tone::Good, format!("the lab is back in its first state after {seconds:.1} s"))
        }
        (Command::Cancel | Command::Terminate, Happened::Sessions(0)) => {
            (Tone::Plain, format!("{command}: no commit waited for a standby, so nothing was done"))
        }
        (Command::Cancel, Happened::Sessions(n)) => (Tone::Warn, aftermath::cancelled(model, *n)),
        (Command::Terminate, Happened::Sessions(n)) => {
            (Tone::Warn, format!("{n} sessions ended: their clients never learn that the commits are there"))
        }
        _ => plain(model, command),
    }
}

/// Who else began a timeline of the number that this node's has.
fn namesake<'a>(model: &'a Model, node: &NodeName) -> Option<&'a NodeName> {
    let own = model.node(node)?.history?;
    let others = model.timelines.iter().enumerate().filter(|(at, t)| *at != own && t.id == model.timelines[own].id);
    others.map(|(_, t)| &t.node).next_back()
}

/// A single value is the answer itself; of more the server's own word must do.
fn answer(result: &SqlResult) -> &str {
    match result.rows.as_slice() {
        [row] if row.len() == 1 => row[0].as_deref().unwrap_or("NULL"),
        _ => &result.tag,
    }
}

fn taken_over(model: &Model, taken: &Taken) -> (Tone, String) {
    let name = model.primary.as_ref().map_or("nobody", NodeName::as_str);
    let fork = taken.fork.map_or(String::new(), |lsn| format!(", forked off at {lsn}"));
    let (tone, rule) = match (taken.names.as_str(), rule_before(model)) {
        ("", Some(rule)) => {
            (Tone::Warn, format!("the rule {rule} lists no other standby and is gone: commits wait for no standby"))
        }
        ("", None) => (Tone::Plain, "there is no synchronous rule".to_owned()),
        (names, _) => (Tone::Good, format!("the rule came along: {names}")),
    };
    (tone, format!("{name} is the primary on timeline {}{fork}; {rule}", taken.timeline))
}

/// The rule of who was primary before the last handover, as that one had it last.
fn rule_before(model: &Model) -> Option<String> {
    let old = model.handovers.last()?.old.as_ref()?;
    let names = &model.node(old)?.sample.as_ref()?.settings.synchronous_standby_names;
    Some(names.trim().to_owned()).filter(|names| !names.is_empty())
}

/// Of rows that only a node has which comes back, before they are thrown away.
pub fn stranded(model: &Model, node: &NodeName, only: &Ids) -> String {
    let (rows, are) = if count(only) == 1 { ("row", "is") } else { ("rows", "are") };
    let acked = acknowledged(model, only);
    format!(
        "{} {rows} of the writer {are} only on {node}: stranded ({}), {acked} of them acknowledged",
        count(only),
        listed(only)
    )
}

fn acknowledged(model: &Model, ids: &Ids) -> u64 {
    count(&and(ids, &or(&model.ledger.acked, &model.ledger.warned)))
}

fn rejoined(model: &Model, node: &NodeName, how: &Rejoined, since: Stamp) -> (Tone, String) {
    let way = match how.road {
        Road::Straight => "it had nothing of its own",
        Road::Rewound => "pg_rewind took it back",
        Road::Rebuilt => "it was made anew by pg_basebackup",
    };
    let detour = how.detour.as_ref().map_or(String::new(), |why| format!(" ({why})"));
    let beyond = how.fork.zip(how.end).filter(|(fork, end)| end > fork);
    let fork = beyond.map_or(String::new(), |(fork, end)| {
        format!(
            "; {node}'s history had parted from {0}'s at {fork} and went on to {end}, {1} bytes",
            how.source,
            end.bytes_ahead_of(fork)
        )
    });
    let rows = match &how.only {
        Err(why) => format!("; what only it had could not be counted: {why}"),
        // Only the writer's rows are counted; what a person wrote is WAL beyond the fork, too.
        Ok(only) if only.is_empty() && beyond.is_some() => ": WAL beyond the fork, but no row of the writer".to_owned(),
        Ok(only) if only.is_empty() => "; no row of the writer was only there".to_owned(),
        Ok(only) => {
            let (n, acked) = (count(only), acknowledged(model, only));
            let (rows, are) = if n == 1 { ("row", "is") } else { ("rows", "are") };
            format!(
                "; {n} {rows} of the writer that only it had ({}) {are} thrown away, {acked} of them acknowledged",
                listed(only)
            )
        }
    };
    let lost = how.only.as_ref().is_ok_and(Ids::is_empty);
    let seconds = model.now.ms_since(since) as f64 / 1e3;
    let tone = if lost { Tone::Good } else { Tone::Warn };
    (tone, format!("{node} follows {} after {seconds:.1} s: {way}{detour}{fork}{rows}", how.source))
}

fn plain(model: &Model, command: &Command) -> (Tone, String) {
    let text = match command {
        Command::Sync(rule) if !rule.is_on() => {
            "the rule is off: commits return when the primary has flushed them".to_owned()
        }
        Command::Sync(_) => format!("the rule is in force. {}", model.rule_in_words()),
        Command::Set { name, value, .. } => format!("{name} = {value} is in force after a reload"),
        Command::Kill(n) => aftermath::killed(model, n),
        Command::Stop(n) => aftermath::stopped(model, n),
        Command::Freeze(n) => aftermath::frozen(model, n),
        Command::Fence(n) => aftermath::fenced(model, n),
        Command::FollowAll(upstream) => format!("every standby that can is told to follow {upstream}"),
        Command::Start(n) => format!("{n} is started"),
        Command::Thaw(n) => format!("{n} goes on where it was"),
        Command::Follow { standby, upstream } => format!("{standby} is told to follow {upstream}"),
        Command::Add { name, .. } => format!("{name} is a standby made by pg_basebackup"),
        Command::AddFresh(n) => format!(
            "{n} is a separately initialised server: another system identifier, so it can never replicate physically"
        ),
        Command::Remove(n) => format!("{n} and its data are gone"),
        Command::Raise(n) => format!("{n} is restarted with settings as high as its primary's, and replays again"),
        Command::PauseReplay(n) => format!("replay on {n} is paused: it receives and flushes, but shows nothing new"),
        Command::ResumeReplay(n) => format!("replay on {n} goes on"),
        Command::Link(harm, which) if !model.has_link(which) => aftermath::to_come(*harm, which),
        Command::Link(harm, which) => aftermath::link(model, *harm, which),
        Command::Heal(None) => "every link carries again".to_owned(),
        Command::Heal(Some(which)) => format!("{} carries again", which.in_words()),
        other => format!("{other}: done"),
    };
    (tone_of(command), text)
}

/// How a person looks at it, not whether the call went well: damage is no good news.
fn tone_of(command: &Command) -> Tone {
    match command {
        Command::Kill(_)
        | Command::Stop(_)
        | Command::Freeze(_)
        | Command::Fence(_)
        | Command::PauseReplay(_)
        | Command::Link(..)
        | Command::Remove(_) => Tone::Warn,
        Command::Sync(rule) if rule.is_on() => Tone::Good,
        Command::Start(_)
        | Command::Thaw(_)
        | Command::ResumeReplay(_)
        | Command::Heal(_)
        | Command::Add { .. }
        | Command::AddFresh(_) => Tone::Good,
        _ => Tone::Plain,
    }
}

/// Of a slot whose wal_status has changed; a lost one with PostgreSQL's word for why, where it has one.
pub fn slot(on: &NodeName, row: &SlotRow) -> (Tone, String) {
    let (slot, status) = (&row.name, row.wal_status.as_deref().unwrap_or_default());
    let why = row.invalidated.as_ref().map_or(String::new(), |why| format!(" ({why})"));
    let is = format!("the slot {slot} on {on} is {status}{why}");
    match status {
        "reserved" => (Tone::Good, format!("{is}: it keeps no more WAL than max_wal_size")),
        "extended" => (Tone::Warn, format!("{is}: for its sake {on} keeps more WAL than max_wal_size")),
        "unreserved" => (
            Tone::Warn,
            format!("{is}: beyond max_slot_wal_keep_size; at the next checkpoint it is lost unless {slot} catches up"),
        ),
        "lost" => (
            Tone::Bad,
            format!("{is}: {slot} can't stream from {on} any more; `rejoin {slot}` makes it and its slot anew"),
        ),
        _ => (Tone::Plain, is),
    }
}

fn verify(model: &Model) -> (Tone, String) {
    let Some(v) = &model.verification else { return (Tone::Bad, "nothing was read".to_owned()) };
    let tone = match v.verdict {
        Verdict::Sound if v.is_well() => Tone::Good,
        Verdict::Sound => Tone::Warn,
        _ => Tone::Bad,
    };
    let own = |(n, s): (&NodeName, &Side)| match count(&s.only) {
        0 => format!("{n} has no row of the writer to itself"),
        1 => format!("only {n} has 1 row of the writer ({})", listed(&s.only)),
        rows => format!("only {n} has {rows} rows of the writer ({})", listed(&s.only)),
    };
    let sides: String = v.sides.iter().map(own).map(|text| format!("; {text}")).collect();
    let nodes: String = v.by_node().map(|(_, text)| format!("; {text}")).collect();
    (tone, format!("{}; {}{sides}{nodes}", v.promises_in_words(), v.in_words()))
}

/// Ids as ranges, the first few: `1: 5-9`.
fn listed(ids: &Ids) -> String {
    const SHOWN: usize = 4;
    let one = |client: &u32, (first, last): &(u64, u64)| {
        if first == last { format!("{client}: {first}") } else { format!("{client}: {first}-{last}") }
    };
    let all = ids.iter().flat_map(|(client, set)| set.as_slice().iter().map(move |range| one(client, range)));
    let ranges: Vec<String> = all.collect();
    let more = if ranges.len() > SHOWN { ", ..." } else { "" };
    format!("{}{more}", ranges.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", "))
}

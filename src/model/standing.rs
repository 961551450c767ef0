//! How each standby stands towards its upstream, told truthfully: streaming, last known, disconnected and unreachable
//! are different things, idle isn't lag, and old figures carry their age. Derived from samples; keeps nothing.

use super::cluster::{NodeState, Role, SenderRow};
use super::links::Lane;
use super::senders::Feed;
use super::sync_rule::{self, Standing, SyncRule};
use super::{Lsn, Model, Node, NodeName, Stage};

/// A standby that hasn't replied for this long, while the heartbeat makes it reply every 100 ms, is silent.
pub(super) const SILENT_US: i64 = 500_000;

/// The heart must have beaten this long before its silence means anything.
const HEART_WARM_MS: u64 = 1_500;

/// So long after replab stood still nothing is told of links that broke meanwhile: standbys try again every half second.
const FORGIVEN_MS: u64 = 3_000;

/// More WAL than this, in bytes a second, is more than the heartbeat. A beat is an update in place and its commit, 200 bytes
/// in the shipped recordings, so ten beats are 2 kB; locks of its row, running-xacts records and a slow look are room enough.
const HEARTBEAT_BYTES: u64 = 8 * 1024;

/// What is known of a standby's connection to its upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// Connected and answering; PostgreSQL's word for the state (streaming, catchup, backup, startup).
    Connected(String),
    /// PostgreSQL still lists it, but it hasn't answered for so many milliseconds; or the upstream itself can't be asked
    /// since then. What is shown is the last known.
    LastKnown {
        /// PostgreSQL's word for the state.
        state: String,
        /// Age of the knowledge.
        ms: u64,
    },
    /// The upstream answers and doesn't list it, or it says itself that its connection is gone.
    Disconnected,
    /// Its history has parted from its upstream's: it connects again and again, and can't follow.
    Forked,
    /// Nothing was ever seen of it.
    Unseen,
}

impl Link {
    /// Whether a synchronous rule may count on it. PostgreSQL takes standbys that stream, or are stopping; one that catches up
    /// is passed over (`SyncRepGetCandidateStandbys` in its syncrep.c).
    pub fn counts(&self) -> bool {
        matches!(self, Self::Connected(state) if ["streaming", "stopping"].contains(&state.as_str()))
    }
}

/// One row of the replication ladder.
#[derive(Clone, Debug, PartialEq)]
pub struct Rung {
    /// The standby.
    pub name: NodeName,
    /// Its upstream.
    pub upstream: Option<NodeName>,
    /// Its connection.
    pub link: Link,
    /// async, potential, sync, quorum; empty when not connected.
    pub sync_state: String,
    /// The upstream's own position, which the others are compared with.
    pub wal: Option<Lsn>,
    /// Sent, write, flush, replay.
    pub steps: [Option<Lsn>; 4],
    /// Bytes that replay is behind the upstream; None when unknown.
    pub behind: Option<u64>,
    /// Time that replay is behind, in microseconds: 0 when nothing is behind, None when unknown.
    pub lag_us: Option<i64>,
    /// The same of write and flush.
    pub lags_us: [Option<i64>; 2],
    /// Nothing but the heartbeat is written, and nothing is behind.
    pub idle: bool,
}

impl Model {
    /// The ladder: every node that has an upstream or is in recovery.
    pub fn ladder(&self) -> Vec<Rung> {
        self.ladder_of(|_| true)
    }

    /// The same for some nodes only.
    pub(super) fn ladder_of(&self, wanted: impl Fn(&Node) -> bool) -> Vec<Rung> {
        let is_standby = |n: &&Node| n.upstream.is_some() && n.role() != Some(Role::Primary);
        self.nodes.iter().filter(is_standby).filter(|n| wanted(n)).map(|n| self.rung(n)).collect()
    }

    /// The row of one standby.
    pub fn rung(&self, node: &Node) -> Rung {
        let upstream = node.upstream.as_ref().and_then(|u| self.node(u));
        let sample = upstream.and_then(|u| u.sample.as_ref());
        let feed = upstream.map_or(Feed::None, |u| self.feed(u, node));
        let row = feed.row();
        let link = match node.sample.as_ref().and_then(|s| s.receiver.as_ref()) {
            // Which of the senders is its own isn't known; that it streams it says itself.
            Some(own) if feed == Feed::Unclear && node.answers() && !node.forked_told => {
                Link::Connected(own.status.clone())
            }
            _ => self.link(node, upstream, row),
        };
        let wal = sample.map(|s| s.wal).filter(|_| upstream.is_some_and(|up| can_be_compared(up, &link)));
        let connected = matches!(link, Link::Connected(_) | Link::LastKnown { .. });
        // What isn't connected has no row upstream; its own word on what it has is the best there is.
        let own = node.sample.as_ref().map_or([None; 4], |s| [None, None, s.flushed, s.replayed]);
        let steps = row.filter(|_| connected).map_or(own, |r| [r.sent, r.write, r.flush, r.replay]);
        let behind = wal.zip(steps[3]).map(|(w, replay)| w.bytes_ahead_of(replay));
        let fresh = matches!(link, Link::Connected(_));
        Rung {
            name: node.name.clone(),
            upstream: node.upstream.clone(),
            sync_state: row.filter(|_| connected).map(|r| r.sync_state.clone()).unwrap_or_default(),
            wal,
            steps,
            lag_us: lag(behind, row, fresh, node),
            lags_us: [(1, row.and_then(|r| r.write_lag_us)), (2, row.and_then(|r| r.flush_lag_us))]
                .map(|(step, lag)| if wal.is_some() && wal == steps[step] { Some(0) } else { lag }.filter(|_| fresh)),
            idle: fresh && behind == Some(0) && self.quiet(upstream),
            behind,
            link,
        }
    }

    fn link(&self, node: &Node, upstream: Option<&Node>, row: Option<&SenderRow>) -> Link {
        let Some(upstream) = upstream else { return Link::Disconnected };
        let Some(seen) = upstream.seen else { return Link::Unseen };
        let last_known = |row: &SenderRow, ms: u64| Link::LastKnown { state: row.state.clone(), ms };
        match row {
            _ if node.forked_told && node.state == NodeState::Running => Link::Forked,
            Some(_) if !upstream.answers() && has_lost(node, seen) => Link::Disconnected,
            Some(row) if !upstream.answers() => last_known(row, self.now.ms_since(seen)),
            Some(row) if node.state == NodeState::Frozen => last_known(row, self.now.ms_since(node.state_since)),
            // One that is only starting to stream has nothing to reply to yet.
            Some(row) if row.state != "startup" && self.is_silent(upstream, row) => {
                let age = row.reply_age_us.unwrap_or(0).unsigned_abs() / 1_000;
                last_known(row, age + self.now.ms_since(seen))
            }
            Some(row) => Link::Connected(row.state.clone()),
            None => Link::Disconnected,
        }
    }

    /// It owes an answer: where the heartbeat comes, for what it hasn't confirmed; else for its regular reply.
    fn is_silent(&self, upstream: &Node, row: &SenderRow) -> bool {
        let Some(age) = row.reply_age_us else { return false };
        let owes = upstream.sample.as_ref().is_some_and(|s| row.write < Some(s.wal));
        let age = self.silence_us(age, upstream);
        // Behind a cut silence means something without any heartbeat: no reply comes, or what is to be confirmed doesn't.
        let [down_cut, back_cut] = self.cuts(upstream, row);
        if age > SILENT_US && (back_cut || (down_cut && owes)) {
            return true;
        }
        let age = age.saturating_sub(self.under_way_us(upstream, row));
        age > Self::reply_due_us(upstream) || (owes && age > self.silent_after_us(upstream, row))
    }

    /// Of a silence as this node tells it, what came after replab itself last stood still.
    pub(super) fn silence_us(&self, age_us: i64, told_by: &Node) -> i64 {
        let Some(still) = self.stood_still else { return age_us };
        let since = told_by.seen.unwrap_or(self.now).0.saturating_sub(still.0);
        age_us.min(i64::try_from(since).unwrap_or(i64::MAX))
    }

    /// Whether replab stood still a moment ago: what broke meanwhile has not had the time to mend.
    pub fn comes_to_itself(&self) -> bool {
        self.stood_still.is_some_and(|still| self.now.ms_since(still) < FORGIVEN_MS)
    }

    /// What the lab itself delays on that link: slow isn't silent.
    fn under_way_us(&self, upstream: &Node, row: &SenderRow) -> i64 {
        let lanes = self.lanes(upstream, row);
        lanes.iter().filter_map(|lane| lane.slow).map(|slow| (slow.delay_us + slow.jitter_us) as i64).sum()
    }

    /// A standby replies at least every wal_receiver_status_interval; 0 turns that off.
    pub(super) fn reply_due_us(upstream: &Node) -> i64 {
        let interval = upstream.sample.as_ref().map_or(10_000, |s| s.settings.wal_receiver_status_interval_ms);
        if interval == 0 { i64::MAX } else { (interval as i64 + 1_000) * 1_000 }
    }

    /// How old a standby's last reply may be while it owes one. What it is to confirm may be on its way for any time behind a throttle.
    fn silent_after_us(&self, upstream: &Node, row: &SenderRow) -> i64 {
        let throttled = self.lanes(upstream, row).iter().any(|lane| lane.rate.is_some());
        if self.beats_at(upstream) && !throttled { SILENT_US } else { Self::reply_due_us(upstream) }
    }

    /// The link to the standby of this row, each way; nothing where the lab has none of that name.
    fn lanes(&self, upstream: &Node, row: &SenderRow) -> Vec<Lane> {
        let node = self.nodes.iter().find(|n| n.name.as_str().eq_ignore_ascii_case(&row.name));
        let ways =
            |n: &Node| [self.links.between(&upstream.name, &n.name), self.links.between(&n.name, &upstream.name)];
        node.map_or_else(Vec::new, |n| ways(n).into())
    }

    /// Whether the link to the standby of this row is cut: toward it, and back.
    fn cuts(&self, upstream: &Node, row: &SenderRow) -> [bool; 2] {
        let lanes = self.lanes(upstream, row);
        [lanes.first().is_some_and(|lane| lane.cut), lanes.get(1).is_some_and(|lane| lane.cut)]
    }

    /// Whether the heartbeat has come to a node for long enough that silence behind it means something.
    pub(super) fn beats_at(&self, node: &Node) -> bool {
        let warm = self.stage == Stage::Live && self.now.ms_since(self.heart_since) > HEART_WARM_MS;
        self.heartbeat && warm && self.heartbeat_reaches(node)
    }

    /// Whether the heartbeat comes to a node, and so to what follows it: it is written on the primary and goes down the
    /// cascade only as far as links carry. Behind a cut, or on another primary, a healthy standby is quiet.
    fn heartbeat_reaches(&self, node: &Node) -> bool {
        let mut at = node;
        for _ in 0..self.nodes.len() {
            if self.primary.as_ref() == Some(&at.name) {
                return true;
            }
            let Some(up) = at.upstream.as_ref().and_then(|u| self.node(u)).filter(|_| at.role() != Some(Role::Primary))
            else {
                return false;
            };
            let row = self.feed(up, at).row();
            // By age alone, so that a circle of nodes ends here too.
            let carries = row.is_some_and(|r| r.reply_age_us.is_none_or(|age| age <= SILENT_US));
            if !carries || at.state == NodeState::Frozen || self.links.between(&up.name, &at.name).cut {
                return false;
            }
            at = up;
        }
        false
    }

    /// Whether nothing but the heartbeat is written: by the lab's writer, or, as the log shows, by anybody else.
    fn quiet(&self, upstream: Option<&Node>) -> bool {
        let written = [upstream, self.primary_node()].into_iter().flatten().any(is_written);
        self.writer.pulse.commits == 0 && !written
    }

    /// How the standby of this application_name stands towards the server that the clients write to, for the rule in plain words; None
    /// when no node has the name.
    pub fn standing(&self, name: &str) -> Option<Standing> {
        let node = self.nodes.iter().find(|n| n.name.as_str().eq_ignore_ascii_case(name))?;
        let server = self.serving()?;
        if *server == node.name {
            return None;
        }
        let there = node.upstream.as_ref() == Some(server);
        Some(match self.rung(node).link {
            link @ Link::Connected(_) if there && !link.counts() => Standing::Behind,
            // Nothing has shown it yet, but the lab knows that nothing gets through.
            Link::Connected(_) if there && self.is_cut(server, &node.name) => Standing::Silent,
            Link::Connected(_) if there => Standing::Well,
            Link::LastKnown { .. } if there => Standing::Silent,
            _ => Standing::Away,
        })
    }

    /// Where two primaries run: that they do, and who writes where.
    pub fn split_brain_in_words(&self) -> Option<String> {
        let rivals: Vec<&str> = self.rivals().map(|n| n.name.as_str()).collect();
        let primary = self.primary.as_ref().filter(|_| !rivals.is_empty())?;
        let writer = match &self.writer.plan.target {
            Some(node) if !self.writer.plan.paused => {
                format!("The writer writes to {node}; the other gets none of it.")
            }
            _ => "The writer rests.".to_owned(),
        };
        let serving = self.serving().unwrap_or(primary);
        Some(format!(
            "Two primaries, {primary} and {}: each goes its own way. {writer} On {serving}:",
            rivals.join(" and ")
        ))
    }

    /// The rule and what it means now, in plain words.
    pub fn rule_in_words(&self) -> String {
        let Some(server) = self.serving_node() else { return "There is no primary.".to_owned() };
        let name = &server.name;
        if server.sample.is_none() {
            return format!("Nothing is known of {name} yet.");
        }
        if matches!(server.state, NodeState::Exited(_)) {
            let others = if self.primary.as_ref() == Some(name) {
                "or a standby is promoted"
            } else {
                "or the clients go to another server (`target primary`)"
            };
            return format!("{name} is down: no commit returns until it is started {others}.");
        }
        if server.state == NodeState::Frozen {
            return format!("{name} is frozen: connections stay open and nothing returns until it is thawed.");
        }
        match self.serving_rule() {
            Some(rule) => {
                let own = |_: &String| self.serving() == self.primary.as_ref();
                let impostors = self.impostors_in_words().into_iter().filter(own);
                let meaning = std::iter::once(self.meaning_of(&rule)).chain(impostors);
                meaning.collect::<Vec<_>>().join(" ")
            }
            None => "The rule is one that the lab can't put into words.".to_owned(),
        }
    }

    /// What a rule would mean now.
    pub fn meaning_of(&self, rule: &SyncRule) -> String {
        let everybody: Vec<&str> = self.nodes.iter().map(|n| n.name.as_str()).collect();
        let server = self.serving().map_or("", NodeName::as_str);
        let says = |name: &str| self.standing_for_commits(name);
        let mut text = sync_rule::words(&rule.on(server), &self.writer.plan.level, &everybody, says);
        if rule.names().iter().any(|n| n.eq_ignore_ascii_case(server)) {
            text.push_str(&format!(
                " The rule names {server} too. A server is no standby of its own, so {server} never counts."
            ));
        }
        text
    }

    /// The same with an eye on what the writer's commits wait for: where that is replay, paused replay stands in the way.
    pub(super) fn standing_for_commits(&self, name: &str) -> Option<Standing> {
        let paused = |n: &Node| n.sample.as_ref().is_some_and(|s| s.replay_paused);
        let node = self.nodes.iter().find(|n| n.name.as_str().eq_ignore_ascii_case(name));
        let held = self.writer.plan.level == "remote_apply" && node.is_some_and(paused);
        // Whoever bears its name counts for it.
        let other = |r: &&SenderRow| r.name.eq_ignore_ascii_case(name) && r.state == "streaming";
        if self.standing(name) == Some(Standing::Away) && self.impostors().iter().any(other) {
            return Some(Standing::Well);
        }
        self.standing(name).map(|s| if held && s == Standing::Well { Standing::Paused } else { s })
    }

    /// How old what is shown of a node is, in milliseconds, when it isn't fresh.
    pub fn stale_ms(&self, node: &Node) -> Option<u64> {
        (!node.answers()).then(|| self.now.ms_since(node.seen.unwrap_or(node.state_since)))
    }
}

/// Whether a standby's place can be compared with the last known one of its upstream: both come from one look, or from two that are
/// as old as each other. Places in two histories can't be; and how far a server was that has ended since is not known.
fn can_be_compared(upstream: &Node, link: &Link) -> bool {
    match link {
        Link::Connected(_) => true,
        Link::LastKnown { .. } => !matches!(upstream.state, NodeState::Exited(_)),
        Link::Disconnected => upstream.answers(),
        Link::Forked | Link::Unseen => false,
    }
}

/// Whether a standby says itself, later than its upstream was heard last, that it has no connection to it: one whose upstream died
/// knows at once, one whose upstream is frozen or cut off knows nothing.
fn has_lost(node: &Node, upstream_seen: super::Stamp) -> bool {
    let later = node.answers() && node.seen > Some(upstream_seen);
    later && node.sample.as_ref().is_some_and(|s| s.role == Role::Standby && s.receiver.is_none())
}

/// Twice running: a checkpoint or autovacuum brings some ten pages at once (68 kB seen), but not at every look.
fn is_written(node: &Node) -> bool {
    node.grew.iter().all(|grew| *grew > HEARTBEAT_BYTES)
}

/// facts: `replay_lag` keeps its last value once idle, so it counts only while bytes are behind. Of a standby that doesn't
/// answer its upstream the lag in time isn't known; one that isn't connected tells its own last replayed commit's age.
fn lag(behind: Option<u64>, row: Option<&SenderRow>, fresh: bool, node: &Node) -> Option<i64> {
    let own = || node.sample.as_ref().filter(|_| node.answers()).and_then(|s| s.replay_age_us);
    match (behind?, row) {
        (0, Some(_)) if fresh => Some(0),
        (_, Some(row)) if fresh => row.replay_lag_us.or_else(own),
        (_, Some(_)) => None,
        (_, None) => own(),
    }
}

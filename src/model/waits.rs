//! Commits that wait: on which server, for whom, and which of them are worth a word. Derived from samples; keeps nothing.
//!
//! A rule, the commits that wait under it and the standbys that they wait for belong to one server: the one that the clients write
//! to ([`Model::serving`]). That is the primary, unless `target` keeps the clients elsewhere.

use super::cluster::{NodeState, Role, WaitingCommit};
use super::links::End;
use super::sync_rule::{Standing, SyncRule};
use super::{Model, Node, NodeName};

/// Every synchronous commit waits for a moment. What is worth a word has waited for longer than this, or is held by a fault.
const LONG_US: u64 = 500_000;

/// Whose answers a commit needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// The answer of each of these.
    pub each: Vec<String>,
    /// And the answers of so many of these.
    pub any: Option<(usize, Vec<String>)>,
    /// Whether one of them can't answer now, so that commits wait until that changes.
    pub held: bool,
}

impl Needs {
    /// "s1 and s2", "1 of s1, s2", "s1 and 1 of s2, s3"; empty where nobody is needed.
    pub fn in_words(&self) -> String {
        let any = self.any.iter().map(|(k, names)| match names.as_slice() {
            [] if *k == 1 => "another standby".to_owned(),
            [] => format!("{k} more standbys"),
            names => format!("{k} of {}", names.join(", ")),
        });
        self.each.iter().cloned().chain(any).collect::<Vec<_>>().join(" and ")
    }

    /// Whether this standby's answer is, or may be, among those needed.
    pub fn names(&self, standby: &str) -> bool {
        let any = self.any.iter().flat_map(|(_, names)| names);
        self.each.iter().chain(any).any(|n| n.eq_ignore_ascii_case(standby))
    }

    fn of(mut each: Vec<String>, missing: usize, among: Vec<String>, held: bool) -> Self {
        // Where no more are there than are needed, it is each of them.
        if missing > 0 && missing == among.len() {
            each.extend(among);
            return Self { each, any: None, held };
        }
        Self { each, any: (missing > 0).then_some((missing, among)), held }
    }
}

/// A commit that hasn't returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// Who waits: "client 3", "pid 4711".
    pub who: String,
    /// For how long, by now.
    pub age_us: u64,
    /// Whether the server lists it as waiting for a standby, which it does only after the local flush.
    pub listed: bool,
    /// The writer's number of the write.
    pub seq: Option<u64>,
    /// Its statement, where the server lists it.
    pub query: String,
}

impl Model {
    /// The server that the clients write to, as far as that is one: the primary, or another one that accepts writes, where `target`
    /// keeps them there.
    pub fn serving(&self) -> Option<&NodeName> {
        let takes_writes = |n: &&NodeName| self.node(n).is_some_and(|n| n.role() != Some(Role::Standby));
        self.writer.plan.target.as_ref().filter(takes_writes).or(self.primary.as_ref())
    }

    /// The same as a node.
    pub fn serving_node(&self) -> Option<&Node> {
        self.serving().and_then(|name| self.node(name))
    }

    /// Whether that must be named where it is spoken of: there is another primary.
    pub fn serves_beside_another(&self) -> bool {
        self.serving() != self.primary.as_ref() || self.rivals().next().is_some()
    }

    /// synchronous_standby_names of the server that the clients write to, as it last reported it.
    pub fn serving_rule_text(&self) -> Option<&str> {
        let sample = self.serving_node()?.sample.as_ref()?;
        Some(&sample.settings.synchronous_standby_names)
    }

    /// The rule in force there, where the lab understands it.
    pub fn serving_rule(&self) -> Option<SyncRule> {
        SyncRule::from_setting(self.serving_rule_text()?)
    }

    /// The same as it works there: without that server's own name.
    pub fn serving_rule_at_work(&self) -> Option<SyncRule> {
        let server = self.serving()?;
        self.serving_rule().map(|rule| rule.on(server.as_str()))
    }

    /// Commits that wait for a synchronous standby there, as the server last listed them: also those that wait only for a moment.
    pub fn waiting(&self) -> &[WaitingCommit] {
        self.serving_node().and_then(|n| n.sample.as_ref()).map_or(&[], |s| &s.waiting)
    }

    /// Whose answers a commit there needs now: of the standbys that count, those that hold it up (all that it takes, when none
    /// does); and, where too few count, those that would have to come.
    pub fn needs(&self) -> Needs {
        let Some(rule) = self.serving_rule_at_work().filter(SyncRule::is_on) else { return Needs::default() };
        let (k, counting) = (rule.needed() as usize, self.counting());
        let is = |name: &str, list: &[String]| list.iter().any(|n| n.eq_ignore_ascii_case(name));
        // Of a receiver that is no node of the lab PostgreSQL's word is all there is.
        let answers = |name: &String| match self.standing_for_commits(name) {
            Some(standing) => standing == Standing::Well,
            None => is(name, &counting),
        };
        let listed = self.listed_by(&rule);
        if let SyncRule::Any(..) = rule {
            let (well, others): (Vec<String>, Vec<String>) = listed.into_iter().partition(answers);
            return match k.saturating_sub(well.len()) {
                0 => Needs::of(Vec::new(), k, well, false),
                missing => Needs::of(Vec::new(), missing, others, true),
            };
        }
        let silent: Vec<String> = counting.iter().filter(|n| !answers(n)).cloned().collect();
        match k.saturating_sub(counting.len()) {
            0 if silent.is_empty() => Needs { each: counting, any: None, held: false },
            0 => Needs { each: silent, any: None, held: true },
            missing => {
                let others = listed.into_iter().filter(|n| !is(n, &counting)).collect();
                Needs::of(silent, missing, others, true)
            }
        }
    }

    /// Whom a rule of the server that the clients write to may ever ask, in its order: never that server itself.
    pub fn listed_by(&self, rule: &SyncRule) -> Vec<String> {
        let rule = rule.on(self.serving().map_or("", NodeName::as_str));
        let named: Vec<String> = rule.names().iter().filter(|n| *n != "*").cloned().collect();
        let anybody = rule.names().iter().any(|n| n == "*");
        let others = self.nodes.iter().filter(|n| anybody && n.upstream.as_ref() == self.serving());
        let others = others.map(|n| n.name.to_string()).filter(|n| !named.iter().any(|m| m.eq_ignore_ascii_case(n)));
        named.iter().cloned().chain(others).collect()
    }

    /// The standbys that count for a commit now, by PostgreSQL's own word: sync or quorum.
    fn counting(&self) -> Vec<String> {
        let senders = self.serving_node().and_then(|n| n.sample.as_ref()).map_or(&[][..], |s| &s.senders);
        let counts = senders.iter().filter(|s| ["sync", "quorum"].contains(&s.sync_state.as_str()));
        let mut names: Vec<String> = counts.map(|s| s.name.clone()).collect();
        names.sort();
        names.dedup();
        names
    }

    /// The commits that have waited for long, or that a fault holds, the longest wait first. What the server lists comes with what the
    /// writer misses an answer to. Ages are judged as they were seen: what has become of a commit since isn't known.
    pub fn waits(&self) -> Vec<Wait> {
        let Some(server) = self.serving_node() else { return Vec::new() };
        let held = self.needs().held || !server.answers();
        let since_us = self.now.0.saturating_sub(server.seen.unwrap_or(self.now).0);
        let mut all: Vec<(Wait, bool)> = Vec::new();
        // Whoever waited on a server that is down has lost it, and waits no more.
        let down = matches!(server.state, NodeState::Exited(_));
        for commit in self.waiting().iter().filter(|_| !down) {
            let who = match commit.application.strip_prefix("replab writer ") {
                Some(n) => format!("client {n}"),
                None => format!("pid {}", commit.pid),
            };
            let age_us = commit.age_us.unsigned_abs();
            let wait = Wait { who, age_us: age_us + since_us, listed: true, seq: None, query: commit.query.clone() };
            all.push((wait, held || age_us > LONG_US));
        }
        let (blocked, since_us) = (self.clients_are_blocked(server), self.now.0.saturating_sub(self.writer.pulse_at.0));
        for flight in &self.writer.pulse.waiting {
            let who = format!("client {}", flight.client);
            let told = blocked || flight.age_us > LONG_US;
            match all.iter_mut().find(|(w, _)| w.who == who) {
                Some((known, known_told)) => {
                    known.seq = Some(flight.seq);
                    *known_told |= told;
                }
                None => {
                    let age_us = flight.age_us + since_us;
                    all.push((Wait { who, age_us, listed: false, seq: Some(flight.seq), query: String::new() }, told));
                }
            }
        }
        let mut waits: Vec<Wait> = all.into_iter().filter(|(_, told)| *told).map(|(wait, _)| wait).collect();
        waits.sort_by_key(|w| std::cmp::Reverse(w.age_us));
        waits
    }

    /// Whether the clients of this server get no answer by the lab's own doing.
    fn clients_are_blocked(&self, server: &Node) -> bool {
        let (client, node) = (End::Client, End::from(server.name.clone()));
        let lanes = [self.links.lane(&client, &node), self.links.lane(&node, &client)];
        server.state != NodeState::Running || lanes.iter().any(|lane| lane.cut)
    }
}

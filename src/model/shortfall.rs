//! Settings that a standby may not have lower than its primary. Where one is, PostgreSQL stops replaying as soon as it learns of it, by a
//! pause of its own; resumed, or started like that, the standby shuts down (manual 26.4.3). So there are two kinds of pause, the
//! person's and PostgreSQL's. Derived from looks at both servers, and from the standby's log, which names one setting with both values.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::cluster::{Role, Sample};
use super::{Model, Node, NodeName};

/// The settings, in the order of [`Sample::limits`].
pub const AT_LEAST: [&str; 5] = [
    "max_connections",
    "max_worker_processes",
    "max_wal_senders",
    "max_prepared_transactions",
    "max_locks_per_transaction",
];

/// A setting that is too low.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shortfall {
    /// Its name.
    pub setting: String,
    /// What the standby has.
    pub own: u64,
    /// What the primary has.
    pub needed: u64,
}

impl fmt::Display for Shortfall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} < {}", self.setting, self.own, self.needed)
    }
}

impl Shortfall {
    /// What PostgreSQL says in the detail of "hot standby is not possible", "recovery aborted" and "promotion is not possible because of
    /// insufficient parameter settings"; None of another line.
    pub fn told(line: &str) -> Option<Self> {
        let (setting, rest) = line.split_once(" = ")?;
        let (own, rest) = rest.split_once(" is a lower setting than on the primary server, where its value was ")?;
        let needed = rest.trim_end_matches('.').parse().ok()?;
        AT_LEAST.contains(&setting).then_some(())?;
        Some(Self { setting: setting.to_owned(), own: own.parse().ok()?, needed })
    }

    /// Whether a look shows that it is so no more: the setting was raised, or there is nothing to replay.
    pub(super) fn is_over(&self, sample: &Sample) -> bool {
        let at = AT_LEAST.iter().position(|name| *name == self.setting);
        let has = at.zip(sample.limits).map(|(at, limits)| limits[at]);
        sample.role == Role::Primary || has.is_some_and(|has| has >= self.needed)
    }
}

/// Who paused replay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pause {
    /// Somebody, by `replay pause` or the function behind it.
    Person,
    /// PostgreSQL, because of this.
    Postgres(Shortfall),
    /// Not known yet: it was seen for the first time.
    Unknown,
}

impl Pause {
    /// "person", "postgresql" or "unknown".
    pub fn word(&self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::Postgres(_) => "postgresql",
            Self::Unknown => "unknown",
        }
    }
}

impl Model {
    /// Who paused replay on a node, if it is paused. What the log says counts most. Without its word a pause that came while a
    /// setting was too low is PostgreSQL's, and one that was there before is the person's.
    pub fn pause_of(&self, node: &Node) -> Option<Pause> {
        node.sample.as_ref().filter(|s| s.replay_paused)?;
        let seen = || self.too_low(node).into_iter().next().filter(|_| !node.paused_by_hand);
        Some(match node.shortfall.clone().or_else(seen) {
            Some(shortfall) => Pause::Postgres(shortfall),
            None if node.paused_by_hand => Pause::Person,
            None => Pause::Unknown,
        })
    }

    /// All settings of a standby that are too low: by the last looks at both servers, and by its log.
    pub fn shortfalls(&self, node: &Node) -> Vec<Shortfall> {
        let mut found = self.too_low(node);
        if let Some(logged) = &node.shortfall {
            match found.iter_mut().find(|s| s.setting == logged.setting) {
                Some(seen) => seen.needed = seen.needed.max(logged.needed),
                None => found.push(logged.clone()),
            }
        }
        found
    }

    fn too_low(&self, node: &Node) -> Vec<Shortfall> {
        let limits = |node: &Node| node.sample.as_ref().and_then(|s| s.limits);
        let Some((own, needed)) = limits(node).zip(self.source_of(node).and_then(limits)) else { return Vec::new() };
        let each = AT_LEAST.iter().zip(own.into_iter().zip(needed));
        let low = each.filter(|(_, (own, needed))| own < needed);
        low.map(|(name, (own, needed))| Shortfall { setting: (*name).to_owned(), own, needed }).collect()
    }

    /// The primary at the head of a standby's cascade.
    pub(super) fn source_of<'a>(&'a self, node: &'a Node) -> Option<&'a Node> {
        let mut at = node;
        for _ in 0..self.nodes.len() {
            match &at.upstream {
                Some(up) if at.role() != Some(Role::Primary) => at = self.node(up)?,
                _ => break,
            }
        }
        (at.name != node.name).then_some(at)
    }

    /// "max_connections 150 < 300 on p".
    pub fn shortfall_in_words(&self, node: &Node, shortfall: &Shortfall) -> String {
        let source = self.source_of(node).map_or("the primary", |n| n.name.as_str());
        format!("{shortfall} on {source}")
    }

    /// Why a standby has stopped replaying, if PostgreSQL paused it: "max_connections 150 < 300 on p".
    pub fn stopped_by(&self, name: &NodeName) -> Option<String> {
        let node = self.node(name)?;
        match self.pause_of(node)? {
            Pause::Postgres(shortfall) => Some(self.shortfall_in_words(node, &shortfall)),
            Pause::Person | Pause::Unknown => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_names_the_setting_and_both_values() {
        let line = "max_connections = 150 is a lower setting than on the primary server, where its value was 300.";
        let low = Shortfall::told(line).unwrap();
        assert_eq!(low.to_string(), "max_connections 150 < 300");
        for line in [
            "max_connections = 150",
            "work_mem = 1 is a lower setting than on the primary server, where its value was 2.",
        ] {
            assert_eq!(Shortfall::told(line), None, "{line}");
        }
    }
}

//! Chaos: seeded rounds of random faults, planned from the lab's own verbs; how a lab is mended after each, what must hold then,
//! and the diary that plays them again. Pure: a seed, names and a model in, commands out; carries nothing out.
//!
//! What a seed promises: the same seed, kinds and number of standbys give the same rounds (rule, level, faults and their times).
//! Which node a fault hits follows from who is primary by then, which an election on a real cluster decides; and what a
//! fault meets (a write under way, a reply in flight) is up to that cluster.

pub mod diary;
pub mod dice;
pub mod judge;
pub mod kinds;
pub mod mend;

use crate::model::command::{COMMIT_LEVELS, Command};
use crate::model::sync_rule::SyncRule;
use crate::model::{Model, NodeName};

use dice::Dice;
use kinds::Kind;

/// Commits at these levels wait for standbys, so they have a promise to break: they come twice as often as the others.
const WAITING_LEVELS: [&str; 3] = ["remote_write", "on", "remote_apply"];
/// Faults of a round.
const FAULTS: (u64, u64) = (1, 3);
/// Between two faults, in milliseconds.
const APART_MS: (u64, u64) = (0, 800);
/// Writes go on before the first fault for so long.
const BEFORE_MS: (u64, u64) = (200, 600);
/// After the last fault the cluster is left alone for so long; the detector's timeouts must fit in.
const HOLD_MS: (u64, u64) = (200, 1_800);

/// Who plays in a round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cast {
    /// The primary.
    pub primary: NodeName,
    /// Its standbys, in the order they are shown.
    pub standbys: Vec<NodeName>,
}

impl Cast {
    /// As a lab stands.
    pub fn of(model: &Model) -> Option<Self> {
        let primary = model.primary.clone()?;
        let standbys = model.names().filter(|n| **n != primary).cloned().collect();
        Some(Self { primary, standbys })
    }
}

/// A command of a round.
#[derive(Clone, Debug, PartialEq)]
pub struct Act {
    /// So long after the one before it has ended.
    pub after_ms: u64,
    /// While the lab refuses it, it is asked again for so long.
    pub patience_ms: u64,
    /// The command.
    pub command: Command,
}

/// What one round does, beside mending and judging.
#[derive(Clone, Debug, PartialEq)]
pub struct Round {
    /// The rule it begins with.
    pub rule: SyncRule,
    /// The level its writes commit at.
    pub level: String,
    /// The kinds of its faults.
    pub kinds: Vec<&'static str>,
    /// The faults, in order.
    pub acts: Vec<Act>,
    /// How long they are left in force.
    pub hold_ms: u64,
}

/// Chaos of one seed.
#[derive(Clone, Debug)]
pub struct Chaos {
    seed: u64,
    kinds: Vec<&'static Kind>,
}

impl Chaos {
    /// With these kinds of faults; all where none is named.
    pub fn new(seed: u64, kinds: Vec<&'static Kind>) -> Self {
        let kinds = if kinds.is_empty() { kinds::KINDS.iter().collect() } else { kinds };
        Self { seed, kinds }
    }

    /// The names of its kinds.
    pub fn kinds(&self) -> Vec<&'static str> {
        self.kinds.iter().map(|k| k.name).collect()
    }

    /// A round, numbered from 1. Each has dice of its own, so that no round depends on what became of another.
    pub fn round(&self, number: u32, cast: &Cast) -> Round {
        let mut dice = Dice::new(self.seed, number);
        let (rule, level) = (rule(&mut dice, &cast.standbys), level(&mut dice));
        let kinds = self.faults(&mut dice);
        let mut acts: Vec<Act> = Vec::new();
        for kind in &kinds {
            let (low, high) = if acts.is_empty() { BEFORE_MS } else { APART_MS };
            let mut more = kind.plan(&mut dice, cast);
            if let Some(first) = more.first_mut() {
                first.after_ms += dice.between(low, high);
            }
            acts.append(&mut more);
        }
        let hold_ms = dice.between(HOLD_MS.0, HOLD_MS.1);
        Round { rule, level, kinds: kinds.iter().map(|k| k.name).collect(), acts, hold_ms }
    }

    /// At most one of them moves the primary.
    fn faults(&self, dice: &mut Dice) -> Vec<&'static Kind> {
        let mut chosen: Vec<&'static Kind> = Vec::new();
        for _ in 0..dice.between(FAULTS.0, FAULTS.1) {
            let open: Vec<&'static Kind> =
                self.kinds.iter().copied().filter(|k| !k.moves || !chosen.iter().any(|c| c.moves)).collect();
            chosen.extend(dice.pick(&open));
        }
        chosen
    }
}

/// Off, FIRST or ANY of some standbys, with fewer or as many answers as there are names.
fn rule(dice: &mut Dice, standbys: &[NodeName]) -> SyncRule {
    if standbys.is_empty() || dice.chance(15) {
        return SyncRule::Off;
    }
    let listed = dice.between(1, standbys.len() as u64) as usize;
    let names: Vec<String> = dice.some(standbys, listed).iter().map(ToString::to_string).collect();
    let needed = dice.between(1, names.len().min(2) as u64) as u32;
    if dice.chance(50) { SyncRule::First(needed, names) } else { SyncRule::Any(needed, names) }
}

fn level(dice: &mut Dice) -> String {
    let all: Vec<&str> = COMMIT_LEVELS.iter().chain(&WAITING_LEVELS).copied().collect();
    (*dice.pick(&all).unwrap_or(&"on")).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cast(primary: &str, standbys: usize) -> Cast {
        let nodes = (0..=standbys).map(|i| if i == 0 { "p".to_owned() } else { format!("s{i}") });
        let names: Vec<NodeName> = nodes.map(|n| n.parse().unwrap()).collect();
        let primary: NodeName = primary.parse().unwrap();
        Cast { standbys: names.into_iter().filter(|n| *n != primary).collect(), primary }
    }

    proptest! {
        #[test]
        fn the_same_seed_gives_the_same_round(seed: u64, number in 1u32..500, standbys in 1usize..16) {
            let cast = cast("p", standbys);
            let round = Chaos::new(seed, Vec::new()).round(number, &cast);
            prop_assert_eq!(&round, &Chaos::new(seed, Vec::new()).round(number, &cast));
            prop_assert!((1..=3).contains(&round.kinds.len()) && !round.acts.is_empty());
        }

        /// Whatever the dice say is a command that reads back, about nodes that there are.
        #[test]
        fn every_act_is_a_command_about_the_cast(seed: u64, number in 1u32..500, standbys in 1usize..16) {
            let cast = cast("s1", standbys);
            let round = Chaos::new(seed, Vec::new()).round(number, &cast);
            for act in &round.acts {
                let text = act.command.to_string();
                prop_assert_eq!(text.parse::<Command>(), Ok(act.command.clone()));
                for word in text.split_whitespace().filter(|w| w.len() < 4 && w.starts_with(['p', 's'])) {
                    let known = cast.standbys.iter().chain([&cast.primary]).any(|n| n.as_str() == word);
                    prop_assert!(known, "{} in {}", word, text);
                }
            }
            let rule = round.rule;
            prop_assert!(rule.names().iter().all(|n| cast.standbys.iter().any(|s| s.as_str() == n)), "{}", rule);
            prop_assert!(rule.needed() as usize <= rule.names().len());
            prop_assert_eq!(format!("sync {rule}").parse::<Command>(), Ok(Command::Sync(rule)));
        }

        /// The roles decide, not the names: after an election the same faults come, on the node that has that part now.
        #[test]
        fn another_primary_means_the_same_faults(seed: u64, number in 1u32..500) {
            let chaos = Chaos::new(seed, Vec::new());
            let (one, other) = (chaos.round(number, &cast("p", 3)), chaos.round(number, &cast("s2", 3)));
            prop_assert_eq!(&one.kinds, &other.kinds);
            prop_assert_eq!(one.hold_ms, other.hold_ms);
            let shape = |r: &Round| r.acts.iter().map(|a| (a.after_ms, a.command.to_string().split(' ').next().map(str::to_owned))).collect::<Vec<_>>();
            prop_assert_eq!(shape(&one), shape(&other));
        }

        #[test]
        fn one_primary_is_lost_a_round_at_most(seed: u64, number in 1u32..500) {
            let round = Chaos::new(seed, Vec::new()).round(number, &cast("p", 3));
            let moves = round.kinds.iter().filter(|name| Kind::named(name).is_some_and(|k| k.moves)).count();
            prop_assert!(moves <= 1, "{:?}", round.kinds);
        }
    }

    #[test]
    fn every_kind_rule_and_level_has_its_turn() {
        let chaos = Chaos::new(1, Vec::new());
        let rounds: Vec<Round> = (1..400).map(|n| chaos.round(n, &cast("p", 3))).collect();
        for kind in kinds::KINDS {
            assert!(rounds.iter().any(|r| r.kinds.contains(&kind.name)), "{} never came", kind.name);
        }
        for level in COMMIT_LEVELS {
            assert!(rounds.iter().any(|r| r.level == level), "{level} never came");
        }
        for part in ["off", "first 1 (", "first 2 (", "any 1 (", "any 2 ("] {
            assert!(rounds.iter().any(|r| r.rule.to_string().starts_with(part)), "{part} never came");
        }
    }

    #[test]
    fn only_the_faults_asked_for_come() {
        let chaos = Chaos::new(5, vec![Kind::named("cut").unwrap(), Kind::named("slow").unwrap()]);
        assert_eq!(chaos.kinds(), ["cut", "slow"]);
        let verbs: std::collections::BTreeSet<String> = (1..100)
            .flat_map(|n| chaos.round(n, &cast("p", 2)).acts)
            .map(|a| a.command.to_string().split(' ').next().unwrap().to_owned())
            .collect();
        assert_eq!(verbs.into_iter().collect::<Vec<_>>(), ["cut", "slow"]);
    }
}

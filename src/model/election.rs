//! Who takes over: the most advanced of enough standbys, or a reason to wait. Pure: the answers come in.
//!
//! FIRST or ANY k of n listed standbys: every acknowledged write is on at least k of them, so of any n-k+1 at least one holds
//! it, and the most advanced of those that answer holds it too (facts, "Electing safely"). Fewer answers prove nothing.
//! "Most advanced" is the greatest of received and replayed. Knows nothing of how standbys are asked, nor of fencing.

use serde::{Deserialize, Serialize};

use super::sync_rule::SyncRule;
use super::{Lsn, NodeName};

/// What one standby said when it was asked how far it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The standby.
    pub node: NodeName,
    /// The timeline it received last.
    pub timeline: u32,
    /// The greatest of received and replayed.
    pub wal: Lsn,
}

/// An election: who could be asked, and who answered what.
#[derive(Clone, Debug)]
pub struct Race<'a> {
    /// The rule as it worked on the primary that is gone, so without that one's own name (`SyncRule::on`); None where it is one that
    /// the lab doesn't understand.
    pub rule: Option<&'a SyncRule>,
    /// All standbys of the lab, in the order they are shown.
    pub standbys: &'a [NodeName],
    /// The answers.
    pub answers: &'a [Answer],
}

/// What comes of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Choice {
    /// This one takes over.
    Elected {
        /// The most advanced.
        node: NodeName,
        /// Why it may lack acknowledged writes that the rule promised to keep, if so.
        doubt: Option<String>,
    },
    /// Too few answers.
    Wait {
        /// Listed standbys that answered.
        have: usize,
        /// So many must.
        need: usize,
        /// The listed ones that are missing.
        whom: Vec<String>,
    },
    /// There is no standby at all.
    Nobody,
}

impl Race<'_> {
    /// Elects. `allow_loss` makes do with whoever answers.
    pub fn elect(&self, allow_loss: bool) -> Choice {
        if self.standbys.is_empty() {
            return Choice::Nobody;
        }
        let Some(best) = self.best() else {
            let whom = self.standbys.iter().map(ToString::to_string).collect();
            return Choice::Wait { have: 0, need: self.needed().max(1), whom };
        };
        let (have, need) = (self.listed_answers(), self.needed());
        if self.rule.is_some() && have < need && !allow_loss {
            return Choice::Wait { have, need, whom: self.missing() };
        }
        Choice::Elected { doubt: self.doubt(best), node: best.clone() }
    }

    /// Why `chosen` may lack what the rule promised to keep; None when it surely has all of it.
    pub fn doubt(&self, chosen: &NodeName) -> Option<String> {
        let Some(rule) = self.rule else {
            return Some("the rule in force is one that the lab doesn't understand".to_owned());
        };
        if !rule.is_on() {
            return None;
        }
        let own = self.answers.iter().find(|a| a.node == *chosen).map(|a| (a.timeline, a.wal));
        if let Some(ahead) = self.answers.iter().find(|a| Some((a.timeline, a.wal)) > own) {
            return Some(format!("{} is ahead of {chosen}", ahead.node));
        }
        let (have, need) = (self.listed_answers(), self.needed());
        (have < need).then(|| {
            format!("only {have} of the {need} required {} answered", if need == 1 { "standby" } else { "standbys" })
        })
    }

    /// The most advanced; of equals one that the rule lists, then the first shown.
    fn best(&self) -> Option<&NodeName> {
        let place = |a: &Answer| std::cmp::Reverse(self.standbys.iter().position(|n| *n == a.node));
        let best = self.answers.iter().max_by_key(|a| (a.timeline, a.wal, self.lists(a.node.as_str()), place(a)));
        best.map(|a| &a.node)
    }

    fn lists(&self, name: &str) -> bool {
        self.rule.is_some_and(|r| r.lists(name))
    }

    /// The names that count: those of the rule; `*` stands for every standby.
    fn listed(&self) -> Vec<&str> {
        let names = self.rule.map_or(&[][..], SyncRule::names);
        if names.iter().any(|n| n == "*") {
            self.standbys.iter().map(NodeName::as_str).collect()
        } else {
            names.iter().map(String::as_str).collect()
        }
    }

    fn needed(&self) -> usize {
        match self.rule {
            // One that asks for more than it lists has let no commit return.
            Some(rule) if rule.is_on() => (self.listed().len() + 1).saturating_sub(rule.needed() as usize),
            _ => 0,
        }
    }

    fn has_answered(&self, name: &str) -> bool {
        self.answers.iter().any(|a| a.node.as_str().eq_ignore_ascii_case(name))
    }

    fn listed_answers(&self) -> usize {
        self.listed().into_iter().filter(|n| self.has_answered(n)).count()
    }

    fn missing(&self) -> Vec<String> {
        self.listed().into_iter().filter(|n| !self.has_answered(n)).map(str::to_owned).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(n: usize) -> NodeName {
        format!("s{n}").parse().unwrap()
    }

    fn answer(n: usize, wal: u64) -> Answer {
        Answer { node: name(n), timeline: 1, wal: Lsn(wal) }
    }

    fn elect(rule: &str, standbys: usize, answers: &[(usize, u64)], allow_loss: bool) -> Choice {
        let rule: SyncRule = rule.parse().unwrap();
        let standbys: Vec<NodeName> = (1..=standbys).map(name).collect();
        let answers: Vec<Answer> = answers.iter().map(|(n, wal)| answer(*n, *wal)).collect();
        Race { rule: Some(&rule), standbys: &standbys, answers: &answers }.elect(allow_loss)
    }

    fn shown(choice: &Choice) -> String {
        match choice {
            Choice::Elected { node, doubt: None } => node.to_string(),
            Choice::Elected { node, doubt: Some(why) } => format!("{node}, but {why}"),
            Choice::Wait { have, need, whom } => format!("{have} of {need}, waits for {}", whom.join(" ")),
            Choice::Nobody => "nobody".to_owned(),
        }
    }

    #[test]
    fn the_most_advanced_of_enough() {
        for (rule, answers, loss, wanted) in [
            ("off", &[(1, 5), (2, 9)][..], false, "s2"),
            ("off", &[(1, 5)], false, "s1"),
            ("off", &[], false, "0 of 1, waits for s1 s2 s3"),
            ("off", &[(1, 5), (2, 5), (3, 5)], false, "s1"),
            ("first 1 (s2, s3)", &[(1, 5), (2, 5), (3, 5)], false, "s2"),
            ("first 1 (s1)", &[(1, 5)], false, "s1"),
            ("first 1 (s1)", &[(1, 5), (2, 9)], false, "s2"),
            ("first 1 (s1)", &[(2, 9)], false, "0 of 1, waits for s1"),
            ("first 1 (s1)", &[(2, 9)], true, "s2, but only 0 of the 1 required standby answered"),
            ("any 1 (s1, s2)", &[(2, 9)], false, "1 of 2, waits for s1"),
            ("any 2 (s1, s2, s3)", &[(2, 9), (3, 4)], false, "s2"),
            ("any 2 (s1, s2, s3)", &[(3, 4)], false, "1 of 2, waits for s1 s2"),
            ("first 1 (*)", &[(1, 3), (2, 9)], false, "2 of 3, waits for s3"),
            ("any 2 (s1)", &[(2, 9)], false, "s2"),
            ("first 1 (nobody)", &[(1, 3)], false, "0 of 1, waits for nobody"),
        ] {
            assert_eq!(shown(&elect(rule, 3, answers, loss)), wanted, "{rule} {answers:?}");
        }
        assert_eq!(elect("off", 0, &[], true), Choice::Nobody);
    }

    /// Nobody can have confirmed in the name of the primary itself.
    #[test]
    fn a_rule_that_names_the_primary_needs_no_answer_of_it() {
        let rule: SyncRule = "any 1 (p, s1, s2)".parse().unwrap();
        let (rule, standbys) = (rule.on("p"), [name(1), name(2)]);
        let race = |answers: &[Answer]| shown(&Race { rule: Some(&rule), standbys: &standbys, answers }.elect(false));
        assert_eq!(race(&[answer(1, 3), answer(2, 9)]), "s2");
        assert_eq!(race(&[answer(2, 9)]), "1 of 2, waits for s1");
    }

    #[test]
    fn a_later_timeline_is_ahead_whatever_its_position() {
        let rule = SyncRule::Off;
        let answers = [answer(1, 99), Answer { timeline: 2, ..answer(2, 5) }];
        let race = Race { rule: Some(&rule), standbys: &[name(1), name(2)], answers: &answers };
        assert_eq!(shown(&race.elect(false)), "s2");
        let race = Race { rule: None, ..race };
        assert!(shown(&race.elect(false)).contains("doesn't understand"));
    }

    proptest! {
        /// Each write goes to some k of the n listed; whoever is elected without a doubt has them all. The log is one line, so
        /// who has the last write of its own has all before it.
        #[test]
        fn no_acknowledged_write_is_lost_without_a_doubt(
            n in 1usize..6, k in 1usize..6, acks in prop::collection::vec(any::<u8>(), 0..20), answering: u8, any: bool, loss: bool
        ) {
            let k = k.min(n);
            let names: Vec<String> = (1..=n).map(|i| format!("s{i}")).collect();
            let rule = if any { SyncRule::Any(k as u32, names) } else { SyncRule::First(k as u32, names) };
            let mut wal = vec![0u64; n];
            for (i, seed) in acks.iter().enumerate() {
                for step in 0..k {
                    wal[(*seed as usize + step) % n] = i as u64 + 1;
                }
            }
            let standbys: Vec<NodeName> = (1..=n).map(name).collect();
            let answers: Vec<Answer> = (0..n).filter(|i| answering >> i & 1 == 1).map(|i| answer(i + 1, wal[i])).collect();
            let race = Race { rule: Some(&rule), standbys: &standbys, answers: &answers };
            match race.elect(loss) {
                Choice::Elected { node, doubt: None } => {
                    let i = standbys.iter().position(|s| *s == node).unwrap();
                    prop_assert_eq!(wal[i], acks.len() as u64);
                }
                Choice::Elected { .. } => prop_assert!(loss && answers.len() < n - k + 1),
                Choice::Wait { have, need, whom } => {
                    prop_assert!(have < need && (!loss || have == 0));
                    prop_assert_eq!(whom.len(), n - have);
                }
                Choice::Nobody => prop_assert!(false),
            }
        }
    }
}

//! What must hold after each round, once the lab is whole and level and its nodes were read. Pure: a model in, findings out.
//!
//! - The verdict is sound. `unknown` counts as a failure too: every node could be read, and chaos itself never does what would
//!   make it unknown, so an unknown verdict is an acknowledgement of which the lab can't say whether it was promised.
//! - No election was unsafe: chaos never allows a loss.
//! - The rows are the books': no row is there that nobody tried to write.
//! - All nodes have the same rows: "streaming" alone proves nothing.

use crate::model::verdict::{Verdict, Verification};
use crate::model::{Model, Stamp};

/// What is wrong by the verification asked for at `since`; nothing when all is well.
pub fn findings(model: &Model, since: Stamp) -> Vec<String> {
    let Some(v) = model.verification.as_ref().filter(|v| v.at >= since) else {
        return vec!["the nodes were not read".to_owned()];
    };
    let mut found = match &v.verdict {
        Verdict::Sound => Vec::new(),
        Verdict::Unknown(why) => vec![format!("the verdict is unknown: {why}")],
        Verdict::Broken(why) => why.clone(),
    };
    if let Some(why) = &model.unsafe_election {
        found.push(format!("an election was unsafe though no loss was allowed: {why}"));
    }
    if v.strays > 0 {
        found.push(format!("{} rows are there that nobody tried to write", v.strays));
    }
    if v.pending > 0 {
        found.push(format!("{} writes were still under way when the nodes were read", v.pending));
    }
    found.extend(apart(v));
    found
}

fn apart(v: &Verification) -> Vec<String> {
    let primary = v.primary.as_ref().map_or("the primary", |p| p.as_str());
    let one = |(name, tally): (&crate::model::NodeName, &crate::model::verdict::NodeTally)| match &tally.unreadable {
        Some(why) => Some(format!("{name} could not be read: {why}")),
        None if tally.apart > 0 => Some(format!("{name} streams, and differs from {primary} by {} rows", tally.apart)),
        None => None,
    };
    v.nodes.iter().filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::verdict::NodeTally;

    fn model(change: impl FnOnce(&mut Model, &mut Verification)) -> Model {
        let tally = |present| NodeTally { rows: present, present, ..NodeTally::default() };
        let nodes = [("p", 9), ("s1", 9)].map(|(n, present)| (n.parse().unwrap(), tally(present)));
        let primary = Some("p".parse().unwrap());
        let mut v =
            Verification { at: Stamp(10), primary, judged: true, nodes: nodes.into(), ..Verification::default() };
        let mut model = Model::default();
        change(&mut model, &mut v);
        model.verification = Some(v);
        model
    }

    fn node<'a>(v: &'a mut Verification, name: &str) -> &'a mut NodeTally {
        v.nodes.get_mut(name).unwrap()
    }

    type Defect = fn(&mut Model, &mut Verification);

    /// Each planted defect is found, and nothing else.
    #[test]
    fn what_must_hold() {
        let since = Stamp(5);
        assert_eq!(findings(&model(|_, _| ()), since), Vec::<String>::new());
        let defects: [(&str, Defect); 8] = [
            ("promised", |_, v| v.verdict = Verdict::Broken(vec!["3 lost writes were promised".into()])),
            ("unknown: no look", |_, v| v.verdict = Verdict::Unknown("no look".into())),
            ("an election was unsafe", |m, _| m.unsafe_election = Some("s2 was ahead".into())),
            ("2 rows are there that nobody tried", |_, v| v.strays = 2),
            ("4 writes were still under way", |_, v| v.pending = 4),
            ("s1 could not be read: down", |_, v| node(v, "s1").unreadable = Some("down".into())),
            ("s1 streams, and differs from p by 7 rows", |_, v| node(v, "s1").apart = 7),
            ("were not read", |_, v| v.at = Stamp(4)),
        ];
        for (part, defect) in defects {
            let found = findings(&model(defect), since);
            assert!(found.len() == 1 && found[0].contains(part), "{part}: {found:?}");
        }
        assert_eq!(findings(&Model::default(), since).len(), 1);
    }
}

//! Links and what is wrong with them: faults are kept for each directed pair of ends, whether a connection is there now or
//! only later. Pure: knows no relay and no socket.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::NodeName;

mod words;

pub use words::BadWhich;
pub(in crate::model) use words::rate;

/// The longest delay that makes sense in a lab, in microseconds.
const LONGEST_US: u64 = 60_000_000;

/// Where a link begins or ends: a node, or the place where the clients (the lab's writers) are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum End {
    /// The clients.
    Client,
    /// A node.
    Node(NodeName),
}

impl End {
    /// The node, if it is one.
    pub fn node(&self) -> Option<&NodeName> {
        match self {
            Self::Node(name) => Some(name),
            Self::Client => None,
        }
    }
}

/// Every byte comes so much later, give or take the jitter; the order stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slow {
    /// The delay of one way, in microseconds.
    pub delay_us: u64,
    /// How much a delay may differ from it, at most as much as itself.
    pub jitter_us: u64,
}

impl Slow {
    /// A delay with its jitter; None when that makes no sense.
    pub fn new(delay_us: u64, jitter_us: u64) -> Option<Self> {
        ((1..=LONGEST_US).contains(&delay_us) && jitter_us <= delay_us).then_some(Self { delay_us, jitter_us })
    }
}

/// The faults of one direction of a link. The default is a healthy one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lane {
    /// Silence: nothing arrives, nobody is told.
    pub cut: bool,
    /// Connections that its beginning opens are refused, open ones are reset.
    pub refuse: bool,
    /// Delay.
    pub slow: Option<Slow>,
    /// Bytes a second.
    pub rate: Option<u64>,
}

/// One thing that can be done to a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "each is the field of Lane of that name")]
pub enum Harm {
    Cut,
    Refuse,
    Slow(Slow),
    Throttle(u64),
}

impl Lane {
    /// Adds to what is wrong with it.
    fn harm(&mut self, harm: Harm) {
        match harm {
            Harm::Cut => self.cut = true,
            Harm::Refuse => self.refuse = true,
            Harm::Slow(slow) => self.slow = Some(slow),
            Harm::Throttle(rate) => self.rate = Some(rate),
        }
    }

    /// Whether just this is in force.
    pub fn has(&self, harm: Harm) -> bool {
        let mut more = *self;
        more.harm(harm);
        more == *self
    }

    /// What is wrong with it, the worst first.
    pub fn harms(&self) -> impl Iterator<Item = Harm> + use<> {
        let cut = self.cut.then_some(Harm::Cut);
        let refuse = self.refuse.then_some(Harm::Refuse);
        [cut, refuse, self.slow.map(Harm::Slow), self.rate.map(Harm::Throttle)].into_iter().flatten()
    }
}

/// Which links an act is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Which {
    /// Both ways between two ends.
    Between(End, End),
    /// One way only: what goes from the first to the second.
    Toward(End, End),
    /// Both ways between each of one group and each of the other.
    Across(Vec<End>, Vec<End>),
    /// Both ways between one end and every other.
    Of(End),
}

impl Which {
    /// The directed pairs, in a lab of these nodes.
    pub fn pairs<'a>(&self, nodes: impl Iterator<Item = &'a NodeName>) -> Vec<(End, End)> {
        let both = |a: &End, b: &End| [(a.clone(), b.clone()), (b.clone(), a.clone())];
        match self {
            Self::Between(a, b) => both(a, b).to_vec(),
            Self::Toward(a, b) => vec![(a.clone(), b.clone())],
            Self::Across(left, right) => left.iter().flat_map(|a| right.iter().flat_map(move |b| both(a, b))).collect(),
            Self::Of(a) if *a == End::Client => nodes.flat_map(|n| both(a, &End::Node(n.clone()))).collect(),
            Self::Of(a) => {
                let others = nodes.map(|n| End::Node(n.clone())).filter(|b| b != a).chain([End::Client]);
                others.flat_map(|b| both(a, &b)).collect()
            }
        }
    }

    /// Whether links between nodes are among them, and not the clients' alone.
    pub fn is_between_nodes<'a>(&self, nodes: impl Iterator<Item = &'a NodeName>) -> bool {
        self.pairs(nodes).iter().any(|(a, b)| a.node().is_some() && b.node().is_some())
    }

    /// The ends that it names.
    pub fn ends(&self) -> Vec<&End> {
        match self {
            Self::Between(a, b) | Self::Toward(a, b) => vec![a, b],
            Self::Across(left, right) => left.iter().chain(right).collect(),
            Self::Of(a) => vec![a],
        }
    }
}

/// A fault as it is shown: one for both directions where both have the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkFault {
    /// From here, or the first by name.
    pub from: End,
    /// To there, or the second.
    pub to: End,
    /// The other way too.
    pub both: bool,
    /// What it is.
    pub harm: Harm,
}

/// What went one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passed {
    /// Bytes.
    pub bytes: u64,
    /// Messages of PostgreSQL's protocol that began; None where something else went by (encryption, for one).
    pub messages: Option<u64>,
}

/// What has passed between two ends since there was a relay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Who connects.
    pub from: End,
    /// To whom.
    pub to: End,
    /// From the one who connects.
    pub up: Passed,
    /// To the one who connects.
    pub down: Passed,
    /// How often an answer followed something asked.
    pub round_trips: u64,
    /// Connections open now.
    pub open: u64,
}

/// The faults of all links.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<((End, End), Lane)>", into = "Vec<((End, End), Lane)>")]
pub struct Links(BTreeMap<(End, End), Lane>);

impl From<Vec<((End, End), Lane)>> for Links {
    fn from(lanes: Vec<((End, End), Lane)>) -> Self {
        Self(lanes.into_iter().collect())
    }
}

impl From<Links> for Vec<((End, End), Lane)> {
    fn from(links: Links) -> Self {
        links.0.into_iter().collect()
    }
}

impl Links {
    /// The faults of what goes from one end to the other.
    pub fn lane(&self, from: &End, to: &End) -> Lane {
        self.0.get(&(from.clone(), to.clone())).copied().unwrap_or_default()
    }

    /// The same between nodes.
    pub fn between(&self, from: &NodeName, to: &NodeName) -> Lane {
        self.lane(&End::Node(from.clone()), &End::Node(to.clone()))
    }

    /// Whether the link between two ends is cut, in either direction.
    pub fn is_cut(&self, a: &End, b: &End) -> bool {
        self.lane(a, b).cut || self.lane(b, a).cut
    }

    /// Whether something is wrong between two ends, in either direction.
    pub fn touches(&self, a: &End, b: &End) -> bool {
        [self.lane(a, b), self.lane(b, a)] != [Lane::default(); 2]
    }

    /// No fault anywhere.
    pub fn is_healthy(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a fault to each of these directions.
    pub fn harm(&mut self, pairs: Vec<(End, End)>, harm: Harm) {
        for pair in pairs {
            self.0.entry(pair).or_default().harm(harm);
        }
    }

    /// Undoes all faults of these directions.
    pub fn heal(&mut self, pairs: &[(End, End)]) {
        for pair in pairs {
            self.0.remove(pair);
        }
    }

    /// A node is gone, and its links with it.
    pub fn forget(&mut self, node: &NodeName) {
        self.0.retain(|(a, b), _| a.node() != Some(node) && b.node() != Some(node));
    }

    /// Undoes all faults of the clients' links.
    pub fn spare_clients(&mut self) {
        self.0.retain(|(a, b), _| *a != End::Client && *b != End::Client);
    }

    /// The ends that are cut off from every other, both ways, of these nodes and the clients.
    pub fn isolated<'a>(&self, nodes: impl Iterator<Item = &'a NodeName>) -> Vec<End> {
        // Asked at every message, and mostly there is nothing to look for.
        if self.is_healthy() {
            return Vec::new();
        }
        let ends: Vec<End> = nodes.map(|n| End::Node(n.clone())).chain([End::Client]).collect();
        let silent = |a: &End, b: &End| self.lane(a, b).cut && self.lane(b, a).cut;
        // Of two ends each is cut off from the other: that is a cut link, not an isolated node.
        let alone = |end: &&End| ends.len() > 2 && ends.iter().filter(|b| b != end).all(|b| silent(end, b));
        ends.iter().filter(alone).cloned().collect()
    }

    /// Every fault once.
    pub fn faults(&self) -> Vec<LinkFault> {
        let mut found = Vec::new();
        for ((from, to), lane) in &self.0 {
            for harm in lane.harms() {
                let both = self.lane(to, from).has(harm);
                if !both || from < to {
                    found.push(LinkFault { from: from.clone(), to: to.clone(), both, harm });
                }
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(text: &str) -> End {
        text.parse().unwrap()
    }

    fn after(acts: &[(&str, Harm)]) -> Links {
        let nodes: Vec<NodeName> = ["p", "s1", "s2"].map(|n| n.parse().unwrap()).into();
        let mut links = Links::default();
        for (which, harm) in acts {
            links.harm(which.parse::<Which>().unwrap().pairs(nodes.iter()), *harm);
        }
        links
    }

    #[test]
    fn faults_combine_and_heal() {
        let slow = Harm::Slow(Slow::new(80_000, 10_000).unwrap());
        let mut links = after(&[("p s1", slow), ("s1 p", Harm::Cut), ("p -> s2", Harm::Refuse)]);
        assert_eq!(links.lane(&end("s1"), &end("p")).harms().collect::<Vec<_>>(), [Harm::Cut, slow]);
        let said: Vec<_> = links.faults().into_iter().map(|f| (f.from.to_string(), f.to.to_string(), f.both)).collect();
        let names = |a: &str, b: &str, both| (a.to_owned(), b.to_owned(), both);
        assert_eq!(said, [names("p", "s1", true), names("p", "s1", true), names("p", "s2", false)]);
        links.heal(&[(end("p"), end("s1"))]);
        assert!(links.touches(&end("p"), &end("s1")) && links.lane(&end("p"), &end("s1")) == Lane::default());
        links.forget(&"p".parse().unwrap());
        assert!(links.is_healthy());
    }

    #[test]
    fn an_isolated_node_is_cut_off_from_nodes_and_clients() {
        let nodes: Vec<NodeName> = ["p", "s1", "s2"].map(|n| n.parse().unwrap()).into();
        let all = Which::Of(end("s1")).pairs(nodes.iter());
        assert_eq!(all.len(), 6);
        let mut links = Links::default();
        links.harm(all, Harm::Cut);
        assert_eq!(links.isolated(nodes.iter()), [end("s1")]);
        links.heal(&[(End::Client, end("s1"))]);
        assert!(links.isolated(nodes.iter()).is_empty());
        assert_eq!(after(&[("p | s1 s2", Harm::Cut)]).faults().len(), 2);
    }

    #[test]
    fn it_is_kept_as_it_is() {
        let links = after(&[("p | s1 client", Harm::Throttle(1_024)), ("s2 -> p", Harm::Cut)]);
        let text = serde_json::to_string(&links).unwrap();
        assert_eq!(serde_json::from_str::<Links>(&text).unwrap(), links);
    }
}

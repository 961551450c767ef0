//! From one primary to the next: how long each part took, and the timelines that came of it. Moments come in; decides nothing.

use serde::{Deserialize, Serialize};

use super::detector::Cause;
use super::msg::OpId;
use super::{Lsn, NodeName, Stamp};

/// One timeline of the cluster's history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeline {
    /// Its number.
    pub id: u32,
    /// The one it forked off; none for the first.
    pub parent: Option<u32>,
    /// Where.
    pub fork: Option<Lsn>,
    /// Who was promoted.
    pub node: NodeName,
    /// When the lab knew.
    pub at: Stamp,
    /// The place in `Model::timelines` of the one it forked off, which the number alone may not tell; none where it isn't known.
    #[serde(default)]
    pub off: Option<usize>,
}

/// How a primary's part went over to another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// The primary was gone.
    Failover(Cause),
    /// It was asked to step down.
    Switchover,
}

/// What the question to the standbys that is under way is good for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Question {
    /// To see whether enough of them answer: the old primary may still run and write on, and is to be fenced before one is elected.
    Counts,
    /// To elect: the old primary has ended, or nothing is to keep it from going on.
    #[default]
    Decides,
    /// To elect, once the old primary, which may run, is fenced.
    Fences,
}

/// One handover, while it goes on and after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handover {
    /// The operation that does it.
    pub op: OpId,
    /// Why.
    pub kind: Kind,
    /// Who was primary.
    pub old: Option<NodeName>,
    /// Who is.
    pub new: Option<NodeName>,
    /// When it began: the fault, or the moment the primary was asked to stop.
    pub began: Stamp,
    /// Whether `began` is the fault's own moment; else it is the last good probe.
    pub exact: bool,
    /// The detector knew; for a switchover: the old primary was down.
    pub detected: Option<Stamp>,
    /// The old primary was fenced and the new one chosen; for a switchover: it was known to have everything.
    pub elected: Option<Stamp>,
    /// The new primary accepts writes.
    pub promoted: Option<Stamp>,
    /// Everybody who answers follows it.
    pub repointed: Option<Stamp>,
    /// The first acknowledged write on it.
    pub acked: Option<Stamp>,
    /// Whether the journal has told the figures.
    pub told: bool,
    /// For whom the election waits.
    pub waits_for: Vec<String>,
    /// What the answers that are on their way are good for.
    #[serde(default)]
    pub question: Question,
    /// Whether there was nobody else who could have followed.
    #[serde(default)]
    pub alone: bool,
    /// Why it ended without a new primary, if so.
    pub failed: Option<String>,
    /// Whether that was because the old one came back, or another was promoted by hand.
    #[serde(default)]
    pub called_off: bool,
    /// Why the elected one may lack what the rule promised to keep, if so.
    #[serde(default)]
    pub doubt: Option<String>,
}

/// A handover's parts in milliseconds, each from the end of the one before; None while it hasn't come to that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Split {
    /// Until it was noticed; for a switchover: until the old primary was down.
    pub detection_ms: Option<f64>,
    /// Until the successor was chosen, fencing included.
    pub election_ms: Option<f64>,
    /// Until it accepted writes.
    pub promotion_ms: Option<f64>,
    /// From then until the first acknowledged write.
    pub first_ack_ms: Option<f64>,
    /// From the promotion until everybody else followed; goes on beside the first write.
    pub repoint_ms: Option<f64>,
    /// From the fault to the first acknowledged write.
    pub rto_ms: Option<f64>,
}

impl Handover {
    /// One that begins.
    pub fn new(op: OpId, kind: Kind, old: Option<NodeName>, began: Stamp, exact: bool) -> Self {
        Self {
            op,
            kind,
            old,
            new: None,
            began,
            exact,
            detected: None,
            elected: None,
            promoted: None,
            repointed: None,
            acked: None,
            told: false,
            waits_for: Vec::new(),
            question: Question::default(),
            alone: false,
            failed: None,
            called_off: false,
            doubt: None,
        }
    }

    /// The parts.
    pub fn split(&self) -> Split {
        let ms = |from: Option<Stamp>, to: Option<Stamp>| {
            from.zip(to).map(|(from, to)| to.0.saturating_sub(from.0) as f64 / 1e3)
        };
        Split {
            detection_ms: ms(Some(self.began), self.detected),
            election_ms: ms(self.detected, self.elected),
            promotion_ms: ms(self.elected, self.promoted),
            first_ack_ms: ms(self.promoted, self.acked),
            repoint_ms: ms(self.promoted, self.repointed),
            rto_ms: ms(Some(self.began), self.acked),
        }
    }

    /// What the parts are called.
    pub fn names(&self) -> [&'static str; 3] {
        match self.kind {
            Kind::Failover(_) => ["detection", "election", "promotion"],
            Kind::Switchover => ["stop", "catch-up", "promotion"],
        }
    }

    /// The figures as a sentence, once there is a first write and everybody follows.
    pub fn sentence(&self) -> Option<String> {
        let split = self.split();
        let (old, new) = (self.old.as_ref().map_or("nobody", NodeName::as_str), self.new.as_ref()?);
        let total = split.rto_ms?;
        let parts = [split.detection_ms, split.election_ms, split.promotion_ms];
        let parts: Vec<String> =
            self.names().iter().zip(parts).filter_map(|(name, ms)| Some(format!("{name} {:.0}", ms?))).collect();
        let from = match (self.kind, self.exact) {
            (Kind::Switchover, _) => "from the order",
            (_, true) => "from the fault",
            (_, false) => "from the last good probe",
        };
        let others = match split.repoint_ms {
            _ if self.alone => String::new(),
            ms => format!("; the others followed {:.0} ms after the promotion", ms?),
        };
        Some(format!(
            "{old} to {new}: {total:.0} ms {from} to the first acknowledged write ({}, first write {:.0}){others}",
            parts.join(", "),
            split.first_ack_ms?,
        ))
    }
}

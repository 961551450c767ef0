//! The failure detector: judges by its own probes alone whether the primary is gone. Pure: probes and moments come in.
//!
//! - A connection that broke, where a new one is refused, means dead at once.
//! - Silence means dead after the configured time. A server that is only starting is silent.
//! - A primary that answers, but that every standby has lost for that time, is cut off: nobody could take over from it later.
//!
//! Knows no sockets; what a probe is, and which way it goes, is `observe`'s business.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::cluster::Role;
use super::{Lsn, NodeName, Stamp};

/// The default for `timeout`.
pub const TIMEOUT_MS: u64 = 3_000;
/// When nobody asked the detector for this long, replab itself stood still, and no silence of others means anything.
const STOOD_STILL_MS: u64 = 500;

/// How automatic failover is set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AutoFailover {
    /// Silence for so long is death.
    pub timeout_ms: u64,
    /// Whether the old primary is killed before another is promoted.
    pub fence: bool,
    /// Whether an election makes do with fewer answers than it needs.
    pub allow_loss: bool,
}

impl Default for AutoFailover {
    fn default() -> Self {
        Self { timeout_ms: TIMEOUT_MS, fence: true, allow_loss: false }
    }
}

impl fmt::Display for AutoFailover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.timeout_ms {
            ms if ms.is_multiple_of(1_000) => write!(f, "timeout {}s", ms / 1_000)?,
            ms => write!(f, "timeout {ms}ms")?,
        }
        f.write_str(if self.fence { "" } else { " no-fence" })?;
        f.write_str(if self.allow_loss { " allow-loss" } else { "" })
    }
}

impl AutoFailover {
    /// How often a node is probed.
    pub fn probe_ms(&self) -> u64 {
        (self.timeout_ms / 10).clamp(20, 100)
    }
}

/// What one probe found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Probe {
    /// It answered.
    Answered {
        /// Its part.
        role: Role,
        /// Where it is in the log: written by a primary, received by a standby.
        wal: Lsn,
        /// A standby's: it is connected to its upstream as far as it knows.
        streams: bool,
    },
    /// The connection is gone and a new one is refused.
    Refused(String),
}

/// Why a primary is taken for dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// Its connections broke and new ones are refused.
    Refused,
    /// It has been silent for the configured time.
    Silent,
    /// Every standby has lost it for the configured time.
    CutOff,
    /// A person says so.
    Ordered,
}

impl Cause {
    /// In words, after the node's name.
    pub fn words(self) -> &'static str {
        match self {
            Self::Refused => "broke its connections and refuses new ones",
            Self::Silent => "has been silent for the whole timeout",
            Self::CutOff => "answers, but every standby has lost it",
            Self::Ordered => "is to be replaced",
        }
    }
}

/// What the detector knows of one node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct View {
    /// The last answer.
    good: Option<Stamp>,
    /// Refused since then.
    refused: Option<Stamp>,
    wal: Lsn,
    /// When a standby was last seen to get what there is.
    fed: Option<Stamp>,
    /// Whether it lacked something at the last probe.
    starves: bool,
}

/// The detector.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detector {
    /// None while it is off.
    pub auto: Option<AutoFailover>,
    views: BTreeMap<NodeName, View>,
    asked: Stamp,
}

impl Detector {
    /// Begins anew: what was seen before means nothing any more (another primary, or the detector was off).
    pub fn begin_anew(&mut self, now: Stamp) {
        self.views.clear();
        self.asked = now;
    }

    /// Somebody is being repointed: what standbys lack meanwhile says nothing about the primary.
    pub fn forgive(&mut self, now: Stamp) {
        for view in self.views.values_mut() {
            view.fed = Some(now);
        }
    }

    /// replab itself stood still: nobody was silent but it.
    pub fn forgive_silence(&mut self, now: Stamp) {
        for view in self.views.values_mut() {
            view.good = view.good.map(|_| now);
            view.fed = view.fed.map(|_| now);
        }
    }

    /// A probe came back.
    pub fn probed(&mut self, now: Stamp, node: &NodeName, probe: &Probe, primary: Option<&NodeName>) {
        let head = primary.and_then(|p| self.views.get(p)).map_or(Lsn(0), |v| v.wal);
        let view = self.views.entry(node.clone()).or_default();
        match probe {
            Probe::Refused(_) => view.refused = view.refused.or(Some(now)),
            Probe::Answered { role, wal, streams } => {
                (view.good, view.refused) = (Some(now), None);
                let moved = *wal > view.wal;
                view.wal = *wal;
                let fed = *role == Role::Primary || moved || (*streams && *wal >= head);
                view.fed = if fed { Some(now) } else { view.fed.or(Some(now)) };
                view.starves = !fed;
            }
        }
    }

    /// Whether the primary is dead, and why. To be asked often: it notices by the gap when replab itself stood still.
    pub fn judge(&mut self, now: Stamp, primary: &NodeName, followers: &[NodeName]) -> Option<Cause> {
        let timeout = self.auto.as_ref()?.timeout_ms;
        let gap = now.ms_since(std::mem::replace(&mut self.asked, now));
        if gap > STOOD_STILL_MS {
            self.forgive_silence(now);
        }
        let view = self.views.get(primary)?;
        // One that was never seen well can't have died.
        let good = view.good?;
        if view.refused.is_some() {
            return Some(Cause::Refused);
        }
        if now.ms_since(good) >= timeout {
            return Some(Cause::Silent);
        }
        let starved = self.starved(now, followers);
        starved.is_some_and(|fed| now.ms_since(fed) >= timeout).then_some(Cause::CutOff)
    }

    /// When the last of the followers got what there was, if all of them answer and none gets anything now.
    fn starved(&self, now: Stamp, followers: &[NodeName]) -> Option<Stamp> {
        let timeout = self.auto.as_ref()?.timeout_ms;
        let lost = |n: &NodeName| {
            let view = self.views.get(n)?;
            let answers = view.good.is_some_and(|good| now.ms_since(good) < timeout) && view.refused.is_none();
            view.fed.filter(|_| answers && view.starves)
        };
        followers.iter().map(lost).collect::<Option<Vec<Stamp>>>()?.into_iter().max()
    }

    /// The last good probe of a node.
    pub fn last_good(&self, node: &NodeName) -> Option<Stamp> {
        self.views.get(node)?.good
    }

    /// Whether a standby was well at its last probe and got what there is.
    pub fn is_fed(&self, standby: &NodeName) -> bool {
        self.views.get(standby).is_some_and(|v| v.good.is_some() && v.refused.is_none() && !v.starves)
    }

    /// Milliseconds until the primary is taken for dead, and why it will be, once it (or each of its followers) has missed some
    /// probes.
    pub fn gives_up_in(&self, now: Stamp, primary: &NodeName, followers: &[NodeName]) -> Option<(Cause, u64)> {
        let auto = self.auto.as_ref()?;
        let patience = 3 * auto.probe_ms().max(50);
        let good = self.last_good(primary)?;
        let over = |since: Option<Stamp>| since.map(|at| now.ms_since(at)).filter(|ms| *ms > patience);
        let causes = [(Cause::Silent, Some(good)), (Cause::CutOff, self.starved(now, followers))];
        let left =
            causes.into_iter().filter_map(|(cause, since)| Some((cause, auto.timeout_ms.saturating_sub(over(since)?))));
        left.min_by_key(|(_, ms)| *ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> NodeName {
        text.parse().unwrap()
    }

    /// A story: at each 50 ms p, s1 and s2 say this ('.': a good answer that moves on; '=': a good answer at the same place;
    /// ' ': nothing; 'x': refused). When the detector says what, with a timeout of 500 ms.
    fn story(p: &str, s1: &str, s2: &str) -> Option<(u64, Cause)> {
        let auto = Some(AutoFailover { timeout_ms: 500, ..AutoFailover::default() });
        let mut detector = Detector { auto, ..Detector::default() };
        let (primary, followers) = (name("p"), [name("s1"), name("s2")]);
        let mut wal = [0; 3];
        for step in 0..p.len() {
            let now = Stamp::default().plus_ms(step as u64 * 50);
            for (i, (node, line)) in [("p", p), ("s1", s1), ("s2", s2)].into_iter().enumerate() {
                let role = if i == 0 { Role::Primary } else { Role::Standby };
                let mut answered = |step| {
                    wal[i] += step;
                    Probe::Answered { role, wal: Lsn(wal[i]), streams: true }
                };
                let probe = match line.as_bytes()[step] {
                    b'.' => answered(1),
                    b'=' => answered(0),
                    b'x' => Probe::Refused(String::new()),
                    _ => continue,
                };
                detector.probed(now, &name(node), &probe, Some(&primary));
            }
            if let Some(cause) = detector.judge(now, &primary, &followers) {
                return Some((step as u64 * 50, cause));
            }
        }
        None
    }

    #[test]
    fn what_each_story_means() {
        let fine = "......................";
        let idle = ".=====================";
        let dead = "....x.................";
        let gone = "....                  ";
        for (p, s1, s2, wanted) in [
            (fine, fine, fine, None),
            (idle, idle, idle, None),
            (dead, fine, fine, Some((200, Cause::Refused))),
            (gone, fine, fine, Some((650, Cause::Silent))),
            // Silence that ends in time.
            ("....        ..........", fine, fine, None),
            // One that was never there can't have died.
            ("xxxxxxxxxxxxxxxxxxxxxx", fine, fine, None),
            // Cut off: it goes on, and both standbys get nothing more.
            (fine, "....==================", "....==================", Some((650, Cause::CutOff))),
            // One of them still follows, or can't say: then it isn't cut off.
            (fine, "....==================", fine, None),
            (fine, "....==================", gone, None),
            // Nothing is written, so nothing is missing.
            (idle, "====xx================", idle, None),
        ] {
            assert_eq!(story(p, s1, s2), wanted, "{p}|{s1}|{s2}");
        }
    }

    #[test]
    fn when_replab_stood_still_nobody_died() {
        let auto = Some(AutoFailover::default());
        let mut detector = Detector { auto, ..Detector::default() };
        let p = name("p");
        let good = Probe::Answered { role: Role::Primary, wal: Lsn(1), streams: false };
        detector.probed(Stamp(0), &p, &good, Some(&p));
        assert_eq!(detector.judge(Stamp(0), &p, &[]), None);
        let late = Stamp::default().plus_ms(20_000);
        assert_eq!(detector.judge(late, &p, &[]), None, "20 s without a question");
        for step in 1..=60 {
            let cause = detector.judge(late.plus_ms(step * 50), &p, &[]);
            assert_eq!(cause, (step == 60).then_some(Cause::Silent), "{step}");
        }
        assert_eq!(detector.gives_up_in(late.plus_ms(1_000), &p, &[]), Some((Cause::Silent, 2_000)));
    }

    /// p goes on, s1 and s2 get nothing more, s2 a little longer than s1: what counts down, and that it keeps its word.
    #[test]
    fn what_will_be_taken_for_a_cut_off_primary_counts_down() {
        let mut detector = Detector { auto: Some(AutoFailover::default()), ..Detector::default() };
        let (p, followers) = (name("p"), [name("s1"), name("s2")]);
        let heard = |detector: &mut Detector, now, s2| {
            for (node, wal, role) in
                [("p", u64::MAX, Role::Primary), ("s1", 1, Role::Standby), ("s2", s2, Role::Standby)]
            {
                detector.probed(now, &name(node), &Probe::Answered { role, wal: Lsn(wal), streams: true }, Some(&p));
            }
            detector.judge(now, &p, &followers)
        };
        let at = |ms| Stamp::default().plus_ms(ms);
        for step in 0..=10 {
            assert_eq!(heard(&mut detector, at(step * 100), step), None);
        }
        let left = |detector: &Detector, ms| detector.gives_up_in(at(ms), &p, &followers);
        assert_eq!(left(&detector, 1_000), None, "s2 still follows");
        for step in 11..=39 {
            assert_eq!(heard(&mut detector, at(step * 100), 10), None);
            let counts = (step > 13).then_some((Cause::CutOff, 4_000 - step * 100));
            assert_eq!(left(&detector, step * 100), counts, "{step}");
        }
        assert_eq!(heard(&mut detector, at(4_000), 10), Some(Cause::CutOff));
    }
}

//! What will notice a silent link, and when: wal_sender_timeout on the sender's side, wal_receiver_timeout on the
//! receiver's, each counted from the last message that side has seen. Derived from samples; keeps nothing.
//!
//! PostgreSQL itself says nothing of this: until the timeout is over both sides go on calling the link streaming (facts,
//! "Cutting the network"). A closed connection is noticed at once and is never counted here.

use super::cluster::{NodeState, Role};
use super::detector::Cause;
use super::links::{Harm, LinkFault};
use super::standing::{Link, SILENT_US};
use super::{Fault, Model, Node, NodeName};

/// Somebody who will give up on somebody else unless a message comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Countdown {
    /// Who gives up.
    pub by: NodeName,
    /// On whom.
    pub on: NodeName,
    /// The setting that says when.
    pub setting: &'static str,
    /// Its value in milliseconds; 0 turns it off, and then nobody ever notices.
    pub timeout_ms: u64,
    /// Milliseconds since the last message.
    pub silent_ms: u64,
}

impl Countdown {
    /// Milliseconds until it gives up; None when it never does.
    pub fn left_ms(&self) -> Option<u64> {
        (self.timeout_ms > 0).then(|| self.timeout_ms.saturating_sub(self.silent_ms))
    }
}

impl Model {
    /// Everything on links that counts down, the soonest first. The failure detector isn't among them: it counts by its own probes
    /// ([`Model::fails_over_in`]).
    pub fn countdowns(&self) -> Vec<Countdown> {
        let links =
            self.nodes.iter().flat_map(|n| self.sender_countdown(n).into_iter().chain(self.receiver_countdown(n)));
        let mut all: Vec<Countdown> = links.collect();
        all.sort_by_key(|c| c.left_ms().unwrap_or(u64::MAX));
        all
    }

    /// The upstream of this standby, when it hears nothing from it: its walsender ends wal_sender_timeout after the last
    /// reply, and only then does the row leave `pg_stat_replication`.
    pub fn sender_countdown(&self, standby: &Node) -> Option<Countdown> {
        let upstream = self.node(standby.upstream.as_ref()?).filter(|u| u.answers())?;
        let sample = upstream.sample.as_ref()?;
        let row = self.feed(upstream, standby).row()?;
        let age_us = row.reply_age_us?;
        let silent = matches!(self.rung(standby).link, Link::LastKnown { .. })
            && !self.only_hears_nothing(standby, upstream, age_us);
        let known = self.links.between(&standby.name, &upstream.name).cut && age_us > SILENT_US;
        (silent || known).then(|| Countdown {
            by: upstream.name.clone(),
            on: standby.name.clone(),
            setting: "wal_sender_timeout",
            timeout_ms: sample.settings.wal_sender_timeout_ms,
            silent_ms: self.age_ms(age_us, upstream),
        })
    }

    /// Cut off one way a standby confirms nothing, and its regular replies come: each of them sets its upstream's clock back.
    fn only_hears_nothing(&self, standby: &Node, upstream: &Node, age_us: i64) -> bool {
        let cut = |from: &Node, to: &Node| self.links.between(&from.name, &to.name).cut;
        cut(upstream, standby) && !cut(standby, upstream) && age_us <= Self::reply_due_us(upstream)
    }

    /// This standby, when it hears nothing from its upstream: its receiver ends wal_receiver_timeout after the last message,
    /// and then tries to connect anew.
    pub fn receiver_countdown(&self, standby: &Node) -> Option<Countdown> {
        let sample = standby.sample.as_ref().filter(|_| standby.answers())?;
        let age_us = sample.receiver.as_ref().filter(|r| r.status == "streaming")?.last_msg_age_us?;
        let upstream = self.node(standby.upstream.as_ref()?)?;
        let timeout_ms = sample.settings.wal_receiver_timeout_ms;
        (self.silence_us(age_us, standby) > self.receiver_patience_us(standby, upstream, timeout_ms)).then(|| {
            Countdown {
                by: standby.name.clone(),
                on: upstream.name.clone(),
                setting: "wal_receiver_timeout",
                timeout_ms,
                silent_ms: self.age_ms(age_us, standby),
            }
        })
    }

    /// How long a receiver may hear nothing before that means anything: where the heartbeat comes, or the lab knows of a
    /// fault, hardly at all; else half its timeout, when it asks for a sign of life itself (manual 20.6.3).
    fn receiver_patience_us(&self, standby: &Node, upstream: &Node, timeout_ms: u64) -> i64 {
        let fault = self.links.between(&upstream.name, &standby.name).cut
            || matches!(upstream.state, NodeState::Frozen | NodeState::Exited(_));
        if fault || self.beats_at(upstream) {
            SILENT_US
        } else {
            i64::try_from(timeout_ms * 500).unwrap_or(i64::MAX).saturating_add(1_000_000)
        }
    }

    /// An age that a node reported at its last look, as it is by now.
    fn age_ms(&self, age_us: i64, told_by: &Node) -> u64 {
        let looked = told_by.seen.unwrap_or(self.now);
        age_us.max(0).unsigned_abs() / 1_000 + self.now.ms_since(looked)
    }

    /// How long until somebody notices this fault; None where nobody counts down to it: it was noticed already, or never will be.
    pub fn noticed_in(&self, fault: &Fault) -> Option<u64> {
        let about = |c: &Countdown| match fault {
            Fault::Link(LinkFault { from, to, harm: Harm::Cut, .. }) => {
                [from.node(), to.node()] == [Some(&c.by), Some(&c.on)]
                    || [to.node(), from.node()] == [Some(&c.by), Some(&c.on)]
            }
            Fault::Isolated(end) => end.node().is_some_and(|n| [&c.by, &c.on].contains(&n)),
            Fault::Frozen(n) => &c.on == n,
            // A server that dies is noticed at once, but for those behind another fault, which tells its own time.
            Fault::Down(_) | Fault::Link(_) | Fault::ReplayPaused(_) | Fault::ReplayStopped(..) | Fault::Rival(_) => {
                false
            }
        };
        self.countdowns().iter().filter(|c| about(c)).find_map(Countdown::left_ms)
    }

    /// The standbys that say by what they lack whether this primary is cut off. One whose history has forked off, or whose slot is
    /// lost, gets nothing from a healthy primary either.
    pub fn witnesses(&self, primary: &NodeName) -> Vec<NodeName> {
        let follows = |n: &&Node| n.role() == Some(Role::Standby) && n.upstream.as_ref() == Some(primary);
        let could = |n: &&Node| !n.forked_told && !self.slot_of(n).is_some_and(|s| s.is_lost());
        self.nodes.iter().filter(follows).filter(could).map(|n| n.name.clone()).collect()
    }

    /// How long until the failure detector takes the primary for dead, and why it will.
    pub fn fails_over_in(&self) -> Option<(Cause, u64)> {
        let primary = self.primary.as_ref().filter(|_| self.handover().is_none())?;
        self.detector.gives_up_in(self.now, primary, &self.witnesses(primary))
    }

    /// When the server that the clients write to gives up on the silent standby that commits wait for.
    pub fn gives_up_in(&self) -> Option<Countdown> {
        let needs = self.needs();
        let followers = self.nodes.iter().filter(|n| n.upstream.as_ref() == self.serving());
        let waited = followers.filter(|n| needs.names(n.name.as_str()));
        waited.filter_map(|n| self.sender_countdown(n)).find(|c| c.timeout_ms > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::cluster::{NodeSettings, ReceiverRow, Sample, SenderRow};
    use super::super::links::{End, Which};
    use super::super::{Stage, Stamp};
    use super::*;

    fn sample(role: Role) -> Sample {
        Sample {
            role,
            timeline: 1,
            system_identifier: 7,
            lab_marker: None,
            wal: super::super::Lsn(1_000),
            flushed: None,
            replayed: None,
            replay_paused: false,
            replay_age_us: None,
            start_epoch_us: 0,
            senders: Vec::new(),
            receiver: None,
            slots: Vec::new(),
            waiting: Vec::new(),
            settings: NodeSettings {
                wal_sender_timeout_ms: 5_000,
                wal_receiver_timeout_ms: 4_000,
                wal_receiver_status_interval_ms: 10_000,
                ..NodeSettings::default()
            },
            limits: None,
            took_us: 0,
        }
    }

    /// p and s1, looked at 100 ms ago, when s1's last reply and s1's last message were this old; the heartbeat beats.
    fn model(reply_age_ms: i64, message_age_ms: i64) -> Model {
        let lsn = Some(super::super::Lsn(900));
        let sender = SenderRow {
            name: "s1".into(),
            pid: 1,
            state: "streaming".into(),
            sync_state: "async".into(),
            sent: lsn,
            write: lsn,
            flush: lsn,
            replay: lsn,
            write_lag_us: None,
            flush_lag_us: None,
            replay_lag_us: None,
            reply_age_us: Some(reply_age_ms * 1_000),
        };
        let receiver = ReceiverRow {
            status: "streaming".into(),
            sender: String::new(),
            slot: None,
            received_tli: Some(1),
            last_msg_age_us: Some(message_age_ms * 1_000),
        };
        let mut p = Node::new("p".parse().unwrap(), None);
        let mut s1 = Node::new("s1".parse().unwrap(), Some("p".parse().unwrap()));
        p.sample = Some(Sample { senders: vec![sender], ..sample(Role::Primary) });
        s1.sample = Some(Sample { receiver: Some(receiver), ..sample(Role::Standby) });
        let mut nodes = vec![p, s1];
        for node in &mut nodes {
            node.state = NodeState::Running;
            node.seen = Some(Stamp(9_900_000));
        }
        let primary = Some("p".parse().unwrap());
        Model { now: Stamp(10_000_000), stage: Stage::Live, nodes, primary, heartbeat: true, ..Model::default() }
    }

    fn left(model: &Model) -> Vec<String> {
        model.countdowns().iter().map(|c| format!("{}>{} {:?}", c.by, c.on, c.left_ms())).collect()
    }

    #[test]
    fn each_side_counts_from_the_last_message_it_saw() {
        assert_eq!(left(&model(40, 40)), [""; 0]);
        assert_eq!(left(&model(1_900, 1_500)), ["s1>p Some(2400)", "p>s1 Some(3000)"]);
        assert_eq!(left(&model(9_000, 40)), ["p>s1 Some(0)"], "it is over, but not yet seen to be");
    }

    /// One way only: whoever still hears the other's regular messages counts nothing down.
    #[test]
    fn behind_a_cut_of_one_way_one_side_counts() {
        let cut = |from: usize, to: usize, (reply_age_ms, message_age_ms)| {
            let mut model = model(reply_age_ms, message_age_ms);
            let ends = [from, to].map(|i| End::Node(model.nodes[i].name.clone()));
            model.links.harm(vec![ends.into()], Harm::Cut);
            left(&model)
        };
        assert_eq!(cut(0, 1, (1_900, 1_900)), ["s1>p Some(2000)"]);
        assert_eq!(cut(1, 0, (1_900, 40)), ["p>s1 Some(3000)"]);
    }

    #[test]
    fn a_timeout_of_zero_never_ends() {
        let mut model = model(1_900, 40);
        model.nodes[0].sample.as_mut().unwrap().settings.wal_sender_timeout_ms = 0;
        assert_eq!(left(&model), ["p>s1 None"]);
        assert_eq!(model.gives_up_in(), None);
    }

    #[test]
    fn who_is_frozen_or_away_counts_nothing() {
        let mut model = model(1_900, 1_900);
        model.nodes[1].state = NodeState::Frozen;
        assert_eq!(left(&model), ["p>s1 Some(3000)"]);
        assert_eq!(model.noticed_in(&Fault::Frozen("s1".parse().unwrap())), Some(3_000));
        model.nodes[0].state = NodeState::Frozen;
        assert_eq!(left(&model), [""; 0]);
    }

    #[test]
    fn without_a_heartbeat_only_a_known_fault_makes_silence_mean_something() {
        let mut model = model(1_900, 1_900);
        model.heartbeat = false;
        assert_eq!(left(&model), [""; 0]);
        let (p, s1) = (model.nodes[0].name.clone(), model.nodes[1].name.clone());
        let (p, s1) = (End::Node(p), End::Node(s1));
        model.links.harm(Which::Between(p.clone(), s1.clone()).pairs([].iter()), Harm::Cut);
        assert_eq!(left(&model), ["s1>p Some(2000)", "p>s1 Some(3000)"]);
        let cut = LinkFault { from: p, to: s1, both: true, harm: Harm::Cut };
        assert_eq!(model.noticed_in(&Fault::Link(cut)), Some(2_000));
    }
}

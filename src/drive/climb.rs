//! The way up of a new cluster: every node on its own task, in an order that costs no waiting.
//!
//! The primary has the most to do, so it is started first; but what takes longest is starting containers, so standbys don't wait
//! until it serves. Their links are closed until their upstream has its passwords and slots, so the first thing that they hear
//! is the stream. Where links are direct a standby starts when its upstream is open: asked for a name that isn't there yet, it
//! would stall for a second (facts, "Speed"). Nobody is asked anything on the way who needn't be: each try at a server that isn't
//! ready costs it a process, and for a first answer it has half of its catalogs to read. So a standby that nobody
//! follows is left alone until all of them are seen to stream: the last ones need the machine.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{try_join, try_join_all};
use tokio::sync::watch;
use tokio::time::Instant;

use super::bring_up::{ASK_EVERY, STREAM_LIMIT, late, launch, standby_files};
use super::{Failure, Lab, faults, links};
use crate::model::NodeName;
use crate::model::msg::{NodePlan, Topology};
use crate::pg::conf;
use crate::pg::control::Control;
use crate::pg::secret::Secret;
use crate::runtime::{Origin, Runtime};

/// A standby that was started should stream long before this; if not, it is asked whether it runs.
const COMING: Duration = Duration::from_secs(3);
/// One that answers has asked for its upstream long before this, if it can reach it.
const ASKED: Duration = Duration::from_secs(2);

/// A cluster on its way up.
pub(super) struct Climb<'a, R: Runtime> {
    lab: &'a Arc<Lab<R>>,
    /// All but the primary.
    pub(super) standbys: Vec<&'a NodePlan>,
    /// Nodes that answer, and take in those who follow them.
    open: watch::Sender<BTreeSet<NodeName>>,
    /// The primary is being started.
    begun: watch::Sender<bool>,
    /// Nodes whose containers or processes were started.
    started: watch::Sender<BTreeSet<NodeName>>,
    /// Standbys that their upstream has seen streaming.
    streaming: watch::Sender<BTreeSet<NodeName>>,
}

impl<'a, R: Runtime> Climb<'a, R> {
    /// The way up to this topology; an error when it leads in a circle.
    pub(super) fn new(lab: &'a Arc<Lab<R>>, topology: &'a Topology) -> Result<Self, Failure> {
        let (mut left, mut below): (Vec<_>, Vec<_>) = topology.nodes.iter().partition(|n| n.upstream.is_some());
        let standbys = left.clone();
        while !left.is_empty() {
            let follows = |plan: &&NodePlan| below.iter().any(|up| Some(&up.name) == plan.upstream.as_ref());
            let (now, later): (Vec<_>, Vec<_>) = left.into_iter().partition(follows);
            if now.is_empty() {
                return Err(Failure("the topology has a circle".to_owned()));
            }
            (left, below) = (later, now);
        }
        let (open, begun) = (watch::Sender::default(), watch::Sender::default());
        Ok(Self { lab, standbys, open, begun, started: watch::Sender::default(), streaming: watch::Sender::default() })
    }

    /// Takes the primary up until all that follow it stream; gives the system identifier.
    pub(super) async fn primary(&self, primary: &NodeName) -> Result<u64, Failure> {
        let lab = self.lab;
        lab.phase(Some(primary), "copying the template").await;
        let files = conf::primary_files(primary, &lab.passwords, &lab.settings(), &[]);
        lab.runtime.create(primary, Origin::Template, &files).await?;
        lab.phase(Some(primary), "starting").await;
        self.begun.send_replace(true);
        let control = self.start(primary, None, lab.template_keys()).await?;
        faults::ready(lab, primary, &control).await?;
        control.settle_in(&lab.passwords.statements()?, &lab.passwords, &lab.id, &self.followers(primary)).await?;
        self.open(primary).await?;
        let identifier = control.system_identifier().await?;
        lab.phase(Some(primary), "").await;
        self.until_followed(primary, &control).await?;
        Ok(identifier)
    }

    /// Takes a standby up until all that follow it stream; that it streams itself is its upstream's to see.
    pub(super) async fn standby(&self, plan: &NodePlan) -> Result<(), Failure> {
        let (lab, name) = (self.lab, &plan.name);
        let Some(upstream) = &plan.upstream else { return Ok(()) };
        lab.phase(Some(name), "copying the template").await;
        // The engine makes the lab's network meanwhile, which the link needs and the container doesn't yet.
        let made = async { Ok(lab.runtime.create(name, Origin::Template, &[]).await?) };
        let (from, ()) = try_join(links::lay(lab, name, upstream), made).await?;
        lab.runtime.put(name, &standby_files(lab, name, &from, &[])?).await?;
        if links::direct(lab).is_some() {
            lab.phase(Some(name), &format!("waiting for {upstream}")).await;
            until(&self.open, &[upstream.as_str()]).await;
        }
        // Both sides of the channel live as long as this.
        drop(self.begun.subscribe().wait_for(|begun| *begun).await);
        lab.phase(Some(name), "starting").await;
        let followers = self.followers(name);
        if followers.is_empty() {
            // By then it has replayed the lab's passwords, or will within a moment.
            let control = self.start(name, Some(upstream), lab.keys()).await?;
            let all: Vec<&str> = self.standbys.iter().map(|plan| plan.name.as_str()).collect();
            tokio::select! {
                () = until(&self.streaming, &all) => {}
                failure = faults::ended(lab, name) => return Err(failure),
            }
            faults::ready(lab, name, &control).await?;
            return Ok(());
        }
        let control = self.start(name, Some(upstream), lab.template_keys()).await?;
        faults::ready(lab, name, &control).await?;
        control.create_slots(&followers).await?;
        self.open(name).await?;
        self.until_followed(name, &control).await
    }

    async fn start(&self, node: &NodeName, upstream: Option<&NodeName>, keys: Vec<Secret>) -> Result<Control, Failure> {
        let control = launch(self.lab, node, upstream, keys).await?;
        add(&self.started, node);
        Ok(control.patient())
    }

    /// Who follows this node, and so has a slot on it.
    fn followers(&self, node: &NodeName) -> Vec<&str> {
        let followers = self.standbys.iter().filter(|plan| plan.upstream.as_ref() == Some(node));
        followers.map(|plan| plan.name.as_str()).collect()
    }

    async fn open(&self, node: &NodeName) -> Result<(), Failure> {
        links::dial(self.lab, node).await?;
        add(&self.open, node);
        Ok(())
    }

    /// Waits until everybody who follows this node streams: once they are all started, which is what takes long, it is asked.
    async fn until_followed(&self, node: &NodeName, control: &Control) -> Result<(), Failure> {
        let mut waiting = self.followers(node);
        until(&self.started, &waiting).await;
        let mut since = Instant::now();
        let mut doubts = [(COMING, Doubt::Runs), (ASKED, Doubt::Reaches)].into_iter().peekable();
        while let Some(name) = waiting.first() {
            if since.elapsed() >= STREAM_LIMIT {
                return Err(late(name, node, STREAM_LIMIT));
            }
            let streaming = control.streaming().await?;
            let streams = |name: &str| streaming.iter().any(|s| s == name);
            let (now, later): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|name| streams(name));
            for plan in self.standbys.iter().filter(|plan| now.contains(&plan.name.as_str())) {
                self.lab.phase(Some(&plan.name), "").await;
                add(&self.streaming, &plan.name);
            }
            waiting = later;
            if waiting.is_empty() {
                break;
            }
            if let Some((_, doubt)) = doubts.next_if(|(after, _)| since.elapsed() >= *after) {
                self.see_to(doubt, &waiting, node).await?;
                // How long a server took to start is no sign of how long it takes to connect.
                since = Instant::now();
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
        Ok(())
    }

    /// Standbys that don't come: perhaps they don't run yet, on a machine that has much to do; perhaps they can't reach this host.
    async fn see_to(&self, doubt: Doubt, waiting: &[&str], upstream: &NodeName) -> Result<(), Failure> {
        let late = self.standbys.iter().map(|plan| &plan.name).filter(|name| waiting.contains(&name.as_str()));
        match doubt {
            Doubt::Runs => drop(try_join_all(late.map(|name| self.answers(name))).await?),
            Doubt::Reaches => {
                for name in late {
                    links::straighten(self.lab, name, upstream).await?;
                }
            }
        }
        Ok(())
    }

    /// Waits until a standby answers that has nothing but the template's passwords yet, on a connection of its own.
    async fn answers(&self, name: &NodeName) -> Result<(), Failure> {
        let probe = Control::new(self.lab.control(name)?.address(), self.lab.template_keys());
        faults::ready(self.lab, name, &probe).await
    }
}

/// What may be wrong with a standby that doesn't stream.
#[derive(Clone, Copy)]
enum Doubt {
    Runs,
    Reaches,
}

fn add(nodes: &watch::Sender<BTreeSet<NodeName>>, node: &NodeName) {
    nodes.send_modify(|nodes| nodes.extend([node.clone()]));
}

/// Waits until all these nodes are among those.
async fn until(nodes: &watch::Sender<BTreeSet<NodeName>>, all: &[&str]) {
    let there = |nodes: &BTreeSet<NodeName>| all.iter().all(|name| nodes.iter().any(|n| n.as_str() == *name));
    // The sender lives as long as this.
    drop(nodes.subscribe().wait_for(there).await);
}

//! Effects carried out: each [`Act`] becomes calls of the runtime, the relays and the servers, and ends in one
//! [`Msg::Done`]. Decides nothing that isn't in the act; the order of steps inside an act is its whole knowledge.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::model::NodeName;
use crate::model::cluster::{Look, Observation};
use crate::model::msg::{Act, Happened, Msg, OpId, Outcome};
use crate::pg::conf::Setting;
use crate::pg::control::Control;
use crate::pg::secret::{Passwords, Secret, TemplateKey};
use crate::runtime::{Runtime, RuntimeError};
use crate::workload::{self, WriterCommand, Writers};

mod bring_up;
mod clients;
mod climb;
mod consoles;
mod failover;
mod faults;
mod judge;
mod keep;
mod links;
mod rejoin;
mod replication;
mod steps;

pub use bring_up::close;
pub use consoles::close_all as close_sql;
pub use failover::probe_all;
pub use keep::keep;
pub use links::{count, dial_again};
pub use steps::Steps;

/// Why an act failed: for a person, with the next step where one is known.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Failure(pub String);

impl From<RuntimeError> for Failure {
    fn from(error: RuntimeError) -> Self {
        let hint = error.hint.as_ref().map_or(String::new(), |h| format!(" ({h})"));
        Self(format!("{error}{hint}"))
    }
}

impl From<crate::pg::control::ControlError> for Failure {
    fn from(error: crate::pg::control::ControlError) -> Self {
        Self(error.to_string())
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self(error.to_string())
    }
}

/// The writers, and the task that passes on what they tell.
type Staff = (Writers, JoinHandle<()>);

/// What an act gives.
pub type Done = Result<Happened, Failure>;

/// A node as the adapters hold it.
#[derive(Clone, Debug)]
struct Handle {
    /// The lab's own connection to it.
    control: Control,
    /// Ends its sampler.
    watched: CancellationToken,
    /// Whom it follows, for its link and its slot.
    upstream: Option<NodeName>,
}

/// Everything an act may need. One per lab, shared by all acts.
#[derive(Debug)]
pub struct Lab<R: Runtime> {
    /// Where nodes live.
    pub runtime: R,
    /// The lab's id.
    pub id: String,
    /// Its passwords.
    pub passwords: Passwords,
    /// The template's key.
    pub key: TemplateKey,
    /// The writers; none while the lab is reset.
    writers: Mutex<Option<Staff>>,
    /// Where messages go.
    pub out: mpsc::Sender<Msg>,
    /// Ends everything of the lab.
    pub end: CancellationToken,
    nodes: Mutex<BTreeMap<NodeName, Handle>>,
    /// One relay per standby and upstream, and per node that clients don't reach well.
    relays: Mutex<links::Relays>,
    /// Held from asking where a node is until the relays are told: what is asked last holds.
    dialling: tokio::sync::Mutex<()>,
    /// The faults of links.
    told: Mutex<links::Told>,
    /// The way of the clients. Held over a change of it.
    way: tokio::sync::Mutex<clients::Way>,
    /// The kept SQL sessions.
    consoles: Mutex<consoles::Consoles>,
    /// Why links are direct, if they are; known after bring-up.
    direct: Mutex<Option<String>>,
    /// Settings of the lab, from the topology.
    settings: Mutex<Vec<Setting>>,
}

impl<R: Runtime> Lab<R> {
    /// A lab without nodes.
    pub fn new(runtime: R, id: String, key: TemplateKey, out: mpsc::Sender<Msg>) -> std::io::Result<Self> {
        Ok(Self {
            runtime,
            id,
            passwords: Passwords::random()?,
            key,
            writers: Mutex::default(),
            out,
            end: CancellationToken::new(),
            nodes: Mutex::default(),
            relays: Mutex::default(),
            dialling: tokio::sync::Mutex::default(),
            told: Mutex::default(),
            way: tokio::sync::Mutex::default(),
            consoles: Mutex::default(),
            direct: Mutex::default(),
            settings: Mutex::default(),
        })
    }

    fn nodes(&self) -> MutexGuard<'_, BTreeMap<NodeName, Handle>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn relays(&self) -> MutexGuard<'_, links::Relays> {
        self.relays.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn consoles(&self) -> MutexGuard<'_, consoles::Consoles> {
        self.consoles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn writers(&self) -> MutexGuard<'_, Option<Staff>> {
        self.writers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the writers. Their clients are numbered from 1: what those before them tried is in no table of this cluster.
    pub fn start_writers(&self) -> std::io::Result<()> {
        let (events, passing) = workload::forward(self.out.clone());
        let writers = Writers::spawn(self.passwords.writer.clone(), 1, events)?;
        *self.writers() = Some((writers, passing));
        Ok(())
    }

    /// Ends the writers; returns when their last books have been sent: later ones are of other clients, whatever their numbers.
    pub async fn stop_writers(&self) {
        let writers = self.writers().take();
        if let Some((writers, passing)) = writers {
            writers.stop().await;
            // It ends with the writers.
            drop(passing.await);
        }
    }

    /// So many writes beside the plan.
    pub fn burst(&self, count: u32) {
        if let Some((writers, _)) = &*self.writers() {
            writers.command(WriterCommand::Burst(u64::from(count)));
        }
    }

    fn settings(&self) -> Vec<Setting> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What opens a server of this lab, in the order to be tried.
    fn keys(&self) -> Vec<Secret> {
        vec![self.passwords.control.clone(), self.key.secret.clone()]
    }

    /// The same for a copy of the template that has not run yet: a refused log-in costs time and a line in its log.
    fn template_keys(&self) -> Vec<Secret> {
        vec![self.key.secret.clone(), self.passwords.control.clone()]
    }

    /// The control connection of a node.
    pub fn control(&self, node: &NodeName) -> Result<Control, Failure> {
        let handle = self.nodes().get(node).map(|h| h.control.clone());
        handle.ok_or_else(|| Failure(format!("{node} has never been started")))
    }

    /// Tells the model. The lab is over when nobody listens any more.
    pub async fn tell(&self, msg: Msg) {
        if self.out.send(msg).await.is_err() {
            self.end.cancel();
        }
    }

    async fn phase(&self, node: Option<&NodeName>, text: &str) {
        self.tell(Msg::Phase(node.cloned(), text.to_owned())).await;
    }

    /// Looks at a node at once, so that what an act did is on the screen before the next look is due.
    async fn look(&self, node: &NodeName) {
        if let Ok(control) = self.control(node)
            && let Ok(sample) = control.sample().await
        {
            self.tell(Msg::Observed(Observation::Node(node.clone(), Look::Sample(Box::new(sample))))).await;
        }
    }

    /// The same for all nodes at once.
    async fn look_around(&self) {
        let names: Vec<NodeName> = self.nodes().keys().cloned().collect();
        futures_util::future::join_all(names.iter().map(|n| self.look(n))).await;
    }
}

/// Carries out one act and tells how it ended.
pub async fn run<R: Runtime>(lab: Arc<Lab<R>>, id: OpId, act: Act) {
    let mut steps = Steps::new(lab.runtime.kind(), &lab.id);
    let done = tokio::select! {
        done = carry_out(&lab, id, &act, &mut steps) => done,
        () = lab.end.cancelled() => Err(Failure("the lab is closing".to_owned())),
    };
    let result = done.map_err(|Failure(why)| why);
    lab.tell(Msg::Done(id, Outcome { result, steps: steps.into_lines() })).await;
}

async fn carry_out<R: Runtime>(lab: &Arc<Lab<R>>, id: OpId, act: &Act, steps: &mut Steps) -> Done {
    let telling = failover::Telling { lab, id };
    match act {
        Act::BringUp(topology) => bring_up::bring_up(lab, topology, steps).await,
        Act::Reset(topology) => bring_up::reset(lab, topology, steps).await,
        Act::ApplyRule { node, rule, nudge } => replication::apply_rule(lab, node, rule, *nudge, steps).await,
        Act::Set { nodes, name, value } => replication::set(lab, nodes, name, value, steps).await,
        Act::CancelWaiting { node, terminate } => replication::cancel_waiting(lab, node, *terminate, steps).await,
        Act::Kill(n) => faults::kill(lab, n, steps).await,
        Act::Stop(n) => faults::stop(lab, n, steps).await,
        Act::Start(n) => faults::start(lab, n, steps).await,
        Act::Freeze(n) => faults::freeze(lab, n, steps).await,
        Act::Thaw(n) => faults::thaw(lab, n, steps).await,
        Act::Promote(n) => replication::promote(lab, n, steps).await,
        Act::Follow { standby, upstream } => replication::follow(lab, standby, upstream, steps).await,
        Act::FollowAll { standbys, upstream } => failover::follow_all(lab, standbys, upstream, steps).await,
        Act::Canvass { standbys, fence, after_ms, counts } => {
            sleep(Duration::from_millis(*after_ms)).await;
            failover::canvass(lab, standbys, fence.as_ref(), *counts, steps).await
        }
        Act::TakeOver { node, rule, followers } => {
            failover::take_over(&telling, node, rule.as_ref(), followers, steps).await
        }
        Act::Switchover { old, node, rule, followers } => {
            failover::switch_over(&telling, old, node, (rule.as_ref(), followers), steps).await
        }
        Act::Rejoin { node, source, way, histories } => {
            let asked = rejoin::Asked { node, source, way: *way, histories };
            rejoin::rejoin(&telling, &asked, steps).await
        }
        Act::Add { name, upstream } => bring_up::add(lab, name, upstream, steps).await,
        Act::AddFresh(name) => bring_up::add_fresh(lab, name, steps).await,
        Act::Remove { node, upstream } => bring_up::remove(lab, node, upstream.as_ref(), steps).await,
        Act::Raise { node, settings } => replication::raise(lab, node, settings, steps).await,
        Act::Replay { node, pause } => replication::replay(lab, node, *pause, steps).await,
        Act::Links(faults) => links::set(lab, id, faults, steps).await,
        Act::Verify(nodes) => judge::verify(lab, nodes, steps).await,
        Act::Sql { node, session, opens, text, lesson } => {
            let ask = consoles::Ask { node, session: session.as_ref(), opens: *opens, text, lesson: *lesson };
            consoles::sql(lab, ask, steps).await
        }
    }
}

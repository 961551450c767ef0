//! Nodes as Docker containers. The only place that knows bollard; knows nothing of clusters, roles or replication.
//!
//! Rooms: `connect` finds the engine; `image` and `recipe` the base image; `template` makes the cluster that nodes are
//! copies of; `confine` says what every container may do and take; `network` is the lab's own, and `reach` proves it; `node`, `archive`, `job`, `held`
//! and `wait` act on one container; `watch` and `logs` tell what happens; `freezer` tries whether nodes can be frozen; `leftovers` tidies up, and `builds` after the
//! recipe. Everything made carries the lab's labels (`labels`), and nothing without them is touched.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OnceCell, mpsc};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::ports::is_free;
use super::{Job, JobOutput, NodeFile, Origin, Owner, Place, Progress, Result, Runtime, RuntimeEvent, Template};
use crate::model::NodeName;
use crate::model::cluster::NodeState;
use crate::relay::Dialled;

mod archive;
mod builds;
mod confine;
mod connect;
mod failure;
mod freezer;
mod held;
mod image;
mod job;
mod labels;
mod leftovers;
mod logs;
mod network;
mod node;
mod nodes;
mod reach;
mod recipe;
mod room;
#[cfg(test)]
mod scripted;
mod template;
mod text;
mod wait;
mod watch;

pub use builds::{BUILD, abandoned_builds, remove_build};
pub use confine::Limits;
pub use connect::Engine;
pub use freezer::no_freezer;
pub use image::{Image, ImageChoice, find_image, pull};
pub use leftovers::{leftovers, remove, templates};
pub use recipe::{build, build_refusal};

use archive::Pack;
use failure::{hinted, plain};
use held::Held;
use network::Coming;
use nodes::{Node, Nodes};
use reach::Reach;
use template::Prepared;

/// How many events may wait to be taken; then logs wait in the engine.
const EVENTS: usize = 1024;
/// How long the engine may take to answer a request that makes something.
const FLIGHTS_LIMIT: Duration = Duration::from_secs(20);
/// A data directory is emptied in moments.
const EMPTY_LIMIT: Duration = Duration::from_secs(30);
/// Another program may take a node's port between its choice and the node's start; so often another one is chosen.
const PORT_TRIES: usize = 5;
/// How long a killed container may take to be dead.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// One lab's containers.
#[derive(Debug)]
pub struct DockerRuntime {
    engine: Engine,
    owner: Owner,
    image: Image,
    limits: Limits,
    nodes: Nodes,
    /// Where the engine keeps containers, if this machine can see it; asked once.
    root: OnceCell<Option<PathBuf>>,
    /// Requests that make things, each until it is answered.
    flights: TaskTracker,
    /// First starts take turns as far as order matters; whether there was one since the nodes' ground was prepared.
    turns: tokio::sync::Mutex<bool>,
    ground: Mutex<Option<Ground>>,
    /// What containers and this host reach of each other, where it had to be proved.
    reach: tokio::sync::Mutex<Option<Reach>>,
    events: Mutex<Option<mpsc::Receiver<RuntimeEvent>>>,
    /// What the watch can't hear: servers of held containers.
    tell: mpsc::Sender<RuntimeEvent>,
    /// Ends the watch with the runtime.
    _watching: DropGuard,
}

/// What `prepare` made, and nodes stand on.
#[derive(Clone, Debug)]
struct Ground {
    prepared: Prepared,
    network: Coming,
}

/// The lock is held for a look or a change only; after a panic elsewhere the value is still whole.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl DockerRuntime {
    /// A lab on this engine, its nodes made from this image. Begins to watch the engine: call it inside tokio.
    pub fn new(owner: Owner, engine: Engine, image: Image) -> Self {
        let nodes = Nodes::default();
        let (tell, events) = mpsc::channel(EVENTS);
        let watch = watch::Watch::new(engine.docker.clone(), owner.lab.clone(), nodes.clone(), tell.clone());
        let token = CancellationToken::new();
        tokio::spawn(token.clone().run_until_cancelled_owned(watch.run()));
        Self {
            engine,
            owner,
            image,
            limits: Limits::default(),
            nodes,
            root: OnceCell::new(),
            flights: TaskTracker::new(),
            turns: tokio::sync::Mutex::default(),
            ground: Mutex::new(None),
            reach: tokio::sync::Mutex::default(),
            events: Mutex::new(Some(events)),
            tell,
            _watching: token.drop_guard(),
        }
    }

    /// The same lab with other limits for nodes made from now on.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The id of the template image that nodes are made from, once it is prepared.
    pub fn template_image(&self) -> Option<String> {
        locked(&self.ground).as_ref().map(|ground| ground.prepared.image.clone())
    }

    /// Bytes free where containers are, as the first one that answers sees it.
    pub async fn free_bytes_from_inside(&self) -> Option<u64> {
        for id in self.nodes.ids() {
            // One that is frozen or down refuses; another will do.
            if let Some(free) = room::ask(&self.engine, &id).await {
                return Some(free);
            }
        }
        None
    }

    fn ground(&self, what: &str) -> Result<Ground> {
        locked(&self.ground).clone().ok_or_else(|| plain(what, "the template isn't prepared yet"))
    }

    fn node(&self, name: &NodeName, what: &str) -> Result<Node> {
        self.nodes.get(name).ok_or_else(|| plain(what, format!("there is no node {name}")))
    }

    /// How a node's container is held, if its server doesn't run in it.
    fn held_idle(&self, node: &NodeName) -> Option<Arc<Held>> {
        self.nodes.held(node).filter(|held| held.is_idle())
    }

    fn place<'a>(&'a self, node: &'a NodeName, here: &'a Node, what: &str) -> Result<job::Place<'a>> {
        let account = self.ground(what)?.prepared.account;
        Ok(job::Place { docker: &self.engine.docker, nodes: &self.nodes, node, id: &here.id, account })
    }

    async fn tell_running(&self, node: &NodeName) {
        // Nobody listens any more: the lab is ending.
        let _ = self.tell.send(RuntimeEvent::State(node.clone(), NodeState::Running)).await;
    }

    /// Lays the first files of a node that isn't started yet, so that it can be looked into and worked on.
    async fn settle(&self, name: &NodeName, what: &str) -> Result<(Ground, Node)> {
        let (ground, here) = (self.ground(what)?, self.node(name, what)?);
        if let Some(files) = self.nodes.take_files(name) {
            let laid = Self::lay(&ground, &self.engine.docker, &here.id, &files, false, what).await;
            if laid.is_err() {
                self.nodes.keep_files(name.clone(), files);
            }
            laid?;
        }
        Ok((ground, here))
    }

    /// Makes a node's container, with a port of its own.
    async fn make(&self, ground: &Ground, node: &NodeName, origin: Origin, what: &str) -> Result<Node> {
        let port = self.nodes.claim_port()?;
        let plan = node::Plan {
            owner: &self.owner,
            node,
            image: if origin == Origin::Template { &ground.prepared.image } else { &self.image.id },
            base: &self.image,
            network: &ground.network,
            limits: self.limits,
            port,
        };
        let made = plan.make(&self.engine.docker, &self.flights, what).await;
        made.map(|id| Node { id, port }).inspect_err(|_| self.nodes.release_port(port))
    }

    /// Starts a copy of the template for the first time, on another port where its own was taken meanwhile.
    async fn first_start(&self, name: &NodeName, files: &[NodeFile], what: &str) -> Result<()> {
        let ground = self.ground(what)?;
        let network = ground.network.clone().await?.id;
        let script = archive::script(files)?;
        let mut left = PORT_TRIES;
        loop {
            let here = self.node(name, what)?;
            let started = node::first_start(&self.engine.docker, &here.id, script.clone(), &network, &self.turns).await;
            left -= 1;
            let Err(refused) = started.map_err(|err| failure::engine(what, &err)) else { return Ok(()) };
            // Engines word it differently; whether one can listen there is soon tried. Where the container runs, it is its own port.
            let state = node::state(&self.engine.docker, &here.id, what).await;
            let down = state.is_ok_and(|state| state.running != Some(true));
            if left == 0 || !down || is_free(here.port) {
                return Err(refused);
            }
            // The node stays in the list meanwhile: others ask for it.
            wait::remove(&self.engine.docker, &here.id, what).await?;
            let other = self.make(&ground, name, Origin::Template, what).await?;
            self.nodes.remove(name);
            self.nodes.insert(name.clone(), other);
        }
    }

    /// Puts a node's first files into its container, and for an empty one its folders and its first process's script.
    async fn lay(
        ground: &Ground,
        docker: &bollard::Docker,
        id: &str,
        files: &[NodeFile],
        empty: bool,
        what: &str,
    ) -> Result<()> {
        let mut pack = Pack::new(ground.prepared.account);
        if empty {
            pack.skeleton()?;
        }
        pack.node_files(files)?;
        pack.laid()?;
        pack.upload(docker, id, what).await
    }
}

impl Runtime for DockerRuntime {
    fn kind(&self) -> &'static str {
        "docker"
    }

    fn postgres(&self) -> String {
        let version = locked(&self.ground).as_ref().map(|ground| ground.prepared.version.clone());
        version.filter(|version| !version.is_empty()).unwrap_or_else(|| self.image.major.to_string())
    }

    fn no_freezer(&self) -> Option<String> {
        let why = locked(&self.ground).as_ref().and_then(|ground| ground.prepared.no_freezer.clone());
        why.map(|why| format!("this engine can't freeze containers: {why}"))
    }

    async fn prepare(&self, template: &Template, progress: &Progress) -> Result<()> {
        let maker = template::Maker { engine: &self.engine, base: &self.image, owner: &self.owner, template, progress };
        let network = network::begin(&self.engine.docker, &self.owner, &self.flights);
        let prepared = Box::pin(maker.ensure()).await?;
        *self.turns.lock().await = false;
        if locked(&self.ground).replace(Ground { prepared, network }).is_some() {
            *self.reach.lock().await = None;
        }
        Ok(())
    }

    async fn create(&self, node: &NodeName, origin: Origin, files: &[NodeFile]) -> Result<()> {
        let what = format!("make {node}");
        let ground = self.ground(&what)?;
        if self.nodes.get(node).is_some() {
            return Err(plain(what, "it is there already"));
        }
        let made = self.make(&ground, node, origin, &what).await?;
        if origin == Origin::Template {
            // Laid at the first start, which costs less.
            self.nodes.keep_files(node.clone(), files.to_vec());
        } else if let Err(err) = Self::lay(&ground, &self.engine.docker, &made.id, files, true, &what).await {
            self.nodes.release_port(made.port);
            wait::remove(&self.engine.docker, &made.id, &what).await?;
            return Err(err);
        }
        self.nodes.insert(node.clone(), made);
        Ok(())
    }

    async fn put(&self, node: &NodeName, files: &[NodeFile]) -> Result<()> {
        let what = format!("put files into {node}");
        if self.nodes.add_files(node, files) {
            return Ok(());
        }
        let (ground, here) = self.settle(node, &what).await?;
        let mut pack = Pack::new(ground.prepared.account);
        pack.node_files(files)?;
        pack.upload(&self.engine.docker, &here.id, &what).await
    }

    async fn read(&self, node: &NodeName, place: &Place) -> Result<Option<String>> {
        let path = archive::path(place);
        let what = format!("read {path} of {node}");
        let (_, here) = self.settle(node, &what).await?;
        archive::read(&self.engine.docker, &here.id, &path, &what).await
    }

    async fn run(&self, node: &NodeName, job: &Job) -> Result<JobOutput> {
        let what = format!("run {} on {node}", job.program);
        let (_, here) = self.settle(node, &what).await?;
        let place = self.place(node, &here, &what)?;
        if let Some(held) = self.held_idle(node) {
            return job::run_held(&place, &held, job).await;
        }
        place.no_more_held(&what).await?;
        job::run(&place, job).await
    }

    async fn empty(&self, node: &NodeName) -> Result<()> {
        let args = ["{data}", "-mindepth", "1", "-delete"].map(str::to_owned).to_vec();
        let job = Job { program: "find".to_owned(), args, silent: true, limit: EMPTY_LIMIT, ..Job::default() };
        let done = self.run(node, &job).await?;
        if done.code == Some(0) { Ok(()) } else { Err(plain(format!("empty {node}"), done.output)) }
    }

    async fn start(&self, node: &NodeName) -> Result<()> {
        let what = format!("start {node}");
        let here = self.node(node, &what)?;
        if let Some(held) = self.held_idle(node) {
            let gone = held.let_go(&what).await;
            self.nodes.let_go(node);
            self.nodes.untell_to_hold(node);
            gone?;
            self.tell_running(node).await;
            return Ok(());
        }
        self.place(node, &here, &what)?.no_more_held(&what).await?;
        let files = self.nodes.take_files(node);
        let started = match &files {
            Some(files) => self.first_start(node, files, &what).await,
            None => {
                self.engine.docker.start_container(&here.id, None).await.map_err(|err| failure::engine(&what, &err))
            }
        };
        if let Some(files) = files.filter(|_| started.is_err() && self.nodes.get(node).is_some()) {
            self.nodes.keep_files(node.clone(), files);
        }
        let Err(err) = started else { return Ok(()) };
        // What engines say differs; what is the case can be looked at, as long as the engine answers.
        let Ok(state) = node::state(&self.engine.docker, &here.id, &what).await else { return Err(err) };
        if state.paused == Some(true) {
            Err(hinted(what, "it is frozen", format!("thaw {node}")))
        } else if err.hint.is_none() && state.running != Some(true) && !is_free(here.port) {
            Err(hinted(what, err.why, failure::PORT_HINT))
        } else {
            Err(err)
        }
    }

    async fn start_to_rework(&self, node: &NodeName, files: &[NodeFile]) -> Result<()> {
        let what = format!("start {node}");
        let (ground, here) = self.settle(node, &what).await?;
        let (docker, held) = (&self.engine.docker, self.held_idle(node));
        let mut pack = Pack::new(ground.prepared.account);
        pack.node_files(files)?;
        if held.is_none() {
            pack.held(true)?;
            self.nodes.tell_to_hold(node);
        }
        pack.upload(docker, &here.id, &what).await?;
        if let Some(held) = held {
            held.serve(&what).await?;
            self.tell_running(node).await;
            return Ok(());
        }
        let held = Held::start(docker, &here.id, node, self.tell.clone()).await;
        self.nodes.hold(node.clone(), held.map_err(|err| failure::engine(&what, &err))?);
        Ok(())
    }

    async fn is_up(&self, node: &NodeName) -> Result<bool> {
        let what = format!("look at {node}");
        let here = self.node(node, &what)?;
        if self.held_idle(node).is_some() {
            return Ok(false);
        }
        let found = self.engine.docker.inspect_container(&here.id, None).await;
        let found = found.map_err(|err| failure::engine(&what, &err))?;
        Ok(found.state.and_then(|state| state.running).unwrap_or(false))
    }

    async fn stop(&self, node: &NodeName, limit: Duration) -> Result<()> {
        let what = format!("stop {node}");
        let here = self.node(node, &what)?;
        match self.nodes.held(node) {
            Some(held) if held.is_idle() => Ok(()),
            Some(held) => held.stop(&self.engine.docker, &here.id, limit, &what).await,
            None => node::stop(&self.engine.docker, &here.id, limit, &what).await,
        }
    }

    async fn kill(&self, node: &NodeName) -> Result<()> {
        let what = format!("kill {node}");
        let here = self.node(node, &what)?;
        self.nodes.let_go(node);
        node::kill(&self.engine.docker, &here.id, KILL_LIMIT, &what).await
    }

    async fn freeze(&self, node: &NodeName) -> Result<()> {
        let what = format!("freeze {node}");
        let here = self.node(node, &what)?;
        node::pause(&self.engine.docker, &here.id, true, &what).await
    }

    async fn thaw(&self, node: &NodeName) -> Result<()> {
        let what = format!("thaw {node}");
        let here = self.node(node, &what)?;
        node::pause(&self.engine.docker, &here.id, false, &what).await
    }

    async fn destroy(&self, node: &NodeName) -> Result<()> {
        let what = format!("destroy {node}");
        let Some(here) = self.nodes.remove(node) else { return Ok(()) };
        let removed = wait::remove(&self.engine.docker, &here.id, &what).await;
        if removed.is_err() {
            self.nodes.insert(node.clone(), here);
        }
        removed
    }

    async fn destroy_all(&self) -> Result<()> {
        // What the engine is still making for somebody who has given up must be there before it can be removed.
        self.flights.close();
        if tokio::time::timeout(FLIGHTS_LIMIT, self.flights.wait()).await.is_err() {
            tracing::warn!("the engine is still making something; replab clean removes it");
        }
        self.flights.reopen();
        self.nodes.clear();
        leftovers::remove_lab(&self.engine.docker, &self.owner.lab).await?;
        *locked(&self.ground) = None;
        Ok(())
    }

    async fn control_address(&self, node: &NodeName) -> Result<SocketAddr> {
        // The port is ours for the container's whole life, so the engine needn't be asked.
        let here = self.node(node, &format!("find {node}"))?;
        Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, here.port)))
    }

    async fn peer_address(&self, node: &NodeName) -> Result<Dialled> {
        let what = format!("find {node}'s address");
        let (network, here) = (self.ground(&what)?.network.await?, self.node(node, &what)?);
        if self.nodes.runs_job(&here.id) {
            return Err(plain(what, "a program runs in its place"));
        }
        if !network.shared {
            return Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, here.port)).into());
        }
        let address = node::address(&self.engine.docker, &here.id, &network.id, &what).await?;
        Ok(SocketAddr::new(address, node::PORT).into())
    }

    async fn relay_host(&self) -> Result<(SocketAddr, String)> {
        let network = self.ground("find the relays' address")?.network.await?;
        if let Some(gateway) = network.gateway.filter(|_| network.shared) {
            return Ok((SocketAddr::new(gateway, 0), gateway.to_string()));
        }
        self.reach(&network).await?.way.map_err(|tried| reach::no_way(&network, &tried))
    }

    async fn direct_address(&self, node: &NodeName) -> Result<(String, u16)> {
        // Without the network there is no way at all, and that is what is to be told then.
        self.ground(&format!("find {node}"))?.network.await?;
        // A name, because a container's address may be another's after both were restarted. It holds before the container is made, too:
        // a standby's files are written beside that.
        Ok((node.to_string(), node::PORT))
    }

    fn allow(&self) -> Option<&'static str> {
        Some(reach::ALLOW)
    }

    fn path(&self, _node: &NodeName, place: &Place) -> String {
        archive::path(place)
    }

    async fn free_bytes(&self) -> Option<u64> {
        match self.root.get_or_init(|| self.engine.root_dir()).await {
            Some(folder) => super::free_bytes(folder).ok(),
            None => self.free_bytes_from_inside().await,
        }
    }

    fn events(&self) -> Option<mpsc::Receiver<RuntimeEvent>> {
        locked(&self.events).take()
    }
}

//! The process runtime: PostgreSQL programs of this machine, as child processes in folders of ours.
//!
//! A lab is one folder: `lab.json` (the owner), `nodes/<name>/{data,private,log}`, and `trash` with destroyed nodes.
//! Knows no clusters.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Display;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::mpsc;

use super::ports::Ports;
use super::{
    Dirs, Job, JobOutput, NodeFile, Origin, Owner, Place, Progress, Result, Runtime, RuntimeError, RuntimeEvent,
    Template,
};
use crate::model::NodeName;
use crate::relay::Dialled;
use account::Account;
use events::Events;
use folders::{LabFile, NodeFolders};
use node::Node;
pub use programs::Programs;

mod account;
pub mod clean;
mod copy;
mod events;
mod files;
mod folders;
mod job;
mod log;
mod node;
mod programs;
mod template;
mod tree;

/// So many destroyed nodes stay until the end of the lab, because deleting files slows making new ones for minutes.
const TRASH_COUNT: usize = 10;
/// `Drop` waits this long for each node's processes.
const DROP_LIMIT: Duration = Duration::from_secs(2);

/// What all parts of the runtime share.
#[derive(Debug)]
struct Ground {
    owner: Owner,
    programs: Programs,
    account: Account,
    dirs: Dirs,
    /// Ports of this lab's nodes, running or not.
    ports: Mutex<Ports>,
}

impl Ground {
    /// The mode of folders on the way to the data: the servers' user must get through.
    fn open_mode(&self) -> u32 {
        if self.account.steps_down() { 0o711 } else { 0o700 }
    }

    /// A free port that no other node has.
    fn take_port(&self) -> Result<u16> {
        lock(&self.ports).claim()
    }

    fn give_back_port(&self, port: u16) {
        lock(&self.ports).give_back(port);
    }
}

/// Nodes as process trees on this machine.
#[derive(Debug)]
pub struct ProcessRuntime {
    ground: Ground,
    lab: PathBuf,
    template: Mutex<Option<template::Ready>>,
    nodes: Mutex<BTreeMap<NodeName, Arc<Node>>>,
    trash: Mutex<VecDeque<PathBuf>>,
    events: Events,
    receiver: Mutex<Option<mpsc::Receiver<RuntimeEvent>>>,
    kept: AtomicBool,
}

impl ProcessRuntime {
    /// Makes the lab's folder. Nothing else happens before the first verb.
    pub fn new(owner: Owner, dirs: &Dirs, programs: Programs) -> Result<Self> {
        if !super::owner::is_lab_id(&owner.lab) {
            return Err(failed("make the lab", "its id isn't 8 hexadecimal digits"));
        }
        let account = Account::pick()?;
        if !account.may_enter(programs.folder()).unwrap_or(false) {
            let why = format!("the servers' user may not enter {}", programs.folder().display());
            return Err(failed("make the lab", why).hinted("run replab as the user who owns these programs"));
        }
        let dirs = folders::settle(dirs, &account)?;
        let ground = Ground { owner, programs, account, dirs, ports: Mutex::default() };
        let lab = folders::labs(&ground.dirs).join(&ground.owner.lab);
        let mode = ground.open_mode();
        folders::make_folder(&lab, mode).failed(format!("make {}", lab.display()))?;
        LabFile::write(&ground.owner, &lab)?;
        for below in ["nodes", "trash"] {
            folders::make_folder(&lab.join(below), mode).failed("make the lab's folders")?;
        }
        let (events, receiver) = Events::new();
        Ok(Self {
            ground,
            lab,
            template: Mutex::default(),
            nodes: Mutex::default(),
            trash: Mutex::default(),
            events,
            receiver: Mutex::new(Some(receiver)),
            kept: AtomicBool::new(false),
        })
    }

    /// The lab's folder.
    pub fn folder(&self) -> &std::path::Path {
        &self.lab
    }

    fn node(&self, name: &NodeName) -> Result<Arc<Node>> {
        let nodes = lock(&self.nodes);
        nodes.get(name).cloned().ok_or_else(|| failed(format!("find {name}"), "this lab has no such node"))
    }

    /// Enters a new node with a port of its own.
    fn enter(&self, name: &NodeName) -> Result<Arc<Node>> {
        let mut nodes = lock(&self.nodes);
        if nodes.contains_key(name) {
            return Err(failed(format!("create {name}"), "there is a node of that name already"));
        }
        let port = self.ground.take_port()?;
        let node = Arc::new(Node::new(name.clone(), NodeFolders::below(&self.lab, name), port));
        nodes.insert(name.clone(), Arc::clone(&node));
        Ok(node)
    }

    /// Lays down the folders of a new node and fills them.
    async fn fill(&self, node: &Node, origin: Origin, new: &[NodeFile]) -> Result<()> {
        let what = format!("create {}", node.name);
        let template = match origin {
            Origin::Empty => None,
            Origin::Template => {
                let template = lock(&self.template).clone();
                Some(template.ok_or_else(|| failed(&what, "no template was prepared"))?)
            }
        };
        let (folders, account, mode) = (node.folders.clone(), self.ground.account, self.ground.open_mode());
        blocking(what.clone(), move || {
            folders::make_folder(&folders.root, mode).failed(&what)?;
            folders::make_folder(&folders.private, 0o700).failed(&what)?;
            account.take_folder(&folders.private).failed(&what)?;
            if let Some(template) = template {
                let copied = copy::copy_tree(&template.data, &folders.data, &account).failed(&what)?;
                let changed = || failed(&what, "the template changed while it was copied").hinted("try again");
                return if copied == template.size { Ok(()) } else { Err(changed()) };
            }
            folders::make_folder(&folders.data, 0o700).failed(&what)?;
            account.take_folder(&folders.data).failed(&what)
        })
        .await?;
        files::put(node, &self.ground.account, new).await
    }

    /// Moves a node's folder aside; it is deleted at the end of the lab, or when too many wait for that.
    fn throw_away(&self, node: &Node) -> Result<()> {
        if !node.folders.root.exists() {
            return Ok(());
        }
        let trash = self.lab.join("trash").join(format!("{}-{:08x}", node.name, fastrand::u32(..)));
        std::fs::rename(&node.folders.root, &trash).failed(format!("destroy {}", node.name))?;
        let mut waiting = lock(&self.trash);
        waiting.push_back(trash);
        if waiting.len() > TRASH_COUNT
            && let Some(oldest) = waiting.pop_front()
        {
            tokio::task::spawn_blocking(move || {
                if let Err(error) = folders::remove_tree(&oldest) {
                    tracing::debug!(%error, "left for the end of the lab");
                }
            });
        }
        Ok(())
    }

    fn forget(&self, node: &NodeName) {
        if let Some(gone) = lock(&self.nodes).remove(node) {
            self.ground.give_back_port(gone.address().port());
        }
    }
}

impl Runtime for ProcessRuntime {
    fn kind(&self) -> &'static str {
        "process"
    }

    /// Dropping the runtime kills nothing any more.
    async fn free_bytes(&self) -> Option<u64> {
        super::free_bytes(&self.lab).ok()
    }

    fn keep(&self) {
        self.kept.store(true, Ordering::Relaxed);
    }

    fn postgres(&self) -> String {
        self.ground.programs.version().to_owned()
    }

    async fn prepare(&self, template: &Template, progress: &Progress) -> Result<()> {
        let ready = template::prepare(&self.ground, template, progress).await?;
        *lock(&self.template) = Some(ready);
        Ok(())
    }

    async fn create(&self, node: &NodeName, origin: Origin, files: &[NodeFile]) -> Result<()> {
        let new = self.enter(node)?;
        let filled = self.fill(&new, origin, files).await;
        if filled.is_err() {
            self.forget(node);
            if let Err(error) = self.throw_away(&new) {
                tracing::warn!(%error, "half a node stays until the end of the lab");
            }
        }
        filled
    }

    async fn put(&self, node: &NodeName, files: &[NodeFile]) -> Result<()> {
        files::put(&*self.node(node)?, &self.ground.account, files).await
    }

    async fn read(&self, node: &NodeName, place: &Place) -> Result<Option<String>> {
        files::read(&*self.node(node)?, place).await
    }

    async fn run(&self, node: &NodeName, job: &Job) -> Result<JobOutput> {
        let (here, account) = (self.node(node)?, &self.ground.account);
        files::put(&here, account, &job.before).await?;
        let done = here.run(&self.ground, job).await?;
        if done.code == Some(0) {
            files::put(&here, account, &job.after).await?;
        }
        Ok(done)
    }

    async fn empty(&self, node: &NodeName) -> Result<()> {
        let node = self.node(node)?;
        node.empty(&self.ground.account).await
    }

    async fn start(&self, node: &NodeName) -> Result<()> {
        self.node(node)?.start(&self.ground, &self.events).await
    }

    async fn is_up(&self, node: &NodeName) -> Result<bool> {
        Ok(self.node(node)?.is_up())
    }

    async fn stop(&self, node: &NodeName, limit: Duration) -> Result<()> {
        self.node(node)?.stop(limit).await
    }

    async fn kill(&self, node: &NodeName) -> Result<()> {
        self.node(node)?.kill().await
    }

    async fn freeze(&self, node: &NodeName) -> Result<()> {
        self.node(node)?.freeze(&self.events).await
    }

    async fn thaw(&self, node: &NodeName) -> Result<()> {
        self.node(node)?.thaw(&self.events).await
    }

    async fn destroy(&self, node: &NodeName) -> Result<()> {
        let Ok(found) = self.node(node) else { return Ok(()) };
        let _at_rest = found.lay_to_rest().await?;
        self.throw_away(&found)?;
        self.forget(node);
        Ok(())
    }

    async fn destroy_all(&self) -> Result<()> {
        let nodes: Vec<Arc<Node>> = lock(&self.nodes).values().cloned().collect();
        let rested: Result<Vec<_>> = join_all(nodes.iter().map(|node| node.lay_to_rest())).await.into_iter().collect();
        let _at_rest = rested?;
        lock(&self.nodes).clear();
        let lab = self.lab.clone();
        blocking("remove the lab's folder", move || clean::remove_lab_folder(&lab)).await
    }

    async fn control_address(&self, node: &NodeName) -> Result<SocketAddr> {
        Ok(self.node(node)?.address())
    }

    async fn peer_address(&self, node: &NodeName) -> Result<Dialled> {
        let node = self.node(node)?;
        Ok(node.socket().map_or_else(|| node.address().into(), Dialled::File))
    }

    async fn relay_host(&self) -> Result<(SocketAddr, String)> {
        Ok(((Ipv4Addr::LOCALHOST, 0).into(), Ipv4Addr::LOCALHOST.to_string()))
    }

    async fn direct_address(&self, node: &NodeName) -> Result<(String, u16)> {
        let address = self.control_address(node).await?;
        Ok((address.ip().to_string(), address.port()))
    }

    fn path(&self, node: &NodeName, place: &Place) -> String {
        let folders = NodeFolders::below(&self.lab, node);
        folders.place(place).unwrap_or(folders.root).to_string_lossy().into_owned()
    }

    fn events(&self) -> Option<mpsc::Receiver<RuntimeEvent>> {
        lock(&self.receiver).take()
    }
}

/// Only what can't wait: no server outlives its lab unnoticed. The folder stays for `clean`.
impl Drop for ProcessRuntime {
    fn drop(&mut self) {
        if self.kept.load(Ordering::Relaxed) {
            return;
        }
        for node in lock(&self.nodes).values() {
            tree::kill(&node.folders.data, DROP_LIMIT);
            tree::release_shared_memory(&node.folders.data);
        }
    }
}

/// Locks for a moment; what a panicking thread left is whole, because nothing here is changed in two steps.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An error with its cause made safe for a terminal.
fn failed(what: impl Into<String>, why: impl Display) -> RuntimeError {
    RuntimeError { what: what.into(), why: log::safe_text(why.to_string().trim()), hint: None }
}

/// Adds the next step for a person to an error.
trait Hinted {
    /// The same error with a hint.
    fn hinted(self, hint: impl Into<String>) -> Self;
}

impl Hinted for RuntimeError {
    fn hinted(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

/// Turns errors of the system into ours.
trait Failed<T> {
    /// Says which operation failed.
    fn failed(self, what: impl Into<String>) -> Result<T>;
}

impl<T, E: Display> Failed<T> for std::result::Result<T, E> {
    fn failed(self, what: impl Into<String>) -> Result<T> {
        self.map_err(|error| failed(what, error))
    }
}

/// Does work that waits for files or processes on a thread of its own.
async fn blocking<T: Send + 'static>(
    what: impl Into<String>,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.failed(what)?
}

//! Which containers are this lab's nodes, and which of them run a job just now. Shared by the verbs and the watch.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::held::Held;
use crate::model::NodeName;
use crate::runtime::ports::Ports;
use crate::runtime::{NodeFile, Result};

/// After a job has ended, its last event comes within this; without it the engine's stream is broken.
const LAST_EVENT_LIMIT: Duration = Duration::from_secs(2);

/// A node's container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    /// The container's exact id.
    pub(super) id: String,
    /// The port on 127.0.0.1, the same for its whole life.
    pub(super) port: u16,
}

#[derive(Debug, Default)]
struct Inner {
    nodes: HashMap<NodeName, Node>,
    /// Their ports, also of those that are just being made.
    ports: Ports,
    /// The first files of nodes that have not been started yet.
    first_files: HashMap<NodeName, Vec<NodeFile>>,
    /// Nodes whose containers are held.
    held: HashMap<NodeName, Arc<Held>>,
    /// Nodes whose containers were told to be held, and may not have taken notice yet.
    told_to_hold: HashSet<NodeName>,
    /// Containers that run a job, with whom to tell when it has ended. A job whose verb was given up stays here until the
    /// engine tells its end.
    jobs: HashMap<String, oneshot::Sender<()>>,
}

/// The lab's nodes.
#[derive(Clone, Debug, Default)]
pub(super) struct Nodes(Arc<Mutex<Inner>>);

/// What to do with something the engine tells of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// It is the node's state.
    Tell,
    /// It belongs to a job, or to a container that isn't a node any more.
    KeepBack,
}

impl Nodes {
    /// The lock is held for a look or a change only; after a panic elsewhere the table is still whole.
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The container of a node.
    pub(super) fn get(&self, name: &NodeName) -> Option<Node> {
        self.inner().nodes.get(name).cloned()
    }

    /// Takes a node in.
    pub(super) fn insert(&self, name: NodeName, node: Node) {
        let mut inner = self.inner();
        inner.ports.keep(node.port);
        inner.nodes.insert(name, node);
    }

    /// Claims a port for a node that is going to be made.
    pub(super) fn claim_port(&self) -> Result<u16> {
        self.inner().ports.claim()
    }

    /// The node of that port came to nothing.
    pub(super) fn release_port(&self, port: u16) {
        self.inner().ports.give_back(port);
    }

    /// Keeps a node's first files until its first start.
    pub(super) fn keep_files(&self, name: NodeName, files: Vec<NodeFile>) {
        self.inner().first_files.insert(name, files);
    }

    /// Adds to the first files of a node that has not been started yet; whether it is one.
    pub(super) fn add_files(&self, name: &NodeName, files: &[NodeFile]) -> bool {
        let mut inner = self.inner();
        let kept = inner.first_files.get_mut(name);
        kept.map(|kept| kept.extend_from_slice(files)).is_some()
    }

    /// The first files that a node still lacks.
    pub(super) fn take_files(&self, name: &NodeName) -> Option<Vec<NodeFile>> {
        self.inner().first_files.remove(name)
    }

    /// Its container is held from now on.
    pub(super) fn hold(&self, name: NodeName, held: Held) {
        self.inner().held.insert(name, Arc::new(held));
    }

    /// How its container is held, if it is: one that went down isn't any more.
    pub(super) fn held(&self, name: &NodeName) -> Option<Arc<Held>> {
        let mut inner = self.inner();
        inner.held.retain(|_, held| !held.is_gone());
        inner.held.get(name).cloned()
    }

    /// Its container isn't held any more.
    pub(super) fn let_go(&self, name: &NodeName) {
        self.inner().held.remove(name);
    }

    /// Its container is told to be held when it is started.
    pub(super) fn tell_to_hold(&self, name: &NodeName) {
        self.inner().told_to_hold.insert(name.clone());
    }

    /// Its container isn't told any more; whether it may have been till now.
    pub(super) fn untell_to_hold(&self, name: &NodeName) -> bool {
        self.inner().told_to_hold.remove(name)
    }

    /// Forgets a node.
    pub(super) fn remove(&self, name: &NodeName) -> Option<Node> {
        let mut inner = self.inner();
        inner.held.remove(name);
        inner.told_to_hold.remove(name);
        inner.first_files.remove(name);
        let node = inner.nodes.remove(name)?;
        inner.ports.give_back(node.port);
        Some(node)
    }

    /// Forgets all.
    pub(super) fn clear(&self) {
        let mut inner = self.inner();
        inner.nodes.clear();
        inner.held.clear();
        inner.told_to_hold.clear();
        inner.ports.clear();
        inner.first_files.clear();
    }

    /// The containers of all nodes.
    pub(super) fn ids(&self) -> Vec<String> {
        self.inner().nodes.values().map(|node| node.id.clone()).collect()
    }

    /// Keeps back what the engine tells of this node until its job has ended.
    pub(super) fn begin_job(&self, name: &NodeName) -> Quiet {
        let (tell, ended) = oneshot::channel();
        let mut inner = self.inner();
        let id = inner.nodes.get(name).map(|node| node.id.clone()).unwrap_or_default();
        inner.jobs.insert(id, tell);
        Quiet(ended)
    }

    /// Whether a job runs in this container, and no server.
    pub(super) fn runs_job(&self, id: &str) -> bool {
        self.inner().jobs.contains_key(id)
    }

    /// The job couldn't begin.
    pub(super) fn forget_job(&self, id: &str) {
        self.inner().jobs.remove(id);
    }

    /// The event stream broke: ends that nobody waits for any more may have been missed.
    pub(super) fn forget_given_up_jobs(&self) {
        self.inner().jobs.retain(|_, tell| !tell.is_closed());
    }

    /// Judges an action of the engine's event stream.
    pub(super) fn hear(&self, name: &NodeName, id: &str, action: &str) -> Heard {
        let mut inner = self.inner();
        if action == "die"
            && let Some(tell) = inner.jobs.remove(id)
        {
            // The job's verb may have been given up.
            let _ = tell.send(());
            return Heard::KeepBack;
        }
        if inner.jobs.contains_key(id) {
            return Heard::KeepBack;
        }
        if inner.nodes.get(name).is_some_and(|node| node.id == id) { Heard::Tell } else { Heard::KeepBack }
    }
}

/// A job's end, as the engine tells it.
#[derive(Debug)]
pub(super) struct Quiet(oneshot::Receiver<()>);

impl Quiet {
    /// Waits until the engine has told the job's end, so that this isn't taken for the server's.
    pub(super) async fn ended(self) {
        // When the stream is broken the watch tells a fresh state later.
        let _ = tokio::time::timeout(LAST_EVENT_LIMIT, self.0).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one() -> (Nodes, NodeName) {
        let (nodes, name) = (Nodes::default(), "p".parse::<NodeName>().expect("a name"));
        nodes.insert(name.clone(), Node { id: "c1".into(), port: 1 });
        (nodes, name)
    }

    #[test]
    fn a_container_of_yesterday_is_not_heard() {
        let (nodes, name) = one();
        assert_eq!(nodes.hear(&name, "c1", "die"), Heard::Tell);
        assert_eq!(nodes.hear(&name, "c0", "destroy"), Heard::KeepBack);
        nodes.remove(&name);
        assert_eq!(nodes.hear(&name, "c1", "die"), Heard::KeepBack);
    }

    #[tokio::test]
    async fn a_job_is_not_the_server() {
        let (nodes, name) = one();
        let quiet = nodes.begin_job(&name);
        assert_eq!(nodes.hear(&name, "c1", "start"), Heard::KeepBack);
        assert_eq!(nodes.hear(&name, "c1", "die"), Heard::KeepBack);
        quiet.ended().await;
        assert_eq!(nodes.hear(&name, "c1", "start"), Heard::Tell);
        drop(nodes.begin_job(&name));
        assert_eq!(nodes.hear(&name, "c1", "start"), Heard::KeepBack);
        nodes.forget_given_up_jobs();
        assert_eq!(nodes.hear(&name, "c1", "die"), Heard::Tell);
    }
}

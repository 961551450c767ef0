//! Where nodes live: containers or processes. Node-sized verbs only; knows nothing of clusters, roles or replication.
//!
//! A node is one PostgreSQL data directory that can be filled, started, stopped, frozen and thrown away. The runtime
//! chooses paths, ports and users; the caller brings file contents.

use std::fmt::Debug;
use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::model::NodeName;
use crate::model::cluster::{LogLine, NodeState};
use crate::relay::Dialled;

pub mod docker;
pub mod owner;
pub mod ports;
pub mod process;
pub mod versions;

/// A file to lay into a node before it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeFile {
    /// Where it goes.
    pub place: Place,
    /// Its whole text.
    pub text: String,
}

/// Where a node's file goes; the runtime knows the real path (`Runtime::path`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Inside the data directory, e.g. `standby.signal`.
    Data(String),
    /// Beside the data directory, readable by the server's user only (mode 0600), e.g. `passfile`.
    Private(String),
}

/// How the cluster template is made; its hash is the cache key, together with the server's version and the recipe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// Arguments for initdb beside `-D`, `-U postgres` and `--pwfile`-free scram set-up, e.g. `--wal-segsize=1`.
    pub initdb: Vec<String>,
    /// Lines appended to postgresql.conf.
    pub conf: String,
    /// The whole of pg_hba.conf.
    pub hba: String,
    /// SQL run once in database `postgres` by a temporary server reached through its private socket (local trust while
    /// the template is made): creates roles and tables. No secrets: passwords are set per lab, at the first start.
    pub sql: String,
}

/// What a data directory begins as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A copy of the template (same system identifier as all other copies).
    Template,
    /// Empty: to be filled by `run` (pg_basebackup, initdb).
    Empty,
}

/// A PostgreSQL program to run once against a node that isn't running.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Job {
    /// E.g. `pg_basebackup`. `{data}` and `{private}` in the arguments stand for the node's folders.
    pub program: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Environment, e.g. PGPASSFILE; placeholders as in `args`. Never a password.
    pub env: Vec<(String, String)>,
    /// After this long it is killed and the job fails.
    pub limit: Duration,
    /// Files that are put into the node right before it runs.
    pub before: Vec<NodeFile>,
    /// Files that are put into the node when it has succeeded.
    pub after: Vec<NodeFile>,
    /// It fills a data directory from nothing: `{data}` is an empty one beside the node's, which takes that one's place when it has
    /// succeeded and goes when it hasn't. So a job that fails costs nothing.
    pub anew: bool,
    /// What it says matters only where it fails: else it needn't be fetched.
    pub silent: bool,
}

/// What a job left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobOutput {
    /// Exit code; None when a signal ended it.
    pub code: Option<i64>,
    /// Standard output and error together, made safe for a terminal; may be empty where a silent job succeeded.
    pub output: String,
}

/// Something that happened to a node by itself or by us, or to the engine. Sent in order, never dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuntimeEvent {
    /// A node's container or process tree changed state.
    State(NodeName, NodeState),
    /// Lines of a node's server log, escaped already; bursts come in batches and may be thinned (then a line says how many).
    Log(NodeName, Vec<LogLine>),
    /// Another program has the port where a node listened (the first): it listens on another from now on.
    Moved(NodeName, u16, u16),
    /// The engine stopped answering (why), or answers again (None).
    Engine(Option<String>),
}

/// What went wrong in a runtime: the operation, the node, and why; `hint` names the next step for a person.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{what}: {why}")]
pub struct RuntimeError {
    /// The operation and its subject: "start s1".
    pub what: String,
    /// The cause, made safe for a terminal.
    pub why: String,
    /// The command or change that mends it, if one is known.
    pub hint: Option<String>,
}

/// Bytes that can be written below `path` (or below its nearest parent that exists).
pub fn free_bytes(path: &Path) -> std::io::Result<u64> {
    let there = path.ancestors().find(|p| p.exists()).unwrap_or(Path::new("/"));
    let fs = rustix::fs::statvfs(there)?;
    Ok(fs.f_bavail * fs.f_frsize)
}

/// Result of a runtime's verbs.
pub type Result<T> = std::result::Result<T, RuntimeError>;

/// A phase of slow work, told while it goes on: "making the template: initdb".
pub type Progress = mpsc::UnboundedSender<String>;

/// Where nodes live. All verbs are idempotent where that makes sense (destroying what is gone is fine), and act only on
/// what carries this lab's own id.
pub trait Runtime: Debug + Send + Sync + 'static {
    /// "docker" or "process".
    fn kind(&self) -> &'static str;
    /// The server's version, "17.11", known after `prepare`.
    fn postgres(&self) -> String;
    /// Makes sure that the template exists in the cache (only once per version, settings and recipe).
    fn prepare(&self, template: &Template, progress: &Progress) -> impl Future<Output = Result<()>> + Send;
    /// Makes a node with these files in it; doesn't start it.
    fn create(&self, node: &NodeName, origin: Origin, files: &[NodeFile]) -> impl Future<Output = Result<()>> + Send;
    /// Adds or replaces files; the node may be running or not.
    fn put(&self, node: &NodeName, files: &[NodeFile]) -> impl Future<Output = Result<()>> + Send;
    /// Reads a file of a node; None when it isn't there.
    fn read(&self, node: &NodeName, place: &Place) -> impl Future<Output = Result<Option<String>>> + Send;
    /// Runs a PostgreSQL program once while the node is not running.
    fn run(&self, node: &NodeName, job: &Job) -> impl Future<Output = Result<JobOutput>> + Send;
    /// Empties the data directory of a node that isn't running; the node keeps its name and its port.
    fn empty(&self, node: &NodeName) -> impl Future<Output = Result<()>> + Send;
    /// Starts the server; returns when the process is there (not when it accepts connections).
    fn start(&self, node: &NodeName) -> impl Future<Output = Result<()>> + Send;
    /// Puts these files into a node that isn't running and starts its server for a moment: it will be stopped, worked on by `run` and
    /// started again soon, and a runtime may keep ready what that needs.
    fn start_to_rework(&self, node: &NodeName, files: &[NodeFile]) -> impl Future<Output = Result<()>> + Send {
        async move {
            self.put(node, files).await?;
            self.start(node).await
        }
    }
    /// Whether the node's processes are there (frozen ones too).
    fn is_up(&self, node: &NodeName) -> impl Future<Output = Result<bool>> + Send;
    /// Fast shutdown (SIGINT), waiting up to `limit`, then it is an error (the server may still be stopping).
    fn stop(&self, node: &NodeName, limit: Duration) -> impl Future<Output = Result<()>> + Send;
    /// SIGKILL to everything of the node. Works on a frozen one too.
    fn kill(&self, node: &NodeName) -> impl Future<Output = Result<()>> + Send;
    /// Freezes every process of the node.
    fn freeze(&self, node: &NodeName) -> impl Future<Output = Result<()>> + Send;
    /// Undoes `freeze`.
    fn thaw(&self, node: &NodeName) -> impl Future<Output = Result<()>> + Send;
    /// Removes the node, running or not, with all its data.
    fn destroy(&self, node: &NodeName) -> impl Future<Output = Result<()>> + Send;
    /// Removes everything of this lab: nodes, network, folders. Templates and images stay.
    fn destroy_all(&self) -> impl Future<Output = Result<()>> + Send;
    /// Where the lab's own control connections go (a published port of 127.0.0.1; may change after a restart).
    fn control_address(&self, node: &NodeName) -> impl Future<Output = Result<SocketAddr>> + Send;
    /// Where a relay dials the node: its socket file where this machine has it, a container's own address where that can be
    /// reached, else the control address.
    fn peer_address(&self, node: &NodeName) -> impl Future<Output = Result<Dialled>> + Send;
    /// The address a relay listens on so that nodes reach it (port 0), and the host name or address nodes use for it.
    /// An error says why nodes can't reach this host: links are then direct.
    fn relay_host(&self) -> impl Future<Output = Result<(SocketAddr, String)>> + Send;
    /// Why nodes can't be frozen here, if so; known after `prepare`.
    fn no_freezer(&self) -> Option<String> {
        None
    }
    /// The command that lets nodes reach this host, where a firewall of it may be in their way.
    fn allow(&self) -> Option<&'static str> {
        None
    }
    /// The address and port other nodes use to reach this one directly, without a relay.
    fn direct_address(&self, node: &NodeName) -> impl Future<Output = Result<(String, u16)>> + Send;
    /// The real path of a place, as the server sees it (for passfile= in primary_conninfo).
    fn path(&self, node: &NodeName, place: &Place) -> String;
    /// Bytes free where the nodes' data is; None when that can't be seen.
    fn free_bytes(&self) -> impl Future<Output = Option<u64>> + Send;
    /// The nodes outlive this program from now on.
    fn keep(&self) {}
    /// Takes the stream of events; can be taken once.
    fn events(&self) -> Option<mpsc::Receiver<RuntimeEvent>>;
}

/// Who owns what a lab leaves on the machine: enough to tell a live lab from an orphan.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Owner {
    /// The lab's id: 8 lower-case hexadecimal digits.
    pub lab: String,
    /// Process id of the owning replab.
    pub pid: i32,
    /// That process's start time in clock ticks since boot (/proc/PID/stat, field 22), so that a reused pid isn't taken for it.
    pub pid_start: u64,
    /// The kernel's boot id.
    pub boot_id: String,
    /// The PID namespace that the process id is of (`pid:[4026531836]`); empty where it isn't known.
    #[serde(default)]
    pub pid_ns: String,
    /// The user's numeric id.
    pub uid: u32,
}

/// Something an earlier lab left behind (or a running lab has), found by label or folder.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Leftover {
    /// "container", "network", "volume", "template image", "image build", "folder", "process tree".
    pub kind: String,
    /// Id or path, exact: what `remove` acts on after inspecting it again.
    pub id: String,
    /// A name for people.
    pub name: String,
    /// Who made it, where that could be read.
    pub owner: Option<Owner>,
    /// Whether the owner still lives.
    pub alive: bool,
}

/// Where a runtime keeps what it needs on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dirs {
    /// Templates (cache).
    pub cache: PathBuf,
    /// Labs (state): one folder a lab.
    pub state: PathBuf,
}

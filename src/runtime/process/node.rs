//! One node: a data directory, its port, and the server in it while there is one. Knows no other nodes.

use std::fs::File;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStderr, Command};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::account::Account;
use super::events::Events;
use super::folders::NodeFolders;
use super::job::{self, Call};
use super::log::Cutter;
use super::tree::{self, Process};
use super::{Failed, Ground, Hinted, blocking, failed};
use crate::model::NodeName;
use crate::model::cluster::NodeState;
use crate::runtime::{Job, JobOutput, Result, ports};

/// How long signals that nobody can refuse may take on a busy machine.
const SIGNAL_LIMIT: Duration = Duration::from_secs(10);
/// How many ports are tried when others take them at the last moment.
const PORT_TRIES: usize = 3;
/// A server listens a few hundredths of a second after its start; on a busy machine later, and then its start is taken for a good one.
const LISTEN_LIMIT: Duration = Duration::from_secs(2);
/// How often is looked.
const LISTEN_POLL: Duration = Duration::from_millis(3);
/// The server's log file on disk ends here; the events go on.
const LOG_FILE_BYTES: u64 = 16 * 1024 * 1024;
/// A socket's whole path must be shorter than 108 bytes (Linux; 104 on others).
const SOCKET_PATH_BYTES: usize = 103;

/// A node of this lab.
#[derive(Debug)]
pub struct Node {
    /// Its name.
    pub name: NodeName,
    /// Where it is.
    pub folders: NodeFolders,
    port: AtomicU16,
    frozen: AtomicBool,
    server: Mutex<Option<Server>>,
    /// Held by what needs the node at rest: start, run, destroy.
    gate: tokio::sync::Mutex<()>,
}

/// A postmaster that was started; `ended` turns true when its end was noticed and told.
#[derive(Clone, Debug)]
struct Server {
    process: Process,
    ended: watch::Receiver<bool>,
}

impl Node {
    /// A node with nothing running in it.
    pub fn new(name: NodeName, folders: NodeFolders, port: u16) -> Self {
        let (port, frozen) = (AtomicU16::new(port), AtomicBool::new(false));
        Self { name, folders, port, frozen, server: Mutex::default(), gate: tokio::sync::Mutex::default() }
    }

    /// Where its server listens.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port.load(Ordering::Relaxed)).into()
    }

    /// The file where its server listens as well; None where a socket's name can't be that long.
    pub fn socket(&self) -> Option<PathBuf> {
        let file = self.folders.private.join(format!(".s.PGSQL.{}", self.address().port()));
        (file.as_os_str().len() < SOCKET_PATH_BYTES).then_some(file)
    }

    fn server(&self) -> Option<Server> {
        let server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        server.clone().filter(|server| !*server.ended.borrow())
    }

    /// Whether its server was started and its end was not noticed.
    pub fn is_up(&self) -> bool {
        self.server().is_some()
    }

    /// Starts the server; fine if it runs.
    pub async fn start(&self, ground: &Ground, events: &Events) -> Result<()> {
        let _at_rest = self.gate.lock().await;
        if self.server().is_some() {
            return Ok(());
        }
        self.clear_remains().await?;
        let what = format!("start {}", self.name);
        let (mut child, process) = self.launch(ground, events, &what).await?;
        let (tell, ended) = watch::channel(false);
        *self.server.lock().unwrap_or_else(PoisonError::into_inner) = Some(Server { process, ended });
        self.frozen.store(false, Ordering::Relaxed);
        events.state(&self.name, NodeState::Running).await;
        if let Some(stderr) = child.stderr.take() {
            let log = File::create(self.folders.root.join("log")).failed(&what)?;
            tokio::spawn(read_log(stderr, log, self.name.clone(), events.clone()));
        }
        tokio::spawn(wait_for_end(child, tell, self.name.clone(), events.clone()));
        Ok(())
    }

    /// Starts the program, on another port where its own was taken just before it listened.
    async fn launch(&self, ground: &Ground, events: &Events, what: &str) -> Result<(Child, Process)> {
        let mut left = PORT_TRIES;
        loop {
            self.settle_port(ground, events).await?;
            let mut child = self.spawn(ground).failed(what)?;
            let Some(process) = child.id().map(u32::cast_signed).and_then(Process::with_id) else {
                return Err(failed(what, "the server ended at once; its log tells why"));
            };
            left -= 1;
            if left == 0 || self.listens(&mut child).await || ports::is_free(self.address().port()) {
                return Ok((child, process));
            }
        }
    }

    /// Waits until the server listens or has ended; whether it hasn't ended.
    async fn listens(&self, child: &mut Child) -> bool {
        let (lock, began) = (self.folders.data.join("postmaster.pid"), Instant::now());
        while began.elapsed() < LISTEN_LIMIT {
            // Its sixth line says where it listens, and comes when it does.
            if std::fs::read_to_string(&lock).is_ok_and(|text| text.lines().nth(5).is_some_and(|at| !at.is_empty())) {
                return true;
            }
            if !matches!(child.try_wait(), Ok(None)) {
                return false;
            }
            sleep(LISTEN_POLL).await;
        }
        true
    }

    /// A server whose postmaster was killed by somebody else may have left children, and a lock that stands in the way.
    async fn clear_remains(&self) -> Result<()> {
        let (data, what) = (self.folders.data.clone(), format!("start {}", self.name));
        blocking("clear what an earlier server left", move || {
            if !tree::kill(&data, SIGNAL_LIMIT) {
                return Err(failed(what, "processes of an earlier server are still there"));
            }
            tree::clear_stale_lock(&data);
            Ok(())
        })
        .await
    }

    /// Keeps the port for the node's life, unless somebody took it while the server was away. That is told: who looked at the
    /// node with psql finds another program there now.
    async fn settle_port(&self, ground: &Ground, events: &Events) -> Result<()> {
        if ports::is_free(self.address().port()) {
            return Ok(());
        }
        let new = ground.take_port()?;
        let old = self.port.swap(new, Ordering::Relaxed);
        ground.give_back_port(old);
        events.moved(&self.name, old, new).await;
        Ok(())
    }

    fn spawn(&self, ground: &Ground) -> std::io::Result<Child> {
        let folders = &self.folders;
        let mut command = ground.account.command(&ground.programs.path("postgres"), &folders.data);
        let sockets = self.socket().map(|_| quoted(&folders.private)).unwrap_or_default();
        command.arg("-D").arg(&folders.data);
        for (name, value) in [
            ("port", self.address().port().to_string()),
            ("listen_addresses", "127.0.0.1".to_owned()),
            ("unix_socket_directories", sockets),
            ("logging_collector", "off".to_owned()),
            ("log_destination", "stderr".to_owned()),
        ] {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        // Not killed with the handle: `Drop` of the runtime decides, and a kept lab goes on.
        Command::from(command).kill_on_drop(false).spawn()
    }

    /// Fast shutdown; fine if nothing runs.
    pub async fn stop(&self, limit: Duration) -> Result<()> {
        let Some(mut server) = self.server() else { return Ok(()) };
        let what = format!("stop {}", self.name);
        if self.frozen.load(Ordering::Relaxed) {
            let error = failed(what, "it is frozen, and a frozen server can't stop");
            return Err(error.hinted(format!("thaw {name} first, or kill {name}", name = self.name)));
        }
        server.process.signal(Signal::INT);
        if ended(&mut server, limit).await {
            return Ok(());
        }
        let why = format!("not stopped after {} s (it may still be stopping)", limit.as_secs_f32());
        Err(failed(what, why).hinted(format!("kill {}", self.name)))
    }

    /// Kills everything that works in the data directory: the server, or a job.
    pub async fn kill(&self) -> Result<()> {
        let server = self.server();
        let (data, what) = (self.folders.data.clone(), format!("kill {}", self.name));
        let gone = blocking(&what, move || Ok(tree::kill(&data, SIGNAL_LIMIT))).await?;
        let noticed = match server {
            Some(mut server) => ended(&mut server, SIGNAL_LIMIT).await,
            None => true,
        };
        self.frozen.store(false, Ordering::Relaxed);
        if gone && noticed { Ok(()) } else { Err(failed(what, "some processes are still there")) }
    }

    /// Stops every process of the server by signal.
    pub async fn freeze(&self, events: &Events) -> Result<()> {
        let what = format!("freeze {}", self.name);
        self.running(&what)?;
        let data = self.folders.data.clone();
        let frozen = blocking(&what, move || Ok(tree::freeze(&data, SIGNAL_LIMIT))).await?;
        self.frozen.store(true, Ordering::Relaxed);
        if !frozen {
            return Err(failed(what, "not every process stopped").hinted(format!("thaw {}", self.name)));
        }
        events.state(&self.name, NodeState::Frozen).await;
        Ok(())
    }

    /// Lets every process of the server go on.
    pub async fn thaw(&self, events: &Events) -> Result<()> {
        let what = format!("thaw {}", self.name);
        self.running(&what)?;
        let data = self.folders.data.clone();
        if !blocking(&what, move || Ok(tree::thaw(&data, SIGNAL_LIMIT))).await? {
            return Err(failed(what, "some processes stay stopped"));
        }
        if self.frozen.swap(false, Ordering::Relaxed) {
            events.state(&self.name, NodeState::Running).await;
        }
        Ok(())
    }

    fn running(&self, what: &str) -> Result<Server> {
        self.server().ok_or_else(|| failed(what, "it isn't running").hinted(format!("start {}", self.name)))
    }

    /// Runs a program while no server runs.
    pub async fn run(&self, ground: &Ground, job: &Job) -> Result<JobOutput> {
        let _at_rest = self.gate.lock().await;
        if self.server().is_some() {
            let error = failed(format!("run {} on {}", job.program, self.name), "the server is running");
            return Err(error.hinted(format!("stop {}", self.name)));
        }
        self.clear_remains().await?;
        let target = if job.anew { self.data_beside(&ground.account).await? } else { self.folders.clone() };
        let fill_in = |text: &String| target.fill_in(text);
        let call = Call {
            program: &job.program,
            args: job.args.iter().map(fill_in).collect(),
            env: job.env.iter().map(|(key, value)| (key.clone(), fill_in(value))).collect(),
            folder: &self.folders.data,
            limit: job.limit,
        };
        let done = job::run(&ground.programs, &ground.account, call).await;
        if job.anew {
            self.replace_data(target.data, done.as_ref().is_ok_and(|done| done.code == Some(0))).await?;
        }
        done
    }

    /// The folders with an empty data directory beside the node's.
    async fn data_beside(&self, account: &Account) -> Result<NodeFolders> {
        let (what, account) = (format!("make room for {}", self.name), *account);
        let beside = NodeFolders { data: self.folders.root.join("data.new"), ..self.folders.clone() };
        let data = beside.data.clone();
        blocking(what.clone(), move || {
            super::folders::remove_tree(&data).failed(&what)?;
            super::folders::make_folder(&data, 0o700).failed(&what)?;
            account.take_folder(&data).failed(&what)
        })
        .await?;
        Ok(beside)
    }

    /// What was filled takes the data directory's place, or goes.
    async fn replace_data(&self, filled: PathBuf, good: bool) -> Result<()> {
        let what = format!("replace the data of {}", self.name);
        let (data, old) = (self.folders.data.clone(), self.folders.root.join("data.old"));
        blocking(what.clone(), move || {
            if !good {
                return super::folders::remove_tree(&filled).failed(&what);
            }
            super::folders::remove_tree(&old).failed(&what)?;
            std::fs::rename(&data, &old).and_then(|()| std::fs::rename(&filled, &data)).failed(&what)?;
            super::folders::remove_tree(&old).failed(&what)
        })
        .await
    }

    /// Empties the data directory, while no server runs.
    pub async fn empty(&self, account: &Account) -> Result<()> {
        let _at_rest = self.gate.lock().await;
        let what = format!("empty {}", self.name);
        if self.server().is_some() {
            return Err(failed(what, "the server is running").hinted(format!("stop {}", self.name)));
        }
        self.clear_remains().await?;
        let (data, account) = (self.folders.data.clone(), *account);
        blocking(what.clone(), move || {
            if data.exists() {
                super::folders::remove_tree(&data).failed(&what)?;
            }
            super::folders::make_folder(&data, 0o700).failed(&what)?;
            account.take_folder(&data).failed(&what)
        })
        .await
    }

    /// Kills what runs and waits until nobody uses the folders any more.
    pub async fn lay_to_rest(&self) -> Result<tokio::sync::MutexGuard<'_, ()>> {
        self.kill().await?;
        let guard = self.gate.lock().await;
        self.kill().await?;
        let data = self.folders.data.clone();
        blocking("release shared memory", move || {
            tree::release_shared_memory(&data);
            Ok(())
        })
        .await?;
        Ok(guard)
    }
}

/// A folder as an item of a server's list of folders, whatever its name has in it.
pub(super) fn quoted(folder: &Path) -> String {
    format!("\"{}\"", folder.display().to_string().replace('"', "\"\""))
}

/// Waits for the end of a server; false when the time is up first.
async fn ended(server: &mut Server, limit: Duration) -> bool {
    matches!(timeout(limit, server.ended.wait_for(|ended| *ended)).await, Ok(Ok(_)))
}

async fn wait_for_end(mut child: Child, tell: watch::Sender<bool>, name: NodeName, events: Events) {
    let code = child.wait().await.ok().and_then(job::exit_code);
    events.state(&name, NodeState::Exited(code)).await;
    tell.send_replace(true);
}

/// Reads the log as fast as the server writes it, so that it never waits for us.
async fn read_log(mut stderr: ChildStderr, mut file: File, name: NodeName, events: Events) {
    let (mut cutter, mut chunk, mut written) = (Cutter::default(), vec![0; 64 * 1024], 0);
    let mut thinned = 0;
    while let Ok(count @ 1..) = stderr.read(&mut chunk).await {
        if written < LOG_FILE_BYTES {
            written += count as u64;
            if let Err(error) = file.write_all(&chunk[..count]) {
                tracing::warn!(%error, node = %name, "the server's log can't be written to disk");
                written = LOG_FILE_BYTES;
            }
        }
        events.log(&name, cutter.push(&chunk[..count]), &mut thinned);
    }
    events.log(&name, cutter.end().into_iter().collect(), &mut thinned);
}

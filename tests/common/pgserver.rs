//! Private PostgreSQL servers for tests: made from the lab's own template, run as an unprivileged user, gone afterwards.
//! Without the programs the tests are skipped aloud, and fail where `CI` is true.

#![allow(dead_code, reason = "each test program uses another part")]

use std::fs;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use replab::pg::conf::{self, PASSFILE, Upstream};
use replab::pg::{Control, Passwords, Secret, TemplateKey};
use replab::runtime::{Job, NodeFile, Place};
use tempfile::TempDir;

/// How long a server may take to answer on a busy machine.
pub const START: Duration = Duration::from_secs(20);

/// Where the programs are: on PATH, or in the usual folders; the newest version wins.
pub fn programs() -> Option<PathBuf> {
    let on_path = std::env::var_os("PATH").into_iter().flat_map(|p| std::env::split_paths(&p).collect::<Vec<_>>());
    let mut usual: Vec<PathBuf> = ["/usr/lib/postgresql", "/usr/local/pgsql", "/opt/postgresql"]
        .iter()
        .flat_map(|root| fs::read_dir(root).into_iter().flatten().flatten())
        .flat_map(|entry| [entry.path().join("bin"), entry.path()])
        .collect();
    usual.sort();
    let real = |dir: PathBuf| fs::canonicalize(dir.join("initdb")).ok()?.parent().map(Path::to_path_buf);
    let complete = |dir: &PathBuf| ["postgres", "psql", "pg_ctl", "pg_rewind"].iter().all(|p| dir.join(p).is_file());
    on_path.chain(usual.into_iter().rev()).filter_map(real).find(complete)
}

/// The programs, or None after saying so; a failure on CI.
pub fn programs_or_skip() -> Option<PathBuf> {
    let found = programs();
    if found.is_none() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "no PostgreSQL programs on CI");
        eprintln!("SKIPPED: no PostgreSQL programs (initdb, postgres) found");
    }
    found
}

/// The unprivileged user to run as: (uid, gid) of `postgres` when we are root.
fn user() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    let line = passwd.lines().find(|l| l.starts_with("postgres:")).expect("root needs a user postgres to step down to");
    let fields: Vec<&str> = line.split(':').collect();
    Some((fields[2].parse().unwrap(), fields[3].parse().unwrap()))
}

fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C").current_dir("/");
    if let Some((uid, gid)) = user() {
        command.uid(uid).gid(gid);
    }
    command
}

fn run(mut command: Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {text}");
    text
}

fn own(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    if let Some((uid, gid)) = user() {
        chown(path, Some(uid), Some(gid)).unwrap();
    }
}

/// A free port of 127.0.0.1 (another program could take it before it is used; a test then fails).
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A folder with a template in it and the servers copied from it.
pub struct Lab {
    dir: TempDir,
    bin: PathBuf,
    _template: Arc<(TempDir, TemplateKey)>,
    pub key: TemplateKey,
    pub passwords: Passwords,
}

impl Lab {
    /// Makes a template (once a test program) and a lab with new passwords; None when there is no PostgreSQL.
    pub fn new() -> Option<Self> {
        // Weak: what a static holds is never dropped, and the folder would stay.
        static TEMPLATE: Mutex<Weak<(TempDir, TemplateKey)>> = Mutex::new(Weak::new());
        let bin = programs_or_skip()?;
        let template = {
            let mut kept = TEMPLATE.lock().unwrap_or_else(PoisonError::into_inner);
            kept.upgrade().unwrap_or_else(|| {
                let made = Arc::new(make_template(&bin));
                *kept = Arc::downgrade(&made);
                made
            })
        };
        let dir = folder();
        run({
            let mut cp = command(Path::new("cp"));
            cp.arg("-a").arg(template.0.path().join("data")).arg(dir.path().join("template"));
            cp
        });
        let key = template.1.clone();
        Some(Self { dir, bin, _template: template, key, passwords: Passwords::random().unwrap() })
    }

    fn node(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The path of a private file of a node.
    pub fn private(&self, name: &str, file: &str) -> String {
        self.node(name).join("private").join(file).to_str().unwrap().to_owned()
    }

    /// A primary that runs and has the lab's passwords, and its control connection.
    pub async fn primary(&self, name: &str, lines: &[&str]) -> Server {
        let own: Vec<_> = lines.iter().map(|line| line.parse().unwrap()).collect();
        let files = conf::primary_files(&name.parse().unwrap(), &self.passwords, &[], &own);
        let server = self.start(name, &files);
        server.control.until_ready(START).await.unwrap();
        let statements = self.passwords.statements().unwrap();
        server.control.settle_in(&statements, &self.passwords, "00000000", &[]).await.unwrap();
        server
    }

    /// A standby of what listens at `port` (a server or a relay).
    pub async fn standby(&self, name: &str, port: u16) -> Server {
        let upstream = Upstream { host: "127.0.0.1".to_owned(), port, slot: None };
        let passfile = self.node(name).join("private").join(PASSFILE);
        let files = conf::standby_files(
            &name.parse().unwrap(),
            &upstream,
            passfile.to_str().unwrap(),
            &self.passwords,
            &["wal_retrieve_retry_interval=20ms".parse().unwrap()],
            &[],
        );
        let server = self.start(name, &files);
        server.control.until_ready(START).await.unwrap();
        server
    }

    /// Fills a node's empty folder by a job, lays the files down, and doesn't start it.
    pub fn fill(&self, name: &str, job: &Job, before: &[NodeFile], after: &[NodeFile]) -> String {
        self.folders(name);
        self.lay(name, before);
        let output = self.job(name, job);
        self.lay(name, after);
        output
    }

    /// Runs a job in a node's folders.
    pub fn job(&self, name: &str, job: &Job) -> String {
        let place = |text: &str| {
            let node = self.node(name);
            text.replace("{data}", node.join("data").to_str().unwrap())
                .replace("{private}", node.join("private").to_str().unwrap())
        };
        let mut command = command(&self.bin.join(&job.program));
        command.args(job.args.iter().map(|arg| place(arg)));
        command.envs(job.env.iter().map(|(name, value)| (name, place(value))));
        run(command)
    }

    fn folders(&self, name: &str) {
        for part in ["", "private", "data"] {
            let path = self.node(name).join(part);
            fs::create_dir_all(&path).unwrap();
            own(&path, 0o700);
        }
    }

    fn lay(&self, name: &str, files: &[NodeFile]) {
        for file in files {
            let path = match &file.place {
                Place::Data(file) => self.node(name).join("data").join(file),
                Place::Private(file) => self.node(name).join("private").join(file),
            };
            fs::write(&path, &file.text).unwrap();
            own(&path, 0o600);
        }
    }

    fn start(&self, name: &str, files: &[NodeFile]) -> Server {
        self.folders(name);
        fs::remove_dir(self.node(name).join("data")).unwrap();
        run({
            let mut cp = command(Path::new("cp"));
            cp.arg("-a").arg(self.node("template")).arg(self.node(name).join("data"));
            cp
        });
        self.lay(name, files);
        self.launch(name)
    }

    /// Starts the server of a node whose data directory is ready.
    pub fn launch(&self, name: &str) -> Server {
        self.launch_at(name, free_port())
    }

    /// The same at a port of old.
    pub fn launch_at(&self, name: &str, port: u16) -> Server {
        self.launch_with(name, port, &[])
    }

    /// The same with settings on its command line.
    pub fn launch_with(&self, name: &str, port: u16, settings: &[&str]) -> Server {
        let log = fs::File::options().create(true).append(true).open(self.node(name).join("log")).unwrap();
        let mut postgres = command(&self.bin.join("postgres"));
        postgres.arg("-D").arg(self.node(name).join("data")).arg("-c").arg(format!("port={port}"));
        postgres.args(["-c", "listen_addresses=127.0.0.1", "-c"]);
        postgres.arg(format!("unix_socket_directories={}", self.node(name).join("private").display()));
        postgres.args(settings.iter().flat_map(|setting| ["-c", *setting]));
        postgres.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let child = postgres.spawn().unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let keys = vec![self.key.secret.clone(), self.passwords.control.clone()];
        Server {
            child,
            address,
            control: Control::new(address, keys),
            bin: self.bin.clone(),
            log: self.node(name).join("log"),
            password: self.passwords.control.clone(),
        }
    }
}

fn folder() -> TempDir {
    let dir = tempfile::Builder::new().prefix("replab-pg-test-").tempdir().unwrap();
    own(dir.path(), 0o700);
    dir
}

fn make_template(bin: &Path) -> (TempDir, TemplateKey) {
    let dir = folder();
    let key = TemplateKey::random().unwrap();
    let template = conf::template(&key);
    let data = dir.path().join("data");
    let mut initdb = command(&bin.join("initdb"));
    initdb.arg("-D").arg(&data).args(["-U", "postgres", "--auth=trust"]).args(&template.initdb);
    run(initdb);
    let path = data.join("postgresql.conf");
    let begun = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{begun}\n{}", template.conf)).unwrap();
    let sql = dir.path().join("template.sql");
    fs::write(&sql, &template.sql).unwrap();
    own(&sql, 0o600);
    let ctl = |verb: &str| {
        let mut ctl = command(&bin.join("pg_ctl"));
        let options = format!("-c listen_addresses= -c unix_socket_directories={}", dir.path().display());
        ctl.arg("-D").arg(&data).args(["-w", "-l"]).arg(dir.path().join("log")).args(["-o", &options, verb]);
        assert!(ctl.stdin(Stdio::null()).stdout(Stdio::null()).status().unwrap().success(), "pg_ctl {verb}");
    };
    ctl("start");
    let mut psql = command(&bin.join("psql"));
    psql.arg("-X").args(["-q", "-U", "postgres", "-d", "postgres", "-h"]).arg(dir.path()).arg("-f").arg(&sql);
    run(psql);
    ctl("stop");
    fs::write(data.join("pg_hba.conf"), &template.hba).unwrap();
    (dir, key)
}

/// A running server; killed when dropped.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
    pub control: Control,
    bin: PathBuf,
    log: PathBuf,
    password: Secret,
}

impl Server {
    /// What plain psql says, in database `lab`: the independent reader.
    pub fn psql(&self, sql: &str) -> String {
        let mut psql = command(&self.bin.join("psql"));
        psql.args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-U", "replab", "-d", "lab", "-h", "127.0.0.1"]);
        psql.arg("-p").arg(self.address.port().to_string()).env("PGPASSWORD", self.password.reveal());
        psql.env("PGOPTIONS", "-c synchronous_commit=local").args(["-c", sql]);
        run(psql).trim().to_owned()
    }

    /// A control connection of its own.
    pub fn fresh_control(&self) -> Control {
        self.control_at(self.address)
    }

    /// The same by another way, through a relay for one.
    pub fn control_at(&self, address: SocketAddr) -> Control {
        Control::new(address, vec![self.password.clone()])
    }

    pub fn program(&self, name: &str) -> Command {
        let mut program = command(&self.bin.join(name));
        program.env("PGPASSWORD", self.password.reveal());
        program
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What opens the server as its writer.
    pub fn login<'a>(&self, password: &'a Secret, level: &'a [(&'a str, &'a str)]) -> replab::pg::Login<'a> {
        replab::pg::Login {
            address: self.address,
            user: replab::pg::sql::WRITER_ROLE,
            password,
            database: replab::pg::sql::DATABASE,
            application: "replab test",
            settings: level,
        }
    }

    /// The postmaster gets this signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.child.id().cast_signed()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// A fast stop, waited for.
    pub fn stop(&mut self) {
        self.signal(rustix::process::Signal::INT);
        self.child.wait().unwrap();
    }

    /// SIGKILL to the postmaster. Its children notice and end; while one is left, no other server starts in its directory.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let data = self.log.with_file_name("data");
        let lives = |process: fs::DirEntry| fs::read_link(process.path().join("cwd")).is_ok_and(|cwd| cwd == data);
        let end = std::time::Instant::now() + START;
        while fs::read_dir("/proc").unwrap().flatten().any(lives) {
            assert!(std::time::Instant::now() < end, "children of the server in {} don't end", data.display());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // An immediate shutdown takes the children along; a server that is gone already is fine.
        let pid = rustix::process::Pid::from_raw(self.child.id().cast_signed()).unwrap();
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::QUIT);
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            let _ = writeln!(std::io::stderr(), "--- {}\n{}", self.log.display(), self.log());
        }
    }
}

/// Waits until `probe` gives something, looking every 5 ms; fails after [`START`].
pub async fn wait_for<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let end = std::time::Instant::now() + START;
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(std::time::Instant::now() < end, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

//! Servers as processes without replab: the limit (a copy of the template, and the start of prepared directories) and the way a
//! person goes by hand.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{Oops, Run, ms};

const LIMIT: Duration = Duration::from_mins(1);
/// How often a server is asked whether it is so far.
const ASK_EVERY: Duration = Duration::from_millis(2);

/// Where there is a file system in memory, it is measured on that: a disk's own moods differ by more than the sides do.
const IN_MEMORY: &str = "/dev/shm";

/// The folder of everything that is measured. Nothing is deleted in between, because that slows copying; all goes at the end.
pub fn folder() -> Run<TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("replab-bench-");
    let folder = builder.tempdir_in(IN_MEMORY).or_else(|_| builder.tempdir())?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711))?;
    Ok(folder)
}

/// A command as the user that servers run as: ours, or `postgres` when we are root.
pub fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C").current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if let Some((uid, gid)) = user() {
        command.uid(uid).gid(gid);
    }
    command
}

fn user() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let line = passwd.lines().find(|line| line.starts_with("postgres:"))?;
    let fields: Vec<&str> = line.split(':').collect();
    Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?))
}

/// A folder that the servers' user owns.
pub fn own_folder(path: &Path) -> Run<()> {
    fs::create_dir_all(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
    if let Some((uid, gid)) = user() {
        std::os::unix::fs::chown(path, Some(uid), Some(gid))?;
    }
    Ok(())
}

fn own_file(path: &Path, text: &str) -> Run<()> {
    fs::write(path, text)?;
    if let Some((uid, gid)) = user() {
        std::os::unix::fs::chown(path, Some(uid), Some(gid))?;
    }
    Ok(())
}

fn free_port() -> Run<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

async fn call(mut command: Command) -> Run<()> {
    let told = format!("{command:?}");
    let status = tokio::process::Command::from(std::mem::replace(&mut command, Command::new("true"))).status().await?;
    if status.success() { Ok(()) } else { Err(format!("{told}: {status}").into()) }
}

/// A server that was started; killed with all its children when dropped.
#[derive(Debug)]
pub struct Server {
    pid: i32,
    child: Option<Child>,
    port: u16,
}

impl Server {
    /// A server in a directory that is ready.
    fn start(bin: &Path, data: &Path, port: u16) -> Run<Self> {
        let mut postgres = command(&bin.join("postgres"));
        postgres.arg("-D").arg(data).args(options(data, port));
        let child = postgres.spawn()?;
        Ok(Self { pid: child.id().cast_signed(), child: Some(child), port })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(pid) = Pid::from_raw(self.pid) {
            // An immediate shutdown; a server that is gone already is fine.
            let _ = kill_process(pid, Signal::QUIT);
            if let Some(child) = &mut self.child {
                let _ = child.wait();
            }
        }
    }
}

fn options(data: &Path, port: u16) -> Vec<String> {
    let sockets = format!("unix_socket_directories={}", data.display());
    let settings = [format!("port={port}"), "listen_addresses=127.0.0.1".to_owned(), sockets];
    settings.into_iter().flat_map(|setting| ["-c".to_owned(), setting]).collect()
}

/// A superuser's session where everybody is trusted, once the server takes one.
pub async fn session(port: u16) -> Run<tokio_postgres::Client> {
    let end = Instant::now() + LIMIT;
    loop {
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(port).user("postgres").dbname("postgres");
        match config.connect(tokio_postgres::NoTls).await {
            Ok((client, connection)) => {
                tokio::spawn(connection);
                return Ok(client);
            }
            Err(why) if Instant::now() >= end => return Err(why.into()),
            Err(_) => tokio::time::sleep(ASK_EVERY).await,
        }
    }
}

/// Waits until so many standbys stream from the server behind this session.
pub async fn streaming(client: &tokio_postgres::Client, count: usize) -> Run<()> {
    let end = Instant::now() + LIMIT;
    let sql =
        "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND application_name <> 'pg_basebackup'";
    while client.query_one(sql, &[]).await?.try_get::<_, i64>(0)? < i64::try_from(count)? {
        if Instant::now() >= end {
            return Err("standbys don't stream".into());
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
    Ok(())
}

/// What can't be undercut: the time of `cp -a` of the template for every node at once, plus the time from the start of prepared
/// directories (no passwords, no slots, no relays) until all standbys stream. What is laid down in between isn't counted.
pub async fn limit(bin: &Path, template: &Path, folder: &Path, standbys: usize) -> Run<(f64, Vec<Server>)> {
    fs::create_dir_all(folder)?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o711))?;
    let data: Vec<PathBuf> = (0..=standbys).map(|node| folder.join(format!("n{node}"))).collect();
    let began = Instant::now();
    let copies = data.iter().map(|to| {
        let mut cp = Command::new("cp");
        cp.arg("-a").arg(template).arg(to);
        call(cp)
    });
    futures_util::future::try_join_all(copies).await?;
    let copying = ms(began);
    let ports = data.iter().map(|_| free_port()).collect::<Run<Vec<u16>>>()?;
    for (node, data) in data.iter().enumerate() {
        own_file(&data.join("pg_hba.conf"), "host all,replication all 127.0.0.1/32 trust\n")?;
        let from = format!(
            "primary_conninfo = 'host=127.0.0.1 port={} user=postgres application_name=n{node} sslmode=disable \
             gssencmode=disable'\nwal_retrieve_retry_interval = 20ms\n",
            ports[0]
        );
        if node > 0 {
            own_file(&data.join("postgresql.auto.conf"), &from)?;
            own_file(&data.join("standby.signal"), "")?;
        }
    }
    let began = Instant::now();
    let mut servers = vec![Server::start(bin, &data[0], ports[0])?];
    let client = session(ports[0]).await?;
    for (data, port) in data.iter().zip(&ports).skip(1) {
        servers.push(Server::start(bin, data, *port)?);
    }
    streaming(&client, standbys).await?;
    Ok((copying + ms(began), servers))
}

/// One after another, with nothing flushed to disk: initdb, `pg_ctl start`, and for each standby `pg_basebackup -R` and
/// `pg_ctl start`, each waited for.
pub async fn by_hand(bin: &Path, folder: &Path, standbys: usize) -> Run<(f64, Vec<Server>)> {
    own_folder(folder)?;
    let began = Instant::now();
    let data = folder.join("p");
    let mut initdb = command(&bin.join("initdb"));
    initdb.arg("-D").arg(&data).args(["-U", "postgres", "-A", "trust", "--no-sync"]);
    call(initdb).await?;
    let mut servers = vec![pg_ctl(bin, &data).await?];
    let client = session(servers[0].port).await?;
    for node in 1..=standbys {
        let data = folder.join(format!("s{node}"));
        let mut copy = command(&bin.join("pg_basebackup"));
        copy.arg("-D").arg(&data).args(["-R", "-c", "fast", "--no-sync", "-d"]);
        copy.arg(format!("host=127.0.0.1 port={} user=postgres application_name=s{node}", servers[0].port));
        call(copy).await?;
        servers.push(pg_ctl(bin, &data).await?);
        streaming(&client, node).await?;
    }
    Ok((ms(began), servers))
}

/// More senders than the default of 10, which ends at nine standbys.
async fn pg_ctl(bin: &Path, data: &Path) -> Run<Server> {
    let port = free_port()?;
    let mut start = command(&bin.join("pg_ctl"));
    start
        .arg("-D")
        .arg(data)
        .args(["-w", "-l"])
        .arg(data.join("log"))
        .arg("-o")
        .arg(format!("{} -c max_wal_senders=24", options(data, port).join(" ")));
    call({
        start.arg("start");
        start
    })
    .await?;
    let lock = fs::read_to_string(data.join("postmaster.pid"))?;
    let pid = lock.lines().next().and_then(|line| line.parse().ok()).ok_or_else(|| Oops::from("no postmaster.pid"))?;
    Ok(Server { pid, child: None, port })
}

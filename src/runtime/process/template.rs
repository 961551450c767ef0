//! Makes the cluster that nodes are copied from, once for each version, settings and recipe. Knows no nodes.
//!
//! It is made in a folder beside its place and then renamed, so it is there whole or not at all, and of two that make
//! the same one the first wins. Nothing is flushed to disk on the way: a template is trusted only within the boot that
//! made it, and only while its files count the same.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use super::copy::{Size, size_of};
use super::folders::{self, LabFile, MAKING, TEMPLATE_FILE, make_folder, write_whole};
use super::job::{self, Call};
use super::{Failed, Ground, blocking, failed, node, tree};
use crate::runtime::{Progress, Result, RuntimeError, Template, owner};

/// Goes up when the way of making changes.
const EDITION: u32 = 3;
/// Each step of the making.
const LIMIT: Duration = Duration::from_mins(2);
/// How long killed processes may take to go.
const KILL_LIMIT: Duration = Duration::from_secs(5);
/// How often the temporary server is looked at.
const POLL: Duration = Duration::from_millis(5);
/// A socket's whole path must be shorter than 108 bytes (Linux; 104 on others).
const SOCKET_PATH_BYTES: usize = 103;

/// What `template.json` holds. Different contents make it another template, whatever the folder's name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Recipe {
    edition: u32,
    version: String,
    initdb: Vec<String>,
    conf: String,
    hba: String,
    sql: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct TemplateFile {
    recipe: Recipe,
    boot_id: String,
    size: Size,
}

/// A template that nodes can be copied from.
#[derive(Clone, Debug)]
pub struct Ready {
    /// Its data directory.
    pub data: PathBuf,
    /// What a whole copy must hold.
    pub size: Size,
}

/// Makes sure that the template is there.
pub async fn prepare(ground: &Ground, template: &Template, progress: &Progress) -> Result<Ready> {
    let recipe = Recipe {
        edition: EDITION,
        version: ground.programs.version().to_owned(),
        initdb: template.initdb.clone(),
        conf: template.conf.clone(),
        hba: template.hba.clone(),
        sql: template.sql.clone(),
    };
    let text = serde_json::to_string(&recipe).failed("describe the template")?;
    let place = folders::templates(&ground.dirs).join(format!("{:016x}", fnv(text.as_bytes())));
    let (there, wanted) = (place.clone(), recipe.clone());
    if let Some(ready) = blocking("look for the template", move || Ok(look(&there, &wanted))).await? {
        return Ok(ready);
    }
    let making = Making::begin(ground)?;
    let tell = |step: &str| drop(progress.send(format!("making the template: {step}")));
    tell("initdb");
    making.initdb(&recipe).await?;
    let conf = format!("{}{}", few_workers(ground.programs.major()), recipe.conf);
    append_conf(&making.data.join("postgresql.conf"), &conf).failed("write the template's postgresql.conf")?;
    if !recipe.sql.trim().is_empty() {
        tell("roles and tables");
        making.run_sql(&recipe.sql).await?;
    }
    tell("putting it into the cache");
    making.finish(&place, recipe).await
}

/// From 18 on processes of their own read and write: three by default (19: two, and more as they are needed), in each of many small
/// servers.
fn few_workers(major: u32) -> &'static str {
    match major {
        ..18 => "",
        18 => "io_workers = 1\n",
        _ => "io_min_workers = 1\n",
    }
}

/// The template in this folder, if it is usable and made to this recipe.
fn look(place: &Path, wanted: &Recipe) -> Option<Ready> {
    let file = read(place).filter(|file| file.recipe == *wanted && file.boot_id == owner::boot_id())?;
    let data = place.join("data");
    size_of(&data).is_ok_and(|size| size == file.size).then_some(Ready { data, size: file.size })
}

fn read(place: &Path) -> Option<TemplateFile> {
    if !folders::is_own_folder(place) {
        return None;
    }
    serde_json::from_str(&fs::read_to_string(place.join(TEMPLATE_FILE)).ok()?).ok()
}

/// "PostgreSQL 15.18 template", if this folder is a template of ours.
pub fn name_of(place: &Path) -> Option<String> {
    read(place).map(|file| format!("template for PostgreSQL {}", file.recipe.version))
}

/// Takes away what a server makes anew as it needs it, a quarter of all files: where there is room (`_fsm`) and what everybody sees
/// (`_vm`; without one it looks for itself: manual, "Free Space Map", "Visibility Map"), and what every start throws away: the
/// relation cache, and what making it has counted.
fn remove_hints(data: &Path) -> std::io::Result<()> {
    let databases =
        fs::read_dir(data.join("base"))?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    for folder in databases.into_iter().chain([data.join("global")]) {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.ends_with("_fsm") || name.ends_with("_vm") || name == "pg_internal.init" {
                fs::remove_file(&path)?;
            }
        }
    }
    match fs::remove_file(data.join("pg_stat/pgstat.stat")) {
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn append_conf(path: &Path, lines: &str) -> std::io::Result<()> {
    fs::OpenOptions::new().append(true).open(path)?.write_all(format!("\n# replab\n{lines}\n").as_bytes())
}

/// FNV-1a: short, and the same for ever, as a cache key must be.
fn fnv(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

/// A template in the making; dropped before the end, it leaves no process and no folder.
struct Making<'a> {
    ground: &'a Ground,
    folder: PathBuf,
    data: PathBuf,
    sockets: PathBuf,
}

impl<'a> Making<'a> {
    fn begin(ground: &'a Ground) -> Result<Self> {
        let what = "make a folder for the template";
        let name = format!("{MAKING}{}-{:08x}", ground.owner.lab, fastrand::u32(..));
        let folder = folders::templates(&ground.dirs).join(name);
        make_folder(&folder, ground.open_mode()).failed(what)?;
        LabFile::write(&ground.owner, &folder)?;
        let making = Self { ground, data: folder.join("data"), sockets: folder.join("s"), folder };
        for path in [&making.data, &making.sockets] {
            make_folder(path, 0o700).failed(what)?;
            ground.account.take_folder(path).failed(what)?;
        }
        Ok(making)
    }

    async fn call(&self, program: &str, args: Vec<String>) -> Result<()> {
        let call = Call { program, args, env: Vec::new(), folder: &self.data, limit: LIMIT };
        let output = job::run(&self.ground.programs, &self.ground.account, call).await?;
        if output.code == Some(0) {
            return Ok(());
        }
        Err(failed(format!("make the template with {program}"), output.output))
    }

    async fn initdb(&self, recipe: &Recipe) -> Result<()> {
        let data = self.data.to_string_lossy().into_owned();
        let mut args: Vec<String> = ["-D", &data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C"]
            .map(str::to_owned)
            .into_iter()
            .chain(["--no-sync".to_owned(), "--no-instructions".to_owned()])
            .collect();
        // Rewinding needs checksums; from 18 on they are there unless one says otherwise.
        if self.ground.programs.major() < 18 {
            args.push("-k".to_owned());
        }
        args.extend(recipe.initdb.iter().cloned());
        self.call("initdb", args).await
    }

    /// Runs the SQL through a server that only its private socket leads to.
    async fn run_sql(&self, sql: &str) -> Result<()> {
        let what = "run the template's SQL";
        let short;
        let fits = self.sockets.as_os_str().len() + "/.s.PGSQL.5432".len() < SOCKET_PATH_BYTES;
        // A comma ends the name of a host.
        let sockets = if fits && !self.sockets.to_string_lossy().contains(',') {
            &self.sockets
        } else {
            short = tempfile::Builder::new().prefix("replab-").tempdir().failed(what)?;
            self.ground.account.take_folder(short.path()).failed(what)?;
            short.path()
        };
        let script = self.sockets.join("template.sql");
        write_whole(&script, sql.as_bytes(), 0o600, Some(&self.ground.account)).failed(what)?;
        let child = self.start(sockets).failed("start the template's server")?;
        let mut server = Temporary { child, data: &self.data };
        self.wait_until_ready(&mut server).await?;
        let args = ["-X", "-q", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", "postgres", "-p", "5432", "-f"];
        let mut args: Vec<String> = args.map(str::to_owned).to_vec();
        args.extend([script.to_string_lossy().into_owned(), "-h".into(), sockets.to_string_lossy().into_owned()]);
        self.call("psql", args).await?;
        self.stop(&mut server).await
    }

    fn start(&self, sockets: &Path) -> std::io::Result<Child> {
        let mut command = self.ground.account.command(&self.ground.programs.path("postgres"), &self.data);
        command.arg("-D").arg(&self.data);
        let sockets = format!("unix_socket_directories={}", node::quoted(sockets));
        let alone = ["listen_addresses=", "port=5432", "fsync=off", "synchronous_standby_names=", "archive_mode=off"];
        for setting in alone.into_iter().chain(["logging_collector=off", "log_destination=stderr", &sockets]) {
            command.args(["-c", setting]);
        }
        let log = fs::File::create(self.folder.join("log"))?;
        command.stdout(log.try_clone()?).stderr(log).spawn()
    }

    /// The server writes its state into line 8 of `postmaster.pid`; `pg_ctl` waits for it in the same way.
    async fn wait_until_ready(&self, server: &mut Temporary<'_>) -> Result<()> {
        let what = "start the template's server";
        let deadline = Instant::now() + LIMIT;
        while tree::lock_file(&self.data).is_none_or(|lock| lock.status != "ready") {
            if server.child.try_wait().failed(what)?.is_some() || Instant::now() >= deadline {
                return Err(self.with_log(what));
            }
            sleep(POLL).await;
        }
        Ok(())
    }

    async fn stop(&self, server: &mut Temporary<'_>) -> Result<()> {
        let what = "stop the template's server";
        let asked = tree::Process::with_id(server.child.id().cast_signed()).is_some_and(|one| one.signal(Signal::INT));
        let deadline = Instant::now() + LIMIT;
        loop {
            match server.child.try_wait().failed(what)? {
                Some(status) if status.success() && asked => return Ok(()),
                None if Instant::now() < deadline => sleep(POLL).await,
                _ => return Err(self.with_log(what)),
            }
        }
    }

    fn with_log(&self, what: &str) -> RuntimeError {
        let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        let last: Vec<&str> = log.lines().rev().take(8).collect();
        failed(what, last.into_iter().rev().collect::<Vec<_>>().join("\n"))
    }

    /// Lays down the rest and moves the template to its place; one that somebody else put there meanwhile is as good.
    async fn finish(&self, place: &Path, recipe: Recipe) -> Result<Ready> {
        let (made, place, data) = (self.folder.join("made"), place.to_owned(), self.data.clone());
        let (account, open_mode) = (self.ground.account, self.ground.open_mode());
        let old = self.folder.join("old");
        blocking("put the template into the cache", move || {
            let what = "put the template into the cache";
            write_whole(&data.join("pg_hba.conf"), recipe.hba.as_bytes(), 0o600, Some(&account)).failed(what)?;
            drop(fs::remove_file(data.join("postmaster.opts")));
            remove_hints(&data).failed(what)?;
            make_folder(&made, open_mode).failed(what)?;
            let file = TemplateFile { size: size_of(&data).failed(what)?, boot_id: owner::boot_id(), recipe };
            let text = serde_json::to_string_pretty(&file).failed(what)?;
            write_whole(&made.join(TEMPLATE_FILE), text.as_bytes(), 0o600, None).failed(what)?;
            fs::rename(&data, made.join("data")).failed(what)?;
            let ready = Ready { data: place.join("data"), size: file.size };
            if fs::rename(&made, &place).is_ok() {
                return Ok(ready);
            }
            if let Some(theirs) = look(&place, &file.recipe) {
                return Ok(theirs);
            }
            // What is there is damaged or from another boot: out of the way with it.
            fs::rename(&place, &old).failed(what)?;
            fs::rename(&made, &place).failed(what)?;
            Ok(ready)
        })
        .await
    }
}

impl Drop for Making<'_> {
    fn drop(&mut self) {
        tree::kill(&self.data, KILL_LIMIT);
        tree::release_shared_memory(&self.data);
        if let Err(error) = folders::remove_lab(&self.folder) {
            tracing::warn!(%error, folder = %self.folder.display(), "the template's temporary folder stays");
        }
    }
}

/// The temporary server; waited for in the end, so that no zombie stays.
struct Temporary<'a> {
    child: Child,
    data: &'a Path,
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) && tree::kill(self.data, KILL_LIMIT) {
            drop(self.child.wait());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_fnv_1a() {
        assert_eq!(fnv(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv(b"a"), 0xaf63_dc4c_8601_ec8c);
    }
}

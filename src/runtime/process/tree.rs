//! The processes that work in one data directory: finding, freezing, thawing and killing them. Blocking; knows no nodes.
//!
//! Every PostgreSQL process works in its data directory, so the working directory (compared by device and inode) tells
//! for sure whose it is, even when the postmaster is gone or the ids were used again. A signal goes out only after the
//! start time was compared once more, through a pidfd where the kernel has one.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::runtime::owner::Stat;

/// How often a state is looked at that the system can't be asked to report.
const POLL: Duration = Duration::from_millis(1);

/// One process, told apart from a later one with the same id by its start time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// The process id.
    pub pid: i32,
    /// Start time in clock ticks since boot; 0 where the system doesn't say.
    pub start: u64,
    parent: i32,
    state: char,
    name: String,
}

impl Process {
    /// The process with this id, if it lives.
    pub fn with_id(pid: i32) -> Option<Self> {
        if cfg!(target_os = "linux") { from_proc(pid) } else { from_ps().into_iter().find(|one| one.pid == pid) }
    }

    fn is_stopped(&self) -> bool {
        matches!(self.state, 'T' | 't')
    }

    /// Sends a signal if this is still the same process; false when it is gone or the signal was refused.
    pub fn signal(&self, signal: Signal) -> bool {
        let Some(pid) = Pid::from_raw(self.pid) else { return false };
        send(pid, self, signal)
    }
}

/// Sends through a pidfd: between the look and the signal the id can't be used again.
#[cfg(target_os = "linux")]
fn send(pid: Pid, process: &Process, signal: Signal) -> bool {
    use rustix::process::{PidfdFlags, pidfd_open, pidfd_send_signal};
    let handle = pidfd_open(pid, PidfdFlags::empty());
    if from_proc(process.pid).is_none_or(|now| now.start != process.start) {
        return false;
    }
    match handle {
        Ok(handle) => pidfd_send_signal(&handle, signal).is_ok(),
        Err(rustix::io::Errno::NOSYS) => kill_process(pid, signal).is_ok(),
        Err(_) => false,
    }
}

#[cfg(not(target_os = "linux"))]
fn send(pid: Pid, _process: &Process, signal: Signal) -> bool {
    kill_process(pid, signal).is_ok()
}

/// Everything that works in this data directory, and what those processes started; the postmaster comes first.
pub fn of(data: &Path) -> Vec<Process> {
    let everyone = if cfg!(target_os = "linux") { all_in_proc() } else { from_ps() };
    let mut inside: BTreeSet<i32> =
        everyone.iter().filter(|one| is_program(&one.name) && works_in(one.pid, data)).map(|one| one.pid).collect();
    loop {
        let more: Vec<i32> = everyone
            .iter()
            .filter(|one| inside.contains(&one.parent) && !inside.contains(&one.pid))
            .map(|one| one.pid)
            .collect();
        if more.is_empty() {
            break;
        }
        inside.extend(more);
    }
    let mut tree: Vec<Process> = everyone.into_iter().filter(|one| inside.contains(&one.pid)).collect();
    tree.sort_by_key(|one| (inside.contains(&one.parent), one.pid));
    tree
}

/// A person's shell may stand in a data directory too: only PostgreSQL's own programs count.
fn is_program(name: &str) -> bool {
    let name = name.rsplit('/').next().unwrap_or(name);
    name == "postgres" || name == "initdb" || name.starts_with("pg_")
}

fn works_in(pid: i32, data: &Path) -> bool {
    if !cfg!(target_os = "linux") {
        return lock_file(data).is_some_and(|lock| lock.pid == pid);
    }
    let (Ok(there), Ok(here)) = (fs::metadata(format!("/proc/{pid}/cwd")), fs::metadata(data)) else { return false };
    (there.dev(), there.ino()) == (here.dev(), here.ino())
}

fn all_in_proc() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let ids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    ids.filter_map(from_proc).collect()
}

fn from_proc(pid: i32) -> Option<Process> {
    let stat = Stat::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?;
    (!stat.is_dead()).then_some(Process {
        pid,
        start: stat.start,
        parent: stat.parent,
        state: stat.state,
        name: stat.name,
    })
}

/// Where there is no /proc: `ps`, which tells no start time that could be compared.
fn from_ps() -> Vec<Process> {
    let output = Command::new("ps").args(["-A", "-o", "pid=,ppid=,stat=,comm="]).output();
    let text = output.map(|out| String::from_utf8_lossy(&out.stdout).into_owned()).unwrap_or_default();
    let read = |line: &str| {
        let mut fields = line.split_whitespace();
        let (pid, parent) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        let state = fields.next()?.chars().next()?;
        (state != 'Z').then(|| Process { pid, start: 0, parent, state, name: fields.collect::<Vec<_>>().join(" ") })
    };
    text.lines().filter_map(read).collect()
}

/// Stops every process in the directory, the postmaster first, so that nothing new is forked. False when there is none,
/// or when some wouldn't stop in time.
pub fn freeze(data: &Path, limit: Duration) -> bool {
    let mut seen_any = false;
    until(limit, || {
        let tree = of(data);
        seen_any = !tree.is_empty();
        let moving: Vec<&Process> = tree.iter().filter(|one| !one.is_stopped()).collect();
        for one in &moving {
            one.signal(Signal::STOP);
        }
        moving.is_empty()
    }) && seen_any
}

/// Lets every process in the directory go on, the postmaster last. False when there is none, or some stay stopped.
pub fn thaw(data: &Path, limit: Duration) -> bool {
    let mut seen_any = false;
    until(limit, || {
        let tree = of(data);
        seen_any = !tree.is_empty();
        let stopped: Vec<&Process> = tree.iter().rev().filter(|one| one.is_stopped()).collect();
        for one in &stopped {
            one.signal(Signal::CONT);
        }
        stopped.is_empty()
    }) && seen_any
}

/// Kills every process in the directory: the postmaster is stopped first so that nobody is forked meanwhile and nobody
/// can tidy up. Also removes the shared memory that they had mapped. False when some were still there at the limit.
pub fn kill(data: &Path, limit: Duration) -> bool {
    let mut segments = BTreeSet::new();
    let first = of(data);
    if first.is_empty() {
        return true;
    }
    first[0].signal(Signal::STOP);
    let gone = until(limit, || {
        let tree = of(data);
        segments.extend(tree.iter().flat_map(|one| mapped_segments(one.pid)));
        for one in tree.iter().rev() {
            one.signal(Signal::KILL);
        }
        tree.is_empty()
    });
    if gone {
        for segment in segments {
            if let Err(error) = fs::remove_file(&segment) {
                tracing::debug!(%error, segment = %segment.display(), "shared memory was gone already");
            }
        }
    }
    gone
}

/// Tries until it works or the time is up; the last try is always after the limit.
fn until(limit: Duration, mut done: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        let late = Instant::now() >= deadline;
        if done() {
            return true;
        }
        if late {
            return false;
        }
        thread::sleep(POLL);
    }
}

/// Shared memory segments of PostgreSQL that this process has mapped. After SIGKILL nobody else removes them, unless a
/// server starts in the same directory.
fn mapped_segments(pid: i32) -> Vec<PathBuf> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let path = |line: &str| line.find("/dev/shm/PostgreSQL.").map(|at| PathBuf::from(line[at..].trim_end()));
    maps.lines().filter_map(path).filter(|path| path.parent() == Some(Path::new("/dev/shm"))).collect()
}

/// What `postmaster.pid` in a data directory says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockFile {
    /// Line 1: the postmaster (or a single-user backend, negative then in the file).
    pub pid: i32,
    /// Line 7: key and id of its small `SysV` segment.
    shared_memory: Option<(String, String)>,
    /// Line 8: starting, ready, standby, stopping.
    pub status: String,
}

/// Reads `postmaster.pid`; None when there is none.
pub fn lock_file(data: &Path) -> Option<LockFile> {
    let text = fs::read_to_string(data.join("postmaster.pid")).ok()?;
    let lines: Vec<&str> = text.lines().collect();
    let memory = lines.get(6).and_then(|line| line.split_whitespace().collect::<Vec<_>>().try_into().ok());
    Some(LockFile {
        pid: lines.first()?.trim().parse::<i32>().ok()?.abs(),
        shared_memory: memory.map(|[key, id]: [&str; 2]| (key.to_owned(), id.to_owned())),
        status: lines.get(7).map(|line| line.trim().to_owned()).unwrap_or_default(),
    })
}

/// Removes the small `SysV` segment of a killed server whose directory is about to go. It must be that very segment: same
/// key, same id, made by that postmaster, and nobody attached.
pub fn release_shared_memory(data: &Path) {
    let Some(LockFile { pid, shared_memory: Some((key, id)), .. }) = lock_file(data) else { return };
    let table = fs::read_to_string("/proc/sysvipc/shm").unwrap_or_default();
    let same = |line: &&str| {
        let row: Vec<&str> = line.split_whitespace().collect();
        let field = |at: usize| row.get(at).copied().unwrap_or_default();
        field(0) == key && field(1) == id && field(4) == pid.to_string() && field(6) == "0"
    };
    if table.lines().any(|line| same(&line)) {
        let removed = Command::new("ipcrm").args(["-m", &id]).output();
        tracing::debug!(?removed, id, "shared memory of a killed server");
    }
}

/// Removes a lock file that a killed server left, if its process id belongs to somebody else by now: PostgreSQL would
/// refuse to start. Call it only when nobody works in the directory.
pub fn clear_stale_lock(data: &Path) {
    let Some(lock) = lock_file(data) else { return };
    if Process::with_id(lock.pid).is_some()
        && of(data).is_empty()
        && let Err(error) = fs::remove_file(data.join("postmaster.pid"))
    {
        tracing::warn!(%error, "a stale postmaster.pid could not be removed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_postgres_programs_count() {
        for (name, counts) in [("postgres", true), ("pg_basebackup", true), ("bash", false), ("vim", false)] {
            assert_eq!(is_program(name), counts, "{name}");
        }
        let folder = tempfile::tempdir().expect("a folder");
        assert!(of(folder.path()).is_empty());
        assert!(kill(folder.path(), Duration::ZERO));
        assert!(!freeze(folder.path(), Duration::ZERO));
    }

    #[test]
    fn a_lock_file_is_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let text = "123\n/data\n1763906400\n5432\n/sock\n127.0.0.1\n  5432001    98304\nready   \n";
        fs::write(folder.path().join("postmaster.pid"), text).expect("written");
        let lock = lock_file(folder.path()).expect("read");
        assert_eq!((lock.pid, lock.status.as_str()), (123, "ready"));
        assert_eq!(lock.shared_memory, Some(("5432001".to_owned(), "98304".to_owned())));
    }

    #[test]
    fn a_signal_does_not_go_to_a_later_process() {
        let me = Process::with_id(std::process::id().cast_signed()).expect("this process");
        if cfg!(target_os = "linux") {
            assert!(!Process { start: me.start + 1, ..me }.signal(Signal::CONT));
        }
    }
}

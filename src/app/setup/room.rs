//! What a machine must have for a lab: room on the disk, folders that can be written to, limits that let servers run. Looks,
//! and makes nothing that stays.

use std::io::Write as _;
use std::path::Path;

use rustix::process::{Resource, getrlimit};

use crate::runtime::{Dirs, Result, RuntimeError, free_bytes};

const MIB: u64 = 1024 * 1024;
/// A lab of three nodes takes about 200 MB, and a busy writer more.
const LAB: u64 = 256 * MIB;
/// Below this no lab begins.
const LEAST: u64 = 512 * MIB;

/// What must be free for a lab whose writer is held below this floor.
pub fn needed(floor: u64) -> u64 {
    LEAST.max(if floor == 0 { 0 } else { floor + LAB })
}

/// Refuses a place without room, before anything is made there: also one where the writer would be held.
pub fn room(path: &Path, floor: u64) -> Result<()> {
    let Some(free) = free_bytes(path).ok().filter(|free| *free < needed(floor)) else { return Ok(()) };
    let mb = |bytes: u64| bytes / 1_000_000;
    let mut why = format!("only {} MB are free at {}", mb(free), path.display());
    let mut hint =
        format!("free at least {} MB there; replab clean --all removes old labs and templates", mb(needed(floor)));
    if free >= LEAST {
        why += &format!(", and the writer is held while less than {} MB are (--disk-floor)", mb(floor));
        hint += &format!("; or --disk-floor {}MB", (free - LAB) / 2 / MIB);
    }
    Err(RuntimeError { what: "make a lab".to_owned(), why, hint: Some(hint) })
}

/// Refuses folders that nothing can be written to.
pub fn writable(dirs: &Dirs) -> Result<()> {
    try_to_write(&dirs.cache, "XDG_CACHE_HOME")?;
    try_to_write(&dirs.state, "XDG_STATE_HOME")
}

/// Writes a file into a folder, or where it would be made, and removes it again.
pub fn try_to_write(folder: &Path, variable: &str) -> Result<()> {
    let there = folder.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let written = tempfile::Builder::new().prefix(".replab-").tempfile_in(there);
    let written = written.and_then(|mut file| file.write_all(b"tried\n").and_then(|()| file.flush()));
    written.map_err(|err| RuntimeError {
        what: format!("write to {}", folder.display()),
        // The file that was tried has a name of its own, which nobody knows.
        why: err.get_ref().and_then(|inner| inner.source()).map_or(err.to_string(), ToString::to_string),
        hint: Some(format!("make it writable, or name another folder: {variable}=DIR")),
    })
}

/// A limit of this process, and how to raise it.
struct Limit {
    resource: Resource,
    what: &'static str,
    least: u64,
    raise: &'static str,
}

/// Of open files replab itself needs most: connections, relays, logs. Servers inherit all of them.
const LIMITS: [Limit; 4] = [
    Limit { resource: Resource::Nofile, what: "open files", least: 256, raise: "ulimit -n 1024" },
    Limit { resource: Resource::Nproc, what: "processes of a user", least: 256, raise: "ulimit -u 4096" },
    Limit { resource: Resource::Fsize, what: "the bytes of a file", least: 256 * MIB, raise: "ulimit -f unlimited" },
    Limit { resource: Resource::As, what: "the bytes of memory", least: 2048 * MIB, raise: "ulimit -v unlimited" },
];

/// Refuses limits of this process that a lab can't live with; where its servers are containers the first alone matters.
pub fn limits(processes: bool) -> Result<()> {
    let ours = if processes { &LIMITS[..] } else { &LIMITS[..1] };
    let low = |limit: &&Limit| getrlimit(limit.resource).current.is_some_and(|now| now < limit.least);
    let Some(limit) = ours.iter().find(low) else { return Ok(()) };
    let now = getrlimit(limit.resource).current.unwrap_or_default();
    Err(RuntimeError {
        what: "make a lab".to_owned(),
        why: format!("the limit of {} is {now}, and a lab needs {}", limit.what, limit.least),
        hint: Some(format!("raise it before replab is started: {}", limit.raise)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_what_a_lab_takes_beside_the_floor() {
        assert_eq!((needed(0), needed(100 * MIB), needed(1024 * MIB)), (LEAST, LEAST, 1280 * MIB));
        let folder = tempfile::tempdir().expect("a folder");
        let free = free_bytes(folder.path()).expect("seen");
        assert!(room(folder.path(), 0).is_ok() && room(folder.path(), free.saturating_sub(2 * LAB)).is_ok());
        let why = room(folder.path(), free).expect_err("the writer would be held");
        assert!(why.why.contains("the writer is held while less than"), "{why}");
        assert!(why.hint.is_some_and(|hint| hint.contains("or --disk-floor ")), "with what mends it");
    }

    #[test]
    fn a_folder_is_really_written_to() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(try_to_write(&folder.path().join("not/there/yet"), "X").is_ok());
        assert_eq!(std::fs::read_dir(folder.path()).expect("read").count(), 0, "nothing stays");
        let file = folder.path().join("file");
        std::fs::write(&file, "").expect("written");
        let why = try_to_write(&file.join("below"), "XDG_STATE_HOME").expect_err("no folder");
        assert!(why.to_string().contains("file/below") && why.hint.is_some_and(|h| h.contains("XDG_STATE_HOME=DIR")));
    }
}

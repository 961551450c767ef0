//! What image builds that were killed left on the disk: their working folders, up to 1 GB each. Knows the recipe's names
//! for them; asks no engine.
//!
//! The recipe holds a lock for each image it makes, and so does all it starts: a folder whose lock is free has nobody any more.

use std::fs::{self, File, read_dir};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{FlockOperation, flock};
use rustix::process::geteuid;

use super::failure::plain;
use crate::runtime::{Leftover, Owner, Result};

/// What such a leftover is called.
pub const BUILD: &str = "image build";
/// How the folders begin: then comes the image, as the recipe writes it, a dot, and what `mktemp` made of its X's.
const BEGIN: &str = "replab-image.";
const RANDOM: usize = 8;
/// Where the recipe keeps its locks.
const LOCKS: &str = "/run/replab-image";
/// Where the recipe works unless TMPDIR says otherwise.
const USUAL: &str = "/var/tmp";

/// The folders of this user's builds that are over.
pub fn abandoned_builds() -> Vec<Leftover> {
    let mut named = vec![PathBuf::from(USUAL)];
    named.extend(std::env::var_os("TMPDIR").map(PathBuf::from).filter(|place| place.is_absolute()));
    let mut places: Vec<PathBuf> = named.iter().filter_map(|place| fs::canonicalize(place).ok()).collect();
    places.sort();
    places.dedup();
    let inside = places.into_iter().flat_map(|place| read_dir(place).into_iter().flatten().flatten());
    let folders = inside.map(|entry| entry.path()).filter(|folder| is_ours(folder));
    let over = folders.filter(|folder| matches!(lock_of(Path::new(LOCKS), folder), Ok(Lock::Free(_))));
    over.map(|folder| leftover(&folder)).collect()
}

fn leftover(folder: &Path) -> Leftover {
    let path = folder.to_string_lossy().into_owned();
    // No lab made it, and of its maker only the user is known.
    let (lab, boot_id, uid) = (String::new(), String::new(), geteuid().as_raw());
    let owner = Owner { lab, pid: 0, pid_start: 0, boot_id, pid_ns: String::new(), uid };
    Leftover { kind: BUILD.to_owned(), id: path.clone(), name: path, owner: Some(owner), alive: false }
}

/// Removes one, after a second look, while no build of that image can begin.
pub fn remove_build(left: &Leftover) -> Result<()> {
    let (folder, what) = (Path::new(&left.id), format!("remove {}", left.name));
    if fs::symlink_metadata(folder).is_err_and(|e| e.kind() == ErrorKind::NotFound) {
        return Ok(());
    }
    if !is_ours(folder) {
        return Err(plain(what, "it isn't an image build's folder, or not this user's"));
    }
    let failed = |e: io::Error| plain(&what, e.to_string());
    let Lock::Free(lock) = lock_of(Path::new(LOCKS), folder).map_err(failed)? else {
        return Err(plain(what, "a build of this image is under way"));
    };
    unmount_below(folder).map_err(failed)?;
    fs::remove_dir_all(folder).map_err(failed)?;
    drop(lock);
    Ok(())
}

/// A real folder of this user's that nobody else may write to, with such a name.
fn is_ours(folder: &Path) -> bool {
    image_of(folder).is_some()
        && fs::symlink_metadata(folder)
            .is_ok_and(|meta| meta.is_dir() && meta.uid() == geteuid().as_raw() && meta.mode() & 0o022 == 0)
}

/// The image that a folder was for, as the recipe writes it.
fn image_of(folder: &Path) -> Option<&str> {
    let (image, random) = folder.file_name()?.to_str()?.strip_prefix(BEGIN)?.rsplit_once('.')?;
    let plain = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
    (!image.is_empty() && plain(image) && random.len() == RANDOM && plain(random)).then_some(image)
}

/// The lock of a folder's image, as it was found.
enum Lock {
    /// No build of it can go on while this is held; nothing to hold where there never was a lock.
    Free(Option<File>),
    /// A build has it.
    Taken,
}

fn lock_of(locks: &Path, folder: &Path) -> io::Result<Lock> {
    let file = match File::open(locks.join(format!("{}.lock", image_of(folder).unwrap_or_default()))) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Lock::Free(None)),
        file => file?,
    };
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Lock::Free(Some(file))),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(Lock::Taken),
        Err(e) => Err(e.into()),
    }
}

/// A build may have been killed while file systems of this machine were mounted in its folder: nothing of them may go.
fn unmount_below(folder: &Path) -> io::Result<()> {
    for mounted in mounted_below(folder) {
        Command::new("umount").arg("-l").arg(mounted).status()?;
    }
    let left = mounted_below(folder);
    if left.is_empty() { Ok(()) } else { Err(io::Error::other(format!("{} is still mounted", left.join(", ")))) }
}

/// The innermost first.
fn mounted_below(folder: &Path) -> Vec<String> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let points = mounts.lines().rev().filter_map(|line| line.split(' ').nth(1));
    points.filter(|point| Path::new(point).starts_with(folder)).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_the_recipe_count() {
        let image = |name: &str| image_of(&Path::new("/var/tmp").join(name)).map(str::to_owned);
        assert_eq!(image("replab-image.replab_postgres_18.a1B2c3D4").as_deref(), Some("replab_postgres_18"));
        for name in
            ["replab-image.x", "replab-image..a1B2c3D4", "replab-image.x.short", "replab-image.a b.a1B2c3D4", "x"]
        {
            assert_eq!(image(name), None, "{name}");
        }
    }

    #[test]
    fn a_build_that_goes_on_has_its_lock() {
        let locks = tempfile::tempdir().expect("a folder");
        let folder = Path::new("/var/tmp/replab-image.x_1.a1B2c3D4");
        assert!(matches!(lock_of(locks.path(), folder), Ok(Lock::Free(None))), "there never was a build");
        let file = File::create(locks.path().join("x_1.lock")).expect("a lock");
        assert!(matches!(lock_of(locks.path(), folder), Ok(Lock::Free(Some(_)))), "nobody has it");
        flock(&file, FlockOperation::LockExclusive).expect("locked");
        assert!(matches!(lock_of(locks.path(), folder), Ok(Lock::Taken)), "a build has it");
    }
}

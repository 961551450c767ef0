//! Where a lab's folders are, who may walk into them, and how they go away. Knows no servers.
//!
//! When root steps down to another user, that user must be able to reach the data. If the folders asked for lie under
//! one that is closed to it (`/root`), a folder of ours in `/var/tmp` takes their place.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::process::geteuid;
use serde::{Deserialize, Serialize};

use super::account::Account;
use super::{Failed, Hinted, failed};
use crate::model::NodeName;
use crate::runtime::{Dirs, Owner, Place, Result};

/// The file that makes a folder ours. Nothing without it is ever removed.
pub const LAB_FILE: &str = "lab.json";
/// The file beside a template's data, see `template`.
pub const TEMPLATE_FILE: &str = "template.json";
/// How the folder of a template in the making begins.
pub const MAKING: &str = ".making-";

/// What `lab.json` holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabFile {
    /// Who made the folder.
    pub owner: Owner,
    /// The folder itself, so that a copied file proves nothing.
    pub folder: PathBuf,
}

impl LabFile {
    /// Writes `lab.json` into a folder.
    pub fn write(owner: &Owner, folder: &Path) -> Result<()> {
        let file = Self { owner: owner.clone(), folder: folder.to_owned() };
        let text = serde_json::to_string_pretty(&file).failed("write lab.json")?;
        write_whole(&folder.join(LAB_FILE), text.as_bytes(), 0o600, None).failed("write lab.json")
    }

    /// Reads it back; None unless it belongs to this very folder, which is a real one and this user's own.
    pub fn read(folder: &Path) -> Option<Self> {
        if !is_own_folder(folder) {
            return None;
        }
        let file: Self = serde_json::from_str(&fs::read_to_string(folder.join(LAB_FILE)).ok()?).ok()?;
        (file.folder == folder).then_some(file)
    }
}

/// The folders of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeFolders {
    /// Holds the others and the server's log.
    pub root: PathBuf,
    /// The data directory.
    pub data: PathBuf,
    /// The socket, the passfile and the like.
    pub private: PathBuf,
}

impl NodeFolders {
    /// The folders of a node below the lab's own.
    pub fn below(lab: &Path, node: &NodeName) -> Self {
        let root = lab.join("nodes").join(node.as_str());
        Self { data: root.join("data"), private: root.join("private"), root }
    }

    /// The real path of a place; None when the name would lead out of the folder.
    pub fn place(&self, place: &Place) -> Option<PathBuf> {
        let (folder, name) = match place {
            Place::Data(name) => (&self.data, name),
            Place::Private(name) => (&self.private, name),
        };
        let inside = !name.is_empty() && name.split('/').all(|part| !matches!(part, "" | "." | ".."));
        inside.then(|| folder.join(name))
    }

    /// `{data}` and `{private}` replaced by the paths.
    pub fn fill_in(&self, text: &str) -> String {
        text.replace("{data}", &self.data.to_string_lossy()).replace("{private}", &self.private.to_string_lossy())
    }
}

/// Chooses where things really go: the folders asked for, or our own in /var/tmp if the servers' user can't get there.
pub fn settle(asked: &Dirs, account: &Account) -> Result<Dirs> {
    let mode = if account.steps_down() { 0o711 } else { 0o700 };
    let dirs = Dirs {
        cache: reachable(&asked.cache, account, mode, "cache")?,
        state: reachable(&asked.state, account, mode, "state")?,
    };
    for folder in [templates(&dirs), labs(&dirs)] {
        make_folders(&folder, mode).failed(format!("make {}", folder.display()))?;
        spread_below(&folder);
    }
    Ok(dirs)
}

/// Asks ext4 to put each folder below this one into a part of the disk of its own (`chattr +T`).
///
/// For up to five minutes ext4 avoids the inodes of deleted files, and creating files near them becomes 20 times slower
/// (1.1 s instead of 0.05 s for a data directory, Linux 6.18). So a new lab doesn't begin where the last one was deleted.
#[cfg(target_os = "linux")]
fn spread_below(folder: &Path) {
    use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
    let set = |file: fs::File| Ok(ioctl_setflags(&file, ioctl_getflags(&file)? | IFlags::TOPDIR)?);
    if let Err(error) = fs::File::open(folder).and_then(set) {
        tracing::debug!(%error, folder = %folder.display(), "this file system has no such wish");
    }
}

#[cfg(not(target_os = "linux"))]
fn spread_below(_folder: &Path) {}

/// Every place where an earlier run with these folders may have put things.
pub fn candidates(asked: &Dirs) -> Vec<Dirs> {
    let mut found = vec![Dirs { cache: resolved(&asked.cache), state: resolved(&asked.state) }];
    if geteuid().is_root() && is_own_folder(&fallback()) {
        found.push(Dirs { cache: fallback().join("cache"), state: fallback().join("state") });
    }
    found
}

/// Where templates are.
pub fn templates(dirs: &Dirs) -> PathBuf {
    dirs.cache.join("templates")
}

/// Where labs are.
pub fn labs(dirs: &Dirs) -> PathBuf {
    dirs.state.join("labs")
}

fn fallback() -> PathBuf {
    PathBuf::from(format!("/var/tmp/replab-{}", geteuid().as_raw()))
}

/// The same path without links, as far as it exists.
fn resolved(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

fn reachable(asked: &Path, account: &Account, mode: u32, part: &str) -> Result<PathBuf> {
    let asked = std::path::absolute(asked).failed(format!("make {}", asked.display()))?;
    if !account.steps_down() || entry_allowed(&asked, account).unwrap_or(false) {
        make_folders(&asked, mode).failed(format!("make {}", asked.display()))?;
        return Ok(resolved(&asked));
    }
    let own = fallback();
    make_folders(&own, 0o711).failed(format!("make {}", own.display()))?;
    if !is_own_folder(&own) {
        let why = "it is a link, or belongs to or can be written by somebody else";
        return Err(
            failed(format!("use {}", own.display()), why).hinted("look at it, and remove it if it isn't needed")
        );
    }
    make_folders(&own.join(part), 0o711).failed(format!("make {}", own.display()))?;
    Ok(own.join(part))
}

/// Whether the account may enter every existing folder on the way; those still missing will be open to it.
fn entry_allowed(path: &Path, account: &Account) -> io::Result<bool> {
    let existing = path.ancestors().find(|one| one.exists()).unwrap_or(Path::new("/"));
    for folder in fs::canonicalize(existing)?.ancestors() {
        if !account.may_enter(folder)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Makes a folder and those above it that are missing, each with this mode whatever the umask.
pub fn make_folders(path: &Path, mode: u32) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(above) = path.parent() {
        make_folders(above, mode)?;
    }
    match make_folder(path, mode) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        other => other,
    }
}

/// Makes one folder that must not be there yet.
pub fn make_folder(path: &Path, mode: u32) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)?;
    fs::set_permissions(path, Permissions::from_mode(mode))
}

/// A real folder, owned by this user, that nobody else may write to.
pub fn is_own_folder(path: &Path) -> bool {
    fs::symlink_metadata(path)
        .is_ok_and(|meta| meta.is_dir() && meta.uid() == geteuid().as_raw() && meta.mode() & 0o022 == 0)
}

/// Writes a file so that it is there whole or not at all. A link at its place is replaced, never followed.
pub fn write_whole(path: &Path, text: &[u8], mode: u32, account: Option<&Account>) -> io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = path.with_file_name(format!(".{name}.{:08x}", fastrand::u32(..)));
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
    let written = file
        .set_permissions(Permissions::from_mode(mode))
        .and_then(|()| account.map_or(Ok(()), |account| account.take(&file)))
        .and_then(|()| file.write_all(text))
        .and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        drop(fs::remove_file(&beside));
    }
    written
}

/// Removes a folder with `lab.json` in it; that file goes last, so that a removal cut short can be taken up again.
pub fn remove_lab(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name() == LAB_FILE {
            continue;
        }
        if entry.file_type()?.is_dir() { remove_tree(&entry.path())? } else { fs::remove_file(entry.path())? }
    }
    fs::remove_file(folder.join(LAB_FILE))?;
    fs::remove_dir(folder)
}

/// Removes a folder with all in it; fine if it is gone. A link on the way is removed, never followed.
pub fn remove_tree(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::owner;

    #[test]
    fn a_place_never_leads_out_of_its_folder() {
        let node = NodeFolders::below(Path::new("/lab"), &"s1".parse().expect("a name"));
        let data = |name: &str| node.place(&Place::Data(name.to_owned()));
        assert_eq!(data("conf.d/a.conf"), Some(PathBuf::from("/lab/nodes/s1/data/conf.d/a.conf")));
        for name in ["", "/etc/passwd", "../private/passfile", "a//b", "."] {
            assert_eq!(data(name), None, "{name}");
        }
        assert_eq!(node.fill_in("-D{data}"), "-D/lab/nodes/s1/data");
    }

    #[test]
    fn a_lab_file_counts_only_in_its_own_folder() {
        let above = tempfile::tempdir().expect("a folder");
        let [here, copy] = ["here", "copy"].map(|name| above.path().join(name));
        for folder in [&here, &copy] {
            make_folder(folder, 0o700).expect("made");
        }
        LabFile::write(&owner::current("00000000"), &here).expect("written");
        fs::copy(here.join(LAB_FILE), copy.join(LAB_FILE)).expect("copied");
        assert!(LabFile::read(&here).is_some());
        assert_eq!(LabFile::read(&copy), None);
        fs::set_permissions(&here, Permissions::from_mode(0o777)).expect("opened");
        assert_eq!(LabFile::read(&here), None, "anybody could have written it");
    }

    #[test]
    fn a_closed_folder_on_the_way_is_noticed() {
        let account = Account::pick().expect("an account");
        let folder = tempfile::tempdir().expect("a folder");
        let below = folder.path().join("not/there/yet");
        for (mode, open) in [(0o711, true), (0o700, !account.steps_down())] {
            fs::set_permissions(folder.path(), Permissions::from_mode(mode)).expect("set");
            assert_eq!(entry_allowed(&below, &account).expect("looked at"), open, "{mode:o}");
        }
    }

    #[test]
    fn a_link_at_the_place_of_a_file_is_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let [target, link] = ["target", "link"].map(|name| folder.path().join(name));
        fs::write(&target, "precious").expect("written");
        std::os::unix::fs::symlink(&target, &link).expect("linked");
        write_whole(&link, b"new", 0o600, None).expect("written");
        assert_eq!(fs::read_to_string(target).expect("read"), "precious");
        assert_eq!(fs::read_to_string(link).expect("read"), "new");
    }
}

//! Reads and writes the small files of a node: settings, signals, passfiles. Knows no contents.
//!
//! The data directory belongs to the servers' user, and SQL can write there; so links are never followed.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::account::Account;
use super::folders::write_whole;
use super::node::Node;
use super::{Failed, blocking, failed};
use crate::runtime::{NodeFile, Place, Result};

/// Larger files are not what this is for.
const READ_BYTES: u64 = 4 * 1024 * 1024;

/// Writes these files, each whole or not at all.
pub async fn put(node: &Node, account: &Account, files: &[NodeFile]) -> Result<()> {
    if files.is_empty() {
        return Ok(());
    }
    let mut ready = Vec::new();
    for file in files {
        ready.push((place(node, &file.place)?, file.text.clone()));
    }
    let account = *account;
    blocking(format!("write files of {}", node.name), move || {
        for (path, text) in ready {
            let what = format!("write {}", path.display());
            refuse_linked_folder(&path).failed(&what)?;
            write_whole(&path, text.as_bytes(), 0o600, Some(&account)).failed(&what)?;
        }
        Ok(())
    })
    .await
}

/// Reads a file; None when it isn't there.
pub async fn read(node: &Node, at: &Place) -> Result<Option<String>> {
    let path = place(node, at)?;
    blocking(format!("read a file of {}", node.name), move || match read_plain(&path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(format!("read {}", path.display()), error)),
    })
    .await
}

fn place(node: &Node, place: &Place) -> Result<PathBuf> {
    node.folders.place(place).ok_or_else(|| failed(format!("find {place:?} of {}", node.name), "not a name inside it"))
}

fn read_plain(path: &Path) -> io::Result<String> {
    refuse_linked_folder(path)?;
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a plain file"));
    }
    let mut bytes = Vec::new();
    file.take(READ_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A folder between the data directory and the file may not be a link either.
fn refuse_linked_folder(path: &Path) -> io::Result<()> {
    let real = path.parent().map(Path::canonicalize).transpose()?;
    if real.as_deref() == path.parent() { Ok(()) } else { Err(io::Error::other("a link is in the way")) }
}

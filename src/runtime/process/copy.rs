//! Copies a data directory as fast as the file system can. Knows nothing of PostgreSQL but which files not to copy.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::account::Account;
use super::folders::make_folder;

/// Left by a server for the next start in the same directory only.
const SKIPPED: [&str; 2] = ["postmaster.pid", "postmaster.opts"];

/// How much a directory holds: enough to notice that something removed or cut files in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// Plain files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Size {
    fn add(&mut self, more: Self) {
        self.files += more.files;
        self.bytes += more.bytes;
    }
}

/// Copies `from` to `to`, which must not exist. Blocks are shared where the file system can do that; never hard links,
/// because PostgreSQL writes into its files. Returns how much it copied.
pub fn copy_tree(from: &Path, to: &Path, account: &Account) -> io::Result<Size> {
    let mut size = Size::default();
    make_folder(to, 0o700)?;
    account.take_folder(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        let (source, target) = (entry.path(), to.join(&name));
        let kind = entry.file_type()?;
        if SKIPPED.iter().any(|skipped| name == *skipped) {
            continue;
        }
        if kind.is_dir() {
            size.add(copy_tree(&source, &target, account)?);
        } else if kind.is_file() {
            size.add(Size { files: 1, bytes: copy_file(&source, &target, account)? });
        } else {
            return Err(io::Error::other(format!("{} is neither a file nor a folder", source.display())));
        }
    }
    Ok(size)
}

/// `io::copy` between files asks the kernel to copy (`copy_file_range`), which shares blocks where it can.
fn copy_file(from: &Path, to: &Path, account: &Account) -> io::Result<u64> {
    let mut source = File::open(from)?;
    let mut target = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    account.take(&target)?;
    io::copy(&mut source, &mut target)
}

/// Counts what is in a directory.
pub fn size_of(folder: &Path) -> io::Result<Size> {
    let mut size = Size::default();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            size.add(size_of(&entry.path())?);
        } else {
            size.add(Size { files: 1, bytes: entry.metadata()?.len() });
        }
    }
    Ok(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_all_but_the_lock() {
        let above = tempfile::tempdir().expect("a folder");
        let [from, to] = ["from", "to"].map(|name| above.path().join(name));
        fs::create_dir_all(from.join("base/1")).expect("made");
        fs::write(from.join("base/1/112"), vec![7; 20_000]).expect("written");
        fs::write(from.join("postmaster.pid"), "1").expect("written");
        let copied = copy_tree(&from, &to, &Account::pick().expect("an account")).expect("copied");
        assert_eq!(copied, Size { files: 1, bytes: 20_000 });
        assert_eq!(size_of(&to).expect("counted"), Size { files: 1, bytes: 20_000 });
        fs::write(to.join("base/1/112"), "changed").expect("written");
        assert_eq!(fs::read(from.join("base/1/112")).expect("read").len(), 20_000, "the two are separate files");
    }
}

//! Which user the servers run as, and the plain environment that every program gets. Knows no nodes.
//!
//! PostgreSQL refuses to run as root. So root steps down, to `postgres` where the machine has that user, else `nobody`.

use std::env;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, fchown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{getegid, geteuid};

use crate::runtime::{Result, RuntimeError};

/// What of our own environment the programs may see; PG* variables would bend them.
const PASSED_ON: [&str; 5] = ["PATH", "TZ", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TMPDIR"];

/// The user that servers run as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    uid: u32,
    gid: u32,
    steps_down: bool,
}

impl Account {
    /// The user for this process: itself, or a user without rights when it is root.
    pub fn pick() -> Result<Self> {
        let uid = geteuid().as_raw();
        if uid != 0 {
            return Ok(Self { uid, gid: getegid().as_raw(), steps_down: false });
        }
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let found = ["postgres", "nobody"].into_iter().find_map(|name| entry(&passwd, name));
        let (uid, gid) = found.ok_or_else(|| RuntimeError {
            what: "choose a user for the servers".to_owned(),
            why: "PostgreSQL refuses to run as root, and /etc/passwd has neither `postgres` nor `nobody`".to_owned(),
            hint: Some("run replab as an ordinary user, or: useradd --system postgres".to_owned()),
        })?;
        Ok(Self { uid, gid, steps_down: true })
    }

    /// Whether programs run as another user than this process.
    pub fn steps_down(&self) -> bool {
        self.steps_down
    }

    /// Gives an open file to the account.
    pub fn take(&self, file: &File) -> io::Result<()> {
        if self.steps_down { fchown(file, Some(self.uid), Some(self.gid)) } else { Ok(()) }
    }

    /// Gives a folder to the account; never follows a link.
    pub fn take_folder(&self, folder: &Path) -> io::Result<()> {
        if self.steps_down { std::os::unix::fs::lchown(folder, Some(self.uid), Some(self.gid)) } else { Ok(()) }
    }

    /// Whether the account may walk through this folder, as the mode bits have it.
    pub fn may_enter(&self, folder: &Path) -> io::Result<bool> {
        let meta = fs::metadata(folder)?;
        let bit = if meta.uid() == self.uid {
            0o100
        } else if meta.gid() == self.gid {
            0o010
        } else {
            0o001
        };
        Ok(meta.mode() & bit != 0)
    }

    /// A command of the account, in its own process group, with a plain environment and nothing to read.
    pub fn command(&self, program: &Path, work_folder: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("LC_ALL", "C").env("HOME", work_folder);
        for name in PASSED_ON {
            if let Some(value) = env::var_os(name) {
                command.env(name, value);
            }
        }
        command.current_dir(work_folder).stdin(Stdio::null()).process_group(0);
        if self.steps_down {
            command.gid(self.gid).uid(self.uid);
        }
        command
    }
}

/// User and group id of a line in /etc/passwd.
fn entry(passwd: &str, name: &str) -> Option<(u32, u32)> {
    let line = passwd.lines().find(|line| line.split(':').next() == Some(name))?;
    let mut fields = line.split(':').skip(2);
    let uid: u32 = fields.next()?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    (uid != 0).then_some((uid, gid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwd_is_read_and_root_is_never_taken() {
        let passwd = "root:x:0:0::/:/bin/sh\nnobody:x:65534:65533::/:/bin/false\npostgres:x:0:0::/:/bin/sh\n";
        assert_eq!(entry(passwd, "nobody"), Some((65534, 65533)));
        assert_eq!(entry(passwd, "postgres"), None);
        assert_eq!(entry(passwd, "no"), None);
    }
}

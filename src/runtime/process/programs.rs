//! Finds the PostgreSQL programs on this machine. Knows where distributions put them; starts no server.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::runtime::versions::{self, Wanted};
use crate::runtime::{Result, RuntimeError};

/// What a lab needs beside each other in one folder.
const NEEDED: [&str; 6] = ["postgres", "initdb", "pg_basebackup", "pg_rewind", "pg_controldata", "psql"];

/// Where distributions keep their versions: the folder above, how a version's folder begins, and what follows.
const USUAL: [(&str, &str, &str); 9] = [
    ("/usr/lib/postgresql", "", "bin"),
    ("/usr", "pgsql-", "bin"),
    ("/usr/local", "pgsql", "bin"),
    ("/usr/lib", "postgresql", "bin"),
    ("/usr/libexec", "postgresql", ""),
    ("/opt", "postgresql", "bin"),
    ("/opt/homebrew/opt", "postgresql", "bin"),
    ("/usr/local/opt", "postgresql", "bin"),
    ("/Applications/Postgres.app/Contents/Versions", "", "bin"),
];

/// One PostgreSQL installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Programs {
    folder: PathBuf,
    version: String,
    major: u32,
    warning: Option<String>,
}

impl Programs {
    /// Finds an installation: in `pg_bin` alone if it is given, else in PATH, else where distributions put it, newest
    /// first. Versions that aren't wanted are passed over.
    pub fn find(pg_bin: Option<&Path>, wanted: impl Into<Wanted>) -> Result<Self> {
        let (mut seen, wanted) = (Vec::new(), wanted.into());
        let fits = |found: &Self| wanted.fits(found.major);
        if let Some(folder) = pg_bin {
            // Programs run in other folders than this one.
            let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
            return look(&folder, &mut seen).filter(fits).ok_or_else(|| not_found(wanted, &seen, true));
        }
        for folder in env::split_paths(&env::var_os("PATH").unwrap_or_default()) {
            if folder.is_absolute()
                && folder.join("postgres").is_file()
                && let Some(found) = look(&folder, &mut seen).filter(fits)
            {
                return Ok(found);
            }
        }
        let usual = usual_folders();
        let found = usual.iter().filter_map(|folder| look(folder, &mut seen)).filter(fits);
        let newest = found.max_by_key(|found| (found.major, minor(&found.version)));
        newest.ok_or_else(|| not_found(wanted, &seen, false))
    }

    /// The path of one of its programs.
    pub fn path(&self, program: &str) -> PathBuf {
        self.folder.join(program)
    }

    /// The folder with the programs.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The full version, "15.18".
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The major version, 15.
    pub fn major(&self) -> u32 {
        self.major
    }

    /// Something a person should know: this version is newer than the tested ones.
    pub fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }
}

/// Looks into one folder and says in `seen` what is wrong with it, if anything. Too old a version is passed over.
fn look(folder: &Path, seen: &mut Vec<String>) -> Option<Programs> {
    let missing: Vec<&str> = NEEDED.into_iter().filter(|name| !folder.join(name).is_file()).collect();
    if missing.len() == NEEDED.len() {
        seen.push(format!("{}: nothing there", folder.display()));
        return None;
    }
    if !missing.is_empty() {
        seen.push(format!("{}: no {}", folder.display(), missing.join(", ")));
        return None;
    }
    let version = Command::new(folder.join("postgres")).arg("--version").output();
    let text = version.map(|out| String::from_utf8_lossy(&out.stdout).into_owned()).unwrap_or_default();
    let Some((version, major)) = parse_version(&text) else {
        seen.push(format!("{}: `postgres --version` says nothing useful", folder.display()));
        return None;
    };
    match versions::judge(major) {
        Ok(warning) => {
            seen.push(format!("{}: {version}", folder.display()));
            Some(Programs { folder: folder.to_owned(), version, major, warning })
        }
        Err(why) => {
            seen.push(format!("{}: {why}", folder.display()));
            None
        }
    }
}

/// Reads "postgres (PostgreSQL) 15.18 (Debian …)".
fn parse_version(text: &str) -> Option<(String, u32)> {
    let version = text.split("(PostgreSQL)").nth(1)?.split_whitespace().next()?;
    Some((version.to_owned(), versions::major_of(version)?))
}

fn minor(version: &str) -> u32 {
    version.split('.').nth(1).and_then(|minor| minor.parse().ok()).unwrap_or(0)
}

fn usual_folders() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for (above, begin, below) in USUAL {
        let Ok(entries) = fs::read_dir(above) else { continue };
        let fits = |name: &OsString| name.to_str().is_some_and(|name| name.starts_with(begin));
        let versions = entries.filter_map(std::result::Result::ok).filter(|entry| fits(&entry.file_name()));
        found.extend(versions.map(|entry| entry.path().join(below)).filter(|folder| folder.is_dir()));
    }
    found.sort();
    found
}

fn not_found(wanted: Wanted, seen: &[String], named: bool) -> RuntimeError {
    let version = match wanted {
        Wanted { exact: Some(major), .. } => format!(" {major}"),
        Wanted { least: Some(major), .. } => format!(" {major} or newer"),
        Wanted { .. } => String::new(),
    };
    let places = if seen.is_empty() {
        "PATH and the usual folders of distributions hold none".to_owned()
    } else {
        format!("looked at {}", seen.join("; "))
    };
    let major = wanted.exact.or(wanted.least);
    let package = major.map_or("postgresql".to_owned(), |major| format!("postgresql-{major}"));
    let hint = if named {
        "name the folder that holds `postgres` and `initdb`, e.g. --pg-bin /usr/lib/postgresql/17/bin".to_owned()
    } else if cfg!(target_os = "macos") {
        format!("brew install postgresql@{}", major.unwrap_or(17))
    } else {
        format!("apt-get install {package}, or name the folder with --pg-bin")
    };
    RuntimeError { what: format!("find PostgreSQL{version}"), why: places, hint: Some(hint) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        let debian = "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n";
        assert_eq!(parse_version(debian), Some(("15.18".to_owned(), 15)));
        assert_eq!(parse_version("postgres (PostgreSQL) 19devel\n"), Some(("19devel".to_owned(), 19)));
        assert_eq!(parse_version("bash: no such thing"), None);
    }

    #[test]
    fn an_empty_folder_is_named_with_what_mends_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let error = Programs::find(Some(folder.path()), Some(15)).expect_err("nothing there");
        assert!(error.why.contains(&folder.path().display().to_string()), "{error}");
        assert!(error.hint.is_some_and(|hint| hint.contains("--pg-bin")));
    }
}

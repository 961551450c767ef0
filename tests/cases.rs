//! Small scenarios in which the lab once said what wasn't so, played by the real program: in Docker on 18, and as processes. Each file
//! in tests/cases is one; what it expects is in it.

#[allow(dead_code)]
mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|e| e == "toml"));
    files.sort();
    assert!(!files.is_empty());
    files
}

/// Plays all; tells of each that fails what the program said.
fn play_all(place: &[&str]) {
    let mut failed = Vec::new();
    for file in cases() {
        let play = ["play".as_ref(), file.as_os_str(), "--headless".as_ref()];
        let out = Command::new(env!("CARGO_BIN_EXE_replab")).args(play).args(place).output().unwrap();
        if !out.status.success() {
            let said = format!("{}\n{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
            failed.push(format!("{} {place:?}: {}\n{said}", file.display(), out.status));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn the_cases_pass_as_processes() {
    if common::pgserver::programs_or_skip().is_some() {
        play_all(&["--runtime", "process"]);
    }
}

#[tokio::test]
async fn the_cases_pass_in_docker() {
    if common::images::ground_or_skip(18).await.is_some() {
        play_all(&["--runtime", "docker", "--image", "replab/postgres:18"]);
    }
}

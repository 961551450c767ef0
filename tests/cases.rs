//! Small scenarios in which the lab once fell short, or said what wasn't so, played by the real program: as processes, and in Docker on 17
//! and 18. Each file in tests/cases is one, and stands for its kind; what it expects is in it.

#[allow(dead_code)]
mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::house::{Ground, House};

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|ext| ext == "toml"));
    files.sort();
    assert!(!files.is_empty());
    files
}

/// Plays all; tells of each that fails what the program said.
fn play_all(ground: Ground) {
    let Some(house) = House::on(ground) else { return };
    let mut failed = Vec::new();
    for file in cases() {
        let out = house.replab(&["play", file.to_str().unwrap(), "--headless"]).output().unwrap();
        if !out.status.success() {
            let said = format!("{}\n{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
            failed.push(format!("{} {ground:?}: {}\n{said}", file.display(), out.status));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn the_cases_pass_as_processes() {
    play_all(Ground::Process);
}

#[test]
fn the_cases_pass_in_docker_on_17() {
    play_all(Ground::Docker(17));
}

#[test]
fn the_cases_pass_in_docker_on_18() {
    play_all(Ground::Docker(18));
}

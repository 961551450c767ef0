//! Every shipped lesson, played by the real program on real PostgreSQL: in Docker on 17, 18 and 19, and as processes.
//!
//! A lesson takes 10 to 30 seconds. Each is played as processes and in Docker: there on 17 or 18, in turn, and those that speak of
//! what differs between versions on both; a few of them on 19 too. `REPLAB_LESSONS=all` plays every lesson in every place.

#[allow(dead_code)]
mod common;

use std::path::Path;
use std::process::Command;

use replab::recording::Reel;
use replab::report::Report;
use replab::scenario::SHIPPED;

/// Lessons whose point is that acknowledged writes are lost.
const LOSE: &[&str] = &["07-async-failover-loses", "22-the-old-primary-diverged"];

/// Lessons that quote logs, messages or views that a new version may change, and the first ones that anybody sees.
const BOTH: &[&str] = &[
    "01-first-steps",
    "06-async-baseline",
    "08-sync-blocks",
    "10-freeze-is-not-crash",
    "12-the-name-that-matches-nobody",
    "18-a-report-freezes-writes",
    "21-which-standby-to-promote",
    "22-the-old-primary-diverged",
    "34-what-a-quiet-primary-hides",
];

/// Lessons that are played on 19 too: the first, a failover with its loss, a rewind, and one that goes otherwise there.
const ON_19: &[&str] =
    &["01-first-steps", "07-async-failover-loses", "22-the-old-primary-diverged", "34-what-a-quiet-primary-hides"];

/// Plays one lesson and returns its report; panics with what the program said when it doesn't go as the lesson says.
fn play(lesson: &str, place: &[&str]) -> Report {
    let folder = tempfile::tempdir().unwrap();
    let (file, recording) = (folder.path().join("report.json"), folder.path().join("lesson.replab"));
    let out = Command::new(env!("CARGO_BIN_EXE_replab"))
        .args(["play", lesson, "--headless", "--report"])
        .arg(&file)
        .arg("--record")
        .arg(&recording)
        .args(place)
        .output()
        .unwrap();
    let said = format!("{}\n{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "{lesson} {place:?}: {}\n{said}", out.status);
    let report: Report = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    assert_eq!(report.expectations.failed, 0, "{said}");
    assert!(report.expectations.passed > 0, "a lesson that expects nothing proves nothing");
    assert_eq!(report.verdict, "sound", "{said}");
    assert_eq!(report.writes.lost > 0, LOSE.contains(&lesson), "{said}");
    let major = replab::runtime::versions::major_of(&report.postgres).unwrap();
    let script = replab::scenario::load_for(lesson, major).unwrap().script;
    let names = |steps: Vec<String>| steps.join("\n");
    assert_eq!(
        names(report.steps.iter().map(|s| s.name.clone()).collect()),
        names(script.steps.iter().map(|s| s.name.clone()).collect())
    );
    assert_eq!(serde_json::to_value(replayed(&recording)).unwrap(), serde_json::to_value(&report).unwrap(), "{said}");
    report
}

/// The report of a recording: made again from the messages alone.
fn replayed(recording: &Path) -> Report {
    let (reel, model) = Reel::load(&std::fs::read(recording).unwrap()).unwrap();
    assert_eq!(reel.damage, None);
    Report::of(&model)
}

fn all_are_played() -> bool {
    std::env::var("REPLAB_LESSONS").is_ok_and(|which| which == "all")
}

/// The lessons that one of the two images plays.
fn share(image: usize) -> Vec<&'static str> {
    let here = |(n, lesson): &(usize, &str)| all_are_played() || n % 2 == image || BOTH.contains(lesson);
    SHIPPED.iter().map(|(lesson, _)| *lesson).enumerate().filter(here).map(|(_, lesson)| lesson).collect()
}

#[test]
fn every_lesson_has_its_place() {
    let played: Vec<&str> = (0..2).flat_map(share).collect();
    assert!(SHIPPED.iter().all(|(lesson, _)| played.contains(lesson)));
    assert!(
        BOTH.iter().chain(ON_19).all(|b| SHIPPED.iter().any(|(lesson, _)| lesson == b)),
        "a lesson has another name now"
    );
    for (lesson, text) in SHIPPED {
        assert!(!text.contains("\"log(") || BOTH.contains(lesson), "{lesson} quotes a log");
    }
}

fn play_all(lessons: &[&str], place: &[&str], version: &str) {
    for lesson in lessons {
        let report = play(lesson, place);
        assert!(report.postgres.starts_with(version), "{} is not {version}", report.postgres);
    }
}

#[tokio::test]
async fn the_lessons_pass_in_docker_on_17() {
    if common::images::ground_or_skip(17).await.is_some() {
        play_all(&share(0), &["--runtime", "docker", "--image", "replab/postgres:17"], "17.");
    }
}

#[tokio::test]
async fn the_lessons_pass_in_docker_on_18() {
    if common::images::ground_or_skip(18).await.is_some() {
        play_all(&share(1), &["--runtime", "docker", "--image", "replab/postgres:18"], "18.");
    }
}

#[tokio::test]
async fn the_lessons_pass_in_docker_on_19() {
    if common::images::ground_or_skip(19).await.is_some() {
        let all: Vec<&str> = SHIPPED.iter().map(|(lesson, _)| *lesson).collect();
        let lessons = if all_are_played() { &all[..] } else { ON_19 };
        play_all(lessons, &["--runtime", "docker", "--image", "replab/postgres:19"], "19");
    }
}

#[test]
fn the_lessons_pass_as_processes() {
    if common::pgserver::programs_or_skip().is_some() {
        let all: Vec<&str> = SHIPPED.iter().map(|(lesson, _)| *lesson).collect();
        play_all(&all, &["--runtime", "process"], "");
    }
}

/// A file from elsewhere: its SQL reaches no program, no file, no setting of the server and no row of the books.
#[test]
fn the_sql_of_a_lesson_reaches_no_further_than_the_labs_database() {
    if common::pgserver::programs_or_skip().is_none() {
        return;
    }
    let refused = [
        "COPY (SELECT 1) TO PROGRAM 'true'",
        "ALTER SYSTEM SET archive_command = 'true'",
        "SELECT pg_read_file('/etc/passwd')",
        "SET ROLE replab",
        "SET SESSION AUTHORIZATION replab",
        "UPDATE replab.writes SET seq = 0",
        "CREATE ROLE me SUPERUSER",
    ];
    let step = |sql: &str| format!("[[step]]\nsql = \"{sql}\"\non = \"p\"\nerror = \"42501\"\n");
    let allowed = "[[step]]\nsql = \"CREATE TABLE mine AS SELECT 1\"\non = \"p\"\n[[step]]\ndo = \"sql p SELECT count(*) FROM pg_authid\"\n\
         [[step]]\nexpect = \"sqlstate = 42501\"\n";
    let steps: String = refused.iter().map(|sql| step(sql)).collect();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("foreign.toml");
    let head = "title = \"T\"\nsummary = \"S\"\n[cluster]\nstandbys = 0\n";
    std::fs::write(&file, format!("{head}{steps}{allowed}")).unwrap();
    let report = play(file.to_str().unwrap(), &["--runtime", "process"]);
    assert_eq!(report.expectations.passed, refused.len() + 1);
}

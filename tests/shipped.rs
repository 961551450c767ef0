//! The recordings that come with the program: they are whole, of a format that this build reads, and still what their lessons expect;
//! and they are shown where nothing is installed.

mod common;

use std::process::{Command, Output};

use insta::assert_snapshot;
use replab::recording::shipped::{SHIPPED, named};
use replab::recording::{FORMAT, Reel, read_head};
use replab::report::Report;

use common::house::{Ground, House};
use common::terminal::Terminal;

const NOWHERE: [(&str, &str); 2] = [("DOCKER_HOST", "unix:///nowhere"), ("PATH", "")];

fn replab(house: &House, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_replab"));
    command.args(words).envs(house.env()).envs(NOWHERE).output().unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// What must not change by itself: a later `update` makes the same of the same messages.
#[test]
fn they_are_whole_and_replay_to_the_same_report() {
    let mut told = String::new();
    for (name, film) in SHIPPED {
        let (header, _) = read_head(film).unwrap();
        assert_eq!(header.replab_recording, FORMAT, "{name} is of another format: record it anew");
        assert!(film.len() < 200_000, "{name} has {} bytes", film.len());
        let (reel, end) = Reel::load(film).unwrap();
        assert_eq!(reel.damage, None, "{name}");
        let report = Report::of(&end);
        let steps = replab::scenario::load(name).unwrap().script.steps.len();
        assert_eq!((report.scenario.as_deref(), report.steps.len()), (Some(*name), steps), "record {name} anew");
        assert!(report.good() && report.expectations.failed == 0 && report.expectations.passed > 0, "{name}");
        let (w, e) = (report.writes, report.expectations);
        told.push_str(&format!(
            "{name}: {} of {}, {}, {} on {}; {w:?}; {} faults, {} timelines; {} s\n",
            e.passed,
            e.passed + e.failed,
            report.verdict,
            report.postgres,
            report.runtime,
            report.faults.len(),
            report.timelines.len(),
            reel.end().0 / 1_000_000
        ));
    }
    assert_snapshot!("shipped_recordings", told);
    assert!(named("7").is_some() && named("split-brain").is_some() && named("02").is_none());
}

#[test]
fn they_are_listed_and_shown_as_lines_where_nothing_is_installed() {
    let house = House::prepared(Ground::Process);
    let listed = said(&replab(&house, &["list"]));
    assert!(
        listed.contains("07  Asynchronous failover loses acknowledged writes, 8 min  [recorded: replab replay 07]"),
        "{listed}"
    );
    let shown = replab(&house, &["replay", "07", "--headless"]);
    let text = said(&shown);
    assert!(shown.status.success() && text.contains(" 0 did not\nNo promise was broken"), "{text}");
    let first = replab(&house, &["replay"]);
    let text = said(&first);
    assert!(
        first.status.success() && text.contains("nothing is recorded here yet: this is the shipped recording of 01"),
        "{text}"
    );
    let unknown = replab(&house, &["replay", "02"]);
    assert!(unknown.status.code() == Some(2) && said(&unknown).contains("recordings of 01, 07, 23"), "{unknown:?}");
}

/// Seconds on the clock of a replay, standing or going on.
fn clock(screen: &str) -> Option<u64> {
    let after = screen.split_once(" replay ")?.1;
    let (minutes, seconds) = after.get(..5)?.split_once(':')?;
    Some(minutes.parse::<u64>().ok()? * 60 + seconds.parse::<u64>().ok()?)
}

#[test]
fn one_is_played_with_keys_where_nothing_is_installed() {
    let house = House::prepared(Ground::Process);
    let mut terminal = Terminal::start_in(&house, &NOWHERE, &["replay", "07"], (120, 40));
    terminal.until_text("▶ replay");
    terminal.until("time that goes on", |s| (clock(s)? >= 2).then_some(()));
    terminal.keys(" ");
    terminal.until_text("■ replay");
    // An act later, and an event later.
    let before = terminal.until("a clock", clock);
    terminal.keys("]");
    let act = terminal.until("the next act", |s| clock(s).filter(|at| *at > before));
    terminal.keys("[");
    terminal.until("the act before", |s| clock(s).filter(|at| *at < act));
    terminal.keys(".");
    terminal.keys("\x1b[H");
    terminal.until("the beginning", |s| clock(s).filter(|at| *at == 0));
    terminal.until_text("■ replay");
    // Different keys at once would be taken for pasted text: each is seen before the next.
    for speed in ["×2", "×4", "×8"] {
        terminal.keys(">");
        terminal.until_text(speed);
    }
    terminal.keys("<");
    terminal.until_text("×4");
    terminal.keys(" ");
    terminal.until("four times as fast", |s| (clock(s)? >= 10).then_some(()));
    for fault in ["k", "f", "x"] {
        terminal.keys(fault);
        terminal.until_text("a recording can't be changed");
        terminal.keys("\x1b[B");
        terminal.until_no("a recording can't be changed");
    }
    terminal.keys("\x1b[F");
    terminal.until_text("■ replay");
    terminal.until_text("Finished: ");
    terminal.keys("q");
    assert_eq!(terminal.exit(), 0);
    terminal.assert_restored();
}

#[test]
fn where_nothing_is_kept_the_shipped_ones_are_offered() {
    let house = House::prepared(Ground::Process);
    let mut terminal = Terminal::start_in(&house, &NOWHERE, &["replay"], (100, 30));
    terminal.until_text("these come with replab");
    terminal.until_text("Split brain");
    terminal.keys("\x1b[B\r");
    terminal.until_text("▶ replay");
    terminal.until_text("Asynchronous failover");
    terminal.keys("q");
    assert_eq!(terminal.exit(), 0);

    let mut terminal = Terminal::start_in(&house, &NOWHERE, &[], (100, 60));
    terminal.until_text("Sandbox");
    terminal.until_text("Shipped recordings");
    terminal.keys("q");
    assert_eq!(terminal.exit(), 0);
}

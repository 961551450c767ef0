//! Recordings as a person has them: a live lab rewound and resumed, and a recording shown where there is neither an engine nor
//! PostgreSQL.

mod common;

use std::process::{Command, Output};

use replab::model::Stamp;
use replab::model::msg::{Happened, Msg, OpId, Opening, Outcome, Topology, WriterPlan};
use replab::model::script::StepKind;
use replab::recording::{FORMAT, Header, Part, head, tail};

use common::house::{Ground, House};
use common::terminal::{Terminal, lsns};

const SIZE: (u16, u16) = (120, 40);

fn highest_lsn(screen: &str) -> Option<u64> {
    lsns(screen).into_iter().max()
}

/// Seconds on the clock that follows `word`.
fn clock(screen: &str, word: &str) -> Option<u64> {
    let after = screen.split_once(word)?.1.trim_start();
    let (minutes, seconds) = after.get(..5)?.split_once(':')?;
    Some(minutes.parse::<u64>().ok()? * 60 + seconds.parse::<u64>().ok()?)
}

/// There and back: the clock and the LSNs go back while the lab goes on, nothing acts there, and `t` returns to now.
#[test]
fn a_live_lab_is_rewound_and_resumed() {
    let Some(house) = House::on(Ground::Process) else { return };
    let mut terminal = Terminal::start(&house, &["up"], SIZE);
    // Counted from here: the clock began with the bring-up, in whose time there is nothing to see yet.
    let up = terminal.until("a live lab", |s| highest_lsn(s).and(clock(s, "● live")));
    terminal.until("ten seconds", |s| (clock(s, "● live")? >= up + 10).then_some(()));
    let now = terminal.until("an LSN", highest_lsn);
    terminal.keys("t");
    terminal.until("the past", |s| (clock(s, "◀ the past")? <= up + 7).then_some(()));
    terminal.keys("?");
    terminal.until_text("Moving in time");
    terminal.until_text("five seconds back");
    terminal.keys("\x1b");
    terminal.until_no("Moving in time");
    terminal.until("an older LSN", |s| (highest_lsn(s)? < now).then_some(()));
    terminal.keys("f");
    terminal.until_text("this is the past");
    terminal.keys("\x1b[D");
    let there = terminal.until("five seconds earlier", |s| clock(s, "◀ the past").filter(|at| *at <= up + 2));
    terminal.keys(" ");
    terminal.until("time that goes on", |s| (clock(s, "▶ replay")? > there).then_some(()));
    terminal.keys("t");
    terminal.until("now", |s| (clock(s, "● live")? >= up + 10 && highest_lsn(s)? > now).then_some(()));
    let labs = house.labs_of(terminal.pid());
    terminal.keys("q");
    terminal.until_text("destroy the lab");
    terminal.keys("\r");
    assert_eq!(terminal.exit(), 0);
    house.assert_gone(&labs);
}

/// `replab replay` where nothing is installed: no engine answers, and no program is found.
fn replay(house: &House, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_replab"));
    command.arg("replay").args(words).env("DOCKER_HOST", "unix:///nowhere").env("PATH", "");
    command.envs(house.env()).output().unwrap()
}

#[test]
fn a_recording_is_shown_where_nothing_is_installed() {
    let Some(house) = House::on(Ground::Process) else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("lesson.replab");
    let file = file.to_str().unwrap();
    let played = house.replab(&["play", "01", "--headless", "--record", file]).output().unwrap();
    assert!(played.status.success(), "{played:?}");
    let again = replay(&house, &[file, "--headless"]);
    assert_eq!(String::from_utf8_lossy(&again.stderr), "");
    let (then, now) = (String::from_utf8(played.stdout).unwrap(), String::from_utf8(again.stdout).unwrap());
    // Phases of making a template pass too quickly to be the same lines; everything with a time is.
    let lines = |text: &str| text.lines().filter(|l| l.contains("s  ")).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(lines(&now), lines(&then));
    assert_eq!(now.lines().last(), then.lines().last());

    let nowhere = [("DOCKER_HOST", "unix:///nowhere"), ("PATH", "")];
    let mut terminal = Terminal::start_in(&house, &nowhere, &["replay", file], SIZE);
    terminal.until_text("▶ replay");
    terminal.until_text("First steps");
    terminal.keys("\x1b[F");
    terminal.until_text("■ replay");
    terminal.keys("k");
    terminal.until_text("a recording can't be changed");
    terminal.keys("q");
    assert_eq!(terminal.exit(), 0);
    terminal.assert_restored();

    let bytes = std::fs::read(file).unwrap();
    std::fs::write(file, &bytes[..bytes.len() * 2 / 3]).unwrap();
    let cut = replay(&house, &[file, "--headless"]);
    let said = String::from_utf8_lossy(&cut.stderr);
    assert!(said.contains("damaged at byte") && cut.status.code() == Some(1), "{said}");
    let shown = String::from_utf8(cut.stdout).unwrap();
    assert!(lines(&then).starts_with(&lines(&shown)) && !lines(&shown).is_empty(), "{shown}");
}

/// A recording from elsewhere, with texts that a terminal would act on: `check` refuses them in a file, and nobody checks a recording.
fn hostile() -> Vec<u8> {
    let hostile = "red \x1b[31m\x1b]0;title\x07 \u{9b}2J turned \u{202e}round\u{2066} over\rwritten";
    let mut script = replab::scenario::load("01").unwrap().script;
    for step in &mut script.steps {
        step.name.push_str(hostile);
        match &mut step.kind {
            StepKind::Say(text) => text.push_str(hostile),
            StepKind::Ask(question) => question.choices.iter_mut().for_each(|choice| choice.push_str(hostile)),
            _ => {}
        }
    }
    script.title.push_str(hostile);
    script.steps[0].chapter = Some(hostile.to_owned());
    let opening = Opening {
        lab: "lab".into(),
        runtime: "fake".into(),
        source: hostile.into(),
        topology: Topology::primary_with(1),
        script: Some(script),
        read_only: false,
        writer: WriterPlan::default(),
        disk_floor: 0,
    };
    let up = Happened::BroughtUp {
        ms: 500,
        postgres: hostile.into(),
        system_identifier: 7,
        direct_links: None,
        no_freezer: None,
    };
    let done = Msg::Done(OpId(0), Outcome { result: Ok(up), steps: vec![hostile.into()] });
    let header = Header {
        replab_recording: FORMAT,
        lab: hostile.into(),
        title: Some(hostile.into()),
        end_marked: true,
        ..Header::default()
    };
    let mut part = Part::default();
    for (at, msg) in [(0, Msg::Open(Box::new(opening))), (500_000, done), (900_000, Msg::Tick)] {
        part.add(Stamp(at), &msg).unwrap();
    }
    [head(&header), part.seal(0).unwrap().1, tail()].concat()
}

#[test]
fn nothing_that_a_terminal_acts_on_comes_out_of_a_recording() {
    let house = House::prepared(Ground::Process);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ho\u{202e}st\x1b[31mile.replab");
    std::fs::write(&file, hostile()).unwrap();
    let harmless = |bytes: &[u8]| {
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let risky = |c: &char| (c.is_control() && *c != '\n') || "\u{202e}\u{2066}".contains(*c);
        assert_eq!(text.chars().find(risky), None, "{text:?}");
        text
    };
    let shown = replay(&house, &[file.to_str().unwrap(), "--headless"]);
    assert!(harmless(&shown.stdout).contains("\\u{1b}[31m"), "it is shown, not left out");
    harmless(&shown.stderr);
    let cut = folder.path().join("cut\u{202e}\x1b.replab");
    std::fs::write(&cut, &hostile()[..hostile().len() - tail().len()]).unwrap();
    let shown = replay(&house, &[cut.to_str().unwrap(), "--headless"]);
    assert!(harmless(&shown.stderr).contains("has no end") && shown.status.code() == Some(1));
    harmless(&shown.stdout);
    let checked = Command::new(env!("CARGO_BIN_EXE_replab")).arg("check").arg(&file).output().unwrap();
    harmless(&checked.stderr);
}

#[test]
fn what_can_not_be_replayed_is_said() {
    let Some(house) = House::on(Ground::Process) else { return };
    for (file, part) in [("/nowhere/x.replab", "can't read"), ("/etc/passwd", "not a recording")] {
        let out = replay(&house, &[file]);
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.code() == Some(2) && said.contains(part), "{said}");
    }
}

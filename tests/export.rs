//! Recordings as something else: a film, a picture, a scenario that plays; and that nothing secret is in any of them.

mod common;

use std::path::Path;
use std::process::{Command, Output};

use ratatui::buffer::Buffer;
use replab::app::past::told;
use replab::model::Stamp;
use replab::model::msg::{Topology, WriterPlan};
use replab::recording::{Player, Reel, messages};
use replab::report::{ENDINGS, Report};
use replab::ui::past::PACE;
use replab::ui::{self, ColourMode, Shade, View};

use common::house::{Ground, House};
use common::stage::Stage;

const SIZE: (u16, u16) = (100, 30);
const LESSON: &str = "07";

fn replab(words: &[&str], folder: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_replab"));
    command.args(words).env("XDG_STATE_HOME", folder).env("XDG_CACHE_HOME", folder);
    command.env("DOCKER_HOST", "unix:///nowhere").env("PATH", "").current_dir(folder).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("plain text")
}

fn good(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    text(&output.stdout)
}

/// The screen of the shipped recording at a moment, drawn here.
fn screen(at: Stamp, playing: bool) -> Buffer {
    let (_, film) = replab::recording::shipped::named(LESSON).unwrap();
    let film = film.to_vec();
    let (reel, _) = Reel::load(&film).unwrap();
    let mut player = Player::new();
    player.seek(&reel, &film, at).unwrap();
    let mut view = View { size: SIZE, ..View::new(ColourMode::Full, Shade::Dark) };
    view.past = Some(told(&reel, at, playing, PACE, false));
    ui::picture(&player.model, &view)
}

fn rows(buffer: &Buffer) -> Vec<String> {
    let rows = buffer.content.chunks(usize::from(buffer.area.width));
    rows.map(|row| row.iter().map(ratatui::buffer::Cell::symbol).collect::<String>().trim_end().to_owned()).collect()
}

#[test]
fn a_film_ends_with_the_last_screen_and_lasts_as_long() {
    let folder = tempfile::tempdir().unwrap();
    let film = good(&replab(&["export", LESSON, "--cast", "-"], folder.path()));
    let mut lines = film.lines();
    let head: serde_json::Value = serde_json::from_str(lines.next().unwrap()).unwrap();
    assert_eq!((&head["version"], &head["term"]["cols"], &head["term"]["rows"]), (&3.into(), &100.into(), &30.into()));
    let mut parser = vt100::Parser::new(SIZE.1, SIZE.0, 0);
    let (mut lasted, mut marks, mut shown, mut last) = (0.0, Vec::new(), String::new(), String::new());
    for line in lines {
        let (since, kind, data): (f64, String, String) = serde_json::from_str(line).unwrap();
        assert!(since >= 0.0);
        lasted += since;
        match kind.as_str() {
            "o" => {
                // The very last line gives the cursor back, below the picture.
                shown = parser.screen().contents();
                parser.process(data.as_bytes());
            }
            "m" => marks.push(data),
            _ => last = kind,
        }
    }
    let end = {
        let (_, bytes) = replab::recording::shipped::named(LESSON).unwrap();
        Reel::load(bytes).unwrap().0.end()
    };
    assert!((lasted - end.0 as f64 / 1e6).abs() < 0.01 && last == "x", "{lasted} s, {last}");
    assert!(marks.len() >= 2, "{marks:?}");
    let wanted = rows(&screen(Stamp(end.0 / 100_000 * 100_000), true)).join("\n");
    let trimmed = shown.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
    assert_eq!(trimmed.trim_end(), wanted.trim_end());
}

#[test]
fn a_picture_has_every_character_in_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let svg = good(&replab(&["export", LESSON, "--svg", "12.5s", "-o", "-"], folder.path()));
    let document = roxmltree::Document::parse(&svg).unwrap();
    let mut grid = vec![vec![' '; usize::from(SIZE.0)]; usize::from(SIZE.1)];
    for node in document.descendants().filter(|n| n.has_tag_name("text")) {
        let number = |text: &str| text.parse::<f64>().unwrap();
        let row = (number(node.attribute("y").unwrap()) / 18.0) as usize;
        let places = node.attribute("x").unwrap().split(' ').map(|x| (number(x) / 8.4).round() as usize);
        let characters: Vec<char> = node.text().unwrap().chars().collect();
        assert_eq!(places.clone().count(), characters.len());
        places.zip(characters).for_each(|(column, c)| grid[row][column] = c);
    }
    let lines: Vec<String> = grid.iter().map(|row| row.iter().collect::<String>().trim_end().to_owned()).collect();
    assert_eq!(lines, rows(&screen(Stamp(12_500_000), false)));
    let colours = document.descendants().filter_map(|n| n.attribute("fill")).collect::<std::collections::BTreeSet<_>>();
    assert!(colours.len() > 5, "{colours:?}");
}

#[test]
fn what_nobody_named_lies_beside_the_recording_and_is_not_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let (_, shipped) = replab::recording::shipped::named(LESSON).unwrap();
    let file = folder.path().join("mine.replab");
    std::fs::write(&file, shipped).unwrap();
    let words = ["export", file.to_str().unwrap(), "--svg", "1s", "--svg", "2s"];
    let said = good(&replab(&words, folder.path()));
    let names = ["mine-1s.svg", "mine-2s.svg"].map(|name| folder.path().join(name));
    assert_eq!(said, names.each_ref().map(|n| format!("{}\n", n.display())).concat());
    assert!(names.iter().all(|n| n.is_file()));
    let again = replab(&words, folder.path());
    assert_eq!(again.status.code(), Some(2));
    assert!(text(&again.stderr).contains("mine-1s.svg is there already"), "{again:?}");
    // For one that is shipped, beside where one is.
    good(&replab(&["export", LESSON, "--svg", "1m3s"], folder.path()));
    assert!(folder.path().join("07-async-failover-loses-63s.svg").is_file());
}

/// A real lab, recorded; what was done becomes a scenario that passes. And no password is in the recording or in a report of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_done_by_hand_plays_again_and_gives_no_password_away() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("hand.replab");
    let writer = WriterPlan { clients: 2, ..WriterPlan::default() };
    let Some(mut stage) = Stage::of_processes_recorded(Topology::primary_with(2), writer, &file).await else { return };
    stage.until_so("writes", |m| m.ledger.counts().acked > 20).await;
    let done = [
        "rate 50",
        "sync first 1 (s1, s2)",
        "freeze s2",
        "thaw s2",
        "kill s1",
        "start s1",
        "sql p CREATE TABLE mine AS SELECT 1 AS one",
        "verify",
    ];
    for command in done {
        stage.command(command).await;
    }
    let passwords = stage.session.lab.passwords.clone();
    let key = stage.session.lab.key.clone();
    stage.close().await;

    let bytes = std::fs::read(&file).unwrap();
    let stream: String = messages(&bytes).map(|line| serde_json::to_string(&line).unwrap() + "\n").collect();
    assert!(stream.contains("CREATE TABLE mine"), "the stream is unpacked");
    let (reel, end) = Reel::load(&bytes).unwrap();
    assert_eq!(reel.damage, None);
    let report = Report::of(&end);
    let mut pages: Vec<String> = ENDINGS.iter().map(|(_, form)| form.text(&report, &end)).collect();
    pages.push(stream);
    for secret in [passwords.control, passwords.writer, passwords.lesson, passwords.replication, key.secret] {
        assert_eq!(secret.reveal().len(), 24);
        assert!(pages.iter().all(|page| !page.contains(secret.reveal())), "a password is told");
    }
    assert!(pages.iter().all(|page| !page.contains("SCRAM-SHA-256$")), "a verifier is told");

    let house = House::prepared(Ground::Process);
    let scenario = folder.path().join("hand.toml");
    let (file, scenario) = (file.to_str().unwrap(), scenario.to_str().unwrap());
    good(&replab(&["export", file, "--scenario", scenario], folder.path()));
    let lesson = std::fs::read_to_string(scenario).unwrap();
    for command in done {
        assert!(lesson.contains(&format!("do = \"{command}\"")), "no {command} in\n{lesson}");
    }
    assert!(lesson.contains("expect = \"verdict = sound\"") && !lesson.contains("may_fail"), "{lesson}");
    good(&replab(&["check", scenario], folder.path()));
    let played = tokio::task::spawn_blocking({
        let scenario = scenario.to_owned();
        move || house.replab(&["play", &scenario, "--headless"]).output().unwrap()
    });
    let played = played.await.unwrap();
    assert!(played.status.success(), "{lesson}\n{}\n{}", text(&played.stdout), text(&played.stderr));
}

//! A lab that runs, reached by other programs of the same user: `replab do` acts, `replab notes` follows the lesson, and whatever else
//! comes to its socket does it no harm. On real servers, as processes.

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use common::house::{Ground, House};
use common::terminal::Terminal;

/// A lab without a screen, in this house.
struct Beside {
    child: Child,
    lab: String,
    /// Read to its end by nobody: the lab minds no closed pipe, but this one stays open.
    _lines: BufReader<ChildStdout>,
}

impl Beside {
    fn start(house: &House, more: &[&str]) -> Self {
        let words = [&["up", "--headless", "--standbys", "1"], more].concat();
        let mut child = house.replab(&words).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while !line.contains("nodes are up") {
            line.clear();
            assert!(lines.read_line(&mut line).unwrap() > 0, "the lab did not come up");
        }
        let lab = house.labs_of(child.id()).into_iter().next().expect("a lab");
        Self { child, lab, _lines: lines }
    }

    fn socket(&self, house: &House) -> PathBuf {
        house.path().join("state/replab/run").join(format!("{}.sock", self.lab))
    }

    fn end(&mut self, signal: Signal) -> Option<i32> {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
        self.child.wait().unwrap().code()
    }
}

/// Somebody else did what the lesson was about to do: it stops there, says so, and teaches nothing that isn't there.
#[test]
fn a_lesson_whose_act_was_done_by_somebody_else_stops() {
    let Some(house) = House::on(Ground::Process) else { return };
    let file = house.path().join("lesson.toml");
    let steps = "[[step]]\nwait = \"faults > 0\"\nwithin = \"1min\"\n[[step]]\ndo = \"freeze s1\"\n[[step]]\nsay = \"Taught.\"\n";
    fs::write(&file, format!("title = \"T\"\nsummary = \"S\"\n{steps}")).unwrap();
    let words = ["play", file.to_str().unwrap(), "--headless"];
    let mut child = house.replab(&words).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut told = String::new();
    while !told.contains("nodes are up") {
        assert!(lines.read_line(&mut told).unwrap() > 0, "the lab did not come up: {told}");
    }
    let frozen = act(&house, &["freeze s1"]);
    assert_eq!(frozen.code, 0, "{}", frozen.err);
    lines.read_to_string(&mut told).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1), "{told}");
    assert!(told.contains("the lesson stops here, at step 2 of 3") && !told.contains("Taught."), "{told}");
    assert!(told.contains("s1 is frozen; `thaw s1` first"), "{told}");
}

impl Drop for Beside {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            self.end(Signal::TERM);
        }
    }
}

struct Did {
    code: i32,
    out: String,
    err: String,
}

fn did(output: Output) -> Did {
    let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    Did { code: output.status.code().unwrap(), out, err }
}

/// `replab do` with these words.
fn act(house: &House, words: &[&str]) -> Did {
    did(house.replab(&[&["do"], words].concat()).output().unwrap())
}

/// Sends this to the socket, and gives all that comes back.
fn send(socket: &Path, bytes: &[u8]) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    // The lab may have had enough before the end.
    drop(stream.write_all(bytes));
    drop(stream.shutdown(Shutdown::Write));
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer));
    String::from_utf8(answer).unwrap()
}

#[test]
fn a_program_beside_acts_on_the_lab_and_garbage_does_it_no_harm() {
    let Some(house) = House::on(Ground::Process) else { return };
    let none = act(&house, &["kill p"]);
    assert!(none.code == 2 && none.err.contains("replab up"), "{}", none.err);
    let mut lab = Beside::start(&house, &[]);

    let frozen = act(&house, &["freeze", "s1"]);
    assert_eq!((frozen.code, frozen.err.as_str()), (0, ""), "{}", frozen.out);
    assert!(frozen.out.contains("do    freeze s1") && frozen.out.contains("lab   s1"), "{}", frozen.out);
    let again = act(&house, &["freeze s1"]);
    assert!(again.code == 1 && again.err.contains("s1 is frozen; `thaw s1` first"), "{} {}", again.code, again.err);
    let wrong = act(&house, &["frezze s1"]);
    assert!(wrong.code == 2 && wrong.err.contains("did you mean `freeze`"), "{}", wrong.err);
    let other = act(&house, &["--lab", "00000000", "kill p"]);
    assert!(other.code == 2 && other.err.contains(&lab.lab), "{}", other.err);
    let rows = act(&house, &["--quiet", "sql p SELECT 40 + 2 AS answer"]);
    assert_eq!((rows.code, rows.out.as_str()), (0, "answer\n42\n"), "{}", rows.err);
    let error = act(&house, &["sql p SELECT nothing"]);
    assert!(error.code == 1 && error.err.contains("42703"), "{}", error.err);
    assert_eq!(act(&house, &["--read-only", "verify"]).code, 2);

    let socket = lab.socket(&house);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&socket), mode(socket.parent().unwrap())), (0o600, 0o700));
    assert_eq!(fs::metadata(&socket).unwrap().uid(), rustix::process::geteuid().as_raw());
    let newer = send(&socket, b"{\"replab_socket\":2,\"replab\":\"9.0.0\",\"ask\":\"notes\"}\n");
    assert!(newer.contains("\"replab_socket\":1") && newer.contains("use the replab that opened the lab"), "{newer}");
    let long = vec![b'x'; 300_000];
    let planted: [&[u8]; 7] = [
        b"",
        b"\0\xff\xfe\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"{\"replab_socket\":1,\"ask\":{\"do\":\"kill p\"",
        b"{\"replab_socket\":1,\"replab\":\"x\",\"ask\":{\"do\":\"\\u001b[2J; rm -rf\"}}\n",
        b"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\n",
        &long,
    ];
    for bytes in planted {
        let answer = send(&socket, bytes);
        assert!(answer.is_empty() || answer.contains("refused"), "{answer}");
    }
    let healed = act(&house, &["--json", "thaw s1"]);
    let reply: serde_json::Value = serde_json::from_str(&healed.out).unwrap();
    assert!(healed.code == 0 && reply["ok"] == true && reply["error"].is_null(), "{}", healed.out);

    let mut second = Beside::start(&house, &["--read-only"]);
    let several = act(&house, &["kill p"]);
    assert!(several.code == 2 && several.err.contains("say which one: --lab"), "{}", several.err);
    let refused = act(&house, &["--lab", &second.lab, "kill p"]);
    assert!(refused.code == 1 && refused.err.contains("this lab is read-only"), "{}", refused.err);
    let second_socket = second.socket(&house);
    assert_eq!(second.end(Signal::KILL), None);
    assert!(second_socket.exists());
    let cleaned = did(house.replab(&["clean"]).output().unwrap());
    assert!(cleaned.out.contains(&format!("removed socket of lab {}", second.lab)), "{} {}", cleaned.out, cleaned.err);
    assert!(!second_socket.exists() && socket.exists(), "only the one that nobody listens to goes");
    assert_eq!(act(&house, &["verify"]).code, 0);

    assert_eq!(lab.end(Signal::TERM), Some(143));
    assert!(!socket.exists(), "the socket ends with its lab");
    house.assert_gone(&[lab.lab.clone(), second.lab.clone()].into());
}

const TALK: &str = r#"
title = "A talk"
summary = "S"
[[step]]
chapter = "First"
say = "Hello one"
[[step]]
ask = "Which of them?"
choices = ["this one", "that one"]
answer = 2
why = "So."
note = "Wait for the room to vote."
[[step]]
say = "Hello two"
"#;

/// The presenter's terminal: what the notes say, on a screen and as lines, while the lesson goes on in another one.
#[test]
fn the_presenter_follows_the_lesson_in_a_second_terminal() {
    let Some(house) = House::on(Ground::Process) else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("talk.toml");
    fs::write(&file, TALK).unwrap();
    let mut lesson = Terminal::start(&house, &["play", file.to_str().unwrap()], (160, 45));
    lesson.until_text("Space  goes on");
    let mut plain = house.replab(&["notes"]).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(plain.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut until = |part: &str| {
        let mut all = String::new();
        let found = lines.by_ref().any(|line| {
            all += &format!("{line}\n");
            line.contains(part)
        });
        assert!(found, "no {part} in\n{all}");
    };
    until("A talk");
    until("step 1 of");
    until("now   say Hello one (waits for Space)");
    until("next  ask Which of them? (right is 2: that one)");
    let mut screen = Terminal::start(&house, &["notes"], (80, 24));
    screen.until_text("say Hello one");
    screen.until_text("note at step 2  Wait for the room to vote.");
    lesson.keys(" ");
    until("note  Wait for the room to vote.");
    screen.until_text("waits for an answer");
    screen.until("the note at the left edge", |s| {
        s.lines().any(|l| l.trim() == "Wait for the room to vote.").then_some(())
    });
    lesson.keys("2");
    screen.until_text("answer to step 2");
    let acted = act(&house, &["write 3"]);
    assert_eq!(acted.code, 0, "{}", acted.err);
    lesson.until("what was done from outside, by its name", |s| s.contains(" do     ").then_some(()));
    lesson.keys("X");
    until("no lesson plays");
    screen.until_text("no lesson plays");
    let labs = house.labs_of(lesson.pid());
    lesson.keys("q");
    lesson.until_text("destroy the lab");
    lesson.keys("\r");
    assert_eq!(lesson.exit(), 0);
    until("has ended");
    assert!(plain.wait().unwrap().success());
    assert_eq!(screen.exit(), 0);
    screen.assert_restored();
    house.assert_gone(&labs);
}

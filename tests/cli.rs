//! The command line as a script sees it: exit codes, what goes where, and lesson 01 where there is no terminal.

mod common;

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Output, Stdio};

use replab::runtime::docker::Engine;
use rustix::process::{Pid, Signal, kill_process};

use common::empty_engine::EmptyEngine;
use common::house::{Ground, House, wait_for};
use common::images::no_builds;

/// What the program said, as it would be piped.
struct Said {
    code: i32,
    out: String,
    err: String,
}

fn said(output: &Output) -> Said {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("plain text");
    let code = output.status.code().unwrap_or_else(|| panic!("ended by signal {:?}", output.status.signal()));
    Said { code, out: text(&output.stdout), err: text(&output.stderr) }
}

/// Runs the program in folders of its own; no terminal anywhere.
fn replab(words: &[&str], change: impl Fn(&mut Command)) -> Said {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_replab"));
    command.args(words).env("XDG_STATE_HOME", folder.path()).env("XDG_CACHE_HOME", folder.path());
    change(&mut command);
    said(&command.stdin(Stdio::null()).output().unwrap())
}

fn no_engine(command: &mut Command) {
    command.env("DOCKER_HOST", "unix:///nonexistent");
}

fn plain(words: &[&str]) -> Said {
    replab(words, |_| ())
}

/// `replab </dev/null | cat` plays the first lesson.
fn lesson_01_plays_by_itself(ground: Ground) {
    let Some(house) = House::on(ground) else { return };
    let out = said(&house.replab(&[]).stdin(Stdio::null()).output().unwrap());
    assert_eq!(out.code, 0, "{}\n{}", out.out, out.err);
    for part in [
        "# One primary, two standbys",
        "ok         verdict = sound",
        "every acknowledged write is on p",
        "No promise was broken",
    ] {
        assert!(out.out.contains(part), "no {part} in\n{}", out.out);
    }
    assert!(!out.out.contains('\x1b') && !out.err.contains('\x1b'), "a pipe gets no escape sequences");
}

/// A short lesson with this expectation, in a file of the house.
fn short_lesson(house: &House, expect: &str) -> String {
    let file = house.path().join("short.toml");
    let text = format!(
        "title = \"Short\"\nsummary = \"Some writes.\"\n[[step]]\nwait = \"acked >= 20\"\nwithin = \"30s\"\n\
         [[step]]\nexpect = \"{expect}\"\n"
    );
    std::fs::write(&file, text).unwrap();
    file.display().to_string()
}

/// Held or not: the exit code, what `--quiet` leaves, and the report's fields as scripts know them.
#[test]
fn expectations_decide_the_exit_code() {
    let Some(house) = House::on(Ground::Process) else { return };
    for (expect, option, code) in
        [("acked >= 20", "--quiet", 0), ("acked < 20", "--quiet", 1), ("acked < 20", "--json", 1)]
    {
        let lesson = short_lesson(&house, expect);
        let out = said(&house.replab(&["play", &lesson, option]).stdin(Stdio::null()).output().unwrap());
        assert_eq!(out.code, code, "{expect}: {}{}", out.out, out.err);
        if option == "--quiet" {
            let failed = out.err.contains("failed: acked < 20");
            assert_eq!((out.out.as_str(), failed), ("", code == 1), "{expect}: {}", out.err);
            continue;
        }
        let report: serde_json::Value = serde_json::from_str(&out.out).expect("JSON alone");
        let keys: Vec<&str> = report.as_object().unwrap().keys().map(String::as_str).collect();
        for key in REPORT_KEYS {
            assert!(keys.contains(&key), "the report lacks {key}: {keys:?}");
        }
        assert_eq!(
            keys.len(),
            REPORT_KEYS.len(),
            "a field that this test and docs/report-format.md don't know: {keys:?}"
        );
        assert_eq!((&report["expectations"]["failed"], &report["steps"][1]["ok"]), (&1.into(), &false.into()));
    }
}

/// What a report of a lab without chaos has at its top: fields are added, never changed or taken away.
const REPORT_KEYS: [&str; 24] = [
    "report_version",
    "replab",
    "scenario",
    "verdict",
    "findings",
    "writes",
    "expectations",
    "bring_up_ms",
    "postgres",
    "runtime",
    "steps",
    "acked_ids",
    "lost_ids",
    "stranded_ids",
    "unknown_ids",
    "losses",
    "faults",
    "timelines",
    "handovers",
    "rejoins",
    "read_at_ms",
    "nodes",
    "sides",
    "error",
];

/// Healed, settled, read, judged, in this order: a link that stays cut to the end of the lesson spoils no verdict.
#[test]
fn what_a_lesson_leaves_broken_is_healed_before_the_verdict() {
    let Some(house) = House::on(Ground::Process) else { return };
    let lesson = house.path().join("cut.toml");
    let text = "title = \"Cut\"\nsummary = \"It ends behind a cut.\"\n[[step]]\ndo = \"cut p | s1 s2\"\n\
                [[step]]\nwait = \"acked >= 20\"\nwithin = \"30s\"\n";
    std::fs::write(&lesson, text).unwrap();
    let out = said(&house.replab(&["play", lesson.to_str().unwrap()]).stdin(Stdio::null()).output().unwrap());
    assert_eq!(out.code, 0, "{}{}", out.out, out.err);
    let told = ["is cut, silently", "  heal\n", "every link carries again", "  verify\n", "No promise was broken"];
    in_order(&out.out, &told);
}

/// A setting of the command line is in force on all nodes, and wins over the lesson's own; one that the server refuses ends the run
/// with the server's words.
#[test]
fn settings_of_the_command_line_are_in_force() {
    let Some(house) = House::on(Ground::Process) else { return };
    let lesson = house.path().join("settings.toml");
    let step = |node: &str| format!("[[step]]\nsql = \"SHOW work_mem\"\non = \"{node}\"\nvalue = \"7MB\"\n");
    let head = "title = \"Settings\"\nsummary = \"Asked on each node.\"\n[settings]\nwork_mem = \"5MB\"\n";
    std::fs::write(&lesson, ["p", "s1", "s2"].map(step).iter().fold(head.to_owned(), |text, step| text + step))
        .unwrap();
    let play = |set: &str| {
        let words = ["play", lesson.to_str().unwrap(), "--headless", "--set", set];
        said(&house.replab(&words).stdin(Stdio::null()).output().unwrap())
    };
    let out = play("work_mem=7MB");
    assert_eq!(out.code, 0, "{}{}", out.out, out.err);
    let out = play("no_such_setting=1");
    assert_eq!(out.code, 4, "{}{}", out.out, out.err);
    assert!(out.err.contains("unrecognized configuration parameter"), "{}", out.err);
    assert!(house.lab_folders_are_empty());
}

/// What a lesson without an option more found as its place, and what was said on the way there.
fn place_found(house: &House, options: &[&str], env: &[(&str, &str)]) -> (String, String) {
    let lesson = short_lesson(house, "acked >= 20");
    let mut command = Command::new(env!("CARGO_BIN_EXE_replab"));
    command.envs(house.env()).args(["play", &lesson, "--json"]).args(options).envs(env.iter().copied());
    let out = said(&command.stdin(Stdio::null()).output().unwrap());
    assert_eq!(out.code, 0, "{}{}", out.out, out.err);
    let report: serde_json::Value = serde_json::from_str(&out.out).expect("JSON alone");
    (report["runtime"].as_str().unwrap().to_owned(), out.err)
}

#[track_caller]
fn in_order(text: &str, parts: &[&str]) {
    let mut rest = text;
    for part in parts {
        rest = rest.split_once(part).unwrap_or_else(|| panic!("no {part}, or not at its place, in\n{text}")).1;
    }
}

/// An image that isn't here is pulled, and built where that fails; then the lab is in Docker. The registry is played, and so is the
/// recipe, by a `bash` that only says it was run: what both bring is the image that is here.
#[test]
fn an_image_that_is_not_here_is_pulled_or_built() {
    if no_builds() {
        return;
    }
    let Some(house) = House::on(Ground::Docker(18)) else { return };
    let real = wait_for(Engine::connect()).unwrap();
    let bash = house.path().join("bash");
    let path = format!("{}:{}", house.path().display(), std::env::var("PATH").unwrap());
    for (pulls, told) in [
        (true, &["pulling it", "pulling postgres:18: Pull complete"][..]),
        (false, &["pulling it", "building the image from Debian's packages", "building replab/postgres:18: played"]),
    ] {
        let engine = EmptyEngine::until_filled(real.socket(), pulls);
        let recipe = format!(
            "#!/bin/sh\ntest \"$2 $3\" = '18 replab/postgres:18' || exit 1\necho 'replab-image: phase played' >&2\ntouch {}\n",
            engine.mark().display()
        );
        std::fs::write(&bash, recipe).unwrap();
        std::fs::set_permissions(&bash, std::fs::Permissions::from_mode(0o755)).unwrap();
        let host = format!("unix://{}", engine.socket().display());
        let (runtime, err) = place_found(&house, &[], &[("DOCKER_HOST", &host), ("PATH", &path)]);
        in_order(&err, told);
        assert!(runtime == "docker" && err.contains("building") != pulls, "{runtime}: {err}");
    }
}

/// A registry that says nothing any more isn't waited for: what had come is told, and why that was all.
#[test]
fn a_pull_that_stalls_is_given_up() {
    let engine = EmptyEngine::that_stalls();
    let host = format!("unix://{}", engine.socket().display());
    let words = ["up", "--headless", "--runtime", "docker", "--image", "registry.example/none:18"];
    let out = replab(&words, |command| _ = command.env("DOCKER_HOST", &host));
    assert_eq!(out.code, 4, "{}{}", out.out, out.err);
    let told = [
        "the image registry.example/none:18 isn't here: pulling it",
        "pulling registry.example/none:18: Pulling from library/postgres",
        "no progress for 10 s",
    ];
    in_order(&out.err, &told);
}

/// One older than the engines that are promised to do is refused with its reason; the oldest of those isn't.
#[test]
fn an_engine_that_is_too_old_is_refused() {
    for (api, refused) in [("1.40", true), ("1.41", false)] {
        let engine = EmptyEngine::of_api(api);
        let host = format!("unix://{}", engine.socket().display());
        let words = ["up", "--headless", "--runtime", "docker", "--image", "replab/none:18"];
        let out = replab(&words, |command| _ = command.env("DOCKER_HOST", &host));
        assert_eq!(out.code, 4, "{}{}", out.out, out.err);
        let told = ["its API is 1.40, and 1.41 is needed", "install Docker 20.10 or newer"];
        assert!(told.iter().all(|part| out.err.contains(part) == refused), "{api}: {}", out.err);
        assert_eq!(out.err.contains("pulling it"), !refused, "{api}: {}", out.err);
    }
}

/// `--runtime auto`: the image that is here; else it is pulled, then built (above); else the programs; else what was tried.
#[test]
fn a_place_is_looked_for_in_one_order() {
    let engine = EmptyEngine::start();
    let empty = format!("unix://{}", engine.socket().display());
    // Neither an image nor programs of that version are anywhere.
    let out = replab(&["up", "--headless", "--postgres", "98"], |command| _ = command.env("DOCKER_HOST", &empty));
    assert_eq!(out.code, 4, "{}{}", out.out, out.err);
    in_order(&out.err, &["pulling it", "docker: ", "process: ", "apt-get install postgresql-98"]);
    if let Some(house) = House::on(Ground::Process) {
        let (runtime, err) = place_found(&house, &[], &[("DOCKER_HOST", "unix:///nonexistent")]);
        in_order(&err, &["docker: ", "using the programs in"]);
        assert_eq!(runtime, "process");
    }
    if let Some(house) = House::on(Ground::Docker(18)) {
        let (runtime, err) = place_found(&house, &["--image", "replab/postgres:18"], &[]);
        assert!(runtime == "docker" && !err.contains("pulling"), "{runtime}: {err}");
    }
}

/// What a person names is had, or refused with what to do: another image, version or folder never takes its place, though it is here.
#[test]
fn what_is_named_is_had_or_refused() {
    let engine = EmptyEngine::start();
    let empty = format!("unix://{}", engine.socket().display());
    let lesson = ["play", "01", "--headless"];
    let (up, chaos) = (["up", "--headless"], ["chaos", "--for", "1s"]);
    let nowhere = ["--pg-bin", "/nonexistent"];
    let image = ["--image", "replab/none:18"];
    for (words, code, told) in [
        ([&lesson[..], &image].concat(), 4, &["pulling it", "docker: ", "docker pull replab/none:18"][..]),
        ([&up[..], &image].concat(), 4, &["pulling it", "docker: ", "replab image list"]),
        ([&chaos[..], &image].concat(), 4, &["pulling it", "docker: "]),
        ([&up[..], &["--postgres", "98"]].concat(), 4, &["docker: ", "process: find PostgreSQL 98"]),
        ([&lesson[..], &["--postgres", "14"]].concat(), 4, &["--postgres 14", "too old"]),
        ([&up[..], &nowhere].concat(), 4, &["process: ", "/nonexistent: nothing there", "--pg-bin"]),
        ([&lesson[..], &nowhere].concat(), 4, &["process: ", "/nonexistent: nothing there"]),
        ([&up[..], &image, &nowhere].concat(), 2, &["leave one of them out"]),
        ([&up[..], &image, &["--runtime", "process"]].concat(), 2, &["leave one of them out"]),
        ([&up[..], &nowhere, &["--runtime", "docker"]].concat(), 2, &["leave one of them out"]),
    ] {
        let out = replab(&words, |command| _ = command.env("DOCKER_HOST", &empty));
        assert_eq!(out.code, code, "{words:?}: {}{}", out.out, out.err);
        in_order(&out.err, told);
        assert!(!out.err.contains("using the programs"), "{words:?}: {}", out.err);
    }
    if Ground::Docker(18).is_there() {
        // An engine with everything on it changes nothing.
        let named = [&up[..], &["--pg-bin", "/nonexistent"]].concat();
        let out = plain(&named);
        assert!(out.code == 4 && out.err.contains("/nonexistent: nothing there"), "{}{}", out.out, out.err);
        let out = plain(&[&up[..], &["--image", "replab/postgres:18", "--postgres", "17"]].concat());
        assert!(out.code == 4 && out.err.contains("--postgres 17 asks for 17"), "{}{}", out.out, out.err);
    }
}

/// Programs are found where their folder is named from here, though servers work in folders of their own.
#[test]
fn a_folder_of_programs_may_be_named_from_here() {
    let Some(programs) = common::pgserver::programs_or_skip() else { return };
    let house = House::prepared(Ground::Process);
    let lesson = short_lesson(&house, "acked >= 20");
    let mut command = Command::new(env!("CARGO_BIN_EXE_replab"));
    command.envs(house.env()).args(["play", &lesson, "--pg-bin", "bin"]).current_dir(programs.parent().unwrap());
    let out = said(&command.stdin(Stdio::null()).output().unwrap());
    assert_eq!(out.code, 0, "{}{}", out.out, out.err);
}

/// The cluster is what the file says, and the lab goes when it is told to end.
#[test]
fn a_topology_comes_from_a_file() {
    let Some(house) = House::on(Ground::Process) else { return };
    let file = house.path().join("mine.toml");
    std::fs::write(&file, "[[node]]\nname = \"one\"\n[[node]]\nname = \"two\"\nfollows = \"one\"\n").unwrap();
    let words = ["up", "--headless", "--topology", file.to_str().unwrap()];
    let mut child = house.replab(&words).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut out = String::new();
    while !out.contains("nodes are up") {
        assert_ne!(lines.read_line(&mut out).unwrap(), 0, "it ended: {out}");
    }
    let labs = house.labs_of(child.id());
    let nodes = house.path().join("state/replab/labs").join(labs.first().unwrap()).join("nodes");
    let names: BTreeSet<_> = std::fs::read_dir(nodes).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(143));
    assert_eq!(names, ["one", "two"].map(Into::into).into());
    house.assert_gone(&labs);
}

/// Ctrl-C where there is no screen, while the lab comes up and while it lives: 130, and nothing is left.
#[test]
fn an_interrupted_lab_without_a_screen_leaves_nothing() {
    let Some(house) = House::on(Ground::Process) else { return };
    let lesson = house.path().join("endless.toml");
    let text =
        "title = \"T\"\nsummary = \"S\"\n[cluster]\nstandbys = 8\n[[step]]\nwait = \"lost > 0\"\nwithin = \"10m\"\n";
    std::fs::write(&lesson, text).unwrap();
    for words in [&["up", "--headless", "--standbys", "8"][..], &["play", lesson.to_str().unwrap(), "--headless"]] {
        for lives in [false, true] {
            let mut child = house.replab(words).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
            let mut lines = BufReader::new(child.stdout.take().unwrap());
            let mut out = String::new();
            if lives {
                while !out.contains("nodes are up") {
                    assert_ne!(lines.read_line(&mut out).unwrap(), 0, "it ended: {out}");
                }
            } else {
                until("a lab that comes up", || !house.labs_of(child.id()).is_empty());
            }
            let labs = house.labs_of(child.id());
            kill_process(Pid::from_child(&child), Signal::INT).unwrap();
            lines.read_to_string(&mut out).unwrap();
            assert_eq!(child.wait().unwrap().code(), Some(130), "{words:?}: {out}");
            println!("{words:?}: interrupted when {}", if out.contains("nodes are up") { "up" } else { "coming up" });
            house.assert_gone(&labs);
            assert!(house.lab_folders_are_empty(), "{words:?}");
        }
    }
}

#[test]
fn images_are_listed() {
    let empty = EmptyEngine::start();
    let host = format!("unix://{}", empty.socket().display());
    let none = replab(&["image", "list"], |command| _ = command.env("DOCKER_HOST", &host));
    assert_eq!((none.code, none.err.as_str()), (0, ""));
    assert!(none.out.contains("replab image build --postgres 18"), "{}", none.out);
    let none = replab(&["image", "list", "--json"], |command| _ = command.env("DOCKER_HOST", &host));
    assert_eq!((none.code, none.out.trim()), (0, "[]"));
    assert_eq!(replab(&["image", "list"], no_engine).code, 4);
    if !Ground::Docker(18).is_there() {
        return;
    }
    let here = plain(&["image", "list"]);
    assert!(here.code == 0 && here.out.lines().any(|line| line.starts_with("18  ")), "{}{}", here.out, here.err);
    let rows: Vec<(u32, String)> = serde_json::from_str(&plain(&["image", "list", "--json"]).out).expect("JSON");
    assert!(rows.iter().any(|(major, name)| *major == 18 && name.ends_with("postgres:18")), "{rows:?}");
}

#[test]
fn without_a_terminal_lesson_01_plays_as_processes() {
    lesson_01_plays_by_itself(Ground::Process);
}

#[test]
fn without_a_terminal_lesson_01_plays_in_docker() {
    lesson_01_plays_by_itself(Ground::Docker(18));
}

#[test]
fn usage_errors_end_with_2_and_say_what_is_right() {
    for (words, part) in [
        (&["play", "nosuch"][..], "replab list"),
        (&["play", "99"], "replab list"),
        (&["--nosuch"], "--help"),
        (&["up", "--standbys", "17"], "0..=16"),
        (&["up", "--set", "work_mem"], "NAME=VALUE"),
        (&["up", "--disk-floor", "2"], "needs a unit"),
        (&["up", "--disk-floor", "5s"], "for example 2GB"),
        (&["play", "01", "--report", "out.txt"], ".json, .xml (JUnit), .md or .html"),
        (&["up", "--report", "out"], ".json, .xml (JUnit), .md or .html"),
        (&["export", "01"], "--cast"),
        (&["export", "01", "--svg", "soon"], "12.5s or 1m3s"),
        (&["export", "01", "--svg", "99m"], "the recording ends at"),
        (&["export", "01", "--cast", "-", "--size", "10x10"], "from 50x12"),
        (&["export", "01", "--scenario", "-"], "nothing was done by hand"),
        (&["frobnicate"], "--help"),
    ] {
        let out = plain(words);
        assert_eq!((out.code, out.out.as_str()), (2, ""), "{words:?}: {}", out.err);
        assert!(out.err.contains(part), "{words:?}: no {part} in {}", out.err);
    }
}

#[test]
fn a_bad_file_ends_with_3_and_its_place_is_shown() {
    let head = "title = \"T\"\nsummary = \"S\"\n";
    for (verb, text, place, part) in [
        ("play", format!("{head}[[step]]\ndo = \"frezze s1\"\n"), ":4:7:", "did you mean `freeze`"),
        ("play", "title = \"T\n".to_owned(), ":1:11:", "invalid basic string"),
        ("play", format!("{head}[writer]\nclients = 99\n"), ":4:11:", "from 0 to 64"),
        ("up --topology", "[[node]]\nname = \"P\"\n".to_owned(), ":2:9:", "can't be a node's name"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("bad.toml");
        std::fs::write(&file, &text).unwrap();
        let file = file.to_str().unwrap();
        let words: Vec<&str> = verb.split(' ').chain([file]).collect();
        let out = plain(&words);
        assert_eq!((out.code, out.out.as_str()), (3, ""), "{text}: {}", out.err);
        for part in [&format!("{file}{place}"), part, "^"] {
            assert!(out.err.contains(part), "{text}: no {part} in {}", out.err);
        }
    }
}

#[test]
fn check_tells_everything_that_is_wrong_and_starts_nothing() {
    let good = plain(&["check", "01", "sync-blocks"]);
    assert_eq!(
        (good.code, good.out.as_str(), good.err.as_str()),
        (0, "01: no mistakes\nsync-blocks: no mistakes\n", "")
    );
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bad.toml");
    std::fs::write(
        &file,
        "title = \"T\"\nsummary = \"S\"\n[[step]]\ndo = [\"thaw s1\", \"kil p\"]\n[[step]]\nwait = \"acked > 1\"\n",
    )
    .unwrap();
    let file = file.to_str().unwrap();
    let bad = plain(&["check", file, "01"]);
    assert_eq!((bad.code, bad.out.as_str()), (3, "01: no mistakes\n"), "{}", bad.err);
    for part in [
        ":4:19: there is no command `kil`; did you mean `kill`?",
        ":6:9: warning: a wait without a deadline",
        "1 mistake, 1 warning",
    ] {
        assert!(bad.err.contains(part), "no {part} in {}", bad.err);
    }
    let rows: Vec<serde_json::Value> = serde_json::from_str(&plain(&["check", "--json", file]).out).expect("JSON");
    assert!(rows.len() == 2 && rows[0]["line"] == 4 && rows[0]["column"] == 19, "{rows:?}");
    assert_eq!(plain(&["check", "nosuch"]).code, 2);
    let unread: Vec<serde_json::Value> =
        serde_json::from_str(&plain(&["check", "--json", "/no/such.toml"]).out).expect("JSON");
    assert!(unread.len() == 1 && unread[0]["line"].is_null(), "{unread:?}");
    std::fs::write(file, b"title = \"T\"\nsummary = \"\xff\"\n").unwrap();
    let binary = plain(&["check", file]);
    assert!(binary.code == 3 && binary.err.contains(":2:12: this is no UTF-8"), "{}", binary.err);
    let endless = plain(&["check", "/dev/zero"]);
    assert!(endless.code == 2 && endless.err.contains("a device, not a regular file"), "{}", endless.err);
    let schema: serde_json::Value = serde_json::from_str(&plain(&["schema"]).out).expect("JSON");
    assert_eq!(schema["type"], "object");
}

/// One judge: the planted mistakes keep each file from being played, in the words of `check`, all at once, and nothing is started.
#[test]
fn play_refuses_what_check_calls_a_mistake() {
    let here = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/mistakes");
    for name in ["what-runs", "two-places", "unknown-nodes", "thaw-without-freeze", "settings", "empty"] {
        let file = format!("{here}/{name}.toml");
        let check = plain(&["check", &file]);
        let play = plain(&["play", &file, "--headless", "--runtime", "process"]);
        assert_eq!((check.code, play.code, play.out.as_str()), (3, 3, ""), "{name}: {}", play.err);
        assert_eq!(play.err, check.err, "{name}");
    }
    let doubtful = plain(&["check", &format!("{here}/a-wait-without-a-deadline.toml")]);
    assert_eq!(doubtful.code, 0, "{}", doubtful.err);
    assert!(doubtful.out.ends_with(": no mistakes, 2 warnings\n"), "{}", doubtful.out);
}

/// A pipe that nobody writes to would be waited for without an end.
#[test]
fn what_is_no_regular_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe.toml");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let (pipe, folder) = (pipe.to_str().unwrap(), folder.path().to_str().unwrap());
    for words in [
        &["check", pipe][..],
        &["play", pipe, "--headless"],
        &["up", "--headless", "--topology", pipe],
        &["replay", pipe],
    ] {
        let out = plain(words);
        assert!(out.code == 2 && out.err.contains("it is a pipe, not a regular file"), "{words:?}: {}", out.err);
    }
    assert!(plain(&["check", &format!("{folder}/")]).err.contains("a folder, not a regular file"));
}

#[test]
fn what_makes_no_sense_together_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("x.svg");
    let two = plain(&["export", "01", "--svg", "1s", "--svg", "2s", "-o", out.to_str().unwrap()]);
    assert!(two.code == 2 && two.err.contains("-o names one file") && !out.exists(), "{}", two.err);
    let recorded = plain(&["replay", "01", "--record", out.to_str().unwrap()]);
    assert!(recorded.code == 2 && recorded.err.contains("--record is for labs"), "{}", recorded.err);
}

#[test]
fn a_lesson_for_a_newer_postgresql_is_refused() {
    let Some(house) = House::on(Ground::Process) else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("new.toml");
    std::fs::write(&file, "title = \"T\"\nsummary = \"S\"\nrequires = 99\n[[step]]\npause = \"1s\"\n").unwrap();
    let out =
        said(&house.replab(&["play", file.to_str().unwrap(), "--headless"]).stdin(Stdio::null()).output().unwrap());
    assert_eq!(out.code, 4, "{}{}", out.out, out.err);
    assert!(out.err.contains("needs PostgreSQL 99") && out.err.contains("--postgres"), "{}", out.err);
}

#[test]
fn where_nothing_is_found_it_ends_with_4_and_a_hint() {
    let no_programs = ["--runtime", "process", "--pg-bin", "/nonexistent"];
    for (words, hints) in [
        ([&["play", "01"][..], &no_programs].concat(), &["--pg-bin"][..]),
        ([&["up", "--headless"][..], &no_programs].concat(), &["--pg-bin"]),
        (vec!["up", "--headless", "--runtime", "docker"], &["systemctl start docker"]),
        (vec!["play", "01", "--postgres", "98"], &["postgresql-98", "--pg-bin", "systemctl start docker"]),
    ] {
        let out = replab(&words, no_engine);
        assert_eq!(out.code, 4, "{words:?}: {}{}", out.out, out.err);
        for hint in hints {
            assert!(out.err.contains(hint), "{words:?}: no {hint} in {}", out.err);
        }
    }
}

/// A disk of this size, of the test's own, holds what the lab would make; what it said, and what was left.
fn on_a_disk_of(size: &str, words: &[&str]) -> (Said, String) {
    let folder = tempfile::tempdir().unwrap();
    let script = format!(
        "mount -t tmpfs -o size={size} none \"$1\"; shift; \"$@\"; code=$?; echo LEFT >&2; \
         find \"$XDG_STATE_HOME\" -mindepth 3 >&2; exit $code"
    );
    let out = Command::new("unshare")
        .args(["--mount", "sh", "-c", &script, "sh"])
        .arg(folder.path())
        .args([env!("CARGO_BIN_EXE_replab"), "up", "--headless", "--runtime", "process"])
        .args(words)
        .env("XDG_STATE_HOME", folder.path().join("state"))
        .env("XDG_CACHE_HOME", folder.path().join("cache"))
        .stdin(Stdio::null())
        .output();
    let out = said(&out.unwrap());
    let left = out.err.split_once("LEFT\n").expect(&out.err).1.to_owned();
    (out, left)
}

/// Refused before anything is made: also where there is room for a lab, but not above the floor below which its writer is held.
#[test]
fn a_nearly_full_disk_is_refused_before_anything_is_made() {
    if !Ground::Process.is_there() || !may_mount() {
        return;
    }
    let all = "removes old labs and templates";
    for (size, words, told) in [
        ("64m", &[][..], &["only 6", "MB are free at", "free at least 1342 MB there", all][..]),
        ("64m", &["--disk-floor", "0"], &["only 6", "free at least 536 MB there", all]),
        ("700m", &[], &["MB are free at", "the writer is held", "(--disk-floor)", all, "--disk-floor 2"]),
    ] {
        let (out, left) = on_a_disk_of(size, words);
        assert_eq!(out.code, 4, "{}{}", out.out, out.err);
        in_order(&out.err, told);
        assert_eq!(left.trim(), "", "something was made");
    }
}

/// A folder that can't be written to is named, with the variable that names another; doctor has really tried.
#[test]
fn folders_that_cannot_be_written_to_are_named() {
    // Nothing can be made in /proc, not even by root.
    let without_room = |command: &mut Command| {
        command.env("XDG_CACHE_HOME", "/proc/cache").env("DOCKER_HOST", "unix:///nonexistent");
    };
    let out = replab(&["up", "--headless", "--runtime", "process"], without_room);
    assert_eq!(out.code, 4, "{}{}", out.out, out.err);
    in_order(&out.err, &["write to /proc/cache/replab", "XDG_CACHE_HOME=DIR"]);
    let out = replab(&["up", "--headless"], |command| {
        command.env_remove("XDG_CACHE_HOME").env_remove("XDG_STATE_HOME").env("HOME", "/proc/nobody");
    });
    assert_eq!(out.code, 4, "{}{}", out.out, out.err);
    in_order(&out.err, &["write to /proc/nobody/.cache/replab", "XDG_CACHE_HOME=DIR"]);
    let doctor = replab(&["doctor"], without_room);
    let line = |what: &str| doctor.out.lines().find(|line| line[5..].starts_with(what)).expect(&doctor.out).to_owned();
    assert!(doctor.code == 4 && line("cache").starts_with("no "), "{}", doctor.out);
    assert!(line("state").starts_with("ok ") && line("state").contains("written to"), "{}", doctor.out);
}

/// Servers start, stream and answer in a folder whose name has in it what PostgreSQL's lists and libpq's names set apart.
#[test]
fn the_state_folder_may_have_any_name() {
    let Some(house) = House::on(Ground::Process) else { return };
    let lesson = short_lesson(&house, "acked >= 20");
    for name in [r#"with "quotes""#, "a, b", "o'clock $x %d \\n"] {
        let folder = tempfile::Builder::new().prefix(name).tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
        let mut command = house.replab(&["play", &lesson]);
        command.env("XDG_STATE_HOME", folder.path()).env("XDG_CACHE_HOME", folder.path());
        let out = said(&command.stdin(Stdio::null()).output().unwrap());
        assert_eq!(out.code, 0, "{name}: {}{}", out.out, out.err);
    }
}

/// A limit that servers can't live with is named, and how to raise it.
#[test]
fn limits_that_are_too_low_are_named() {
    let Some(house) = House::on(Ground::Process) else { return };
    for (limit, told) in [
        ("ulimit -n 64", &["the limit of open files is 64", "ulimit -n 1024"][..]),
        ("ulimit -f 1000", &["the limit of the bytes of a file is", "ulimit -f unlimited"]),
    ] {
        let mut command = Command::new("bash");
        command.envs(house.env()).args(["-c", &format!("{limit}; exec \"$@\""), "bash"]);
        command.args([env!("CARGO_BIN_EXE_replab"), "up", "--headless", "--runtime", "process"]);
        let out = said(&command.stdin(Stdio::null()).output().unwrap());
        assert_eq!(out.code, 4, "{limit}: {}{}", out.out, out.err);
        in_order(&out.err, told);
        assert!(house.lab_folders_are_empty());
    }
}

/// Whether a file system can be mounted here, which only root can; says so when not, and fails where `CI` is true.
fn may_mount() -> bool {
    let may = Command::new("unshare").args(["--mount", "true"]).status().is_ok_and(|status| status.success());
    assert!(may || std::env::var("CI").as_deref() != Ok("true"), "nothing can be mounted on CI");
    if !may {
        eprintln!("skipped: nothing can be mounted (that needs root)");
    }
    may
}

/// What can't be looked at isn't called clean.
#[test]
fn clean_says_when_the_engine_was_not_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let dead = folder.path().join("dead.sock");
    // The file of a socket stays when nobody listens any more.
    drop(std::os::unix::net::UnixListener::bind(&dead).unwrap());
    for (host, why) in [
        (format!("unix://{}", dead.display()), "refused"),
        (format!("unix://{}/none.sock", folder.path().display()), "there is no socket"),
        ("tcp://10.0.0.1:2376".to_owned(), "on this machine only"),
    ] {
        for words in [&["clean"][..], &["clean", "--dry-run"], &["clean", "--json"], &["clean", "--quiet"]] {
            let out = replab(words, |command| _ = command.env("DOCKER_HOST", &host));
            assert_eq!(out.code, 4, "{host} {words:?}: {}{}", out.out, out.err);
            assert!(!out.out.contains("nothing was left"), "{host}: {}", out.out);
            for part in ["the Docker engine was not looked at: ", why] {
                assert!(out.err.to_lowercase().contains(&part.to_lowercase()), "{host}: no {part} in {}", out.err);
            }
        }
    }
}

/// A build that was killed leaves its folder; what only looks like one isn't touched.
#[test]
fn clean_removes_what_a_killed_image_build_left() {
    let place = tempfile::tempdir().unwrap();
    let mine = |name: &str| {
        let folder = place.path().join(name);
        std::fs::create_dir_all(folder.join("root/etc")).unwrap();
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700)).unwrap();
        std::fs::write(folder.join("root/etc/passwd"), "x").unwrap();
        folder
    };
    let left = mine("replab-image.replab_test_1.a1B2c3D4");
    let (other, open) = (mine("replab-image.mine"), mine("replab-image.replab_test_1.00000000"));
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).unwrap();
    let link = place.path().join("replab-image.replab_test_1.11111111");
    std::os::unix::fs::symlink(&other, &link).unwrap();
    let clean = |words: &[&str]| replab(words, |command| _ = command.env("TMPDIR", place.path()));
    let told = format!("image build {}\n", left.display());
    let would = clean(&["clean", "--dry-run"]);
    assert!(would.code == 0 && would.out.contains(&format!("would remove {told}")), "{}{}", would.out, would.err);
    assert!(left.is_dir(), "a dry run removes nothing");
    let cleaned = clean(&["clean"]);
    assert!(cleaned.out.contains(&format!("removed {told}")), "{}{}", cleaned.out, cleaned.err);
    assert!(!left.exists() && !clean(&["clean", "--dry-run"]).out.contains("image build"));
    for spared in [&other, &open] {
        assert!(spared.join("root/etc/passwd").is_file(), "{} was touched", spared.display());
    }
    assert!(link.is_symlink());
}

/// A folder of programs that do nothing but say this version.
fn programs_of(version: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for program in ["postgres", "initdb", "pg_basebackup", "pg_rewind", "pg_controldata", "psql"] {
        let file = folder.path().join(program);
        std::fs::write(&file, format!("#!/bin/sh\necho '{program} (PostgreSQL) {version}'\n")).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    folder
}

#[test]
fn programs_are_judged_by_their_version() {
    let old = "PostgreSQL 14 is too old: replab needs 15 or newer";
    let new = "PostgreSQL 20 is newer than what replab is made for (15 to 19)";
    for (version, word, part) in [("14.9", "no ", old), ("20beta1", "ok ", new), ("19rc1", "ok ", "PostgreSQL 19rc1")] {
        let folder = programs_of(version);
        let dir = folder.path().to_str().unwrap();
        let doctor = replab(&["doctor", "--pg-bin", dir], no_engine);
        let line = doctor.out.lines().find(|line| line.contains("programs")).unwrap();
        assert!(line.starts_with(word) && line.contains(part), "{version}: {}", doctor.out);
        assert_eq!(line.contains("newer than"), version == "20beta1", "{line}");
    }
    for (version, part) in [("14.9", old), ("20beta1", new)] {
        let folder = programs_of(version);
        let words = ["up", "--headless", "--runtime", "process", "--pg-bin", folder.path().to_str().unwrap()];
        let out = replab(&words, no_engine);
        assert!(out.code != 0 && out.err.contains(part), "{version}: {} {}", out.code, out.err);
    }
}

#[test]
fn the_machine_is_described_as_json() {
    let doctor = plain(&["doctor", "--json"]);
    let checks: Vec<serde_json::Value> = serde_json::from_str(&doctor.out).expect("JSON");
    for what in ["docker engine", "programs", "terminal", "leftovers"] {
        assert!(checks.iter().any(|c| c["what"] == what && c["ok"].is_boolean()), "{what}: {}", doctor.out);
    }
    let nowhere = replab(&["doctor", "--pg-bin", "/nonexistent"], no_engine);
    assert_eq!(nowhere.code, 4, "{}", nowhere.out);
    assert!(nowhere.out.contains("->"), "a hint for what is missing: {}", nowhere.out);
    let lessons: Vec<serde_json::Value> = serde_json::from_str(&plain(&["list", "--json"]).out).expect("JSON");
    assert_eq!(lessons.len(), replab::scenario::SHIPPED.len());
}

#[test]
fn data_goes_to_standard_output() {
    for (words, part) in [
        (&["list"][..], "First steps"),
        (&["completions", "bash"], "_replab()"),
        (&["completions", "zsh"], "#compdef replab"),
        (&["completions", "fish"], "complete -c replab"),
        (&["man"], ".TH replab 1"),
        (&["--help"], "replab play 08"),
        (&["--version"], env!("CARGO_PKG_VERSION")),
    ] {
        let out = plain(words);
        assert_eq!((out.code, out.err.as_str()), (0, ""), "{words:?}");
        assert!(out.out.contains(part), "{words:?}: no {part} in {}", out.out);
    }
}

/// Each verb has its section, with the options that only it has.
#[test]
fn the_manual_page_has_every_verb() {
    let page = plain(&["man"]).out.replace('\\', "");
    let sections: Vec<&str> = page.split("\n.SH ").collect();
    for (verb, parts) in [
        ("UP", &["--standbys", "--topology", "--headless", "--keep"][..]),
        ("PLAY", &["--headless", "--report", "LESSON"]),
        ("CLEAN", &["--dry-run", "--all"]),
        ("CHAOS", &["--seed", "--within"]),
        ("EXPORT", &["--cast", "--svg"]),
        ("IMAGE BUILD", &["Build"]),
        ("IMAGE LIST", &["image"]),
    ] {
        let title = format!("\"REPLAB {verb}\"");
        let section = sections.iter().find(|section| section.starts_with(&title));
        let section = section.unwrap_or_else(|| panic!("no section {verb} in {page}")).to_lowercase();
        for part in parts {
            assert!(section.contains(&part.to_lowercase()), "no {part} in {section}");
        }
    }
    for common in ["--pg-bin", "--read-only"] {
        assert_eq!(page.matches(&format!("{common}fR")).count(), 2, "{common}: once in the synopsis, once explained");
    }
}

/// `replab list | head -1`, and a reader that is gone before the first word.
#[test]
fn a_closed_pipe_is_no_error() {
    for words in [&["list"][..], &["man"], &["completions", "bash"], &["doctor", "--json"]] {
        for lines in [0, 1] {
            let mut command = Command::new(env!("CARGO_BIN_EXE_replab"));
            command.args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut child = command.spawn().unwrap();
            let mut reader = BufReader::new(child.stdout.take().unwrap());
            for _ in 0..lines {
                assert!(reader.read_line(&mut String::new()).unwrap() > 0);
            }
            drop(reader);
            let mut err = String::new();
            child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
            assert_eq!((child.wait().unwrap().code(), err.as_str()), (Some(0), ""), "{words:?}");
        }
    }
}

/// `replab play 07 | head -5`: a lesson is for whoever reads it, and ends with its lab when nobody does any more.
#[test]
fn a_lesson_that_nobody_reads_any_more_ends() {
    let Some(house) = House::on(Ground::Process) else { return };
    let lesson = house.path().join("long.toml");
    let text = "title = \"T\"\nsummary = \"S\"\n[[step]]\ndo = \"freeze s1\"\n[[step]]\ndo = \"thaw s1\"\n\
                [[step]]\nwait = \"lost > 0\"\nwithin = \"10m\"\n";
    std::fs::write(&lesson, text).unwrap();
    let mut command = house.replab(&["play", lesson.to_str().unwrap(), "--headless"]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut out = String::new();
    while !out.contains("nodes are up") {
        assert_ne!(lines.read_line(&mut out).unwrap(), 0, "it ended: {out}");
    }
    let labs = house.labs_of(child.id());
    drop(lines);
    let mut err = String::new();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert_eq!((child.wait().unwrap().code(), err.as_str()), (Some(141), ""));
    house.assert_gone(&labs);
    assert!(house.lab_folders_are_empty());
}

/// The lines that `--keep` leaves to connect with: the node's name and the command, as printed.
fn doors(out: &str) -> Vec<(String, String)> {
    let lines = out.lines().filter_map(|l| l.trim().strip_prefix("PGPASSFILE=")?.split_once("# "));
    lines.map(|(door, who)| (who.split(',').next().unwrap().to_owned(), format!("PGPASSFILE={door}"))).collect()
}

/// What a kept server says to the command as it was printed, without a shell's help but for the reading of it.
fn through(door: &str, sql: &str) -> String {
    let out = Command::new("sh").args(["-c", &format!("{door} -XAtqc \"{sql}\"")]).output().unwrap();
    assert!(out.status.success(), "{door}: {sql}: {out:?}");
    String::from_utf8(out.stdout).unwrap().trim().to_owned()
}

#[track_caller]
fn until(what: &str, holds: impl Fn() -> bool) {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !holds() {
        assert!(std::time::Instant::now() < end, "waited in vain for {what}");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

/// The servers outlive the program, without its relays; the printed lines lead to them; `clean` takes them away.
fn kept_servers_go_on(ground: Ground) {
    let Some(house) = House::on(ground) else { return };
    let lesson = house.path().join("short.toml");
    let text = "title = \"Short\"\nsummary = \"Some writes.\"\nlevel = \"basics\"\nminutes = 1\n[[step]]\nwait = \"acked >= 20\"\nwithin = \"30s\"\n";
    std::fs::write(&lesson, text).unwrap();
    let words = ["play", lesson.to_str().unwrap(), "--headless", "--keep"];
    let mut child = house.replab(&words).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut out = String::new();
    // Its end isn't its output's: the servers it leaves may hold that open.
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    while !out.contains("remove it with: replab clean") {
        assert_ne!(lines.read_line(&mut out).unwrap(), 0, "{out}");
    }
    let labs = house.labs_of(child.id());
    assert_eq!((child.wait().unwrap().code(), labs.len()), (Some(0), 1), "{out}");
    let doors = doors(&out);
    let door = |node: &str| &doors.iter().find(|(name, _)| name == node).expect(node).1;
    until("both standbys", || {
        through(door("p"), "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'") == "2"
    });
    through(door("p"), "CREATE TABLE after (word text); INSERT INTO after VALUES ('still here')");
    for standby in ["s1", "s2"] {
        until("the table", || through(door(standby), "SELECT to_regclass('after') IS NOT NULL") == "t");
        until("the row", || through(door(standby), "SELECT word FROM after") == "still here");
    }
    let would = said(&house.replab(&["clean", "--dry-run"]).output().unwrap());
    assert!(would.code == 0 && would.out.contains("would remove"), "{}{}", would.out, would.err);
    assert_eq!(through(door("p"), "SELECT 1"), "1", "a dry run removes nothing");
    let cleaned = said(&house.replab(&["clean"]).output().unwrap());
    assert_eq!(cleaned.code, 0, "{}{}", cleaned.out, cleaned.err);
    house.assert_gone(&labs);
    let passfile = doors[0].1.split_whitespace().next().unwrap().trim_start_matches("PGPASSFILE=");
    assert!(!std::path::Path::new(passfile).exists(), "{passfile} holds a password of a lab that is gone");
}

/// One after the other: `clean` takes all away that nobody owns.
#[test]
fn kept_servers_go_on_without_the_program() {
    kept_servers_go_on(Ground::Process);
    kept_servers_go_on(Ground::Docker(18));
}

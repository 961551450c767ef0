//! What the full set consists of, and how each is run.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use replab::report::Report;
use replab::runtime::versions::major_of;
use replab::scenario::SHIPPED;
use rustix::process::{Pid, Signal, kill_process};

use crate::common::engines;
use crate::common::house::{Ground, House};
use crate::matrix::cell::{MENDED_MS, ground_name, play};
use crate::matrix::faults::{FAULTS, MODES};
use crate::matrix::page;
use crate::state::State;

const GROUNDS: [Ground; 4] = [Ground::Process, Ground::Docker(17), Ground::Docker(18), Ground::Docker(19)];
/// Test programs whose tests on 19 are left to the full set.
const SUITES: [&str; 5] = ["detection", "failover", "lab", "links", "truth"];
const SEEDS: std::ops::RangeInclusive<u32> = 1..=20;
/// Such a program has some dozen tests, of half a minute each at most, and is compiled first.
const SUITE_LIMIT: Duration = Duration::from_mins(25);
/// Rounds of chaos that a net is cast in.
const NET_ROUNDS: u32 = 6;
/// A lesson takes a minute; chaos its own minute, and what brings the lab up and to rest.
const LIMIT: Duration = Duration::from_mins(6);
/// A program that was asked to end has this long to clean up.
const GRACE: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// One of them.
pub struct Item {
    pub name: String,
    ground: Ground,
    what: What,
}

enum What {
    /// A fault in every mode.
    Row(&'static str),
    Lesson(&'static str),
    Chaos(u32),
    /// The tests on 19 of a test program.
    Suite(&'static str),
    /// A lesson beside another engine than this machine's own.
    Beside(&'static str, &'static str),
    /// What the screen says during chaos of this seed, against the servers.
    Net(u32),
}

/// What is played beside other engines, and how often; nothing named: every lesson once.
const BESIDE: [(&str, &[(&str, u32)]); 5] = [
    ("docker-28", &[("01", 1), ("07", 1), ("10", 1), ("20", 1), ("24", 1), ("22", 20)]),
    ("docker-28-containerd", &[("01", 1), ("22", 1), ("24", 1)]),
    ("podman-5", &[]),
    ("podman-5-rootless", &[]),
    ("podman-4", &[("01", 1), ("07", 1), ("22", 1)]),
];
/// What is said of a lesson whose ground can't freeze containers: that is no failure.
const NO_FREEZER: &str = "can't freeze containers";

/// All, the quick ones first.
pub fn all() -> Vec<Item> {
    let mut items = Vec::new();
    for ground in page::GROUNDS {
        for fault in FAULTS.iter().filter(|f| page::exists(ground, f)) {
            items.push(Item {
                name: format!("matrix/{}/{}", ground_name(ground), fault.key),
                ground,
                what: What::Row(fault.key),
            });
        }
    }
    for ground in GROUNDS {
        for (lesson, _) in SHIPPED {
            items.push(Item {
                name: format!("lesson/{}/{lesson}", ground_name(ground)),
                ground,
                what: What::Lesson(lesson),
            });
        }
    }
    for suite in SUITES {
        let ground = Ground::Docker(19);
        items.push(Item { name: format!("tests/{}/{suite}", ground_name(ground)), ground, what: What::Suite(suite) });
    }
    for (engine, lessons) in BESIDE {
        let named = |number: &str| SHIPPED.iter().map(|(name, _)| *name).find(|name| name.starts_with(number)).unwrap();
        let plays: Vec<(&str, u32)> = match lessons {
            [] => SHIPPED.iter().map(|(lesson, _)| (*lesson, 1)).collect(),
            lessons => lessons.iter().map(|(number, times)| (named(number), *times)).collect(),
        };
        for (lesson, times) in plays {
            for time in 1..=times {
                let again = if times > 1 { format!("/{time:02}") } else { String::new() };
                let name = format!("engine/{engine}/{lesson}{again}");
                items.push(Item { name, ground: Ground::Docker(18), what: What::Beside(engine, lesson) });
            }
        }
    }
    for ground in [Ground::Process, Ground::Docker(18)] {
        for seed in SEEDS {
            items.push(Item {
                name: format!("chaos/{}/{seed:02}", ground_name(ground)),
                ground,
                what: What::Chaos(seed),
            });
            items.push(Item { name: format!("net/{}/{seed:02}", ground_name(ground)), ground, what: What::Net(seed) });
        }
    }
    items
}

impl Item {
    /// Runs it; an error says in a line why it failed.
    pub fn run(&self, state: &State) -> Result<(), String> {
        let there = catch_unwind(|| self.ground.is_there()).unwrap_or(false);
        if !there {
            return Err(format!("{} can't be had on this machine", ground_name(self.ground)));
        }
        match self.what {
            What::Row(fault) => self.row(fault, state),
            What::Lesson(lesson) => self.lesson(lesson, state),
            What::Suite(suite) => self.suite(suite, state),
            What::Beside(engine, lesson) => self.beside(engine, lesson, state),
            What::Net(seed) => self.net(seed),
            What::Chaos(seed) => self.program(&["chaos", "--seed", &seed.to_string(), "--for", "1m"], state).map(drop),
        }
    }

    fn row(&self, fault: &'static str, state: &State) -> Result<(), String> {
        let mut slow = Vec::new();
        for mode in MODES {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            let played = catch_unwind(AssertUnwindSafe(|| runtime.block_on(play(self.ground, fault, mode.name))));
            runtime.shutdown_timeout(Duration::from_secs(5));
            match played {
                Ok(Some(cell)) => {
                    state.keep_cell(&cell);
                    if cell.mended_ms > MENDED_MS {
                        slow.push(format!("{}: mended only after {} ms", mode.name, cell.mended_ms));
                    }
                }
                Ok(None) => return Err(format!("{}: this ground is not there", mode.name)),
                Err(panic) => return Err(format!("{}: {}", mode.name, said(panic.as_ref()))),
            }
        }
        if slow.is_empty() { Ok(()) } else { Err(slow.join("; ")) }
    }

    fn beside(&self, engine: &str, lesson: &str, state: &State) -> Result<(), String> {
        let file = state.folder.join("report.json");
        let path = file.to_string_lossy().into_owned();
        let words: Vec<String> = ["play", lesson, "--headless", "--report", &path].map(str::to_owned).into();
        let words: Vec<String> = words.into_iter().chain(self.ground.args()).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let house = House::prepared(self.ground);
        let output =
            engines::beside(engine, &house, r#"exec "$0" "$@""#, &words).output().map_err(|e| e.to_string())?;
        let log = state.log(&self.name);
        std::fs::write(&log, [&output.stdout[..], &output.stderr[..]].concat()).map_err(|e| e.to_string())?;
        if let Some(why) = engines::refusal(&output) {
            return Err(why);
        }
        match output.status.code() {
            Some(0) => self.is_sound(&file),
            Some(4)
                if engine == "podman-5-rootless" && String::from_utf8_lossy(&output.stderr).contains(NO_FREEZER) =>
            {
                Ok(())
            }
            _ => Err(format!("{}; {}", output.status, log.display())),
        }
    }

    fn net(&self, seed: u32) -> Result<(), String> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let rounds = crate::net::play::play(self.ground, seed.into(), NET_ROUNDS);
        let played = catch_unwind(AssertUnwindSafe(|| runtime.block_on(rounds)));
        runtime.shutdown_timeout(Duration::from_secs(5));
        match played {
            Ok(Some(tally)) if tally.findings.is_empty() => Ok(()),
            Ok(Some(tally)) => Err(tally.findings.join("; ")),
            Ok(None) => Err("this ground is not there".to_owned()),
            Err(panic) => Err(said(panic.as_ref())),
        }
    }

    fn lesson(&self, lesson: &str, state: &State) -> Result<(), String> {
        let file = state.folder.join("report.json");
        let path = file.to_string_lossy().into_owned();
        self.program(&["play", lesson, "--headless", "--report", &path], state)?;
        self.is_sound(&file)
    }

    fn is_sound(&self, file: &Path) -> Result<(), String> {
        let report = std::fs::read_to_string(file).map_err(|e| e.to_string())?;
        let report: Report = serde_json::from_str(&report).map_err(|e| e.to_string())?;
        if (report.expectations.failed, report.verdict.as_str()) != (0, "sound") || report.expectations.passed == 0 {
            return Err(format!("verdict {}, {:?}", report.verdict, report.expectations));
        }
        match self.ground {
            Ground::Docker(major) if major_of(&report.postgres) != Some(major) => Err(report.postgres),
            _ => Ok(()),
        }
    }

    fn suite(&self, suite: &str, state: &State) -> Result<(), String> {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["test", "--release", "--locked", "--test", suite, "--", "--ignored", "in_docker_19"]);
        self.to_its_end(cargo.current_dir(env!("CARGO_MANIFEST_DIR")), SUITE_LIMIT, state)
    }

    /// The program itself, in a house of its own.
    fn program(&self, words: &[&str], state: &State) -> Result<(), String> {
        let house = House::prepared(self.ground);
        // Chaos that fails leaves its scenario where it ran.
        self.to_its_end(house.replab(words).current_dir(&state.folder), LIMIT, state)
    }

    /// A command within its time; what it said is kept beside the state.
    fn to_its_end(&self, command: &mut Command, limit: Duration, state: &State) -> Result<(), String> {
        let log = state.log(&self.name);
        let out = std::fs::File::create(&log).map_err(|e| e.to_string())?;
        let err = out.try_clone().map_err(|e| e.to_string())?;
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        let mut child = command.spawn().map_err(|e| e.to_string())?;
        let (began, mut asked) = (Instant::now(), false);
        let status = loop {
            if let Some(status) = child.try_wait().map_err(|e| e.to_string())? {
                break status;
            }
            if began.elapsed() > limit && !asked {
                asked = true;
                let pid = Pid::from_raw(child.id().cast_signed()).unwrap();
                let _ = kill_process(pid, Signal::TERM);
            }
            if began.elapsed() > limit + GRACE {
                let _ = child.kill();
            }
            std::thread::sleep(LOOK_EVERY);
        };
        match (status.success(), asked) {
            (_, true) => Err(format!("not done after {} s; {}", limit.as_secs(), log.display())),
            (true, _) => Ok(()),
            (false, _) => Err(format!("{status}; {}", log.display())),
        }
    }
}

/// The first line of a panic.
fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap_or_default();
    text.lines().next().unwrap_or("it panicked").to_owned()
}

//! Recordings and time travel: what an hour of a lab of three nodes at 1,000 writes a second takes on disk, how long a jump to any
//! moment of it takes, and how much memory a day of a live lab takes that can be gone back in.
//!
//! The messages are a real lab's, recorded for a while as processes; the hour and the day are that while again and again, with
//! the clock, the writes' numbers and the WAL positions going on.

mod common;
#[path = "common/long.rs"]
mod long;

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use common::{Bench, Goal, Run, Spread, ms, processes};
use long::Long;
use replab::app::recorder::{Recorder, Shelf};
use replab::model::{Model, Stamp, update};
use replab::recording::{Header, Player, messages};

const HOUR_US: u64 = 3_600_000_000;
const DAY_US: u64 = 24 * HOUR_US;
const JUMPS: usize = 40;
const MB: f64 = 1e6;

fn main() -> ExitCode {
    common::run("scrub", scrub, async || {})
}

async fn scrub(bench: &mut Bench) -> Run<()> {
    let folder = processes::folder()?;
    let [size, jump, day] = ["an hour on disk, MB", "a jump in an hour, ms, slowest", "a day in memory, MB"];
    if [size, jump].iter().any(|case| bench.wants(case)) {
        let long = real(bench, folder.path(), "1000")?;
        let (recorder, took) = record(&long, HOUR_US, &folder.path().join("hour.replab"))?;
        let bytes = fs::metadata(&recorder.path)?.len();
        bench.tell(size, &format!("made in {took:.0} ms, keyframes {:.1} MB", recorder.reel.kept_bytes() as f64 / MB));
        bench.goal(size, bytes as f64 / MB, Goal::AtMost(20.0));
        let slowest = jumps(bench, jump, &recorder)?;
        bench.goal(jump, slowest, Goal::AtMost(100.0));
    }
    if bench.wants(day) {
        let long = real(bench, folder.path(), "20")?;
        let before = resident()?;
        let (recorder, took) = record(&long, DAY_US, &folder.path().join("day.replab"))?;
        let grown = resident()?.saturating_sub(before);
        let kept = recorder.reel.kept_bytes();
        let file = fs::metadata(&recorder.path)?.len();
        bench.tell(
            day,
            &format!("keyframes {:.1} MB, file {:.1} MB, made in {took:.0} ms", kept as f64 / MB, file as f64 / MB),
        );
        bench.goal(day, grown as f64 / MB, Goal::AtMost(100.0));
        jumps(bench, "a jump in a day", &recorder)?;
    }
    Ok(())
}

/// Jumps to moments all over a recording, from one to the next in no order; the slowest, in milliseconds.
fn jumps(bench: &Bench, case: &str, recorder: &Recorder) -> Run<f64> {
    let (end, mut player) = (recorder.reel.end().0, Player::new());
    let mut figures = Vec::new();
    for turn in 0..bench.rounds(JUMPS) as u64 {
        // The golden ratio's multiples lie everywhere.
        let share = (turn as f64 * 0.618_034).fract();
        let began = Instant::now();
        player.seek(&recorder.reel, &recorder.film, Stamp((end as f64 * share) as u64))?;
        figures.push(ms(began));
    }
    let spread = Spread::of(&figures);
    bench.tell(case, &format!("{spread:.1} ms"));
    Ok(spread.max)
}

/// Records so much of a long lab, as a lab that lives does.
fn record(long: &Long, until_us: u64, path: &Path) -> Run<(Recorder, f64)> {
    let began = Instant::now();
    let header = Header { replab_recording: 1, lab: "long".into(), ..Header::default() };
    let mut recorder = Recorder::begin(&Shelf::File(path.to_owned()), header)?;
    let mut model = Model::default();
    for (at, msg) in long.until(until_us) {
        recorder.take(&model, at, &msg);
        update(&mut model, at, msg);
    }
    recorder.flush();
    match recorder.ended.take() {
        Some(why) => Err(why.into()),
        None => Ok((recorder, ms(began))),
    }
}

/// A real lab of a primary and two standbys that writes at this rate, recorded.
fn real(bench: &Bench, folder: &Path, rate: &str) -> Run<Long> {
    let seconds = if bench.rounds(JUMPS) < JUMPS { 10 } else { 40 };
    let (lesson, film) = (folder.join("busy.toml"), folder.join(format!("{rate}.replab")));
    let text = format!(
        "title = 'Busy'\nsummary = 'Three nodes, and a busy writer.'\n[writer]\nclients = 8\nrate = {rate}\n\
         [[step]]\npause = '{seconds}s'\n[[step]]\nexpect = 'acked > {}'\n",
        seconds * rate.parse::<u64>()? / 2
    );
    fs::write(&lesson, text)?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_replab"));
    command.args(["play", "--headless", "--runtime", "process", "--record"]).args([&film, &lesson]);
    command.env("XDG_CACHE_HOME", folder.join("cache")).env("XDG_STATE_HOME", folder.join("state"));
    let output = command.stdin(Stdio::null()).output()?;
    if !output.status.success() {
        return Err(format!("the lab failed: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let bytes = fs::read(&film)?;
    bench.tell(&format!("{rate} writes/s"), &format!("{seconds} s recorded, {} bytes", bytes.len()));
    Long::of(messages(&bytes).collect())
}

/// Bytes of memory this process has.
fn resident() -> Run<u64> {
    let text = fs::read_to_string("/proc/self/statm")?;
    let pages: u64 = text.split(' ').nth(1).ok_or("no resident size")?.parse()?;
    Ok(pages * rustix::param::page_size() as u64)
}

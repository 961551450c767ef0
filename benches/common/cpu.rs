//! CPU time that was really used, from /proc: in nanoseconds where the scheduler keeps them.

use std::fs;
use std::path::Path;
use std::time::Duration;

/// What all threads of a process that live now have run. Zero when it is gone.
pub fn of_process(pid: u32) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    tasks.map(|task| of_task(&task.path())).sum()
}

/// User and system time of a process, with threads that have ended; in the kernel's ticks of 10 ms. None when it is gone.
pub fn of_all_threads(pid: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let ticks = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some(Duration::from_millis(10 * (ticks(11)? + ticks(12)?)))
}

/// What one thread has run, by its folder in /proc.
pub fn of_task(folder: &Path) -> Duration {
    run_time(&folder.join("schedstat"))
}

/// The first number of a schedstat file: nanoseconds on a CPU.
fn run_time(file: &Path) -> Duration {
    let text = fs::read_to_string(file).unwrap_or_default();
    Duration::from_nanos(text.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0))
}

/// Ticks in which the machine was idle, and all of them.
pub fn idle_and_all() -> (f64, f64) {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let first = text.lines().next().unwrap_or_default();
    let ticks: Vec<f64> = first.split_whitespace().skip(1).take(8).filter_map(|n| n.parse().ok()).collect();
    (ticks.get(3).copied().unwrap_or(0.0) + ticks.get(4).copied().unwrap_or(0.0), ticks.iter().sum())
}

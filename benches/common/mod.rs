//! What the benches share: which cases run, sides measured in turning order, medians of pairs, and the lines printed.
//!
//! `cargo bench --bench NAME [-- WORD...] [--rounds N]`: only cases whose name has one of the words; `REPLAB_BENCH_ROUNDS` says
//! rounds too. Fewer rounds make a smoke run, not a measurement. Each goal prints `bench NAME CASE: R goal G pass|fail`; the last
//! line is the whole's. Everything a bench makes is gone when it ends, by Ctrl-C too.

#![allow(dead_code, reason = "each bench uses its part")]

use std::fs;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};

pub mod cpu;
pub mod docker;
pub mod lab;
pub mod processes;

/// Why a bench can't go on.
pub type Oops = Box<dyn std::error::Error + Send + Sync>;
/// What most steps give.
pub type Run<T> = Result<T, Oops>;

/// A measurement begins when this share of the machine was idle for a moment.
const QUIET: f64 = 0.85;
const MOMENT: Duration = Duration::from_millis(250);
/// The machine isn't waited for longer than this.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a figure must be.
#[derive(Clone, Copy, Debug)]
pub enum Goal {
    /// No more than this.
    AtMost(f64),
    /// No less than this.
    AtLeast(f64),
}

impl Goal {
    fn holds(self, figure: f64) -> bool {
        match self {
            Self::AtMost(limit) => figure <= limit,
            Self::AtLeast(limit) => figure >= limit,
        }
    }
}

impl std::fmt::Display for Goal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AtMost(limit) => write!(f, "<={limit:.2}"),
            Self::AtLeast(limit) => write!(f, ">={limit:.2}"),
        }
    }
}

/// One bench: what was asked for, and which goals it met.
#[derive(Debug)]
pub struct Bench {
    name: &'static str,
    words: Vec<String>,
    rounds: Option<usize>,
    goals: usize,
    failed: usize,
    begun: usize,
    busy: usize,
}

impl Bench {
    fn from_args(name: &'static str) -> Self {
        let mut bench = Self { name, words: Vec::new(), rounds: None, goals: 0, failed: 0, begun: 0, busy: 0 };
        bench.rounds = std::env::var("REPLAB_BENCH_ROUNDS").ok().and_then(|n| n.parse().ok());
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--rounds" => bench.rounds = args.next().and_then(|n| n.parse().ok()).or(bench.rounds),
                // Cargo's own.
                flag if flag.starts_with('-') => {}
                word => bench.words.push(word.to_owned()),
            }
        }
        bench
    }

    /// Whether this case was asked for.
    pub fn wants(&self, case: &str) -> bool {
        self.words.is_empty() || self.words.iter().any(|word| case.contains(word.as_str()))
    }

    /// How many rounds: those asked for, else the usual number.
    pub fn rounds(&self, usual: usize) -> usize {
        self.rounds.unwrap_or(usual).max(1)
    }

    /// A figure beside the goals.
    pub fn tell(&self, case: &str, text: &str) {
        println!("      {} {case}: {text}", self.name);
    }

    /// A figure that a goal is set for.
    pub fn goal(&mut self, case: &str, figure: f64, goal: Goal) {
        let good = goal.holds(figure);
        self.goals += 1;
        self.failed += usize::from(!good);
        println!("bench {} {case}: {figure:.2} goal {goal} {}", self.name, if good { "pass" } else { "fail" });
    }

    /// Figures of both sides, then the median of the paired ratios `ours / theirs` against the goal.
    pub fn compare(&mut self, case: &str, unit: &str, theirs: (&str, &[f64]), ours: &[f64], goal: Goal) {
        let ratios: Vec<f64> = ours.iter().zip(theirs.1).map(|(ours, theirs)| ours / theirs).collect();
        let ratio = Spread::of(&ratios);
        let each = |figures: &[f64]| figures.iter().map(|n| format!("{n:.0}")).collect::<Vec<_>>().join(" ");
        self.tell(case, &format!("in turn: ours {} | {} {}", each(ours), theirs.0, each(theirs.1)));
        let (ours, other) = (Spread::of(ours), Spread::of(theirs.1));
        self.tell(case, &format!("ours {ours:.0} {unit}, {} {other:.0} {unit}, ratio {ratio:.2}", theirs.0));
        self.goal(case, ratio.median, goal);
    }

    /// Waits for a quiet moment of the machine, not for ever; how often in vain is told at the end. What earlier turns wrote is
    /// on disk before it, else its writing out stalls the next turn at random.
    pub async fn quiet(&mut self) {
        if self.rounds != Some(1) {
            rustix::fs::sync();
        }
        let end = Instant::now() + if self.rounds == Some(1) { Duration::ZERO } else { PATIENCE };
        self.begun += 1;
        loop {
            let before = cpu::idle_and_all();
            tokio::time::sleep(MOMENT).await;
            let after = cpu::idle_and_all();
            if (after.0 - before.0) >= QUIET * (after.1 - before.1) {
                return;
            }
            if Instant::now() >= end {
                self.busy += 1;
                return;
            }
        }
    }

    /// The same measurement of `N` sides, round by round in turning order. What `measure` gives is a time or a rate.
    pub async fn turns<const N: usize>(
        &mut self,
        rounds: usize,
        mut measure: impl AsyncFnMut(usize) -> Run<f64>,
    ) -> Run<[Vec<f64>; N]> {
        let mut figures = [const { Vec::new() }; N];
        for round in 0..rounds {
            for turn in 0..N {
                let side = if round % 2 == 0 { (turn + round / 2) % N } else { (2 * N - 1 - turn + round / 2) % N };
                self.quiet().await;
                figures[side].push(measure(side).await?);
            }
        }
        Ok(figures)
    }

    fn finish(self, done: Run<()>) -> ExitCode {
        println!("      {} load average now: {}", self.name, load());
        if self.busy > 0 {
            println!("      {} {} of {} measurements began on a busy machine", self.name, self.busy, self.begun);
        }
        let (name, failed, goals) = (self.name, self.failed, self.goals);
        match done {
            Err(why) => println!("bench {name}: fail ({why})"),
            Ok(()) if goals == 0 => println!("bench {name}: fail (no case has that name)"),
            Ok(()) if failed == 0 => {
                println!("bench {name}: pass");
                return ExitCode::SUCCESS;
            }
            Ok(()) => println!("bench {name}: fail ({failed} of {goals})"),
        }
        ExitCode::FAILURE
    }
}

/// Runs a bench to its end or to Ctrl-C, then `after`, whatever happened.
pub fn run(name: &'static str, body: impl AsyncFnOnce(&mut Bench) -> Run<()>, after: impl AsyncFnOnce()) -> ExitCode {
    let mut bench = Bench::from_args(name);
    println!("      {name} load average: {}", load());
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(why) => return bench.finish(Err(why.into())),
    };
    let done = runtime.block_on(async {
        let done = tokio::select! {
            done = body(&mut bench) => done,
            () = ended(SignalKind::interrupt()) => Err("interrupted".into()),
            () = ended(SignalKind::terminate()) => Err("terminated".into()),
        };
        after().await;
        done
    });
    runtime.shutdown_timeout(Duration::from_secs(5));
    bench.finish(done)
}

async fn ended(kind: SignalKind) {
    match signal(kind) {
        Ok(mut stream) => drop(stream.recv().await),
        Err(_) => std::future::pending().await,
    }
}

fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

/// The middle of some figures, and their ends.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    /// The middle one; of an even number the mean of the two in the middle.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    /// Of at least one figure.
    pub fn of(figures: &[f64]) -> Self {
        let mut sorted = figures.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
        let count = sorted.len();
        let median = f64::midpoint(at(count.saturating_sub(1) / 2), at(count / 2));
        Self { median, min: at(0), max: at(count.saturating_sub(1)) }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let digits = f.precision().unwrap_or(2);
        write!(f, "{:.digits$} ({:.digits$} to {:.digits$})", self.median, self.min, self.max)
    }
}

/// Milliseconds since then.
pub fn ms(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

//! What a run of chaos says of itself in the report: its rounds, what was commanded in each and when, and why it failed. Plain data.

use serde::{Deserialize, Serialize};

/// A run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ChaosReport {
    /// The seed: the same one with the same kinds and standbys gives the same rounds.
    pub seed: u64,
    /// The kinds of faults it chose from.
    pub kinds: Vec<String>,
    /// How many standbys there were.
    pub standbys: usize,
    /// For how long rounds were begun.
    pub for_ms: u64,
    /// How soon after the heal everything had to stream; twice that where a node had to be rebuilt.
    pub within_ms: u64,
    /// The rounds, oldest first; the last one may have broken off.
    pub rounds: Vec<RoundReport>,
    /// Which invariant didn't hold; null when all did.
    pub failure: Option<String>,
    /// The scenario that plays a failed run again.
    pub replay: Option<String>,
}

/// A round.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RoundReport {
    /// Its number, from 1.
    pub number: u32,
    /// When it began, in milliseconds since the lab was opened.
    pub at_ms: u64,
    /// The primary it began with.
    pub primary: String,
    /// The synchronous rule it began with.
    pub rule: String,
    /// The level its writes committed at.
    pub level: String,
    /// The kinds of its faults.
    pub kinds: Vec<String>,
    /// What was done to the cluster.
    pub acts: Vec<ActReport>,
    /// What brought it back.
    pub mends: Vec<ActReport>,
    /// From the heal until everything streamed and writes went on; null where it didn't come to that.
    pub whole_after_ms: Option<u64>,
    /// Whether a node had to be rebuilt.
    pub rebuilt: bool,
    /// Writes acknowledged so far.
    pub acked: u64,
    /// Of those, how many the primary lacks.
    pub lost: u64,
    /// Of those, how many a synchronous rule has promised to keep, so that their loss would be found.
    #[serde(default)]
    pub promised: u64,
    /// "sound", "unknown" or "broken"; null where it didn't come to that.
    pub verdict: Option<String>,
}

/// A command of a round.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ActReport {
    /// When it was asked for, in milliseconds since the lab was opened.
    pub at_ms: u64,
    /// The command.
    pub command: String,
    /// How long it took, in milliseconds.
    pub ms: u64,
    /// "done", "refused" (the lab didn't take it: nothing happened), "failed", or "under way" (the run broke off before its end).
    pub outcome: String,
    /// Why it was refused or failed.
    pub why: Option<String>,
}

impl RoundReport {
    /// The round in a line.
    pub fn line(&self) -> String {
        let act = |a: &ActReport| match a.outcome.as_str() {
            "done" => a.command.clone(),
            outcome => format!("{} ({outcome})", a.command),
        };
        let acts = self.acts.iter().map(act).collect::<Vec<_>>().join("; ");
        let whole = self.whole_after_ms.map_or("not whole again".to_owned(), |ms| {
            format!("whole after {:.2} s{}", ms as f64 / 1e3, if self.rebuilt { " with a rebuild" } else { "" })
        });
        let verdict = self.verdict.as_deref().unwrap_or("no verdict");
        format!(
            "round {:>3} {:>7.1} s  {}, {}: {acts}\n                    {whole}; {} acknowledged, {} of them not on the primary, {verdict}",
            self.number,
            self.at_ms as f64 / 1e3,
            self.rule,
            self.level,
            self.acked,
            self.lost
        )
    }
}

impl ChaosReport {
    /// The run in a line.
    pub fn summary(&self) -> String {
        let done = |a: &&ActReport| a.outcome == "done";
        let acts: usize = self.rounds.iter().map(|r| r.acts.iter().filter(done).count()).sum();
        let rebuilt = self.rounds.iter().filter(|r| r.rebuilt).count();
        let slowest = self.rounds.iter().filter_map(|r| r.whole_after_ms).max().unwrap_or_default();
        format!(
            "seed {}: {} rounds, {acts} commands, {rebuilt} rounds with a rebuild, whole again after {:.2} s at most: {}",
            self.seed,
            self.rounds.len(),
            slowest as f64 / 1e3,
            if self.failure.is_some() { "failed" } else { "passed" }
        )
    }
}

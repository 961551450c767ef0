//! The kinds of faults that chaos knows, one row each: what each does to a cluster, as commands of the lab. Decides with the
//! dice alone; whether a command may run by then is `admit`'s business.

use super::dice::Dice;
use super::{Act, Cast};

/// A kind of fault.
#[derive(Debug)]
pub struct Kind {
    /// Its name, for `--faults`.
    pub name: &'static str,
    /// What it does.
    pub help: &'static str,
    /// Whether it may move the primary's part: at most one such kind has its turn in a round, because a promise covers the loss
    /// of one primary.
    pub moves: bool,
    plan: fn(&mut Dice, &Cast) -> Vec<Act>,
}

macro_rules! kinds {
    ($($name:literal $moves:literal $help:literal => $plan:expr;)*) => {
        /// All kinds.
        pub const KINDS: &[Kind] = &[$(Kind { name: $name, help: $help, moves: $moves, plan: $plan }),*];
    };
}

kinds! {
    "kill" false "SIGKILL of a standby, now and then of the primary" => |d, c| vec![now(format!("kill {}", anybody(d, c, 30)))];
    "stop" false "a clean shutdown of a standby" => |d, c| vec![now(format!("stop {}", standby(d, c)))];
    "freeze" false "a standby is frozen, now and then the primary" => |d, c| vec![now(format!("freeze {}", anybody(d, c, 30)))];
    "replay" false "replay is paused on a standby" => |d, c| vec![now(format!("replay pause {}", standby(d, c)))];
    "cut" false "a link is cut: both ways, one way, the clients' own, or between the primary and several standbys" => cut;
    "isolate" false "a node is cut off from everybody, or the clients are" => |d, c| vec![now(format!("isolate {}", anybody_or_clients(d, c)))];
    "refuse" false "connections to the primary are refused" => |d, c| vec![now(format!("refuse {} {}", to_the_primary(d, c), c.primary))];
    "slow" false "a link is slow, with jitter" => slow;
    "throttle" false "a link is narrow" => |d, c| vec![now(format!("throttle {} {} {}kB/s", c.primary, to_the_primary(d, c), 64 << d.below(4)))];
    "release" false "commits that wait for a standby are cancelled, or their sessions terminated" => |d, _| vec![now((if d.chance(60) { "cancel" } else { "terminate" }).to_owned())];
    "failover" true "the primary is killed, frozen or cut off, and replaced by an election" => failover;
    "switchover" true "the primary's part is handed over as planned" => |d, c| vec![soon(format!("switchover {}", standby(d, c)), 0, 1_000)];
    "auto" true "automatic failover watches, and the primary is killed, frozen or cut off" => auto;
}

impl Kind {
    /// The kind of that name.
    pub fn named(name: &str) -> Option<&'static Self> {
        KINDS.iter().find(|k| k.name == name)
    }

    /// Whether all it does is to links.
    pub fn faults_links(&self) -> bool {
        matches!(self.name, "cut" | "isolate" | "refuse" | "slow" | "throttle")
    }

    /// What it does this time.
    pub fn plan(&self, dice: &mut Dice, cast: &Cast) -> Vec<Act> {
        (self.plan)(dice, cast)
    }
}

fn now(text: String) -> Act {
    soon(text, 0, 0)
}

/// So long after the act before it, and with patience until the lab admits it.
fn soon(text: String, after_ms: u64, patience_ms: u64) -> Act {
    let command = text.parse().unwrap_or_else(|e| unreachable!("`{text}` is a command: {e}"));
    Act { after_ms, patience_ms, command }
}

fn standby<'a>(dice: &mut Dice, cast: &'a Cast) -> &'a str {
    dice.pick(&cast.standbys).unwrap_or(&cast.primary).as_str()
}

/// A standby, or in so many of a hundred cases the primary.
fn anybody<'a>(dice: &mut Dice, cast: &'a Cast, percent: u64) -> &'a str {
    if dice.chance(percent) { cast.primary.as_str() } else { standby(dice, cast) }
}

fn anybody_or_clients<'a>(dice: &mut Dice, cast: &'a Cast) -> &'a str {
    if dice.chance(15) { "client" } else { anybody(dice, cast, 30) }
}

/// Who connects to the primary.
fn to_the_primary<'a>(dice: &mut Dice, cast: &'a Cast) -> &'a str {
    if dice.chance(20) { "client" } else { standby(dice, cast) }
}

fn cut(dice: &mut Dice, cast: &Cast) -> Vec<Act> {
    let (p, other) = (&cast.primary, to_the_primary(dice, cast).to_owned());
    vec![now(match dice.below(5) {
        0 => format!("cut {p} -> {other}"),
        1 => format!("cut {other} -> {p}"),
        2 => format!("cut {p} | {}", several(dice, cast)),
        _ => format!("cut {p} {other}"),
    })]
}

/// Two or more of the standbys, or the only one.
fn several(dice: &mut Dice, cast: &Cast) -> String {
    let count = dice.between(2, cast.standbys.len().max(2) as u64) as usize;
    let some = dice.some(&cast.standbys, count);
    some.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

fn slow(dice: &mut Dice, cast: &Cast) -> Vec<Act> {
    let delay = 10 * dice.between(1, 15);
    let jitter = dice.below(delay / 2 + 1);
    let jitter = if jitter > 0 { format!(" ±{jitter}ms") } else { String::new() };
    vec![now(format!("slow {} {} {delay}ms{jitter}", cast.primary, to_the_primary(dice, cast)))]
}

/// The primary is gone, or out of reach of all its standbys.
fn blow(dice: &mut Dice, cast: &Cast) -> String {
    let all = || cast.standbys.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    match dice.below(5) {
        0 => format!("freeze {}", cast.primary),
        1 => format!("isolate {}", cast.primary),
        2 => format!("cut {} | {}", cast.primary, all()),
        _ => format!("kill {}", cast.primary),
    }
}

fn failover(dice: &mut Dice, cast: &Cast) -> Vec<Act> {
    vec![now(blow(dice, cast)), soon("failover".to_owned(), dice.between(0, 900), 2_000)]
}

fn auto(dice: &mut Dice, cast: &Cast) -> Vec<Act> {
    let timeout = dice.pick(&["300ms", "500ms", "1s"]).copied().unwrap_or("1s");
    let watch = soon(format!("auto-failover on timeout {timeout}"), 0, 0);
    // The detector must have seen it well once.
    vec![watch, soon(blow(dice, cast), dice.between(400, 900), 0)]
}

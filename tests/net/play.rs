//! Chaos of a seed on a real lab, with the net cast at moments that the seed decides: between the faults, while they are in force, while the
//! lab is mended. Plays what `chaos` plans; what must hold after a round is chaos' own business and not asked here.

use std::time::{Duration, Instant};

use rand_core::{Rng as _, SeedableRng as _};
use rand_xorshift::XorShiftRng;
use replab::chaos::{Cast, Chaos, mend};
use replab::model::admit::admit;
use replab::model::command::Command;
use replab::model::msg::Origin;
use replab::model::sync_rule::SyncRule;
use replab::model::{Model, Stamp};
use replab::runtime::Runtime;

use super::judge::{self, Finding};
use super::screen::Screen;
use super::servers::{self, Answers};
use crate::common::house::Ground;
use crate::common::stage::Stage;

const STANDBYS: u32 = 3;
/// Looks come twice a second and more; a busy machine may need longer.
const FRESH_WITHIN: Duration = Duration::from_secs(2);
/// A round that isn't whole by then is left to chaos itself to complain of.
const MENDED_WITHIN: Duration = Duration::from_secs(30);

/// What was asked and what came of it.
#[derive(Debug, Default)]
pub struct Tally {
    /// How often the net was cast.
    pub casts: usize,
    /// Of how many nodes what was said was compared with two answers of theirs.
    pub judged: usize,
    /// What both answers contradict, with the moment.
    pub findings: Vec<String>,
}

/// Plays so many rounds; None where the ground is not there.
pub async fn play(ground: Ground, seed: u64, rounds: u32) -> Option<Tally> {
    let shape = (replab::app::chaos::topology(STANDBYS), replab::app::chaos::writer());
    Some(match ground {
        Ground::Process => on(Stage::of_processes(shape.0, shape.1).await?, seed, rounds).await,
        Ground::Docker(major) => on(Stage::in_docker(major, shape.0, shape.1).await?, seed, rounds).await,
    })
}

async fn on<R: Runtime>(stage: Stage<R>, seed: u64, rounds: u32) -> Tally {
    let dice = XorShiftRng::seed_from_u64(seed ^ 0x6e65_7421);
    let mut net = Net { stage, dice, tally: Tally::default(), seed };
    let chaos = Chaos::new(seed, Vec::new());
    for number in 1..=rounds {
        net.round(&chaos, number).await;
    }
    net.stage.close().await;
    net.tally
}

/// The answers before, what the screen said, the answers after.
pub struct Haul {
    pub before: Answers,
    pub screen: Screen,
    pub after: Answers,
    pub since: u64,
    pub window_ms: u64,
}

impl Haul {
    pub fn findings(&self) -> Vec<Finding> {
        judge::contradictions(&self.before, &self.screen, &self.after, self.since, self.window_ms)
    }
}

/// Asks the servers, reads the screen once all who answered were looked at again, asks the servers.
pub async fn cast<R: Runtime>(stage: &mut Stage<R>) -> Haul {
    let began = Instant::now();
    let before = servers::ask(stage).await;
    let since = stage.session.now();
    let end = Instant::now() + FRESH_WITHIN;
    stage.until_so("fresh looks", |m| Instant::now() > end || before.keys().all(|name| looked(m, name, since))).await;
    let window_ms = began.elapsed().as_millis() as u64;
    let screen = Screen::of(stage.model());
    let after = servers::ask(stage).await;
    Haul { before, screen, after, since: since.0, window_ms }
}

fn looked(model: &Model, name: &str, since: Stamp) -> bool {
    let node = model.nodes.iter().find(|n| n.name.as_str() == name);
    // One that was taken away meanwhile isn't waited for.
    node.is_none_or(|n| {
        let took = n.sample.as_ref().map_or(0, |s| s.took_us);
        n.answers() && n.seen.is_some_and(|seen| seen.0.saturating_sub(took) >= since.0)
    })
}

struct Net<R: Runtime> {
    stage: Stage<R>,
    dice: XorShiftRng,
    tally: Tally,
    seed: u64,
}

impl<R: Runtime> Net<R> {
    async fn round(&mut self, chaos: &Chaos, number: u32) {
        let cast = Cast::of(self.stage.model()).expect("a primary");
        let round = chaos.round(number, &cast);
        self.sessions(&cast, number).await;
        let rule = self.rule(round.rule, &cast);
        for command in [Command::Sync(rule), Command::Commit(round.level), Command::Resume] {
            self.give(&command);
            self.settled().await;
        }
        self.look().await;
        for act in round.acts {
            self.pass(act.after_ms).await;
            let patience = Instant::now() + Duration::from_millis(act.patience_ms);
            self.stage.until_so("admission", |m| Instant::now() >= patience || admit(m, &act.command).is_ok()).await;
            self.give(&act.command);
            self.pass_some(400).await;
            self.look().await;
            self.settled().await;
        }
        self.mischief(&cast).await;
        self.pass_some(round.hold_ms).await;
        self.look().await;
        self.mend().await;
        self.give(&Command::Target(None));
        self.look().await;
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.dice.next_u32() % 100 < percent
    }

    /// Now and then one that names the primary too, as one writes it to keep it over handovers.
    fn rule(&mut self, rule: SyncRule, cast: &Cast) -> SyncRule {
        let with = |mut names: Vec<String>| {
            names.insert(0, cast.primary.to_string());
            names
        };
        match rule {
            SyncRule::Any(k, names) if self.chance(50) => SyncRule::Any(k, with(names)),
            SyncRule::First(k, names) if self.chance(50) => SyncRule::First(k, with(names)),
            rule => rule,
        }
    }

    /// What chaos never does: a second primary while the clients stay on the first; a session that the server ends.
    async fn mischief(&mut self, cast: &Cast) {
        if self.chance(30) {
            self.give(&Command::Target(Some(cast.primary.clone())));
            self.give(&Command::Promote(cast.standbys[0].clone()));
            self.settled().await;
            self.look().await;
        }
        if self.chance(50) {
            let end =
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE state = 'idle in transaction'";
            drop(self.stage.try_psql(cast.primary.as_str(), end).await);
            self.look().await;
        }
    }

    /// One session that is idle in a transaction on the primary, one that is idle on a standby.
    async fn sessions(&mut self, cast: &Cast, number: u32) {
        let standby = cast.standbys.first().unwrap_or(&cast.primary);
        for text in [
            format!("sql {}:open{number} BEGIN; SELECT pg_backend_pid()", cast.primary),
            format!("sql {standby}:idle{number} SELECT pg_backend_pid()"),
        ] {
            self.give(&text.parse().expect("a command"));
        }
        self.settled().await;
    }

    /// What is refused has not happened.
    fn give(&mut self, command: &Command) {
        if admit(self.stage.model(), command).is_ok() {
            println!("{:8.3} {command}", self.stage.session.now().0 as f64 / 1e6);
            self.stage.session.ask(command.clone(), Origin::You);
        }
    }

    async fn settled(&mut self) {
        let end = Instant::now() + MENDED_WITHIN;
        self.stage.until_so("its end", |m| m.ops.is_empty() || Instant::now() > end).await;
    }

    async fn pass(&mut self, ms: u64) {
        let end = Instant::now() + Duration::from_millis(ms);
        self.stage.until_so("a while", |_| Instant::now() >= end).await;
    }

    /// Any part of that time.
    async fn pass_some(&mut self, ms: u64) {
        let part = u64::from(self.dice.next_u32()) % (ms + 1);
        self.pass(part).await;
    }

    async fn look(&mut self) {
        let haul = cast(&mut self.stage).await;
        self.tally.casts += 1;
        self.tally.judged += haul.screen.nodes.iter().filter(|n| n.answers && n.looked >= haul.since).count();
        let at = self.stage.session.now().0 as f64 / 1e6;
        for finding in haul.findings() {
            let told = format!("seed {}, {at:.1} s: {}: {}", self.seed, finding.kind, finding.text);
            println!("{told}\n{:?}\n{:?}\n{:?}\n{}", haul.before, haul.screen, haul.after, self.stage.journal());
            self.tally.findings.push(told);
        }
    }

    /// As chaos mends, with a look after each command.
    async fn mend(&mut self) {
        let end = Instant::now() + MENDED_WITHIN;
        let mut last = Instant::now();
        while Instant::now() < end {
            let since = self.stage.session.now();
            let still = last.elapsed().as_millis() as u64;
            let model = self.stage.model();
            match mend::next(model, still).filter(|c| admit(model, c).is_ok()) {
                Some(command) => {
                    self.give(&command);
                    last = Instant::now();
                    self.look().await;
                }
                None if mend::whole(model, Stamp(since.0.saturating_sub(1_000_000))).is_ok() => return,
                None => self.pass(50).await,
            }
        }
    }
}

//! `replab chaos`: rounds of seeded faults on a real lab, each mended and judged. Plays what `chaos` plans, keeps the limits of time,
//! and writes down what led to a failure.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use color_eyre::eyre::{Result, bail};
use tokio::time::{MissedTickBehavior, interval};

use super::plain::{self, Manner};
use super::session::{Came, Session, TICK};
use super::signals::Ended;
use crate::chaos::diary::Diary;
use crate::chaos::kinds::Kind;
use crate::chaos::{Act, Cast, Chaos, judge, mend};
use crate::cli::exit;
use crate::model::admit::admit;
use crate::model::command::{Command, Rate};
use crate::model::msg::{Msg, OpId, Origin, Road, Topology, WriterPlan};
use crate::model::{Model, Op, Stage, ledger};
use crate::report::Report;
use crate::report::chaos::{ActReport, ChaosReport, RoundReport};
use crate::runtime::Runtime;

/// A command that takes longer hangs.
const COMMAND_WITHIN: Duration = Duration::from_secs(30);
/// What a report calls a command that hasn't ended.
const UNDER_WAY: &str = "under way";
/// Settings of every node, so that silence is noticed within a round.
const SETTINGS: [(&str, &str); 3] =
    [("wal_sender_timeout", "2s"), ("wal_receiver_timeout", "2s"), ("wal_receiver_status_interval", "1s")];

/// What was asked for.
#[derive(Clone, Debug)]
pub struct Orders {
    /// The seed.
    pub seed: u64,
    /// For how long rounds are begun.
    pub length: Duration,
    /// The kinds of faults; all where none is named.
    pub kinds: Vec<&'static Kind>,
    /// From the heal until everything streams and writes go on, and from then until every standby has replayed all there is; twice
    /// that where a node had to be made anew.
    pub within: Duration,
    /// Whether the journal of each round is told.
    pub journal: bool,
    /// Where the scenario of a failed run goes.
    pub write: PathBuf,
}

impl Orders {
    /// Whether links between nodes are among what is faulted.
    pub fn fault_links(&self) -> bool {
        self.kinds.is_empty() || self.kinds.iter().any(|kind| kind.faults_links())
    }
}

/// The cluster that chaos works on.
pub fn topology(standbys: u32) -> Topology {
    let mut topology = Topology::primary_with(standbys);
    topology.settings.extend(SETTINGS.map(|(name, value)| (name.to_owned(), value.to_owned())));
    topology
}

/// Its writer, which rests until the first round begins.
pub fn writer() -> WriterPlan {
    WriterPlan { rate: Rate::PerSecond(100), paused: true, ..WriterPlan::default() }
}

/// Rounds until the time is up or something doesn't hold; closes the lab and gives the exit code.
pub async fn run<R: Runtime>(session: Session<R>, orders: &Orders, manner: &Manner, ended: &mut Ended) -> Result<u8> {
    let mut run = Run::new(session, orders, manner);
    let ended = tokio::select! {
        code = ended => Ok(Some(code)),
        done = run.go_on() => done.map(|()| None),
    };
    let Run { session, diary, mut story, first_entry, .. } = run;
    if let Some(why) = &story.failure {
        let file = orders.write.display().to_string();
        match std::fs::write(&orders.write, diary.text(why)) {
            Ok(()) => story.replay = Some(file),
            Err(why) => drop(plain::complain(&format!("can't write {file}: {why}"))),
        }
    }
    let report = Report { chaos: Some(story), ..Report::of(&session.model) };
    let told = tell(&session.model, &report, manner, first_entry);
    let pages = plain::pages(manner, &report, &session.model);
    // The lab goes first, whatever else failed: nothing of it must be left behind.
    let closed = super::leave(session, false).await;
    plain::write_pages(&pages)?;
    closed?;
    let ended = ended?;
    if ended.is_none() {
        told?;
    }
    let failed = report.chaos.as_ref().is_some_and(|c| c.failure.is_some());
    Ok(match ended {
        Some(code) => code,
        None if report.error.is_some() => exit::ENGINE,
        None if failed => exit::FAILED,
        None => exit::OK,
    })
}

/// The end of it: what happened in a round that failed, and the whole in a line.
fn tell(model: &Model, report: &Report, manner: &Manner, first_entry: usize) -> std::io::Result<()> {
    let Some(story) = &report.chaos else { return Ok(()) };
    if manner.json {
        plain::print(&report.json())?;
    } else if !manner.quiet {
        let mut text = String::new();
        if story.failure.is_some() {
            text.push_str("\nwhat happened in that round:\n");
            text.push_str(&journal(model, first_entry));
        }
        let w = &report.writes;
        text.push_str(&format!(
            "\n{}\n{} tried = {} acked + {} acked with warning + {} failed + {} unknown; {} acknowledged ones not on the primary\n",
            story.summary(),
            w.tried,
            w.acked,
            w.acked_with_warning,
            w.failed,
            w.unknown,
            w.lost
        ));
        plain::print(&text)?;
    }
    if let Some(why) = report.broke_off() {
        plain::complain(&why)?;
    }
    if let Some(why) = &story.failure {
        plain::complain(&format!("chaos failed: {why}"))?;
    }
    if let Some(file) = &story.replay {
        plain::complain(&format!("the commands are in {file}; `replab play {file} --headless` plays them again"))?;
    }
    Ok(())
}

fn journal(model: &Model, first_entry: usize) -> String {
    model.journal.since(first_entry).map(plain::line).collect()
}

/// Why a round ended before its time.
enum Broke {
    /// Something doesn't hold.
    Invariant(String),
    /// The lab itself can't go on.
    Lab(color_eyre::Report),
}

impl From<color_eyre::Report> for Broke {
    fn from(error: color_eyre::Report) -> Self {
        Self::Lab(error)
    }
}

fn broke<T>(why: impl Into<String>) -> Result<T, Broke> {
    Err(Broke::Invariant(why.into()))
}

/// A run as it goes.
struct Run<R: Runtime> {
    session: Session<R>,
    chaos: Chaos,
    diary: Diary,
    story: ChaosReport,
    length: Duration,
    within: Duration,
    silent: bool,
    journal: bool,
    /// When the last command ended.
    idle_since: Instant,
    /// What this round mends with and hasn't ended: its place among the round's mends, and its operations.
    mending: Vec<(usize, Vec<OpId>)>,
    /// The journal's first entry of this round.
    first_entry: usize,
}

impl<R: Runtime> Run<R> {
    fn new(session: Session<R>, orders: &Orders, manner: &Manner) -> Self {
        let chaos = Chaos::new(orders.seed, orders.kinds.clone());
        let topology = &session.model.topology;
        let story = ChaosReport {
            seed: orders.seed,
            kinds: chaos.kinds().into_iter().map(str::to_owned).collect(),
            standbys: topology.nodes.len().saturating_sub(1),
            for_ms: orders.length.as_millis() as u64,
            within_ms: orders.within.as_millis() as u64,
            ..ChaosReport::default()
        };
        Self {
            diary: Diary::new(orders.seed, topology.settings.clone(), writer()),
            chaos,
            story,
            length: orders.length,
            within: orders.within,
            silent: manner.quiet || manner.json,
            journal: orders.journal,
            session,
            idle_since: Instant::now(),
            mending: Vec::new(),
            first_entry: 0,
        }
    }

    fn model(&self) -> &Model {
        &self.session.model
    }

    async fn go_on(&mut self) -> Result<()> {
        self.until(None, |m| m.stage != Stage::Starting).await?;
        if self.model().broken_off().is_some() {
            return Ok(());
        }
        let standbys = self.story.standbys;
        self.say(&format!("chaos of seed {}: a primary, {standbys} standbys", self.story.seed))?;
        let began = Instant::now();
        for number in 1.. {
            let done = self.round(number).await;
            if let Some(round) = self.story.rounds.last_mut() {
                round.acked = self.session.model.ledger.counts().acked;
                round.promised = ledger::count(&self.session.model.ledger.promised);
                let line = round.line();
                if self.journal {
                    self.say(&journal(&self.session.model, self.first_entry))?;
                }
                self.say(&line)?;
            }
            match done {
                Ok(()) if began.elapsed() < self.length && self.model().broken_off().is_none() => {}
                Ok(()) => break,
                Err(Broke::Lab(error)) => return Err(error),
                Err(Broke::Invariant(why)) => {
                    self.story.failure = Some(format!("round {number}: {why}"));
                    break;
                }
            }
        }
        Ok(())
    }

    fn say(&self, text: &str) -> Result<()> {
        if !self.silent {
            plain::tell(&format!("{text}\n"))?;
        }
        Ok(())
    }

    /// Lets the lab go on until it is so, or the time is up; whether it is.
    async fn until(&mut self, limit: Option<Duration>, over: impl Fn(&Model) -> bool) -> Result<bool> {
        let began = Instant::now();
        let mut clock = interval(TICK);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !over(&self.session.model) {
            if limit.is_some_and(|l| began.elapsed() >= l) {
                return Ok(false);
            }
            tokio::select! {
                came = self.session.next() => if came == Came::Nothing { bail!("the lab ended by itself") },
                _ = clock.tick() => self.session.take(Msg::Tick),
            }
        }
        Ok(true)
    }

    async fn pass(&mut self, time: Duration) -> Result<()> {
        self.until(Some(time), |_| false).await.map(drop)
    }

    fn now_ms(&self) -> u64 {
        self.session.now().0 / 1_000
    }

    /// One round: a rule, faults, a while, mending, judging.
    async fn round(&mut self, number: u32) -> Result<(), Broke> {
        let Some(cast) = Cast::of(self.model()) else { return broke("there is no primary") };
        let round = self.chaos.round(number, &cast);
        self.first_entry = self.model().journal.written();
        self.story.rounds.push(RoundReport {
            number,
            at_ms: self.now_ms(),
            primary: cast.primary.to_string(),
            rule: round.rule.to_string(),
            level: round.level.clone(),
            kinds: round.kinds.iter().map(|k| (*k).to_owned()).collect(),
            lost: self.model().verification.as_ref().map_or(0, |v| v.lost),
            ..RoundReport::default()
        });
        let heading = format!("{}, {}; {}.", round.rule, round.level, round.kinds.join(", "));
        self.diary.round(number, &heading, cast);
        self.idle_since = Instant::now();
        // While everything is level: a rule that changes under way would let go of what the one before it promised.
        for command in [Command::Sync(round.rule), Command::Commit(round.level), Command::Resume] {
            let done = self.command(&command, Duration::ZERO).await?;
            if done.outcome != "done" {
                return broke(format!("`{command}` on a whole lab: {}", done.why.unwrap_or_default()));
            }
        }
        for act in round.acts {
            self.act(&act).await?;
        }
        self.pass(Duration::from_millis(round.hold_ms)).await?;
        self.mend().await?;
        self.judge().await
    }

    async fn act(&mut self, act: &Act) -> Result<(), Broke> {
        self.pass(Duration::from_millis(act.after_ms)).await?;
        let done = self.command(&act.command, Duration::from_millis(act.patience_ms)).await?;
        self.story.rounds.last_mut().into_iter().for_each(|r| r.acts.push(done.clone()));
        Ok(())
    }

    /// Gives a command and waits for its end. What is refused has not happened.
    async fn command(&mut self, command: &Command, patience: Duration) -> Result<ActReport, Broke> {
        self.give(command, patience, |_, _| false).await.map(|(done, _)| done)
    }

    /// The same, with its operations; what may go on `aside` isn't waited for.
    async fn give(
        &mut self,
        command: &Command,
        patience: Duration,
        aside: impl Fn(&Model, &Op) -> bool,
    ) -> Result<(ActReport, Vec<OpId>), Broke> {
        self.until(Some(patience), |m| admit(m, command).is_ok()).await?;
        let mut done = ActReport { at_ms: self.now_ms(), command: command.to_string(), ..ActReport::default() };
        if let Err(why) = admit(self.model(), command) {
            (done.outcome, done.why) = ("refused".to_owned(), Some(why));
            return Ok((done, Vec::new()));
        }
        if self.mending.is_empty() {
            self.diary.paused(self.idle_since.elapsed().as_millis() as u64);
            self.diary.commanded(command);
        } else {
            self.diary.commanded_beside(command);
        }
        let first = self.model().next_op;
        self.session.ask(command.clone(), Origin::Script);
        let ids: Vec<OpId> = (first..self.model().next_op).map(OpId).collect();
        let ended = |m: &Model| ids.iter().all(|id| m.ops.get(id).is_none_or(|op| aside(m, op)));
        let over = self.until(Some(COMMAND_WITHIN), ended).await?;
        self.idle_since = Instant::now();
        if !over {
            return broke(format!("`{command}` has not ended after {} s", COMMAND_WITHIN.as_secs()));
        }
        self.look_at(&mut done, &ids);
        Ok((done, ids))
    }

    /// How far a command is by now; whether it has ended.
    fn look_at(&self, act: &mut ActReport, ids: &[OpId]) -> bool {
        let over = !ids.iter().any(|id| self.model().ops.contains_key(id));
        act.ms = self.now_ms() - act.at_ms;
        act.why = ids.iter().find_map(|id| self.model().ended.get(id).cloned().flatten());
        let outcome = if act.why.is_some() { "failed" } else { "done" };
        (if over { outcome } else { UNDER_WAY }).clone_into(&mut act.outcome);
        over
    }

    /// Heals, and brings back who doesn't come by itself, within the limits.
    async fn mend(&mut self) -> Result<(), Broke> {
        if self.model().detector.auto.is_some() {
            self.mend_by(&Command::AutoFailover(None)).await?;
        }
        if !self.until(Some(COMMAND_WITHIN), |m| m.ops.is_empty()).await? {
            return broke(format!("an operation goes on for {} s", COMMAND_WITHIN.as_secs()));
        }
        let (began, rejoins) = (Instant::now(), self.model().rejoins.len());
        // Since the last command, and since the last one's end: only what was seen after that counts.
        let mut last = Instant::now();
        let mut rest = (self.session.now(), self.model().ledger.counts().acked);
        loop {
            let still = last.elapsed().as_millis() as u64;
            let next = mend::next(self.model(), still).filter(|command| admit(self.model(), command).is_ok());
            if let Some(command) = &next {
                self.mend_by(command).await?;
                last = Instant::now();
            }
            if next.is_some() || !self.model().ops.is_empty() {
                rest = (self.session.now(), self.model().ledger.counts().acked);
            }
            self.settle_mends();
            let acked = self.model().ledger.counts().acked;
            let whole = mend::whole(self.model(), rest.0)
                .and_then(|()| if acked > rest.1 { Ok(()) } else { Err("no write is acknowledged".to_owned()) });
            let rebuilt = self.model().rejoins.iter().skip(rejoins).any(|(_, _, how)| how.road == Road::Rebuilt);
            let (took, limit) = (began.elapsed(), if rebuilt { self.within * 2 } else { self.within });
            match whole {
                Ok(()) => {
                    self.story.rounds.last_mut().into_iter().for_each(|r| {
                        (r.whole_after_ms, r.rebuilt) = (Some(took.as_millis() as u64), rebuilt);
                    });
                    self.diary.must_be_whole(self.story.standbys, limit.as_millis() as u64);
                    return if took <= limit {
                        Ok(())
                    } else {
                        broke(format!(
                            "everything streams only {:.1} s after the heal{}",
                            took.as_secs_f64(),
                            self.slowest_mend()
                        ))
                    };
                }
                Err(why) if took > limit => {
                    self.diary.must_be_whole(self.story.standbys, limit.as_millis() as u64);
                    return broke(format!("{:.1} s after the heal {why}{}", took.as_secs_f64(), self.slowest_mend()));
                }
                Err(_) => self.pass(TICK).await?,
            }
        }
    }

    /// What took the longest of it, in brackets.
    fn slowest_mend(&self) -> String {
        let mends = self.story.rounds.last().map_or(&[][..], |r| &r.mends);
        let slowest = mends.iter().max_by_key(|m| m.ms);
        slowest
            .map_or(String::new(), |m| format!(" (`{}` {} and took {:.1} s)", m.command, m.outcome, m.ms as f64 / 1e3))
    }

    async fn mend_by(&mut self, command: &Command) -> Result<(), Broke> {
        let (done, ids) = self.give(command, Duration::ZERO, mend::aside).await?;
        let Some(round) = self.story.rounds.last_mut() else { return Ok(()) };
        if done.outcome == UNDER_WAY {
            self.mending.push((round.mends.len(), ids));
        }
        round.mends.push(done);
        Ok(())
    }

    /// Writes down how far those are that weren't waited for.
    fn settle_mends(&mut self) {
        for (at, ids) in std::mem::take(&mut self.mending) {
            let mends = self.story.rounds.last().map_or(&[][..], |r| &r.mends);
            let Some(mut act) = mends.get(at).cloned() else { continue };
            let over = self.look_at(&mut act, &ids);
            self.story.rounds.last_mut().into_iter().for_each(|r| r.mends[at] = act.clone());
            if !over {
                self.mending.push((at, ids));
            }
        }
    }

    /// Reads all nodes; again where one doesn't answer in time, which a busy machine can bring about.
    async fn read_all(&mut self) -> Result<(), Broke> {
        let began = Instant::now();
        loop {
            self.command(&Command::Verify, Duration::ZERO).await?;
            let read = self.model().verification.as_ref().is_some_and(|v| v.unread.is_empty());
            if read || began.elapsed() >= self.within {
                return Ok(());
            }
        }
    }

    /// The writer rests, every standby gets all there is, all nodes are read, and what must hold does.
    async fn judge(&mut self) -> Result<(), Broke> {
        self.command(&Command::Pause, Duration::ZERO).await?;
        let since = self.session.now();
        let level =
            self.until(Some(self.within), |m| m.writer.has_told(since) && mend::level(m, since).is_ok()).await?;
        self.diary.must_be_level(self.within.as_millis() as u64);
        if let (false, Err(why)) = (level, mend::level(self.model(), since)) {
            return broke(format!("{} s after the writer rested {why}", self.within.as_secs()));
        }
        let since = self.session.now();
        self.read_all().await?;
        self.diary.must_be_sound();
        let verification = self.session.model.verification.as_ref();
        if let (Some(round), Some(v)) = (self.story.rounds.last_mut(), verification) {
            (round.lost, round.verdict) = (v.lost, Some(v.verdict.word().to_owned()));
        }
        let findings = judge::findings(self.model(), since);
        if findings.is_empty() { Ok(()) } else { broke(findings.join("; ")) }
    }
}

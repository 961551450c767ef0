//! A lab without a screen: what happens, as plain lines. Plays a lesson to its end, or runs until interrupted. What the end of a lab
//! needs on a screen, too: reports judged and written, and the exit code.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use color_eyre::eyre::{Result, WrapErr};
use tokio::time::interval;

use super::session::{Came, Session, TICK};
use super::signals::Ended;
use crate::cli::{Common, exit};
use crate::model::command::Command;
use crate::model::journal::{Entry, Who};
use crate::model::msg::{Msg, Origin};
use crate::model::script::{Script, Step, StepKind, StepResult};
use crate::model::standing::Link;
use crate::model::text::safe_prose;
use crate::model::verdict::Verification;
use crate::model::{Model, Stage};
use crate::report::{Form, Report};
use crate::runtime::Runtime;

/// After the last step: how long everything may take to stream and be level again before the rows are read.
const SETTLE: Duration = Duration::from_secs(10);

/// How much is said, and where reports go.
#[derive(Clone, Debug, Default)]
pub struct Manner {
    /// Only what went wrong.
    pub quiet: bool,
    /// The report as JSON on standard output, instead of lines.
    pub json: bool,
    /// The report as files, each in the form that its ending tells.
    pub reports: Vec<PathBuf>,
    /// No screen.
    pub headless: bool,
    /// The servers stay at the end.
    pub keep: bool,
}

impl Manner {
    /// As the command line has it; without a terminal there is no screen.
    pub fn of(common: &Common, reports: Vec<PathBuf>, headless: bool, keep: bool) -> Self {
        let headless = headless || common.json || !super::on_terminal();
        Self { quiet: common.quiet, json: common.json, reports, headless, keep }
    }
}

/// Plays until the lesson is over (or for ever, without one), closes the lab, and gives the exit code.
pub async fn play<R: Runtime>(mut session: Session<R>, manner: &Manner, ended: &mut Ended) -> Result<u8> {
    let mut lines = Lines::new(manner);
    let ended = tokio::select! {
        code = ended => Ok(Some(code)),
        done = to_the_end(&mut session, &mut lines) => done.map(|()| None),
    };
    let ended = ended.or_else(|why| if why.is::<NobodyReads>() { Ok(Some(exit::NOBODY_READS)) } else { Err(why) });
    let judged = if matches!(ended, Ok(Some(_))) { judge_for_reports(&mut session, manner).await } else { Ok(()) };
    let report = Report::of(&session.model);
    let told = lines.catch_up(&session.model).and_then(|()| Ok(lines.end(&session.model, &report)?));
    let pages = pages(manner, &report, &session.model);
    // The lab goes first, whatever else failed: nothing of it must be left behind.
    let keep = manner.keep && matches!(session.model.stage, Stage::Live);
    let closed = super::leave(session, keep).await;
    write_pages(&pages)?;
    closed?;
    judged?;
    let ended = ended?;
    if ended.is_none() {
        told?;
    }
    Ok(match ended {
        Some(code) => code,
        None => code_of(&report),
    })
}

/// The exit code that a run deserves.
pub fn code_of(report: &Report) -> u8 {
    match (&report.error, report.good()) {
        (Some(_), _) => exit::ENGINE,
        (None, true) => exit::OK,
        (None, false) => exit::FAILED,
    }
}

async fn to_the_end<R: Runtime>(session: &mut Session<R>, lines: &mut Lines) -> Result<()> {
    let over = |m: &Model| m.broken_off().is_some() || m.script.as_ref().is_some_and(Script::over);
    loop_until(session, lines, None, over).await?;
    judge(session, lines).await
}

/// Judges a lab that was left by hand, for the reports that were asked for; a signal ends the waiting. Not in the middle of a lesson: that
/// would go on meanwhile.
pub async fn judge_for_reports<R: Runtime>(session: &mut Session<R>, manner: &Manner) -> Result<()> {
    let wanted = manner.json || !manner.reports.is_empty();
    let between = session.model.script.as_ref().is_none_or(Script::over);
    if !wanted || !between || session.model.stage != Stage::Live {
        return Ok(());
    }
    if !manner.quiet {
        complain("reading the nodes for the report")?;
    }
    let mut lines = Lines::silent();
    tokio::select! {
        _ = super::signals::ended() => Ok(()),
        done = judge(session, &mut lines) => done,
    }
}

/// Heal, settle, read, judge, in that order.
async fn judge<R: Runtime>(session: &mut Session<R>, lines: &mut Lines) -> Result<()> {
    if session.model.broken_off().is_some() {
        return Ok(());
    }
    let asked = session.now();
    session.ask(Command::Pause, Origin::Lab);
    if !session.model.faults().is_empty() {
        session.ask(Command::Heal(None), Origin::Lab);
    }
    loop_until(session, lines, Some(SETTLE), |m| m.ops.is_empty() && m.writer.has_told(asked) && settled(m)).await?;
    session.ask(Command::Verify, Origin::Lab);
    loop_until(session, lines, Some(SETTLE * 6), |m| m.ops.is_empty()).await
}

/// Every standby that follows the primary streams and is level, and no write is under way.
fn settled(model: &Model) -> bool {
    let level = |r: &crate::model::standing::Rung| matches!(r.link, Link::Connected(_)) && r.behind == Some(0);
    let followers = model.ladder().into_iter().filter(|r| r.upstream == model.primary);
    model.ledger.counts().pending == 0 && followers.into_iter().all(|r| level(&r))
}

async fn loop_until<R: Runtime>(
    session: &mut Session<R>,
    lines: &mut Lines,
    limit: Option<Duration>,
    over: impl Fn(&Model) -> bool,
) -> Result<()> {
    let began = Instant::now();
    let mut clock = interval(TICK);
    while !over(&session.model) && limit.is_none_or(|l| began.elapsed() < l) {
        tokio::select! {
            came = session.next() => if came == Came::Nothing { return Ok(()) },
            _ = clock.tick() => session.take(Msg::Tick),
        }
        lines.catch_up(&session.model)?;
    }
    Ok(())
}

/// The reports that were asked for, and where they go. Made before the lab is closed, written after.
pub fn pages(manner: &Manner, report: &Report, model: &Model) -> Vec<(PathBuf, String)> {
    let page = |path: &PathBuf| Some((path.clone(), Form::of(path)?.text(report, model)));
    manner.reports.iter().filter_map(page).collect()
}

/// Writes them.
pub fn write_pages(pages: &[(PathBuf, String)]) -> Result<()> {
    let write = |(path, text): &(PathBuf, String)| {
        std::fs::write(path, text).wrap_err_with(|| format!("can't write {}", path.display()))
    };
    pages.iter().try_for_each(write)
}

/// What has been printed.
pub(super) struct Lines {
    silent: bool,
    json: bool,
    entries: usize,
    steps: usize,
    phase: String,
}

impl Lines {
    /// Nothing is printed.
    fn silent() -> Self {
        Self::new(&Manner { quiet: true, ..Manner::default() })
    }

    pub(super) fn new(manner: &Manner) -> Self {
        let silent = manner.quiet || manner.json;
        Self { silent, json: manner.json, entries: 0, steps: 0, phase: String::new() }
    }

    /// Prints what is new since the last time. A lesson is for whoever reads it: where nobody does any more, that is an error.
    pub(super) fn catch_up(&mut self, model: &Model) -> Result<()> {
        if self.silent {
            return Ok(());
        }
        let mut text = String::new();
        if model.phase != self.phase {
            self.phase.clone_from(&model.phase);
            if !self.phase.is_empty() {
                text.push_str(&format!("  {}\n", self.phase));
            }
        }
        let done = model.script.as_ref().map_or(0, |s| s.results.len());
        for index in self.steps..done {
            let Some(script) = &model.script else { break };
            self.entries_until(model, script.results[index].after, &mut text);
            text.push_str(&step(script, index));
        }
        self.steps = done;
        self.entries_until(model, model.journal.written(), &mut text);
        let text = safe_prose(&text);
        if model.script.is_some() { tell(&text) } else { Ok(print(&text)?) }
    }

    fn entries_until(&mut self, model: &Model, until: usize, text: &mut String) {
        let count = until.saturating_sub(self.entries);
        text.extend(model.journal.since(self.entries).take(count).map(line));
        self.entries = self.entries.max(until);
    }

    pub(super) fn end(&self, model: &Model, report: &Report) -> io::Result<()> {
        if self.json {
            return print(&report.json());
        }
        let w = &report.writes;
        let mut text = format!(
            "\n{} tried = {} acked + {} acked with warning + {} failed + {} unknown\n",
            w.tried, w.acked, w.acked_with_warning, w.failed, w.unknown
        );
        if !report.losses.is_empty() {
            text.push_str(&format!("{}\n", report.losses));
        }
        let nodes: Vec<String> =
            model.verification.iter().flat_map(Verification::by_node).map(|(_, text)| text).collect();
        if !nodes.is_empty() {
            text.push_str(&format!("acknowledged writes on each node: {}\n", nodes.join("; ")));
        }
        if model.script.is_some() {
            let e = &report.expectations;
            text.push_str(&format!(
                "{} {} held, {} did not\n",
                e.passed,
                if e.passed == 1 { "check" } else { "checks" },
                e.failed
            ));
        }
        match &model.verification {
            Some(v) => text.push_str(&format!("{}\n", v.promises_in_words())),
            None => text.push_str("The nodes were not read, so nothing is known of the promises\n"),
        }
        if let Some(why) = report.broke_off() {
            complain(&why)?;
        } else if !self.silent {
            print(&safe_prose(&text))?;
        }
        let mut failed = report.steps.iter().filter(|s| !s.ok);
        failed.try_for_each(|s| complain(&format!("failed: {} ({})", s.name, s.detail)))
    }
}

/// An entry of the journal as a line.
pub fn line(entry: &Entry) -> String {
    let seconds = entry.at.0 as f64 / 1e6;
    let who = if entry.who == Who::Script { "     " } else { entry.who.word() };
    format!("  {seconds:7.2}s  {who:<5} {}\n", entry.text)
}

fn step(script: &Script, index: usize) -> String {
    let (step, result) = (&script.steps[index], &script.results[index]);
    let chapter = step.chapter.as_ref().map_or(String::new(), |name| format!("\n== {name} ==\n"));
    chapter + &what_it_gave(script, step, result)
}

fn what_it_gave(script: &Script, step: &Step, result: &StepResult) -> String {
    match &step.kind {
        StepKind::Say(text) => format!("\n{text}\n\n"),
        StepKind::Ask(question) => {
            let choices = question.choices.iter().enumerate().map(|(n, choice)| format!("  {}. {choice}\n", n + 1));
            format!("\n{}\n\n{}\n", question.text, choices.collect::<String>())
        }
        StepKind::Reveal(of) => {
            let why = script.question(*of).map_or("", |q| &q.why);
            format!("\n  {}\n\n{why}\n", result.detail)
        }
        StepKind::Do(_) | StepKind::Together(_) | StepKind::Pause(_) if result.ok => String::new(),
        StepKind::Sql(query) if result.ok && query.background => String::new(),
        _ => {
            let mark = if result.ok { "ok    " } else { "FAILED" };
            let name = if result.detail.is_empty() || result.detail.starts_with(&step.name) { "" } else { &step.name };
            let gap = if name.is_empty() || result.detail.is_empty() { "" } else { ": " };
            format!("  {mark}     {name}{gap}{}\n", result.detail)
        }
    }
}

/// Whoever read the lines has gone: what goes on for their sake ends.
#[derive(Debug, thiserror::Error)]
#[error("nobody reads the lines any more")]
pub struct NobodyReads;

/// Standard output, of what goes on as long as somebody reads.
pub fn tell(text: &str) -> Result<()> {
    match io::stdout().lock().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Err(NobodyReads.into()),
        other => Ok(other?),
    }
}

/// Data: standard output. A closed pipe is somebody's good right.
pub fn print(text: &str) -> io::Result<()> {
    quietly(io::stdout().lock().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()))
}

/// Messages: standard error. They may quote names and texts from elsewhere.
pub fn complain(text: &str) -> io::Result<()> {
    print_error(&format!("replab: {text}\n"))
}

/// Prints on standard error what ends its lines itself.
pub fn print_error(text: &str) -> io::Result<()> {
    quietly(write!(io::stderr().lock(), "{}", safe_prose(text)))
}

fn quietly(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

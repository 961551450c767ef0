//! A lesson as it plays: steps, where we are, what each gave. Moved on by `update` only, on every message.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

mod pace;

pub use pace::SPEEDS;

use super::Stamp;
use super::command::Command;
use super::condition::Condition;
use super::msg::{OpId, SqlResult, Topology};

/// What one step does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum StepKind {
    /// Narration (markdown).
    Say(String),
    /// Commands, one after another, each when the one before it is done.
    Do(Vec<Command>),
    /// Commands, all at once; the step is over when the last of them is done.
    Together(Vec<Command>),
    /// Go on when the condition holds; fail when the time is up.
    Wait {
        /// What must come to hold.
        condition: Condition,
        /// Until when, from the step's start.
        within_ms: u64,
    },
    /// The condition must hold: now (within 0, during 0), within a time, or for a time.
    Expect {
        /// What must hold.
        condition: Condition,
        /// It may take this long to come to hold.
        within_ms: u64,
        /// And must then hold this long.
        during_ms: u64,
    },
    /// Nothing, for so many milliseconds.
    Pause(u64),
    /// SQL on a node, and what it must give.
    Sql(Query),
    /// A question: what will happen? It is answered before the fault, and told after it.
    Ask(Question),
    /// The answer to the question of that step, now that everybody has seen it.
    Reveal(usize),
}

/// SQL that a lesson runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Query {
    /// The node, the session and the text.
    pub command: Command,
    /// The lesson goes on while it runs.
    pub background: bool,
    /// Asked again and again until it gives what it must, for so long; None: asked once.
    pub within_ms: Option<u64>,
    /// What it must give.
    pub wanted: Wanted,
}

/// What SQL must give; what is None may be anything. Without an error wanted, there must be none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// Exactly these rows, as text; NULL is the word.
    pub rows: Option<Vec<Vec<String>>>,
    /// This SQLSTATE.
    pub error: Option<String>,
    /// A notice or warning with this in it.
    pub notice: Option<String>,
}

impl Wanted {
    /// Whether anything in particular is wanted.
    pub fn is_something(&self) -> bool {
        *self != Self::default()
    }

    /// What is amiss with an answer, if something is.
    pub fn amiss(&self, got: &SqlResult) -> Option<String> {
        let error = got.error.as_ref();
        match (&self.error, error) {
            (None, Some((state, message))) => return Some(format!("SQLSTATE {state}: {message}")),
            (Some(wanted), None) => return Some(format!("no error, where SQLSTATE {wanted} was expected")),
            (Some(wanted), Some((state, message))) if wanted != state => {
                return Some(format!("SQLSTATE {state} ({message}), where {wanted} was expected"));
            }
            _ => {}
        }
        if let Some(part) = &self.notice
            && !got.notices.iter().any(|n| n.contains(part))
        {
            let said = if got.notices.is_empty() { "none".to_owned() } else { got.notices.join("; ") };
            return Some(format!("no notice with \"{part}\"; there was {said}"));
        }
        let rows = self.rows.as_ref()?;
        let found = in_text(got);
        (found != *rows || got.more > 0).then(|| format!("rows {}, where {} was expected", shown(&found), shown(rows)))
    }
}

fn in_text(got: &SqlResult) -> Vec<Vec<String>> {
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "NULL".to_owned());
    got.rows.iter().map(|row| row.iter().map(text).collect()).collect()
}

/// Rows in a line: `(1, a) (2, b)`, the first few of them.
fn shown(rows: &[Vec<String>]) -> String {
    const MOST: usize = 5;
    let row = |row: &Vec<String>| if row.len() == 1 { row[0].clone() } else { format!("({})", row.join(", ")) };
    let mut text: Vec<String> = rows.iter().take(MOST).map(row).collect();
    match rows.len() {
        0 => text.push("none".to_owned()),
        n if n > MOST => text.push(format!("and {} more", n - MOST)),
        _ => {}
    }
    text.join(" ")
}

/// What SQL gave, in a line: rows, or the error, or the tag; and the warnings.
pub fn in_a_line(got: &SqlResult) -> String {
    let main = match &got.error {
        Some((state, message)) => format!("SQLSTATE {state}: {message}"),
        None if got.columns.is_empty() => got.tag.clone(),
        None => shown(&in_text(got)),
    };
    let notices = got.notices.iter().map(|n| format!("; {n}"));
    std::iter::once(main).chain(notices).collect()
}

/// A question to the learner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// What is asked (markdown).
    pub text: String,
    /// What can be answered.
    pub choices: Vec<String>,
    /// Which of them is right, from 0.
    pub answer: usize,
    /// Why (markdown): told with the answer.
    pub why: String,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Its name in reports: given, or made from what it does.
    pub name: String,
    /// What it does.
    pub kind: StepKind,
    /// A `do` that is expected to be refused or to fail (part of the message it gives), instead of succeeding.
    pub refused: Option<String>,
    /// A `do` whose commands may be refused or fail: the lesson goes on all the same.
    #[serde(default)]
    pub may_fail: bool,
    /// A chapter of this name begins here.
    #[serde(default)]
    pub chapter: Option<String>,
    /// Hints for the learner, the mildest first.
    #[serde(default)]
    pub hints: Vec<String>,
    /// For the presenter's eyes only.
    #[serde(default)]
    pub note: Option<String>,
}

impl Step {
    /// A step without trimmings.
    pub fn new(name: impl Into<String>, kind: StepKind) -> Self {
        Self { name: name.into(), kind, refused: None, may_fail: false, chapter: None, hints: Vec::new(), note: None }
    }

    /// Its field in the file: "say", "do", …; "reveal" for what follows from an `ask`.
    pub fn word(&self) -> &'static str {
        match self.kind {
            StepKind::Say(_) => "say",
            StepKind::Do(_) | StepKind::Together(_) => "do",
            StepKind::Wait { .. } => "wait",
            StepKind::Expect { .. } => "expect",
            StepKind::Pause(_) => "pause",
            StepKind::Sql(_) => "sql",
            StepKind::Ask(_) => "ask",
            StepKind::Reveal(_) => "reveal",
        }
    }

    /// Whether it checks something: an expectation, or SQL that must give something in particular.
    pub fn checks(&self) -> bool {
        match &self.kind {
            StepKind::Expect { .. } => true,
            StepKind::Sql(query) => query.wanted.is_something(),
            _ => false,
        }
    }

    /// The first line of its text without the marks of markdown; else its name, in one line.
    pub fn headline(&self) -> String {
        let text = match &self.kind {
            StepKind::Say(text) => text,
            StepKind::Ask(question) => &question.text,
            _ => &self.name,
        };
        let line =
            text.lines().map(|line| line.trim().trim_start_matches(['#', '>', '-', ' '])).find(|l| !l.is_empty());
        let bare: String = line.unwrap_or_default().chars().filter(|c| !"*`".contains(*c)).collect();
        bare.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// Whether it is there to be read.
    pub fn is_text(&self) -> bool {
        matches!(self.kind, StepKind::Say(_) | StepKind::Ask(_) | StepKind::Reveal(_))
    }
}

/// What a step gave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepResult {
    /// Whether it went as the lesson says.
    pub ok: bool,
    /// How long it took.
    pub ms: u64,
    /// The evidence: the value seen, or why it failed.
    pub detail: String,
    /// How many journal entries had been written by then: where it belongs in the story.
    pub after: usize,
}

/// Where the present step is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum Progress {
    /// Not begun.
    #[default]
    Fresh,
    /// Narration is on the screen since then.
    Reading(Stamp),
    /// A question waits for its answer since then.
    Asking(Stamp),
    /// Commands: the index of the one under way, its operations, and since when the step runs.
    Doing {
        /// Which command.
        index: usize,
        /// Its operations; None before it was asked for.
        ops: Option<Vec<OpId>>,
        /// When the step began.
        since: Stamp,
    },
    /// Waiting for a condition since `since`; it holds since `held`.
    Watching {
        /// When the step began.
        since: Stamp,
        /// Since when the condition holds without a break.
        held: Option<Stamp>,
    },
}

/// The lesson is taken to another step: the cluster is made anew, and everything up to there is done again without reading.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jump {
    /// The step to stop at.
    pub to: usize,
    /// The reset's operations; None before it was asked for.
    pub reset: Option<Vec<OpId>>,
}

/// A lesson and how far it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Script {
    /// File name without ending.
    pub name: String,
    /// Its title.
    pub title: String,
    /// One line: what one will see.
    pub summary: String,
    /// The steps.
    pub steps: Vec<Step>,
    /// Whether narration waits for the person.
    pub by_hand: bool,
    /// Index of the present step; `steps.len()` when it is over.
    pub at: usize,
    /// Where the present step is.
    pub progress: Progress,
    /// What the steps gave so far, one each.
    pub results: Vec<StepResult>,
    /// The answers given: step and choice.
    #[serde(default)]
    pub answers: BTreeMap<usize, usize>,
    /// How many hints of the present step are shown.
    #[serde(default)]
    pub hints: usize,
    /// How many hints were taken in all.
    #[serde(default)]
    pub hints_taken: usize,
    /// The text that is read once more, where one went back.
    #[serde(default)]
    pub reread: Option<usize>,
    /// On the way to another step.
    #[serde(default)]
    pub jump: Option<Jump>,
    /// What was amiss with the last answer to SQL that is asked again and again.
    #[serde(default)]
    pub amiss: Option<String>,
    /// The furthest step that was come to.
    #[serde(default)]
    pub furthest: usize,
    /// Whether something was jumped over since its beginning.
    #[serde(default)]
    pub skipped: bool,
    /// When the last act of the lesson began: what logs are read from.
    #[serde(default)]
    pub acted: Stamp,
    /// Since when texts give way by themselves after a reading time; None where each waits for the person.
    #[serde(default)]
    pub auto: Option<Stamp>,
    /// Steps faster (or slower, below 0) than the usual pace: see [`Script::pace`].
    #[serde(default)]
    pub speed: i8,
    /// When its first step began.
    #[serde(default)]
    pub began: Option<Stamp>,
    /// Chapters in the order in which they were come to: the step that begins one, and when.
    #[serde(default)]
    pub chapters_begun: Vec<(usize, Stamp)>,
}

impl Script {
    /// A lesson that has not begun.
    pub fn new(name: &str, title: &str, summary: &str, steps: Vec<Step>) -> Self {
        let [name, title, summary] = [name, title, summary].map(str::to_owned);
        Self { name, title, summary, steps, ..Self::default() }
    }

    /// Whether links between nodes are faulted on the way, where nothing else is expected of the act.
    pub fn faults_links(&self, topology: &Topology) -> bool {
        let nodes = || topology.nodes.iter().map(|plan| &plan.name);
        let faults = |command: &Command| matches!(command, Command::Link(_, which) if which.is_between_nodes(nodes()));
        let acts = self.steps.iter().filter(|step| step.refused.is_none() && !step.may_fail);
        acts.filter_map(|step| match &step.kind {
            StepKind::Do(commands) | StepKind::Together(commands) => Some(commands),
            _ => None,
        })
        .flatten()
        .any(faults)
    }

    /// Whether all steps are over, or one failed and the lesson ended there.
    pub fn over(&self) -> bool {
        self.at >= self.steps.len()
    }

    /// Whether nodes are frozen on the way, where nothing else is expected of the act.
    pub fn freezes(&self) -> bool {
        let acts = self.steps.iter().filter(|step| step.refused.is_none() && !step.may_fail);
        acts.filter_map(|step| match &step.kind {
            StepKind::Do(commands) | StepKind::Together(commands) => Some(commands),
            _ => None,
        })
        .flatten()
        .any(|command| matches!(command, Command::Freeze(_)))
    }

    /// The step that failed so that the lesson stopped there, before its end: what it has left to tell isn't so.
    pub fn stopped_at(&self) -> Option<usize> {
        (self.over() && self.results.len() < self.steps.len()).then(|| self.results.len().saturating_sub(1))
    }

    /// The step it is at; where it stopped, the one that failed.
    pub fn stands_at(&self) -> usize {
        self.stopped_at().unwrap_or(self.at)
    }

    /// The present step.
    pub fn step(&self) -> Option<&Step> {
        self.steps.get(self.at)
    }

    /// Whether nobody reads now: on the way to another step.
    pub fn skims(&self) -> bool {
        self.jump.as_ref().is_some_and(|jump| self.at < jump.to)
    }

    /// The step whose text is on the screen: the present one, the last one before it, or the one read again.
    pub fn text_at(&self) -> Option<usize> {
        let last = self.reread.unwrap_or(self.stands_at()).min(self.steps.len().saturating_sub(1));
        (0..=last).rev().find(|at| self.steps.get(*at).is_some_and(Step::is_text))
    }

    /// Checks that held, and those that didn't; what broke off counts too.
    pub fn tally(&self) -> (usize, usize) {
        let done = self.steps.iter().zip(&self.results);
        let checks: Vec<bool> = done.filter(|(s, r)| s.checks() || !r.ok).map(|(_, r)| r.ok).collect();
        let good = checks.iter().filter(|ok| **ok).count();
        (good, checks.len() - good)
    }

    /// The chapters: where each begins, and its name.
    pub fn chapters(&self) -> impl Iterator<Item = (usize, &str)> {
        self.steps.iter().enumerate().filter_map(|(at, step)| Some((at, step.chapter.as_deref()?)))
    }

    /// The present step has its turn at a moment; where it begins a chapter, that is written down.
    pub fn enter(&mut self, now: Stamp) {
        let begins = self.step().is_some_and(|step| step.chapter.is_some());
        if begins && !self.skims() && self.chapters_begun.last().is_none_or(|(at, _)| *at != self.at) {
            self.chapters_begun.push((self.at, now));
        }
    }

    /// The chapter that a step belongs to: its number from 1, and its name.
    pub fn chapter_of(&self, step: usize) -> Option<(usize, &str)> {
        self.chapters().enumerate().take_while(|(_, (at, _))| *at <= step).last().map(|(n, (_, name))| (n + 1, name))
    }

    /// The step that the person means by "here": the present one, where the lesson is being taken to, or where it broke off.
    pub fn here(&self) -> usize {
        self.jump.as_ref().map_or(self.stands_at().min(self.results.len()), |jump| jump.to)
    }

    /// Where `[` goes: to the beginning of this chapter; from there, to the chapter before. 0 is the lesson's beginning.
    pub fn chapter_back(&self) -> usize {
        let here = self.here().min(self.steps.len());
        let begins =
            |at: usize| self.chapters().map(|(step, _)| step).take_while(|step| *step < at).last().unwrap_or(0);
        let this = begins((here + 1).min(self.steps.len()));
        let read = self.steps[this..here.max(this)].iter().any(Step::is_text);
        if read { this } else { begins(this) }
    }

    /// Where `]` goes: to the next chapter.
    pub fn chapter_on(&self) -> Option<usize> {
        self.chapters().map(|(step, _)| step).find(|step| *step > self.here())
    }

    /// The question of a step.
    pub fn question(&self, step: usize) -> Option<&Question> {
        match &self.steps.get(step)?.kind {
            StepKind::Ask(question) => Some(question),
            _ => None,
        }
    }

    /// Questions answered rightly, and questions answered, of those that have been told.
    pub fn score(&self) -> (usize, usize) {
        let told = self.steps.iter().take(self.at).filter_map(|s| match s.kind {
            StepKind::Reveal(question) => Some(question),
            _ => None,
        });
        let answered: Vec<bool> =
            told.filter_map(|q| Some(*self.answers.get(&q)? == self.question(q)?.answer)).collect();
        (answered.iter().filter(|right| **right).count(), answered.len())
    }
}

//! The steps: each read, repeated where it says so, with what stands alone (chapters, hints, notes) given to the step after it
//! and every question followed by its answer. Knows no cluster: what can't go well is for `flow`.

use std::collections::BTreeSet;
use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::fields::{ACTIONS, STEP, TRIMMINGS};
use super::file::name_of;
use super::settings::{self, When};
use super::tree::{self, Reader, Text};
use super::vars::{self, Vars};
use crate::model::NodeName;
use crate::model::command::Command;
use crate::model::condition::Condition;
use crate::model::script::{Query, Question, Step, StepKind, Wanted};

/// Steps a lesson may have.
const STEPS_MAX: usize = 1_000;
/// Versions of PostgreSQL with which a lesson's steps may change.
const TURNS_MAX: usize = 4;
/// A wait without `within` waits this long.
const WITHIN_MS: u64 = 10_000;

/// A step and the place of its action, for complaints.
#[derive(Debug)]
pub struct Placed {
    /// The step.
    pub step: Step,
    /// Its action's letters.
    pub span: Range<usize>,
    /// Of `do`: the letters of each command. Of `sql`: those of the node and of the session.
    pub spans: Vec<Range<usize>>,
    /// Whether its name is the author's.
    pub named: bool,
    /// Whether it says how long it may take.
    pub timed: bool,
    /// Of `sql`: whether it names its node.
    pub names_node: bool,
}

/// One step as it is read: its table, where its heading is, and what names stand for.
struct Place<'t, 'i> {
    table: &'t DeTable<'i>,
    heading: Range<usize>,
    vars: &'t Vars,
}

/// What belongs to the next step.
#[derive(Default)]
struct Trimmings {
    chapter: Option<String>,
    hints: Vec<String>,
    note: Option<String>,
    place: Range<usize>,
}

impl Trimmings {
    fn are_there(&self) -> bool {
        self.chapter.is_some() || !self.hints.is_empty() || self.note.is_some()
    }
}

/// The major versions of PostgreSQL with which the steps change: the first that has a step, or hasn't it any more.
pub fn turns(reader: &mut Reader<'_>, table: &DeTable<'_>) -> BTreeSet<u32> {
    let items = table.get("step").and_then(|v| v.get_ref().as_array());
    let mut turns = BTreeSet::new();
    for step in items.into_iter().flatten().filter_map(|item| item.get_ref().as_table()) {
        let [since, until] = ["since", "until"].map(|field| tree::whole(step, field));
        let place = tree::key_place(step, if until.is_some() { "until" } else { "since" }).unwrap_or(0..0);
        if since.zip(until).is_some_and(|(since, until)| since > until) {
            reader.wrong(place, "a step that ends with a version before the one it begins with never comes");
            continue;
        }
        // What is no version is told where it is read.
        let version = |number: &u32| (10..100).contains(number);
        turns.extend(since.filter(version).into_iter().chain(until.filter(version).map(|last| last + 1)));
        if turns.len() > TURNS_MAX {
            reader.wrong(place, format!("the steps change with {TURNS_MAX} versions of PostgreSQL at most"));
            return BTreeSet::new();
        }
    }
    turns
}

/// Whether a step is for this major version of PostgreSQL.
fn is_for(step: &DeTable<'_>, major: u32) -> bool {
    tree::whole(step, "since").is_none_or(|since| since <= major)
        && tree::whole(step, "until").is_none_or(|until| major <= until)
}

/// The steps of a lesson, as they are on this major version of PostgreSQL.
pub fn read(reader: &mut Reader<'_>, table: &DeTable<'_>, vars: &Vars, major: u32) -> Vec<Placed> {
    let items = table.get("step").and_then(|v| v.get_ref().as_array());
    if let Some(more) = items.and_then(|items| items.get(2 * STEPS_MAX)) {
        reader.wrong(more.span(), format!("a lesson has at most {STEPS_MAX} steps"));
        return Vec::new();
    }
    let mut steps: Vec<Placed> = Vec::new();
    let mut open = Trimmings::default();
    let mut question = None;
    // One copy for all steps: variables may be long, and steps many. What a step's rounds name is taken back after it.
    let (mut named, mut lent) = (vars.clone(), None::<&str>);
    for item in items.into_iter().flatten() {
        let Some(step) = item.get_ref().as_table().filter(|step| is_for(step, major)) else { continue };
        if let Some(name) = lent.take() {
            match vars.get(name) {
                Some(own) => drop(named.insert(name.to_owned(), own.clone())),
                None => drop(named.remove(name)),
            }
        }
        for round in rounds(reader, step) {
            if let Some((name, value)) = round {
                lent = Some(name);
                named.insert(name.to_owned(), value);
            }
            let place = Place { table: step, heading: item.span(), vars: &named };
            let trimmings = place.trimmings(reader, std::mem::take(&mut open));
            let Some(mut placed) = place.step(reader) else {
                if !ACTIONS.iter().any(|a| step.contains_key(*a)) {
                    open = trimmings;
                }
                continue;
            };
            (placed.step.chapter, placed.step.hints, placed.step.note) =
                (trimmings.chapter, trimmings.hints, trimmings.note);
            if matches!(placed.step.kind, StepKind::Say(_) | StepKind::Ask(_))
                && let Some(asked) = question.take()
            {
                steps.push(reveal(asked, &steps, &placed.span));
            }
            if matches!(placed.step.kind, StepKind::Ask(_)) {
                question = Some(steps.len());
            }
            steps.push(placed);
            if steps.len() > STEPS_MAX {
                reader.wrong(item.span(), format!("a lesson has at most {STEPS_MAX} steps"));
                return Vec::new();
            }
            if reader.has_grown_too_long() {
                let most = tree::TEXT_MAX >> 20;
                reader.wrong(item.span(), format!("with its repetitions a lesson has at most {most} MiB of text"));
                return Vec::new();
            }
        }
    }
    if open.are_there() {
        reader.wrong(open.place, "a chapter, hint or note belongs to the step after it, and there is none");
    }
    if let Some(asked) = question {
        let span = steps[asked].span.clone();
        steps.push(reveal(asked, &steps, &span));
    }
    steps
}

/// The answer's own step: it comes when the next text would, so that the fault and its evidence lie between.
fn reveal(asked: usize, steps: &[Placed], span: &Range<usize>) -> Placed {
    let name = format!("answer to: {}", steps[asked].step.name);
    let step = Step::new(name, StepKind::Reveal(asked));
    Placed { step, span: span.clone(), spans: Vec::new(), named: true, timed: true, names_node: false }
}

/// What names one more thing each time that a step comes: nothing, `n` or `it`.
fn rounds(reader: &mut Reader<'_>, table: &DeTable<'_>) -> Vec<Option<(&'static str, String)>> {
    let named = |name: &'static str, value: String| Some((name, value));
    match (tree::whole(table, "repeat"), tree::key_place(table, "each")) {
        (Some(_), Some(each)) => {
            reader.wrong(each, "either repeat or each, not both");
            Vec::new()
        }
        // One more than a lesson may have is enough to say so.
        (Some(n), None) => (1..=n.min(STEPS_MAX as u32 + 1)).map(|n| named("n", n.to_string())).collect(),
        (None, Some(_)) => {
            let texts = reader.texts(table, "each");
            for text in texts.iter().filter(|text| vars::is_nested(&text.text)) {
                reader.wrong(text.span.clone(), vars::NESTED);
            }
            texts.into_iter().take(STEPS_MAX + 1).map(|t| named("it", t.text)).collect()
        }
        (None, None) => vec![None],
    }
}

impl Place<'_, '_> {
    fn expanded(&self, reader: &mut Reader<'_>, text: Text) -> Option<Text> {
        match vars::expand(&text.text, self.vars) {
            Ok(expanded) => {
                reader.grows(expanded.len());
                Some(Text { text: expanded, ..text })
            }
            Err((name, why)) => {
                let place = reader.part(&text.span, &name);
                reader.wrong(place, why);
                None
            }
        }
    }

    fn text(&self, reader: &mut Reader<'_>, field: &str) -> Option<Text> {
        let text = reader.text(self.table, field)?;
        self.expanded(reader, text)
    }

    fn texts(&self, reader: &mut Reader<'_>, field: &str) -> Vec<Text> {
        let texts = reader.texts(self.table, field);
        texts.into_iter().filter_map(|t| self.expanded(reader, t)).collect()
    }

    /// A time; what isn't one has been complained of by its shape, but for what variables made of it.
    fn time(&self, reader: &mut Reader<'_>, field: &str) -> Option<u64> {
        let raw = reader.text(self.table, field)?;
        let has_variables = raw.text.contains("${");
        let text = self.expanded(reader, raw)?;
        let time = tree::time(&text.text);
        if time.is_none() && has_variables {
            reader.wrong(text.span, format!("`{field}` is a time, like \"5s\", \"250ms\" or \"1m 30s\""));
        }
        time
    }

    fn trimmings(&self, reader: &mut Reader<'_>, before: Trimmings) -> Trimmings {
        let hints = self.texts(reader, "hint").into_iter().map(|t| t.text);
        let note = self.text(reader, "note").map(|t| t.text);
        let notes: Vec<String> = before.note.into_iter().chain(note).collect();
        Trimmings {
            chapter: self.text(reader, "chapter").map(|t| t.text).or(before.chapter),
            hints: before.hints.into_iter().chain(hints).collect(),
            note: (!notes.is_empty()).then(|| notes.join("\n\n")),
            place: self.heading.clone(),
        }
    }

    /// The step; None where it is only trimmings, or wrong.
    fn step(&self, reader: &mut Reader<'_>) -> Option<Placed> {
        let there: Vec<&str> = ACTIONS.into_iter().filter(|a| self.table.contains_key(*a)).collect();
        let [action] = there[..] else {
            let alone = there.is_empty() && TRIMMINGS.iter().any(|t| self.table.contains_key(*t));
            let known = |name: &str| STEP.fields.iter().any(|f| f.name == name);
            // A field that is none may well be the action, misspelt: that is complained of already.
            let misspelt = there.is_empty() && self.table.keys().any(|k| !known(k.get_ref()));
            let bare = alone && self.table.keys().all(|k| TRIMMINGS.contains(&k.get_ref().as_ref()));
            if !misspelt && !bare {
                let second = there.get(1).and_then(|a| tree::key_place(self.table, a));
                let what = if there.is_empty() { "none of them".to_owned() } else { there.join(" and ") };
                let message = format!("a step is exactly one of {}; this one has {what}", ACTIONS.join(", "));
                reader.wrong(second.unwrap_or(self.heading.clone()), message);
            }
            return None;
        };
        self.only_where(reader, action);
        let span = tree::place(self.table, action).map_or(self.heading.clone(), |s| reader.inside(&s));
        let mut spans = Vec::new();
        let kind = match action {
            "say" => {
                let text = self.text(reader, "say")?;
                if text.text.trim().is_empty() {
                    reader.doubtful(text.span.clone(), "there is nothing to read here");
                }
                StepKind::Say(text.text.trim().to_owned())
            }
            "do" => {
                let commands = self.commands(reader)?;
                spans = commands.iter().map(|(_, span)| span.clone()).collect();
                let commands = commands.into_iter().map(|(command, _)| command).collect();
                if tree::flag(self.table, "together") { StepKind::Together(commands) } else { StepKind::Do(commands) }
            }
            "wait" => StepKind::Wait {
                condition: self.condition(reader, "wait")?,
                within_ms: self.time(reader, "within").unwrap_or(WITHIN_MS),
            },
            "expect" => StepKind::Expect {
                condition: self.condition(reader, "expect")?,
                within_ms: self.time(reader, "within").unwrap_or(0),
                during_ms: self.time(reader, "during").unwrap_or(0),
            },
            "ask" => StepKind::Ask(self.question(reader)?),
            "sql" => {
                spans = ["on", "session"].map(|f| reader.text(self.table, f).map_or(span.clone(), |t| t.span)).to_vec();
                StepKind::Sql(self.query(reader)?)
            }
            _ => StepKind::Pause(self.time(reader, "pause")?),
        };
        let name = self.text(reader, "name").map_or_else(|| name_of_kind(&kind), |t| t.text);
        let refused = self.text(reader, "refused").map(|t| t.text);
        let step = Step { refused, may_fail: tree::flag(self.table, "may_fail"), ..Step::new(name, kind) };
        let [named, timed, names_node] = ["name", "within", "on"].map(|f| self.table.contains_key(f));
        Some(Placed { step, span, spans, named, timed, names_node })
    }

    /// Fields that belong to another kind of step.
    fn only_where(&self, reader: &mut Reader<'_>, action: &str) {
        for key in self.table.keys() {
            let field = STEP.fields.iter().find(|f| f.name == key.get_ref().as_ref());
            if let Some(field) = field.filter(|f| !f.with.is_empty() && !f.with.contains(&action)) {
                let message = format!("`{}` belongs to {}, not to {action}", field.name, field.with.join(", "));
                reader.wrong(key.span(), message);
            }
        }
    }

    fn commands(&self, reader: &mut Reader<'_>) -> Option<Vec<(Command, Range<usize>)>> {
        let texts = self.texts(reader, "do");
        let (count, mut commands) = (texts.len(), Vec::new());
        if let Some(more) = texts.get(STEPS_MAX) {
            reader.wrong(more.span.clone(), format!("a step has at most {STEPS_MAX} commands"));
            return None;
        }
        for text in texts {
            if reader.skips() && !Command::is_verb_of(&text.text) {
                reader.counts();
                continue;
            }
            match text.text.parse::<Command>() {
                Ok(command) => {
                    if let Command::Set { name, value, .. } = &command {
                        self.setting(reader, &text, name, value);
                    }
                    commands.push((command, text.span));
                }
                Err(error) => reader.wrong(text.span, error.to_string()),
            }
        }
        (commands.len() == count && count > 0).then_some(commands)
    }

    fn setting(&self, reader: &mut Reader<'_>, text: &Text, name: &str, value: &str) {
        let may_be_wrong = ["refused", "may_fail"].iter().any(|f| self.table.contains_key(*f));
        if let Err(why) = settings::known(name) {
            let place = reader.part(&text.span, name);
            reader.wrong(place, why);
        } else if let Some(amiss) = settings::amiss(name, value, When::Reload).filter(|_| !may_be_wrong) {
            let place = reader.part(&text.span, value);
            reader.note(place, amiss.why, amiss.weight);
        }
    }

    fn condition(&self, reader: &mut Reader<'_>, field: &str) -> Option<Condition> {
        let text = self.text(reader, field)?;
        text.text
            .parse()
            .map_err(|e: crate::model::condition::BadCondition| reader.wrong(text.span, e.to_string()))
            .ok()
    }

    fn question(&self, reader: &mut Reader<'_>) -> Option<Question> {
        let text = self.text(reader, "ask")?;
        let choices: Vec<String> = self.texts(reader, "choices").into_iter().map(|t| t.text).collect();
        let why = self.text(reader, "why").map(|t| t.text.trim().to_owned());
        let (mut lacks, answer) = (Vec::new(), tree::whole(self.table, "answer"));
        for (field, there) in [("choices", !choices.is_empty()), ("answer", answer.is_some()), ("why", why.is_some())] {
            if !there && !self.table.contains_key(field) {
                lacks.push(field);
            }
        }
        if text.text.trim().is_empty() {
            reader.wrong(text.span.clone(), "nothing is asked here");
        }
        if let Some(twice) = choices.iter().enumerate().find_map(|(n, c)| choices[..n].contains(c).then_some(c)) {
            let place = tree::place(self.table, "choices").unwrap_or(text.span.clone());
            let place = reader.part(&place, twice);
            reader.wrong(place, "two choices are the same");
        }
        if !lacks.is_empty() {
            reader.wrong(text.span.clone(), format!("a question without {}", lacks.join(", ")));
        }
        if let Some(place) = tree::place(self.table, "choices").filter(|_| !(2..=9).contains(&choices.len())) {
            reader.wrong(place, "a question has 2 to 9 choices");
        }
        let (answer, why) = (answer? as usize, why?);
        // Less than 1 is no whole number from 1 to 9: its shape has been complained of.
        if answer == 0 {
            return None;
        }
        if answer > choices.len() {
            let place = tree::place(self.table, "answer").unwrap_or(text.span.clone());
            reader.wrong(place, format!("there are {} choices; answer is one of 1 to {0}", choices.len()));
            return None;
        }
        Some(Question { text: text.text.trim().to_owned(), choices, answer: answer - 1, why })
    }

    fn query(&self, reader: &mut Reader<'_>) -> Option<Query> {
        let text = self.text(reader, "sql")?;
        if text.text.trim().is_empty() {
            reader.wrong(text.span.clone(), "there is no SQL here");
            return None;
        }
        let session = self.session(reader);
        let node = self.text(reader, "on").map(|t| name_of(reader, &t));
        let background = tree::flag(self.table, "background");
        if background && !self.table.contains_key("session") {
            let place = tree::key_place(self.table, "background").unwrap_or(text.span.clone());
            reader.wrong(place, "what runs in the background needs a session, by which it is asked of later");
        }
        if node.is_none() && session.is_none() && !self.table.contains_key("session") {
            reader.wrong(text.span.clone(), "sql needs its node: on = \"p\"");
            return None;
        }
        let wanted = self.wanted(reader, &text.span);
        if let (true, Some(place)) = (background, self.late_wish()) {
            reader.wrong(place, "what runs in the background is expected of later: expect = \"session_value(a) = …\"");
        }
        // Where only the session is named, `flow` knows its node.
        let node = node.unwrap_or(session.clone())?;
        let command = Command::Sql { node, session, text: text.text.trim().to_owned() };
        Some(Query { command, background, within_ms: self.time(reader, "within"), wanted })
    }

    fn session(&self, reader: &mut Reader<'_>) -> Option<NodeName> {
        let text = self.text(reader, "session")?;
        let name = text.text.parse().ok();
        if name.is_none() {
            reader.wrong(text.span, crate::model::condition::BAD_SESSION);
        }
        name
    }

    fn late_wish(&self) -> Option<Range<usize>> {
        ["value", "rows", "error", "notice", "within"].iter().find_map(|f| tree::key_place(self.table, f))
    }

    fn wanted(&self, reader: &mut Reader<'_>, span: &Range<usize>) -> Wanted {
        let one = self.table.get("value").map(toml::Spanned::get_ref);
        let many = self.table.get("rows").and_then(|v| v.get_ref().as_array());
        if one.is_some() && many.is_some() {
            reader.wrong(span.clone(), "either value or rows, not both");
        }
        let row = |row: &toml::Spanned<DeValue<'_>>| -> Vec<String> {
            let cells = row.get_ref().as_array();
            cells.into_iter().flatten().filter_map(|cell| tree::cell(cell.get_ref())).collect()
        };
        let mut rows = many.map(|rows| rows.iter().map(row).collect::<Vec<_>>());
        if let Some(value) = one.and_then(tree::cell) {
            rows = Some(vec![vec![value]]);
        }
        let place = ["value", "rows"].iter().find_map(|f| tree::place(self.table, f)).unwrap_or(span.clone());
        for cell in rows.iter_mut().flatten().flatten() {
            let text = Text { text: std::mem::take(cell), span: place.clone() };
            *cell = self.expanded(reader, text).map_or(String::new(), |t| t.text);
        }
        let error = self.text(reader, "error");
        if let (Some(text), true) = (&error, rows.is_some()) {
            reader.wrong(text.span.clone(), "what fails gives no rows: either error or value and rows");
        }
        if let Some(code) = error.as_ref().filter(|t| !is_sqlstate(&t.text)) {
            reader.wrong(code.span.clone(), "an SQLSTATE has five of 0-9 and A-Z, like \"25006\"");
        }
        Wanted { rows, error: error.map(|t| t.text), notice: self.text(reader, "notice").map(|t| t.text) }
    }
}

fn is_sqlstate(text: &str) -> bool {
    text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_uppercase())
}

/// What a step is called that has no name of its own.
pub fn name_of_kind(kind: &StepKind) -> String {
    let heading = |text: &str| -> String {
        let line = text.lines().next().unwrap_or_default().trim_start_matches(['#', ' ']);
        line.chars().take(60).collect()
    };
    let list = |commands: &[Command]| commands.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    match kind {
        StepKind::Say(text) => heading(text),
        StepKind::Do(commands) | StepKind::Together(commands) => list(commands),
        StepKind::Wait { condition, .. } | StepKind::Expect { condition, .. } => condition.to_string(),
        StepKind::Pause(ms) => format!("pause of {ms} ms"),
        StepKind::Ask(question) => heading(&question.text),
        StepKind::Sql(query) => query.command.to_string().chars().take(120).collect(),
        StepKind::Reveal(_) => String::new(),
    }
}

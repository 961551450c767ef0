//! What a presenter reads in a second terminal: the note of the present step, the step, the next one, and a clock. Made from the model
//! in the lab's own process, and shown in another, so it is a value of its own.

use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use serde::{Deserialize, Serialize};

use super::view::View;
use super::{figures, prose, widgets};
use crate::model::script::{Progress, Script, StepKind};
use crate::model::{Model, Stamp, safe_text};

/// A running lesson as its presenter sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notes {
    /// The lesson's title.
    pub title: String,
    /// The chapter.
    pub chapter: Option<String>,
    /// The present step, from 1; one more than there are when it is over.
    pub step: usize,
    /// How many there are.
    pub steps: usize,
    /// What the present step is.
    pub now: String,
    /// What it waits for.
    pub state: String,
    /// What the presenter wanted to remember here.
    pub note: Option<String>,
    /// What the next step is.
    pub next: Option<String>,
    /// The next note after this step's: its step, and what it says.
    pub coming: Option<(usize, String)>,
    /// When the lesson began, in microseconds of the lab's life.
    pub began_us: Option<u64>,
}

impl Notes {
    /// Those of the lesson that plays, if one does.
    pub fn of(model: &Model) -> Option<Self> {
        let script = model.script.as_ref()?;
        let at = script.stands_at();
        let goes_on = script.stopped_at().is_none();
        let note = |step: usize| script.steps.get(step).and_then(|s| s.note.clone());
        // What was said to a text holds until the next one, while the steps behind it play out.
        let from = script.text_at().unwrap_or(at).min(at);
        Some(Self {
            title: script.title.clone(),
            chapter: script.chapter_of(at).map(|(_, name)| name.to_owned()),
            step: at + 1,
            steps: script.steps.len(),
            now: step(script, at).unwrap_or_else(|| "the lesson is over".to_owned()),
            state: state(script).to_owned(),
            note: (from..=at).rev().find_map(note),
            next: step(script, at + 1).filter(|_| goes_on),
            coming: (at + 1..script.steps.len()).find_map(|i| Some((i + 1, note(i)?))).filter(|_| goes_on),
            began_us: script.began.map(|Stamp(us)| us),
        })
    }

    /// How long the lesson has gone on, `now` being the age of its lab in microseconds: minutes and seconds.
    pub fn clock(&self, now: u64) -> String {
        figures::clock(Stamp(now.saturating_sub(self.began_us.unwrap_or(now))))
    }

    /// As plain lines.
    pub fn lines(&self, now: u64) -> String {
        let chapter = self.chapter.as_ref().map_or(String::new(), |name| format!(" · {}", safe_text(name)));
        let mut text = format!("{}  step {} of {}{chapter}\n", self.clock(now), self.step.min(self.steps), self.steps);
        let mut part = |word: &str, what: &str| {
            for (n, line) in what.lines().enumerate() {
                text.push_str(&format!("  {:<5} {}\n", if n == 0 { word } else { "" }, safe_text(line)));
            }
        };
        part("now", &format!("{} ({})", self.now, self.state));
        part("note", self.note.as_deref().unwrap_or_default());
        part("next", self.next.as_deref().unwrap_or_default());
        text
    }
}

/// A step in a line: for the presenter, so with a question's answer.
fn step(script: &Script, at: usize) -> Option<String> {
    let step = script.steps.get(at)?;
    let more = match &step.kind {
        StepKind::Ask(question) => {
            let right = question.choices.get(question.answer).map_or("", String::as_str);
            format!(" (right is {}: {right})", question.answer + 1)
        }
        StepKind::Reveal(of) => format!(" to step {}", of + 1),
        _ => String::new(),
    };
    let headline = if matches!(step.kind, StepKind::Reveal(_)) { String::new() } else { step.headline() };
    let word = if step.word() == "reveal" { "answer" } else { step.word() };
    Some(format!("{word} {headline}{more}").split_whitespace().collect::<Vec<_>>().join(" "))
}

fn state(script: &Script) -> &'static str {
    match script.progress {
        _ if script.stopped_at().is_some() => "stopped: it failed",
        _ if script.over() => "over",
        _ if script.reread.is_some() => "an earlier text is read again",
        _ if script.skims() => "on the way there",
        Progress::Reading(_) if script.auto.is_some() => "goes on by itself after a reading time",
        Progress::Reading(_) => "waits for Space",
        Progress::Asking(_) => "waits for an answer",
        _ => "goes on by itself when it is done",
    }
}

/// Draws them; None where no lesson plays. `now` is the lab's age in microseconds.
pub fn render(frame: &mut Frame, lab: &str, notes: Option<&Notes>, now: u64, view: &View) {
    super::canvas(frame.buffer_mut(), view, |buf| draw(buf, lab, notes, now, view));
}

fn draw(buf: &mut Buffer, lab: &str, notes: Option<&Notes>, now: u64, view: &View) {
    let theme = &view.theme;
    let head = Rect { height: 1, ..buf.area };
    buf.set_style(head, theme.badge);
    let title = notes.map_or_else(|| "no lesson plays".to_owned(), |n| n.title.clone());
    let width = usize::from(buf.area.width);
    let text = format!(" notes · {title} · lab {}", safe_text(lab));
    widgets::lines(buf, head, [Line::styled(prose::clip(&text, width.saturating_sub(9)), theme.strong)]);
    let Some(notes) = notes else { return };
    let clock = format!(" {} ", notes.clock(now));
    let right = prose::width(&clock).min(width) as u16;
    let corner = Rect { x: head.right() - right, width: right, ..head };
    widgets::lines(buf, corner, [Line::styled(clock, theme.strong)]);
    let body = widgets::inset(widgets::below(buf.area, 2), 2);
    let lines = body_of(notes, usize::from(body.width), view);
    widgets::lines(buf, body, lines);
    let foot = Rect { y: buf.area.bottom().saturating_sub(1), height: 1, ..buf.area };
    widgets::lines(buf, foot, [Line::styled("  q quits; the lab goes on", theme.dim)]);
}

fn body_of(notes: &Notes, width: usize, view: &View) -> Vec<Line<'static>> {
    let theme = &view.theme;
    let chapter = notes.chapter.as_ref().map_or(String::new(), |name| format!(" · {name}"));
    let place = format!("step {} of {}{chapter}", notes.step.min(notes.steps), notes.steps);
    let mut lines = vec![Line::styled(prose::clip(&place, width), theme.dim), Line::default()];
    lines.extend(prose::wrap(&notes.now, theme.title, width));
    lines.push(Line::styled(prose::clip(&notes.state, width), theme.info));
    lines.push(Line::default());
    match &notes.note {
        Some(note) => lines.extend(note.lines().flat_map(|line| prose::wrap(line, theme.strong, width))),
        None => lines.push(Line::styled("no note for this step", theme.dim)),
    }
    lines.push(Line::default());
    if let Some(next) = &notes.next {
        let spans = [Span::styled("next  ", theme.key), Span::styled(next.as_str(), Style::new())];
        lines.extend(prose::wrap_spans(&spans, width, 6));
    }
    if let Some((step, note)) = &notes.coming {
        let spans = [Span::styled(format!("note at step {step}  "), theme.dim), Span::styled(note.as_str(), theme.dim)];
        lines.extend(prose::wrap_spans(&spans, width, 6));
    }
    lines
}

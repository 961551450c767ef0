//! The lesson: narration large enough to read from afar, what the lesson does or waits for now, and what the last
//! expectation gave, with the evidence.

use ratatui::buffer::Buffer;
use ratatui::layout::{Margin, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::layout::{self, Place};
use super::theme::Theme;
use super::view::{Panel, View};
use super::widgets::{self, spinner};
use super::{figures, markdown, prose};
use crate::model::Model;
use crate::model::script::{Progress, Script, StepKind};

/// The panel's parts, for drawing and for paging alike.
struct Page {
    text: Rect,
    foot: Vec<Line<'static>>,
    lines: Vec<Line<'static>>,
    first: usize,
}

impl Page {
    fn of(area: Rect, script: &Script, model: &Model, view: &View) -> Self {
        let inner = widgets::inset(area.inner(Margin::new(1, 1)), 2);
        let mut foot = foot(script, model, (inner.width, inner.height), &view.theme);
        if let (Some(last), true) = (foot.last_mut(), view.past.is_some()) {
            as_it_was(last, script, &view.theme);
        }
        let tall = (foot.len() as u16 + 1).min(inner.height.saturating_sub(2));
        let text = Rect { height: inner.height - tall, ..inner };
        // Narration that was read stays, greyed, while its step plays out.
        let (narration, fresh) = narration(script);
        let mut lines = markdown::render(&narration, usize::from(text.width), &view.theme);
        if !fresh {
            for span in lines.iter_mut().flat_map(|l| &mut l.spans) {
                span.style = view.theme.dim;
            }
        }
        let height = usize::from(text.height);
        // A hint that was asked for is below the text.
        let hinted = script.hints > 0 && script.reread.is_none();
        let by_itself = || if hinted { usize::MAX } else { turned(script, model, lines.len(), height) };
        let first = view.scroll.get(&Panel::Lesson).copied().unwrap_or_else(by_itself);
        let first = first.min(lines.len().saturating_sub(height));
        Self { text, foot, lines, first }
    }

    /// Lines that don't fit below.
    fn hidden(&self) -> usize {
        self.lines.len().saturating_sub(self.first + usize::from(self.text.height))
    }
}

/// The first line of the next page, while narration goes on below what is shown.
pub(crate) fn next_page(model: &Model, view: &View) -> Option<usize> {
    let script = model.script.as_ref()?;
    let screen = layout::screen(Rect::new(0, 0, view.size.0, view.size.1), model, view);
    let place = screen.places.iter().find(|p| p.panel == Panel::Lesson)?;
    let page = Page::of(place.area, script, model, view);
    (page.hidden() > 0).then(|| page.first + page_of(usize::from(page.text.height)))
}

/// Lines that a page goes on by: two are seen again.
fn page_of(height: usize) -> usize {
    height.saturating_sub(2).max(1)
}

/// In auto-play the pages turn by themselves: the first line shown, by how much of the reading time is over.
fn turned(script: &Script, model: &Model, lines: usize, height: usize) -> usize {
    let Some((left, whole)) = script.goes_on_in(model.now).filter(|(_, whole)| *whole > 0) else { return 0 };
    let pages = 1 + lines.saturating_sub(height).div_ceil(page_of(height)) as u64;
    (pages * (whole - left) / whole) as usize * page_of(height)
}

/// Draws the panel.
pub(super) fn render(buf: &mut Buffer, place: &Place, model: &Model, view: &View) {
    let theme = &view.theme;
    let Some(script) = &model.script else { return };
    let chapter = script.chapter_of(script.stands_at()).map_or(String::new(), |(_, name)| format!(" · {name}"));
    let title = format!("{}{chapter}", script.title);
    let corner = corner(script, theme);
    let title = prose::clip(&title, usize::from(place.area.width).saturating_sub(24.max(corner.width() + 8)));
    widgets::panel(buf, place.area, Line::from(title), view.focus == Panel::Lesson, theme);
    widgets::corner(buf, place.area, corner);
    let page = Page::of(place.area, script, model, view);
    let (hidden, text) = (page.hidden(), page.text);
    let shown = usize::from(text.height).saturating_sub(usize::from(hidden > 0));
    widgets::lines(buf, text, page.lines.into_iter().skip(page.first).take(shown));
    if hidden > 0 {
        let more = Rect { y: text.bottom().saturating_sub(1), height: 1, ..text };
        let text = format!("▼ {} more", figures::plural(hidden + 1, "line"));
        widgets::lines(buf, more, [Line::styled(text, theme.key)]);
    }
    let below = Rect { y: text.bottom(), height: page.foot.len() as u16 + 1, ..text };
    let line = "─".repeat(usize::from(text.width));
    let inside = below.intersection(place.area.inner(Margin::new(1, 1)));
    widgets::lines(buf, inside, std::iter::once(Line::styled(line, theme.border)).chain(page.foot));
}

/// Looking at the past, the lesson's own keys do nothing: what names them says so instead.
fn as_it_was(last: &mut Line<'static>, script: &Script, theme: &Theme) {
    let waits_for_keys =
        script.reread.is_some() || matches!(script.progress, Progress::Reading(_) | Progress::Asking(_));
    if script.over() {
        last.spans.truncate(1);
    } else if waits_for_keys {
        *last = Line::styled("as it was then: the keys below move in time, not the lesson", theme.dim);
    }
}

/// Where the lesson is, and whether it goes on by itself.
fn corner(script: &Script, theme: &Theme) -> Line<'static> {
    let at = (script.stands_at() + 1).min(script.steps.len());
    let step = Span::styled(format!("step {at} of {}", script.steps.len()), theme.dim);
    match script.auto.filter(|_| !script.over()) {
        Some(_) => {
            Line::from(vec![Span::styled(format!("▶ auto ×{}", script.pace()), theme.key), Span::raw("  "), step])
        }
        None => Line::from(step),
    }
}

/// The narration that belongs to the present step, and whether it is being read now.
fn narration(script: &Script) -> (String, bool) {
    let said = script.text_at().and_then(|at| Some((at, script.steps.get(at)?)));
    let Some((at, step)) = said else { return (script.summary.clone(), true) };
    let fresh = at == script.at || script.reread == Some(at);
    let hints = script
        .step()
        .filter(|_| script.reread.is_none())
        .map_or(&[][..], |s| &s.hints[..script.hints.min(s.hints.len())]);
    let hints: String = hints.iter().map(|h| format!("\n\n*Hint:* {h}")).collect();
    (in_markdown(script, at, &step.kind) + &hints, fresh)
}

fn in_markdown(script: &Script, at: usize, kind: &StepKind) -> String {
    match kind {
        StepKind::Say(text) => text.clone(),
        StepKind::Ask(question) => {
            let chosen = script.answers.get(&at);
            let choices = question.choices.iter().enumerate().map(|(n, choice)| {
                let mark = if chosen == Some(&n) { " **← your answer**" } else { "" };
                format!("{}. {choice}{mark}\n", n + 1)
            });
            format!("{}\n\n{}", question.text, choices.collect::<String>())
        }
        StepKind::Reveal(of) => {
            let Some(question) = script.question(*of) else { return String::new() };
            let choice = |n: usize| question.choices.get(n).map_or("", String::as_str);
            let right = choice(question.answer);
            let verdict = match script.answers.get(of) {
                Some(n) if *n == question.answer => format!("✔ You said so: **{right}**"),
                Some(n) => format!("✖ Not quite. You said: {}. The answer is: **{right}**", choice(*n)),
                None => format!("**{right}**"),
            };
            format!("{}\n\n{verdict}\n\n{}", question.text, question.why)
        }
        _ => String::new(),
    }
}

/// The last check, and what goes on now.
fn foot(script: &Script, model: &Model, (width, height): (u16, u16), theme: &Theme) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    let width = usize::from(width);
    if let Some((step, result)) = last_check(script) {
        let (sign, style) = if result.ok { ("✔ ", theme.good) } else { ("✖ ", theme.bad) };
        // The evidence begins with the condition, which is also what a step without a name of its own is called.
        let evidence = result.detail.strip_prefix(step).unwrap_or(&result.detail).trim_start_matches([':', ' ']);
        let spans = [
            Span::styled(sign, style),
            Span::styled(step.to_owned(), style),
            Span::styled(if evidence.is_empty() { "" } else { ": " }, style),
            Span::styled(evidence.to_owned(), Style::new()),
        ];
        lines.extend(prose::wrap_spans(&spans, width, 2).into_iter().take(if height < 14 { 1 } else { 3 }));
    }
    lines.push(now(script, model, width, theme));
    lines
}

fn last_check(script: &Script) -> Option<(&str, &crate::model::script::StepResult)> {
    let done = script.steps.iter().zip(&script.results);
    let told = done.rev().find(|(step, result)| !result.ok || step.checks() || step.word() == "wait");
    told.map(|(step, result)| (step.name.as_str(), result))
}

/// The end of a lesson: how many checks held, how many questions were answered right.
fn finished(script: &Script, width: usize, theme: &Theme) -> Line<'static> {
    let (good, bad) = script.tally();
    let (sign, style) = if bad == 0 { ("✔", theme.badge_good) } else { ("✖", theme.badge_bad) };
    let (score, short) = match script.score() {
        (_, 0) => (String::new(), String::new()),
        (right, asked) => (format!(", {right} of {asked} questions right"), format!(", {right}/{asked} right")),
    };
    let all = good + bad;
    let (text, next) = match width {
        ..60 => (format!("{sign} Finished: {good}/{all} held{short}"), ""),
        60..100 => (format!("{sign} Finished: {good} of {all} checks held{score}."), " X leaves"),
        _ => (format!("{sign} Finished: {good} of {all} checks held{score}."), " X leaves the lesson, the lab stays"),
    };
    Line::from(vec![widgets::badge(&text, style), Span::styled(next, theme.key)])
}

fn now(script: &Script, model: &Model, width: usize, theme: &Theme) -> Line<'static> {
    if let (Some(at), None) = (script.stopped_at(), script.reread) {
        let text = format!("✖ Stopped at step {} of {}", at + 1, script.steps.len());
        let next = match width {
            ..60 => " [ anew",
            60..100 => " [ begins the chapter anew, X leaves",
            _ => " What it has left to tell is not so. [ begins the chapter anew, X leaves",
        };
        return Line::from(vec![widgets::badge(&text, theme.badge_bad), Span::styled(next, theme.key)]);
    }
    if script.over() && script.stopped_at().is_none() {
        return finished(script, width, theme);
    }
    if script.reread.is_some() {
        return Line::from(vec![
            widgets::badge("Space", theme.badge_good),
            Span::styled(" reads on to where the lesson is", theme.key),
        ]);
    }
    let spin = spinner(model.now);
    if let Some(jump) = script.jump.as_ref().filter(|j| script.at < j.to || j.reset.is_none()) {
        let text = format!("{spin} the cluster is made anew and taken to step {}", jump.to + 1);
        return Line::styled(prose::clip(&text, width), theme.info);
    }
    let since = |at| figures::lasted(model.now.ms_since(at));
    let text = match (script.step().map(|s| &s.kind), &script.progress) {
        (Some(StepKind::Ask(question)), Progress::Asking(_)) => {
            let badge = widgets::badge(&format!("1 to {}", question.choices.len()), theme.badge_good);
            let more = script.step().is_some_and(|s| s.hints.len() > script.hints);
            let text = if more { " answers, H gives a hint" } else { " answers" };
            return Line::from(vec![badge, Span::styled(text, theme.key)]);
        }
        (Some(_), Progress::Reading(_)) if script.by_hand => {
            return reading(script, model, width, theme);
        }
        (Some(StepKind::Do(commands)), Progress::Doing { index, since: at, .. }) => {
            let command = commands.get(*index).map(ToString::to_string).unwrap_or_default();
            format!("{spin} {command}  {}", since(*at))
        }
        (Some(StepKind::Together(commands)), Progress::Doing { since: at, .. }) => {
            let all: Vec<String> = commands.iter().map(ToString::to_string).collect();
            format!("{spin} {}  {}", all.join("; "), since(*at))
        }
        (Some(StepKind::Sql(query)), Progress::Doing { since: at, .. }) => {
            format!("{spin} {}  {}", query.command, since(*at))
        }
        (Some(StepKind::Wait { condition, within_ms }), Progress::Watching { since: at, .. }) => {
            format!("{spin} waits until {condition}  {} of {}", since(*at), figures::setting(*within_ms))
        }
        (Some(StepKind::Expect { condition, .. }), Progress::Watching { since: at, .. }) => {
            format!("{spin} checks that {condition}  {}", since(*at))
        }
        (Some(StepKind::Pause(ms)), Progress::Watching { since: at, .. }) => {
            format!("{spin} pauses  {} of {}", since(*at), figures::setting(*ms))
        }
        _ => format!("{spin} goes on by itself"),
    };
    Line::styled(prose::clip(&text, width), theme.info)
}

/// A text is there to be read: what ends it.
fn reading(script: &Script, model: &Model, width: usize, theme: &Theme) -> Line<'static> {
    let left = script.goes_on_in(model.now).map(|(left, _)| left.div_ceil(1_000));
    let (badge, text, more) = match left {
        Some(left) => ("auto", format!(" goes on in {left} s"), "   Space: at once   A: waits again"),
        None => ("Space", " goes on".to_owned(), "   A: by itself   C: all steps"),
    };
    let more = if width >= 50 { more } else { "" };
    let badge = widgets::badge(badge, theme.badge_good);
    Line::from(vec![badge, Span::styled(text, theme.key), Span::styled(more, theme.dim)])
}

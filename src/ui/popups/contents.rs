//! The steps of the lesson: what is done, where it is, what comes. Doesn't spoil: of what comes it tells neither a question's answer
//! nor what a check will find.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use crate::model::Model;
use crate::model::script::{Script, Step, StepKind};
use crate::ui::theme::Theme;
use crate::ui::view::View;
use crate::ui::widgets::{self, Cell, window};
use crate::ui::{figures, prose};

/// A line of the list.
enum Row<'a> {
    Chapter(usize, &'a str),
    Step(usize, &'a Step),
}

/// How far a step is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Done,
    Failed,
    Here,
    Coming,
}

impl State {
    fn of(script: &Script, at: usize) -> Self {
        match script.results.get(at) {
            Some(result) if result.ok => Self::Done,
            Some(_) => Self::Failed,
            None if at == script.at => Self::Here,
            None => Self::Coming,
        }
    }

    fn face(self, theme: &Theme) -> (&'static str, Style) {
        match self {
            Self::Done => ("✔", theme.good),
            Self::Failed => ("✖", theme.bad),
            Self::Here => ("●", theme.key),
            Self::Coming => (" ", theme.dim),
        }
    }
}

pub(super) fn render(buf: &mut Buffer, picked: Option<usize>, model: &Model, view: &View) {
    let theme = &view.theme;
    let Some(script) = &model.script else { return };
    let chapters = script.chapters().count() > 0;
    let foot =
        if chapters { "↑↓ choose   Enter goes to its chapter   Esc closes" } else { "↑↓ look   Esc closes" };
    let size = (100, buf.area.height.saturating_sub(4));
    let inner = window(buf, size, &format!("Steps of \"{}\"", script.title), foot, theme);
    widgets::lines(buf, inner, [summary(script, usize::from(inner.width), theme)]);
    let body = widgets::below(inner, 2);
    let rows = rows(script);
    let cursor = picked.unwrap_or(script.stands_at()).min(script.steps.len().saturating_sub(1));
    let line = rows.iter().position(|row| matches!(row, Row::Step(at, _) if *at == cursor)).unwrap_or(0);
    let height = usize::from(body.height);
    let first = line.saturating_sub(height / 2).min(rows.len().saturating_sub(height));
    for (row, y) in rows.iter().skip(first).zip(body.y..body.bottom()) {
        let area = Rect { y, height: 1, ..body };
        match row {
            Row::Chapter(number, name) => {
                let text = prose::clip(&format!("{number}  {name}"), usize::from(area.width));
                widgets::lines(buf, area, [Line::styled(text, theme.title)]);
            }
            Row::Step(at, step) => draw(buf, area, (*at, step), *at == cursor, script, theme),
        }
    }
}

/// How much is done, and how it goes on.
fn summary(script: &Script, width: usize, theme: &Theme) -> Line<'static> {
    let failed = script.results.iter().filter(|r| !r.ok).count();
    let done = script.results.len() - failed;
    let mut spans = vec![Span::raw(format!("{done} of {} done", script.steps.len()))];
    if failed > 0 {
        spans.push(Span::styled(format!(", {failed} failed"), theme.bad));
    }
    if let (right, told @ 1..) = script.score() {
        spans.push(Span::raw(format!(", {right} of {} right", figures::plural(told, "answer"))));
    }
    if script.auto.is_some() && width >= 60 {
        spans.push(Span::styled(format!("   ▶ auto-play ×{}", script.pace()), theme.key));
    }
    Line::from(spans)
}

fn rows(script: &Script) -> Vec<Row<'_>> {
    let mut rows = Vec::with_capacity(script.steps.len() + 8);
    let mut number = 0;
    for (at, step) in script.steps.iter().enumerate() {
        if let Some(name) = &step.chapter {
            number += 1;
            rows.push(Row::Chapter(number, name));
        }
        rows.push(Row::Step(at, step));
    }
    rows
}

fn draw(buf: &mut Buffer, area: Rect, (at, step): (usize, &Step), picked: bool, script: &Script, theme: &Theme) {
    if picked {
        buf.set_style(area.intersection(buf.area), theme.selected);
    }
    let state = State::of(script, at);
    let (glyph, style) = state.face(theme);
    let (word, text) = told(script, at, step, state);
    let plain = match state {
        State::Here => theme.strong,
        State::Coming => theme.dim,
        State::Failed => theme.bad,
        State::Done => Style::new(),
    };
    widgets::row(
        buf,
        area,
        area.y,
        &[
            Cell::new(1, if picked { "▸" } else { " " }, theme.key),
            Cell::new(1, glyph, style),
            Cell::right(4, &(at + 1).to_string(), theme.dim),
            Cell::new(6, word, theme.dim),
            Cell::new(area.width.saturating_sub(16), &text, plain),
        ],
    );
}

/// What a step is, and as much of it as may be known by now.
fn told(script: &Script, at: usize, step: &Step, state: State) -> (&'static str, String) {
    let coming = state == State::Coming;
    let detail = script.results.get(at).map_or("", |r| r.detail.as_str());
    let text = match &step.kind {
        StepKind::Reveal(of) if matches!(state, State::Coming | State::Here) => {
            format!("to step {}", of + 1)
        }
        StepKind::Reveal(_) => detail.to_owned(),
        StepKind::Expect { .. } if coming => "of what is seen then".to_owned(),
        StepKind::Wait { .. } if coming => "until something is seen".to_owned(),
        StepKind::Sql(query) if coming => query.command.to_string(),
        StepKind::Pause(ms) => figures::setting(*ms),
        _ if state == State::Failed && !detail.starts_with(&step.name) => format!("{}: {detail}", step.name),
        _ if state == State::Failed => detail.to_owned(),
        _ => step.headline(),
    };
    let word = match step.word() {
        "expect" => "check",
        "reveal" => "answer",
        other => other,
    };
    (word, text.split_whitespace().collect::<Vec<_>>().join(" "))
}

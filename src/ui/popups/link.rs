//! One link: what is wrong with it, what has passed it, and what can be done to it.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::Line;

use crate::model::admit::admit;
use crate::model::command::Command;
use crate::model::links::{End, Harm, Passed, Slow, Which};
use crate::model::{Model, NodeName};
use crate::ui::view::{LinkDraft, View};
use crate::ui::widgets::{self, Cell, window};
use crate::ui::{face, figures, prose};

/// Delays and jitters to choose from, in milliseconds.
const DELAYS: [(u64, u64); 5] = [(20, 0), (80, 10), (150, 20), (500, 0), (2_000, 0)];
/// Rates to choose from, in kB a second.
const RATES: [u64; 5] = [10, 100, 1_024, 10_240, 102_400];

/// The ends that a node has a link with, its upstream first.
pub(crate) fn partners(model: &Model, node: &NodeName) -> Vec<End> {
    let me = End::from(node.clone());
    let nodes = model.names().cloned().map(End::from);
    let mut ends: Vec<End> = nodes.filter(|e| model.connects(&me, e) || model.connects(e, &me)).collect();
    ends.sort_by_key(|e| !model.connects(&me, e));
    ends.push(End::Client);
    ends
}

/// The acts on the link and what each means; the amounts are those of the draft.
pub(crate) fn acts(model: &Model, draft: &LinkDraft) -> Vec<(Command, &'static str)> {
    let me = End::from(draft.node.clone());
    let other = partners(model, &draft.node).into_iter().nth(draft.with).unwrap_or(End::Client);
    let (delay, jitter) = DELAYS[draft.amount % DELAYS.len()];
    let slow = Slow { delay_us: delay * 1_000, jitter_us: jitter * 1_000 };
    let rate = RATES[draft.amount % RATES.len()] * 1_024;
    let both = || Which::Between(other.clone(), me.clone());
    let way = |a: &End, b: &End| Which::Toward(a.clone(), b.clone());
    vec![
        (Command::Link(Harm::Cut, both()), "silent, both ways"),
        (Command::Link(Harm::Cut, way(&other, &me)), "silent, this way only"),
        (Command::Link(Harm::Cut, way(&me, &other)), "silent, this way only"),
        (Command::Link(Harm::Refuse, both()), "open ones are reset, new ones refused"),
        (Command::Link(Harm::Slow(slow), both()), "later by so much, each way"),
        (Command::Link(Harm::Throttle(rate), both()), "no more than this, each way"),
        (Command::Link(Harm::Cut, Which::Of(me.clone())), "cut every link of it, its clients' too"),
        (Command::Heal(Some(both())), "undo all faults of this link"),
    ]
}

pub(super) fn render(buf: &mut Buffer, draft: &LinkDraft, model: &Model, view: &View) {
    let theme = &view.theme;
    let me = End::from(draft.node.clone());
    let other = partners(model, &draft.node).into_iter().nth(draft.with).unwrap_or(End::Client);
    let acts = acts(model, draft);
    let foot = "↑↓ choose   ←→ how much   Tab other link   Enter does it   Esc";
    let inner = window(buf, (78, acts.len() as u16 + 9), &format!("Link {other} – {me}"), foot, theme);
    let mut lines = vec![state(model, &other, &me, view)];
    lines.extend(passed(model, &other, &me, view));
    let used = lines.len() as u16;
    widgets::lines(buf, inner, lines);
    for (i, (command, help)) in acts.iter().enumerate() {
        let at = widgets::below(inner, used + 1 + i as u16);
        let (here, why) = (draft.line == i, admit(model, command).err());
        if here && at.height > 0 {
            buf.set_style(Rect { height: 1, ..at }, theme.selected);
        }
        let text = match command {
            Command::Link(Harm::Slow(_) | Harm::Throttle(_), _) if here => format!("◀ {command} ▶"),
            _ => format!("  {command}"),
        };
        let style = if why.is_some() { theme.dim } else { theme.key };
        let (note, style_of_note) = why.as_deref().map_or((*help, theme.dim), |why| (why, theme.warn));
        let note = prose::clip(note, usize::from(inner.width).saturating_sub(33));
        let cells = [
            Cell::new(1, if here { "▸" } else { " " }, theme.key),
            Cell::new(28, &text, style),
            Cell::new(inner.width.saturating_sub(31), &note, style_of_note),
        ];
        widgets::row(buf, at, at.y, &cells);
    }
}

/// The faults in force, in words.
fn state(model: &Model, a: &End, b: &End, view: &View) -> Line<'static> {
    let here = |f: &&crate::model::links::LinkFault| (&f.from, &f.to) == (a, b) || (&f.from, &f.to) == (b, a);
    let faults: Vec<String> =
        model.links.faults().iter().filter(here).map(|f| format!("{} {f}", face::sign(f.harm))).collect();
    if faults.is_empty() {
        return Line::styled("Nothing is wrong with it.", Style::new());
    }
    Line::styled(faults.join("   "), view.theme.bad)
}

/// What has passed, direction by direction, where there is a relay that counts.
fn passed(model: &Model, a: &End, b: &End, view: &View) -> Vec<Line<'static>> {
    let theme = &view.theme;
    let counted = model.traffic.iter().find(|t| (&t.from, &t.to) == (a, b) || (&t.from, &t.to) == (b, a));
    let Some(t) = counted else {
        let why = match &model.direct_links {
            Some(why) if *a != End::Client => format!("The link is direct, so nothing is counted: {why}"),
            _ => "No relay carries it now, so nothing is counted.".to_owned(),
        };
        return vec![Line::styled(why, theme.dim)];
    };
    let one = |from: &End, to: &End, p: Passed| {
        let messages =
            p.messages.map_or_else(|| "messages unknown".to_owned(), |n| format!("{} messages", figures::count(n)));
        Line::styled(format!("{from} → {to}: {}, {messages}", figures::bytes(p.bytes)), theme.dim)
    };
    let open = figures::plural(t.open as usize, "connection");
    let turns = format!("{} round trips, {open} open; {} connects to {}", figures::count(t.round_trips), t.from, t.to);
    vec![one(&t.to, &t.from, t.down), one(&t.from, &t.to, t.up), Line::styled(turns, theme.dim)]
}

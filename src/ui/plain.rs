//! Last passes over the finished picture: nothing that a terminal would act on, ASCII instead of drawing characters, no colours, or all of it greyed.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier};

use super::theme::Glyphs;
use crate::model::text::is_risky;

/// What each drawing character becomes on a terminal that has only ASCII.
const ASCII: &[(&str, &str)] = &[
    ("─╌┄╍╾╼", "-"),
    ("━═", "="),
    ("│┃╎┊╏╿╽┇", "|"),
    ("╭╮╰╯┌┐└┘├┤┬┴┼┏┓┗┛┣┫┳┻╋╔╗╚╝", "+"),
    ("║", "|"),
    ("█▇▆▅", "#"),
    ("▓▄", "%"),
    ("▒▃", "="),
    ("░▂▁", ":"),
    ("·•∙", "."),
    ("▶▸❯→", ">"),
    ("◀◂←", "<"),
    ("▼▾↓▽", "v"),
    ("▲▴↑", "^"),
    ("◆●■", "*"),
    ("◇○□◌◔", "o"),
    ("❄", "*"),
    ("⊘", "0"),
    ("✔±", "+"),
    ("✖✘╳×", "x"),
    ("…", "~"),
    ("µ", "u"),
    ("–—−", "-"),
    ("“”„", "\""),
    ("‘’", "'"),
    ("⠋⠴", "-"),
    ("⠙⠦", "\\"),
    ("⠹⠧", "|"),
    ("⠸⠇⠼⠏", "/"),
    ("⚠", "!"),
    ("≥≤", "~"),
];

/// What the fonts of the Linux console have (those of PCs, code page 437, and Debian's), and what they have instead of lines they lack.
const CONSOLE: &str = "─│┌┐└┘├┤┬┴┼═║╔╗╚╝╠╣╦╩╬█▓▒░▄▀▌▐·•►◄▲▼↑↓→←◆±µ°";
const CONSOLE_INSTEAD: &[(&str, &str)] = &[
    ("╌┄╍╾╼", "─"),
    ("━", "═"),
    ("┃╿╽", "║"),
    ("╎┊╏┇", "│"),
    ("╭", "┌"),
    ("╮", "┐"),
    ("╰", "└"),
    ("╯", "┘"),
    ("┏", "╔"),
    ("┓", "╗"),
    ("┗", "╚"),
    ("┛", "╝"),
    ("┣", "╠"),
    ("┫", "╣"),
    ("┳", "╦"),
    ("┻", "╩"),
    ("╋", "╬"),
    ("▶▸❯▷", "►"),
    ("◀◂", "◄"),
    ("▾▽", "▼"),
    ("▴△", "▲"),
    ("▇▆▅", "▄"),
    ("▃▂▁", "░"),
];

/// Replaces what the terminal can't show; what has no likeness becomes `?`.
pub(super) fn glyphs(buf: &mut Buffer, glyphs: Glyphs) {
    for cell in &mut buf.content {
        if cell.symbol().is_ascii() || glyphs == Glyphs::All {
            continue;
        }
        let first = cell.symbol().chars().next().unwrap_or(' ');
        if glyphs == Glyphs::Console {
            let instead = CONSOLE_INSTEAD.iter().find(|(from, _)| from.contains(first));
            if let Some((_, to)) = instead {
                cell.set_symbol(to);
            }
            if instead.is_some() || CONSOLE.contains(first) || ('\u{a1}'..='\u{ff}').contains(&first) {
                continue;
            }
        }
        let likeness = ASCII.iter().find(|(from, _)| from.contains(first)).map_or("?", |(_, to)| to);
        cell.set_symbol(likeness);
    }
}

/// Takes out what a terminal would act on: whatever text came from, a recording's too, it turns no reading direction and moves no
/// cursor. (Characters without a width come to the cell before them, so that a panel's own clipping doesn't see them.)
pub(super) fn harmless(buf: &mut Buffer) {
    for cell in buf.content.iter_mut().filter(|cell| cell.symbol().len() > 1 && cell.symbol().chars().any(is_risky)) {
        let rest: String = cell.symbol().chars().filter(|c| !is_risky(*c)).collect();
        cell.set_symbol(if rest.is_empty() { "\u{fffd}" } else { &rest });
    }
}

/// Drops colours; bold, reverse and underline stay.
pub(super) fn without_colour(buf: &mut Buffer) {
    for cell in &mut buf.content {
        cell.fg = Color::Reset;
        cell.bg = Color::Reset;
        cell.underline_color = Color::Reset;
    }
}

/// Greys what is old.
pub(super) fn greyed(buf: &mut Buffer, area: Rect, colour: Color) {
    for y in area.top()..area.bottom() {
        for x in area.left()..area.right() {
            if let Some(cell) = buf.cell_mut((x, y)) {
                cell.fg = colour;
                cell.modifier.remove(Modifier::BOLD);
                cell.modifier.insert(Modifier::DIM);
            }
        }
    }
}

//! A finished picture as SVG: every character in its place of a grid, in the colours it has on the screen. Knows no panel.

use ratatui::buffer::{Buffer, Cell};
use ratatui::style::{Color, Modifier};

use super::theme::Theme;
use crate::report::markup::Markup;

/// A character's place, in the picture's units.
const WIDTH: f64 = 8.4;
const HEIGHT: f64 = 18.0;
/// The line that characters stand on, from their place's top.
const FOOT: f64 = 13.5;

/// Colours of the terminal's sixteen, as xterm has them.
const SIXTEEN: [u32; 16] = [
    0x00_0000, 0xcd_0000, 0x00_cd00, 0xcd_cd00, 0x5c_5cff, 0xcd_00cd, 0x00_cdcd, 0xe5_e5e5, 0x7f_7f7f, 0xff_0000,
    0x00_ff00, 0xff_ff00, 0x8c_8cff, 0xff_00ff, 0x00_ffff, 0xff_ffff,
];

/// The colours and the weight of a run of characters.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Look {
    ink: u32,
    ground: u32,
    kind: Modifier,
}

/// The picture. `theme` tells what the colours are where a cell leaves that to the terminal.
pub fn svg(buffer: &Buffer, theme: &Theme) -> String {
    let (columns, rows) = (f64::from(buffer.area.width), f64::from(buffer.area.height));
    let ground = colour(theme.base.bg, 0x0f_141b);
    let mut page = Markup::beginning("");
    page.open(
        "svg",
        &[
            ("xmlns", &"http://www.w3.org/2000/svg"),
            ("viewBox", &format!("0 0 {:.1} {:.1}", columns * WIDTH, rows * HEIGHT)),
            ("font-family", &"DejaVu Sans Mono, Menlo, Consolas, monospace"),
            ("font-size", &14),
        ],
    );
    page.empty("rect", &[("width", &"100%"), ("height", &"100%"), ("fill", &hex(ground))]);
    for (y, row) in buffer.content.chunks(usize::from(buffer.area.width.max(1))).enumerate() {
        for run in runs(row, theme) {
            run.ground(&mut page, y, ground);
        }
        for run in runs(row, theme) {
            run.text(&mut page, y);
        }
    }
    page.finish()
}

/// Neighbours that look alike.
struct Run<'a> {
    first: usize,
    look: Look,
    cells: &'a [Cell],
}

fn runs<'a>(row: &'a [Cell], theme: &'a Theme) -> impl Iterator<Item = Run<'a>> {
    let mut first = 0;
    row.chunk_by(move |a, b| look(a, theme) == look(b, theme)).map(move |cells| {
        let run = Run { first, look: look(&cells[0], theme), cells };
        first += cells.len();
        run
    })
}

impl Run<'_> {
    fn ground(&self, page: &mut Markup, y: usize, ground: u32) {
        if self.look.ground == ground {
            return;
        }
        page.empty(
            "rect",
            &[
                ("x", &place(self.first)),
                ("y", &(y as f64 * HEIGHT)),
                ("width", &place(self.cells.len())),
                ("height", &HEIGHT),
                ("fill", &hex(self.look.ground)),
            ],
        );
    }

    /// Word by word: what draws it may know only the first of an element's places (librsvg does).
    fn text(&self, page: &mut Markup, y: usize) {
        let mut first = self.first;
        for cells in self.cells.chunk_by(|a, b| is_blank(a) == is_blank(b)) {
            if !is_blank(&cells[0]) {
                Run { first, look: self.look, cells }.word(page, y);
            }
            first += cells.len();
        }
    }

    /// Every character has a place of its own, so that no font's idea of its width moves the next one.
    fn word(&self, page: &mut Markup, y: usize) {
        let (mut places, mut text) = (Vec::new(), String::new());
        for (n, cell) in self.cells.iter().enumerate() {
            // A character of two parts (a letter and its accent) shares one place.
            let here = place(self.first + n);
            places.extend(std::iter::repeat_n(here, cell.symbol().chars().count()));
            text.push_str(cell.symbol());
        }
        let places = places.join(" ");
        let foot = y as f64 * HEIGHT + FOOT;
        let kind = self.look.kind;
        let weight = if kind.contains(Modifier::BOLD) { "bold" } else { "normal" };
        let slant = if kind.contains(Modifier::ITALIC) { "italic" } else { "normal" };
        let line = if kind.contains(Modifier::UNDERLINED) { "underline" } else { "none" };
        let opacity = if kind.contains(Modifier::DIM) { "0.6" } else { "1" };
        let ink = hex(self.look.ink);
        let all: [crate::report::markup::Attribute<'_>; 7] = [
            ("x", &places),
            ("y", &foot),
            ("fill", &ink),
            ("font-weight", &weight),
            ("font-style", &slant),
            ("text-decoration", &line),
            ("opacity", &opacity),
        ];
        let plain = ["normal", "none", "1"];
        let said: Vec<_> = all.into_iter().filter(|(_, value)| !plain.contains(&value.to_string().as_str())).collect();
        page.leaf("text", &said, &text);
    }
}

fn is_blank(cell: &Cell) -> bool {
    cell.symbol().trim().is_empty()
}

fn look(cell: &Cell, theme: &Theme) -> Look {
    let ink = colour(Some(cell.fg), colour(theme.base.fg, 0xd7_dee8));
    let ground = colour(Some(cell.bg), colour(theme.base.bg, 0x0f_141b));
    let (ink, ground) = if cell.modifier.contains(Modifier::REVERSED) { (ground, ink) } else { (ink, ground) };
    Look { ink, ground, kind: cell.modifier }
}

fn place(column: usize) -> String {
    format!("{:.1}", column as f64 * WIDTH)
}

fn hex(colour: u32) -> String {
    format!("#{colour:06x}")
}

/// As 24 bits; `own` where it is the terminal's.
fn colour(colour: Option<Color>, own: u32) -> u32 {
    let number = match colour {
        None | Some(Color::Reset) => return own,
        Some(Color::Rgb(r, g, b)) => return u32::from(r) << 16 | u32::from(g) << 8 | u32::from(b),
        Some(Color::Indexed(n)) => usize::from(n),
        Some(Color::Black) => 0,
        Some(Color::Red) => 1,
        Some(Color::Green) => 2,
        Some(Color::Yellow) => 3,
        Some(Color::Blue) => 4,
        Some(Color::Magenta) => 5,
        Some(Color::Cyan) => 6,
        Some(Color::Gray) => 7,
        Some(Color::DarkGray) => 8,
        Some(Color::LightRed) => 9,
        Some(Color::LightGreen) => 10,
        Some(Color::LightYellow) => 11,
        Some(Color::LightBlue) => 12,
        Some(Color::LightMagenta) => 13,
        Some(Color::LightCyan) => 14,
        Some(Color::White) => 15,
    };
    SIXTEEN.get(number).copied().unwrap_or(own)
}

//! Colours by meaning, one table per theme. Nothing on the screen is told by colour alone, so that a theme may have none.

use ratatui::style::{Color, Modifier, Style};

/// How many colours the terminal shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ColourMode {
    /// None at all (`NO_COLOR`, `--no-color`): bold, reverse and underline remain.
    None,
    /// The terminal's own sixteen, on its own background.
    Sixteen,
    /// 24 bits.
    #[default]
    Full,
}

impl ColourMode {
    /// What a terminal of this kind (`TERM`) shows. What it says of 24 bits (`COLORTERM`) is often handed down from another one, so it is
    /// believed only of kinds that have them.
    pub fn told(term: &str, colorterm: &str) -> Self {
        let is_one_of = |kinds: &[&str]| kinds.iter().any(|kind| term.starts_with(kind));
        if is_one_of(&["dumb", "vt", "xterm-mono", "wy", "adm"]) || term.ends_with("-m") {
            return Self::None;
        }
        let few = term.is_empty()
            || is_one_of(&["linux", "screen", "ansi", "cons", "cygwin", "rxvt-16", "xterm-16", "xterm-c"]);
        if !few && ["truecolor", "24bit"].contains(&colorterm) { Self::Full } else { Self::Sixteen }
    }
}

/// Which drawing characters the terminal has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Glyphs {
    /// Whatever is drawn.
    #[default]
    All,
    /// Those of the Linux console's fonts: thin and double lines, blocks, arrows.
    Console,
    /// ASCII only.
    Ascii,
}

impl Glyphs {
    /// What a terminal of this kind (`TERM`) has, where text is in UTF-8 or isn't.
    pub fn told(term: &str, utf8: bool) -> Self {
        match term {
            _ if !utf8 || term.starts_with("vt") => Self::Ascii,
            _ if term.starts_with("linux") => Self::Console,
            _ => Self::All,
        }
    }
}

/// Which background the colours are made for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shade {
    /// Light text on dark.
    #[default]
    Dark,
    /// Dark text on light.
    Light,
}

impl Shade {
    /// The one for a terminal that says "text;ground" of its colours (`COLORFGBG`), by their numbers among the sixteen: the two
    /// whites are a light ground. Dark where nothing is said that is understood.
    pub fn told(colours: &str) -> Self {
        match colours.rsplit_once(';') {
            Some((_, "7" | "15")) => Self::Light,
            _ => Self::Dark,
        }
    }
}

/// Styles by meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say what each is for")]
pub struct Theme {
    /// Whether colours are dropped from the finished picture.
    pub mode: ColourMode,
    pub base: Style,
    pub dim: Style,
    pub strong: Style,
    pub border: Style,
    pub focus: Style,
    pub title: Style,
    pub good: Style,
    pub warn: Style,
    pub bad: Style,
    pub info: Style,
    pub primary: Style,
    pub standby: Style,
    pub key: Style,
    pub selected: Style,
    pub code: Style,
    pub badge: Style,
    pub badge_bad: Style,
    pub badge_warn: Style,
    pub badge_good: Style,
    /// The ladder's bar: replayed, flushed, written, sent, not sent.
    pub steps: [Style; 5],
}

impl Theme {
    /// The theme for these colours.
    pub fn new(mode: ColourMode, shade: Shade) -> Self {
        match (mode, shade) {
            (ColourMode::Full, Shade::Dark) => DARK,
            (ColourMode::Full, Shade::Light) => LIGHT,
            (ColourMode::Sixteen, Shade::Dark) => DARK_NAMED,
            (ColourMode::Sixteen, Shade::Light) => LIGHT_NAMED,
            (ColourMode::None, _) => Self { mode, ..DARK_NAMED },
        }
    }
}

/// The raw colours of a 24-bit theme.
struct Palette {
    ground: u32,
    raised: u32,
    text: u32,
    dim: u32,
    line: u32,
    focus: u32,
    good: u32,
    warn: u32,
    bad: u32,
    info: u32,
    primary: u32,
    steps: [u32; 4],
}

/// Blue, amber and orange-red keep apart for nearly all colour-blind eyes; words and glyphs say the same.
const DARK: Theme = full(&Palette {
    ground: 0x000f_141b,
    raised: 0x0026_3242,
    text: 0x00d7_dee8,
    dim: 0x007f_8c9d,
    line: 0x003b_4757,
    focus: 0x006c_b6ff,
    good: 0x0052_d1ac,
    warn: 0x00ff_bf5f,
    bad: 0x00ff_7866,
    info: 0x0086_c5ff,
    primary: 0x00ff_d878,
    steps: [0x0052_d1ac, 0x003b_9cc9, 0x006f_7fd6, 0x008a_6fb0],
});

const LIGHT: Theme = full(&Palette {
    ground: 0x00fb_faf6,
    raised: 0x00e3_e8ef,
    text: 0x001d_2530,
    dim: 0x005a_6470,
    line: 0x00b9_c0c9,
    focus: 0x000b_5cad,
    good: 0x0000_755a,
    warn: 0x0096_5600,
    bad: 0x00b8_2a16,
    info: 0x000b_5cad,
    primary: 0x007a_4f00,
    steps: [0x001b_9e7e, 0x002f_86b8, 0x0066_74c9, 0x008a_6fb0],
});

/// The colours of a theme of the terminal's own; red is bad on any ground.
struct Named {
    good: Color,
    amber: Color,
    blue: Color,
    steps: [Color; 4],
}

const DARK_NAMED: Theme = sixteen(&Named {
    good: Color::Green,
    amber: Color::Yellow,
    blue: Color::LightCyan,
    steps: [Color::Green, Color::Cyan, Color::Blue, Color::Magenta],
});

/// Green, cyan and yellow can't be read on white, nor can white on them: blue, magenta and red are left. The ladder's glyphs tell
/// its steps apart.
const LIGHT_NAMED: Theme = sixteen(&Named {
    good: Color::Blue,
    amber: Color::Magenta,
    blue: Color::Blue,
    steps: [Color::Blue, Color::Blue, Color::Magenta, Color::Magenta],
});

const fn rgb(hex: u32) -> Color {
    Color::Rgb((hex >> 16) as u8, (hex >> 8) as u8, hex as u8)
}

const fn full(p: &Palette) -> Theme {
    let on = Style::new().bg(rgb(p.ground));
    let badge = Style::new().fg(rgb(p.ground)).add_modifier(Modifier::BOLD);
    Theme {
        mode: ColourMode::Full,
        base: on.fg(rgb(p.text)),
        dim: Style::new().fg(rgb(p.dim)),
        strong: Style::new().fg(rgb(p.text)).add_modifier(Modifier::BOLD),
        border: Style::new().fg(rgb(p.line)),
        focus: Style::new().fg(rgb(p.focus)),
        title: Style::new().fg(rgb(p.text)).add_modifier(Modifier::BOLD),
        good: Style::new().fg(rgb(p.good)),
        warn: Style::new().fg(rgb(p.warn)),
        bad: Style::new().fg(rgb(p.bad)),
        info: Style::new().fg(rgb(p.info)),
        primary: Style::new().fg(rgb(p.primary)).add_modifier(Modifier::BOLD),
        standby: Style::new().fg(rgb(p.info)).add_modifier(Modifier::BOLD),
        key: Style::new().fg(rgb(p.focus)).add_modifier(Modifier::BOLD),
        selected: Style::new().bg(rgb(p.raised)).add_modifier(Modifier::BOLD),
        code: Style::new().fg(rgb(p.info)).bg(rgb(p.raised)),
        badge: Style::new().fg(rgb(p.text)).bg(rgb(p.raised)),
        badge_bad: badge.bg(rgb(p.bad)),
        badge_warn: badge.bg(rgb(p.warn)),
        badge_good: badge.bg(rgb(p.good)),
        steps: [
            Style::new().fg(rgb(p.steps[0])),
            Style::new().fg(rgb(p.steps[1])),
            Style::new().fg(rgb(p.steps[2])),
            Style::new().fg(rgb(p.steps[3])),
            Style::new().fg(rgb(p.line)),
        ],
    }
}

const fn sixteen(named: &Named) -> Theme {
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let reverse = bold.add_modifier(Modifier::REVERSED);
    Theme {
        mode: ColourMode::Sixteen,
        base: Style::new().fg(Color::Reset).bg(Color::Reset),
        dim: Style::new().add_modifier(Modifier::DIM),
        strong: bold,
        border: Style::new().add_modifier(Modifier::DIM),
        focus: Style::new().fg(named.blue).add_modifier(Modifier::BOLD),
        title: bold,
        good: Style::new().fg(named.good),
        warn: Style::new().fg(named.amber),
        bad: Style::new().fg(Color::Red).add_modifier(Modifier::BOLD),
        info: Style::new().fg(named.blue),
        primary: bold.fg(named.amber),
        standby: bold.fg(named.blue),
        key: bold.fg(named.blue),
        selected: reverse,
        code: Style::new().fg(named.blue),
        badge: Style::new().add_modifier(Modifier::REVERSED),
        badge_bad: reverse.fg(Color::Red),
        badge_warn: reverse.fg(named.amber),
        badge_good: reverse.fg(named.good),
        steps: [
            Style::new().fg(named.steps[0]),
            Style::new().fg(named.steps[1]),
            Style::new().fg(named.steps[2]),
            Style::new().fg(named.steps[3]),
            Style::new().add_modifier(Modifier::DIM),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_gets_the_colours_it_has() {
        use ColourMode::{Full, None, Sixteen};
        for (term, colorterm, mode) in [
            ("xterm-256color", "truecolor", Full),
            ("xterm-256color", "24bit", Full),
            ("tmux-256color", "truecolor", Full),
            ("xterm-kitty", "truecolor", Full),
            ("xterm-256color", "", Sixteen),
            ("xterm-256color", "yes", Sixteen),
            ("linux", "truecolor", Sixteen),
            ("screen", "truecolor", Sixteen),
            ("screen-256color", "truecolor", Sixteen),
            ("screen.xterm-256color", "truecolor", Sixteen),
            ("", "truecolor", Sixteen),
            ("vt100", "truecolor", None),
            ("vt220", "", None),
            ("xterm-mono", "truecolor", None),
            ("dumb", "truecolor", None),
        ] {
            assert_eq!(ColourMode::told(term, colorterm), mode, "{term} {colorterm}");
        }
    }

    #[test]
    fn a_terminal_gets_the_glyphs_it_has() {
        for (term, utf8, glyphs) in [
            ("xterm-256color", true, Glyphs::All),
            ("screen", true, Glyphs::All),
            ("xterm-256color", false, Glyphs::Ascii),
            ("linux", true, Glyphs::Console),
            ("linux", false, Glyphs::Ascii),
            ("vt100", true, Glyphs::Ascii),
        ] {
            assert_eq!(Glyphs::told(term, utf8), glyphs, "{term} {utf8}");
        }
    }

    #[test]
    fn the_ground_is_light_where_the_terminal_says_so() {
        for (said, shade) in [
            ("0;15", Shade::Light),
            ("0;7", Shade::Light),
            ("0;default;15", Shade::Light),
            ("15;0", Shade::Dark),
            ("7;8", Shade::Dark),
            ("0;115", Shade::Dark),
            ("15;default", Shade::Dark),
            ("15", Shade::Dark),
            (";", Shade::Dark),
            ("", Shade::Dark),
        ] {
            assert_eq!(Shade::told(said), shade, "{said:?}");
        }
    }
}

//! `replab export`: a recording as something else: a film for asciinema, one screen as SVG, or what was done by hand as a scenario.

use std::path::{Path, PathBuf};

use color_eyre::eyre::{Result, WrapErr, eyre};
use ratatui::backend::{Backend as _, CrosstermBackend};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::past::told;
use super::plain::{complain, print};
use super::replay::{self, NoRecording, Shown};
use crate::cli::{Common, ExportWords, exit};
use crate::model::{Model, Stamp};
use crate::recording::{self, Player, by_hand};
use crate::scenario::draft::Entry;
use crate::ui::past::{PACE, Past};
use crate::ui::{self, ColourMode, Shade, View};

/// So many milliseconds between two pictures of a film.
const FRAME_MS: u64 = 100;
/// Pauses of a scenario that are longer in all than this, in seconds, are worth a word.
const LONG_REST: u64 = 60;
/// The name that means standard output.
const STANDARD_OUTPUT: &str = "-";

/// Carries it out.
pub fn run(common: &Common, words: &ExportWords) -> Result<u8> {
    if words.out.is_some() && words.svg.len() > 1 {
        let why = format!(
            "-o names one file, and there are {} --svg: leave it out, or export them one by one",
            words.svg.len()
        );
        return Err(NoRecording(why).into());
    }
    let shown = replay::find(words.recording.as_deref())?;
    if let Some(why) = &shown.reel.damage {
        complain(&format!("{}: {why}; what comes before is exported", shown.name))?;
    }
    // A picture shall look the same wherever it is made: this terminal isn't asked.
    let shade = common.theme.shade(Shade::Dark);
    if let Some(out) = &words.cast {
        let film = cast(&shown, words.size, shade)?;
        put(common, &target(&shown, out.as_deref(), ".cast")?, &film)?;
    }
    for at in &words.svg {
        let picture = svg(&shown, *at, words.size, shade)?;
        put(common, &target(&shown, words.out.as_deref(), &format!("-{}.svg", seconds(*at)))?, &picture)?;
    }
    if let Some(out) = &words.scenario {
        let text = scenario(&shown)?;
        put(common, &target(&shown, out.as_deref(), ".toml")?, &text)?;
    }
    Ok(if shown.reel.damage.is_some() { exit::FAILED } else { exit::OK })
}

/// Where it goes: where the person says; else beside the recording, or here for one that has no place of its own. What nobody
/// named isn't written over.
fn target(shown: &Shown, named: Option<&Path>, ending: &str) -> Result<PathBuf> {
    if let Some(path) = named {
        return Ok(path.to_owned());
    }
    let folder = shown.path.as_ref().and_then(|path| path.parent()).unwrap_or_else(|| Path::new(""));
    let stem = Path::new(&shown.name).file_stem().map_or("recording".into(), |stem| stem.to_string_lossy());
    let path = folder.join(format!("{stem}{ending}"));
    if path.exists() {
        let why = format!("{} is there already: name the file to write it over", path.display());
        return Err(NoRecording(why).into());
    }
    Ok(path)
}

fn put(common: &Common, path: &Path, text: &str) -> Result<()> {
    if path.as_os_str() == STANDARD_OUTPUT {
        return Ok(print(text)?);
    }
    std::fs::write(path, text).wrap_err_with(|| format!("can't write {}", path.display()))?;
    if !common.quiet {
        print(&format!("{}\n", path.display()))?;
    }
    Ok(())
}

fn seconds(at: Stamp) -> String {
    format!("{}s", at.0 as f64 / 1e6)
}

/// The screen as it was at that moment, with the clock of a replay: nobody shall take it for a lab that runs.
fn picture(model: &Model, past: Past, size: (u16, u16), shade: Shade) -> Buffer {
    let mut view = View { size, ..View::new(ColourMode::Full, shade) };
    view.past = Some(past);
    ui::picture(model, &view)
}

fn svg(shown: &Shown, at: Stamp, size: (u16, u16), shade: Shade) -> Result<String> {
    let end = shown.reel.end();
    if at > end {
        let why = format!("the recording ends at {}; {} is later", seconds(end), seconds(at));
        return Err(NoRecording(why).into());
    }
    let mut player = Player::new();
    player.seek(&shown.reel, &shown.film, at).map_err(|why| eyre!("{why}"))?;
    let past = told(&shown.reel, at, false, PACE, false);
    let view = View::new(ColourMode::Full, shade);
    Ok(ui::svg(&picture(&player.model, past, size, shade), &view.theme))
}

/// A film in the third version of asciicast: a line for the head, then `[seconds since the line before, kind, data]`.
fn cast(shown: &Shown, (width, height): (u16, u16), shade: Shade) -> Result<String> {
    crossterm::style::force_color_output(true);
    let header = &shown.reel.header;
    let began = header.began.parse::<jiff::Timestamp>().map_or(0, jiff::Timestamp::as_second);
    let title = header.title.clone().unwrap_or_else(|| format!("replab, lab {}", header.lab));
    let head = serde_json::json!({
        "version": 3, "term": {"cols": width, "rows": height, "type": "xterm-256color"}, "timestamp": began, "title": title,
    });
    let mut cast = Cast { text: format!("{head}\n"), last_ms: 0 };
    let (mut player, end) = (Player::new(), shown.reel.end());
    let mut before = Buffer::empty(Rect::new(0, 0, width, height));
    cast.event(0, "o", "\x1b[?25l\x1b[0m\x1b[2J\x1b[H");
    let mut marks = shown.reel.marks.iter().peekable();
    for ms in (0..=end.0 / 1_000).step_by(FRAME_MS as usize) {
        let at = Stamp(ms * 1_000);
        player.seek(&shown.reel, &shown.film, at).map_err(|why| eyre!("{why}"))?;
        while let Some(mark) = marks.next_if(|mark| mark.at <= at) {
            cast.event(ms, "m", &mark.text);
        }
        let past = told(&shown.reel, at, true, PACE, false);
        let now = picture(&player.model, past, (width, height), shade);
        let changed = before.diff(&now);
        if !changed.is_empty() {
            let mut drawn = Vec::new();
            CrosstermBackend::new(&mut drawn).draw(changed.into_iter())?;
            cast.event(ms, "o", &String::from_utf8_lossy(&drawn));
        }
        before = now;
    }
    cast.event(end.0 / 1_000, "o", "\x1b[0m\x1b[?25h\r\n");
    cast.event(end.0 / 1_000, "x", "0");
    Ok(cast.text)
}

/// A film as it grows.
struct Cast {
    text: String,
    last_ms: u64,
}

impl Cast {
    fn event(&mut self, at_ms: u64, kind: &str, data: &str) {
        let since = at_ms.saturating_sub(self.last_ms) as f64 / 1e3;
        self.last_ms = at_ms;
        self.text.push_str(&format!("{}\n", serde_json::json!([since, kind, data])));
    }
}

/// What was done by hand, as a scenario that `check` has nothing against.
fn scenario(shown: &Shown) -> Result<String> {
    let refused = |why: String| NoRecording(format!("{}: {why}", shown.name));
    let header = &shown.reel.header;
    let found = by_hand::scenario(header, recording::messages(&shown.film[..shown.reel.whole])).map_err(refused)?;
    let pauses = found.draft.entries.iter().map(|entry| if let Entry::Pause(ms) = entry { *ms } else { 0 });
    let rest = pauses.sum::<u64>() / 1_000;
    let (text, left_out) = found.draft.checked().map_err(refused)?;
    for what in left_out {
        complain(&format!("left out: {what}"))?;
    }
    if let Some(lesson) = found.lesson {
        complain(&format!("the lesson {lesson} was played beside it; what it did itself is not in the scenario"))?;
    }
    if rest > LONG_REST {
        complain(&format!(
            "its pauses are as they were, {rest} s in all: shorten them in the file where nothing needs them"
        ))?;
    }
    if found.cut {
        complain("there were more commands than a scenario may have: the last ones are left out")?;
    }
    Ok(text)
}

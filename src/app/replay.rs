//! A recording shown again: on the screen, or as the plain lines that were printed when it happened. Needs no engine and no
//! PostgreSQL.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use color_eyre::eyre::{Result, WrapErr, eyre};

use super::plain::{self, Lines, Manner};
use super::{recorder, setup, signals, terminal};
use crate::cli::{Common, exit};
use crate::model::Model;
use crate::recording::shipped::{self, SHIPPED};
use crate::recording::{Player, Reel};
use crate::report::Report;
use crate::scenario::regular;
use crate::ui::start::Opens;

/// Why there is nothing to show. The exit code is that of a wrong argument.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NoRecording(pub(super) String);

/// A recording that was found.
#[derive(Debug)]
pub struct Shown {
    /// Its file's name, or the lesson's for a shipped one.
    pub name: String,
    /// Where the person said it is; none for a shipped one and for the last.
    pub path: Option<PathBuf>,
    /// Its bytes.
    pub film: Vec<u8>,
    /// Its parts.
    pub reel: Reel,
    /// The model at its end.
    pub end: Model,
}

/// Shows a recording; the last one when none is named.
pub async fn run(common: &Common, recording: Option<String>, manner: &Manner) -> Result<u8> {
    if common.record.is_some() {
        return Err(NoRecording("--record is for labs that run; a recording can be copied as it is".to_owned()).into());
    }
    let mut ended = signals::ended();
    let recording = match recording {
        None if !manner.headless && kept()?.is_empty() => {
            match terminal::choose(common, super::machine::recordings_menu(), &mut ended).await? {
                Ok(Opens::Recording(name)) => Some(name),
                Ok(_) => return Ok(exit::OK),
                Err(code) => return Ok(code),
            }
        }
        other => other,
    };
    let Shown { name, film, reel, end, .. } = find(recording.as_deref())?;
    let damage = reel.damage.clone();
    if let Some(why) = &damage {
        let until = crate::ui::past::moment(reel.end());
        plain::complain(&format!("{name}: {why}; what comes before, up to {until}, is shown"))?;
    }
    plain::write_pages(&plain::pages(manner, &Report::of(&end), &end))?;
    if manner.headless {
        return lines(&film, &reel, manner);
    }
    terminal::replay(common, &film, &reel, damage, &mut ended).await
}

/// Finds a recording: a file, a shipped one by its lesson's number or name; without a name the one made last, or where nothing is
/// kept the first shipped one.
pub fn find(named: Option<&str>) -> Result<Shown> {
    match named {
        Some(name)
            if !Path::new(name).is_file()
                && let Some((lesson, film)) = shipped::named(name) =>
        {
            open(lesson, None, film.to_vec())
        }
        Some(path) => from_file(Path::new(path), true),
        None => match kept()?.first() {
            Some(path) => from_file(path, false),
            None => {
                let others: Vec<&str> = SHIPPED.iter().map(|(name, _)| &name[..2]).collect();
                let (lesson, film) = SHIPPED[0];
                plain::complain(&format!(
                    "nothing is recorded here yet: this is the shipped recording of {lesson} (there are {}: replab replay NUMBER)",
                    others.join(", ")
                ))?;
                open(lesson, None, film.to_vec())
            }
        },
    }
}

fn from_file(path: &Path, named: bool) -> Result<Shown> {
    let name = path.display().to_string();
    let known = SHIPPED.iter().map(|(lesson, _)| &lesson[..2]).collect::<Vec<_>>().join(", ");
    let unreadable = |error: std::io::Error| {
        NoRecording(format!("can't read {name}: {error}; shipped with replab are recordings of {known}"))
    };
    let mut film = Vec::new();
    regular::open(path).and_then(|mut file| file.read_to_end(&mut film)).map_err(unreadable)?;
    open(&name, named.then(|| path.to_owned()), film)
}

fn open(name: &str, path: Option<PathBuf>, film: Vec<u8>) -> Result<Shown> {
    let (reel, end) = Reel::load(&film).map_err(|error| NoRecording(format!("{name}: {error}")))?;
    Ok(Shown { name: name.to_owned(), path, film, reel, end })
}

/// The recordings that were kept, newest first.
fn kept() -> Result<Vec<PathBuf>> {
    Ok(recorder::recordings(&setup::recordings()?))
}

fn lines(film: &Vec<u8>, reel: &Reel, manner: &Manner) -> Result<u8> {
    let mut lines = Lines::new(manner);
    let mut player = Player::new();
    let failed = |why: String| eyre!("{why}");
    while player.step(reel, film).map_err(failed)? {
        lines.catch_up(&player.model)?;
    }
    player.seek(reel, film, reel.end()).map_err(failed).wrap_err("the end")?;
    lines.catch_up(&player.model)?;
    let report = Report::of(&player.model);
    lines.end(&player.model, &report)?;
    Ok(if reel.damage.is_some() || !report.good() { exit::FAILED } else { exit::OK })
}

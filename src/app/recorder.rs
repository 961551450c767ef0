//! The recording of a lab that runs: each message into a file, and the reel that finds a moment of it again. A recording that
//! can't be written ends; the lab goes on.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use color_eyre::eyre::{Result, WrapErr};

use super::setup;
use crate::cli::Common;
use crate::model::msg::{Msg, Opening};
use crate::model::{Model, Stamp};
use crate::recording::reel::Film;
use crate::recording::{FORMAT, Header, Part, Place, Reel, head, read_head, tail};

/// The ending of recordings.
pub const ENDING: &str = "replab";
/// A recording that nobody asked for ends at this size: some ten hours of a busy lab.
const KEPT_MAX: u64 = 200 << 20;
/// So many recordings that nobody asked for are kept, this lab's among them.
const KEPT: usize = 3;

/// No head is longer.
const HEAD_MAX: u64 = 64 << 10;

/// Where a recording goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shelf {
    /// Into this file, however large it gets.
    File(PathBuf),
    /// Into this folder, beside the last few.
    Last(PathBuf),
}

/// A recording under way.
#[derive(Debug)]
pub struct Recorder {
    /// Where everything is.
    pub reel: Reel,
    /// The file, to look things up in.
    pub film: File,
    /// Where it is.
    pub path: PathBuf,
    /// Why it ended early, if it did.
    pub ended: Option<String>,
    closed: bool,
    /// It ended because it has reached its size.
    full: bool,
    part: Part,
    written: u64,
    limit: u64,
}

impl Recorder {
    /// The recording of a lab that opens: where the person wants it, else beside the last few. What nobody asked for is no reason
    /// not to open a lab.
    pub fn of(common: &Common, opening: &Opening, seed: Option<u64>) -> Result<Option<Self>> {
        let header = Header {
            replab_recording: FORMAT,
            replab: env!("CARGO_PKG_VERSION").to_owned(),
            lab: opening.lab.clone(),
            runtime: opening.runtime.clone(),
            source: opening.source.clone(),
            title: opening.script.as_ref().map(|script| script.title.clone()),
            began: jiff::Timestamp::now().to_string(),
            seed,
            end_marked: true,
        };
        if let Some(path) = &common.record {
            let begun = Self::begin(&Shelf::File(path.clone()), header);
            return begun.map(Some).wrap_err_with(|| format!("can't record into {}", path.display()));
        }
        let begun = setup::recordings().and_then(|folder| Ok(Self::begin(&Shelf::Last(folder), header)?));
        Ok(begun.inspect_err(|error| tracing::warn!(%error, "this lab is not recorded")).ok())
    }

    /// Begins one.
    pub fn begin(shelf: &Shelf, header: Header) -> io::Result<Self> {
        let (path, limit) = match shelf {
            Shelf::File(path) => (path.clone(), u64::MAX),
            Shelf::Last(folder) => {
                fs::create_dir_all(folder)?;
                make_room(folder)?;
                (folder.join(format!("{}.{ENDING}", header.lab)), KEPT_MAX)
            }
        };
        // Statements of a person's own may be in it: for the owner's eyes.
        let mut film = File::options().read(true).write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        // While it is held, nobody makes room by removing this one. Where the folder knows no locks it has to do without.
        if let Err(error) = film.try_lock() {
            tracing::debug!(%error, "the recording is not locked");
        }
        let bytes = head(&header);
        film.write_all(&bytes)?;
        let written = bytes.len() as u64;
        Ok(Self {
            reel: Reel::new(header),
            film,
            path,
            ended: None,
            closed: false,
            full: false,
            part: Part::default(),
            written,
            limit,
        })
    }

    /// Takes in a message before the model does.
    pub fn take(&mut self, before: &Model, at: Stamp, msg: &Msg) {
        if self.ended.is_some() {
            return;
        }
        if self.part.is_empty() {
            self.reel.note(before);
            self.reel.begin(before);
        }
        let full = self.part.add(at, msg).map_err(io::Error::from);
        if let Err(error) = full.and_then(|full| if full { self.lay_down() } else { Ok(()) }) {
            self.end(error.to_string());
        }
    }

    /// Lays down what is still in memory, so that it can be looked at.
    pub fn flush(&mut self) {
        if self.ended.is_none()
            && let Err(error) = self.lay_down()
        {
            self.end(error.to_string());
        }
    }

    fn lay_down(&mut self) -> io::Result<()> {
        let Some((place, bytes)) = self.part.seal(self.written) else { return Ok(()) };
        if self.written + bytes.len() as u64 > self.limit {
            self.full = true;
            return Err(io::Error::other(format!("it has reached {} MB", self.limit >> 20)));
        }
        self.film.write_all(&bytes)?;
        self.written += bytes.len() as u64;
        self.reel.push(place);
        Ok(())
    }

    /// It comes to its end. What a person asked for and didn't get whole is told.
    pub fn finish(mut self) -> Option<String> {
        self.close();
        let why = self.ended.take().filter(|_| self.limit == u64::MAX);
        why.map(|why| format!("the recording into {} ended early: {why}", self.path.display()))
    }

    /// What is still in memory, and the mark of the end.
    fn close(&mut self) {
        self.flush();
        // One that has reached its size comes to its end too.
        let whole = self.ended.is_none() || self.full;
        if whole && !std::mem::replace(&mut self.closed, true) {
            let marked = self.film.write_all(&tail());
            marked.unwrap_or_else(|error| self.end(error.to_string()));
        }
    }

    fn end(&mut self, why: String) {
        tracing::warn!(%why, "the recording ends here");
        self.part = Part::default();
        self.ended = Some(why);
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.close();
    }
}

impl Film for File {
    fn part(&self, place: &Place) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; place.len];
        self.read_exact_at(&mut bytes, place.offset)?;
        Ok(bytes)
    }
}

/// Recordings in a folder, newest first.
pub fn recordings(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let ours = entries.map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == ENDING));
    let mut all: Vec<(std::time::SystemTime, PathBuf)> =
        ours.filter_map(|p| Some((fs::metadata(&p).ok()?.modified().ok()?, p))).collect();
    all.sort();
    all.into_iter().rev().map(|(_, path)| path).collect()
}

/// What is known of a recording before its first message; None where that can't be read.
pub fn header_of(path: &Path) -> Option<Header> {
    let mut first = Vec::new();
    File::open(path).ok()?.take(HEAD_MAX).read_to_end(&mut first).ok()?;
    Some(read_head(&first).ok()?.0)
}

/// Removes the oldest ones; those of labs that still run stay. Another lab may make room at the same time.
fn make_room(folder: &Path) -> io::Result<()> {
    let gone = |path: PathBuf| match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    };
    recordings(folder).into_iter().skip(KEPT - 1).filter(|path| !is_under_way(path)).try_for_each(gone)
}

/// Whether a lab that runs writes it.
fn is_under_way(path: &Path) -> bool {
    File::open(path).is_ok_and(|film| matches!(film.try_lock_shared(), Err(fs::TryLockError::WouldBlock)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::Player;

    fn header(lab: &str) -> Header {
        Header { replab_recording: FORMAT, lab: lab.into(), end_marked: true, ..Header::default() }
    }

    #[test]
    fn what_was_taken_is_found_again_while_it_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let mut recorder = Recorder::begin(&Shelf::Last(folder.path().to_owned()), header("a")).unwrap();
        let mut model = Model::default();
        for tenth in 0..200 {
            let at = Stamp(tenth * 100_000);
            recorder.take(&model, at, &Msg::Tick);
            crate::model::update(&mut model, at, Msg::Tick);
        }
        recorder.flush();
        let mut player = Player::new();
        player.seek(&recorder.reel, &recorder.film, Stamp(7_000_000)).unwrap();
        assert_eq!(player.model.now, Stamp(7_000_000));
        player.seek(&recorder.reel, &recorder.film, Stamp(19_900_000)).unwrap();
        assert_eq!(player.model, model);
        let (reel, end) = Reel::load(&fs::read(&recorder.path).unwrap()).unwrap();
        assert_eq!((reel.end(), end), (Stamp(19_900_000), model));
    }

    #[test]
    fn only_the_last_few_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("other.txt"), "mine").unwrap();
        for lab in ["a", "b", "c", "d", "e"] {
            drop(Recorder::begin(&Shelf::Last(folder.path().to_owned()), header(lab)).unwrap());
        }
        assert_eq!(recordings(folder.path()).len(), KEPT);
        assert!(folder.path().join("other.txt").exists());
    }

    #[test]
    fn those_of_labs_that_run_stay() {
        let folder = tempfile::tempdir().unwrap();
        let begin = |lab: &str| Recorder::begin(&Shelf::Last(folder.path().to_owned()), header(lab)).unwrap();
        let running = ["a", "b", "c", "d"].map(begin);
        assert!(running.iter().all(|recorder| recorder.path.exists()));
        drop(running);
        drop(begin("e"));
        assert_eq!(recordings(folder.path()).len(), KEPT);
    }

    #[test]
    fn its_end_is_marked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.replab");
        let mut recorder = Recorder::begin(&Shelf::File(path.clone()), header("a")).unwrap();
        recorder.take(&Model::default(), Stamp(0), &Msg::Tick);
        recorder.flush();
        assert!(Reel::load(&fs::read(&path).unwrap()).unwrap().0.damage.unwrap().contains("the lab still runs"));
        drop(recorder);
        assert_eq!(Reel::load(&fs::read(&path).unwrap()).unwrap().0.damage, None);
    }

    #[test]
    fn a_full_disk_ends_the_recording_alone() {
        let mut recorder = Recorder::begin(&Shelf::File("/dev/full".into()), header("a"));
        // The device takes nothing, not even the head.
        assert!(recorder.is_err());
        let folder = tempfile::tempdir().unwrap();
        recorder = Recorder::begin(&Shelf::Last(folder.path().to_owned()), header("a"));
        let mut recorder = recorder.unwrap();
        recorder.limit = recorder.written;
        recorder.take(&Model::default(), Stamp(0), &Msg::Tick);
        recorder.take(&Model::default(), Stamp(3_000_000), &Msg::Tick);
        assert!(recorder.ended.as_ref().is_some_and(|why| why.contains("reached")), "{:?}", recorder.ended);
        recorder.take(&Model::default(), Stamp(6_000_000), &Msg::Tick);
        recorder.flush();
        let path = recorder.path.clone();
        assert_eq!(recorder.finish(), None, "nobody asked for this one");
        assert_eq!(Reel::load(&fs::read(path).unwrap()).unwrap().0.damage, None, "it ends, and is whole");
    }

    #[test]
    fn one_that_was_asked_for_and_ended_early_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mine.replab");
        let mut recorder = Recorder::begin(&Shelf::File(path.clone()), header("a")).unwrap();
        // As a full disk would: nothing more can be written.
        recorder.film = File::open("/dev/full").unwrap();
        recorder.take(&Model::default(), Stamp(0), &Msg::Tick);
        let said = recorder.finish().unwrap();
        assert!(said.contains("ended early") && said.contains(&path.display().to_string()), "{said}");
        let whole = Recorder::begin(&Shelf::File(path), header("a")).unwrap();
        assert_eq!(whole.finish(), None);
    }
}

//! The learner's progress, kept between runs: which lessons were played to their end on the screen, when, and how well. One file in the
//! state folder, written whole or not at all. One that can't be read is said once and set aside, never lost. Draws nothing.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::setup;
use crate::model::Model;
use crate::model::script::{Script, StepKind};
use crate::scenario::SHIPPED;

/// The format's version; of a newer one nothing is changed.
const FORMAT: u32 = 1;
const FILE: &str = "progress.json";
/// Held while the file is read and written again: two labs may end at once.
const LOCK: &str = ".progress.lock";

/// How a lesson went when it was played to its end last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lesson {
    /// When, as RFC 3339 has it.
    pub done: String,
    /// How often by now.
    pub times: u32,
    /// Expectations that held.
    pub held: usize,
    /// And those that did not.
    pub failed: usize,
    /// Questions answered rightly.
    pub right: usize,
    /// Questions it has.
    pub questions: usize,
    /// Hints taken.
    pub hints: usize,
}

impl Lesson {
    /// In a few words: the day, and the score where there is one.
    pub fn told(&self) -> String {
        let day = self.done.get(..10).unwrap_or(&self.done);
        let score = match self.questions {
            0 => String::new(),
            questions => format!(", {} of {questions} questions right", self.right),
        };
        let failed = match self.failed {
            0 => String::new(),
            1 => ", 1 expectation failed".to_owned(),
            n => format!(", {n} expectations failed"),
        };
        crate::model::safe_text(&format!("done {day}{score}{failed}"))
    }
}

/// All of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    replab_progress: u32,
    /// By the lesson's name.
    pub lessons: BTreeMap<String, Lesson>,
}

impl Default for Progress {
    fn default() -> Self {
        Self { replab_progress: FORMAT, lessons: BTreeMap::new() }
    }
}

/// What is kept in the state folder, and what the person should be told of it: that it was damaged, or can't be read.
pub fn kept() -> (Progress, Option<String>) {
    let found = setup::dirs().map_err(io::Error::other).and_then(|dirs| load(&dirs.state));
    found.unwrap_or_else(|why| (Progress::default(), Some(format!("your progress can't be read: {why}"))))
}

/// Reads it from a folder. What is damaged goes aside, and that is said.
pub fn load(folder: &Path) -> io::Result<(Progress, Option<String>)> {
    let path = folder.join(FILE);
    let bytes = match fs::read(&path) {
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok((Progress::default(), None)),
        read => read?,
    };
    let version = serde_json::from_slice::<serde_json::Value>(&bytes).ok();
    let version = version.and_then(|value| value.get("replab_progress")?.as_u64());
    if version.is_some_and(|version| version > u64::from(FORMAT)) {
        return Err(io::Error::other(format!("{} was written by a newer replab", path.display())));
    }
    match serde_json::from_slice(&bytes) {
        Ok(progress) => Ok((progress, None)),
        Err(why) => {
            let aside = set_aside(&path)?;
            let said = format!(
                "{} is damaged ({why}): it is kept as {}, and your progress begins anew",
                path.display(),
                aside.display()
            );
            Ok((Progress::default(), Some(said)))
        }
    }
}

/// Gives the file a name that nothing has yet.
fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let names = (1..1_000).map(|n| path.with_extension(format!("damaged-{n}.json")));
    let free = names.into_iter().find(|name| !name.exists());
    let aside = free.ok_or_else(|| io::Error::other(format!("too many damaged files beside {}", path.display())))?;
    fs::rename(path, &aside)?;
    Ok(aside)
}

/// Notes that a lesson was played to its end now; what should be told is as with [`load`].
pub fn note(folder: &Path, script: &Script) -> io::Result<Option<String>> {
    fs::create_dir_all(folder)?;
    let lock = File::options().create(true).append(true).open(folder.join(LOCK))?;
    lock.lock()?;
    let (mut progress, said) = load(folder)?;
    let lesson = progress.lessons.entry(script.name.clone()).or_default();
    *lesson = Lesson { times: lesson.times.saturating_add(1), ..of(script) };
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    serde_json::to_writer_pretty(&mut file, &progress)?;
    file.write_all(b"\n")?;
    file.as_file().sync_all()?;
    file.persist(folder.join(FILE)).map_err(|e| e.error)?;
    Ok(said)
}

fn of(script: &Script) -> Lesson {
    let ((held, failed), (right, _)) = (script.tally(), script.score());
    let questions = script.steps.iter().filter(|step| matches!(step.kind, StepKind::Ask(_))).count();
    let (done, hints) = (jiff::Timestamp::now().to_string(), script.hints_taken);
    Lesson { done, times: 0, held, failed, right, questions, hints }
}

/// Watches a lesson on the screen, and notes once that it is over.
#[derive(Debug, Default)]
pub struct Keeper {
    noted: bool,
}

impl Keeper {
    /// Looks whether the lesson is over; gives what the person should be told.
    pub fn look(&mut self, model: &Model) -> Option<String> {
        let over = model.lesson().filter(|script| script.by_hand && script.over());
        let Some(script) = over else {
            self.noted = false;
            return None;
        };
        if std::mem::replace(&mut self.noted, true) || !counts(script) {
            return None;
        }
        let noted = setup::dirs().map_err(io::Error::other).and_then(|dirs| note(&dirs.state, script));
        noted.unwrap_or_else(|why| Some(format!("your progress could not be kept: {why}")))
    }
}

/// Only lessons of the course have a place in the list, and one that broke off, or of which chapters were jumped over, wasn't
/// played to its end.
fn counts(script: &Script) -> bool {
    !script.skipped
        && script.results.len() == script.steps.len()
        && SHIPPED.iter().any(|(name, _)| *name == script.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::script::{Step, StepResult};

    fn script(name: &str) -> Script {
        let steps = vec![Step::new("say", StepKind::Say("Hello".into()))];
        let result = StepResult { ok: true, ms: 1, detail: String::new(), after: 0 };
        Script { at: 1, results: vec![result], by_hand: true, ..Script::new(name, "T", "S", steps) }
    }

    #[test]
    fn what_was_done_is_found_again_and_counted() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(load(folder.path()).unwrap(), (Progress::default(), None));
        for name in ["01-first-steps", "08-sync-blocks", "01-first-steps"] {
            assert_eq!(note(folder.path(), &script(name)).unwrap(), None);
        }
        let (progress, said) = load(folder.path()).unwrap();
        let times: Vec<_> = progress.lessons.iter().map(|(name, l)| (name.as_str(), l.times)).collect();
        assert_eq!((times, said), (vec![("01-first-steps", 2), ("08-sync-blocks", 1)], None));
        assert!(progress.lessons["08-sync-blocks"].told().starts_with("done 20"));
    }

    #[test]
    fn a_damaged_file_is_said_once_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        note(folder.path(), &script("01-first-steps")).unwrap();
        let path = folder.path().join(FILE);
        let whole = fs::read(&path).unwrap();
        for (n, damaged) in [&whole[..whole.len() / 2], b"{}", b"\xff\x00"].into_iter().enumerate() {
            fs::write(&path, damaged).unwrap();
            let (progress, said) = load(folder.path()).unwrap();
            let aside = folder.path().join(format!("progress.damaged-{}.json", n + 1));
            assert_eq!((progress, fs::read(&aside).unwrap().as_slice()), (Progress::default(), damaged));
            assert!(said.unwrap().contains(&aside.display().to_string()));
            assert_eq!(load(folder.path()).unwrap(), (Progress::default(), None), "said once");
        }
    }

    #[test]
    fn a_newer_file_is_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        let newer = r#"{"replab_progress": 2, "more": []}"#;
        fs::write(&path, newer).unwrap();
        assert!(note(folder.path(), &script("01-first-steps")).unwrap_err().to_string().contains("newer replab"));
        assert_eq!(fs::read_to_string(&path).unwrap(), newer);
    }

    #[test]
    fn only_lessons_of_the_course_that_were_played_to_their_end_count() {
        let own = script("mine.toml");
        let broken = Script { results: Vec::new(), ..script("01-first-steps") };
        let skipped = Script { skipped: true, ..script("01-first-steps") };
        assert_eq!([&own, &broken, &skipped].map(counts), [false, false, false]);
        assert!(counts(&script("01-first-steps")));
    }
}

//! Lessons and topologies as files: found, read, checked, turned into the model's values. Knows no engine.
//!
//! The shipped lessons are embedded in the binary; a lesson is named by its number, its file name or a path.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::Path;

use crate::model::POSTGRES;
use crate::model::msg::{Topology, WriterPlan};
use crate::model::script::Script;

mod complaint;
pub mod draft;
pub mod fields;
mod file;
mod flow;
pub mod regular;
mod schema;
mod settings;
mod steps;
mod tree;
mod vars;

pub use complaint::{Complaint, Complaints, Weight};
pub use schema::schema;

/// A lesson, ready to open a lab with.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// The steps.
    pub script: Script,
    /// The cluster it plays on.
    pub topology: Topology,
    /// The writer as it begins.
    pub writer: WriterPlan,
    /// For whom: "basics", …
    pub level: String,
    /// How long it takes with reading.
    pub minutes: Option<u32>,
    /// The major version of PostgreSQL that it needs at least.
    pub requires: Option<u32>,
    /// The major versions of PostgreSQL with which its steps change.
    pub turns: BTreeSet<u32>,
}

macro_rules! shipped {
    ($($name:literal),* $(,)?) => {
        /// The shipped lessons: file name without ending, and text.
        pub const SHIPPED: &[(&str, &str)] = &[$(($name, include_str!(concat!("../scenarios/", $name, ".toml")))),*];
    };
}

shipped![
    "01-first-steps",
    "06-async-baseline",
    "07-async-failover-loses",
    "08-sync-blocks",
    "09-first-n",
    "10-freeze-is-not-crash",
    "11-any-tolerates-a-slow-node",
    "12-the-name-that-matches-nobody",
    "15-cancel-is-not-rollback",
    "16-a-crash-commits-it",
    "17-the-replica-sees-the-future",
    "18-a-report-freezes-writes",
    "19-opting-out",
    "20-switchover-and-failover",
    "21-which-standby-to-promote",
    "22-the-old-primary-diverged",
    "23-split-brain",
    "24-automatic-failover",
    "25-the-slot-that-fills-the-disk",
    "26-cascading-standby",
    "34-what-a-quiet-primary-hides",
];

/// Reads a lesson from its text; `name` is for messages and becomes the script's name. The steps are those for [`POSTGRES`]. The error: all
/// that is wrong with it.
pub fn parse(name: &str, text: &str) -> Result<Scenario, Complaints> {
    parse_for(name, text, POSTGRES)
}

fn parse_for(name: &str, text: &str, major: u32) -> Result<Scenario, Complaints> {
    let (lesson, complaints) = file::scenario(name, text, major);
    lesson.ok_or(complaints)
}

/// All that there is to say of a lesson without starting anything, in the order of the file. It refuses just what [`parse`]
/// refuses; beyond that it tells what may not be meant.
pub fn check(name: &str, text: &str) -> Complaints {
    file::scenario(name, text, POSTGRES).1
}

/// The same for a lesson that is shipped or on disk, found as [`load`] finds it.
pub fn check_named(name: &str) -> Result<Complaints, LoadError> {
    let (name, text) = find(name)?;
    Ok(check(&name, &text))
}

/// Reads a topology file.
pub fn parse_topology(name: &str, text: &str) -> Result<Topology, Complaints> {
    file::topology(name, text)
}

/// Why a lesson could not be had.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// No shipped lesson and no file of that name.
    #[error("there is no lesson `{name}`{}; `replab list` shows them all", .near.as_ref().map(|n| format!("; did you mean `{n}`?")).unwrap_or_default())]
    Unknown {
        /// What was asked for.
        name: String,
        /// The nearest shipped one.
        near: Option<String>,
    },
    /// The file can't be read.
    #[error("{path}: {why}")]
    Unreadable {
        /// The path.
        path: String,
        /// The operating system's word.
        why: String,
    },
    /// Every lesson acts, and acts are refused.
    #[error(
        "lesson {0} acts on its lab, and --read-only refuses every act: leave --read-only out, or watch one: replab up --read-only"
    )]
    ReadOnly(String),
    /// The file says something that isn't a lesson.
    #[error(transparent)]
    Invalid(#[from] Complaints),
}

/// Finds a lesson by number ("8", "08"), by name ("08-sync-blocks", "sync-blocks") or by path. The steps are those for [`POSTGRES`].
pub fn load(name: &str) -> Result<Scenario, LoadError> {
    load_for(name, POSTGRES)
}

/// The same with the steps for this major version of PostgreSQL.
pub fn load_for(name: &str, major: u32) -> Result<Scenario, LoadError> {
    let (name, text) = find(name)?;
    Ok(parse_for(&name, &text, major)?)
}

/// The name for messages, and the text.
fn find(name: &str) -> Result<(String, String), LoadError> {
    if let Some((file, text)) = SHIPPED.iter().find(|(file, _)| is_called(file, name)) {
        return Ok(((*file).to_owned(), (*text).to_owned()));
    }
    let path = Path::new(name);
    let meant_as_path = name.contains('/') || path.extension().is_some_and(|end| end == "toml");
    if !meant_as_path && !path.is_file() {
        let near = crate::model::command::nearest(name, SHIPPED.iter().map(|(file, _)| &file[3..]));
        return Err(LoadError::Unknown { name: name.chars().take(80).collect(), near: near.map(str::to_owned) });
    }
    Ok((name.to_owned(), read(path)?))
}

/// Reads a topology from a path.
pub fn load_topology(path: &Path) -> Result<Topology, LoadError> {
    let text = read(path)?;
    Ok(parse_topology(&path.display().to_string(), &text)?)
}

/// Files larger than this are no lessons.
const SIZE_MAX: u64 = 1024 * 1024;

/// Reads at most what a lesson may have.
fn read(path: &Path) -> Result<String, LoadError> {
    let name = path.display().to_string();
    let mut bytes = Vec::new();
    let whole = regular::open(path).and_then(|file| file.take(SIZE_MAX + 1).read_to_end(&mut bytes));
    whole.map_err(|e| LoadError::Unreadable { path: name.clone(), why: e.to_string() })?;
    let invalid = |complaint| LoadError::Invalid(Complaint::into(complaint));
    if bytes.len() as u64 > SIZE_MAX {
        return Err(invalid(Complaint::at(&name, "", 0..0, "this is more than a lesson may have (1 MiB)")));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let text = String::from_utf8_lossy(error.as_bytes());
        invalid(Complaint::at(&name, &text, at..at + 1, "this is no UTF-8: a lesson is a text file in UTF-8"))
    })
}

/// Whether a file of the course is called so: by its number, its whole name or its words.
pub(crate) fn is_called(file: &str, name: &str) -> bool {
    let (number, words) = file.split_at(2);
    file == name
        || &words[1..] == name
        || (name.len() <= 2 && !name.is_empty() && name.parse::<u32>().ok() == number.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::script::StepKind;

    #[test]
    fn every_shipped_lesson_is_valid_and_found_by_its_number() {
        for (name, _) in SHIPPED {
            let lesson = load(&name[..2]).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(lesson.script.name, *name);
            assert!(load(&name[3..]).is_ok());
        }
        assert!(load("no-such").is_err());
        assert!(load("/dev/zero").unwrap_err().to_string().contains("a device, not a regular file"));
        let missing = load("/no/such.toml").unwrap_err().to_string();
        assert!(missing.starts_with("/no/such.toml: No such file"), "{missing}");
        assert!(load("sync-block").unwrap_err().to_string().contains("did you mean `sync-blocks`"));
    }

    #[test]
    fn steps_go_by_the_version() {
        let ask = |which: &str, answer: u32| {
            format!(
                "[[step]]\n{which}\nask = \"When?\"\nchoices = [\"a\", \"b\"]\nanswer = {answer}\nwhy = \"{which}\"\n"
            )
        };
        let say = "[[step]]\nsay = \"All\"\n";
        let text = ["title = \"T\"\nsummary = \"S\"\n", &ask("until = 18", 1), &ask("since = 19", 2), say].concat();
        for (major, answer) in [(15, 0), (18, 0), (19, 1), (20, 1)] {
            let lesson = file::scenario("t", &text, major).0.unwrap();
            assert_eq!(lesson.turns, BTreeSet::from([19]));
            let kinds: Vec<_> = lesson.script.steps.into_iter().map(|step| step.kind).collect();
            let [StepKind::Ask(question), StepKind::Reveal(0), StepKind::Say(_)] = &kinds[..] else {
                panic!("{major}: {kinds:?}");
            };
            assert_eq!(question.answer, answer, "{major}");
        }
    }

    #[test]
    fn no_shipped_lesson_is_forgotten() {
        let here: Vec<String> = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios"))
            .unwrap()
            .map(|e| e.unwrap().file_name().to_string_lossy().replace(".toml", ""))
            .collect();
        for file in here {
            assert!(SHIPPED.iter().any(|(name, _)| *name == file), "scenarios/{file}.toml is not embedded");
        }
    }
}

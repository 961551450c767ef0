//! What has passed for this commit, kept in the target folder, so that a second run goes on where the first one stopped; and the
//! two pages that come of it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::matrix::cell::Cell;
use crate::matrix::page;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// What the set itself writes: it doesn't make another commit of it.
const PAGES: [&str; 2] = ["docs/faults.md", "docs/full-set.md"];

const ITEMS: &str = "items.json";

/// How an item ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ended {
    pub seconds: f64,
    /// Why it failed.
    pub error: Option<String>,
}

impl Ended {
    pub fn words(&self) -> String {
        match &self.error {
            None => format!("passed in {:.1} s", self.seconds),
            Some(why) => format!("failed after {:.1} s: {why}", self.seconds),
        }
    }
}

/// The memory of one commit.
pub struct State {
    pub commit: String,
    pub folder: PathBuf,
    items: BTreeMap<String, Ended>,
}

impl State {
    /// Reads what is kept; a commit that was never tested begins with nothing.
    pub fn load() -> Self {
        let commit = commit();
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("full").join(&commit);
        fs::create_dir_all(&folder).expect("the target folder can be written");
        let mut state = Self { commit, folder, items: BTreeMap::new() };
        state.read();
        state
    }

    /// What other runs on the same commit have kept counts as well.
    fn read(&mut self) {
        let items = fs::read_to_string(self.folder.join(ITEMS)).ok();
        let items: Option<BTreeMap<String, Ended>> = items.and_then(|text| serde_json::from_str(&text).ok());
        self.items.extend(items.unwrap_or_default());
    }

    pub fn ended(&self, item: &str) -> Option<&Ended> {
        self.items.get(item)
    }

    /// Keeps it at once: the next item may be the last that runs.
    pub fn keep(&mut self, item: &str, ended: Ended) {
        let lock = fs::File::create(self.folder.join("lock")).expect("the target folder can be written");
        lock.lock().expect("the target folder's files can be locked");
        self.read();
        self.items.insert(item.to_owned(), ended);
        self.write(ITEMS, &serde_json::to_string_pretty(&self.items).unwrap());
    }

    pub fn keep_cell(&self, cell: &Cell) {
        let name = format!("cell-{}-{}-{}.json", cell.ground, cell.fault, cell.mode);
        self.write(&name, &serde_json::to_string_pretty(cell).unwrap());
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.join(name), text).expect("the target folder can be written");
    }

    /// Where the output of an item's program goes.
    pub fn log(&self, item: &str) -> PathBuf {
        self.folder.join(format!("{}.log", item.replace('/', "-")))
    }

    /// Writes the pages; says which and why not.
    pub fn publish(&self, names: &[&str]) -> Vec<String> {
        let put = |page: &str, text: String| {
            fs::write(Path::new(ROOT).join(page), text).expect("the docs can be written");
            format!("{page} is written")
        };
        let faults = match page::write(&self.cells()) {
            Ok(text) => put(PAGES[0], text),
            Err(missing) => format!("{} is left as it is: {missing} has not been played at this commit", PAGES[0]),
        };
        vec![faults, put(PAGES[1], self.page(names))]
    }

    fn cells(&self) -> Vec<Cell> {
        let files = fs::read_dir(&self.folder).into_iter().flatten().flatten().map(|f| f.path());
        let cells = files.filter(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("cell-")));
        cells.filter_map(|p| serde_json::from_str(&fs::read_to_string(p).ok()?).ok()).collect()
    }

    fn page(&self, names: &[&str]) -> String {
        let count = |of: fn(&Ended) -> bool| names.iter().filter(|n| self.ended(n).is_some_and(of)).count();
        let (passed, failed) = (count(|e| e.error.is_none()), count(|e| e.error.is_some()));
        let mut page = format!(
            "# The full set: its last result\n\nWritten by `cargo test --release --test full` ([testing.md](testing.md)).\n\n\
             Commit {}: {passed} of {} items passed, {failed} failed, {} not run.\n\n| item | result |\n|---|---|\n",
            self.commit,
            names.len(),
            names.len() - passed - failed,
        );
        for name in names {
            let words = self.ended(name).map_or_else(|| "not run".to_owned(), Ended::words);
            let words = words.replace(self.folder.to_string_lossy().as_ref(), "").replace('|', "\\|");
            let _ = writeln!(page, "| {name} | {words} |");
        }
        page
    }
}

/// The commit, and whether anything differs from it.
fn commit() -> String {
    let git = |words: &[&str]| {
        let out = Command::new("git").arg("-C").arg(ROOT).args(words).output().ok()?;
        out.status.success().then(|| String::from_utf8_lossy(&out.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) else { return "no-commit".to_owned() };
    let excluded: Vec<String> = PAGES.iter().map(|p| format!(":!{p}")).collect();
    let mut words = vec!["status", "--porcelain", "--", "."];
    words.extend(excluded.iter().map(String::as_str));
    match git(&words).as_deref() {
        Some("") => commit,
        _ => format!("{commit}-changed"),
    }
}

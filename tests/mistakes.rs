//! What `replab check` says of files with planted mistakes, word for word; that shipped lessons have none; and that no damage to
//! a file makes it fall over.
//!
//! The wanted words are beside each file (NAME.txt). `REPLAB_BLESS=1 cargo test --test mistakes` writes them anew: read the
//! difference before you keep it.

#[path = "common/damage.rs"]
mod damage;

use std::fs;
use std::path::{Path, PathBuf};

use damage::{FULL, damaged};
use replab::scenario::{Complaints, SHIPPED, check, parse, schema};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mistakes")
}

fn files() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder())
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "toml"))
        .collect();
    files.sort();
    assert!(files.len() >= 10, "the planted mistakes were not found");
    files
}

fn told(name: &str, text: &str) -> String {
    let complaints = check(name, text);
    assert_eq!(complaints.more, 0, "{name}");
    complaints.told.iter().map(|m| format!("{m}\n\n")).collect()
}

#[test]
fn every_planted_mistake_is_told_word_for_word() {
    let bless = std::env::var_os("REPLAB_BLESS").is_some();
    let mut wrong = Vec::new();
    for path in files() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let said = told(&name, &fs::read_to_string(&path).unwrap());
        assert!(!said.is_empty(), "{name} has no mistake");
        let golden = path.with_extension("txt");
        if bless {
            fs::write(&golden, &said).unwrap();
        }
        let wanted = fs::read_to_string(&golden).unwrap_or_default();
        if said != wanted {
            wrong.push(format!("{name} says:\n{said}\nand should say:\n{wanted}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn shipped_lessons_have_no_mistakes() {
    for (name, text) in SHIPPED {
        assert_eq!(told(name, text), "", "{name}");
    }
}

#[test]
fn a_file_that_uses_everything_is_right() {
    assert_eq!(told("full", FULL), "");
    let lesson = parse("full", FULL).unwrap();
    let words: Vec<&str> = lesson.script.steps.iter().map(replab::model::script::Step::word).collect();
    assert_eq!(words, ["say", "do", "wait", "expect", "expect", "ask", "sql", "sql", "pause", "do", "reveal"]);
    assert_eq!(lesson.script.steps[7].name, "sql p:a SELECT 1", "a session that is open knows its node");
    assert_eq!(lesson.script.steps[0].hints, ["a", "b"]);
    assert_eq!(lesson.script.chapter_of(5), Some((1, "One")));
    assert_eq!(lesson.requires, Some(15));
}

/// Ten thousand files made by chance from good and bad ones: `check` always comes back, and shows nothing that a terminal
/// would act on.
#[test]
fn damaged_files_never_make_it_fall_over() {
    let mut bases: Vec<String> = files().iter().map(|p| fs::read_to_string(p).unwrap()).collect();
    // Files with planted mistakes are seldom right by chance.
    bases.extend(vec![FULL.to_owned(); bases.len()]);
    let mut chance = fastrand::Rng::with_seed(4);
    let (mut good, mut bad) = (0, 0);
    for round in 0..10_000 {
        let text = damaged(&bases, &mut chance);
        let mistakes = check("damaged", &text).told;
        *(if mistakes.is_empty() { &mut good } else { &mut bad }) += 1;
        for mistake in &mistakes {
            let raw = mistake.to_string().chars().any(|c| c.is_control() && c != '\n' && c != '\t');
            assert!(!raw, "round {round}: {mistake}");
        }
    }
    assert!(good > 10 && bad > 5_000, "{good} good, {bad} bad: that damages nothing");
}

/// Files at their limits: what is too much is said once, not a thousand times.
#[test]
fn large_files_are_told_in_few_words() {
    let many = format!("title = \"T\"\nsummary = \"S\"\n{}", "[[step]]\ndo = \"frezze s1\"\n".repeat(2_000));
    let Complaints { told: mistakes, more } = check("many", &many);
    assert!(mistakes.len() <= 51 && more > 900, "{} and {more}", mistakes.len());
    let long = format!("title = \"{}", "x".repeat(1 << 20));
    let mistakes = check("long", &long).told;
    assert_eq!(mistakes.len(), 1, "the text that doesn't end: {mistakes:?}");
    assert!(mistakes.iter().all(|m| m.to_string().len() < 2_000), "a picture of a long line is cut");
    // What is doubtful fills the room here, and what is wrong keeps the file from being played all the same.
    let doubts = "[[step]]\nrepeat = 60\ndo = \"set wal_compression word${n}\"\n[[step]]\ndo = \"frezze s1\"\n";
    let complaints = check("doubts", &format!("title = \"T\"\nsummary = \"S\"\n{doubts}"));
    assert_eq!((complaints.told.len(), complaints.more), (50, 11));
    let refused = parse("doubts", &format!("title = \"T\"\nsummary = \"S\"\n{doubts}")).unwrap_err();
    assert!(refused.to_string().contains("did you mean `freeze`"), "{refused}");
    let few = doubts.replace("frezze", "freeze");
    let lesson = parse("few", &format!("title = \"T\"\nsummary = \"S\"\n{few}")).unwrap();
    assert_eq!(lesson.script.steps.len(), 61, "doubts drop no step");
    let repeated = "title = \"T\"\nsummary = \"S\"\n[[step]]\nrepeat = 1000\nsay = \"a\"\n[[step]]\nsay = \"b\"\n";
    let mistakes = check("repeated", repeated).told;
    assert!(mistakes.len() == 1 && mistakes[0].message.contains("at most 1000 steps"), "{mistakes:?}");
}

#[test]
fn the_schema_accepts_what_is_right_and_refuses_what_is_not() {
    let schema = schema();
    let validator = jsonschema::validator_for(&schema).expect("a schema");
    let json = |text: &str| toml::from_str::<serde_json::Value>(text).unwrap();
    for (name, text) in SHIPPED.iter().chain(&[("full", FULL)]) {
        let errors: Vec<String> =
            validator.iter_errors(&json(text)).map(|e| format!("{}: {e}", e.instance_path())).collect();
        assert!(errors.is_empty(), "{name}: {errors:#?}");
    }
    let head = "title = \"T\"\nsummary = \"S\"\n";
    for wrong in [
        "title = \"T\"\n".to_owned(),
        format!("{head}levle = \"x\"\n"),
        format!("{head}[[step]]\nsay = \"a\"\npause = \"1s\"\n"),
        format!("{head}[[step]]\nsay = \"a\"\nwithin = \"1s\"\n"),
        format!("{head}[[step]]\nask = \"a\"\nchoices = [\"x\", \"y\"]\n"),
        format!("{head}[writer]\nrate = 0\n"),
        format!("{head}[writer]\ncommit = \"sometimes\"\n"),
        format!("{head}[[step]]\nsql = \"x\"\non = \"p\"\nbackground = true\n"),
    ] {
        assert!(!validator.is_valid(&json(&wrong)), "accepted: {wrong}");
        assert!(parse("x", &wrong).is_err(), "read: {wrong}");
    }
}

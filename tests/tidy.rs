//! The house's rules that a test can hold: floors, who may know what, sizes, and that docs keep up with the tables.

use std::fs;
use std::path::{Path, PathBuf};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Floors, top to bottom: a module may import only from its own floor or from those after it.
const FLOORS: [&[&str]; 5] = [
    &["main", "cli", "app", "lib"],
    &["observe", "workload", "drive"],
    &["runtime", "relay", "pg"],
    &["ui", "keys", "scenario", "report", "recording", "chaos"],
    &["model"],
];

fn sources() -> Vec<PathBuf> {
    fn below(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                below(&path, found);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    below(&Path::new(ROOT).join("src"), &mut found);
    assert!(found.len() > 30, "the sources were not found");
    found
}

/// Whether a file is src/runtime/docker.rs or below src/runtime/docker, for "runtime/docker".
fn is_within(path: &Path, place: &str) -> bool {
    let inside = path.strip_prefix(Path::new(ROOT).join("src")).unwrap();
    inside.starts_with(place) || inside == Path::new(place).with_extension("rs")
}

/// "app" for src/app.rs and src/app/plain.rs.
fn room(path: &Path) -> String {
    let inside = path.strip_prefix(Path::new(ROOT).join("src")).unwrap();
    inside.iter().next().unwrap().to_string_lossy().trim_end_matches(".rs").to_owned()
}

fn floor(room: &str) -> usize {
    FLOORS
        .iter()
        .position(|rooms| rooms.contains(&room))
        .unwrap_or_else(|| panic!("`{room}` has no floor: give it one"))
}

/// The code of a file without its tests and comments.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    code.lines().filter(|l| !l.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

#[test]
fn imports_run_downward() {
    let mut wrong = Vec::new();
    for path in sources() {
        let own = floor(&room(&path));
        for part in code(&path).split("crate::").skip(1) {
            let named: String = part.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            if FLOORS.iter().any(|rooms| rooms.contains(&named.as_str())) && floor(&named) < own {
                wrong.push(format!("{} imports {named}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn each_outside_thing_is_known_to_its_rooms_only() {
    let rules: [(&str, &[&str]); 5] = [
        ("ratatui", &["ui", "app"]),
        ("crossterm", &["keys", "app"]),
        ("bollard", &["runtime/docker"]),
        ("tokio_postgres", &["pg"]),
        ("postgres_protocol", &["pg"]),
    ];
    for path in sources() {
        let code = code(&path);
        for (name, places) in rules {
            let known = code.contains(&format!("{name}::"));
            let may = places.iter().any(|place| is_within(&path, place));
            assert!(!known || may, "{} knows {name}", path.display());
        }
    }
}

#[test]
fn the_model_and_the_first_floor_are_pure() {
    for path in sources().iter().filter(|p| floor(&room(p)) >= 3) {
        let code = code(path);
        for word in ["Instant::now", "SystemTime", "tokio::", ".await", "std::net", "std::process", "thread::"] {
            assert!(!code.contains(word), "{} uses {word}", path.display());
        }
    }
}

#[test]
fn files_stay_small_and_say_what_they_are_for() {
    for path in sources() {
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("//!"), "{} doesn't say what it is for", path.display());
        let lines = text.lines().count();
        assert!(lines <= 560, "{} has {lines} lines: is there a second room in it?", path.display());
    }
}

/// A lesson speaks of a panel by its name (*Replication*), and of a key by its letter in backticks: both are there.
#[test]
fn lessons_name_panels_and_keys_that_there_are() {
    use replab::keys::{Key, table::TABLE};
    use replab::model::script::StepKind;
    let panels: Vec<&str> = replab::ui::view::Panel::ALL.iter().flat_map(|p| [p.title(), p.short()]).collect();
    let is_key = |c: char| TABLE.iter().any(|row| row.keys.contains(&Key::Char(c)));
    let (mut wrong, mut named) = (Vec::new(), 0);
    for (name, _) in replab::scenario::SHIPPED {
        let script = replab::scenario::load(name).unwrap().script;
        let mut texts = vec![script.summary];
        for step in script.steps {
            texts.extend(step.note.into_iter().chain(step.hints));
            match step.kind {
                StepKind::Say(text) => texts.push(text),
                StepKind::Ask(ask) => texts.extend([vec![ask.text, ask.why], ask.choices].concat()),
                _ => {}
            }
        }
        for text in texts.iter().map(|text| text.split_whitespace().collect::<Vec<_>>().join(" ")) {
            for after in text.split("panel ").skip(1).chain(text.split("panels ").skip(1)) {
                // "the panel that Tab chose" speaks of any.
                let Some(rest) = after.strip_prefix('*') else { continue };
                let panel = rest.split('*').next().unwrap_or_default();
                named += 1;
                if !panels.contains(&panel) {
                    wrong.push(format!("{name}: there is no panel {panel}"));
                }
            }
            let quoted: Vec<&str> = text.split('`').skip(1).step_by(2).collect();
            wrong.extend(quoted.iter().filter_map(|word| {
                let mut letters = word.chars();
                let key = letters.next().filter(|_| letters.next().is_none())?;
                (!is_key(key)).then(|| format!("{name}: `{key}` is no key"))
            }));
            for part in ["ladder", "gauge has", "the journal", "at the right"] {
                if text.contains(part) {
                    wrong.push(format!("{name}: \"{part}\" is no name of a panel: {text}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(named > 8, "{named} panels named");
}

#[test]
fn sql_lives_with_pg() {
    let rooms = ["model", "ui", "keys", "scenario"];
    for path in sources().iter().filter(|p| !rooms.contains(&room(p).as_str())) {
        if room(path) == "pg" {
            continue;
        }
        let code = code(path);
        for word in ["SELECT ", "INSERT INTO", "UPDATE ", "ALTER SYSTEM"] {
            assert!(!code.contains(word), "{} has SQL ({word})", path.display());
        }
    }
}

#[test]
fn the_documents_name_every_word_of_the_tables() {
    let read = |name: &str| fs::read_to_string(Path::new(ROOT).join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    let format = read("docs/scenario-format.md");
    for row in replab::model::command::SPELLINGS {
        let line = format!("| `{}` | {} |", format!("{} {}", row.verb, row.usage).trim().replace('|', "\\|"), row.help);
        assert!(format.contains(&line), "docs/scenario-format.md lacks:\n{line}");
    }
    for q in replab::model::condition::QUANTITIES {
        let name = q.of.word().map_or_else(|| q.name.to_owned(), |of| format!("{}({of})", q.name));
        let line = format!("| `{name}` | {} |", q.help);
        assert!(format.contains(&line), "docs/scenario-format.md lacks:\n{line}");
    }
    for field in replab::scenario::fields::STEP.fields {
        let said = format.lines().any(|l| l.starts_with(&format!("| `{}` |", field.name)) && l.contains(field.help));
        assert!(said, "docs/scenario-format.md lacks the field {}: {}", field.name, field.help);
    }
    let past = replab::keys::past::markdown_table();
    assert!(read("docs/recordings.md").contains(&past), "docs/recordings.md lacks the present table of keys:\n{past}");
    let readme = read("README.md");
    assert!(
        readme.contains(&replab::keys::markdown_table()),
        "README.md lacks the present table of keys:\n{}",
        replab::keys::markdown_table()
    );
}

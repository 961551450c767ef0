//! What has to do with the machine, not with a lab: doctor, images, the list of lessons.

use std::path::Path;

use color_eyre::eyre::{Result, eyre};
use serde::Serialize;

use super::clean::{leftovers, orphans};
use super::plain::{complain, print};
use super::setup::{self, Needs, Wish, room};
use super::{progress, recorder};
use crate::cli::{Common, exit};
use crate::model::journal::Tone;
use crate::recording::shipped::{SHIPPED, named};
use crate::runtime::docker::{self, DockerRuntime, Engine, Image};
use crate::runtime::process::Programs;
use crate::runtime::{Runtime as _, RuntimeError, owner, versions};
use crate::scenario;
use crate::ui::start::{Entry, Opens, StartMenu};

/// One thing that was checked.
#[derive(Debug, Serialize)]
struct Check {
    what: &'static str,
    ok: bool,
    found: String,
    mend: Option<String>,
}

/// `doctor`: what works here. Good when at least one runtime does.
pub async fn doctor(common: &Common) -> Result<u8> {
    let wish = Wish::of(common, Needs::default())?;
    let engine = Engine::connect().await;
    let mut checks =
        vec![check("docker engine", engine.as_ref().map(|e| format!("answers at {}", e.socket().display())))];
    if let Ok(engine) = &engine {
        let (image, check) = image_check(&wish, engine).await;
        checks.push(check);
        if let Some(image) = image {
            checks.push(freezer_check(engine, &image).await);
            checks.extend(ways(engine, image).await);
        }
    }
    let programs = Programs::find(wish.folder(), wish.versions());
    let told = programs.as_ref().map(|p| {
        let warning = p.warning().map_or(String::new(), |warning| format!(" ({warning})"));
        format!("PostgreSQL {} in {}{warning}", p.version(), p.folder().display())
    });
    checks.push(check("programs", told));
    checks.push(terminal());
    let dirs = setup::dirs()?;
    checks.push(folder("cache", &dirs.cache, "XDG_CACHE_HOME"));
    checks.push(folder("state", &dirs.state, "XDG_STATE_HOME"));
    checks.push(disk(&dirs.state, common.disk_floor));
    checks.push(check("limits", room::limits(wish.allows_process()).as_ref().map(|()| "high enough".to_owned())));
    let left = orphans(&leftovers(engine.as_ref().ok()).await?).len();
    checks.push(Check {
        what: "leftovers",
        ok: left == 0,
        found: format!("{left} of earlier labs"),
        mend: (left > 0).then(|| "replab clean".to_owned()),
    });
    let usable = |what: &str| checks.iter().any(|c| c.what == what && c.ok);
    let good = (wish.allows_docker() && usable("docker engine") && usable("image") && usable("ports"))
        || (wish.allows_process() && usable("programs"));
    let good = good && ["cache", "state"].into_iter().all(usable);
    print(&if common.json { serde_json::to_string_pretty(&checks)? + "\n" } else { table(&checks) })?;
    Ok(if good { exit::OK } else { exit::ENGINE })
}

fn check(what: &'static str, found: Result<String, &RuntimeError>) -> Check {
    match found {
        Ok(found) => Check { what, ok: true, found, mend: None },
        Err(e) => Check { what, ok: false, found: e.why.clone(), mend: e.hint.clone() },
    }
}

/// What a container and this host reach of each other: tried.
async fn ways(engine: &Engine, image: Image) -> Vec<Check> {
    let runtime = DockerRuntime::new(owner::current(owner::new_lab_id()), engine.clone(), image);
    let tried = runtime.examine().await;
    let gone = runtime.destroy_all().await;
    let ok = |told: &str| told.to_owned();
    let checks = match &tried {
        Ok((ports, links)) => vec![
            check("ports", ports.as_ref().map(|()| ok("a container's port was reached at 127.0.0.1"))),
            check("links", links.as_ref().map(|()| ok("a container reached this host: links can be cut"))),
        ],
        Err(why) => vec![check("ports", Err(why))],
    };
    checks.into_iter().chain(gone.err().map(|why| check("ports", Err(&why)))).collect()
}

/// Tried, on a container.
async fn freezer_check(engine: &Engine, image: &Image) -> Check {
    let what = "freeze";
    match docker::no_freezer(engine, image).await {
        Ok(None) => Check { what, ok: true, found: "containers can be frozen".to_owned(), mend: None },
        Ok(Some(why)) => Check {
            what,
            ok: false,
            found: format!("this engine can't freeze containers: {why}"),
            mend: Some("play what freezes nodes with --runtime process".to_owned()),
        },
        Err(e) => Check { what, ok: false, found: e.to_string(), mend: e.hint },
    }
}

async fn image_check(wish: &Wish<'_>, engine: &Engine) -> (Option<Image>, Check) {
    let choice = wish.image();
    let found = docker::find_image(engine, &choice).await;
    match found.and_then(|image| image.map(|image| wish.judge(&image).map(|()| image)).transpose()) {
        Ok(Some(image)) => {
            let found = format!("{} (PostgreSQL {})", image.name, image.major);
            (Some(image), Check { what: "image", ok: true, found, mend: None })
        }
        Ok(None) => {
            let found = format!("none for PostgreSQL {}", choice.major);
            let mend = format!("docker pull postgres:{0}, or replab image build --postgres {0}", choice.major);
            (None, Check { what: "image", ok: false, found, mend: Some(mend) })
        }
        Err(e) => (None, Check { what: "image", ok: false, found: e.to_string(), mend: e.hint }),
    }
}

fn terminal() -> Check {
    let size = crossterm::terminal::size().map(|(w, h)| format!("{w}x{h}"));
    let term = std::env::var("TERM").unwrap_or_else(|_| "not set".to_owned());
    let found = format!("TERM {}, {}", crate::model::safe_text(&term), size.unwrap_or_else(|_| "no size".to_owned()));
    Check { what: "terminal", ok: true, found, mend: None }
}

/// A folder of ours, written to.
fn folder(what: &'static str, path: &Path, variable: &str) -> Check {
    check(what, room::try_to_write(path, variable).as_ref().map(|()| format!("{} (written to)", path.display())))
}

fn disk(path: &Path, floor: u64) -> Check {
    let free =
        crate::runtime::free_bytes(path).map_or_else(|e| e.to_string(), |b| format!("{:.1} GB free", b as f64 / 1e9));
    check("disk", room::room(path, floor).as_ref().map(|()| free))
}

fn table(checks: &[Check]) -> String {
    let row = |c: &Check| {
        let mend = c.mend.as_ref().map_or(String::new(), |m| format!("\n{:22}-> {m}", ""));
        format!("{:4} {:<16} {}{mend}\n", if c.ok { "ok" } else { "no" }, c.what, c.found)
    };
    checks.iter().map(row).collect()
}

/// `list`: the lessons, and which of them were played to their end.
pub fn list(common: &Common) -> Result<u8> {
    let lessons = scenario::SHIPPED.iter().map(|(name, text)| scenario::parse(name, text));
    let lessons = lessons.collect::<Result<Vec<_>, _>>().map_err(|e| eyre!("{e}"))?;
    let (kept, said) = progress::kept();
    if let Some(said) = said {
        complain(&said)?;
    }
    let done = |l: &scenario::Scenario| kept.lessons.get(&l.script.name);
    if common.json {
        let rows: Vec<_> = lessons
            .iter()
            .map(|l| serde_json::json!({"name": l.script.name, "title": l.script.title, "summary": l.script.summary, "level": l.level, "minutes": l.minutes, "progress": done(l), "recorded": named(&l.script.name).is_some()}))
            .collect();
        print(&(serde_json::to_string_pretty(&rows)? + "\n"))?;
    } else {
        let row = |l: &scenario::Scenario| {
            let number = &l.script.name[..2];
            let done = done(l).map_or(String::new(), |lesson| format!("  ✔ {}", lesson.told()));
            let recorded =
                named(&l.script.name).map_or(String::new(), |_| format!("  [recorded: replab replay {number}]"));
            let minutes = l.minutes.map_or(String::new(), |n| format!(", {n} min"));
            format!("{number}  {}{minutes}{done}{recorded}\n    {}\n", l.script.title, l.script.summary)
        };
        for part in lessons.chunk_by(|a, b| a.level == b.level) {
            print(&format!("{}\n{}\n", part[0].level, part.iter().map(row).collect::<String>()))?;
        }
    }
    Ok(exit::OK)
}

/// The last labs, as entries of the menu.
fn recordings() -> Vec<Entry> {
    let files = setup::recordings().map(|folder| recorder::recordings(&folder)).unwrap_or_default();
    let entry = |path: std::path::PathBuf| {
        let header = recorder::header_of(&path)?;
        Some(Entry {
            opens: Opens::Recording(path.display().to_string()),
            group: "Recordings".to_owned(),
            number: None,
            title: title_of(header.title, header.seed),
            line: format!("Recorded {}, {}; nothing runs.", header.began.get(..16)?.replace('T', " "), header.runtime),
            done: false,
        })
    };
    files.into_iter().filter_map(entry).collect()
}

fn title_of(lesson: Option<String>, seed: Option<u64>) -> String {
    lesson.unwrap_or_else(|| seed.map_or("Sandbox".to_owned(), |seed| format!("Chaos of seed {seed}")))
}

/// The shipped recordings, as entries of the menu.
fn shipped() -> impl Iterator<Item = Entry> {
    SHIPPED.iter().filter_map(|(name, _)| {
        let lesson = scenario::load(name).ok()?;
        Some(Entry {
            opens: Opens::Recording((*name).to_owned()),
            group: "Shipped recordings: nothing needs to be installed".to_owned(),
            number: name[..2].parse().ok(),
            title: lesson.script.title,
            line: format!("{} Nothing runs.", lesson.script.summary),
            done: false,
        })
    })
}

/// The menu of recordings alone, where none is kept.
pub fn recordings_menu() -> StartMenu {
    let entries = shipped().collect();
    StartMenu {
        entries,
        machine: "nothing is recorded here yet; these come with replab".to_owned(),
        ..StartMenu::default()
    }
}

/// The start menu: the sandbox, the course, what earlier labs left.
pub async fn menu(common: &Common) -> Result<StartMenu> {
    let engine = Engine::connect().await;
    let mut entries = vec![Entry {
        opens: Opens::Sandbox,
        group: String::new(),
        number: None,
        title: "Sandbox".to_owned(),
        line: "A primary and two standbys, to watch, change and break as you like.".to_owned(),
        done: false,
    }];
    let (kept, said) = progress::kept();
    for (name, text) in scenario::SHIPPED {
        let lesson = scenario::parse(name, text).map_err(|e| eyre!("{e}"))?;
        entries.push(Entry {
            opens: Opens::Lesson((*name).to_owned()),
            group: "Course".to_owned(),
            number: name[..2].parse().ok(),
            title: lesson.script.title,
            line: lesson.script.summary,
            done: kept.lessons.contains_key(*name),
        });
    }
    entries.extend(recordings());
    entries.extend(shipped());
    let (found, place) = tokio::join!(leftovers(engine.as_ref().ok()), place(common, &engine));
    let (found, place) = (found?, place?);
    let left = orphans(&found);
    if !left.is_empty() {
        entries.push(Entry {
            opens: Opens::Leftover(String::new()),
            group: "Leftovers".to_owned(),
            number: None,
            title: format!("Remove what earlier labs left ({})", left.len()),
            line: left.iter().map(|l| l.name.as_str()).take(3).collect::<Vec<_>>().join(", "),
            done: false,
        });
    }
    let notes = place.wrong.into_iter().map(|why| format!("{why}; replab doctor says more")).chain(said);
    let notes = notes.map(|text| (Tone::Warn, text)).collect();
    Ok(StartMenu { entries, picked: 0, notes, machine: place.machine })
}

/// Where a lab that is opened from the menu would be.
#[derive(Debug)]
struct Place {
    machine: String,
    /// What keeps it from being where it was asked for, or first of all.
    wrong: Vec<RuntimeError>,
}

/// The place that `setup::find` would choose now, as far as a look can tell: nothing is pulled or built for the menu's sake.
async fn place(common: &Common, engine: &Result<Engine, RuntimeError>) -> Result<Place> {
    let wish = Wish::of(common, Needs::default())?;
    if !wish.allows_docker() {
        return Ok(on_programs(&wish, None));
    }
    let found = match engine {
        Ok(engine) => docker::find_image(engine, &wish.image()).await,
        Err(why) => Err(why.clone()),
    };
    let found = found.and_then(|image| image.map(|image| wish.judge(&image).map(|()| image)).transpose());
    Ok(match found {
        Ok(Some(image)) => Place { machine: format!("docker, {}", image.name), wrong: Vec::new() },
        Ok(None) => Place { machine: to_be_got(&wish), wrong: Vec::new() },
        Err(why) if !wish.allows_process() => Place { machine: "docker".to_owned(), wrong: vec![why] },
        Err(why) => on_programs(&wish, Some(why)),
    })
}

/// The engine has no image yet. Where processes are left open, programs serve when none can be got.
fn to_be_got(wish: &Wish<'_>) -> String {
    let choice = wish.image();
    let image = choice.explicit.unwrap_or_else(|| format!("an image of PostgreSQL {}", choice.major));
    let or = if wish.allows_process() { ", else processes" } else { "" };
    format!("docker ({image} to be got first{or})")
}

/// The programs of this machine, asked for or because of what is wrong with Docker.
fn on_programs(wish: &Wish<'_>, wrong: Option<RuntimeError>) -> Place {
    match Programs::find(wish.folder(), wish.versions()) {
        Ok(found) => {
            Place { machine: format!("processes, {}", found.folder().display()), wrong: wrong.into_iter().collect() }
        }
        Err(why) => Place { machine: "processes".to_owned(), wrong: wrong.into_iter().chain([why]).collect() },
    }
}

/// `image build`.
pub async fn build_image(common: &Common) -> Result<u8> {
    let engine = Engine::connect().await.map_err(|e| eyre!("{e}"))?;
    let choice = Wish::of(common, Needs::default())?.image();
    let image = docker::build(&engine, &choice, &setup::phases(common)).await.map_err(|e| match e.hint {
        Some(ref hint) => eyre!("{e}\n  {hint}"),
        None => eyre!("{e}"),
    })?;
    print(&format!("{}\n", image.name))?;
    Ok(exit::OK)
}

/// `image list`: for each version, the image a lab would use.
pub async fn list_images(common: &Common) -> Result<u8> {
    let engine = Engine::connect().await.map_err(|e| eyre!("{e}"))?;
    let mut rows = Vec::new();
    for major in versions::MADE_FOR {
        let choice = docker::ImageChoice { explicit: None, major };
        if let Some(image) = docker::find_image(&engine, &choice).await.map_err(|e| eyre!("{e}"))? {
            rows.push((major, image.name));
        }
    }
    if common.json {
        print(&(serde_json::to_string_pretty(&rows)? + "\n"))?;
    } else if rows.is_empty() {
        print("no PostgreSQL image is here; replab image build --postgres 18 makes one\n")?;
    } else {
        print(&rows.iter().map(|(major, name)| format!("{major}  {name}\n")).collect::<String>())?;
    }
    Ok(exit::OK)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::RuntimeChoice;

    async fn placed(runtime: RuntimeChoice) -> (String, String) {
        // Nobody has programs of that version: so the machine doesn't matter.
        let common = Common { runtime, postgres: Some(98), ..Common::default() };
        let found = place(&common, &Engine::at(Path::new("/nowhere/docker.sock")).await).await.unwrap();
        (found.machine, found.wrong.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    }

    #[tokio::test]
    async fn the_menu_tells_of_the_engine_where_it_matters() {
        for (runtime, kind, of_the_engine, of_programs) in [
            (RuntimeChoice::Auto, "processes", true, true),
            (RuntimeChoice::Docker, "docker", true, false),
            (RuntimeChoice::Process, "processes", false, true),
        ] {
            let (machine, wrong) = placed(runtime).await;
            assert_eq!(machine, kind);
            assert_eq!(wrong.contains("Docker engine"), of_the_engine, "{runtime:?}: {wrong}");
            assert_eq!(wrong.contains("find PostgreSQL 98"), of_programs, "{runtime:?}: {wrong}");
        }
    }

    #[test]
    fn an_image_that_is_not_here_is_no_docker_yet() {
        let told = |common: Common| to_be_got(&Wish::of(&common, Needs::default()).unwrap());
        let open = Common { postgres: Some(17), ..Common::default() };
        assert_eq!(told(open), "docker (an image of PostgreSQL 17 to be got first, else processes)");
        let named = Common { image: Some("my/pg".into()), ..Common::default() };
        assert_eq!(told(named), "docker (my/pg to be got first)");
    }
}

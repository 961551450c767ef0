//! Finds and removes what earlier labs left on this machine. Touches nothing without our own `lab.json`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::folders::{self, LabFile, MAKING, TEMPLATE_FILE};
use super::{Failed, Hinted, failed, template, tree};
use crate::runtime::{Dirs, Leftover, Result, owner};

/// A lab's folder in which servers still run.
const TREE: &str = "process tree";
/// A lab's folder, or a template that was never finished.
const FOLDER: &str = "folder";
/// A finished template: of use to later labs, removed only with `--all`.
const TEMPLATE: &str = "template";
/// How long somebody may still write into a folder that is being removed.
const BUSY_LIMIT: Duration = Duration::from_secs(10);
/// How long processes may take to go.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// Everything that labs with these folders left, or have while they live; templates too.
pub fn leftovers(dirs: &Dirs) -> Vec<Leftover> {
    let mut found = Vec::new();
    for dirs in folders::candidates(dirs) {
        found.extend(below(&folders::labs(&dirs)).iter().filter_map(|folder| lab(folder)));
        let templates = below(&folders::templates(&dirs));
        let (unfinished, finished): (Vec<_>, Vec<_>) = templates.iter().partition(|folder| is_unfinished(folder));
        found.extend(unfinished.into_iter().filter_map(|folder| lab(folder)));
        found.extend(finished.into_iter().filter_map(|folder| finished_template(folder)));
    }
    found
}

fn below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut found: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    found.sort();
    found
}

fn is_unfinished(folder: &Path) -> bool {
    folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with(MAKING))
}

fn lab(folder: &Path) -> Option<Leftover> {
    let file = LabFile::read(folder)?;
    let servers = data_folders(folder).iter().filter(|data| !tree::of(data).is_empty()).count();
    let what = if is_unfinished(folder) { "unfinished template of lab" } else { "lab" };
    let name = match servers {
        0 => format!("{what} {}", file.owner.lab),
        1 => format!("{what} {} with 1 running server", file.owner.lab),
        many => format!("{what} {} with {many} running servers", file.owner.lab),
    };
    Some(Leftover {
        kind: if servers > 0 { TREE } else { FOLDER }.to_owned(),
        id: folder.to_string_lossy().into_owned(),
        name,
        alive: owner::alive(&file.owner),
        owner: Some(file.owner),
    })
}

fn finished_template(folder: &Path) -> Option<Leftover> {
    let name = template::name_of(folder)?;
    let id = folder.to_string_lossy().into_owned();
    Some(Leftover { kind: TEMPLATE.to_owned(), id, name, owner: None, alive: false })
}

/// Every data directory below a lab's folder: nodes, trash, or the one of a template in the making.
fn data_folders(lab: &Path) -> Vec<PathBuf> {
    let nodes = ["nodes", "trash"].into_iter().flat_map(|part| below(&lab.join(part)));
    nodes.chain([lab.to_owned()]).map(|node| node.join("data")).filter(|data| data.is_dir()).collect()
}

/// Removes one of them, after a second look: it must still be what the list said, with the same owner, and an owner who
/// was gone must not be alive.
pub fn remove(leftover: &Leftover) -> Result<()> {
    let folder = Path::new(&leftover.id);
    let what = format!("remove {}", leftover.name);
    if !folder.exists() {
        return Ok(());
    }
    if leftover.kind == TEMPLATE {
        return remove_template(folder, what);
    }
    let now =
        LabFile::read(folder).ok_or_else(|| failed(&what, "it isn't a folder of replab's, or not this user's"))?;
    if Some(&now.owner) != leftover.owner.as_ref() {
        return Err(failed(what, "it belongs to another lab by now").hinted("list again"));
    }
    if owner::alive(&now.owner) && !leftover.alive {
        return Err(failed(what, "its owner lives").hinted("quit that replab first"));
    }
    remove_lab_folder(folder)
}

/// The name of a template goes first, in one step, so that nobody copies half of it.
fn remove_template(folder: &Path, what: String) -> Result<()> {
    if template::name_of(folder).is_none() {
        return Err(failed(what, "it isn't a template of replab's, or not this user's"));
    }
    fs::remove_file(folder.join(TEMPLATE_FILE)).failed(&what)?;
    folders::remove_tree(folder).failed(what)
}

/// Kills what runs in a lab's folder and removes it; fine if it is gone.
pub fn remove_lab_folder(lab: &Path) -> Result<()> {
    let what = format!("remove {}", lab.display());
    if !lab.exists() {
        return Ok(());
    }
    if LabFile::read(lab).is_none() {
        return Err(failed(what, "it has no lab.json of ours"));
    }
    for data in data_folders(lab) {
        if !tree::kill(&data, KILL_LIMIT) {
            return Err(failed(what, format!("processes in {} are still there", data.display())));
        }
        tree::release_shared_memory(&data);
    }
    until_removed(lab).failed(what)
}

/// Removes while others still work in the folder: the trash may be being emptied, and a copy that somebody has given up
/// goes on until it finds its folder gone.
fn until_removed(lab: &Path) -> std::io::Result<()> {
    let end = Instant::now() + BUSY_LIMIT;
    loop {
        match folders::remove_lab(lab) {
            Err(_) if Instant::now() < end && lab.exists() => std::thread::sleep(Duration::from_millis(5)),
            Err(_) if !lab.exists() => return Ok(()),
            done => return done,
        }
    }
}

//! `clean`: takes away what labs left that nobody owns any more. How each kind of thing is removed is its maker's to know.

use std::time::Duration;

use color_eyre::eyre::{Result, eyre};
use tokio::time::sleep;

use super::plain::{complain, print};
use super::{setup, socket};
use crate::cli::{Common, exit};
use crate::runtime::docker::{self, Engine};
use crate::runtime::process::clean as folders;
use crate::runtime::{Leftover, RuntimeError, owner};

/// What labs left or have, on the engine (if one answers) and in folders.
pub async fn leftovers(engine: Option<&Engine>) -> Result<Vec<Leftover>> {
    let mut found = folders::leftovers(&setup::dirs()?);
    found.extend(socket::leftovers(&setup::sockets()?));
    found.extend(docker::abandoned_builds());
    if let Some(engine) = engine {
        found.extend(docker::leftovers(engine, owner::alive).await.map_err(|e| eyre!("{e}"))?);
        found.extend(docker::templates(engine).await.map_err(|e| eyre!("{e}"))?);
    }
    Ok(found)
}

/// Those that `clean` removes without `--all`: labs of this user whose owner is gone.
pub fn orphans(all: &[Leftover]) -> Vec<&Leftover> {
    let me = rustix::process::geteuid().as_raw();
    all.iter().filter(|l| !l.alive && l.owner.as_ref().is_some_and(|o| o.uid == me)).collect()
}

/// An engine carries out what it was asked after the asker's end, too: what a lab that was killed while it came up left is whole
/// only when a look this much later finds nothing more.
const ENGINE_SETTLES: Duration = Duration::from_secs(1);

/// `clean`.
pub async fn clean(common: &Common, dry_run: bool, all: bool) -> Result<u8> {
    let mut sweep = Sweep::begin(common, dry_run, all).await;
    let spared = sweep.until_clean().await?;
    sweep.tell(spared)
}

/// One clean: what it looks at, and what came of it.
struct Sweep<'a> {
    common: &'a Common,
    dry_run: bool,
    all: bool,
    engine: Option<Engine>,
    /// Why the engine isn't looked at, where there should be one.
    unseen: Option<String>,
    gone: Vec<Leftover>,
    /// What couldn't be removed, and why.
    stays: Vec<String>,
}

impl<'a> Sweep<'a> {
    async fn begin(common: &'a Common, dry_run: bool, all: bool) -> Self {
        let (engine, unseen) = match Engine::connect_if_any().await {
            Ok(engine) => (engine, None),
            Err(e) => (None, Some(format!("{}{}", e.why, hint(&e)))),
        };
        Self { common, dry_run, all, engine, unseen, gone: Vec::new(), stays: Vec::new() }
    }

    /// Looks and removes until a look finds nothing more; how many things are left that belong to somebody.
    async fn until_clean(&mut self) -> Result<usize> {
        loop {
            let found = self.look().await?;
            let before = self.gone.len();
            self.take_away(&found).await?;
            let labs_went = self.gone[before..].iter().any(|left| left.owner.is_some());
            if self.engine.is_none() || self.dry_run || !labs_went {
                return Ok(found.iter().filter(|left| left.owner.is_some()).count());
            }
            sleep(ENGINE_SETTLES).await;
        }
    }

    /// An engine that goes away meanwhile keeps nobody from looking at the rest.
    async fn look(&mut self) -> Result<Vec<Leftover>> {
        match leftovers(self.engine.as_ref()).await {
            Err(why) if self.engine.take().is_some() => {
                self.unseen = Some(why.to_string());
                leftovers(None).await
            }
            found => found,
        }
    }

    async fn take_away(&mut self, found: &[Leftover]) -> Result<()> {
        self.stays.clear();
        let chosen = if self.all { found.iter().collect() } else { orphans(found) };
        for left in chosen {
            if self.gone.iter().any(|one| one.id == left.id) {
                continue;
            }
            match if self.dry_run { Ok(()) } else { remove(self.engine.as_ref(), left).await } {
                Ok(()) => {
                    tell_gone(self.common, self.dry_run, left)?;
                    self.gone.push(left.clone());
                }
                Err(why) => self.stays.push(format!("{}: {why}{}", left.name, hint(&why))),
            }
        }
        Ok(())
    }

    /// What is said at the end; the exit code.
    fn tell(self, spared: usize) -> Result<u8> {
        for why in &self.stays {
            complain(why)?;
        }
        if let Some(why) = &self.unseen {
            complain(&format!("the Docker engine was not looked at: {why}"))?;
        }
        if !self.dry_run {
            forget_passwords(&self.gone)?;
        }
        let whole = self.stays.is_empty() && self.unseen.is_none();
        if self.common.json {
            print(&(serde_json::to_string_pretty(&self.gone)? + "\n"))?;
        } else if self.gone.is_empty() && whole && !self.common.quiet {
            print(&nothing_left(spared))?;
        }
        Ok(match (self.unseen, whole) {
            (Some(_), _) => exit::ENGINE,
            (None, false) => exit::FAILED,
            (None, true) => exit::OK,
        })
    }
}

fn hint(error: &RuntimeError) -> String {
    error.hint.as_ref().map_or(String::new(), |hint| format!("; {hint}"))
}

fn nothing_left(spared: usize) -> String {
    let note = match spared {
        0 => String::new(),
        _ => format!(" ({spared} things belong to labs that run, or to other users)"),
    };
    format!("nothing was left behind{note}\n")
}

fn tell_gone(common: &Common, dry_run: bool, left: &Leftover) -> Result<()> {
    if !common.quiet && !common.json {
        let verb = if dry_run { "would remove" } else { "removed" };
        print(&format!("{verb} {} {}\n", left.kind, left.name))?;
    }
    Ok(())
}

/// Files with the passwords of labs that are gone now.
fn forget_passwords(removed: &[Leftover]) -> Result<()> {
    let kept = setup::kept()?;
    for owner in removed.iter().filter_map(|l| l.owner.as_ref()) {
        match std::fs::remove_file(kept.join(format!("{}.pgpass", owner.lab))) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e.into()),
            _ => {}
        }
    }
    Ok(())
}

async fn remove(engine: Option<&Engine>, left: &Leftover) -> Result<(), RuntimeError> {
    if left.kind == socket::KIND {
        let what = format!("remove the socket {}", left.name);
        return socket::remove(left).map_err(|e| RuntimeError { what, why: e.to_string(), hint: None });
    }
    if left.kind == docker::BUILD {
        return docker::remove_build(left);
    }
    match (engine, left.id.starts_with('/')) {
        (Some(engine), false) => docker::remove(engine, left).await,
        _ => folders::remove(left),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::Owner;

    /// A lab that runs, another user's and a thing without an owner stay.
    #[test]
    fn only_this_users_labs_that_nobody_owns_any_more_go() {
        let mine = owner::current("00000001");
        let left = |name: &str, owner: Option<Owner>, alive| Leftover {
            kind: "folder".to_owned(),
            id: format!("/labs/{name}"),
            name: name.to_owned(),
            owner,
            alive,
        };
        let all = [
            left("gone", Some(mine.clone()), false),
            left("runs", Some(mine.clone()), true),
            left("another's", Some(Owner { uid: mine.uid + 1, ..mine }), false),
            left("a template", None, false),
        ];
        assert_eq!(orphans(&all), [&all[0]]);
    }
}

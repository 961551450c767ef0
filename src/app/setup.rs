//! Finding a place for a lab: engine and image, or programs on this machine, in one order everywhere; and saying, when
//! nothing serves, what was tried and the one command that mends each.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;

use color_eyre::eyre::{Result, WrapErr};
use etcetera::BaseStrategy;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use super::plain::complain;
use crate::cli::Common;
use crate::model::POSTGRES;
use crate::pg::secret::TemplateKey;
use crate::runtime::docker::{self, DockerRuntime, Engine, Image, ImageChoice};
use crate::runtime::process::{ProcessRuntime, Programs};
use crate::runtime::{Dirs, Progress, Runtime, RuntimeError, owner, versions};

pub mod room;
mod wish;

pub use wish::{Contradiction, Needs, Wish};

/// A place for a lab.
#[derive(Debug)]
pub enum Place {
    /// Containers.
    Docker(Box<DockerRuntime>),
    /// Processes.
    Process(Box<ProcessRuntime>),
}

/// A place and what the lab needs to know of it.
#[derive(Debug)]
pub struct Ground {
    /// Where nodes live.
    pub place: Place,
    /// The lab's id.
    pub lab: String,
    /// "docker" or "process".
    pub kind: &'static str,
    /// The image, or the programs' folder.
    pub source: String,
    /// The templates' key.
    pub key: TemplateKey,
}

impl Ground {
    /// The major version of its PostgreSQL.
    pub fn major(&self) -> u32 {
        let version = match &self.place {
            Place::Docker(runtime) => runtime.postgres(),
            Place::Process(runtime) => runtime.postgres(),
        };
        versions::major_of(&version).unwrap_or(POSTGRES)
    }
}

/// No place was found: what was tried, one line each.
#[derive(Debug, thiserror::Error)]
#[error("no place for a lab was found\n{}", .0.join("\n"))]
pub struct NoPlace(pub Vec<String>);

/// This user's folders, by the XDG base directory rules. Where both are named nobody needs a home.
pub fn dirs() -> Result<Dirs> {
    let named = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let (cache, state) = match (named("XDG_CACHE_HOME"), named("XDG_STATE_HOME")) {
        (Some(cache), Some(state)) => (cache, state),
        _ => {
            let base = etcetera::choose_base_strategy()
                .wrap_err("no home folder is known: set HOME, or XDG_CACHE_HOME and XDG_STATE_HOME")?;
            (base.cache_dir(), base.state_dir().unwrap_or_else(|| base.data_dir()))
        }
    };
    Ok(Dirs { cache: cache.join("replab"), state: state.join("replab") })
}

/// Where the passwords of kept labs are.
pub fn kept() -> Result<std::path::PathBuf> {
    Ok(dirs()?.state.join("kept"))
}

/// Where the sockets of labs that run are.
pub fn sockets() -> Result<std::path::PathBuf> {
    Ok(dirs()?.state.join("run"))
}

/// Where recordings are that nobody gave a place.
pub fn recordings() -> Result<std::path::PathBuf> {
    Ok(dirs()?.state.join("recordings"))
}

/// Finds the place that was asked for. What is being proved of one is one of `proofs`: who gives up waits for them, and then
/// nothing is left.
pub async fn find(common: &Common, needs: Needs, proofs: &TaskTracker) -> Result<Ground> {
    let wish = Wish::of(common, needs)?;
    let dirs = dirs()?;
    room::writable(&dirs).map_err(|why| NoPlace(vec![told("folders", &why)]))?;
    let lab = owner::new_lab_id();
    let key = TemplateKey::load_or_create(&dirs.cache).wrap_err("can't keep the templates' key")?;
    let mut tried = Vec::new();
    if wish.allows_docker() {
        match in_docker(common, &wish, &lab, proofs).await {
            Ok((runtime, source)) => {
                return Ok(Ground { place: Place::Docker(runtime), lab, kind: "docker", source, key });
            }
            Err(why) => tried.push(told("docker", &why)),
        }
    }
    if wish.allows_process() {
        match Programs::find(wish.folder(), wish.versions()) {
            Ok(programs) => {
                if !tried.is_empty() {
                    tell(common, &format!("{}; using the programs in {}", tried[0], programs.folder().display()));
                }
                if let Some(warning) = programs.warning() {
                    tell(common, warning);
                }
                return on_programs(common, programs, &dirs, lab, key).await;
            }
            Err(why) => tried.push(told("process", &why)),
        }
    }
    tried.extend(needs.least.map(|least| {
        format!("  the lesson needs PostgreSQL {least}; ask for another with --postgres {least}, --image or --pg-bin")
    }));
    Err(NoPlace(tried).into())
}

/// Containers that were proved to do, and their image's name.
async fn in_docker(
    common: &Common,
    wish: &Wish<'_>,
    lab: &str,
    proofs: &TaskTracker,
) -> Result<(Box<DockerRuntime>, String), RuntimeError> {
    let (engine, image) = engine_and_image(common, wish).await?;
    let source = image.name.clone();
    let runtime = Box::new(DockerRuntime::new(owner::current(lab.to_owned()), engine, image));
    let links = wish.needs.links;
    let (tell, told) = oneshot::channel();
    proofs.spawn(async move {
        let proved = runtime.prove(links).await;
        let left = match proved {
            Ok(()) => tell.send(Ok(runtime)).err().and_then(Result::ok),
            Err(why) => {
                if let Err(error) = runtime.destroy_all().await {
                    tracing::warn!(%error, "replab clean removes what is left");
                }
                // Who has given up needs to hear nothing.
                drop(tell.send(Err(why)));
                None
            }
        };
        if let Some(runtime) = left
            && let Err(error) = runtime.destroy_all().await
        {
            tracing::warn!(%error, "replab clean removes what is left");
        }
    });
    let broken = |_| RuntimeError { what: "try the engine".to_owned(), why: "it broke off".to_owned(), hint: None };
    Ok((told.await.map_err(broken)??, source))
}

async fn on_programs(
    common: &Common,
    programs: Programs,
    dirs: &Dirs,
    lab: String,
    key: TemplateKey,
) -> Result<Ground> {
    let source = programs.folder().display().to_string();
    let refused = |e: RuntimeError| NoPlace(vec![told("process", &e)]);
    room::limits(true).map_err(refused)?;
    let runtime = ProcessRuntime::new(owner::current(lab.clone()), dirs, programs).map_err(refused)?;
    if let Err(why) = room::room(runtime.folder(), common.disk_floor) {
        runtime.destroy_all().await.map_err(refused)?;
        return Err(refused(why).into());
    }
    Ok(Ground { place: Place::Process(Box::new(runtime)), lab, kind: "process", source, key })
}

fn told(kind: &str, error: &RuntimeError) -> String {
    let hint = error.hint.as_ref().map_or(String::new(), |h| format!("; {h}"));
    format!("  {kind}: {error}{hint}")
}

fn tell(common: &Common, text: &str) {
    if !common.quiet {
        // A message that can't be shown changes nothing.
        drop(complain(text.trim()));
    }
}

/// An engine that answers, and an image: the one here, else pulled, else built.
async fn engine_and_image(common: &Common, wish: &Wish<'_>) -> Result<(Engine, Image), RuntimeError> {
    room::limits(false)?;
    let engine = Engine::connect().await?;
    let choice = wish.image();
    if let Some(root) = engine.root_dir().await {
        room::room(&root, common.disk_floor)?;
    }
    let image = match docker::find_image(&engine, &choice).await? {
        Some(image) => image,
        None => {
            wish.may_be_got(&choice)?;
            get_image(common, &engine, &choice).await?
        }
    };
    wish.judge(&image)?;
    if let Some(warning) = &image.warning {
        tell(common, warning);
    }
    if wish.needs.freezer && engine.may_lack_freezer().await {
        can_freeze(&engine, &image).await?;
    }
    Ok((engine, image))
}

/// Refuses an engine that can't do what a lesson that freezes nodes is about.
async fn can_freeze(engine: &Engine, image: &Image) -> Result<(), RuntimeError> {
    let Some(why) = docker::no_freezer(engine, image).await? else { return Ok(()) };
    Err(RuntimeError {
        what: "play a lesson that freezes nodes".to_owned(),
        why: format!("this engine can't freeze containers: {why}"),
        hint: Some("play it as processes: --runtime process".to_owned()),
    })
}

/// Pulls an image, and builds it where that fails; one that only the recipe makes is built at once.
async fn get_image(common: &Common, engine: &Engine, choice: &ImageChoice) -> Result<Image, RuntimeError> {
    let progress = phases(common);
    let own = choice.of_our_own();
    let why = match &choice.explicit {
        Some(name) if own.is_some() => RuntimeError {
            what: format!("use image {name}"),
            why: "it isn't here, and no registry has it".to_owned(),
            hint: None,
        },
        named => {
            tell(
                common,
                &match named {
                    Some(name) => format!("the image {name} isn't here: pulling it"),
                    None => format!("no image for PostgreSQL {} is here: pulling it", choice.major),
                },
            );
            match docker::pull(engine, choice, &progress).await {
                Ok(image) => return Ok(image),
                Err(why) => why,
            }
        }
    };
    let to_build = own.as_ref().unwrap_or(choice);
    if let Some(refusal) = docker::build_refusal(to_build) {
        let name = to_build.explicit.clone().unwrap_or_else(|| format!("postgres:{}", to_build.major));
        let hint = Some(format!(
            "{refusal}; `docker pull {name}` where a registry can be reached, or name an image that is here (replab image list)"
        ));
        return Err(RuntimeError { hint, ..why });
    }
    tell(common, &format!("{why}: building the image from Debian's packages; this takes a minute or two, once"));
    if !agreed().await {
        return Err(RuntimeError { hint: Some("you chose not to build it".to_owned()), ..why });
    }
    docker::build(engine, to_build, &progress).await
}

/// On a terminal the person is asked; without one it is done, having been said.
///
/// The reading blocks, so it has a thread of its own: who waits here can be given up for a signal. The thread isn't waited for at
/// the program's end.
async fn agreed() -> bool {
    if !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
        return true;
    }
    tokio::task::spawn_blocking(ask_to_build).await.unwrap_or(false)
}

fn ask_to_build() -> bool {
    let mut err = std::io::stderr();
    let mut answer = String::new();
    let asked = write!(err, "Build it now? [Y/n] ")
        .and_then(|()| err.flush())
        .and_then(|()| std::io::stdin().read_line(&mut answer));
    asked.is_ok() && !answer.trim().to_ascii_lowercase().starts_with('n')
}

/// Phases of slow work, as lines on standard error.
pub fn phases(common: &Common) -> Progress {
    let (progress, mut texts) = mpsc::unbounded_channel::<String>();
    let quiet = common.quiet;
    tokio::spawn(async move {
        while let Some(text) = texts.recv().await {
            if !quiet {
                drop(complain(&text));
            }
        }
    });
    progress
}

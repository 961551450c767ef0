//! Composition: the command line carried out, one lab and its message loop, and what shows it: the screen or plain lines.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use color_eyre::eyre::{Result, eyre};
use tokio_util::task::TaskTracker;

use crate::cli::{Cli, Common, ImageVerb, Verb, exit};
use crate::keys::QuitHow;
use crate::model::Stage;
use crate::model::msg::{Opening, Topology, WriterPlan};
use crate::model::script::Script;
use crate::report::Report;
use crate::runtime::Runtime;
use crate::scenario::{self, LoadError, Scenario};
use crate::ui::start::Opens;

pub mod chaos;
pub mod clean;
pub mod export;
pub mod files;
pub mod hooks;
pub mod inputs;
pub mod machine;
pub mod manual;
pub mod past;
pub mod plain;
pub mod progress;
pub mod reach;
pub mod recorder;
pub mod replay;
pub mod session;
pub mod setup;
pub mod signals;
pub mod socket;
pub mod suspend;
pub mod terminal;

use plain::Manner;
use recorder::Recorder;
use session::Session;
use setup::{Needs, NoPlace, Place};
use signals::Ended;
use terminal::Left;

/// The whole program; gives its exit code.
pub fn main() -> ExitCode {
    hooks::install();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(told) => return parsed_nothing(&told).into(),
    };
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(e) => {
            drop(plain::complain(&format!("can't start: {e}")));
            return exit::ENGINE.into();
        }
    };
    let code = runtime.block_on(run(cli)).unwrap_or_else(|error| {
        let code = code_of(&error);
        if code == exit::NOBODY_READS {
            return code;
        }
        if let Some(LoadError::Invalid(complaints)) = error.downcast_ref::<LoadError>() {
            drop(files::refuse(complaints));
            return code;
        }
        let chain: Vec<String> = error.chain().map(ToString::to_string).collect();
        drop(plain::complain(&chain.join(": ")));
        code
    });
    // Whatever still blocks has nothing left to do.
    runtime.shutdown_background();
    code.into()
}

/// Prints help and the version as they are. What a wrong command line is told repeats what stood there, which may come from
/// elsewhere: that is made harmless, at the price of its colours.
fn parsed_nothing(told: &clap::Error) -> u8 {
    if told.use_stderr() {
        drop(plain::print_error(&told.to_string()));
        return exit::USAGE;
    }
    drop(told.print());
    exit::OK
}

fn code_of(error: &color_eyre::Report) -> u8 {
    match error.downcast_ref::<LoadError>() {
        Some(LoadError::Invalid(_)) => exit::SCENARIO,
        Some(_) => exit::USAGE,
        None if error.downcast_ref::<replay::NoRecording>().is_some() => exit::USAGE,
        None if error.downcast_ref::<reach::NotAsked>().is_some() => exit::USAGE,
        None if error.downcast_ref::<setup::Contradiction>().is_some() => exit::USAGE,
        None if error.is::<plain::NobodyReads>() => exit::NOBODY_READS,
        None if error.downcast_ref::<NoPlace>().is_some() => exit::ENGINE,
        None => exit::ENGINE,
    }
}

async fn run(cli: Cli) -> Result<u8> {
    let common = &cli.common;
    match cli.verb {
        None if on_terminal() => start_screen(common).await,
        None => open(common, Wanted::lesson(common, "01")?, &Manner::of(common, Vec::new(), true, false)).await,
        Some(Verb::Up { standbys, topology, headless, reports, keep }) => {
            let topology = match topology {
                Some(path) => scenario::load_topology(&path)?,
                None => Topology::primary_with(standbys),
            };
            open(common, Wanted::sandbox(topology), &Manner::of(common, reports, headless, keep)).await
        }
        Some(Verb::Play { lesson, headless, reports, keep }) => {
            open(common, Wanted::lesson(common, &lesson)?, &Manner::of(common, reports, headless, keep)).await
        }
        Some(Verb::Replay { recording, headless, reports }) => {
            replay::run(common, recording, &Manner::of(common, reports, headless, false)).await
        }
        Some(Verb::Export(words)) => export::run(common, &words),
        Some(Verb::Chaos(words)) => let_chaos_loose(common, words).await,
        Some(Verb::Do { words, lab }) => reach::act(common, lab.as_deref(), &words).await,
        Some(Verb::Notes { lab }) => reach::notes(common, lab.as_deref()).await,
        Some(Verb::Check { files }) => files::check(common, &files),
        Some(Verb::Schema) => files::print_schema(),
        Some(Verb::List) => machine::list(common),
        Some(Verb::Doctor) => machine::doctor(common).await,
        Some(Verb::Clean { dry_run, all }) => clean::clean(common, dry_run, all).await,
        Some(Verb::Image { verb: ImageVerb::Build }) => machine::build_image(common).await,
        Some(Verb::Image { verb: ImageVerb::List }) => machine::list_images(common).await,
        Some(Verb::Completions { shell }) => completions(shell),
        Some(Verb::Man) => print_manual(),
    }
}

/// Whether there is a terminal, and one that can show a screen.
fn on_terminal() -> bool {
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    std::io::stdout().is_terminal() && std::io::stdin().is_terminal() && !dumb
}

async fn start_screen(common: &Common) -> Result<u8> {
    let menu = machine::menu(common).await?;
    match terminal::choose(common, menu, &mut signals::ended()).await? {
        Err(code) => Ok(code),
        Ok(Opens::Sandbox) => {
            open(common, Wanted::sandbox(Topology::primary_with(2)), &Manner::of(common, Vec::new(), false, false))
                .await
        }
        Ok(Opens::Lesson(name)) => {
            open(common, Wanted::lesson(common, &name)?, &Manner::of(common, Vec::new(), false, false)).await
        }
        Ok(Opens::Leftover(_)) => clean::clean(common, false, false).await,
        Ok(Opens::Recording(path)) => {
            replay::run(common, Some(path), &Manner::of(common, Vec::new(), false, false)).await
        }
    }
}

async fn let_chaos_loose(common: &Common, words: crate::cli::ChaosWords) -> Result<u8> {
    if common.read_only {
        plain::complain("chaos acts on its lab, and --read-only refuses every act: leave --read-only out")?;
        return Ok(exit::USAGE);
    }
    let seed = words.seed.unwrap_or_else(|| fastrand::u32(..).into());
    let write = words.write.unwrap_or_else(|| format!("chaos-{seed}.toml").into());
    let (length, within, journal) = (words.length, words.within, words.journal);
    let orders = chaos::Orders { seed, length, kinds: words.faults, within, journal, write };
    let needs = Needs { links: orders.fault_links(), ..Needs::default() };
    let sandbox = Wanted::sandbox(chaos::topology(words.standbys));
    let wanted = Wanted { chaos: Some(orders), writer: chaos::writer(), needs, ..sandbox };
    open(common, wanted, &Manner::of(common, words.reports, true, false)).await
}

/// What a lab shall be.
struct Wanted {
    topology: Topology,
    needs: Needs,
    /// Of a lesson whose steps go by the version of PostgreSQL: what it is up to the first change, and from each on.
    by_version: BTreeMap<u32, Script>,
    script: Option<Script>,
    writer: WriterPlan,
    chaos: Option<chaos::Orders>,
}

impl Wanted {
    fn sandbox(topology: Topology) -> Self {
        Self {
            topology,
            needs: Needs::default(),
            by_version: BTreeMap::new(),
            script: None,
            writer: WriterPlan::default(),
            chaos: None,
        }
    }

    fn lesson(common: &Common, name: &str) -> Result<Self, LoadError> {
        let Scenario { topology, script, writer, requires, turns, .. } = scenario::load(name)?;
        if common.read_only {
            return Err(LoadError::ReadOnly(script.name));
        }
        let links = script.faults_links(&topology);
        let needs = Needs { least: requires, freezer: script.freezes(), links };
        let first = turns.first().map(|first| first - 1);
        let majors = first.into_iter().chain(turns);
        let by_version = majors
            .map(|major| Ok((major, scenario::load_for(name, major)?.script)))
            .collect::<Result<_, LoadError>>()?;
        Ok(Self { topology, needs, by_version, script: Some(script), writer, chaos: None })
    }
}

/// Finds a place, opens the lab there, and shows it until it is over.
async fn open(common: &Common, mut wanted: Wanted, manner: &Manner) -> Result<u8> {
    let mut ended = signals::ended();
    let proofs = TaskTracker::new();
    let ground = tokio::select! {
        ground = setup::find(common, wanted.needs, &proofs) => Ok(ground?),
        code = &mut ended => Err(code),
    };
    let ground = match ground {
        Ok(ground) => ground,
        Err(code) => {
            proofs.close();
            proofs.wait().await;
            return Ok(code);
        }
    };
    let mut by_version = std::mem::take(&mut wanted.by_version);
    if let Some(from) =
        by_version.range(..=ground.major()).next_back().or(by_version.first_key_value()).map(|(from, _)| *from)
    {
        wanted.script = by_version.remove(&from);
    }
    wanted.topology.settings.extend(common.settings.iter().cloned());
    if let Some(script) = &mut wanted.script {
        script.by_hand = !manner.headless;
    }
    let opening = Opening {
        lab: ground.lab.clone(),
        runtime: ground.kind.to_owned(),
        source: ground.source.clone(),
        topology: wanted.topology,
        script: wanted.script,
        read_only: common.read_only,
        writer: wanted.writer,
        disk_floor: common.disk_floor,
    };
    let (shown, key) = (Shown { common, manner, chaos: wanted.chaos }, ground.key);
    match ground.place {
        Place::Docker(runtime) => shown.show((*runtime, key), opening, &mut ended).await,
        Place::Process(runtime) => shown.show((*runtime, key), opening, &mut ended).await,
    }
}

/// How a lab is shown: by chaos, as plain lines, or on the screen.
struct Shown<'a> {
    common: &'a Common,
    manner: &'a Manner,
    chaos: Option<chaos::Orders>,
}

impl Shown<'_> {
    async fn show<R: Runtime>(
        self,
        (runtime, key): (R, crate::pg::TemplateKey),
        opening: Opening,
        ended: &mut Ended,
    ) -> Result<u8> {
        let seed = self.chaos.as_ref().map(|orders| orders.seed);
        let recorder = match Recorder::of(self.common, &opening, seed) {
            Ok(recorder) => recorder,
            Err(why) => {
                // What proved the engine may have made the lab's network.
                drop(runtime.destroy_all().await);
                return Err(why);
            }
        };
        let mut session = Session::open(runtime, key, opening, recorder)?;
        // Chaos judges what it did itself: nobody else acts there.
        if self.chaos.is_none()
            && let Err(why) = session.listen()
            && !self.manner.quiet
        {
            plain::complain(&format!("replab do and replab notes can't reach this lab: {why}"))?;
        }
        match &self.chaos {
            Some(orders) => chaos::run(session, orders, self.manner, ended).await,
            None if self.manner.headless => plain::play(session, self.manner, ended).await,
            None => on_screen(self.common, session, self.manner, ended).await,
        }
    }
}

async fn on_screen<R: Runtime>(
    common: &Common,
    mut session: Session<R>,
    manner: &Manner,
    ended: &mut Ended,
) -> Result<u8> {
    let left = terminal::show(common, manner.keep, &mut session, ended).await;
    let judged = plain::judge_for_reports(&mut session, manner).await;
    let report = Report::of(&session.model);
    let pages = plain::pages(manner, &report, &session.model);
    let live = session.model.stage == Stage::Live;
    // The lab goes first, whatever else failed: nothing of it must be left behind.
    // Who chose to destroy it meant it, --keep or not.
    let kept = match &left {
        Ok(Left::Quit(how)) => *how == QuitHow::Keep,
        Ok(Left::Gone | Left::Signal(_)) => manner.keep,
        Err(_) => false,
    };
    let closed = leave(session, kept && live).await;
    plain::write_pages(&pages)?;
    closed?;
    judged?;
    Ok(match left? {
        Left::Quit(_) => plain::code_of(&report),
        Left::Gone => exit::HUNG_UP,
        Left::Signal(code) => code,
    })
}

/// Ends the lab: all of it, or all but its servers. An error is also that a recording isn't whole; the lab is gone all the same.
async fn leave<R: Runtime>(mut session: Session<R>, keep: bool) -> Result<()> {
    let cut_short = session.end_recording();
    if keep {
        let lines = session.keep(setup::kept()?).await?;
        plain::print(&lines.iter().map(|l| format!("{l}\n")).collect::<String>())?;
    } else {
        session.close().await?;
    }
    cut_short.map_or(Ok(()), |why| Err(eyre!(why)))
}

fn completions(shell: clap_complete::Shell) -> Result<u8> {
    let mut out = Vec::new();
    clap_complete::generate(shell, &mut crate::cli::definition(), "replab", &mut out);
    plain::print(&String::from_utf8_lossy(&out))?;
    Ok(exit::OK)
}

fn print_manual() -> Result<u8> {
    plain::print(&manual::page()?)?;
    Ok(exit::OK)
}

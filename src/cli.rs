//! The command line: what can be asked, and how it is said. Parses; does nothing.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

use crate::chaos::kinds::{KINDS, Kind};
use crate::model::Stamp;
use crate::report;
use crate::ui::Shade;

/// Exit codes, as documented in the README.
pub mod exit {
    /// As expected.
    pub const OK: u8 = 0;
    /// An expectation failed or a promise was broken.
    pub const FAILED: u8 = 1;
    /// Usage: a wrong flag, an unknown lesson.
    pub const USAGE: u8 = 2;
    /// The scenario file is not valid.
    pub const SCENARIO: u8 = 3;
    /// Engine or PostgreSQL missing, or they failed.
    pub const ENGINE: u8 = 4;
    /// The terminal went away (SIGHUP).
    pub const HUNG_UP: u8 = 129;
    /// Interrupted by Ctrl-C.
    pub const INTERRUPTED: u8 = 130;
    /// Nobody reads the lines of a lesson any more (as a program that SIGPIPE ends).
    pub const NOBODY_READS: u8 = 141;
    /// Ended by SIGTERM.
    pub const TERMINATED: u8 = 143;
}

const EXAMPLES: &str = "Examples:
  replab                         the start screen; without a terminal, lesson 01 as plain lines
  replab up --standbys 3         a sandbox with one primary and three standbys
  replab play 08                 a lesson in the terminal
  replab play 08 --headless --report out.html --report out.xml
  replab replay                  the last lab once more, without Docker and PostgreSQL
  replab replay 07               a shipped recording, on a machine with nothing installed
  replab export lab.replab --scenario mine.toml
  replab chaos --seed 7 --for 2m  random faults, and a check of every promise after each round
  replab do \"kill p\"             a command for the lab that runs in another terminal
  replab notes                   the presenter's notes of the lesson that plays there
  replab check mine.toml         what is wrong with a lesson of one's own
  replab doctor                  what works on this machine, and what would mend the rest
  replab clean                   remove what an earlier lab left behind";

/// A replication lab in a terminal: real PostgreSQL clusters, broken on purpose, watched truthfully.
#[derive(Debug, Parser)]
#[command(name = "replab", version, before_help = EXAMPLES, disable_help_subcommand = true)]
pub struct Cli {
    /// What to do; the start screen when nothing is said.
    #[command(subcommand)]
    pub verb: Option<Verb>,
    /// Where and how.
    #[command(flatten)]
    pub common: Common,
}

/// Options of every verb.
#[derive(Args, Clone, Debug, Default)]
pub struct Common {
    /// Where nodes live.
    #[arg(long, global = true, value_enum, default_value_t)]
    pub runtime: RuntimeChoice,
    /// The image for docker nodes, e.g. postgres:17.
    #[arg(long, global = true, value_name = "IMAGE")]
    pub image: Option<String>,
    /// The folder with PostgreSQL's programs, for processes.
    #[arg(long, global = true, value_name = "DIR")]
    pub pg_bin: Option<PathBuf>,
    /// The major version of PostgreSQL.
    #[arg(long, global = true, value_name = "MAJOR")]
    pub postgres: Option<u32>,
    /// A PostgreSQL setting for every node, may be given several times.
    #[arg(long = "set", global = true, value_name = "NAME=VALUE", value_parser = setting)]
    pub settings: Vec<(String, String)>,
    /// Hold the writer while less than this is free on the disk of the nodes' data, e.g. 2GB; 0 for never.
    #[arg(long, global = true, value_name = "SIZE", default_value = "1GB", value_parser = size)]
    pub disk_floor: u64,
    /// Record the lab into this file; the last few are kept in the state folder in any case.
    #[arg(long, global = true, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// Print JSON on standard output.
    #[arg(long, global = true)]
    pub json: bool,
    /// Print only what went wrong.
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// No colours.
    #[arg(long, global = true)]
    pub no_color: bool,
    /// Which background the colours are made for.
    #[arg(long, global = true, value_enum, default_value_t)]
    pub theme: ThemeChoice,
    /// Look, but change nothing.
    #[arg(long, global = true)]
    pub read_only: bool,
}

/// Where nodes live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum RuntimeChoice {
    /// Docker if an engine answers, else programs on this machine.
    #[default]
    Auto,
    /// Containers.
    Docker,
    /// Child processes.
    Process,
}

/// Which background the colours are made for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ThemeChoice {
    /// A light one where the terminal says so (COLORFGBG), else a dark one; dark for exports.
    #[default]
    Auto,
    /// Light text on dark.
    Dark,
    /// Dark text on light.
    Light,
}

impl ThemeChoice {
    /// The shade that is meant; `auto` where it is left to the lab.
    pub fn shade(self, auto: Shade) -> Shade {
        match self {
            Self::Auto => auto,
            Self::Dark => Shade::Dark,
            Self::Light => Shade::Light,
        }
    }
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Verb {
    /// Open the sandbox: a cluster to play with.
    Up {
        /// How many standbys (0 to 16).
        #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(0..=16))]
        standbys: u32,
        /// A file that describes the cluster.
        #[arg(long, value_name = "FILE", conflicts_with = "standbys")]
        topology: Option<PathBuf>,
        /// No screen: print what happens until interrupted.
        #[arg(long)]
        headless: bool,
        /// Write a report when it is over, .json, .xml (JUnit), .md or .html; may be given several times.
        #[arg(long = "report", value_name = "FILE", value_parser = report::file)]
        reports: Vec<PathBuf>,
        /// Leave the servers running at the end.
        #[arg(long)]
        keep: bool,
    },
    /// Play a lesson.
    Play {
        /// Its number, its name, or a file.
        lesson: String,
        /// As plain lines, without a screen.
        #[arg(long)]
        headless: bool,
        /// Write a report when it is over, .json, .xml (JUnit), .md or .html; may be given several times.
        #[arg(long = "report", value_name = "FILE", value_parser = report::file)]
        reports: Vec<PathBuf>,
        /// Leave the servers running at the end.
        #[arg(long)]
        keep: bool,
    },
    /// Show a recording; needs neither Docker nor PostgreSQL.
    Replay {
        /// The file, or the number or name of a lesson whose recording is shipped; the lab that was recorded last, when left out.
        recording: Option<String>,
        /// As plain lines, without a screen.
        #[arg(long)]
        headless: bool,
        /// Write the report of what was recorded, .json, .xml (JUnit), .md or .html; may be given several times.
        #[arg(long = "report", value_name = "FILE", value_parser = report::file)]
        reports: Vec<PathBuf>,
    },
    /// A recording as a film, as pictures or as a scenario; needs neither Docker nor PostgreSQL.
    Export(ExportWords),
    /// Let random faults loose on a cluster, and check after each round that every promise was kept.
    Chaos(ChaosWords),
    /// Ask the lab that runs for a command, and wait until it is done.
    Do {
        /// The command, in the words of the `:` prompt, e.g. "kill p".
        #[arg(required = true, value_name = "COMMAND")]
        words: Vec<String>,
        /// The lab, where several run.
        #[arg(long, value_name = "ID")]
        lab: Option<String>,
    },
    /// Follow the lesson that plays: the presenter's notes, the step, the next one, a clock.
    Notes {
        /// The lab, where several run.
        #[arg(long, value_name = "ID")]
        lab: Option<String>,
    },
    /// Check lessons without starting anything: what is wrong, where, and what was meant.
    Check {
        /// Files, or numbers or names of lessons.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<String>,
    },
    /// Print the JSON schema of lessons, for editors.
    Schema,
    /// List the lessons.
    List,
    /// Check what this machine offers.
    Doctor,
    /// Remove what earlier labs left behind.
    Clean {
        /// Only say what would be removed.
        #[arg(long)]
        dry_run: bool,
        /// Also labs that still run, and the cached templates.
        #[arg(long)]
        all: bool,
    },
    /// PostgreSQL images.
    Image {
        /// Build or list.
        #[command(subcommand)]
        verb: ImageVerb,
    },
    /// Print completions for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page.
    Man,
}

/// What chaos is asked for.
#[derive(Args, Clone, Debug)]
pub struct ChaosWords {
    /// The same seed gives the same rounds of faults; a random one when left out.
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// For how long new rounds are begun, e.g. 30s or 2m.
    #[arg(long = "for", value_name = "TIME", default_value = "1m", value_parser = length)]
    pub length: Duration,
    /// Only these kinds of faults, separated by commas.
    #[arg(long, value_name = "KINDS", value_delimiter = ',', value_parser = kinds())]
    pub faults: Vec<&'static Kind>,
    /// After the heal everything must stream within this, and within twice that where a node had to be rebuilt; more than
    /// the default for a machine that is busy with other things.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = length)]
    pub within: Duration,
    /// Print the journal of each round, too.
    #[arg(long)]
    pub journal: bool,
    /// How many standbys (1 to 16).
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=16))]
    pub standbys: u32,
    /// Write a report when it is over, .json, .xml (JUnit), .md or .html; may be given several times.
    #[arg(long = "report", value_name = "FILE", value_parser = report::file)]
    pub reports: Vec<PathBuf>,
    /// Where the commands of a run that failed go, as a scenario; ./chaos-SEED.toml when left out.
    #[arg(long, value_name = "FILE.toml")]
    pub write: Option<PathBuf>,
}

/// What of a recording is wanted, and in which form.
#[derive(Args, Clone, Debug)]
#[command(group = clap::ArgGroup::new("form").required(true).multiple(true).args(["cast", "svg", "scenario"]))]
pub struct ExportWords {
    /// The file, or the number or name of a lesson whose recording is shipped; the lab that was recorded last, when left out.
    pub recording: Option<String>,
    /// As a film for asciinema (asciicast v3); beside the recording when no file is named, - for standard output.
    #[arg(long, value_name = "OUT.cast", num_args = 0..=1)]
    pub cast: Option<Option<PathBuf>>,
    /// The screen at this moment as SVG, e.g. 12.5s or 1m3s; may be given several times.
    #[arg(long, value_name = "AT", value_parser = moment)]
    pub svg: Vec<Stamp>,
    /// What was done by hand, as a scenario that plays.
    #[arg(long, value_name = "OUT.toml", num_args = 0..=1)]
    pub scenario: Option<Option<PathBuf>>,
    /// Where the SVG goes, where one is asked for.
    #[arg(long, short, value_name = "OUT.svg", requires = "svg")]
    pub out: Option<PathBuf>,
    /// Columns and rows of the screen.
    #[arg(long, value_name = "COLSxROWS", default_value = "100x30", value_parser = columns_and_rows)]
    pub size: (u16, u16),
}

/// What to do with images.
#[derive(Clone, Debug, Subcommand)]
pub enum ImageVerb {
    /// Build one from Debian's packages, where nothing can be pulled (--postgres 17, 18 or 19).
    Build,
    /// List those that are here.
    List,
}

fn setting(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("a setting is NAME=VALUE")?;
    let shape = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.".contains(&b));
    if shape {
        Ok((name.to_ascii_lowercase(), value.to_owned()))
    } else {
        Err(format!("`{name}` is not the name of a setting"))
    }
}

fn length(text: &str) -> Result<Duration, String> {
    let parsed = text.parse::<jiff::SignedDuration>().ok().and_then(|d| Duration::try_from(d).ok());
    parsed
        .filter(|d| (Duration::from_secs(1)..=Duration::from_hours(24)).contains(d))
        .ok_or_else(|| "a time from 1s to 24h, for example 30s or 2m".to_owned())
}

/// A moment of a recording.
fn moment(text: &str) -> Result<Stamp, String> {
    let parsed = text.parse::<jiff::SignedDuration>().ok().and_then(|d| u64::try_from(d.as_micros()).ok());
    parsed.map(Stamp).ok_or_else(|| "a moment since the lab began, for example 12.5s or 1m3s".to_owned())
}

fn columns_and_rows(text: &str) -> Result<(u16, u16), String> {
    let parsed = text.split_once('x').and_then(|(columns, rows)| Some((columns.parse().ok()?, rows.parse().ok()?)));
    parsed
        .filter(|(columns, rows)| (50..=500).contains(columns) && (12..=200).contains(rows))
        .ok_or_else(|| "columns and rows from 50x12 to 500x200, for example 100x30".to_owned())
}

fn kinds() -> impl TypedValueParser<Value = &'static Kind> {
    let all = KINDS.iter().map(|k| PossibleValue::new(k.name).help(k.help));
    PossibleValuesParser::new(all).try_map(|name| Kind::named(&name).ok_or("there is no such kind of fault"))
}

fn size(text: &str) -> Result<u64, String> {
    crate::model::condition::size(text).map_err(|e| format!("{e}, for example 2GB, or 0"))
}

/// The definition, for completions and the manual page.
pub fn definition() -> clap::Command {
    Cli::command()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        definition().debug_assert();
    }

    #[test]
    fn settings_are_checked() {
        assert_eq!(setting("Work_Mem=8MB"), Ok(("work_mem".into(), "8MB".into())));
        assert!(setting("work_mem").is_err() && setting("a b=1").is_err());
    }

    #[test]
    fn the_theme_is_the_terminals_unless_one_is_asked_for() {
        let shade = |words: &[&str], auto| {
            let cli = Cli::try_parse_from([&["replab", "list"][..], words].concat());
            cli.map(|cli| cli.common.theme.shade(auto)).ok()
        };
        for auto in [Shade::Dark, Shade::Light] {
            assert_eq!((shade(&[], auto), shade(&["--theme", "auto"], auto)), (Some(auto), Some(auto)));
            assert_eq!(shade(&["--theme", "dark"], auto), Some(Shade::Dark));
            assert_eq!(shade(&["--theme", "light"], auto), Some(Shade::Light));
        }
        assert_eq!(shade(&["--theme", "pink"], Shade::Dark), None);
    }

    #[test]
    fn what_chaos_is_asked_for_is_checked() {
        assert_eq!((length("2m"), length("90s")), (Ok(Duration::from_mins(2)), Ok(Duration::from_secs(90))));
        for text in ["", "2", "0s", "-1m", "25h"] {
            assert!(length(text).is_err(), "{text}");
        }
        let faults = |words: &str| match Cli::try_parse_from(["replab", "chaos", "--faults", words]).map(|c| c.verb) {
            Ok(Some(Verb::Chaos(chaos))) => chaos.faults.iter().map(|k| k.name).collect(),
            _ => vec!["refused"],
        };
        assert_eq!((faults("kill,cut"), faults("kill,fire")), (vec!["kill", "cut"], vec!["refused"]));
    }

    #[test]
    fn sizes_are_checked() {
        assert_eq!((size("2GB"), size("0"), size("1.5 MB")), (Ok(2 << 30), Ok(0), Ok(3 << 19)));
        for text in ["", "2", "-1GB", "2s", "GB"] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}

//! The one vocabulary: everything a person, a script or a scenario can ask of the lab, and its one spelling table.
//!
//! `kill p` reads the same in a scenario, at the `:` prompt, on the command line, in the journal and on the screen.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

mod parse;

use super::detector::AutoFailover;
use super::links::{Harm, Which};
use super::{NodeName, sync_rule::SyncRule};
use parse::{
    add, auto_failover, bare, filled, follow, heal, links, node, number, rate, rejoin, replay, set, slow, sql, throttle,
};

/// The values of `synchronous_commit` (manual 19.5.1), weakest first.
pub const COMMIT_LEVELS: [&str; 5] = ["off", "local", "remote_write", "on", "remote_apply"];

/// How fast the writer tries to be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Rate {
    /// So many writes a second, over all clients.
    PerSecond(u32),
    /// As fast as commits return.
    Max,
}

/// How a node that has left the cluster's history comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Way {
    /// By pg_rewind, and not otherwise.
    Rewind,
    /// By a fresh base backup.
    Rebuild,
}

/// An act. What it does is in `Spelling::help` of the table below.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "each variant's meaning is the help text of its row in SPELLINGS")]
pub enum Command {
    Sync(SyncRule),
    Commit(String),
    Set { name: String, value: String, node: Option<NodeName> },
    Clients(u32),
    Rate(Rate),
    Pause,
    Resume,
    Write(u32),
    Target(Option<NodeName>),
    Cancel,
    Terminate,
    Kill(NodeName),
    Stop(NodeName),
    Start(NodeName),
    Freeze(NodeName),
    Thaw(NodeName),
    Promote(NodeName),
    Follow { standby: NodeName, upstream: NodeName },
    FollowAll(NodeName),
    Switchover(NodeName),
    Failover { allow_loss: bool },
    AutoFailover(Option<AutoFailover>),
    Fence(NodeName),
    Rejoin { node: NodeName, way: Option<Way> },
    Add { name: NodeName, from: Option<NodeName> },
    AddFresh(NodeName),
    Remove(NodeName),
    Raise(NodeName),
    PauseReplay(NodeName),
    ResumeReplay(NodeName),
    Link(Harm, Which),
    Heal(Option<Which>),
    Heartbeat(bool),
    Verify,
    Reset,
    Sql { node: NodeName, session: Option<NodeName>, text: String },
}

/// One row of the vocabulary.
#[derive(Debug)]
pub struct Spelling {
    /// The first word.
    pub verb: &'static str,
    /// What follows it, for a person.
    pub usage: &'static str,
    /// What it does, in one sentence.
    pub help: &'static str,
    parse: fn(&str) -> Option<Command>,
}

macro_rules! spellings {
    ($($verb:literal $usage:literal => $help:literal, $parse:expr;)*) => {
        /// The vocabulary: parsing, help, completion, README and docs all come from here.
        pub const SPELLINGS: &[Spelling] = &[$(Spelling { verb: $verb, usage: $usage, help: $help, parse: $parse }),*];
    };
}

spellings! {
    "sync" "off | first N (s1, s2) | any N (s1, s2)" => "set synchronous_standby_names on the primary and reload", |a| Some(Command::Sync(filled(a)?.parse().ok()?));
    "commit" "off | local | remote_write | on | remote_apply" => "set synchronous_commit of the writer", |a| COMMIT_LEVELS.contains(&a).then(|| Command::Commit(a.to_owned()));
    "set" "NAME VALUE [on NODE]" => "change a setting that a reload can change, on one node or on all", set;
    "clients" "N" => "so many clients write (0 to 64)", |a| Some(Command::Clients(number(a, 64)?));
    "rate" "N | max" => "so many writes a second over all clients, or flat out", rate;
    "pause" "" => "the writer stops after the writes it has under way", |a| bare(a, Command::Pause);
    "resume" "" => "the writer goes on", |a| bare(a, Command::Resume);
    "write" "[N]" => "one write now, or a burst of N", |a| Some(Command::Write(if a.is_empty() { 1 } else { number(a, 1_000_000).filter(|n| *n > 0)? }));
    "target" "primary | NODE" => "the writer follows the primary, or stays on one node", |a| Some(Command::Target(if a == "primary" { None } else { Some(node(a)?) }));
    "cancel" "" => "cancel the commits that wait for a standby (they stay committed on the primary)", |a| bare(a, Command::Cancel);
    "terminate" "" => "end the sessions whose commits wait for a standby", |a| bare(a, Command::Terminate);
    "kill" "NODE" => "SIGKILL everything of a node, as a crash would", |a| Some(Command::Kill(node(a)?));
    "stop" "NODE" => "shut a node down cleanly (fast)", |a| Some(Command::Stop(node(a)?));
    "start" "NODE" => "start a node that is down", |a| Some(Command::Start(node(a)?));
    "freeze" "NODE" => "freeze every process of a node: connected, but silent", |a| Some(Command::Freeze(node(a)?));
    "thaw" "NODE" => "let a frozen node go on", |a| Some(Command::Thaw(node(a)?));
    "promote" "NODE" => "make a standby a primary (plain PostgreSQL: the rule doesn't move with it)", |a| Some(Command::Promote(node(a)?));
    "follow" "STANDBY NODE | all NODE" => "repoint a standby to another upstream, or every node that can", follow;
    "switchover" "NODE" => "hand the primary's part over to a standby, planned: nothing is lost, the rule moves along", |a| Some(Command::Switchover(node(a)?));
    "failover" "[allow-loss]" => "replace a primary that is gone by the most advanced of enough standbys; allow-loss: of those that answer", |a| match a { "" => Some(Command::Failover { allow_loss: false }), "allow-loss" => Some(Command::Failover { allow_loss: true }), _ => None };
    "auto-failover" "on [timeout 3s] [no-fence] [allow-loss] | off" => "watch the primary, and fail over when it is gone (timeout from 100ms)", auto_failover;
    "fence" "NODE" => "of two primaries, end this one (SIGKILL)", |a| Some(Command::Fence(node(a)?));
    "rejoin" "NODE [rewind | rebuild]" => "bring a node back as a standby: what only it has is counted, then pg_rewind, else pg_basebackup", rejoin;
    "add" "NAME [from NODE] | NAME fresh" => "a new standby by pg_basebackup, or a separately initialised server", add;
    "remove" "NODE" => "take a node away with all its data", |a| Some(Command::Remove(node(a)?));
    "raise" "NODE" => "raise the settings of a standby that must not be lower than its primary's (max_connections and four more), and restart it", |a| Some(Command::Raise(node(a)?));
    "replay" "pause NODE | resume NODE" => "pause or resume replay on a standby (it goes on receiving)", replay;
    "cut" "A B | A -> B | 'A... | B...'" => "cut links silently: both ways, one way, or between two groups; an end is a node or client", |a| links(Harm::Cut, a);
    "isolate" "A" => "cut every link of a node, its clients' too", |a| Some(Command::Link(Harm::Cut, Which::Of(a.parse().ok()?)));
    "refuse" "A B | A -> B" => "refuse connections: open ones are reset, new ones as they come", |a| links(Harm::Refuse, a);
    "slow" "A B TIME [±TIME] | A -> B TIME [±TIME]" => "delay every byte so much each way, give or take the jitter (80ms ±10ms)", slow;
    "throttle" "A B RATE | A -> B RATE" => "let so many bytes a second through, each way (1MB/s)", throttle;
    "heal" "[A | A B | A -> B]" => "undo the faults of a node's links, of one link, or every fault there is", heal;
    "heartbeat" "on | off" => "the lab's small write every 100 ms that keeps standbys answering", |a| Some(Command::Heartbeat(match a { "on" => true, "off" => false, _ => return None }));
    "verify" "" => "read every node and judge the books: what is lost, what is stranded", |a| bare(a, Command::Verify);
    "reset" "" => "bring the lab back to its first state", |a| bare(a, Command::Reset);
    "sql" "NODE TEXT | NODE:SESSION TEXT" => "run SQL on a node; in a session of that name, which is kept", sql;
}

/// The text is not a command; says what was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadCommand {
    /// Nothing was typed.
    #[error("type a command, for example `freeze s1`")]
    Empty,
    /// No such verb; perhaps another was meant.
    #[error("there is no command `{verb}`{}", .near.map(|n| format!("; did you mean `{n}`?")).unwrap_or_default())]
    Verb {
        /// What was typed.
        verb: String,
        /// The nearest verb of the table, if one is near.
        near: Option<&'static str>,
    },
    /// The verb is right, the rest isn't.
    #[error("usage: {verb} {usage} ({help})")]
    Usage {
        /// The verb.
        verb: &'static str,
        /// What it takes.
        usage: &'static str,
        /// What it does, with the limits.
        help: &'static str,
    },
}

impl Command {
    /// Whether a text begins with a word of the table: without looking for what may have been meant.
    pub fn is_verb_of(text: &str) -> bool {
        let verb = text.split_whitespace().next();
        SPELLINGS.iter().any(|s| Some(s.verb) == verb)
    }
}

impl FromStr for Command {
    type Err = BadCommand;

    fn from_str(text: &str) -> Result<Self, BadCommand> {
        let text = text.trim();
        let (verb, args) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        if verb.is_empty() {
            return Err(BadCommand::Empty);
        }
        match SPELLINGS.iter().find(|s| s.verb == verb) {
            Some(s) => (s.parse)(args.trim()).ok_or(BadCommand::Usage { verb: s.verb, usage: s.usage, help: s.help }),
            None => Err(BadCommand::Verb {
                verb: verb.chars().take(20).collect(),
                near: nearest(verb, SPELLINGS.iter().map(|s| s.verb)),
            }),
        }
    }
}

/// The word of `among` nearest to `word`, when it is near enough to be a slip of the finger.
pub fn nearest<'a>(word: &str, among: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let word: String = word.chars().take(40).collect();
    among.map(|w| (distance(&word, w), w)).min().filter(|(d, w)| *d <= 1 + w.len() / 4).map(|(_, w)| w)
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut corner = std::mem::replace(&mut row[0], i + 1);
        for (j, cb) in b.iter().enumerate() {
            let cost = corner + usize::from(ca != *cb);
            corner = row[j + 1];
            row[j + 1] = cost.min(row[j] + 1).min(corner + 1);
        }
    }
    row[b.len()]
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sync(rule) => write!(f, "sync {rule}"),
            Self::Commit(level) => write!(f, "commit {level}"),
            Self::Set { name, value, node: Some(node) } => write!(f, "set {name} '{value}' on {node}"),
            Self::Set { name, value, node: None } => write!(f, "set {name} '{value}'"),
            Self::Clients(n) => write!(f, "clients {n}"),
            Self::Rate(Rate::Max) => write!(f, "rate max"),
            Self::Rate(Rate::PerSecond(n)) => write!(f, "rate {n}"),
            Self::Pause => write!(f, "pause"),
            Self::Resume => write!(f, "resume"),
            Self::Write(1) => write!(f, "write"),
            Self::Write(n) => write!(f, "write {n}"),
            Self::Target(None) => write!(f, "target primary"),
            Self::Target(Some(n)) => write!(f, "target {n}"),
            Self::Cancel => write!(f, "cancel"),
            Self::Terminate => write!(f, "terminate"),
            Self::Kill(n) => write!(f, "kill {n}"),
            Self::Stop(n) => write!(f, "stop {n}"),
            Self::Start(n) => write!(f, "start {n}"),
            Self::Freeze(n) => write!(f, "freeze {n}"),
            Self::Thaw(n) => write!(f, "thaw {n}"),
            Self::Promote(n) => write!(f, "promote {n}"),
            Self::Follow { standby, upstream } => write!(f, "follow {standby} {upstream}"),
            Self::FollowAll(n) => write!(f, "follow all {n}"),
            Self::Switchover(n) => write!(f, "switchover {n}"),
            Self::Failover { allow_loss } => write!(f, "failover{}", if *allow_loss { " allow-loss" } else { "" }),
            Self::AutoFailover(None) => write!(f, "auto-failover off"),
            Self::AutoFailover(Some(auto)) => write!(f, "auto-failover on {auto}"),
            Self::Fence(n) => write!(f, "fence {n}"),
            Self::Rejoin { node, way: None } => write!(f, "rejoin {node}"),
            Self::Rejoin { node, way: Some(Way::Rewind) } => write!(f, "rejoin {node} rewind"),
            Self::Rejoin { node, way: Some(Way::Rebuild) } => write!(f, "rejoin {node} rebuild"),
            Self::Add { name, from: None } => write!(f, "add {name}"),
            Self::Add { name, from: Some(from) } => write!(f, "add {name} from {from}"),
            Self::AddFresh(n) => write!(f, "add {n} fresh"),
            Self::Remove(n) => write!(f, "remove {n}"),
            Self::Raise(n) => write!(f, "raise {n}"),
            Self::PauseReplay(n) => write!(f, "replay pause {n}"),
            Self::ResumeReplay(n) => write!(f, "replay resume {n}"),
            Self::Link(Harm::Cut, Which::Of(end)) => write!(f, "isolate {end}"),
            Self::Link(harm @ (Harm::Cut | Harm::Refuse), which) => write!(f, "{} {which}", harm.verb()),
            Self::Link(harm, which) => write!(f, "{} {which} {}", harm.verb(), harm.amount()),
            Self::Heal(None) => write!(f, "heal"),
            Self::Heal(Some(which)) => write!(f, "heal {which}"),
            Self::Heartbeat(on) => write!(f, "heartbeat {}", if *on { "on" } else { "off" }),
            Self::Verify => write!(f, "verify"),
            Self::Reset => write!(f, "reset"),
            Self::Sql { node, session: None, text } => write!(f, "sql {node} {text}"),
            Self::Sql { node, session: Some(session), text } => write!(f, "sql {node}:{session} {text}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// One example of every row; a verb without one fails the test below.
    const EXAMPLES: &[&str] = &[
        "sync off",
        "sync first 1 (s1, s2)",
        "sync any 2 (s1, s2, s3)",
        "commit remote_apply",
        "set work_mem '8MB'",
        "set wal_sender_timeout '5s' on p",
        "clients 8",
        "rate 100",
        "rate max",
        "pause",
        "resume",
        "write",
        "write 50",
        "target primary",
        "target s1",
        "cancel",
        "terminate",
        "kill p",
        "stop s1",
        "start s1",
        "freeze s1",
        "thaw s1",
        "promote s1",
        "follow s2 s1",
        "follow all s1",
        "switchover s1",
        "failover",
        "failover allow-loss",
        "auto-failover on timeout 3s",
        "auto-failover on timeout 500ms no-fence allow-loss",
        "auto-failover off",
        "fence p",
        "rejoin p",
        "rejoin p rewind",
        "rejoin p rebuild",
        "add s3",
        "add s3 from s1",
        "add x fresh",
        "remove s3",
        "raise s1",
        "replay pause s1",
        "replay resume s1",
        "cut p s1",
        "cut client p",
        "cut p -> s1",
        "cut p | s1 s2",
        "isolate s1",
        "isolate client",
        "refuse s1 -> p",
        "slow p s1 80ms",
        "slow p | s1 client 80ms ±10ms",
        "throttle p -> s1 1MB/s",
        "heal",
        "heal s1",
        "heal p s1",
        "heal p -> s1",
        "heartbeat on",
        "heartbeat off",
        "verify",
        "reset",
        "sql p SELECT 1 ;  -- and so on",
        "sql p:a BEGIN",
    ];

    #[test]
    fn every_spelling_reads_back_as_it_is_written() {
        for text in EXAMPLES {
            assert_eq!(text.parse::<Command>().map(|c| c.to_string()).as_deref(), Ok(*text));
        }
        for row in SPELLINGS {
            assert!(EXAMPLES.iter().any(|e| e.split(' ').next() == Some(row.verb)), "no example of {}", row.verb);
        }
    }

    #[test]
    fn slips_are_answered() {
        assert_eq!(
            "frezze s1".parse::<Command>().unwrap_err().to_string(),
            "there is no command `frezze`; did you mean `freeze`?"
        );
        assert_eq!(
            "kill".parse::<Command>().unwrap_err().to_string(),
            "usage: kill NODE (SIGKILL everything of a node, as a crash would)"
        );
        assert_eq!("xyzzy".parse::<Command>().unwrap_err().to_string(), "there is no command `xyzzy`");
        assert_eq!("  ".parse::<Command>(), Err(BadCommand::Empty));
        for text in [
            "clients 65",
            "rate 0",
            "write 0",
            "sync",
            "kill P",
            "cut p",
            "cut p s1 80ms",
            "isolate p s1",
            "slow p s1",
            "slow p 80ms",
            "slow p s1 80ms ±90ms",
            "throttle p s1 fast",
            "heal P",
            "add s3 from",
            "commit sometimes",
            "verify now",
            "follow all",
            "failover now",
            "auto-failover",
            "auto-failover off now",
            "auto-failover on timeout 5",
            "auto-failover on timeout 1ms",
            "rejoin p quickly",
            "sql p:A BEGIN",
            "sql p: BEGIN",
        ] {
            assert!(matches!(text.parse::<Command>(), Err(BadCommand::Usage { .. })), "{text}");
        }
    }

    proptest! {
        #[test]
        fn anything_may_be_typed(text in ".{0,200}") {
            if let Ok(command) = text.parse::<Command>() {
                prop_assert_eq!(command.to_string().parse::<Command>(), Ok(command));
            }
        }
    }
}

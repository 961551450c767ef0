//! What could follow at the command prompt: verbs, then node names, words and settings, from the one spelling table.

use crate::model::Model;
use crate::model::command::{COMMIT_LEVELS, Command, SPELLINGS, Spelling};

/// Settings worth changing in a lab, with what each is.
const SETTINGS: &[(&str, &str)] = &[
    ("wal_sender_timeout", "how long a primary waits for a silent standby (default 60 s)"),
    ("wal_receiver_timeout", "how long a standby waits for a silent upstream (default 60 s)"),
    ("wal_receiver_status_interval", "how often a standby reports (default 10 s)"),
    ("recovery_min_apply_delay", "replay so much later, on a standby"),
    ("hot_standby_feedback", "tell the primary what queries on the standby still need"),
    ("max_standby_streaming_delay", "how long replay waits for queries on the standby"),
    ("max_slot_wal_keep_size", "how much WAL a slot may hold back"),
    ("wal_keep_size", "how much WAL is kept in any case"),
    ("log_replication_commands", "log what walsenders are asked"),
];

/// One continuation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Completion {
    /// The whole line with it.
    pub text: String,
    /// What it is.
    pub help: String,
}

/// What could follow; the best first.
pub(crate) fn completions(model: &Model, typed: &str) -> Vec<Completion> {
    let typed = typed.trim_start();
    let Some((verb, args)) = typed.split_once(' ') else { return verbs(typed) };
    let Some(spelling) = SPELLINGS.iter().find(|s| s.verb == verb) else { return Vec::new() };
    let (before, word) = args.rsplit_once(' ').map_or(("", args), |(b, w)| (b, w));
    let head = if before.is_empty() { format!("{verb} ") } else { format!("{verb} {before} ") };
    let found = match verb {
        "sync" => rules(model, args),
        _ => words(model, spelling, before.split_whitespace().count(), word)
            .into_iter()
            .map(|(w, help)| Completion { text: format!("{head}{w}"), help })
            .collect(),
    };
    if found.is_empty() && typed.parse::<Command>().is_err() {
        return vec![Completion { text: typed.to_owned(), help: format!("{verb} {}", spelling.usage) }];
    }
    found
}

fn verbs(typed: &str) -> Vec<Completion> {
    let offer = |s: &Spelling| Completion {
        text: if s.usage.is_empty() { s.verb.to_owned() } else { format!("{} ", s.verb) },
        help: if s.usage.is_empty() { s.help.to_owned() } else { format!("{}: {}", s.usage, s.help) },
    };
    let mut found: Vec<Completion> = SPELLINGS.iter().filter(|s| s.verb.starts_with(typed)).map(offer).collect();
    if !typed.is_empty() {
        let inside = |s: &&Spelling| !s.verb.starts_with(typed) && (s.verb.contains(typed) || s.help.contains(typed));
        found.extend(SPELLINGS.iter().filter(inside).map(offer));
    }
    found
}

/// Whole rules with the standbys there are.
fn rules(model: &Model, typed: &str) -> Vec<Completion> {
    let follows = model.nodes.iter().filter(|n| n.upstream.is_some() && n.upstream == model.primary);
    let names: Vec<&str> = follows.map(|n| n.name.as_str()).collect();
    let list = names.join(", ");
    let mut rules = vec![("off".to_owned(), "asynchronous: wait for nobody")];
    for k in 1..=names.len() {
        rules.push((format!("first {k} ({list})"), "the first connected ones of the list"));
    }
    for k in 1..=names.len() {
        rules.push((format!("any {k} ({list})"), "any of the list"));
    }
    let fits = rules.into_iter().filter(|(rule, _)| rule.starts_with(&typed.to_lowercase()));
    fits.map(|(rule, help)| Completion { text: format!("sync {rule}"), help: help.to_owned() }).collect()
}

/// Words that fit the `at`-th argument.
fn words(model: &Model, spelling: &Spelling, at: usize, typed: &str) -> Vec<(String, String)> {
    let fixed: &[&str] = match (spelling.verb, at) {
        ("commit", 0) => &COMMIT_LEVELS,
        ("rate", 0) => &["10", "100", "1000", "max"],
        ("clients", 0) => &["1", "4", "8", "16", "64"],
        ("write", 0) => &["10", "100", "1000"],
        ("heartbeat" | "auto-failover", 0) => &["on", "off"],
        ("replay", 0) => &["pause", "resume"],
        ("target", 0) => &["primary"],
        ("add", 1) => &["from", "fresh"],
        ("cut" | "refuse" | "heal", 1) => &["->", "|"],
        ("slow" | "throttle", 1) => &["->"],
        ("slow", 2..4) => &["20ms", "80ms", "80ms ±10ms", "500ms"],
        ("throttle", 2..4) => &["100kB/s", "1MB/s"],
        ("follow", 0) => &["all"],
        ("failover", 0) => &["allow-loss"],
        ("auto-failover", 1..) => &["timeout", "no-fence", "allow-loss"],
        ("rejoin", 1) => &["rewind", "rebuild"],
        _ => &[],
    };
    let mut found: Vec<(String, String)> = fixed.iter().map(|w| ((*w).to_owned(), String::new())).collect();
    if spelling.verb == "set" && at == 0 {
        found.extend(SETTINGS.iter().map(|(name, help)| ((*name).to_owned(), (*help).to_owned())));
    }
    if takes_node(spelling.verb, at) {
        found.extend(model.nodes.iter().map(|n| (n.name.to_string(), role(model, n).to_owned())));
    }
    if ["cut", "refuse", "slow", "throttle", "heal", "isolate"].contains(&spelling.verb) && at < 4 {
        found.push(("client".to_owned(), "where the writer is".to_owned()));
    }
    found.retain(|(word, _)| word.starts_with(typed) && word != typed);
    found
}

fn role(model: &Model, node: &crate::model::Node) -> &'static str {
    if Some(&node.name) == model.primary.as_ref() { "primary" } else { "standby" }
}

fn takes_node(verb: &str, at: usize) -> bool {
    match verb {
        "kill" | "stop" | "start" | "freeze" | "thaw" | "promote" | "remove" | "sql" | "target" | "switchover"
        | "fence" | "rejoin" => at == 0,
        "follow" => at < 2,
        "cut" | "refuse" | "slow" | "throttle" | "heal" => at < 4,
        "isolate" => at < 1,
        "replay" => at == 1,
        "add" => at == 2,
        "set" => at >= 3,
        _ => false,
    }
}

//! The synchronous rule: `synchronous_standby_names` as a value, and what it means in plain words.
//!
//! PostgreSQL manual, section 19.6.2 (`synchronous_standby_names`) and 26.2.8 "Synchronous Replication".
//! Knows nothing of who is connected; `words` is told.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Which standbys a commit waits for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SyncRule {
    /// Nobody: asynchronous.
    #[default]
    Off,
    /// The first `k` connected ones of the list, in its order.
    First(u32, Vec<String>),
    /// Any `k` of the list.
    Any(u32, Vec<String>),
}

/// The text is not a rule the lab understands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a synchronous rule: use off, first N (s1, s2) or any N (s1, s2)")]
pub struct BadRule(String);

impl SyncRule {
    /// How many answers a commit needs (0 when off).
    pub fn needed(&self) -> u32 {
        match self {
            Self::Off => 0,
            Self::First(k, _) | Self::Any(k, _) => *k,
        }
    }

    /// The listed names, in order.
    pub fn names(&self) -> &[String] {
        match self {
            Self::Off => &[],
            Self::First(_, names) | Self::Any(_, names) => names,
        }
    }

    /// Whether commits wait for anybody.
    pub fn is_on(&self) -> bool {
        *self != Self::Off
    }

    /// Whether a standby of this application_name counts (names compare without case; `*` matches all).
    pub fn lists(&self, name: &str) -> bool {
        self.names().iter().any(|n| n == "*" || n.eq_ignore_ascii_case(name))
    }

    /// The same rule without one name; `Off` when nobody is left, and never asking for more than are left.
    #[must_use]
    pub fn without(&self, name: &str) -> Self {
        let rest: Vec<String> = self.names().iter().filter(|n| !n.eq_ignore_ascii_case(name)).cloned().collect();
        let k = self.needed().min(rest.len() as u32);
        match self {
            _ if rest.is_empty() => Self::Off,
            Self::Off => Self::Off,
            Self::First(..) => Self::First(k, rest),
            Self::Any(..) => Self::Any(k, rest),
        }
    }

    /// The rule as it works on one server: none is a standby of its own, so its own name stands for nobody. How many it asks for
    /// stays.
    #[must_use]
    pub fn on(&self, server: &str) -> Self {
        let others = |names: &[String]| names.iter().filter(|n| !n.eq_ignore_ascii_case(server)).cloned().collect();
        match self {
            Self::Off => Self::Off,
            Self::First(k, names) => Self::First(*k, others(names)),
            Self::Any(k, names) => Self::Any(*k, others(names)),
        }
    }

    /// The value for `synchronous_standby_names`.
    pub fn setting(&self) -> String {
        let (word, k, names) = match self {
            Self::Off => return String::new(),
            Self::First(k, names) => ("FIRST", k, names),
            Self::Any(k, names) => ("ANY", k, names),
        };
        format!("{word} {k} ({})", names.iter().map(|n| quoted(n)).collect::<Vec<_>>().join(", "))
    }

    /// Reads what `SHOW synchronous_standby_names` printed; None where it holds something the lab doesn't understand.
    pub fn from_setting(text: &str) -> Option<Self> {
        if text.trim().is_empty() { Some(Self::Off) } else { text.parse().ok() }
    }
}

fn quoted(name: &str) -> String {
    let plain = name == "*"
        || (name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'));
    if plain && !["first", "any"].contains(&name.to_ascii_lowercase().as_str()) {
        name.to_owned()
    } else {
        format!("\"{}\"", name.replace('"', "\"\""))
    }
}

impl fmt::Display for SyncRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            _ => f.write_str(&self.setting().replacen("FIRST", "first", 1).replacen("ANY", "any", 1)),
        }
    }
}

impl FromStr for SyncRule {
    type Err = BadRule;

    /// Accepts PostgreSQL's three forms (`FIRST n (…)`, `ANY n (…)`, `n (…)`, and a bare list) and `off`.
    fn from_str(text: &str) -> Result<Self, BadRule> {
        let bad = || BadRule(text.chars().take(80).collect());
        let trimmed = text.trim();
        if ["off", "none", ""].contains(&trimmed.to_ascii_lowercase().as_str()) {
            return Ok(Self::Off);
        }
        let Some((head, rest)) = trimmed.split_once('(') else {
            return Ok(Self::First(1, names(trimmed).ok_or_else(bad)?));
        };
        let list = names(rest.trim_end().strip_suffix(')').ok_or_else(bad)?).ok_or_else(bad)?;
        let words: Vec<String> = head.split_whitespace().map(str::to_ascii_lowercase).collect();
        let (any, count) = match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["first", k] | [k] => (false, k.to_owned()),
            ["any", k] => (true, k.to_owned()),
            _ => return Err(bad()),
        };
        let k: u32 = count.parse().ok().filter(|k| (1..=1000).contains(k)).ok_or_else(bad)?;
        Ok(if any { Self::Any(k, list) } else { Self::First(k, list) })
    }
}

/// Splits a list of names at commas; double quotes hold a name together. None when a name is empty or malformed.
fn names(text: &str) -> Option<Vec<String>> {
    let mut list = Vec::new();
    for part in text.split(',') {
        let part = part.trim();
        let name = match part.strip_prefix('"') {
            Some(rest) => rest.strip_suffix('"')?.replace("\"\"", "\""),
            None if part.chars().all(|c| c.is_alphanumeric() || "_*".contains(c)) => part.to_owned(),
            None => return None,
        };
        if name.is_empty() || name.chars().any(char::is_control) || name.len() > 63 {
            return None;
        }
        list.push(name);
    }
    Some(list)
}

/// How one standby stands towards the primary, for `words`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Streams and answers.
    Well,
    /// Still connected as far as the primary knows, but it doesn't answer (frozen or cut).
    Silent,
    /// Streams and answers, but its replay is paused, and commits wait for replay.
    Paused,
    /// Connected, but still catching up: PostgreSQL doesn't count on it yet.
    Behind,
    /// Not connected.
    Away,
}

/// What a commit at `level` waits for under this rule now, as sentences for a learner. `standing` tells of each
/// listed name; None means that no standby of that name exists. `everybody` is whom `*` may match.
pub fn words(rule: &SyncRule, level: &str, everybody: &[&str], standing: impl Fn(&str) -> Option<Standing>) -> String {
    if ["off", "local"].contains(&level) {
        let tail = if rule.is_on() { " The rule doesn't matter to them." } else { "" };
        let before = if level == "off" { "before anything is on disk" } else { "when the primary has flushed it" };
        return format!("synchronous_commit = {level}: a commit returns {before}; it waits for no standby.{tail}");
    }
    let follows = |n: &&str| standing(n).is_some_and(|s| s != Standing::Away);
    if !rule.is_on() && !everybody.iter().any(follows) {
        return "A commit returns when the primary has flushed it. No standby is connected: what is written now is on the \
                primary alone."
            .to_owned();
    }
    if !rule.is_on() {
        return "A commit returns when the primary has flushed it. Standbys follow later. If the primary dies, what they \
                lack is lost."
            .to_owned();
    }
    let done = match level {
        "remote_write" => "written",
        "remote_apply" => "replayed",
        _ => "flushed",
    };
    let strangers: Vec<&str> =
        rule.names().iter().map(String::as_str).filter(|n| *n != "*" && standing(n).is_none()).collect();
    let star = rule.names().iter().any(|n| n == "*");
    let all = matched(rule.names(), everybody, &standing);
    let mut text = match rule {
        SyncRule::Any(k, _) => any_words(*k, &all, done, star, &standing),
        SyncRule::First(k, _) if star => first_of_anybody(*k, &all, done, &standing),
        SyncRule::First(k, _) => first_words(*k, &all, done, &standing),
        SyncRule::Off => String::new(),
    };
    for name in all.iter().filter(|n| standing(n) == Some(Standing::Behind)) {
        text.push_str(&format!(" {name} is still catching up and doesn't count until it streams."));
    }
    if !strangers.is_empty() {
        text.push_str(&format!(" No standby is called {}.", strangers.join(" or ")));
    }
    text
}

type Stand<'a> = &'a dyn Fn(&str) -> Option<Standing>;

fn connected<'a>(names: &'a [String], standing: Stand<'_>) -> Vec<(&'a str, Standing)> {
    let counts = |s: &Standing| ![Standing::Away, Standing::Behind].contains(s);
    let there = |n: &'a String| standing(n).filter(counts).map(|s| (n.as_str(), s));
    names.iter().filter_map(there).collect()
}

/// `listed`: how many the rule can ever find; None where `*` may find any number.
fn nobody(k: u32, here: usize, listed: Option<usize>) -> String {
    match listed.filter(|listed| (k as usize) > *listed) {
        Some(listed) => {
            let standbys = if k == 1 { "standby" } else { "standbys" };
            let lists = if listed == 0 { "none".to_owned() } else { format!("only {listed}") };
            format!("The rule asks for {k} {standbys} but lists {lists}: no commit can ever return.")
        }
        None => {
            format!("{}: commits wait.", only(here, k, "stream"))
        }
    }
}

/// How many of those that must do something do it; `verb` as many would.
fn only(here: usize, k: u32, verb: &str) -> String {
    match here {
        0 => format!("No required standby {verb}s"),
        1 => format!("Only 1 of the {k} required standbys {verb}s"),
        _ => format!("Only {here} of the {k} required standbys {verb}"),
    }
}

fn have(k: u32) -> &'static str {
    if k == 1 { "has" } else { "have" }
}

/// What holds commits up, or may, of those that count; `wait` says whether it does.
fn held_up(counting: &[(&str, Standing)], wait: &str) -> String {
    match counting.iter().find(|(_, s)| *s != Standing::Well) {
        Some((name, Standing::Paused)) => format!(" Replay on {name} is paused{wait}."),
        Some((name, _)) => {
            format!(" {name} is silent but still counts as connected{wait} until the primary gives up on it.")
        }
        None => " A frozen standby still blocks commits.".to_owned(),
    }
}

/// The listed names, and for `*` whoever else is a standby.
fn matched(names: &[String], everybody: &[&str], standing: Stand<'_>) -> Vec<String> {
    let listed = |name: &str| names.iter().any(|n| n.eq_ignore_ascii_case(name));
    let star = names.iter().any(|n| n == "*");
    let others = everybody.iter().filter(|n| star && !listed(n) && standing(n).is_some());
    names.iter().filter(|n| *n != "*").cloned().chain(others.map(|n| (*n).to_owned())).collect()
}

/// With `*` in the list several standbys may have one priority: which of them counts is PostgreSQL's choice (the manual promises none).
fn first_of_anybody(k: u32, names: &[String], done: &str, standing: Stand<'_>) -> String {
    let here = connected(names, standing);
    let who = if k == 1 {
        "the first standby that connects".to_owned()
    } else {
        format!("the first {k} standbys that connect")
    };
    let lead = format!("A commit returns only after {who} {} {done} it (* matches any name).", have(k));
    if here.len() < k as usize {
        return format!("{lead} {}", nobody(k, here.len(), None));
    }
    let list = here.iter().map(|(n, _)| *n).collect::<Vec<_>>().join(", ");
    let wait = if here.len() == k as usize { ", so commits wait" } else { ": if it is one that counts, commits wait" };
    format!("{lead} PostgreSQL chooses from {list}.{}", held_up(&here, wait))
}

fn first_words(k: u32, names: &[String], done: &str, standing: Stand<'_>) -> String {
    let here = connected(names, standing);
    if here.len() < k as usize {
        return nobody(k, here.len(), Some(names.len()));
    }
    let (sync, spare) = here.split_at(k as usize);
    let list = |part: &[(&str, Standing)]| part.iter().map(|(n, _)| *n).collect::<Vec<_>>().join(" and ");
    let mut text = format!("A commit returns only after {} {} {done} it.", list(sync), have(k));
    match spare.first() {
        Some((next, _)) => text.push_str(&format!(" If {} disconnects, {next} takes over.", one_of(sync))),
        None => text.push_str(&format!(" If {} disconnects, commits wait.", one_of(sync))),
    }
    text.push_str(&held_up(sync, ", so commits wait"));
    text
}

fn one_of(sync: &[(&str, Standing)]) -> String {
    if sync.len() == 1 { sync[0].0.to_owned() } else { "one of them".to_owned() }
}

fn any_words(k: u32, names: &[String], done: &str, star: bool, standing: Stand<'_>) -> String {
    let well = names.iter().filter(|n| standing(n) == Some(Standing::Well)).count();
    let who = match names {
        _ if star && k == 1 => format!("any standby that connects ({})", names.join(", ")),
        _ if star => format!("any {k} standbys that connect ({})", names.join(", ")),
        all if all.len() == k as usize => all.join(" and "),
        _ => format!("any {k} of {}", names.join(", ")),
    };
    let mut text = format!("A commit returns when {who} {} {done} it.", have(k));
    if (k as usize) > names.len() {
        text = nobody(k, well, Some(names.len()).filter(|_| !star));
    } else if well < k as usize {
        text.push_str(&format!(" {} now: commits wait.", only(well, k, "answer")));
    } else {
        let more = if well < names.len() { " more" } else { "" };
        text.push_str(&match well - k as usize {
            0 => format!(" If one{more} standby fails, commits wait."),
            spare => format!(" If {}{more} standbys fail, commits wait.", spare + 1),
        });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn postgres_forms_are_read() {
        let list = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        for (text, rule) in [
            ("", SyncRule::Off),
            ("off", SyncRule::Off),
            ("s1", SyncRule::First(1, list(&["s1"]))),
            ("s1, s2", SyncRule::First(1, list(&["s1", "s2"]))),
            ("2 (s1, s2)", SyncRule::First(2, list(&["s1", "s2"]))),
            ("FIRST 1 (s1,s2)", SyncRule::First(1, list(&["s1", "s2"]))),
            ("any 2 (\"a-b\", s2, s3)", SyncRule::Any(2, list(&["a-b", "s2", "s3"]))),
            ("*", SyncRule::First(1, list(&["*"]))),
        ] {
            assert_eq!(text.parse::<SyncRule>(), Ok(rule.clone()), "{text}");
            assert_eq!(rule.setting().parse::<SyncRule>(), Ok(rule.clone()), "{text}");
            assert_eq!(rule.to_string().parse::<SyncRule>(), Ok(rule), "{text}");
        }
        for text in ["first (s1)", "first 0 (s1)", "any 1 ()", "first 1 (s1", "some 1 (s1)", "s1; drop", "any x (s1)"] {
            assert!(text.parse::<SyncRule>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_server_is_no_standby_of_its_own() {
        for (rule, works) in [
            ("off", "off"),
            ("any 1 (p, s1, s2)", "any 1 (s1, s2)"),
            ("first 2 (s1, P)", "first 2 (s1)"),
            ("first 1 (*)", "first 1 (*)"),
        ] {
            assert_eq!(rule.parse::<SyncRule>().unwrap().on("p").to_string(), works, "{rule}");
        }
        let nobody = "first 1 (p)".parse::<SyncRule>().unwrap().on("p");
        assert!(nobody.is_on() && nobody.names().is_empty());
        let text = words(&nobody, "on", &["s1"], |_| Some(Standing::Well));
        assert_eq!(text, "The rule asks for 1 standby but lists none: no commit can ever return.");
    }

    #[test]
    fn words_follow_the_state_of_each_standby() {
        use Standing::{Away, Behind, Paused, Silent, Well};
        let say = |rule: &str, level: &str, s1, s2| {
            words(&rule.parse().unwrap(), level, &["s1", "s2"], |n| {
                [("s1", s1), ("s2", s2)].iter().find(|(m, _)| *m == n).map(|(_, s)| *s)
            })
        };
        let has = |text: String, part: &str| assert!(text.contains(part), "{text:?} lacks {part:?}");
        has(say("off", "on", Well, Well), "primary has flushed");
        has(
            say("first 1 (s1, s2)", "on", Well, Well),
            "A commit returns only after s1 has flushed it. If s1 disconnects, s2 takes over. A frozen standby still blocks commits.",
        );
        has(say("first 1 (s1, s2)", "remote_apply", Away, Well), "only after s2 has replayed it");
        has(say("first 1 (s1, s2)", "on", Silent, Well), "s1 is silent but still counts as connected");
        has(say("first 1 (s1, s2)", "remote_apply", Paused, Well), "Replay on s1 is paused, so commits wait.");
        has(say("first 1 (s1)", "on", Away, Well), "No required standby streams: commits wait.");
        has(say("first 1 (s1, s2)", "on", Behind, Well), "only after s2 has flushed it");
        has(say("first 1 (s1, s2)", "on", Behind, Well), "s1 is still catching up and doesn't count until it streams.");
        has(
            say("any 2 (s1, s2)", "on", Behind, Well),
            "Only 1 of the 2 required standbys answers now: commits wait. s1 is still catching up",
        );
        has(say("first 2 (s1)", "on", Well, Well), "no commit can ever return");
        has(
            say("any 1 (s1, s2)", "remote_write", Silent, Well),
            "any 1 of s1, s2 has written it. If one more standby fails, commits wait.",
        );
        has(say("any 2 (s1, s2)", "on", Silent, Well), "Only 1 of the 2 required standbys answers now: commits wait.");
        let anybody =
            "A commit returns only after the first standby that connects has flushed it (* matches any name).";
        has(
            say("first 1 (*)", "on", Well, Well),
            &format!("{anybody} PostgreSQL chooses from s1, s2. A frozen standby still blocks commits."),
        );
        has(say("first 1 (*)", "on", Away, Away), &format!("{anybody} No required standby streams: commits wait."));
        has(
            say("first 1 (*)", "on", Well, Silent),
            "s2 is silent but still counts as connected: if it is one that counts, commits",
        );
        has(say("first 2 (s1, *)", "on", Well, Silent), "s2 is silent but still counts as connected, so commits wait");
        has(
            say("any 1 (*)", "on", Away, Well),
            "any standby that connects (s1, s2) has flushed it. If one more standby fails, commits wait.",
        );
        has(say("any 2 (*)", "on", Silent, Well), "Only 1 of the 2 required standbys answers now: commits wait.");
        has(say("any 3 (*)", "on", Well, Well), "Only 2 of the 3 required standbys stream: commits wait.");
        has(say("first 1 (standby1)", "on", Well, Well), "No standby is called standby1");
        has(say("first 1 (s1)", "local", Well, Well), "waits for no standby. The rule doesn't matter");
    }
}

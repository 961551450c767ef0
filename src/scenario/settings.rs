//! The settings that PostgreSQL 15 to 19 have, and which values they can take: what a file says of them is held against that
//! before anything starts. Knows no server; what a server says in the end is its own.
//!
//! `settings.tsv` is pg_settings of 15, 17, 18 and 19 put together (name, vartype, unit, least, greatest, when it can be changed, words),
//! the ranges and words of all of them.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use super::complaint::Weight;
use super::fields::KEPT_FROM_LESSONS;
use crate::model::command::nearest;

const TABLE: &str = include_str!("settings.tsv");

static SETTINGS: LazyLock<BTreeMap<&str, Setting<'_>>> = LazyLock::new(|| TABLE.lines().filter_map(read).collect());

/// Units of sizes, in bytes, and of times, in microseconds, as settings have them (manual 19.1.1).
const SIZES: [(&str, f64); 6] = [
    ("B", 1.0),
    ("kB", 1024.0),
    ("8kB", 8192.0),
    ("MB", 1_048_576.0),
    ("GB", 1_073_741_824.0),
    ("TB", 1_099_511_627_776.0),
];
const TIMES: [(&str, f64); 6] = [("us", 1.0), ("ms", 1e3), ("s", 1e6), ("min", 6e7), ("h", 3.6e9), ("d", 8.64e10)];

/// A row of the table.
#[derive(Debug)]
struct Setting<'a> {
    kind: &'a str,
    unit: &'a str,
    least: Option<f64>,
    greatest: Option<f64>,
    /// "restart", "fixed", or empty where a reload is enough.
    change: &'a str,
    words: &'a str,
}

/// When a value is to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// With the server's start.
    Start,
    /// While it runs.
    Reload,
}

fn read(line: &str) -> Option<(&str, Setting<'_>)> {
    let [name, kind, unit, least, greatest, change, words] = line.split('\t').collect::<Vec<_>>()[..] else {
        return None;
    };
    Some((name, Setting { kind, unit, least: least.parse().ok(), greatest: greatest.parse().ok(), change, words }))
}

/// Whether there is a setting of that name, as far as one can tell: without looking for what may have been meant.
pub fn is_one(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    !KEPT_FROM_LESSONS.contains(&lower.as_str()) && (lower.contains('.') || SETTINGS.contains_key(lower.as_str()))
}

/// Whether PostgreSQL has a setting of that name and a lesson may decide it. A name with a dot belongs to an extension.
pub fn known(name: &str) -> Result<(), String> {
    let lower = name.to_ascii_lowercase();
    let short: String = name.chars().take(40).collect();
    if KEPT_FROM_LESSONS.contains(&lower.as_str()) {
        return Err(format!("`{short}` is not a lesson's to set: it runs programs, loads code or moves the server"));
    }
    if is_one(name) {
        return Ok(());
    }
    Err(match nearest(&lower, SETTINGS.keys().copied()) {
        Some(near) => format!("PostgreSQL has no setting `{short}`; did you mean `{near}`?"),
        None => format!("PostgreSQL has no setting `{short}`"),
    })
}

/// What is amiss with a value, and how much that matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Amiss {
    /// What it is.
    pub why: String,
    /// Servers accept words that they don't list: an unlisted one is only doubtful.
    pub weight: Weight,
}

/// What is amiss with a value, as far as one can tell without a server.
pub fn amiss(name: &str, value: &str, when: When) -> Option<Amiss> {
    let why = refused(name, value, when).map(|why| Amiss { why, weight: Weight::Mistake });
    why.or_else(|| unlisted(name, value).map(|why| Amiss { why, weight: Weight::Doubt }))
}

fn unlisted(name: &str, value: &str) -> Option<String> {
    let name = name.to_ascii_lowercase();
    let setting = SETTINGS.get(name.as_str()).filter(|setting| setting.kind == "enum")?;
    let known = is_bool(value) || setting.words.split(',').any(|word| word.eq_ignore_ascii_case(value));
    let short: String = value.chars().take(30).collect();
    (!known).then(|| format!("`{name}` is one of {}, not `{short}`", setting.words.replace(',', ", ")))
}

fn refused(name: &str, value: &str, when: When) -> Option<String> {
    let name = name.to_ascii_lowercase();
    let setting = SETTINGS.get(name.as_str())?;
    match (setting.change, when) {
        ("fixed", _) => {
            return Some(format!("`{name}` can't be set: it is fixed when a server is built or its data made"));
        }
        ("restart", When::Reload) => {
            return Some(format!("`{name}` changes with a restart only; give it in [settings], for the whole lesson"));
        }
        _ => {}
    }
    let short: String = value.chars().take(30).collect();
    match setting.kind {
        "bool" if !is_bool(value) => Some(format!("`{name}` is on or off, not `{short}`")),
        "integer" | "real" => setting.number(&name, value.trim(), &short),
        _ => None,
    }
}

/// As PostgreSQL reads them: any beginning of a word that is no other's.
fn is_bool(value: &str) -> bool {
    let value = value.to_ascii_lowercase();
    let begins = |word: &str| !value.is_empty() && word.starts_with(&value);
    ["true", "false", "yes", "no"].into_iter().any(begins) || ["on", "off", "of", "1", "0"].contains(&value.as_str())
}

fn has_exponent(value: &str) -> bool {
    value.parse::<f64>().is_ok_and(f64::is_finite) && value.contains(['e', 'E'])
}

impl Setting<'_> {
    fn number(&self, name: &str, value: &str, short: &str) -> Option<String> {
        // Hexadecimal, octal or with an exponent: rightly so, and seldom.
        let other = |c: char| matches!(c, 'x' | 'X') || c.is_ascii_digit();
        if value.strip_prefix('0').is_some_and(|rest| rest.starts_with(other)) || has_exponent(value) {
            return None;
        }
        let split = value.find(|c: char| !(c.is_ascii_digit() || "+-.".contains(c))).unwrap_or(value.len());
        let (digits, unit) = (&value[..split], value[split..].trim());
        let units = if SIZES.iter().any(|(u, _)| *u == self.unit) {
            &SIZES[..]
        } else if TIMES.iter().any(|(u, _)| *u == self.unit) {
            &TIMES[..]
        } else {
            &[]
        };
        let known: Vec<&str> = units.iter().map(|(u, _)| *u).filter(|u| *u != "8kB").collect();
        let factor = |unit: &str| units.iter().find(|(u, _)| *u == unit).map(|(_, factor)| *factor);
        let scale = match (unit, factor(unit), factor(self.unit)) {
            ("", ..) => 1.0,
            ("8kB", ..) | (_, None, _) | (_, _, None) if known.is_empty() => {
                return Some(format!("`{name}` is a plain number, not `{short}`"));
            }
            ("8kB", ..) | (_, None, _) | (_, _, None) => {
                return Some(format!("`{name}` is a number with one of {}, not `{short}`", known.join(", ")));
            }
            (_, Some(this), Some(base)) => this / base,
        };
        let Ok(number) = digits.parse::<f64>() else { return Some(format!("`{name}` is a number, not `{short}`")) };
        // Whole ones are rounded.
        let (number, room) = (number * scale, if self.kind == "integer" { 0.5 } else { 0.0 });
        let below = self.least.is_some_and(|least| number < least - room);
        let above = self.greatest.is_some_and(|greatest| number > greatest + room);
        let [least, greatest] = [self.least, self.greatest].map(|n| n.map_or(String::new(), |n| n.to_string()));
        let unit = if self.unit.is_empty() { String::new() } else { format!(" (in {})", self.unit) };
        (below || above).then(|| format!("`{name}` is from {least} to {greatest}{unit}, not `{short}`"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_whole() {
        assert_eq!(SETTINGS.len(), TABLE.lines().count(), "a line is no row, or a name comes twice");
        for line in TABLE.lines() {
            let fields: Vec<&str> = line.split('\t').collect();
            assert_eq!(fields.len(), 7, "{line}");
            assert!(["bool", "enum", "integer", "real", "string"].contains(&fields[1]), "{line}");
            assert!(["", "restart", "fixed"].contains(&fields[5]), "{line}");
        }
        assert!(TABLE.lines().count() > 400);
    }

    #[test]
    fn values_are_held_against_their_kind_unit_and_range() {
        for (name, value, part) in [
            ("wal_sender_timeout", "5s", None),
            ("wal_sender_timeout", "banana", Some("one of us, ms, s, min, h, d, not `banana`")),
            ("wal_sender_timeout", "5MB", Some("one of us, ms")),
            ("WORK_MEM", "8MB", None),
            ("work_mem", "1.5GB", None),
            ("work_mem", "5s", Some("one of B, kB, MB, GB, TB")),
            ("work_mem", "1kB", Some("from 64 to")),
            ("work_mem", "", Some("is a number")),
            ("hot_standby_feedback", "on", None),
            ("hot_standby_feedback", "YES", None),
            ("hot_standby_feedback", "maybe", Some("on or off")),
            ("synchronous_commit", "remote_apply", None),
            ("synchronous_commit", "true", None),
            ("synchronous_commit", "remote", Some("one of local, remote_write")),
            ("checkpoint_completion_target", "0.5", None),
            ("checkpoint_completion_target", "1.5", Some("from 0 to 1")),
            ("max_standby_streaming_delay", "-1", None),
            ("max_wal_size", "64", None),
            ("log_line_prefix", "anything %m", None),
            ("deadlock_timeout", "5 parsecs", Some("one of us, ms")),
            ("shared_buffers", "16MB", Some("restart only")),
            ("block_size", "8192", Some("can't be set")),
            ("extension.own", "x", None),
            ("log_file_mode", "0640", None),
            ("cpu_tuple_cost", "1e-2", None),
            ("seq_page_cost", "fast", Some("a plain number")),
        ] {
            let said = amiss(name, value, When::Reload).map(|amiss| amiss.why);
            match part {
                None => assert_eq!(said, None, "{name} = {value}"),
                Some(part) => assert!(said.as_ref().is_some_and(|s| s.contains(part)), "{name} = {value}: {said:?}"),
            }
        }
        assert_eq!(amiss("shared_buffers", "16MB", When::Start), None);
        assert_eq!(amiss("max_wal_senders", "20", When::Start), None);
    }
}

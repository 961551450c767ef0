//! What follows the verb of a command, read. None where it isn't what the verb takes: its row in the table says what that is.

use super::{Command, Rate, Way};
use crate::model::NodeName;
use crate::model::detector::AutoFailover;
use crate::model::links::{Harm, Which};

pub(super) fn filled(a: &str) -> Option<&str> {
    (!a.is_empty()).then_some(a)
}

pub(super) fn bare(a: &str, command: Command) -> Option<Command> {
    a.is_empty().then_some(command)
}

pub(super) fn node(a: &str) -> Option<NodeName> {
    a.parse().ok()
}

pub(super) fn number(a: &str, max: u32) -> Option<u32> {
    a.parse().ok().filter(|n| *n <= max)
}

fn pair(a: &str) -> Option<(NodeName, NodeName)> {
    let (x, y) = a.split_once(char::is_whitespace)?;
    Some((node(x)?, node(y.trim())?))
}

pub(super) fn follow(a: &str) -> Option<Command> {
    match a.split_once(char::is_whitespace)? {
        ("all", upstream) => Some(Command::FollowAll(node(upstream.trim())?)),
        _ => pair(a).map(|(standby, upstream)| Command::Follow { standby, upstream }),
    }
}

pub(super) fn rejoin(a: &str) -> Option<Command> {
    let (name, way) = a.split_once(char::is_whitespace).unwrap_or((a, ""));
    let way = match way.trim() {
        "" => None,
        "rewind" => Some(Way::Rewind),
        "rebuild" => Some(Way::Rebuild),
        _ => return None,
    };
    Some(Command::Rejoin { node: node(name)?, way })
}

pub(super) fn auto_failover(a: &str) -> Option<Command> {
    let mut words = a.split_whitespace();
    match words.next()? {
        "off" => return words.next().is_none().then_some(Command::AutoFailover(None)),
        "on" => {}
        _ => return None,
    }
    let mut auto = AutoFailover::default();
    while let Some(word) = words.next() {
        match word {
            "timeout" => auto.timeout_ms = milliseconds(words.next()?).filter(|ms| (100..=600_000).contains(ms))?,
            "no-fence" => auto.fence = false,
            "allow-loss" => auto.allow_loss = true,
            _ => return None,
        }
    }
    Some(Command::AutoFailover(Some(auto)))
}

/// `500ms`, `3s`.
fn milliseconds(text: &str) -> Option<u64> {
    let (digits, factor) = match text.strip_suffix("ms") {
        Some(digits) => (digits, 1),
        None => (text.strip_suffix('s')?, 1_000),
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

pub(super) fn rate(a: &str) -> Option<Command> {
    Some(Command::Rate(if a == "max" { Rate::Max } else { Rate::PerSecond(number(a, 1_000_000).filter(|n| *n > 0)?) }))
}

pub(super) fn add(a: &str) -> Option<Command> {
    match a.split_whitespace().collect::<Vec<_>>()[..] {
        [name] => Some(Command::Add { name: node(name)?, from: None }),
        [name, "fresh"] => Some(Command::AddFresh(node(name)?)),
        [name, "from", from] => Some(Command::Add { name: node(name)?, from: Some(node(from)?) }),
        _ => None,
    }
}

pub(super) fn replay(a: &str) -> Option<Command> {
    match a.split_whitespace().collect::<Vec<_>>()[..] {
        ["pause", n] => Some(Command::PauseReplay(node(n)?)),
        ["resume", n] => Some(Command::ResumeReplay(node(n)?)),
        _ => None,
    }
}

pub(super) fn heal(a: &str) -> Option<Command> {
    Some(Command::Heal(if a.is_empty() { None } else { Some(a.parse().ok()?) }))
}

/// One end alone would be every link of it, which has a verb of its own.
pub(super) fn links(harm: Harm, a: &str) -> Option<Command> {
    let which = a.parse().ok().filter(|which| !matches!(which, Which::Of(_)))?;
    Some(Command::Link(harm, which))
}

/// The links, and from the first figure on how much: names begin with a letter.
fn amount(a: &str) -> Option<(&str, &str)> {
    let figure = |(at, blank): &(usize, &str)| a[at + blank.len()..].starts_with(|c: char| c.is_ascii_digit());
    let (at, _) = a.match_indices(char::is_whitespace).find(figure)?;
    Some(a.split_at(at))
}

pub(super) fn slow(a: &str) -> Option<Command> {
    let (which, time) = amount(a)?;
    links(Harm::Slow(time.trim().parse().ok()?), which)
}

pub(super) fn throttle(a: &str) -> Option<Command> {
    let (which, rate) = amount(a)?;
    links(Harm::Throttle(crate::model::links::rate(rate.trim())?), which)
}

pub(super) fn set(a: &str) -> Option<Command> {
    let (name, rest) = a.split_once(|c: char| c.is_whitespace() || c == '=')?;
    let rest = rest.trim().trim_start_matches('=').trim();
    let (value, node) = match rest.rsplit_once(" on ") {
        Some((value, name)) if name.parse::<NodeName>().is_ok() => (value.trim(), Some(node(name)?)),
        _ => (rest, None),
    };
    let value = value.strip_prefix('\'').and_then(|v| v.strip_suffix('\'')).unwrap_or(value);
    let shape = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.".contains(&b));
    shape.then(|| Command::Set { name: name.to_ascii_lowercase(), value: value.to_owned(), node })
}

pub(super) fn sql(a: &str) -> Option<Command> {
    let (name, text) = a.split_once(char::is_whitespace)?;
    let (name, session) = name.split_once(':').map_or((name, None), |(name, session)| (name, Some(session)));
    let session = session.map(|s| node(s).ok_or(())).transpose().ok()?;
    Some(Command::Sql { node: node(name)?, session, text: filled(text.trim())?.to_owned() })
}

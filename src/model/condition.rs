//! Conditions that lessons wait for and expect: a quantity of the model, a comparison, a value with its unit.
//!
//! `waiting > 0`, `state(s1) = frozen`, `replay_lag(s1) < 1MB`, `acked >= 100`. All quantities are in one table.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

mod quantities;
mod words;

pub use quantities::{Dimension, Of, QUANTITIES, Quantity, Value};
pub use words::{BAD_SESSION, vocabulary};

use super::command::nearest;
use super::{Model, NodeName};

/// A comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cmp {
    /// `=`
    Eq,
    /// `!=`
    Ne,
    /// `<`
    Lt,
    /// `<=`
    Le,
    /// `>`
    Gt,
    /// `>=`
    Ge,
    /// `~`: has this in it.
    Has,
    /// `!~`: hasn't.
    Lacks,
}

/// Longest first, so that `<=` isn't read as `<`.
const COMPARISONS: [(&str, Cmp); 9] = [
    ("!~", Cmp::Lacks),
    ("~", Cmp::Has),
    ("!=", Cmp::Ne),
    ("<=", Cmp::Le),
    (">=", Cmp::Ge),
    ("==", Cmp::Eq),
    ("=", Cmp::Eq),
    ("<", Cmp::Lt),
    (">", Cmp::Gt),
];

/// One comparison of a quantity with a value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Condition {
    /// As it was written.
    pub text: String,
    quantity: String,
    of: Option<NodeName>,
    cmp: Cmp,
    value: Value,
}

/// Why a text is no condition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadCondition(String);

impl Condition {
    /// The quantity's value now, and whether the condition holds. What can't be known never holds.
    pub fn check(&self, model: &Model) -> (bool, Value) {
        let Some(quantity) = QUANTITIES.iter().find(|q| q.name == self.quantity) else {
            return (false, Value::Unknown);
        };
        let now = quantity.now(model, self.of.as_ref());
        if let (Cmp::Has | Cmp::Lacks, Value::Text(part)) = (self.cmp, &self.value) {
            return words::compared(now, self.cmp == Cmp::Has, part);
        }
        (holds(&now, self.cmp, &self.value), now)
    }

    /// A value of its quantity with its unit.
    pub fn shown(&self, value: &Value) -> String {
        let dimension = QUANTITIES.iter().find(|q| q.name == self.quantity).map(|q| q.dimension);
        match (value, dimension) {
            (Value::Number(_), Some(Dimension::Time)) => format!("{value} ms"),
            (Value::Number(n), Some(Dimension::Bytes)) => super::text::size(n.max(0.0) as u64),
            _ => value.to_string(),
        }
    }

    /// The quantity it speaks of.
    pub fn quantity(&self) -> &str {
        &self.quantity
    }

    /// The node it speaks of.
    pub fn node(&self) -> Option<&NodeName> {
        self.of.as_ref().filter(|_| self.of_session().is_none())
    }

    /// The node that its value names, where the quantity is one.
    pub fn named(&self) -> Option<&str> {
        match &self.value {
            Value::Text(name) if self.quantity == "primary" && !matches!(self.cmp, Cmp::Has | Cmp::Lacks) => Some(name),
            _ => None,
        }
    }

    /// The word that its quantity must be, where it is one.
    pub fn is(&self) -> Option<&str> {
        match (&self.value, self.cmp) {
            (Value::Text(word), Cmp::Eq) => Some(word),
            _ => None,
        }
    }

    /// Why it can never hold, or never fail, though it can be read.
    pub fn doubt(&self) -> Option<String> {
        let quantity = QUANTITIES.iter().find(|q| q.name == self.quantity)?;
        let name = quantity.name;
        let ordered = matches!(self.cmp, Cmp::Lt | Cmp::Le | Cmp::Gt | Cmp::Ge);
        match (&self.value, quantity.dimension) {
            (Value::Number(n), Dimension::Count) if n.fract() != 0.0 && name != "commits_per_s" && !ordered => {
                Some(format!("`{name}` is a whole number; it is never {n}"))
            }
            (Value::Text(_), _) if ordered && vocabulary(name).is_some() => {
                Some(format!("`{name}` is a word, and words are compared with = or !="))
            }
            _ => None,
        }
    }

    /// The session it speaks of.
    pub fn of_session(&self) -> Option<&NodeName> {
        let is = QUANTITIES.iter().any(|q| q.name == self.quantity && q.of == Of::Session);
        self.of.as_ref().filter(|_| is)
    }
}

fn holds(now: &Value, cmp: Cmp, value: &Value) -> bool {
    let order = match (now, value) {
        (Value::Number(a), Value::Number(b)) => a.partial_cmp(b),
        (Value::Text(a), Value::Text(b)) if a.eq_ignore_ascii_case(b) => Some(std::cmp::Ordering::Equal),
        (Value::Text(a), Value::Text(b)) => match (a.parse::<f64>(), b.parse::<f64>()) {
            (Ok(a), Ok(b)) => a.partial_cmp(&b),
            _ => Some(a.cmp(b)),
        },
        _ => None,
    };
    order.is_some_and(|o| match cmp {
        Cmp::Eq => o.is_eq(),
        Cmp::Ne => o.is_ne(),
        Cmp::Lt => o.is_lt(),
        Cmp::Le => o.is_le(),
        Cmp::Gt => o.is_gt(),
        Cmp::Ge => o.is_ge(),
        Cmp::Has | Cmp::Lacks => false,
    })
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<Condition> for String {
    fn from(condition: Condition) -> Self {
        condition.text
    }
}

impl TryFrom<String> for Condition {
    type Error = BadCondition;

    fn try_from(text: String) -> Result<Self, BadCondition> {
        text.parse()
    }
}

impl FromStr for Condition {
    type Err = BadCondition;

    fn from_str(text: &str) -> Result<Self, BadCondition> {
        let form = || {
            BadCondition("a condition is `QUANTITY = VALUE`, for example `waiting > 0` or `state(s1) = frozen`".into())
        };
        let (at, sign, cmp) = COMPARISONS
            .iter()
            .filter_map(|(sign, cmp)| text.find(sign).map(|at| (at, *sign, *cmp)))
            .min_by_key(|(at, sign, _)| (*at, std::cmp::Reverse(sign.len())))
            .ok_or_else(form)?;
        let (left, right) = (text[..at].trim(), text[at + sign.len()..].trim());
        let (name, of) = match left.split_once('(') {
            Some((name, rest)) => (name.trim(), Some(rest.strip_suffix(')').ok_or_else(form)?.trim())),
            None => (left, None),
        };
        let quantity = QUANTITIES.iter().find(|q| q.name == name).ok_or_else(|| unknown(name))?;
        let of = match (quantity.of, of) {
            (Of::Lab, None) => None,
            (Of::Node, Some(node)) => Some(node.parse::<NodeName>().map_err(|e| BadCondition(e.to_string()))?),
            (Of::Session, Some(session)) => Some(words::session(session).map_err(BadCondition)?),
            (Of::Node, None) => return Err(BadCondition(format!("`{name}` is asked of a node: {name}(s1)"))),
            (Of::Session, None) => return Err(BadCondition(format!("`{name}` is asked of a session: {name}(a)"))),
            (Of::Lab, Some(_)) => return Err(BadCondition(format!("`{name}` takes no node"))),
        };
        words::fits(quantity, cmp).map_err(BadCondition)?;
        let value = value(quantity, right)?;
        if let (Value::Text(word), true) = (&value, !matches!(cmp, Cmp::Has | Cmp::Lacks)) {
            words::check(name, word).map_err(BadCondition)?;
        }
        Ok(Self { text: text.trim().to_owned(), quantity: name.to_owned(), of, cmp, value })
    }
}

fn unknown(name: &str) -> BadCondition {
    let near = nearest(name, QUANTITIES.iter().map(|q| q.name));
    let short: String = name.chars().take(30).collect();
    BadCondition(match near {
        Some(near) => format!("there is no quantity `{short}`; did you mean `{near}`?"),
        None => format!("there is no quantity `{short}`; docs/scenario-format.md lists them"),
    })
}

const UNITS: [(&str, Dimension, f64); 9] = [
    ("kB", Dimension::Bytes, 1024.0),
    ("MB", Dimension::Bytes, 1_048_576.0),
    ("GB", Dimension::Bytes, 1_073_741_824.0),
    ("B", Dimension::Bytes, 1.0),
    ("us", Dimension::Time, 0.001),
    ("µs", Dimension::Time, 0.001),
    ("ms", Dimension::Time, 1.0),
    ("min", Dimension::Time, 60_000.0),
    ("s", Dimension::Time, 1_000.0),
];

fn value(quantity: &Quantity, right: &str) -> Result<Value, BadCondition> {
    if right.is_empty() {
        return Err(BadCondition(format!("`{}` is compared with nothing", quantity.name)));
    }
    if matches!(quantity.dimension, Dimension::Text | Dimension::Lines) {
        return Ok(Value::Text(right.trim_matches(['\'', '"']).to_owned()));
    }
    Ok(Value::Number(measure(quantity, right)?))
}

/// A number of bytes with its unit, as conditions have it.
pub fn size(text: &str) -> Result<u64, BadCondition> {
    let of_bytes = QUANTITIES.iter().find(|q| q.name == "disk_free");
    let bytes = measure(of_bytes.unwrap_or_else(|| unreachable!("it is in the table")), text.trim())?;
    if bytes < 0.0 { Err(BadCondition(format!("`{text}` is less than nothing"))) } else { Ok(bytes as u64) }
}

fn measure(quantity: &Quantity, right: &str) -> Result<f64, BadCondition> {
    let split = right.find(|c: char| !(c.is_ascii_digit() || ".-".contains(c))).unwrap_or(right.len());
    let (digits, unit) = (&right[..split], right[split..].trim());
    let number: f64 = digits.parse().map_err(|_| BadCondition(format!("`{right}` is not a number")))?;
    let factor = match UNITS.iter().find(|(u, d, _)| *u == unit && *d == quantity.dimension) {
        Some((_, _, factor)) => *factor,
        None if unit.is_empty() && (quantity.dimension == Dimension::Count || number == 0.0) => 1.0,
        None => return Err(BadCondition(wrong_unit(quantity, unit))),
    };
    Ok(number * factor)
}

fn wrong_unit(quantity: &Quantity, unit: &str) -> String {
    let fit: Vec<&str> = UNITS.iter().filter(|(_, d, _)| *d == quantity.dimension).map(|(u, _, _)| *u).collect();
    let short: String = unit.chars().take(12).collect();
    match (quantity.dimension, unit) {
        (Dimension::Count, _) => format!("`{}` is a plain count; `{short}` doesn't belong there", quantity.name),
        (_, "") => format!("`{}` needs a unit: {}", quantity.name, fit.join(", ")),
        _ => format!("`{short}` is no unit of `{}`: use {}", quantity.name, fit.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Node;
    use crate::model::cluster::NodeState;
    use proptest::prelude::*;

    #[test]
    fn conditions_are_read_and_held_against_the_model() {
        let mut model = Model { nodes: vec![Node::new("s1".parse().unwrap(), None)], ..Model::default() };
        model.nodes[0].state = NodeState::Frozen;
        let line = super::super::cluster::LogLine { severity: "LOG".into(), text: "it forked off".into() };
        model.nodes[0].logs.push_back(super::super::Logged { at: super::super::Stamp(1), line });
        model.ledger.tried(&[super::super::ledger::IdRange { client: 1, first: 1, last: 5 }]);
        for (text, holds) in [
            ("state(s1) = frozen", true),
            ("state(s1) != frozen", false),
            ("state(s9) = gone", true),
            ("tried >= 5", true),
            ("tried > 5", false),
            ("pending=5", true),
            ("p50 < 1s", false),
            ("replay_lag(s1) > 1MB", false),
            ("verdict = sound", false),
            ("log(s1) ~ 'forked off'", true),
            ("log(s1) ~ \"Forked\"", false),
            ("log(s1) !~ forked off", false),
            ("log(s9) ~ x", false),
            ("rule ~ FIRST", false),
            ("session(a) = idle", false),
        ] {
            assert_eq!(text.parse::<Condition>().unwrap().check(&model).0, holds, "{text}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_doubted_and_read_all_the_same() {
        for (text, part) in [
            ("waiting = 1.5", Some("a whole number")),
            ("state(p) > running", Some("compared with = or !=")),
            ("waiting < 1.5", None),
            ("commits_per_s = 0.5", None),
            ("sql_value > 3", None),
        ] {
            let doubt = text.parse::<Condition>().unwrap().doubt();
            assert_eq!(doubt.is_some(), part.is_some(), "{text}: {doubt:?}");
            assert!(doubt.unwrap_or_default().contains(part.unwrap_or_default()));
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (text, part) in [
            ("waiting", "a condition is"),
            ("wating > 0", "did you mean `waiting`"),
            ("state = frozen", "state(s1)"),
            ("waiting(s1) > 0", "takes no node"),
            ("replay_lag(s1) > 5", "needs a unit: kB, MB, GB, B"),
            ("replay_lag(s1) > 5s", "no unit of `replay_lag`"),
            ("acked > many", "not a number"),
            ("acked > 5MB", "plain count"),
            ("state(S1) = down", "can't be a node's name"),
            ("acked >", "compared with nothing"),
            ("state(s1) = frozn", "never `frozn`; did you mean `frozen`"),
            ("role(s1) = master", "`role` is one of primary, standby"),
            ("acked ~ 5", "`acked` is a number"),
            ("log(s1) = x", "~ or !~"),
            ("session = idle", "session(a)"),
            ("session(A) = idle", "a session's name"),
        ] {
            let error = text.parse::<Condition>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn anything_may_be_written(text in ".{0,80}") {
            if let Ok(condition) = text.parse::<Condition>() {
                condition.check(&Model::default());
                prop_assert_eq!(condition.to_string().parse::<Condition>().map(|c| c.text), Ok(text.trim().to_owned()));
            }
        }
    }
}

//! Links and their faults as words, read and written: `p s1`, `p -> s1`, `p | s1 s2`, `80ms ±10ms`, `1MB/s`.

use super::{End, FromStr, Harm, LinkFault, NodeName, Slow, Which, fmt};

/// The text names no links.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("links are named `p s1`, `p -> s1` or `p | s1 s2`")]
pub struct BadWhich;

impl FromStr for End {
    type Err = crate::model::ids::BadNodeName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "client" { Ok(Self::Client) } else { text.parse().map(Self::Node) }
    }
}

impl TryFrom<String> for End {
    type Error = crate::model::ids::BadNodeName;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<End> for String {
    fn from(end: End) -> Self {
        end.to_string()
    }
}

impl From<NodeName> for End {
    fn from(name: NodeName) -> Self {
        Self::Node(name)
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.node().map_or("client", NodeName::as_str))
    }
}

impl FromStr for Which {
    type Err = BadWhich;

    fn from_str(text: &str) -> Result<Self, BadWhich> {
        let text = text.replace("->", " -> ").replace('→', " -> ").replace('|', " | ");
        let words: Vec<&str> = text.split_whitespace().collect();
        let ends =
            |words: &[&str]| words.iter().map(|w| w.parse()).collect::<Result<Vec<End>, _>>().map_err(|_| BadWhich);
        if let Some(bar) = words.iter().position(|w| *w == "|") {
            let (left, right) = (ends(&words[..bar])?, ends(&words[bar + 1..])?);
            return if left.is_empty() || right.is_empty() { Err(BadWhich) } else { Ok(Self::Across(left, right)) };
        }
        match words[..] {
            [a, "->", b] => Ok(Self::Toward(a.parse().map_err(|_| BadWhich)?, b.parse().map_err(|_| BadWhich)?)),
            [a, b] => Ok(Self::Between(a.parse().map_err(|_| BadWhich)?, b.parse().map_err(|_| BadWhich)?)),
            [a] => Ok(Self::Of(a.parse().map_err(|_| BadWhich)?)),
            _ => Err(BadWhich),
        }
    }
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |ends: &[End]| ends.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        match self {
            Self::Between(a, b) => write!(f, "{a} {b}"),
            Self::Toward(a, b) => write!(f, "{a} -> {b}"),
            Self::Across(left, right) => write!(f, "{} | {}", list(left), list(right)),
            Self::Of(a) => write!(f, "{a}"),
        }
    }
}

impl Which {
    /// In a sentence: "between p and s1".
    pub fn in_words(&self) -> String {
        let list = |ends: &[End]| ends.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        match self {
            Self::Between(a, b) => format!("the link between {a} and {b}"),
            Self::Toward(a, b) => format!("the way from {a} to {b}"),
            Self::Across(left, right) => format!("every link between {} and {}", list(left), list(right)),
            Self::Of(a) => format!("every link of {a}"),
        }
    }
}

/// A number and its unit.
fn measured(text: &str, units: &[(&str, f64)]) -> Option<u64> {
    let at = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(at);
    let factor = units.iter().find(|(name, _)| *name == unit)?.1;
    let value = (number.parse::<f64>().ok()? * factor).round();
    (1.0..=1e12).contains(&value).then_some(value as u64)
}

fn micros(text: &str) -> Option<u64> {
    measured(text, &[("us", 1.0), ("µs", 1.0), ("ms", 1e3), ("s", 1e6)])
}

impl FromStr for Slow {
    type Err = BadWhich;

    /// `80ms`, `80ms ±10ms`, `80ms 10ms`.
    fn from_str(text: &str) -> Result<Self, BadWhich> {
        let text = text.replace("+-", " ").replace('±', " ");
        let mut times = text.split_whitespace().map(micros);
        let (delay, jitter) =
            (times.next().flatten().ok_or(BadWhich)?, times.next().unwrap_or(Some(0)).ok_or(BadWhich)?);
        Self::new(delay, jitter).filter(|_| times.next().is_none()).ok_or(BadWhich)
    }
}

/// Bytes a second: `1MB/s`, `64kB/s`.
pub(in crate::model) fn rate(text: &str) -> Option<u64> {
    measured(text.strip_suffix("/s")?, &[("B", 1.0), ("kB", 1024.0), ("MB", 1_048_576.0), ("GB", 1_073_741_824.0)])
}

/// In the largest unit that divides it.
fn exact(n: u64, units: &[(&str, u64)]) -> String {
    let (unit, size) = units.iter().find(|(_, size)| n.is_multiple_of(*size)).unwrap_or(&("", 1));
    format!("{}{unit}", n / size)
}

fn time(us: u64) -> String {
    exact(us, &[("s", 1_000_000), ("ms", 1_000), ("us", 1)])
}

impl fmt::Display for Slow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&time(self.delay_us))?;
        if self.jitter_us > 0 { write!(f, " ±{}", time(self.jitter_us)) } else { Ok(()) }
    }
}

impl Harm {
    /// The verb of the command that does it.
    pub fn verb(self) -> &'static str {
        match self {
            Self::Cut => "cut",
            Self::Refuse => "refuse",
            Self::Slow(_) => "slow",
            Self::Throttle(_) => "throttle",
        }
    }

    /// How much of it; empty where there is no more or less.
    pub fn amount(self) -> String {
        match self {
            Self::Cut | Self::Refuse => String::new(),
            Self::Slow(slow) => slow.to_string(),
            Self::Throttle(rate) => {
                format!("{}/s", exact(rate, &[("GB", 1 << 30), ("MB", 1 << 20), ("kB", 1 << 10), ("B", 1)]))
            }
        }
    }

    /// As a badge says it.
    pub fn word(self) -> String {
        match self {
            Self::Cut => "cut".to_owned(),
            Self::Refuse => "refused".to_owned(),
            Self::Slow(_) => format!("slow {}", self.amount()),
            Self::Throttle(_) => self.amount(),
        }
    }
}

impl fmt::Display for LinkFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let arrow = if self.both { "–" } else { "→" };
        write!(f, "{}{arrow}{} {}", self.from, self.to, self.harm.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_read_back_as_written() {
        for text in ["p s1", "client p", "p -> s1", "p | s1 s2", "p client | s1", "s1"] {
            assert_eq!(text.parse::<Which>().unwrap().to_string(), text);
        }
        for (text, same) in [("p->s1", "p -> s1"), ("p|s1  s2", "p | s1 s2"), ("p → s1", "p -> s1")] {
            assert_eq!(text.parse::<Which>().unwrap().to_string(), same);
        }
        for text in ["", "p s1 s2", "p |", "| p", "p -> ", "p -> s1 s2", "P s1", "p | s1 | s2"] {
            assert_eq!(text.parse::<Which>(), Err(BadWhich), "{text}");
        }
    }

    #[test]
    fn amounts_are_exact() {
        for (text, same) in [
            ("80ms ±10ms", "80ms ±10ms"),
            ("80ms 10ms", "80ms ±10ms"),
            ("80ms +-10ms", "80ms ±10ms"),
            ("0.5s", "500ms"),
            ("1500us", "1500us"),
            ("2s", "2s"),
        ] {
            assert_eq!(text.parse::<Slow>().unwrap().to_string(), same);
        }
        for text in ["80", "80ms ±90ms", "0ms", "2min", "80ms 1ms 1ms", "ms", "61s", "-1ms", "1e3ms"] {
            assert_eq!(text.parse::<Slow>(), Err(BadWhich), "{text}");
        }
        for (text, same) in [("1MB/s", "1MB/s"), ("1.5MB/s", "1536kB/s"), ("500B/s", "500B/s"), ("1024kB/s", "1MB/s")] {
            assert_eq!(Harm::Throttle(rate(text).unwrap()).amount(), same);
        }
        for text in ["1MB", "0B/s", "MB/s", "1mb/s", "-1B/s"] {
            assert_eq!(rate(text), None, "{text}");
        }
    }
}

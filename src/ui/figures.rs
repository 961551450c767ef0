//! Numbers as people read them: each with its unit. The one place that spells bytes, times, counts and moments.

use crate::model::Stamp;

/// Bytes, in the server's own units (1 kB = 1024 B).
pub(crate) fn bytes(n: u64) -> String {
    crate::model::text::size(n)
}

/// A span of time in microseconds.
pub(crate) fn micros(us: u64) -> String {
    match us {
        0 => "0 ms".to_owned(),
        1..1_000 => format!("{us} µs"),
        1_000..9_950 => format!("{:.1} ms", us as f64 / 1e3),
        9_950..999_500 => format!("{:.0} ms", us as f64 / 1e3),
        999_500..59_950_000 => format!("{:.1} s", us as f64 / 1e6),
        _ => long(us / 1_000_000),
    }
}

/// How long something has lasted: seconds with one decimal, so that it doesn't change its unit while one watches.
pub(crate) fn lasted(ms: u64) -> String {
    if ms < 59_950 { format!("{:.1} s", ms as f64 / 1e3) } else { long(ms / 1_000) }
}

/// A setting's value in milliseconds, as short as it goes: `5 s`, `1 min`, `250 ms`.
pub(crate) fn setting(ms: u64) -> String {
    match ms {
        0 => "off".to_owned(),
        _ if ms.is_multiple_of(60_000) => format!("{} min", ms / 60_000),
        _ if ms.is_multiple_of(1_000) => format!("{} s", ms / 1_000),
        _ => format!("{ms} ms"),
    }
}

fn long(seconds: u64) -> String {
    match seconds {
        0..3_600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3_600, seconds / 60 % 60),
    }
}

/// A count, with commas.
pub(crate) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// So many a second.
pub(crate) fn per_second(rate: f64) -> String {
    if rate > 0.0 && rate < 9.95 { format!("{rate:.1}/s") } else { format!("{}/s", count(rate.round() as u64)) }
}

/// `1 standby`, `2 standbys`.
pub(crate) fn plural(n: usize, thing: &str) -> String {
    format!("{} {thing}{}", count(n as u64), if n == 1 { "" } else { "s" })
}

/// A moment of the lab's life, `03:12`.
pub(crate) fn clock(at: Stamp) -> String {
    let s = at.0 / 1_000_000;
    match s / 3_600 {
        0 => format!("{:02}:{:02}", s / 60, s % 60),
        h => format!("{h}:{:02}:{:02}", s / 60 % 60, s % 60),
    }
}

/// The same with a tenth of a second, `03:12.4`.
pub(crate) fn moment(at: Stamp) -> String {
    format!("{}.{}", clock(at), at.0 / 100_000 % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_carry_their_units() {
        let all = |f: fn(u64) -> String, pairs: &[(u64, &str)]| {
            for (n, text) in pairs {
                assert_eq!(f(*n), *text);
            }
        };
        all(bytes, &[(0, "0 B"), (1_023, "1023 B"), (8_704, "8.5 kB"), (1 << 20, "1.0 MB"), (300 << 30, "300 GB")]);
        all(micros, &[(0, "0 ms"), (999, "999 µs"), (4_100, "4.1 ms"), (350_000, "350 ms"), (4_100_000, "4.1 s")]);
        all(micros, &[(999_600, "1.0 s"), (192_000_000, "3 min 12 s"), (3_720_000_000, "1 h 02 min")]);
        all(count, &[(0, "0"), (999, "999"), (48_203, "48,203"), (1_234_567, "1,234,567")]);
        all(setting, &[(0, "off"), (5_000, "5 s"), (60_000, "1 min"), (250, "250 ms")]);
        all(lasted, &[(0, "0.0 s"), (4_100, "4.1 s"), (61_000, "1 min 01 s")]);
        assert_eq!(
            (per_second(0.0), per_second(0.5), per_second(1_203.4)),
            ("0/s".into(), "0.5/s".into(), "1,203/s".into())
        );
        assert_eq!((clock(Stamp(192_400_000)), moment(Stamp(192_400_000))), ("03:12".into(), "03:12.4".into()));
        assert_eq!((plural(1, "fault"), plural(0, "fault")), ("1 fault".into(), "0 faults".into()));
    }
}

//! Who will notice a silent link, and when, in one line. Words only.

use super::figures;
use crate::model::detection::Countdown;

/// Of one countdown: `p gives up on s1 in 0.9 s (wal_sender_timeout 5 s)`, or shorter.
pub(super) fn words(countdown: &Countdown, long: bool) -> String {
    let Countdown { by, on, setting, timeout_ms, .. } = countdown;
    match (countdown.left_ms(), long) {
        (Some(ms), true) => {
            let (left, limit) = (figures::lasted(ms), figures::setting(*timeout_ms));
            format!("{by} gives up on {on} in {left} ({setting} {limit})")
        }
        (Some(ms), false) => format!("{by} gives up on {on} in {}", figures::lasted(ms)),
        (None, true) => format!("{by} never gives up on {on} ({setting} is 0)"),
        (None, false) => format!("{by} never gives up on {on}"),
    }
}

/// Of several, as many as the width takes, the rest as a number.
pub(super) fn line(countdowns: &[Countdown], width: usize) -> String {
    let joined = |long| countdowns.iter().map(|c| words(c, long)).collect::<Vec<_>>().join(" · ");
    let fits = [joined(true), joined(false)].into_iter().find(|text| text.chars().count() <= width);
    fits.unwrap_or_else(|| match countdowns {
        [] => String::new(),
        [only] => words(only, false),
        [first, rest @ ..] => format!("{} · and {} more", words(first, false), rest.len()),
    })
}

//! Lesson files made by chance from good and bad ones.

/// A file that uses everything.
pub const FULL: &str = r##"
title = "T"
summary = "S"
requires = 15
[cluster]
standbys = 2
[settings]
work_mem = "8MB"
[writer]
rate = "max"
[vars]
node = "s1"
[[step]]
chapter = "One"
say = "# Hello"
note = "smile"
hint = ["a", "b"]
[[step]]
do = ["freeze ${node}", "cut p s2"]
together = true
[[step]]
wait = "waiting > 0"
within = "5s"
[[step]]
each = ["s1", "s2"]
expect = "log(${it}) ~ 'x = 1'"
during = "250ms"
[[step]]
ask = "Which?"
choices = ["this", "that"]
answer = 2
why = "So."
[[step]]
sql = '''
BEGIN
'''
on = "p"
session = "a"
background = true
[[step]]
sql = "SELECT 1"
session = "a"
rows = [[1, "x", true], []]
within = "3s"
[[step]]
pause = "300ms"
[[step]]
do = "thaw s1"
"##;

/// One of `bases` with a few things cut out, put in or repeated.
pub fn damaged(bases: &[String], chance: &mut fastrand::Rng) -> String {
    const JUNK: [&str; 16] = [
        "\"",
        "[[",
        "]]",
        "=",
        "\n",
        "${",
        "}",
        "'''",
        "\u{1b}[2J",
        "\u{202e}",
        "(",
        "~",
        "99999999999999999999",
        "ü",
        "\\",
        "[[step]]\n",
    ];
    let mut text = chance.choice(bases).cloned().unwrap_or_default();
    for _ in 0..chance.usize(1..4) {
        let cut =
            |at: usize, text: &str| (0..=at.min(text.len())).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
        let (a, b) = (chance.usize(0..=text.len()), chance.usize(0..40));
        let (from, to) = (cut(a, &text), cut(a + b, &text));
        match chance.u8(0..4) {
            0 => text.replace_range(from..to, ""),
            1 => text.insert_str(from, chance.choice(JUNK).unwrap_or_default()),
            2 => {
                let part = text[from..to].to_owned();
                let at = cut(chance.usize(0..=text.len()), &text);
                text.insert_str(at, &part);
            }
            _ => text.replace_range(from..to, &"\u{fffd}\u{7f}"[..3]),
        }
    }
    text
}

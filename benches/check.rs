//! What `replab check` takes for a file, at worst: ten thousand damaged files, all shipped lessons, and files at the limits.

mod common;
#[path = "../tests/common/damage.rs"]
mod damage;

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use common::{Bench, Goal, Run, Spread, ms};
use replab::scenario::{SHIPPED, check};

const FILES: usize = 10_000;

fn main() -> ExitCode {
    common::run("check", files, async || {})
}

async fn files(bench: &mut Bench) -> Run<()> {
    let mut chance = fastrand::Rng::with_seed(4);
    let planted = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mistakes");
    let paths = fs::read_dir(planted)?.flatten().map(|entry| entry.path());
    let mut bases: Vec<String> = paths.filter_map(|path| fs::read_to_string(path).ok()).collect();
    bases.push(damage::FULL.to_owned());
    let count = bench.rounds(FILES);
    slowest(bench, "damaged files", (0..count).map(|_| damage::damaged(&bases, &mut chance)));
    let lessons = SHIPPED.iter().map(|(_, text)| (*text).to_owned());
    slowest(bench, "shipped lessons", lessons);
    let head = "title = \"T\"\nsummary = \"S\"\n";
    let limits = [
        format!("{head}{}", "[[step]]\nsay = \"hello\"\n".repeat(1_000)),
        format!("{head}{}", "[[step]]\ndo = \"frezze s1\"\n".repeat(1_000)),
        format!("{head}[[step]]\nsay = \"{}\"\n", "x".repeat((1 << 20) - 100)),
        format!("{head}{}", "[[x]]\n".repeat((1 << 20) / 6 - 100)),
        format!("{head}[[step]]\nexpect = \"{}\"\n", "(".repeat((1 << 20) - 100)),
        format!("{head}[[step]]\npause = \"1s\"\nrepeat = 1000\nnote = \"{}\"\n", "x".repeat((1 << 20) - 200)),
        format!("{head}[vars]\na = \"{}\"\n[[step]]\nsay = \"${{n}}\"\nrepeat = 1000\n", "x".repeat((1 << 20) - 200)),
        format!("{head}[vars]\n{}[[step]]\nsay = \"${{q}}${{n}}\"\nrepeat = 1000\n", numbered("v", "= 1\n", 90_000)),
        format!("{head}[vars]\na = \"{}\"\n{}", "x".repeat(1 << 19), "[[step]]\nrepeat=1\nsay=\"x\"\n".repeat(1_000)),
        format!("{head}[settings]\n{}", numbered("wal_levle", "= 1\n", 60_000)),
        format!("{head}[[step]]\ndo = [{}]\n", numbered("\"frezze s", "\",\n", 60_000)),
        format!("{head}[[step]]\ndo = [{}]\n", numbered("\"freeze s", "\",\n", 60_000)),
        format!("{head}[[step]]\nsay = \"x\"\n{}", numbered("sya", "= 1\n", 90_000)),
        format!("{head}{}", "[[step]]\ndo=\"x\"\n".repeat(60_000)),
        format!("{head}{}", "[[step]]\nexpect=\"wating(s9) > 0\"\n".repeat(30_000)),
        format!("{head}{}", numbered("[[cluster.node]]\nfollows = \"p\"\nname = \"s", "\"\n", 20_000)),
        format!("{head}[[step]]\nsql = \"SELECT 1\"\non = \"p\"\nrows = [{}]\n", "[\"${x}\"],".repeat(100_000)),
        format!("{head}[[step]]\nsay = \"{}\"\n", "\\u001b".repeat(150_000)),
        format!("{head}[[step]]\nsay = \"x\"\nhint = [{}]\n", "\"\",".repeat(300_000)),
    ];
    slowest(bench, "files at the limits", limits.into_iter());
    Ok(())
}

/// So many lines `FIRST N LAST`.
fn numbered(first: &str, last: &str, count: usize) -> String {
    (0..count).map(|n| format!("{first}{n}{last}")).collect()
}

fn slowest(bench: &mut Bench, case: &str, texts: impl Iterator<Item = String>) {
    let case = format!("{case}, ms, slowest");
    if !bench.wants(&case) {
        return;
    }
    let time = |text: String| {
        let began = Instant::now();
        // Only the time counts; what it says is tested in tests/mistakes.rs.
        let _ = std::hint::black_box(check("bench", &text));
        ms(began)
    };
    let spread = Spread::of(&texts.map(time).collect::<Vec<f64>>());
    bench.tell(&case, &format!("{spread:.2} ms"));
    bench.goal(&case, spread.max, Goal::AtMost(100.0));
}

//! What the screen says, against what each server answers to plain `psql` before and after: three seeds of chaos here, twenty in the full
//! set, and planted untruths that must be caught.

mod common;
#[path = "net/mod.rs"]
mod net;

use common::house::Ground;

fn nothing_untrue(ground: Ground, seed: u64) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let Some(tally) = runtime.block_on(net::play::play(ground, seed, 2)) else { return };
    println!("{} casts, {} nodes judged", tally.casts, tally.judged);
    if std::env::var_os("NET_SEEDS").is_some() {
        for f in &tally.findings {
            println!("FOUND {f}");
        }
        return;
    }
    assert!(tally.findings.is_empty(), "{:#?}", tally.findings);
    assert!(tally.casts >= 6 && tally.judged >= 12, "{tally:?}");
}

#[test]
fn seed_1_as_processes() {
    nothing_untrue(Ground::Process, 1);
}

#[test]
fn seed_2_as_processes() {
    nothing_untrue(Ground::Process, 2);
}

#[test]
fn seed_3_in_docker() {
    nothing_untrue(Ground::Docker(18), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn planted_untruths_are_caught() {
    net::planted::all_are_caught().await;
}

/// For hunting: `NET_SEEDS=4..20 cargo test --test net -- --ignored --nocapture`.
#[test]
#[ignore = "a hunt for more, as long as one likes"]
fn hunt() {
    let range = std::env::var("NET_SEEDS").expect("NET_SEEDS=4..20");
    let (from, to) = range.split_once("..").expect("FROM..TO");
    for seed in from.parse().unwrap()..to.parse().unwrap() {
        nothing_untrue(Ground::Process, seed);
    }
}

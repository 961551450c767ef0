//! A handful of the fault matrix's cells; the whole is in the full set (docs/testing.md), which writes docs/faults.md.

mod common;
#[path = "matrix/mod.rs"]
mod matrix;

use common::house::{Ground, wait_for};
use matrix::cell::{Cell, play};
use matrix::faults::{FAULTS, MODES, Sight};
use matrix::page;

/// A cell is asserted in itself; what is asked here is beyond that.
fn cell(ground: Ground, fault: &str, mode: &str) -> Option<Cell> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    ground.is_there().then(|| runtime.block_on(play(ground, fault, mode)).expect("this ground has it"))
}

#[test]
fn behind_a_cut_asynchronous_writes_are_lost_at_a_failover() {
    if let Some(cell) = cell(Ground::Process, "cut-group", "async") {
        assert!(cell.lost > 100 && cell.lost < cell.acked, "{cell:?}");
    }
}

#[test]
fn behind_a_cut_synchronous_writes_wait_and_none_is_lost() {
    if let Some(cell) = cell(Ground::Docker(18), "cut-group", "FIRST") {
        assert_eq!((cell.lost, cell.unknown >= 4), (0, true), "{cell:?}");
    }
}

#[test]
fn a_frozen_standby_holds_first_up_until_the_timeout() {
    if let Some(cell) = cell(Ground::Process, "freeze-standby", "FIRST") {
        assert!((1_500..8_000).contains(&cell.silence_ms), "{cell:?}");
    }
}

#[test]
fn a_killed_backend_takes_all_sessions_with_it() {
    if let Some(cell) = cell(Ground::Process, "kill-backend", "local") {
        assert_eq!(cell.lost, 0);
    }
}

#[test]
fn the_same_in_a_container() {
    if let Some(cell) = cell(Ground::Docker(17), "kill-backend", "ANY") {
        assert_eq!(cell.lost, 0);
    }
}

#[test]
fn a_lost_engine_is_no_loss_of_writes() {
    if let Some(cell) = cell(Ground::Docker(18), "lose-engine", "async") {
        assert!(cell.said.iter().any(|s| s.contains("the engine stopped answering")), "{cell:?}");
    }
}

/// docs/faults.md is written by the full set; what stands there must be of this table.
#[test]
fn the_page_has_every_fault_and_mode() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/faults.md")).unwrap();
    for fault in FAULTS {
        let section = page.split("\n## ").find(|s| s.lines().next() == Some(fault.name));
        let section = section.unwrap_or_else(|| panic!("docs/faults.md lacks {}", fault.name));
        for (mode, sight) in MODES.iter().zip(fault.sights) {
            let row = format!("| {} | {} |", mode.name, sight.words());
            assert!(section.contains(&row), "{}: no {row}", fault.name);
        }
    }
    let cells: Vec<Cell> = page::GROUNDS
        .into_iter()
        .flat_map(|g| FAULTS.iter().filter(move |f| page::exists(g, f)).map(move |f| (g, f)))
        .flat_map(|(g, f)| MODES.iter().zip(f.sights).map(move |(m, sight)| some(g, f.key, m.name, sight)))
        .collect();
    let written = page::write(&cells).unwrap();
    assert_eq!(written.split("\n## ").next(), page.split("\n## ").next(), "the page's head is an older one");
    assert!(
        page::write(&cells[1..]).unwrap_err().starts_with("kill-primary, async"),
        "a page with a hole isn't written"
    );
}

fn some(ground: Ground, fault: &str, mode: &str, sight: Sight) -> Cell {
    Cell {
        fault: fault.to_owned(),
        mode: mode.to_owned(),
        ground: matrix::cell::ground_name(ground),
        sight,
        silence_ms: 0,
        acked: 0,
        unknown: 0,
        lost: 0,
        said: Vec::new(),
        shown_ms: 0,
        mended_ms: 0,
    }
}

#[test]
fn a_ground_without_an_engine_has_no_engine_to_lose() {
    if Ground::Process.is_there() {
        assert!(wait_for(play(Ground::Process, "lose-engine", "async")).is_none());
    }
}

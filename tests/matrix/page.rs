//! The cells as a page for people: docs/faults.md.

use std::fmt::Write as _;

use super::cell::{Cell, ground_name};
use super::faults::{FAULTS, Fault, MODES, Sight, Strike};
use crate::common::house::Ground;

/// Where the matrix is played.
pub const GROUNDS: [Ground; 2] = [Ground::Process, Ground::Docker(18)];

const HEAD: &str = "\
# Faults and what they do

Written by a test run (`cargo test --release --test full`; see [testing.md](testing.md)). Each cell is a lab of its own: a primary `p`, two
standbys, four clients that write 200 rows a second in all, `wal_sender_timeout = wal_receiver_timeout = 3s` (PostgreSQL's default is 60
s). After the fault is mended all nodes are read. Asserted in every cell: what the lab calls lost is what a plain `psql` count misses, the
verdict is sound, the lab says what it must, nothing hangs. All must be well again within 10 s; cells that took longer are named in
[full-set.md](full-set.md) and mean a busy machine, or a fault of the lab.

Columns: what the clients saw until the fault was mended, and the longest time without an acknowledgement meanwhile; writes that got no
answer; acknowledged writes that the primary lacked in the end; from the fault until the lab showed it; from the first mending command
until both standbys streamed and writes were acknowledged. Two figures in a cell are those of the processes and of the containers (18). Counts and
times are those of one run: the words are what should stay.

";

/// Whether the matrix has this cell on this ground.
pub fn exists(ground: Ground, fault: &Fault) -> bool {
    ground != Ground::Process || !matches!(fault.strike, Strike::Engine)
}

/// The page, or the first cell that is missing.
pub fn write(cells: &[Cell]) -> Result<String, String> {
    let mut page = HEAD.to_owned();
    for mode in MODES {
        let _ = writeln!(page, "- **{}**: {}", mode.name, mode.what);
    }
    for fault in FAULTS {
        section(&mut page, fault, cells)?;
    }
    Ok(page)
}

fn section(page: &mut String, fault: &Fault, cells: &[Cell]) -> Result<(), String> {
    let _ = write!(page, "\n## {}\n\n{}\n\n", fault.name, story(fault));
    page.push_str(
        "| mode | the clients saw | silence (ms) | no answer | lost | on screen after (ms) | mended after (ms) |\n",
    );
    page.push_str("|---|---|---|---|---|---|---|\n");
    let mut said: Vec<&String> = Vec::new();
    for mode in MODES {
        let mut row = Vec::new();
        for ground in GROUNDS.into_iter().filter(|g| exists(*g, fault)) {
            let wanted = |c: &&Cell| c.fault == fault.key && c.mode == mode.name && c.ground == ground_name(ground);
            let cell = cells.iter().find(wanted);
            row.push(cell.ok_or_else(|| format!("{}, {}, {}", fault.key, mode.name, ground_name(ground)))?);
        }
        for text in row.iter().flat_map(|c| &c.said) {
            if !said.contains(&text) {
                said.push(text);
            }
        }
        let figures = |of: fn(&Cell) -> u64| row.iter().map(|c| of(c).to_string()).collect::<Vec<_>>().join(" / ");
        let _ = writeln!(
            page,
            "| {} | {} | {} | {} | {} | {} | {} |",
            mode.name,
            row[0].sight.words(),
            match row[0].sight {
                Sight::Waits | Sight::Ends => "until mended".to_owned(),
                _ => figures(|c| c.silence_ms),
            },
            figures(|c| c.unknown),
            figures(|c| c.lost),
            figures(|c| c.shown_ms),
            figures(|c| c.mended_ms),
        );
    }
    page.push_str("\nThe lab said:\n\n");
    for text in said {
        let _ = writeln!(page, "- {text}");
    }
    Ok(())
}

/// What was done, and what mended it.
fn story(fault: &Fault) -> String {
    let commands = |list: &[&str]| list.iter().map(|c| format!("`{c}`")).collect::<Vec<_>>().join(", then ");
    let done = match &fault.strike {
        Strike::Commands(list) => commands(list),
        Strike::Backend => "SIGKILL to the backend of one client".to_owned(),
        Strike::Slot => "s1 is stopped, more WAL is written than `max_slot_wal_keep_size` keeps, and a checkpoint comes".to_owned(),
        Strike::Engine => {
            "The connection to the Docker engine is lost; the servers run on. As processes there is no engine to lose, so the \
             figures are those of the containers alone"
                .to_owned()
        }
    };
    let mended = match &fault.strike {
        Strike::Engine => "Mended by the engine's return.".to_owned(),
        _ if fault.mend.is_empty() => "PostgreSQL recovers by itself.".to_owned(),
        _ => format!("Mended by {}.", commands(fault.mend)),
    };
    format!("{done}. {mended}")
}

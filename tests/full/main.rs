//! The full set: the fault matrix, every lesson on every version and runtime, long chaos. Started by `cargo test --release --test
//! full`; resumable; its result goes to docs/full-set.md, the matrix to docs/faults.md. docs/testing.md says how to use it.

#[path = "../common/mod.rs"]
mod common;
mod items;
#[path = "../matrix/mod.rs"]
mod matrix;
#[path = "../net/mod.rs"]
mod net;
mod state;

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Instant;

use items::Item;
use state::{Ended, State};

const USAGE: &str = "\
cargo test --release --test full -- [--list] [--again] [FILTER ...]
  FILTER    only items whose name contains one of these
  --list    say which items there are and how they ended, and run nothing
  --again   run what has passed, too";

struct Wish {
    list: bool,
    again: bool,
    filters: Vec<String>,
}

fn wish() -> Result<Wish, String> {
    let mut wish = Wish { list: false, again: false, filters: Vec::new() };
    for word in std::env::args().skip(1) {
        match word.as_str() {
            "--list" => wish.list = true,
            "--again" => wish.again = true,
            _ if word.starts_with('-') => return Err(format!("what is {word}?\n{USAGE}")),
            _ => wish.filters.push(word),
        }
    }
    Ok(wish)
}

fn main() -> ExitCode {
    let wish = match wish() {
        Ok(wish) => wish,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::from(2);
        }
    };
    let all = items::all();
    let wanted = |item: &&Item| wish.filters.is_empty() || wish.filters.iter().any(|f| item.name.contains(f.as_str()));
    let items: Vec<&Item> = all.iter().filter(wanted).collect();
    let mut state = State::load();
    if items.is_empty() {
        eprintln!("no item is called so; --list shows all");
        return ExitCode::from(2);
    }
    if wish.list {
        for item in items {
            println!("{:40} {}", item.name, state.ended(&item.name).map_or("not run".to_owned(), Ended::words));
        }
        return ExitCode::SUCCESS;
    }
    println!("{} items at {}", items.len(), state.commit);
    let mut failed = 0;
    for item in items {
        if !wish.again && state.ended(&item.name).is_some_and(|e| e.error.is_none()) {
            continue;
        }
        print!("{:40} ", item.name);
        let _ = std::io::stdout().flush();
        let began = Instant::now();
        let error = item.run(&state).err();
        let ended = Ended { seconds: began.elapsed().as_secs_f64(), error };
        println!("{}", ended.words());
        failed += u32::from(ended.error.is_some());
        state.keep(&item.name, ended);
    }
    let names: Vec<&str> = all.iter().map(|item| item.name.as_str()).collect();
    for line in state.publish(&names) {
        println!("{line}");
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

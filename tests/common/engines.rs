//! Other engines than this machine's own, made of Debian's packages for one command each: see `tests/engines/engine.sh`.

#![allow(dead_code, reason = "each test program uses another part")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};

use super::house::{Ground, House};

/// The image that the engines get.
const IMAGE: &str = "replab/postgres:18";
/// By this status, and by the beginning of its last line, the script says that an engine can't run here.
const CANNOT: i32 = 4;
const SIGN: &str = "engine.sh: ";
/// For one command on one engine, and what comes before it the first time: packages, unpacked, and an image.
const LIMIT: &str = "240";

/// One engine after the other: lessons have deadlines, and engines beside each other would take the machine from them.
static TURN: Mutex<()> = Mutex::new(());

/// Where the packages and the engines' data are kept between runs.
fn keep() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("engines")
}

/// The program with these words beside this engine, with the engine's image and a shell's `$0` and `$@`.
pub fn beside(engine: &str, house: &House, script: &str, words: &[&str]) -> Command {
    let mut command = Command::new("timeout");
    command
        .args(["-k", "30", LIMIT, "bash"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/engines/engine.sh"));
    command.args([engine, "--image", IMAGE, "--", "bash", "-c", script, env!("CARGO_BIN_EXE_replab")]).args(words);
    command.envs(house.env()).env("REPLAB_ENGINES", keep()).stdin(Stdio::null());
    command
}

/// Runs a script beside this engine: `$0` is the program. None after saying why it is skipped: the engine can't run here, which is a
/// failure where `CI` is true.
pub fn run(engine: &str, script: &str) -> Option<Output> {
    if !Ground::Docker(18).is_there() {
        return None;
    }
    let house = House::prepared(Ground::Docker(18));
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let output = beside(engine, &house, script, &[]).output().expect("timeout and bash");
    if let Some(why) = refusal(&output) {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{engine} can't be tested: {why}");
        println!("skipped: {why}");
        return None;
    }
    Some(output)
}

/// Why the engine can't run here, where that is so.
pub fn refusal(output: &Output) -> Option<String> {
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().last().and_then(|line| line.strip_prefix(SIGN));
    last.filter(|_| output.status.code() == Some(CANNOT)).map(str::to_owned)
}

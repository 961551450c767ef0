//! What happens around the program: a log file when one is asked for, and panics, which end the program wherever they
//! happen: in a task that nobody waits for, too.

use std::fs::OpenOptions;
use std::io::IsTerminal;
use std::sync::{LazyLock, Mutex};

use color_eyre::config::{HookBuilder, Theme};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt};

use super::setup;

/// Cancelled by the first panic.
static PANICKED: LazyLock<CancellationToken> = LazyLock::new(CancellationToken::new);

/// Panics are told plainly where colours don't belong, and end the program.
pub fn install() {
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    let plain = dumb || !std::io::stderr().is_terminal() || std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
    let theme = if plain { Theme::new() } else { Theme::dark() };
    let (panic_hook, _) = HookBuilder::default().theme(theme).display_env_section(false).into_hooks();
    let hook = panic_hook.into_panic_hook();
    std::panic::set_hook(Box::new(move |info| {
        hook(info);
        PANICKED.cancel();
    }));
    log();
}

/// Waits for a panic.
pub async fn panicked() {
    PANICKED.cancelled().await;
}

/// `REPLAB_LOG=debug` writes a log into the state folder: a level, or levels of parts as `replab::drive=debug,warn`.
fn log() {
    let Some(filter) = std::env::var("REPLAB_LOG").ok().and_then(|words| words.parse::<Targets>().ok()) else { return };
    let Ok(dirs) = setup::dirs() else { return };
    let opened = std::fs::create_dir_all(&dirs.state)
        .and_then(|()| OpenOptions::new().create(true).append(true).open(dirs.state.join("replab.log")));
    match opened {
        Ok(file) => {
            let lines = fmt::layer().with_ansi(false).with_writer(Mutex::new(file));
            tracing_subscriber::registry().with(lines.with_filter(filter)).init();
        }
        Err(why) => drop(super::plain::complain(&format!("no log: {why}"))),
    }
}

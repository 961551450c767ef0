//! The program as a job of a shell: it stops when it is told to (TSTP, or Ctrl-Z on its screen) and goes on at CONT. Whoever has
//! the terminal gives it back before and takes it again after. What stopped it in another way (STOP) can't be seen coming; going on can.

use std::future::pending;
use std::io;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::{Signal, getpid, kill_current_process_group, kill_process};
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

/// Whether a screen has the terminal. Where none has, nothing must be given back.
static TAKEN: AtomicBool = AtomicBool::new(false);
static LOOKS_AFTER: Once = Once::new();

/// What a screen is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    /// Give the terminal back, then [`stop`].
    Stop,
    /// Take it again.
    GoOn,
}

/// The signals of a job, for the time that a screen has the terminal.
pub struct Jobs {
    stop: Option<Stream>,
    go_on: Option<Stream>,
}

impl Jobs {
    /// From here on a screen has the terminal. Inside tokio only.
    pub fn begin() -> Self {
        TAKEN.store(true, Ordering::SeqCst);
        LOOKS_AFTER.call_once(|| drop(tokio::spawn(stop_without_a_screen())));
        let [stop, go_on] = [Signal::TSTP, Signal::CONT].map(listen);
        Self { stop, go_on }
    }

    /// The next signal. May be given up and asked again.
    pub async fn next(&mut self) -> Job {
        tokio::select! {
            () = come(&mut self.stop) => Job::Stop,
            () = come(&mut self.go_on) => Job::GoOn,
        }
    }
}

impl Drop for Jobs {
    fn drop(&mut self) {
        TAKEN.store(false, Ordering::SeqCst);
    }
}

fn listen(which: Signal) -> Option<Stream> {
    signal(SignalKind::from_raw(which.as_raw())).ok()
}

async fn come(stream: &mut Option<Stream>) {
    match stream {
        Some(stream) => drop(stream.recv().await),
        None => pending().await,
    }
}

/// Once TSTP is listened to it stops nobody by itself any more, also not between two screens.
async fn stop_without_a_screen() {
    let mut stream = listen(Signal::TSTP);
    loop {
        come(&mut stream).await;
        if !TAKEN.load(Ordering::SeqCst) {
            drop(stop());
        }
    }
}

/// Asks for what a terminal's Ctrl-Z asks for: the whole job stops, whoever started this program in it too (`cargo run`).
pub fn ask() -> io::Result<()> {
    Ok(kill_current_process_group(Signal::TSTP)?)
}

/// Stops this program; comes back when it goes on.
pub fn stop() -> io::Result<()> {
    Ok(kill_process(getpid(), Signal::STOP)?)
}

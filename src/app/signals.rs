//! What ends the program from outside: Ctrl-C, TERM, HUP; or a panic somewhere in it.

use std::future::{Future, pending};
use std::pin::Pin;

use tokio::signal::unix::{SignalKind, signal};

use crate::cli::exit;

/// The exit code that the first such signal stands for, once it comes.
pub type Ended = Pin<Box<dyn Future<Output = u8> + Send>>;

/// From this call on (not only when it is waited for) a signal kills the program no more: it is told here.
pub fn ended() -> Ended {
    let [interrupt, terminate, hangup] =
        [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()].map(come);
    Box::pin(async move {
        tokio::select! {
            () = interrupt => exit::INTERRUPTED,
            () = terminate => exit::TERMINATED,
            () = hangup => exit::HUNG_UP,
            () = super::hooks::panicked() => 101,
        }
    })
}

fn come(kind: SignalKind) -> impl Future<Output = ()> + Send {
    let stream = signal(kind);
    async move {
        match stream {
            Ok(mut stream) => drop(stream.recv().await),
            Err(_) => pending().await,
        }
    }
}

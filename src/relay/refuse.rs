//! Refusal: connections are reset, open ones and new ones. Knows when, and how a reset is made.

use tokio::net::TcpStream;
use tokio::sync::watch;

use super::Faults;

/// Whether connections are to be reset. A cut in either direction is stronger: then nobody gets the news.
pub(super) fn applies(faults: &Faults) -> bool {
    faults.up.refuse && !faults.up.cut && !faults.down.cut
}

/// Returns when they are.
pub(super) async fn in_force(faults: &mut watch::Receiver<Faults>) {
    if faults.wait_for(applies).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Closes at once, with a reset instead of an end, so that nobody takes it for a farewell.
pub(super) fn reset(stream: TcpStream) {
    // One that is broken already needs no reset.
    let _ = stream.set_zero_linger();
}

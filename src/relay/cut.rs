//! The cut: a direction in which nothing moves. Knows when that is, not what would move.

use tokio::sync::watch;

use super::Faults;

/// Returns when neither direction is cut: a connection can be made only then, because the asking goes one way and the
/// answer the other. When the relay itself is gone there is no heal to come.
pub(super) async fn open(faults: &mut watch::Receiver<Faults>) {
    if faults.wait_for(|f| !f.up.cut && !f.down.cut).await.is_err() {
        std::future::pending::<()>().await;
    }
}

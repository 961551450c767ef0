//! A way to the engine that can be cut and frozen. Inside tokio only.

#![allow(dead_code, reason = "each test program uses another part")]

use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

/// A socket that leads to the engine's.
pub struct Way {
    folder: tempfile::TempDir,
    real: PathBuf,
    open: Option<CancellationToken>,
    hung: CancellationToken,
}

impl Way {
    pub fn new(real: &Path) -> Self {
        Self {
            folder: tempfile::tempdir().expect("a folder"),
            real: real.to_owned(),
            open: None,
            hung: CancellationToken::new(),
        }
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("engine.sock")
    }

    /// Passes everything on, or takes connections and says nothing.
    pub fn open(&mut self, answers: bool) {
        let listener = UnixListener::bind(self.socket()).expect("a socket");
        let (token, real) = (CancellationToken::new(), self.real.clone());
        self.open = Some(token.clone());
        self.hung = CancellationToken::new();
        let hung = self.hung.clone();
        let all = token.clone();
        tokio::spawn(token.run_until_cancelled_owned(async move {
            while let Ok((mut here, _)) = listener.accept().await {
                let (real, hung) = (real.clone(), hung.clone());
                tokio::spawn(all.clone().run_until_cancelled_owned(async move {
                    if !answers {
                        std::future::pending::<()>().await;
                    }
                    let mut there = UnixStream::connect(real).await.expect("the engine");
                    tokio::select! {
                        biased;
                        () = hung.cancelled() => std::future::pending().await,
                        _ = tokio::io::copy_bidirectional(&mut here, &mut there) => (),
                    }
                }));
            }
        }));
    }

    /// Passes nothing on any more, and closes nothing. `cut` it to go on.
    pub fn hang(&self) {
        self.hung.cancel();
    }

    /// Ends all that goes through it, and the way itself.
    pub fn cut(&mut self) {
        self.open.take().expect("open").cancel();
        std::fs::remove_file(self.socket()).expect("its own socket");
    }
}

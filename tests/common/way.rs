//! A way to the engine that can be cut and frozen. Inside tokio only.

#![allow(dead_code, reason = "each test program uses another part")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncWriteExt as _, Interest, Ready};
use tokio::net::unix::OwnedReadHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

/// How late things are passed on by one that forgets.
const LATE: Duration = Duration::from_millis(100);

/// Whether the other end is closed both ways.
async fn is_closed(stream: &OwnedReadHalf) -> bool {
    stream.ready(Interest::WRITABLE).await.is_ok_and(Ready::is_write_closed)
}

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

    /// Passes things on a little late, and throws away what is under way when the asker closes the connection, as Docker does from 25 on
    /// with what an attached container was to get. One that is closed for writing only loses nothing.
    pub fn open_forgetfully(&mut self) {
        let listener = UnixListener::bind(self.socket()).expect("a socket");
        let (token, real) = (CancellationToken::new(), self.real.clone());
        self.open = Some(token.clone());
        let all = token.clone();
        tokio::spawn(token.run_until_cancelled_owned(async move {
            while let Ok((here, _)) = listener.accept().await {
                let real = real.clone();
                tokio::spawn(all.clone().run_until_cancelled_owned(async move {
                    let there = UnixStream::connect(real).await.expect("the engine");
                    let ((from, mut back), (mut answers, mut to)) = (here.into_split(), there.into_split());
                    let forward = async move {
                        let mut bytes = vec![0; 64 * 1024];
                        loop {
                            from.readable().await?;
                            let count = match from.try_read(&mut bytes) {
                                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => continue,
                                count => count?,
                            };
                            tokio::time::sleep(LATE).await;
                            if is_closed(&from).await {
                                return Ok::<_, std::io::Error>(());
                            }
                            match count {
                                0 => return to.shutdown().await,
                                _ => to.write_all(&bytes[..count]).await?,
                            }
                        }
                    };
                    let backward = async move { tokio::io::copy(&mut answers, &mut back).await.map(drop) };
                    let _ = tokio::join!(forward, backward);
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

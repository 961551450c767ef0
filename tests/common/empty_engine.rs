//! An engine that answers, has no image, and can pull none. Where tests must not ask the real one; or not yet: it may come to be
//! the real one when an image is got.

#![allow(dead_code, reason = "each test program uses another part")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// It answers as long as the test program lives.
pub struct EmptyEngine {
    folder: tempfile::TempDir,
    kind: Arc<Kind>,
}

/// How it is.
struct Kind {
    /// The version of its API.
    api: &'static str,
    /// From the moment this file is there, everything goes to the engine behind this socket.
    real: Option<(PathBuf, PathBuf)>,
    pull: Pull,
}

/// What becomes of a pull.
#[derive(Clone, Copy)]
enum Pull {
    Fails,
    /// Whatever is asked for comes: the file is there then.
    Works,
    /// It begins, and nothing more comes until whoever waits for it goes away.
    Stalls,
}

impl EmptyEngine {
    pub fn start() -> Self {
        Self::of_api("1.44")
    }

    /// One whose API has this version.
    pub fn of_api(api: &'static str) -> Self {
        Self::of(tempfile::tempdir().unwrap(), Kind { api, real: None, pull: Pull::Fails })
    }

    /// One whose registry says nothing any more.
    pub fn that_stalls() -> Self {
        Self::of(tempfile::tempdir().unwrap(), Kind { api: "1.44", real: None, pull: Pull::Stalls })
    }

    /// One that becomes the real one, images and all, when something was pulled, if it can do that, or else when [`Self::mark`] is made.
    pub fn until_filled(real: &Path, pulls: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let real = Some((folder.path().join("filled"), real.to_owned()));
        Self::of(folder, Kind { api: "1.41", real, pull: if pulls { Pull::Works } else { Pull::Fails } })
    }

    fn of(folder: tempfile::TempDir, kind: Kind) -> Self {
        let engine = Self { folder, kind: Arc::new(kind) };
        let listener = UnixListener::bind(engine.socket()).unwrap();
        let kind = Arc::clone(&engine.kind);
        std::thread::spawn(move || listener.incoming().flatten().for_each(|way| drop(kind.serve(way))));
        engine
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("engine.sock")
    }

    /// The file that makes it the real one.
    pub fn mark(&self) -> &Path {
        &self.kind.real.as_ref().expect("one that can be filled").0
    }
}

impl Kind {
    fn serve(&self, way: UnixStream) -> std::io::Result<()> {
        match &self.real {
            Some((mark, real)) if mark.exists() => pass(way, UnixStream::connect(real)?),
            _ => self.answer(&way),
        }
    }

    /// One request a connection: what is asked for decides, and no request here has a body.
    fn answer(&self, mut way: &UnixStream) -> std::io::Result<()> {
        let mut lines = BufReader::new(way).lines();
        let asked = lines.next().unwrap_or_else(|| Ok(String::new()))?;
        for line in lines {
            if line?.is_empty() {
                break;
            }
        }
        let path = asked.split([' ', '?']).nth(1).unwrap_or_default();
        let (status, body) = match (path.rsplit('/').next(), self.pull) {
            (Some("version"), _) => ("200 OK", format!(r#"{{"ApiVersion":"{}"}}"#, self.api)),
            (Some("info"), _) => ("200 OK", "{}".to_owned()),
            (Some("create"), Pull::Works) => ("200 OK", self.pulled()?),
            (Some("create"), Pull::Stalls) => return stall(way),
            _ => ("404 Not Found", r#"{"message":"nothing is here"}"#.to_owned()),
        };
        let length = body.len();
        let head = format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nConnection: close\r\n");
        way.write_all(format!("{head}Content-Length: {length}\r\n\r\n{body}").as_bytes())
    }

    fn pulled(&self) -> std::io::Result<String> {
        if let Some((mark, _)) = &self.real {
            std::fs::write(mark, "")?;
        }
        Ok(r#"{"status":"Pull complete"}"#.to_owned())
    }
}

/// The beginning of a pull, and then nothing until the other end closes.
fn stall(mut way: &UnixStream) -> std::io::Result<()> {
    way.write_all(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{\"status\":\"Pulling from library/postgres\"}\r\n",
    )?;
    way.read(&mut [0]).map(drop)
}

/// Hands everything on, both ways, until the ends are closed.
fn pass(here: UnixStream, there: UnixStream) -> std::io::Result<()> {
    let back = (there.try_clone()?, here.try_clone()?);
    for (mut from, mut to) in [(here, there), back] {
        std::thread::spawn(move || {
            // Closed by whichever end: then nothing more goes this way.
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        });
    }
    Ok(())
}

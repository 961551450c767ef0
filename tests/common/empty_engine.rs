//! An engine that answers, has no image, and can pull none. Where tests must not ask the real one.

#![allow(dead_code, reason = "each test program uses another part")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

/// It answers as long as the test program lives.
pub struct EmptyEngine(tempfile::TempDir);

impl EmptyEngine {
    pub fn start() -> Self {
        let engine = Self(tempfile::tempdir().unwrap());
        let listener = UnixListener::bind(engine.socket()).unwrap();
        std::thread::spawn(move || listener.incoming().flatten().for_each(|way| drop(answer(way))));
        engine
    }

    pub fn socket(&self) -> PathBuf {
        self.0.path().join("engine.sock")
    }
}

/// One request a connection: what is asked for decides, and no request here has a body.
fn answer(way: UnixStream) -> std::io::Result<()> {
    let mut lines = BufReader::new(&way).lines();
    let asked = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let path = asked.split([' ', '?']).nth(1).unwrap_or_default();
    let (status, body) = match path.rsplit('/').next() {
        Some("version") => ("200 OK", r#"{"ApiVersion":"1.44"}"#),
        Some("info") => ("200 OK", "{}"),
        _ => ("404 Not Found", r#"{"message":"nothing is here"}"#),
    };
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nConnection: close\r\n");
    (&way).write_all(format!("{head}Content-Length: {length}\r\n\r\n{body}").as_bytes())
}

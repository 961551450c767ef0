//! An engine of a few answers, for tests of what is made of them: other engines word things otherwise, or say nothing.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex, PoisonError};

use bollard::{API_DEFAULT_VERSION, Docker};

/// What is asked for, by method and the end of the path; the status, and the body.
pub(super) type Answer = (&'static str, &'static str, u16, Vec<u8>);

/// It answers as long as the test lives. Of several answers to one question each is given once, and the last for ever.
pub(super) struct Scripted {
    _folder: tempfile::TempDir,
    pub(super) docker: Docker,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Scripted {
    pub(super) fn new(mut answers: Vec<Answer>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("engine.sock");
        let listener = UnixListener::bind(&socket).expect("a socket");
        let docker = Docker::connect_with_unix(&socket.to_string_lossy(), 5, API_DEFAULT_VERSION).expect("a client");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&asked);
        std::thread::spawn(move || {
            for way in listener.incoming().flatten() {
                // Who asks may have gone away.
                let _ = answer(&way, &mut answers, &heard);
            }
        });
        Self { _folder: folder, docker, asked }
    }

    /// The bodies of what was asked so far.
    pub(super) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn answer(mut way: &UnixStream, answers: &mut Vec<Answer>, heard: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut reader = BufReader::new(way);
    let (mut asked, mut length) = (String::new(), 0);
    reader.read_line(&mut asked)?;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if let Some(bytes) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = bytes.trim().parse().unwrap_or(0);
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    heard.lock().unwrap_or_else(PoisonError::into_inner).push(String::from_utf8_lossy(&body).into_owned());
    let mut words = asked.split([' ', '?']);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let fits = |answer: &Answer| answer.0 == method && path.ends_with(answer.1);
    let at = answers.iter().position(fits);
    let (status, body) = match at {
        Some(at) if answers[at + 1..].iter().any(fits) => (answers[at].2, answers.remove(at).3),
        Some(at) => (answers[at].2, answers[at].3.clone()),
        None => (404, br#"{"message":"nothing is here"}"#.to_vec()),
    };
    let kind = if body.starts_with(b"{") { "application/json" } else { "application/x-tar" };
    let opening = format!("HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nConnection: close\r\n");
    way.write_all(format!("{opening}Content-Length: {}\r\n\r\n", body.len()).as_bytes())?;
    way.write_all(&body)
}

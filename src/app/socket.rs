//! The lab's private socket: `replab do` and `replab notes` come in here. Lines of JSON, the version in the first one of each side. Only
//! this user and root are heard, and whatever else comes in is refused without the lab noticing. Changes nothing itself: what is asked for
//! becomes a message like any other.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, Permissions};
use std::future::pending;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::geteuid;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::model::command::Command;
use crate::model::journal::Who;
use crate::model::msg::OpId;
use crate::model::verdict::Verdict;
use crate::model::{Model, Stamp};
use crate::runtime::{Leftover, Owner, owner};
use crate::ui::notes::Notes;

/// The version of what is spoken here.
pub const VERSION: u64 = 1;
/// The ending of sockets' names.
const ENDING: &str = "sock";
/// What a socket is called among leftovers.
pub const KIND: &str = "socket";
/// No request is longer.
const REQUEST_MAX: u64 = 64 << 10;
/// Whoever connects says what he wants within this.
const SPEAK: Duration = Duration::from_secs(5);
/// Whoever doesn't listen for so long is left alone.
const LISTEN: Duration = Duration::from_secs(10);
/// So many are heard at once.
const GUESTS: usize = 16;

/// The first line of whoever comes in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// [`VERSION`].
    pub replab_socket: u64,
    /// The version that he is.
    pub replab: String,
    /// What he wants.
    pub ask: Ask,
}

/// What can be wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// A command, in the words of the prompt; answered by one [`Said::Done`] when it is done.
    Do(String),
    /// The presenter's notes, now and whenever they change.
    Notes,
}

/// The lab's first line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// [`VERSION`].
    pub replab_socket: u64,
    /// The version that the lab is.
    pub replab: String,
    /// The lab's id.
    pub lab: String,
    /// When it began, as RFC 3339 has it: what moments are counted from.
    pub began: String,
}

/// Each further line of the lab.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Said {
    /// It is done, well or not.
    Done(Reply),
    /// It isn't even tried, and why.
    Refused(String),
    /// The notes as they are now; None while no lesson plays.
    Notes(Option<Notes>),
}

/// How a command ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// Whether it went well.
    pub ok: bool,
    /// Why it was refused or failed, if so.
    pub error: Option<String>,
    /// What the journal said meanwhile.
    pub journal: Vec<String>,
    /// What SQL gave: the names of the columns, then the rows.
    pub rows: Vec<Vec<String>>,
}

/// A command that came in; its answer goes back.
#[derive(Debug)]
pub struct Asked {
    /// The command.
    pub command: Command,
    reply: oneshot::Sender<Reply>,
}

/// A command under way.
#[derive(Debug)]
struct Waiting {
    reply: oneshot::Sender<Reply>,
    command: Command,
    /// Its operations; None before the model has answered.
    ops: Option<Vec<OpId>>,
    /// Journal entries that there were before it.
    from: usize,
}

/// The lab's side: what came in, and who waits for an answer. Its end is the socket's end.
#[derive(Debug)]
pub struct Desk {
    path: PathBuf,
    requests: mpsc::Receiver<Asked>,
    waiting: BTreeMap<u64, Waiting>,
    next: u64,
    notes: watch::Sender<Option<Notes>>,
    stop: CancellationToken,
}

/// What those who serve guests share.
#[derive(Clone, Debug)]
struct Hall {
    head: Arc<str>,
    requests: mpsc::Sender<Asked>,
    notes: watch::Receiver<Option<Notes>>,
    stop: CancellationToken,
}

impl Desk {
    /// Opens the socket of a lab that is so old by now. Called inside the runtime.
    pub fn open(folder: &Path, lab: &str, age: Stamp) -> io::Result<Self> {
        private(folder)?;
        let path = folder.join(format!("{lab}.{ENDING}"));
        let listener = UnixListener::bind(&path)?;
        fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        let began = jiff::Timestamp::now() - jiff::SignedDuration::from_micros(age.0.cast_signed());
        let replab = env!("CARGO_PKG_VERSION").to_owned();
        let head = Head { replab_socket: VERSION, replab, lab: lab.to_owned(), began: began.to_string() };
        let head = line(&head).into();
        let (out, requests) = mpsc::channel(GUESTS);
        let (notes, seen) = watch::channel(None);
        let stop = CancellationToken::new();
        let hall = Hall { head, requests: out, notes: seen, stop: stop.clone() };
        tokio::spawn(listen(listener, hall));
        Ok(Self { path, requests, waiting: BTreeMap::new(), next: 0, notes, stop })
    }

    /// The next command that comes in.
    pub async fn next(&mut self) -> Asked {
        match self.requests.recv().await {
            Some(asked) => asked,
            None => pending().await,
        }
    }

    /// A command is about to be asked for: its number.
    pub fn note(&mut self, asked: Asked, model: &Model) -> (u64, Command) {
        let number = self.next;
        self.next += 1;
        let Asked { command, reply } = asked;
        let from = model.journal.written();
        self.waiting.insert(number, Waiting { reply, command: command.clone(), ops: None, from });
        (number, command)
    }

    /// The model took it on as these operations, or refused it.
    pub fn answered(&mut self, number: u64, answer: Result<Vec<OpId>, String>) {
        match answer {
            Ok(ops) => {
                if let Some(waiting) = self.waiting.get_mut(&number) {
                    waiting.ops = Some(ops);
                }
            }
            Err(why) => {
                if let Some(waiting) = self.waiting.remove(&number) {
                    // Nobody waits any more: fine.
                    drop(waiting.reply.send(Reply { error: Some(why), ..Reply::default() }));
                }
            }
        }
    }

    /// Answers those whose commands are done.
    pub fn settle(&mut self, model: &Model) {
        let over = |w: &Waiting| w.ops.as_ref().is_some_and(|ops| ops.iter().all(|id| !model.ops.contains_key(id)));
        let done: Vec<u64> = self.waiting.iter().filter(|(_, w)| over(w)).map(|(number, _)| *number).collect();
        for waiting in done.into_iter().filter_map(|number| self.waiting.remove(&number)) {
            let reply = reply(model, &waiting);
            drop(waiting.reply.send(reply));
        }
    }

    /// Tells the notes to those who follow them, where they have changed.
    pub fn tell(&self, model: &Model) {
        let now = Notes::of(model);
        self.notes.send_if_modified(|told| {
            let changed = *told != now;
            *told = now;
            changed
        });
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.stop.cancel();
        drop(fs::remove_file(&self.path));
    }
}

/// How it went: what was said meanwhile, and what SQL gave.
fn reply(model: &Model, waiting: &Waiting) -> Reply {
    let ops = waiting.ops.as_deref().unwrap_or_default();
    let told = model.journal.since(waiting.from).filter(|entry| matches!(entry.who, Who::Lab | Who::Outside));
    let journal = told.map(|entry| super::plain::line(entry).trim_end().to_owned()).collect();
    let answers: Vec<_> = ops.iter().filter_map(|id| model.answers.get(id)).collect();
    let failed = ops.iter().find_map(|id| model.ended.get(id).cloned().flatten());
    let refused =
        answers.iter().find_map(|a| a.error.as_ref()).map(|(state, text)| format!("SQLSTATE {state}: {text}"));
    let error = failed.or(refused).or_else(|| broken(model, &waiting.command));
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "NULL".to_owned());
    let table = answers.into_iter().filter(|a| !a.columns.is_empty());
    let rows = table.flat_map(|answer| {
        let rows = answer.rows.iter().map(|row| row.iter().map(text).collect());
        std::iter::once(answer.columns.clone()).chain(rows).collect::<Vec<_>>()
    });
    Reply { ok: error.is_none(), journal, rows: rows.collect(), error }
}

/// A `verify` that finds a broken promise didn't go well.
fn broken(model: &Model, command: &Command) -> Option<String> {
    let verification = model.verification.as_ref().filter(|_| *command == Command::Verify)?;
    match &verification.verdict {
        Verdict::Broken(findings) => Some(format!("a promise was broken: {}", findings.join("; "))),
        Verdict::Sound | Verdict::Unknown(_) => None,
    }
}

/// A folder for this user alone.
fn private(folder: &Path) -> io::Result<()> {
    // Only this folder is private: others in the state folder are the servers' users', too.
    fs::create_dir_all(folder.parent().unwrap_or(folder))?;
    DirBuilder::new().mode(0o700).create(folder).or_else(|why| match why.kind() {
        io::ErrorKind::AlreadyExists => Ok(()),
        _ => Err(why),
    })?;
    let meta = fs::symlink_metadata(folder)?;
    if !meta.is_dir() || meta.uid() != geteuid().as_raw() {
        return Err(io::Error::other(format!("{} isn't this user's own folder", folder.display())));
    }
    fs::set_permissions(folder, Permissions::from_mode(0o700))
}

/// A value as one line.
pub fn line(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default() + "\n"
}

async fn listen(listener: UnixListener, hall: Hall) {
    let room = Arc::new(Semaphore::new(GUESTS));
    loop {
        let guest = tokio::select! {
            () = hall.stop.cancelled() => return,
            come = listener.accept() => come,
        };
        let (Ok((stream, _)), Ok(place)) = (guest, Arc::clone(&room).try_acquire_owned()) else {
            // Too many, or no more files to be had: whoever it was may try again, and the lab must not spin.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let hall = hall.clone();
        tokio::spawn(async move {
            let stop = hall.stop.clone();
            tokio::select! {
                () = stop.cancelled() => {}
                served = serve(stream, hall) => if let Err(error) = served { tracing::debug!(%error, "a guest of the socket") },
            }
            drop(place);
        });
    }
}

/// One guest: heard, if it is this user or root.
async fn serve(stream: UnixStream, mut hall: Hall) -> io::Result<()> {
    let uid = stream.peer_cred()?.uid();
    if uid != geteuid().as_raw() && uid != 0 {
        return Ok(());
    }
    let (input, mut out) = stream.into_split();
    let mut first = Vec::new();
    let mut input = BufReader::new(input.take(REQUEST_MAX));
    timeout(SPEAK, input.read_until(b'\n', &mut first)).await??;
    if first.is_empty() {
        return Ok(());
    }
    say(&mut out, &hall.head).await?;
    let refused = match understood(&first) {
        Ok(Ask::Notes) => return tell(&mut out, &mut hall.notes).await,
        Ok(Ask::Do(text)) => match text.parse::<Command>() {
            Ok(command) => return act(&mut out, &hall, command).await,
            Err(why) => why.to_string(),
        },
        Err(why) => why,
    };
    say(&mut out, &line(&Said::Refused(refused))).await
}

/// What the first line asks for, or why that can't be told.
fn understood(first: &[u8]) -> Result<Ask, String> {
    let value: serde_json::Value =
        serde_json::from_slice(first).map_err(|_| "this is no request of replab's".to_owned())?;
    match value.get("replab_socket").and_then(serde_json::Value::as_u64) {
        Some(VERSION) => {}
        Some(other) => return Err(other_version(other)),
        None => return Err("this is no request of replab's".to_owned()),
    }
    let request: Request = serde_json::from_value(value).map_err(|why| format!("this can't be asked for: {why}"))?;
    Ok(request.ask)
}

/// What to do about another version, for either side.
pub fn other_version(other: u64) -> String {
    format!("version {other} of the lab's socket is not known here, only {VERSION}: use the replab that opened the lab")
}

async fn act(out: &mut OwnedWriteHalf, hall: &Hall, command: Command) -> io::Result<()> {
    let (reply, answer) = oneshot::channel();
    let asked = hall.requests.send(Asked { command, reply }).await;
    // Where the lab is gone, the end of the line says so.
    let (Ok(()), Ok(reply)) = (asked, answer.await) else { return Ok(()) };
    say(out, &line(&Said::Done(reply))).await
}

async fn tell(out: &mut OwnedWriteHalf, notes: &mut watch::Receiver<Option<Notes>>) -> io::Result<()> {
    notes.mark_changed();
    while notes.changed().await.is_ok() {
        let now = notes.borrow_and_update().clone();
        say(out, &line(&Said::Notes(now))).await?;
    }
    Ok(())
}

async fn say(out: &mut OwnedWriteHalf, text: &str) -> io::Result<()> {
    timeout(LISTEN, out.write_all(text.as_bytes())).await?
}

/// The labs that can be reached: id and socket. Those that nobody listens to any more are [`leftovers`].
pub fn reachable(folder: &Path) -> Vec<(String, PathBuf)> {
    sockets(folder).into_iter().filter(|(_, path)| answers(path)).collect()
}

fn sockets(folder: &Path) -> Vec<(String, PathBuf)> {
    let paths = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let named = paths.filter(|path| path.extension().is_some_and(|e| e == ENDING));
    let mut found: Vec<(String, PathBuf)> = named
        .filter_map(|path| Some((path.file_stem()?.to_str()?.to_owned(), path)))
        .filter(|(lab, _)| owner::is_lab_id(lab))
        .collect();
    found.sort();
    found
}

fn answers(path: &Path) -> bool {
    std::os::unix::net::UnixStream::connect(path).is_ok()
}

/// All sockets, among them those whose lab is gone.
pub fn leftovers(folder: &Path) -> Vec<Leftover> {
    let all = sockets(folder).into_iter();
    let left = all.filter_map(|(lab, path)| {
        let uid = fs::symlink_metadata(&path).ok()?.uid();
        let (boot_id, pid_ns) = (String::new(), String::new());
        let owner = Owner { lab: lab.clone(), pid: 0, pid_start: 0, boot_id, pid_ns, uid };
        let (kind, id, name) = (KIND.to_owned(), path.to_string_lossy().into_owned(), format!("of lab {lab}"));
        Some(Leftover { kind, id, name, owner: Some(owner), alive: answers(&path) })
    });
    left.collect()
}

/// Removes one of them; one that nobody listened to must not have been taken up meanwhile.
pub fn remove(left: &Leftover) -> io::Result<()> {
    let path = Path::new(&left.id);
    if !left.alive && answers(path) {
        return Err(io::Error::other("somebody listens to it by now"));
    }
    match fs::remove_file(path) {
        Err(why) if why.kind() != io::ErrorKind::NotFound => Err(why),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_requests_of_this_version_are_understood() {
        let request = |version: u64, ask| Request { replab_socket: version, replab: "9.9".into(), ask };
        let heard = |request: &Request| understood(line(request).as_bytes());
        assert_eq!(heard(&request(VERSION, Ask::Notes)), Ok(Ask::Notes));
        assert_eq!(heard(&request(VERSION, Ask::Do("kill p".into()))), Ok(Ask::Do("kill p".into())));
        assert!(heard(&request(2, Ask::Notes)).unwrap_err().contains("use the replab that opened the lab"));
        for garbage in
            [&b"\xff\xfe\n"[..], b"{}\n", b"[1,2]\n", b"{\"replab_socket\":\"1\"}\n", b"GET / HTTP/1.1\r\n", b"\0"]
        {
            assert!(understood(garbage).unwrap_err().contains("no request"), "{garbage:?}");
        }
        let odd = b"{\"replab_socket\":1,\"replab\":\"1\",\"ask\":{\"sing\":1}}\n";
        assert!(understood(odd).unwrap_err().contains("can't be asked for"));
    }
}

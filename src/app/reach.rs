//! A lab that runs, reached from another program: `replab do` and `replab notes`. Knows the socket's words, and nothing of labs.

use std::time::Duration;

use color_eyre::eyre::{Result, WrapErr};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines, Take};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

use super::plain::{complain, print, tell};
use super::socket::{self, Ask, Head, Reply, Request, Said, VERSION, other_version};
use super::{setup, signals, terminal};
use crate::cli::{Common, exit};
use crate::model::command::Command;
use crate::model::safe_text;
use crate::ui::notes::Notes;

/// A lab that runs answers at once.
const ANSWER: Duration = Duration::from_secs(10);
/// However long one listens: no lab says more than this.
const HEARD_MAX: u64 = 1 << 30;

/// Why nothing was asked: no lab, several, or the wrong words. The exit code is that of a wrong argument.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NotAsked(String);

/// A lab that listens.
#[derive(Debug)]
pub struct Line {
    /// The lab's id.
    pub lab: String,
    began: jiff::Timestamp,
    lines: Lines<BufReader<Take<OwnedReadHalf>>>,
    /// Held open: its end would be the end of the conversation.
    _out: OwnedWriteHalf,
}

impl Line {
    /// Asks the lab that is meant.
    async fn open(wanted: Option<&str>, ask: Ask) -> Result<Self> {
        let (lab, path) = one(wanted, socket::reachable(&setup::sockets()?))?;
        let stream = UnixStream::connect(&path).await.wrap_err_with(|| format!("can't reach lab {lab}"))?;
        let (input, mut out) = stream.into_split();
        let request = Request { replab_socket: VERSION, replab: env!("CARGO_PKG_VERSION").to_owned(), ask };
        out.write_all(socket::line(&request).as_bytes()).await.wrap_err_with(|| format!("can't ask lab {lab}"))?;
        let mut lines = BufReader::new(input.take(HEARD_MAX)).lines();
        let first = timeout(ANSWER, lines.next_line()).await.wrap_err_with(|| format!("lab {lab} doesn't answer"))?;
        let first = first.wrap_err_with(|| format!("lab {lab} doesn't answer"))?.unwrap_or_default();
        let head = understood(&first).map_err(|why| NotAsked(format!("lab {lab}: {why}")))?;
        let began = head.began.parse().wrap_err("the lab's clock")?;
        Ok(Self { lab: head.lab, began, lines, _out: out })
    }

    /// What the lab says next; None when it has ended.
    async fn next(&mut self) -> Option<Said> {
        loop {
            let text = self.lines.next_line().await.ok().flatten()?;
            // A word that a later version has beside these is none for us.
            if let Ok(said) = serde_json::from_str(&text) {
                return Some(said);
            }
        }
    }

    /// The notes that come next; None when the lab has ended.
    pub async fn notes(&mut self) -> Option<Option<Notes>> {
        loop {
            if let Said::Notes(notes) = self.next().await? {
                return Some(notes);
            }
        }
    }

    /// How old the lab is now, in microseconds.
    pub fn age(&self) -> u64 {
        u64::try_from(jiff::Timestamp::now().duration_since(self.began).as_micros()).unwrap_or(0)
    }
}

/// The one lab that is meant among those that run.
fn one<T>(wanted: Option<&str>, mut running: Vec<(String, T)>) -> Result<(String, T), NotAsked> {
    let ids = running.iter().map(|(lab, _)| lab.as_str()).collect::<Vec<_>>().join(", ");
    if running.is_empty() {
        return Err(NotAsked("no lab of yours runs; open one first: replab up".to_owned()));
    }
    match wanted {
        Some(wanted) => {
            let at = running.iter().position(|(lab, _)| lab == wanted);
            let at = at.ok_or_else(|| NotAsked(format!("no lab {} runs; there is: {ids}", safe_text(wanted))))?;
            Ok(running.swap_remove(at))
        }
        None if running.len() == 1 => Ok(running.remove(0)),
        None => Err(NotAsked(format!("several labs run: {ids}; say which one: --lab {}", running[0].0))),
    }
}

fn understood(first: &str) -> Result<Head, String> {
    let value: serde_json::Value = serde_json::from_str(first).map_err(|_| "it says nothing that is known here")?;
    match value.get("replab_socket").and_then(serde_json::Value::as_u64) {
        Some(VERSION) => serde_json::from_value(value).map_err(|why| why.to_string()),
        Some(other) => Err(other_version(other)),
        None => Err("it says nothing that is known here".to_owned()),
    }
}

/// `do`: asks the lab that runs for a command, and waits for its end.
pub async fn act(common: &Common, lab: Option<&str>, words: &[String]) -> Result<u8> {
    if common.read_only {
        return Err(
            NotAsked("do acts on a lab, and --read-only refuses every act: leave --read-only out".into()).into()
        );
    }
    let text = words.join(" ");
    if let Err(why) = text.parse::<Command>() {
        return Err(NotAsked(format!("{}: {why}", safe_text(&text))).into());
    }
    let mut ended = signals::ended();
    let asked = async {
        let mut line = Line::open(lab, Ask::Do(text.clone())).await?;
        Ok::<_, color_eyre::Report>((line.next().await, line.lab))
    };
    let (said, lab) = tokio::select! {
        asked = asked => asked?,
        code = &mut ended => return Ok(code),
    };
    match said {
        Some(Said::Done(reply)) => told(common, &reply),
        Some(Said::Refused(why)) => Err(NotAsked(safe_text(&why)).into()),
        Some(Said::Notes(_)) | None => {
            complain(&format!("lab {lab} ended before it was done"))?;
            Ok(exit::FAILED)
        }
    }
}

/// What was done: the journal of that while, then rows; what went wrong on standard error.
fn told(common: &Common, reply: &Reply) -> Result<u8> {
    let mut text = String::new();
    if common.json {
        text = serde_json::to_string_pretty(reply)? + "\n";
    } else {
        if !common.quiet {
            text.extend(reply.journal.iter().map(|line| safe_text(line) + "\n"));
        }
        let cells = |row: &Vec<String>| row.iter().map(|value| safe_text(value)).collect::<Vec<_>>().join("\t") + "\n";
        text.extend(reply.rows.iter().map(cells));
    }
    print(&text)?;
    if let Some(why) = &reply.error {
        complain(&safe_text(why))?;
    }
    Ok(if reply.ok { exit::OK } else { exit::FAILED })
}

/// `notes`: follows the lesson that plays, until its lab ends.
pub async fn notes(common: &Common, lab: Option<&str>) -> Result<u8> {
    let mut ended = signals::ended();
    let mut line = Line::open(lab, Ask::Notes).await?;
    let on_screen = !common.json && super::on_terminal();
    let code = if on_screen {
        terminal::notes(common, &mut line, &mut ended).await?
    } else {
        tokio::select! {
            told = follow(common, &mut line) => {
                told?;
                None
            }
            code = &mut ended => Some(code),
        }
    };
    if code.is_none() && !common.json && !common.quiet {
        print(&format!("lab {} has ended\n", safe_text(&line.lab)))?;
    }
    Ok(code.unwrap_or(exit::OK))
}

async fn follow(common: &Common, line: &mut Line) -> Result<()> {
    let mut title = None;
    while let Some(notes) = line.notes().await {
        if common.json {
            tell(&socket::line(&notes))?;
            continue;
        }
        let Some(notes) = notes else {
            tell("no lesson plays\n")?;
            continue;
        };
        if title.as_ref() != Some(&notes.title) {
            tell(&format!("{}\n", safe_text(&notes.title)))?;
            title = Some(notes.title.clone());
        }
        tell(&notes.lines(line.age()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lab_that_is_meant_is_found() {
        let labs = |ids: &[&str]| ids.iter().map(|id| ((*id).to_owned(), ())).collect::<Vec<_>>();
        let why = |wanted: Option<&str>, ids: &[&str]| one(wanted, labs(ids)).unwrap_err().to_string();
        assert_eq!(one(None, labs(&["a"])).unwrap().0, "a");
        assert_eq!(one(Some("b"), labs(&["a", "b"])).unwrap().0, "b");
        assert!(why(None, &[]).contains("replab up") && why(Some("a"), &[]).contains("replab up"));
        assert!(why(None, &["a", "b"]).contains("a, b; say which one: --lab a"));
        assert!(why(Some("c"), &["a", "b"]).contains("no lab c runs; there is: a, b"));
    }

    #[test]
    fn a_lab_of_another_version_is_refused_with_what_to_do() {
        assert!(understood(r#"{"replab_socket":2}"#).unwrap_err().contains("use the replab that opened the lab"));
        assert!(understood("hello").is_err() && understood("").is_err());
    }
}

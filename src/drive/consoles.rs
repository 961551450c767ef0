//! SQL of a person or a lesson, on a connection of its own or in a session that is kept. Knows no SQL and judges no answer.
//!
//! A session opens at its first statement and is one connection until it is closed: by the end of the lesson or of the lab, by a
//! reset, by an answer that came too late, or by the server, which may do that at any time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{Done, Failure, Lab, Steps};
use crate::model::NodeName;
use crate::model::msg::{Happened, Msg, SqlResult, Standing};
use crate::pg::console::{Answer, Console, Limits, Rights, Said, Transaction};
use crate::runtime::Runtime;

/// What a kept session may run for: a commit that waits is what some of them are for.
const KEPT: Duration = Duration::from_mins(10);

/// The kept sessions.
#[derive(Debug, Default)]
pub struct Consoles {
    open: BTreeMap<NodeName, Line>,
    end: CancellationToken,
}

/// The way to a kept session.
type Line = mpsc::Sender<Asked>;

/// A text for a kept session.
#[derive(Debug)]
struct Asked {
    text: String,
    tell: oneshot::Sender<Result<Answer, Failure>>,
}

/// What is to be run, and where.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    pub node: &'a NodeName,
    pub session: Option<&'a NodeName>,
    /// Whether that one isn't there, and is opened now.
    pub opens: bool,
    pub text: &'a str,
    pub lesson: bool,
}

pub async fn sql<R: Runtime>(lab: &Arc<Lab<R>>, ask: Ask<'_>, steps: &mut Steps) -> Done {
    steps.sql(ask.node, ask.text);
    let rights = if ask.lesson { Rights::Lesson(&lab.passwords.lesson) } else { Rights::Owner };
    let result = match ask.session {
        None => result_of(lab.control(ask.node)?.run_text_as(rights, ask.text, Limits::default()).await?),
        Some(session) => in_session(lab, ask, session, rights).await?,
    };
    lab.look(ask.node).await;
    Ok(Happened::Sql(result))
}

async fn in_session<R: Runtime>(
    lab: &Arc<Lab<R>>,
    ask: Ask<'_>,
    session: &NodeName,
    rights: Rights<'_>,
) -> Result<SqlResult, Failure> {
    let (there, end) = {
        let consoles = lab.consoles();
        (consoles.open.get(session).filter(|_| !ask.opens).cloned(), consoles.end.clone())
    };
    let (tell, answer) = oneshot::channel();
    let asked = Asked { text: ask.text.to_owned(), tell };
    let work = async {
        let line = match there {
            Some(line) => line,
            None if ask.opens => open(lab, ask, session, rights).await?,
            None => return Ok(None),
        };
        drop(line.send(asked).await);
        answer.await.ok().transpose()
    };
    let answer = tokio::select! {
        answer = work => answer?,
        () = end.cancelled() => {
            return Ok(SqlResult {
                notices: vec![format!("session {session} was closed while this ran: it may still be carried out")],
                standing: Standing::Closed,
                ..SqlResult::default()
            });
        }
    };
    // Not taken up, or there is nobody to take it up.
    answer.map(result_of).ok_or_else(|| Failure(format!("session {session} had just ended, so this was not run")))
}

/// Opens a session; from then on it has a task of its own, which hears also what comes while nothing runs.
async fn open<R: Runtime>(
    lab: &Arc<Lab<R>>,
    ask: Ask<'_>,
    session: &NodeName,
    rights: Rights<'_>,
) -> Result<Line, Failure> {
    let control = lab.control(ask.node)?;
    let opened = tokio::time::timeout(Limits::default().time, control.console(rights, KEPT)).await;
    let console = opened.map_err(|_| Failure(format!("{} lets nobody in", ask.node)))??;
    let (line, asked) = mpsc::channel(1);
    let end = {
        let mut consoles = lab.consoles();
        consoles.open.insert(session.clone(), line.clone());
        consoles.end.clone()
    };
    let (lab, session) = (Arc::clone(lab), session.clone());
    tokio::spawn(async move {
        tokio::select! {
            why = keep(console, asked) => if let Some(why) = why { lab.tell(Msg::SessionEnded(session, why)).await },
            () = end.cancelled() => {}
        }
    });
    Ok(line)
}

/// Runs what is asked until the session is of no more use; why, where the server ended it while nothing ran.
async fn keep(mut console: Console, mut asked: mpsc::Receiver<Asked>) -> Option<String> {
    let limits = Limits { time: KEPT, ..Limits::default() };
    loop {
        let Asked { text, tell } = tokio::select! {
            asked = asked.recv() => asked?,
            why = console.ended() => return Some(why),
        };
        let answer = console.run(&text, limits).await;
        let over = answer.as_ref().map_or(true, |a| a.unfinished);
        // Whoever asked may have gone.
        drop(tell.send(answer.map_err(Failure::from)));
        if over {
            return None;
        }
    }
}

/// Closes all sessions; what runs in one is told so. A commit that waits on its server goes on waiting there.
pub fn close_all<R: Runtime>(lab: &Lab<R>) {
    let old = std::mem::take(&mut *lab.consoles());
    old.end.cancel();
}

/// The last result and tag, every notice, and the error, if there is one.
fn result_of(answer: Answer) -> SqlResult {
    let mut result = SqlResult::default();
    for said in answer.said {
        match said {
            Said::Rows { columns, rows, more } => (result.columns, result.rows, result.more) = (columns, rows, more),
            Said::Tag(tag) => result.tag = tag,
            Said::Notice(n) => result.notices.push(format!("{}: {}", n.severity, n.message)),
            Said::Error(e) => result.error = Some((e.code, e.message)),
        }
    }
    result.standing = match answer.transaction {
        Transaction::None => Standing::Idle,
        Transaction::Open => Standing::InTransaction,
        Transaction::Failed => Standing::Failed,
    };
    if answer.unfinished {
        let why =
            answer.lost.map_or_else(|| "no answer in time".to_owned(), |why| format!("the connection is gone ({why})"));
        result.notices.push(format!("{why}: what was typed may still be carried out"));
        result.standing = Standing::Closed;
    }
    result
}

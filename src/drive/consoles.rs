//! SQL of a person or a lesson, on a connection of its own or in a session that is kept. Knows no SQL and judges no answer.
//!
//! A session opens at its first statement and is one connection until it is closed: by the end of the lesson or of the lab, by a
//! reset, by an answer that came too late, or by the server.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{Done, Failure, Lab, Steps};
use crate::model::NodeName;
use crate::model::msg::{Happened, SqlResult, Standing};
use crate::pg::console::{Answer, Console, Limits, Rights, Said, Transaction};
use crate::runtime::Runtime;

/// What a kept session may run for: a commit that waits is what some of them are for.
const KEPT: Duration = Duration::from_mins(10);

/// The kept sessions.
#[derive(Debug, Default)]
pub struct Consoles {
    open: BTreeMap<NodeName, Arc<Kept>>,
    end: CancellationToken,
}

/// One kept session. What runs in it holds the lock.
type Kept = tokio::sync::Mutex<Option<Console>>;

/// What is to be run, and where.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    pub node: &'a NodeName,
    pub session: Option<&'a NodeName>,
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
    let (kept, end) = {
        let mut consoles = lab.consoles();
        let end = consoles.end.clone();
        (Arc::clone(consoles.open.entry(session.clone()).or_default()), end)
    };
    let answer = tokio::select! {
        answer = run(lab, ask, &kept, rights) => answer,
        () = end.cancelled() => {
            return Ok(SqlResult {
                notices: vec![format!("session {session} was closed while this ran: it may still be carried out")],
                standing: Standing::Closed,
                ..SqlResult::default()
            });
        }
    };
    if answer.as_ref().map_or(true, |a| a.unfinished) {
        lab.consoles().open.retain(|_, other| !Arc::ptr_eq(other, &kept));
    }
    Ok(result_of(answer?))
}

async fn run<R: Runtime>(lab: &Arc<Lab<R>>, ask: Ask<'_>, kept: &Kept, rights: Rights<'_>) -> Result<Answer, Failure> {
    let mut kept = kept.lock().await;
    let limits = Limits { time: KEPT, ..Limits::default() };
    let mut console = match kept.take() {
        Some(console) => console,
        None => {
            let opening = lab.control(ask.node)?;
            let opened = tokio::time::timeout(Limits::default().time, opening.console(rights, KEPT)).await;
            opened.map_err(|_| Failure(format!("{} lets nobody in", ask.node)))??
        }
    };
    let answer = console.run(ask.text, limits).await?;
    if !answer.unfinished {
        *kept = Some(console);
    }
    Ok(answer)
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

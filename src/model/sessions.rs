//! Kept SQL sessions as the model sees them: on which node, what runs, how they stand. Knows no connection and no SQL.

use serde::{Deserialize, Serialize};

use super::cluster::NodeState;
use super::msg::{OpId, Origin, SqlResult, Standing};
use super::{Model, NodeName};

/// A session that is kept from one statement to the next.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// Where it is.
    pub node: NodeName,
    /// Who opened it.
    pub origin: Origin,
    /// What runs in it.
    pub op: Option<OpId>,
    /// What the last statement gave.
    pub result: Option<SqlResult>,
    /// How it stands between statements.
    pub standing: Standing,
}

impl Session {
    /// "running" while a statement is under way, else how it stands.
    pub fn word(&self) -> &'static str {
        if self.op.is_some() { "running" } else { self.standing.word() }
    }
}

impl Model {
    /// Whether that session may run something on that node now; the error says why not.
    pub(super) fn may_ask(&self, name: &NodeName, node: &NodeName) -> Result<(), String> {
        match self.sessions.get(name) {
            Some(s) if s.op.is_some() => Err(format!("session {name} still runs its last statement")),
            Some(s) if s.standing != Standing::Closed && s.node != *node => {
                Err(format!("session {name} is on {}, not on {node}", s.node))
            }
            _ => Ok(()),
        }
    }

    /// A statement begins in a session, which is opened by that.
    pub(super) fn session_begins(&mut self, name: &NodeName, node: &NodeName, op: OpId, origin: Origin) {
        let fresh = Session { node: node.clone(), origin, op: None, result: None, standing: Standing::Idle };
        let session = self.sessions.entry(name.clone()).or_insert_with(|| fresh.clone());
        if session.standing == Standing::Closed {
            *session = fresh;
        }
        session.op = Some(op);
        session.result = None;
    }

    /// A statement of a session ended; without a result the connection is gone.
    pub(super) fn session_ended(&mut self, op: OpId, result: Option<&SqlResult>) {
        if let Some(session) = self.sessions.values_mut().find(|s| s.op == Some(op)) {
            session.op = None;
            session.standing = result.map_or(Standing::Closed, |r| r.standing);
            session.result = result.cloned();
        }
    }

    /// Whether there is a session of that name.
    pub(super) fn has_session(&self, name: &NodeName) -> bool {
        self.sessions.get(name).is_some_and(|s| s.standing != Standing::Closed)
    }

    /// The server ended a session, on which node, if that is news: of one in which a statement has begun since, that one's answer tells.
    pub(super) fn session_lost(&mut self, name: &NodeName) -> Option<NodeName> {
        let session = self.sessions.get_mut(name).filter(|s| s.op.is_none() && s.standing != Standing::Closed)?;
        session.standing = Standing::Closed;
        Some(session.node.clone())
    }

    /// Sessions on a server that is down are gone.
    pub(super) fn close_dead_sessions(&mut self) {
        let (nodes, sessions) = (&self.nodes, &mut self.sessions);
        for session in sessions.values_mut().filter(|s| s.op.is_none()) {
            let down = nodes.iter().any(|n| n.name == session.node && matches!(n.state, NodeState::Exited(_)));
            if down || !nodes.iter().any(|n| n.name == session.node) {
                session.standing = Standing::Closed;
            }
        }
    }

    /// The lesson is over: whether there are sessions of it to be closed. They count as closed from now on.
    pub(super) fn let_sessions_go(&mut self) -> bool {
        let open = |s: &&mut Session| s.origin == Origin::Script && s.standing != Standing::Closed;
        let mut any = false;
        for session in self.sessions.values_mut().filter(open) {
            session.standing = Standing::Closed;
            any = true;
        }
        any
    }
}

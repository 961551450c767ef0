//! What can go wrong on a control connection, in words that are safe for a terminal. Knows the client library's error, whose
//! own text is just "db error".

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use crate::model::safe_text;

/// An error or notice as the server reported it (manual 55.8), made safe for a terminal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerError {
    /// ERROR, FATAL, PANIC, WARNING, NOTICE …
    pub severity: String,
    /// SQLSTATE (manual, appendix A).
    pub code: String,
    /// The primary message.
    pub message: String,
    /// DETAIL, if any.
    pub detail: Option<String>,
    /// HINT, if any.
    pub hint: Option<String>,
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.severity, self.code, self.message)?;
        if let Some(detail) = &self.detail {
            write!(f, " ({detail})")?;
        }
        Ok(())
    }
}

/// Why a call to a server failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// There is no connection: refused, unreachable, or it ended while logging in.
    #[error("can't connect to {0}: {1}")]
    Connect(SocketAddr, String),
    /// No answer within this time. What was asked may still happen.
    #[error("no answer within {} ms", .0.as_millis())]
    Deadline(Duration),
    /// The connection ended under the call. What was asked may have happened.
    #[error("the connection ended: {0}")]
    Lost(String),
    /// The server said no.
    #[error("{0}")]
    Server(Box<ServerError>),
    /// The answer, or what was asked, isn't what it should be.
    #[error("{0}")]
    Shape(String),
}

impl ControlError {
    /// From the client library, with what the server said where it said something.
    pub(super) fn from_pg(error: &tokio_postgres::Error) -> Self {
        if let Some(db) = error.as_db_error() {
            let text = |t: &str| safe_text(t);
            return Self::Server(Box::new(ServerError {
                severity: text(db.severity()),
                code: text(db.code().code()),
                message: text(db.message()),
                detail: db.detail().map(text),
                hint: db.hint().map(text),
            }));
        }
        let cause = std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
        Self::Lost(safe_text(&cause))
    }

    /// The SQLSTATE, if the server gave one.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Server(error) => Some(&error.code),
            _ => None,
        }
    }

    /// 28P01: the password isn't (or isn't any longer, or not yet) the role's.
    pub fn is_wrong_password(&self) -> bool {
        self.code() == Some("28P01")
    }

    /// 25006: a standby was asked to write.
    pub fn is_read_only(&self) -> bool {
        self.code() == Some("25006")
    }

    /// Trying again won't help: the server answers, and refuses.
    pub(super) fn is_hopeless(&self) -> bool {
        match self {
            // 57P03: starting up or shutting down; 53300: no slot free.
            Self::Server(error) => !matches!(error.code.as_str(), "57P03" | "53300" | "57P01" | "57P02"),
            Self::Shape(_) => true,
            _ => false,
        }
    }

    /// The connection can be used further.
    pub(super) fn leaves_connection(&self) -> bool {
        match self {
            Self::Server(error) => error.severity == "ERROR",
            Self::Shape(_) => true,
            _ => false,
        }
    }
}

//! The failure detector's own connection to one server: it asks the smallest question, and it tells a connection that is refused
//! from one that is only silent. Has no deadline of its own, and knows no cluster.

use std::io::ErrorKind;
use std::net::SocketAddr;

use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_postgres::types::PgLsn;
use tokio_postgres::{Client, Config, NoTls, Statement};

use super::secret::Secret;
use super::sql;
use crate::model::cluster::Role;
use crate::model::detector::Probe;
use crate::model::{Lsn, safe_text};

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoLine {
    /// Nobody listens there.
    Refused(String),
    /// It was taken and closed without a word: a port whose server is gone, or just going.
    Closed,
    /// The server is there, and says why it lets nobody in (starting up, too many clients), or the network is in the way.
    NotNow(String),
}

/// A logged-in connection.
#[derive(Debug)]
pub struct ProbeLine {
    client: Client,
    question: Statement,
    driver: JoinHandle<()>,
}

impl ProbeLine {
    /// Connects and logs in.
    pub async fn connect(address: SocketAddr, key: &Secret) -> Result<Self, NoLine> {
        let stream = TcpStream::connect(address).await.map_err(|error| match error.kind() {
            ErrorKind::ConnectionRefused => NoLine::Refused(safe_text(&error.to_string())),
            ErrorKind::ConnectionReset => NoLine::Closed,
            _ => NoLine::NotNow(safe_text(&error.to_string())),
        })?;
        stream.set_nodelay(true).map_err(|_| NoLine::Closed)?;
        let mut config = Config::new();
        config.user(sql::CONTROL_ROLE).password(key.reveal()).dbname(sql::DATABASE).application_name("replab detector");
        let (client, connection) = config.connect_raw(stream, NoTls).await.map_err(|error| said(&error))?;
        let driver = tokio::spawn(async move {
            // Its end is what counts, and whoever waits for that asks why by connecting again.
            drop(connection.await);
        });
        match client.prepare(sql::PROBE).await {
            Ok(question) => Ok(Self { client, question, driver }),
            Err(error) => {
                driver.abort();
                Err(said(&error))
            }
        }
    }

    /// Asks once. None: the server answered with an error (a promotion in the middle of the question does that).
    pub async fn ask(&self) -> Result<Option<Probe>, NoLine> {
        let row = match self.client.query_one(&self.question, &[]).await {
            Ok(row) => row,
            Err(error) if error.as_db_error().is_some_and(|e| e.severity() == "ERROR") => return Ok(None),
            Err(error) => return Err(said(&error)),
        };
        let standby: bool = row.try_get(0).map_err(|error| said(&error))?;
        let wal: Option<PgLsn> = row.try_get(1).map_err(|error| said(&error))?;
        let streams = row.try_get(2).map_err(|error| said(&error))?;
        let role = if standby { Role::Standby } else { Role::Primary };
        Ok(Some(Probe::Answered { role, wal: Lsn(wal.map_or(0, Into::into)), streams }))
    }

    /// Returns when the connection has ended.
    pub async fn ended(&mut self) {
        // The task neither panics nor is aborted before this is dropped.
        drop((&mut self.driver).await);
    }

    /// Whether the connection has ended, as far as this side knows.
    pub fn has_ended(&self) -> bool {
        self.driver.is_finished()
    }
}

impl Drop for ProbeLine {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

fn said(error: &tokio_postgres::Error) -> NoLine {
    match error.as_db_error() {
        Some(db) => NoLine::NotNow(safe_text(db.message())),
        None => NoLine::Closed,
    }
}

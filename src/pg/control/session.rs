//! One session of the control role: the client, the task that drives its connection, and the statements that are prepared once,
//! when the first of them is needed: a server that has just started has much to read for them, and better things to do. Knows
//! no retrying.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio::task::AbortHandle;
use tokio_postgres::{Client, Config, NoTls, Statement};

use super::ControlError;
use super::sample::Identity;
use crate::model::safe_text;
use crate::pg::secret::Secret;
use crate::pg::sql;

/// A logged-in session. Dropping it ends the connection at once.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) client: Client,
    prepared: OnceCell<Prepared>,
    /// What was read at connect or since.
    pub(super) known: Mutex<Option<Identity>>,
    /// The default of `synchronous_commit`, and when the server had read its files then.
    pub(super) level: Mutex<Option<(i64, String)>>,
    /// The names of the senders that the last sample showed.
    pub(super) names: Mutex<Names>,
    /// Whether the last sample's timeline was the one its files tell.
    pub(super) guesses: AtomicBool,
    /// How many samples there were.
    pub(super) samples: AtomicU32,
    driver: AbortHandle,
}

/// Senders' names, by the senders' process ids.
pub(super) type Names = BTreeMap<i32, String>;

/// Statements that need the lab's tables.
#[derive(Debug)]
pub(super) struct TableStatements {
    pub(super) marker: Statement,
    pub(super) beat: Statement,
    pub(super) beat_seen: Statement,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.close();
    }
}

impl Session {
    /// Connects and logs in within `limit`.
    pub(super) async fn connect(address: SocketAddr, key: &Secret, limit: Duration) -> Result<Self, ControlError> {
        let work = async {
            match Self::log_in(address, key, sql::DATABASE).await {
                // 3D000: a server that wasn't made from the template has no database `lab`.
                Err(error) if error.code() == Some("3D000") => Self::log_in(address, key, sql::DATABASE_OF_ALL).await,
                done => done,
            }
        };
        tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
            Err(ControlError::Connect(address, format!("no answer within {} ms", limit.as_millis())))
        })
    }

    async fn log_in(address: SocketAddr, key: &Secret, database: &str) -> Result<Self, ControlError> {
        let refused = |error: std::io::Error| ControlError::Connect(address, safe_text(&error.to_string()));
        let stream = TcpStream::connect(address).await.map_err(refused)?;
        stream.set_nodelay(true).map_err(refused)?;
        let mut config = Config::new();
        config.user(sql::CONTROL_ROLE).password(key.reveal()).dbname(database).application_name(sql::CONTROL_NAME);
        let (client, connection) =
            config.connect_raw(stream, NoTls).await.map_err(|error| match ControlError::from_pg(&error) {
                ControlError::Lost(why) => ControlError::Connect(address, why),
                other => other,
            })?;
        // The task ends at the connection's first error, which also drops the connection; a call then fails instead of
        // hanging (facts). Notices are of no interest here.
        let driver = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "control connection ended");
            }
        })
        .abort_handle();
        // It is there before its first statement, so that whatever fails ends the connection.
        let session = Self {
            client,
            prepared: OnceCell::new(),
            known: Mutex::default(),
            level: Mutex::default(),
            names: Mutex::default(),
            guesses: AtomicBool::default(),
            samples: AtomicU32::default(),
            driver,
        };
        session.client.batch_execute(sql::SESSION).await.map_err(|error| ControlError::from_pg(&error))?;
        Ok(session)
    }

    /// The statements, prepared by now.
    pub(super) async fn prepared(&self) -> Result<&Prepared, ControlError> {
        let prepared = self.prepared.get_or_try_init(|| Prepared::new(&self.client)).await;
        prepared.map_err(|error| ControlError::from_pg(&error))
    }

    /// Whether the connection still lives, as far as this side knows.
    pub(super) fn is_alive(&self) -> bool {
        !self.client.is_closed() && !self.driver.is_finished()
    }

    /// Ends the connection; calls that still wait on it fail.
    pub(super) fn close(&self) {
        self.driver.abort();
    }

    /// Makes the next sample read what is otherwise read seldom: something was changed.
    pub(super) fn forget(&self) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.names.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.samples.store(0, Ordering::Relaxed);
    }

    /// The tables' statements, or the error that says that there are none.
    pub(super) async fn tables(&self) -> Result<&TableStatements, ControlError> {
        let tables = self.prepared().await?.tables.as_ref();
        tables.ok_or_else(|| ControlError::Shape("this server has no lab tables".to_owned()))
    }
}

/// The statements of a session.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) sample: Statement,
    pub(super) identity: Statement,
    pub(super) default_level: Statement,
    pub(super) sender_names: Statement,
    /// None on a server without the lab's tables.
    pub(super) tables: Option<TableStatements>,
}

impl Prepared {
    async fn new(client: &Client) -> Result<Self, tokio_postgres::Error> {
        let (has_tables, sample, identity, default_level, sender_names) = tokio::join!(
            client.query_one(sql::HAS_TABLES, &[]),
            client.prepare(sql::SAMPLE),
            client.prepare(sql::IDENTITY),
            client.prepare(sql::DEFAULT_LEVEL),
            client.prepare(sql::SENDER_NAMES),
        );
        let tables = if has_tables?.try_get(0)? {
            let (marker, beat, beat_seen) =
                tokio::join!(client.prepare(sql::MARKER), client.prepare(sql::BEAT), client.prepare(sql::BEAT_SEEN),);
            Some(TableStatements { marker: marker?, beat: beat?, beat_seen: beat_seen? })
        } else {
            None
        };
        Ok(Self {
            sample: sample?,
            identity: identity?,
            default_level: default_level?,
            sender_names: sender_names?,
            tables,
        })
    }
}

//! The lab's own connection to one server: looks at it and changes it as role `replab`. Knows one address and no cluster.
//!
//! - Every call has a deadline. A call that misses it discards the connection: its statement may still run, and a client
//!   that waits for it would be of no use (facts: a frozen server hangs clients).
//! - The session has `synchronous_commit = local`, so none of the lab's own statements ever waits for a standby.
//! - Connecting is lazy, with a backoff in which calls fail at once with the last reason.
//! - What takes long (CHECKPOINT, reading the books) has a connection of its own, so that samples go on.

mod acts;
mod error;
mod record;
mod sample;
mod session;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Mutex as AsyncMutex;

pub use acts::Island;
pub use error::{ControlError, ServerError};
use session::Session;

use super::secret::Secret;

/// How long a call may take.
pub const DEADLINE: Duration = Duration::from_secs(2);
/// The same while a lab comes up.
const BUSY_DEADLINE: Duration = Duration::from_secs(20);
/// How long connecting may take, log-in included.
pub const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// The same where the work takes long anyway: a machine under load is slow to make a session, and what is read is read once.
const LONG_CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// More often, and the tries would take from the server what it needs to start: each costs it a process.
const TRY_EVERY: Duration = Duration::from_millis(10);
const BACKOFF_MIN: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_millis(500);

/// One server's control connection. Cheap to clone; the clones share the connection.
#[derive(Clone, Debug)]
pub struct Control {
    shared: Arc<Shared>,
    deadline: Duration,
}

#[derive(Debug)]
struct Shared {
    /// Where it is and what opens it. Held for moments only.
    door: Mutex<Door>,
    /// The connection. Locked while connecting, so that two callers don't both connect.
    line: AsyncMutex<Line>,
}

#[derive(Debug)]
struct Door {
    address: SocketAddr,
    /// Keys in the order to be tried; the one that opened last is moved to the front.
    keys: Vec<Secret>,
}

#[derive(Debug, Default)]
struct Line {
    session: Option<Arc<Session>>,
    /// The next attempt isn't made before this, and until then fails with this reason.
    wait: Option<(Instant, ControlError)>,
    backoff: Duration,
}

impl Control {
    /// A connection to be made to `address` when first needed. `keys` are passwords of role `replab`, tried in order:
    /// for a copy of the template the template's key and the lab's password (see [`secret`](super::secret)).
    pub fn new(address: SocketAddr, keys: Vec<Secret>) -> Self {
        let door = Mutex::new(Door { address, keys });
        Self { shared: Arc::new(Shared { door, line: AsyncMutex::default() }), deadline: DEADLINE }
    }

    /// The same connection for whoever can wait, and must: while a lab comes up its servers have the machine to share.
    #[must_use]
    pub fn patient(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), deadline: BUSY_DEADLINE }
    }

    /// The server is at another address now (its port changes when a container restarts). The connection is dropped.
    pub async fn set_address(&self, address: SocketAddr) {
        self.door().address = address;
        *self.shared.line.lock().await = Line::default();
    }

    /// Where it connects to.
    pub fn address(&self) -> SocketAddr {
        self.door().address
    }

    /// The passwords, in the order to be tried.
    pub(super) fn keys(&self) -> Vec<Secret> {
        self.door().keys.clone()
    }

    /// Drops the connection and forgets the backoff: the next call connects at once.
    pub async fn reset(&self) {
        *self.shared.line.lock().await = Line::default();
    }

    /// Returns as soon as the server answers, trying every 10 ms (there is nothing to be woken by before it listens), or
    /// fails with the last reason after `limit`.
    pub async fn until_ready(&self, limit: Duration) -> Result<(), ControlError> {
        let end = Instant::now() + limit;
        loop {
            self.reset().await;
            match self.session().await {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() >= end || error.is_hopeless() => return Err(error),
                Err(_) => tokio::time::sleep(TRY_EVERY).await,
            }
        }
    }

    /// The shared session, connecting if need be.
    async fn session(&self) -> Result<Arc<Session>, ControlError> {
        let mut line = self.shared.line.lock().await;
        if let Some(session) = line.session.as_ref().filter(|session| session.is_alive()) {
            return Ok(Arc::clone(session));
        }
        line.session = None;
        if let Some((until, why)) = line.wait.as_ref().filter(|(until, _)| *until > Instant::now()) {
            tracing::trace!(?until, "still backing off");
            return Err(why.clone());
        }
        match self.connect(CONNECT_LIMIT).await {
            Ok(session) => {
                let session = Arc::new(session);
                *line = Line { session: Some(Arc::clone(&session)), ..Line::default() };
                Ok(session)
            }
            Err(error) => {
                line.backoff = (line.backoff * 2).clamp(BACKOFF_MIN, BACKOFF_MAX);
                line.wait = Some((Instant::now() + line.backoff, error.clone()));
                Err(error)
            }
        }
    }

    /// A new session, with the first key that opens. The first is tried once more at the end: a standby may have
    /// replayed the change of password between the tries.
    async fn connect(&self, limit: Duration) -> Result<Session, ControlError> {
        let (address, keys) = {
            let door = self.door();
            (door.address, door.keys.clone())
        };
        let mut refused = ControlError::Shape("no password to log in with".to_owned());
        let again = keys.first().filter(|_| keys.len() > 1).cloned();
        for key in keys.into_iter().chain(again) {
            match Session::connect(address, &key, limit).await {
                Ok(session) => {
                    self.prefer(&key);
                    return Ok(session);
                }
                Err(error) if error.is_wrong_password() => refused = error,
                Err(error) => return Err(error),
            }
        }
        Err(refused)
    }

    /// Moves the key that opened to the front, so that the server's log doesn't fill with refused log-ins.
    fn prefer(&self, key: &Secret) {
        let keys = &mut self.door().keys;
        if let Some(at) = keys.iter().position(|k| k == key) {
            keys[..=at].rotate_right(1);
        }
    }

    /// Runs `work` on the shared session within its deadline. On a missed deadline or a broken connection the session
    /// is discarded.
    async fn call<T>(&self, work: impl AsyncFnOnce(&Session) -> Result<T, ControlError>) -> Result<T, ControlError> {
        let session = self.session().await?;
        let result = tokio::time::timeout(self.deadline, work(&session))
            .await
            .unwrap_or(Err(ControlError::Deadline(self.deadline)));
        if let Err(error) = &result
            && !error.leaves_connection()
        {
            self.discard(&session).await;
        }
        result
    }

    /// Runs `work` on a session of its own within `limit`: for what takes long.
    async fn apart<T>(
        &self,
        limit: Duration,
        work: impl AsyncFnOnce(&Session) -> Result<T, ControlError>,
    ) -> Result<T, ControlError> {
        let session = self.connect(LONG_CONNECT_LIMIT.min(limit)).await?;
        tokio::time::timeout(limit, work(&session)).await.unwrap_or(Err(ControlError::Deadline(limit)))
    }

    /// Forgets `session`, if it is still the one in use.
    async fn discard(&self, session: &Arc<Session>) {
        session.close();
        let mut line = self.shared.line.lock().await;
        if line.session.as_ref().is_some_and(|current| Arc::ptr_eq(current, session)) {
            line.session = None;
        }
    }

    fn door(&self) -> MutexGuard<'_, Door> {
        self.shared.door.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! What the lab does to a server. Each act says which statement it is; knows no cluster and no consequences.

use std::time::Duration;

use tokio_postgres::SimpleQueryMessage;
use tokio_postgres::types::PgLsn;

use super::session::Session;
use super::{Control, ControlError};
use crate::model::shortfall::AT_LEAST;
use crate::model::{Lsn, WriteId};
use crate::pg::conf::Setting;
use crate::pg::quote::is_setting_name;
use crate::pg::secret::Passwords;
use crate::pg::sql;

/// How long a checkpoint or a full read may take.
const LONG: Duration = Duration::from_mins(1);

/// An unbroken run of rows of one client: (client, first seq, last seq).
pub type Island = (u32, u64, u64);

impl Control {
    /// The first thing said to a new cluster, where the connection came in by the template's key, all in one round trip: the
    /// roles' passwords, the marker row (which lab this is), and a slot for each of `slots`. `statements` are those of
    /// [`Passwords::statements`].
    pub async fn settle_in(
        &self,
        statements: &str,
        passwords: &Passwords,
        lab: &str,
        slots: &[&str],
    ) -> Result<(), ControlError> {
        let text = format!("{statements}\n{};\n{}", sql::mark(lab), sql::create_slots(slots));
        self.call(async |session| {
            session.forget();
            batch(session, &text).await
        })
        .await?;
        let keys = &mut self.door().keys;
        keys.retain(|key| *key != passwords.control);
        keys.insert(0, passwords.control.clone());
        Ok(())
    }

    /// Which cluster this server belongs to.
    pub async fn system_identifier(&self) -> Result<u64, ControlError> {
        let rows = self.call(async |session| texts(session, sql::SYSTEM_IDENTIFIER).await).await?;
        let number = rows.first().and_then(|text| text.parse::<i64>().ok());
        number.map(i64::cast_unsigned).ok_or_else(|| ControlError::Shape("no system identifier".to_owned()))
    }

    /// The standbys that stream from this server, by the names that they give themselves.
    pub async fn streaming(&self) -> Result<Vec<String>, ControlError> {
        self.call(async |session| texts(session, sql::STREAMING).await).await
    }

    /// One beat of the heart. Fails with 25006 on a standby ([`ControlError::is_read_only`]).
    pub async fn beat(&self, beat: i64) -> Result<(), ControlError> {
        self.call(async |session| {
            let statement = &session.tables().await?.beat;
            session.client.execute(statement, &[&beat]).await.map_err(|e| ControlError::from_pg(&e))?;
            Ok(())
        })
        .await
    }

    /// The last beat that is visible here: how a probe is seen to arrive, or not to.
    pub async fn beat_seen(&self) -> Result<Option<i64>, ControlError> {
        self.call(async |session| {
            let statement = &session.tables().await?.beat_seen;
            let row = session.client.query_opt(statement, &[]).await.map_err(|e| ControlError::from_pg(&e))?;
            row.map(|row| row.try_get(0)).transpose().map_err(|e| ControlError::from_pg(&e))
        })
        .await
    }

    /// ALTER SYSTEM SET (or, with None, RESET) and reload: one round trip, three statements. ALTER SYSTEM can't run in a
    /// transaction block, and several statements in one message are one, so they go as messages of their own.
    pub async fn alter_system(&self, name: &str, value: Option<&str>) -> Result<(), ControlError> {
        let alter = alter_text(name, value)?;
        self.call(async |session| {
            let (altered, reloaded) = tokio::join!(batch(session, &alter), batch(session, sql::RELOAD));
            session.forget();
            altered.and(reloaded)
        })
        .await
    }

    /// Sets several settings of this server and reloads once.
    pub async fn alter_system_all(&self, settings: &[(&str, Option<&str>)]) -> Result<(), ControlError> {
        let texts = settings.iter().map(|(name, value)| alter_text(name, *value)).collect::<Result<Vec<_>, _>>()?;
        self.call(async |session| {
            for text in &texts {
                batch(session, text).await?;
            }
            session.forget();
            batch(session, sql::RELOAD).await
        })
        .await
    }

    /// Whether a setting takes effect only when the server starts.
    pub async fn needs_restart(&self, name: &str) -> Result<bool, ControlError> {
        self.call(async |session| {
            let row = session.client.query_opt(sql::SETTING_CONTEXT, &[&name]).await;
            let context = row.and_then(|row| row.map(|row| row.try_get::<_, String>(0)).transpose());
            let context = context.map_err(|e| ControlError::from_pg(&e))?;
            Ok(context.is_some_and(|c| ["postmaster", "internal"].contains(&c.as_str())))
        })
        .await
    }

    /// What ALTER SYSTEM has changed here of the settings that a standby may not have lower.
    pub async fn altered_limits(&self) -> Result<Vec<Setting>, ControlError> {
        self.call(async |session| {
            let rows = session.client.query(sql::ALTERED, &[&&AT_LEAST[..]]).await;
            let rows = rows.map_err(|e| ControlError::from_pg(&e))?;
            let read = |row: &tokio_postgres::Row| {
                Setting::new(&row.try_get::<_, String>(0).ok()?, &row.try_get::<_, String>(1).ok()?).ok()
            };
            Ok(rows.iter().filter_map(read).collect())
        })
        .await
    }

    /// Sets `synchronous_standby_names`, reloads, and nudges: commits that wait under the old rule are released only by
    /// a standby's next reply, up to 9.8 s later on an idle primary, 5 ms after a nudge (facts "Lag and detection").
    pub async fn set_rule(&self, names: &str) -> Result<(), ControlError> {
        self.alter_system("synchronous_standby_names", Some(names)).await?;
        self.nudge().await
    }

    /// A tiny local write that makes every standby reply. Nothing on a standby.
    pub async fn nudge(&self) -> Result<(), ControlError> {
        self.call(async |session| batch(session, sql::NUDGE).await).await
    }

    /// Starts the promotion of a standby and returns; samples tell when it is done.
    pub async fn promote(&self) -> Result<(), ControlError> {
        self.act(sql::PROMOTE).await
    }

    /// Pauses replay on a standby. Takes effect between two records; samples tell.
    pub async fn pause_replay(&self) -> Result<(), ControlError> {
        self.act(sql::REPLAY_PAUSE).await
    }

    /// Resumes replay.
    pub async fn resume_replay(&self) -> Result<(), ControlError> {
        self.act(sql::REPLAY_RESUME).await
    }

    /// Makes the server read its files again.
    pub async fn reload(&self) -> Result<(), ControlError> {
        self.act(sql::RELOAD).await
    }

    /// Makes a physical slot that keeps WAL from now on. One that is there already is left as it is, unless it is lost.
    pub async fn create_slot(&self, name: &str) -> Result<(), ControlError> {
        self.call(async |session| batch(session, &sql::create_slot(name)).await).await
    }

    /// The same for several, in one round trip.
    pub async fn create_slots(&self, names: &[&str]) -> Result<(), ControlError> {
        if names.is_empty() {
            return Ok(());
        }
        let text = sql::create_slots(names);
        self.call(async |session| batch(session, &text).await).await
    }

    /// Drops a slot; one that isn't there is fine. 55006 while something is connected to it.
    pub async fn drop_slot(&self, name: &str) -> Result<(), ControlError> {
        self.call(async |session| batch(session, &sql::drop_slot(name)).await).await
    }

    /// Cancels the wait of commits that wait for a standby: of these backends, or (None) of all. How many were signalled.
    pub async fn cancel_waiting(&self, pids: Option<&[i32]>) -> Result<u64, ControlError> {
        self.count(&sql::cancel_waiting(pids)).await
    }

    /// Ends the sessions of commits that wait for a standby.
    pub async fn terminate_waiting(&self, pids: Option<&[i32]>) -> Result<u64, ControlError> {
        self.count(&sql::terminate_waiting(pids)).await
    }

    /// Where the next WAL record goes, on a primary.
    pub async fn insert_position(&self) -> Result<Lsn, ControlError> {
        self.call(async |session| {
            let row =
                session.client.query_one(sql::INSERT_POSITION, &[]).await.map_err(|e| ControlError::from_pg(&e))?;
            row.try_get::<_, PgLsn>(0).map(|lsn| Lsn(lsn.into())).map_err(|e| ControlError::from_pg(&e))
        })
        .await
    }

    /// Where timeline `timeline` forked off its parent; None for timeline 1, which has no parent.
    pub async fn fork_point(&self, timeline: u32) -> Result<Option<Lsn>, ControlError> {
        let file = format!("pg_wal/{timeline:08X}.history");
        self.call(async |session| {
            let row =
                session.client.query_opt(sql::FORK_POINT, &[&file]).await.map_err(|e| ControlError::from_pg(&e))?;
            let text: Option<String> = row.and_then(|row| row.try_get(0).ok());
            Ok(text.and_then(|lsn| lsn.parse().ok()))
        })
        .await
    }

    /// Where the history of `timeline` left each of its ancestors: (ancestor, where).
    pub async fn forks(&self, timeline: u32) -> Result<Vec<(u32, Lsn)>, ControlError> {
        let file = format!("pg_wal/{timeline:08X}.history");
        self.call(async |session| {
            let rows = session.client.query(sql::FORKS, &[&file]).await.map_err(|e| ControlError::from_pg(&e))?;
            let read = |row: &tokio_postgres::Row| {
                let (parent, lsn) = (row.try_get::<_, i64>(0).ok()?, row.try_get::<_, String>(1).ok()?);
                Some((u32::try_from(parent).ok()?, lsn.parse().ok()?))
            };
            Ok(rows.iter().filter_map(read).collect())
        })
        .await
    }

    /// Whether it still is a standby.
    pub async fn is_in_recovery(&self) -> Result<bool, ControlError> {
        self.call(async |session| {
            let row = session.client.query_one(sql::IN_RECOVERY, &[]).await;
            row.and_then(|row| row.try_get(0)).map_err(|e| ControlError::from_pg(&e))
        })
        .await
    }

    /// A checkpoint, on a connection of its own.
    pub async fn checkpoint(&self) -> Result<(), ControlError> {
        self.apart(LONG, async |session| batch(session, sql::CHECKPOINT).await).await
    }

    /// Whether a write is visible here.
    pub async fn is_visible(&self, id: WriteId) -> Result<bool, ControlError> {
        let (client, seq) = (id.client.cast_signed(), id.seq.cast_signed());
        self.call(async |session| {
            let row = session.client.query_one(sql::VISIBLE, &[&client, &seq]).await;
            row.and_then(|row| row.try_get(0)).map_err(|e| ControlError::from_pg(&e))
        })
        .await
    }

    /// All writes of the clients in `clients` that are visible here, as unbroken runs, on a connection of its own.
    pub async fn read_ledger(&self, clients: std::ops::RangeInclusive<u32>) -> Result<Vec<Island>, ControlError> {
        let (from, to) = (clients.start().cast_signed(), (*clients.end()).min(i32::MAX.cast_unsigned()).cast_signed());
        self.apart(LONG, async |session| {
            let rows = session.client.query(sql::LEDGER, &[&from, &to]).await;
            rows.and_then(|rows| rows.iter().map(island).collect()).map_err(|e| ControlError::from_pg(&e))
        })
        .await
    }

    async fn act(&self, statement: &str) -> Result<(), ControlError> {
        self.call(async |session| {
            session.forget();
            batch(session, statement).await
        })
        .await
    }

    async fn count(&self, statement: &str) -> Result<u64, ControlError> {
        self.call(async |session| {
            let row = session.client.query_one(statement, &[]).await;
            let count: Result<i64, _> = row.and_then(|row| row.try_get(0));
            count.map(i64::cast_unsigned).map_err(|e| ControlError::from_pg(&e))
        })
        .await
    }
}

fn alter_text(name: &str, value: Option<&str>) -> Result<String, ControlError> {
    if is_setting_name(name) {
        Ok(sql::alter_system(name, value))
    } else {
        Err(ControlError::Shape(format!("`{}` can't be a setting's name", crate::model::safe_text(name))))
    }
}

fn island(row: &tokio_postgres::Row) -> Result<Island, tokio_postgres::Error> {
    let (client, first, last) = (row.try_get::<_, i32>(0)?, row.try_get::<_, i64>(1)?, row.try_get::<_, i64>(2)?);
    Ok((client.cast_unsigned(), first.cast_unsigned(), last.cast_unsigned()))
}

async fn batch(session: &Session, statements: &str) -> Result<(), ControlError> {
    session.client.batch_execute(statements).await.map_err(|e| ControlError::from_pg(&e))
}

/// The first column of each row, in one round trip.
async fn texts(session: &Session, query: &str) -> Result<Vec<String>, ControlError> {
    let answers = session.client.simple_query(query).await.map_err(|e| ControlError::from_pg(&e))?;
    let rows = answers.iter().filter_map(|answer| match answer {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    });
    Ok(rows.collect())
}

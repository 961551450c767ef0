//! Looking at a server: one round trip, one row, turned into the model's [`Sample`]. Knows no retrying.

use std::cmp::Reverse;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Instant;

use tokio_postgres::Row;
use tokio_postgres::types::{FromSqlOwned, PgLsn};

use super::record::Fields;
use super::session::{Names, Session};
use super::{Control, ControlError};
use crate::model::cluster::{NodeSettings, ReceiverRow, Role, Sample, SenderRow, SlotRow, WaitingCommit};
use crate::model::shortfall::AT_LEAST;
use crate::model::{Lsn, safe_text};

/// Where the timeline is known by the [`Identity`] alone, it is read again every so many samples.
const IDENTITY_EVERY: u32 = 10;

/// What can't change while a server runs, but for the timeline of a standby that neither writes nor is streamed to: read once
/// a connection, because the control file's functions read a file.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    system_identifier: u64,
    start_epoch_us: i64,
    /// The timeline by its files: of the last checkpoint, to which recovery must at least go, or of the WAL it has received.
    timeline: u32,
    version: String,
    limits: Option<[u64; 5]>,
    marker: Option<String>,
}

impl Control {
    /// One good look, in one round trip. A promotion in the middle of it can make the statement fail with 55000 (recovery
    /// isn't in progress any longer); then it looks once more.
    pub async fn sample(&self) -> Result<Sample, ControlError> {
        let began = Instant::now();
        let look = async |session: &Session| match look(session).await {
            Err(error) if error.code() == Some("55000") => look(session).await,
            done => done,
        };
        let mut sample = self.call(look).await?;
        sample.took_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        Ok(sample)
    }

    /// The same, with who the server is and whose marker it carries read again: what was remembered of a standby may be from before
    /// its marker came.
    pub async fn sample_anew(&self) -> Result<Sample, ControlError> {
        self.call(async |session| {
            session.forget();
            Ok(())
        })
        .await?;
        self.sample().await
    }

    /// The server's version, `15.18`, as it reports it.
    pub async fn version(&self) -> Result<String, ControlError> {
        self.call(async |session| Ok(identify(session).await?.version)).await
    }
}

async fn look(session: &Session) -> Result<Sample, ControlError> {
    let known = session.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let turn = session.samples.fetch_add(1, Ordering::Relaxed);
    let statement = &session.prepared().await?.sample;
    let sample = async { session.client.query_one(statement, &[]).await.map_err(|e| ControlError::from_pg(&e)) };
    match known {
        Some(identity) if !session.guesses.load(Ordering::Relaxed) || !turn.is_multiple_of(IDENTITY_EVERY) => {
            let (row, guessed) = (sample.await?, session.guesses.load(Ordering::Relaxed));
            let sample = finish(session, &row, &identity).await?;
            if guessed || !session.guesses.load(Ordering::Relaxed) {
                return Ok(sample);
            }
            // Its stream has just ended: what was read when the connection was made may be a timeline or two ago.
            finish(session, &row, &identify_anew(session).await?).await
        }
        _ => {
            let (row, identity) = tokio::join!(sample, identify_anew(session));
            finish(session, &row?, &identity?).await
        }
    }
}

async fn identify_anew(session: &Session) -> Result<Identity, ControlError> {
    let identity = identify(session).await?;
    *session.known.lock().unwrap_or_else(PoisonError::into_inner) = Some(identity.clone());
    Ok(identity)
}

/// The row with what was known. Once after each time that the server has read its files again, one more round trip.
async fn finish(session: &Session, row: &Row, identity: &Identity) -> Result<Sample, ControlError> {
    let loaded: i64 = get(row, 15)?;
    let known = session.level.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let level = match known {
        Some((when, level)) if when == loaded => level,
        _ => {
            let found = session.client.query_one(&session.prepared().await?.default_level, &[]).await;
            let level = safe_text(&get::<String>(&found.map_err(|e| ControlError::from_pg(&e))?, 0)?);
            *session.level.lock().unwrap_or_else(PoisonError::into_inner) = Some((loaded, level.clone()));
            level
        }
    };
    let names = names_of(session, row).await?;
    let (sample, guessed) = read_sample(row, identity, level, &names)?;
    session.guesses.store(guessed, Ordering::Relaxed);
    Ok(sample)
}

/// The names of the senders in a row. A sender's name never changes, and to look for it among all backends costs more than
/// to look at the senders: it is asked for when a new sender is there. One that is gone by then has no name.
async fn names_of(session: &Session, row: &Row) -> Result<Names, ControlError> {
    let pids = rows(row, 7, |text| Fields::of(text)?.must::<i32>())?;
    let mut names = session.names.lock().unwrap_or_else(PoisonError::into_inner).clone();
    names.retain(|pid, _| pids.contains(pid));
    if !pids.iter().all(|pid| names.contains_key(pid)) {
        let statement = &session.prepared().await?.sender_names;
        let found = session.client.query(statement, &[]).await.map_err(|e| ControlError::from_pg(&e))?;
        names =
            found.iter().map(|row| Ok((get(row, 0)?, safe_text(&get::<String>(row, 1)?)))).collect::<Result<_, _>>()?;
        // Another that is just beginning has no name yet, and must not be remembered without one.
        names.retain(|pid, _| pids.contains(pid));
    }
    session.names.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&names);
    Ok(names)
}

async fn identify(session: &Session) -> Result<Identity, ControlError> {
    let statements = session.prepared().await?;
    let marker = async {
        match &statements.tables {
            Some(tables) => session.client.query_opt(&tables.marker, &[]).await,
            None => Ok(None),
        }
    };
    let row = async { session.client.query_one(&statements.identity, &[&&AT_LEAST[..]]).await };
    let (row, marker) = tokio::join!(row, marker);
    let row = row.map_err(|e| ControlError::from_pg(&e))?;
    let marker = marker.map_err(|e| ControlError::from_pg(&e))?;
    let received = get::<Option<String>>(&row, 4)?.and_then(|file| timeline_of(&file)).unwrap_or(0);
    Ok(Identity {
        system_identifier: get::<i64>(&row, 0)?.cast_unsigned(),
        start_epoch_us: get(&row, 1)?,
        timeline: get::<Option<i32>>(&row, 2)?.map_or(0, i32::cast_unsigned).max(received),
        version: safe_text(&get::<String>(&row, 3)?),
        limits: get::<Vec<i64>>(&row, 5)?.try_into().ok().map(|limits: [i64; 5]| limits.map(i64::cast_unsigned)),
        marker: marker.map(|row| get::<String>(&row, 0)).transpose()?.map(|t| safe_text(&t)),
    })
}

fn get<T: FromSqlOwned>(row: &Row, column: usize) -> Result<T, ControlError> {
    row.try_get(column)
        .map_err(|error| ControlError::Shape(format!("column {column} of a look: {}", safe_text(&error.to_string()))))
}

fn lsn(row: &Row, column: usize) -> Result<Option<Lsn>, ControlError> {
    Ok(get::<Option<PgLsn>>(row, column)?.map(|lsn| Lsn(lsn.into())))
}

/// The rows of an array of rows, each as text.
fn rows<T>(row: &Row, column: usize, read: impl Fn(&str) -> Result<T, ControlError>) -> Result<Vec<T>, ControlError> {
    get::<Vec<String>>(row, column)?.iter().map(|text| read(text)).collect()
}

/// The sample, and whether its timeline is only the one its files tell.
fn read_sample(
    row: &Row,
    identity: &Identity,
    synchronous_commit: String,
    names: &Names,
) -> Result<(Sample, bool), ControlError> {
    let role = if get(row, 0)? { Role::Standby } else { Role::Primary };
    let receiver = get::<Option<String>>(row, 8)?.map(|text| receiver(&text)).transpose()?;
    let mut senders: Vec<SenderRow> = rows(row, 7, |text| sender(text, names))?.into_iter().flatten().collect();
    let (mut slots, mut waiting) = (rows(row, 9, slot)?, rows(row, 10, waiting)?);
    senders.sort_by_key(|s| s.pid);
    slots.sort_by(|a, b| a.name.cmp(&b.name));
    waiting.sort_by_key(|w| Reverse(w.age_us));
    let written = get::<Option<String>>(row, 6)?.and_then(|file| timeline_of(&file));
    let streamed = receiver.as_ref().and_then(|r| r.received_tli).map(i32::cast_unsigned);
    let sure = written.or(streamed);
    let sample = Sample {
        role,
        timeline: sure.unwrap_or(identity.timeline),
        system_identifier: identity.system_identifier,
        lab_marker: identity.marker.clone(),
        wal: lsn(row, 1)?.unwrap_or_default(),
        flushed: lsn(row, 2)?,
        replayed: lsn(row, 3)?,
        replay_paused: get(row, 4)?,
        replay_age_us: get(row, 5)?,
        start_epoch_us: identity.start_epoch_us,
        senders,
        receiver,
        slots,
        waiting,
        settings: NodeSettings {
            synchronous_standby_names: safe_text(&get::<String>(row, 11)?),
            synchronous_commit,
            wal_sender_timeout_ms: milliseconds(&get::<String>(row, 12)?)?,
            wal_receiver_timeout_ms: milliseconds(&get::<String>(row, 13)?)?,
            wal_receiver_status_interval_ms: milliseconds(&get::<String>(row, 14)?)?,
            max_slot_wal_keep_bytes: bytes(&get::<String>(row, 16)?)?,
        },
        limits: identity.limits,
        took_us: 0,
    };
    Ok((sample, sure.is_none()))
}

/// The timeline in a WAL file's name: its first eight hexadecimal digits (manual 30.6).
fn timeline_of(wal_file: &str) -> Option<u32> {
    wal_file.get(..8).and_then(|digits| u32::from_str_radix(digits, 16).ok())
}

/// A time setting as `current_setting` prints it, `1min`, `2300ms`, `0` (manual 19.1.1: units ms, s, min, h, d).
fn milliseconds(text: &str) -> Result<u64, ControlError> {
    let bad = || ControlError::Shape(format!("`{}` is not a time", safe_text(text)));
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = text[..digits].parse().map_err(|_| bad())?;
    let factor = match &text[digits..] {
        "" | "ms" => 1,
        "s" => 1_000,
        "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(bad()),
    };
    Ok(number.saturating_mul(factor))
}

/// A size as `current_setting` prints it, `64MB`; None for -1, which means no limit (manual 19.1.1: units B to TB).
fn bytes(text: &str) -> Result<Option<u64>, ControlError> {
    if text == "-1" {
        return Ok(None);
    }
    let bad = || ControlError::Shape(format!("`{}` is not a size", safe_text(text)));
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = text[..digits].parse().map_err(|_| bad())?;
    let power = ["B", "kB", "MB", "GB", "TB"].iter().position(|unit| *unit == &text[digits..]);
    match power {
        Some(power) => Ok(Some(number.saturating_mul(1 << (10 * power)))),
        None if number == 0 => Ok(Some(0)),
        None => Err(bad()),
    }
}

/// pid, state, `sync_state`, sent, write, flush, replay, write lag, flush lag, replay lag, age of the reply.
fn sender(text: &str, names: &Names) -> Result<Option<SenderRow>, ControlError> {
    let mut row = Fields::of(text)?;
    let pid = row.must()?;
    let Some(name) = names.get(&pid) else { return Ok(None) };
    Ok(Some(SenderRow {
        name: name.clone(),
        pid,
        state: row.shown()?,
        sync_state: row.shown()?,
        sent: row.read()?,
        write: row.read()?,
        flush: row.read()?,
        replay: row.read()?,
        write_lag_us: row.read()?,
        flush_lag_us: row.read()?,
        replay_lag_us: row.read()?,
        reply_age_us: row.read()?,
    }))
}

/// status, host, port, slot, timeline, age of the last message.
fn receiver(text: &str) -> Result<ReceiverRow, ControlError> {
    let mut row = Fields::of(text)?;
    let (status, host, port) = (row.shown()?, row.shown()?, row.read::<i32>()?);
    Ok(ReceiverRow {
        status,
        sender: port.map_or_else(|| host.clone(), |port| format!("{host}:{port}")),
        slot: row.text()?.map(|slot| safe_text(&slot)),
        received_tli: row.read()?,
        last_msg_age_us: row.read()?,
    })
}

/// name, active, restart, `wal_status`, kept, safe, why it is lost, its walsender, whether it is logical.
fn slot(text: &str) -> Result<SlotRow, ControlError> {
    let mut row = Fields::of(text)?;
    Ok(SlotRow {
        name: row.shown()?,
        active: row.text()?.as_deref() == Some("t"),
        restart: row.read()?,
        wal_status: row.text()?.map(|status| safe_text(&status)),
        kept_bytes: row.read()?,
        safe_bytes: row.read()?,
        invalidated: row.text()?.map(|why| safe_text(&why)),
        pid: row.read()?,
        logical: row.text()?.as_deref() == Some("t"),
    })
}

/// pid, age, application, query.
fn waiting(text: &str) -> Result<WaitingCommit, ControlError> {
    let mut row = Fields::of(text)?;
    Ok(WaitingCommit {
        pid: row.must()?,
        age_us: row.read()?.unwrap_or_default(),
        application: row.shown()?,
        query: row.shown()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_as_postgres_prints_them() {
        for (text, ms) in [("0", 0), ("1min", 60_000), ("2300ms", 2_300), ("10s", 10_000), ("1d", 86_400_000)] {
            assert_eq!(milliseconds(text), Ok(ms), "{text}");
        }
        for text in ["", "s", "-1", "1 s", "1y"] {
            assert!(milliseconds(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_read_as_postgres_prints_them() {
        for (text, size) in [("-1", None), ("0", Some(0)), ("64MB", Some(64 << 20)), ("1TB", Some(1 << 40))] {
            assert_eq!(bytes(text), Ok(size), "{text}");
        }
        for text in ["", "MB", "64", "64 MB", "1PB"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn timelines_are_the_first_eight_digits() {
        assert_eq!(timeline_of("0000000A00000000000000FF"), Some(10));
        assert_eq!(timeline_of("short"), None);
    }
}

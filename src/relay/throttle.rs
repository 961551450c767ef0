//! The throttle: a token bucket for one direction of a link, shared by its connections. Knows numbers and time, no bytes.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// What an idle link may pass at once: so much time's worth, and never less than a message of the protocol or two.
const BURST: f64 = 0.02;
const SMALLEST_BURST: f64 = 256.0;
/// So much is saved up before the next piece is read, in time: a busy link isn't carried byte by byte.
const SAVED: f64 = 0.005;

/// Tokens, one a byte.
#[derive(Debug)]
pub(super) struct Bucket(Mutex<(f64, Instant)>);

impl Bucket {
    pub(super) fn new() -> Self {
        Self(Mutex::new((SMALLEST_BURST, Instant::now())))
    }

    /// How many bytes may be read now, at most `most`; or when to ask again.
    pub(super) fn allows(&self, rate: Option<u64>, most: usize) -> Result<usize, Instant> {
        let Some(rate) = rate else { return Ok(most) };
        let rate = rate as f64;
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let room = (rate * BURST).max(SMALLEST_BURST);
        *state = ((state.0 + now.duration_since(state.1).as_secs_f64() * rate).min(room), now);
        let wanted = (rate * SAVED).clamp(1.0, room);
        if state.0 >= wanted {
            Ok((state.0 as usize).clamp(1, most))
        } else {
            Err(now + Duration::from_secs_f64((wanted - state.0) / rate))
        }
    }

    /// These many were read. Several connections may have been allowed the same ones: then the next waits longer.
    pub(super) fn took(&self, rate: Option<u64>, bytes: usize) {
        if rate.is_some() {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).0 -= bytes as f64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn no_more_than_the_rate_passes() {
        for rate in [50_u64, 1_000, 64_000, 10_000_000] {
            let (bucket, began, mut passed) = (Bucket::new(), Instant::now(), 0);
            while began.elapsed() < Duration::from_secs(20) {
                match bucket.allows(Some(rate), 32 * 1024) {
                    Ok(bytes) => {
                        bucket.took(Some(rate), bytes);
                        passed += bytes;
                    }
                    Err(when) => tokio::time::sleep_until(when).await,
                }
            }
            let share = passed as f64 / (rate as f64 * 20.0);
            assert!((0.9..=1.3).contains(&share), "{rate} B/s: {share} of it");
        }
        assert_eq!(Bucket::new().allows(None, 77), Ok(77));
    }
}

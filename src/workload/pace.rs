//! When a client may write. Knows the plan and the clock's readings, not the writes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::WriterPlan;

/// How far behind its schedule the pace may fall and still catch up. More is forgotten: after a standstill no flood.
const BEHIND: Duration = Duration::from_millis(50);

/// Writes asked for beside the plan.
#[derive(Debug, Default)]
pub(super) struct Extra(AtomicU64);

impl Extra {
    /// Adds some.
    pub(super) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// Takes one, if there is one.
    fn take(&self) -> bool {
        self.some() && self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok()
    }

    /// Whether there are any.
    pub(super) fn some(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }
}

/// What a client may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Permit {
    /// Write.
    Now,
    /// Write at this time.
    At(Instant),
    /// Wait for another plan or an extra write.
    Idle,
}

/// The schedule that all clients share: one slot for each write, absolute, so that late timers don't add up.
#[derive(Debug)]
pub(super) struct Pace {
    next: Mutex<Instant>,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self { next: Mutex::new(now) }
    }

    /// Begins the schedule anew: the plan was changed, and slots were given away.
    pub(super) fn restart(&self, now: Instant) {
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    /// The next slot.
    pub(super) fn permit(&self, plan: &WriterPlan, extra: &Extra, clock: impl FnOnce() -> Instant) -> Permit {
        if plan.held {
            return Permit::Idle;
        }
        if extra.take() {
            return Permit::Now;
        }
        match plan.rate {
            _ if plan.paused || plan.clients == 0 => Permit::Idle,
            None => Permit::Now,
            Some(rate) if rate > 0.0 => self.slot(rate, clock()),
            Some(_) => Permit::Idle,
        }
    }

    fn slot(&self, rate: f64, now: Instant) -> Permit {
        let gap = Duration::try_from_secs_f64(1.0 / rate).unwrap_or(Duration::from_hours(1));
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let earliest = now.checked_sub(BEHIND.max(gap)).unwrap_or(now);
        let slot = (*next).max(earliest);
        *next = slot + gap;
        if slot <= now { Permit::Now } else { Permit::At(slot) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(rate: Option<f64>) -> WriterPlan {
        WriterPlan { clients: 4, rate, ..WriterPlan::default() }
    }

    /// How many writes one client gets out in `span`, whose timers come `late` and whose writes take `busy`.
    fn count(rate: f64, span: Duration, late: Duration, busy: Duration) -> u32 {
        let began = Instant::now();
        let (pace, extra) = (Pace::new(began), Extra::default());
        let (mut now, mut writes) = (began, 0);
        while now < began + span {
            if let Permit::At(slot) = pace.permit(&plan(Some(rate)), &extra, || now) {
                now = slot + late;
            }
            now += busy;
            writes += 1;
        }
        writes
    }

    #[test]
    fn rates_are_kept_though_timers_are_late() {
        let ms = Duration::from_millis(1);
        for (rate, seconds) in [(10.0, 10), (500.0, 2), (5_000.0, 1), (0.5, 20)] {
            let writes = f64::from(count(rate, Duration::from_secs(seconds), ms, Duration::from_micros(20)));
            let wanted = rate * seconds as f64;
            assert!((writes - wanted).abs() <= wanted * 0.02 + 1.0, "{rate}: {writes} of {wanted}");
        }
    }

    #[test]
    fn after_a_standstill_there_is_no_flood() {
        let began = Instant::now();
        let (pace, extra) = (Pace::new(began), Extra::default());
        let later = began + Duration::from_mins(1);
        let flood =
            (0..10_000).take_while(|_| pace.permit(&plan(Some(1_000.0)), &extra, || later) == Permit::Now).count();
        assert!(flood <= 52, "{flood}");
    }

    #[test]
    fn a_pause_stops_all_but_the_extra_writes_and_a_hold_those_too() {
        let (pace, extra) = (Pace::new(Instant::now()), Extra::default());
        let paused = WriterPlan { paused: true, ..plan(None) };
        extra.add(2);
        let got: Vec<_> = (0..3).map(|_| pace.permit(&paused, &extra, Instant::now)).collect();
        assert_eq!(got, [Permit::Now, Permit::Now, Permit::Idle]);
        extra.add(1);
        let held = WriterPlan { held: true, ..plan(None) };
        assert_eq!(pace.permit(&held, &extra, Instant::now), Permit::Idle, "not even these");
        assert_eq!(pace.permit(&paused, &extra, Instant::now), Permit::Now, "they are written later");
        assert_eq!(pace.permit(&plan(None), &extra, Instant::now), Permit::Now);
        assert_eq!(pace.permit(&WriterPlan::default(), &extra, Instant::now), Permit::Idle, "no clients");
        assert_eq!(pace.permit(&plan(Some(0.0)), &extra, Instant::now), Permit::Idle);
    }
}

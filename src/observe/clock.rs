//! A clock that wakes its thread once a tick. Knows nothing of what is done then.
//!
//! tokio keeps time in wheels of 64 ms and wakes twice for what is further off: at the edge of its wheel, and at the moment itself. Who looks
//! ten times a second at a server pays for being woken as much as for the look (bench `watch`), so Linux' own clock is asked where it is there.

use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior, interval};

/// Ticks at once, and then with this much time between two ticks. Ticks that nobody waited for are left out.
#[derive(Debug)]
pub struct Clock {
    #[cfg(target_os = "linux")]
    kernel: Option<kernel::Clock>,
    tokio: Interval,
}

impl Clock {
    /// A new one. Within a tokio runtime only.
    pub fn every(period: Duration) -> Self {
        let mut tokio = interval(period);
        tokio.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            #[cfg(target_os = "linux")]
            kernel: kernel::Clock::every(period)
                .inspect_err(|why| tracing::warn!(%why, "no clock of the kernel's"))
                .ok(),
            tokio,
        }
    }

    /// Waits for the next tick. May be given up and asked again.
    pub async fn tick(&mut self) {
        #[cfg(target_os = "linux")]
        if let Some(kernel) = &self.kernel
            && kernel.tick().await.is_ok()
        {
            return;
        }
        self.tokio.tick().await;
    }
}

#[cfg(target_os = "linux")]
mod kernel {
    use std::io;
    use std::os::fd::OwnedFd;
    use std::time::Duration;

    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
    };
    use tokio::io::Interest;
    use tokio::io::unix::AsyncFd;

    #[derive(Debug)]
    pub(super) struct Clock(AsyncFd<OwnedFd>);

    impl Clock {
        #[expect(
            deprecated,
            reason = "its successor is unsafe, and asks for no more than that an owned file stays open"
        )]
        pub(super) fn every(period: Duration) -> io::Result<Self> {
            let clock = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
            let at_once = Timespec { tv_sec: 0, tv_nsec: 1 };
            let period = Timespec::try_from(period).map_err(|_| io::ErrorKind::InvalidInput)?;
            let times = Itimerspec { it_interval: period, it_value: at_once };
            timerfd_settime(&clock, TimerfdTimerFlags::empty(), &times)?;
            Ok(Self(AsyncFd::with_interest(clock, Interest::READABLE)?))
        }

        pub(super) async fn tick(&self) -> io::Result<()> {
            let count = self.0.async_io(Interest::READABLE, |clock| Ok(rustix::io::read(clock, &mut [0; 8])?));
            count.await.map(drop)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[tokio::test]
    async fn it_ticks_at_once_and_then_at_its_pace() {
        let began = Instant::now();
        let mut clock = Clock::every(Duration::from_millis(20));
        clock.tick().await;
        for _ in 0..5 {
            clock.tick().await;
        }
        assert!(began.elapsed() >= Duration::from_millis(100), "{:?}", began.elapsed());
        // What was missed is left out: at most one tick is there already.
        std::thread::sleep(Duration::from_millis(200));
        let late = Instant::now();
        for _ in 0..3 {
            clock.tick().await;
        }
        assert!(late.elapsed() >= Duration::from_millis(20), "{:?}", late.elapsed());
    }
}

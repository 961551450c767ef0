//! The charts' memory: one point about every 250 ms. The last ten minutes as they were, for the screen; and the whole life of the
//! lab for reports, coarser the longer it lives, so that it is bounded.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::{NodeName, Stamp};

/// Points kept: ten minutes at four a second.
const POINTS: usize = 2_400;
/// Points of the whole life: when there are as many, each two become one.
const WHOLE: usize = 1_200;

/// One moment of the charts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// When.
    pub at: Stamp,
    /// Commits per second.
    pub commits_per_s: f64,
    /// Median commit latency in microseconds, if anything returned.
    pub p50_us: Option<u64>,
    /// 99th percentile.
    pub p99_us: Option<u64>,
    /// Age of the oldest write under way, in microseconds.
    pub oldest_us: u64,
    /// Bytes behind, per standby that is connected.
    pub behind: Vec<(NodeName, u64)>,
}

impl Point {
    /// Takes a later point in; `own` and `others` are how many points each stands for. What is slow or far behind stays to be
    /// seen: of latencies and lags the worst counts, of throughput the mean.
    fn merge(&mut self, other: &Self, own: u32, others: u32) {
        let (a, b) = (f64::from(own), f64::from(others));
        self.commits_per_s = (self.commits_per_s * a + other.commits_per_s * b) / (a + b);
        self.p50_us = self.p50_us.max(other.p50_us);
        self.p99_us = self.p99_us.max(other.p99_us);
        self.oldest_us = self.oldest_us.max(other.oldest_us);
        for (name, bytes) in &other.behind {
            match self.behind.iter_mut().find(|(known, _)| known == name) {
                Some((_, most)) => *most = (*most).max(*bytes),
                None => self.behind.push((name.clone(), *bytes)),
            }
        }
    }
}

/// The points, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    last: VecDeque<Point>,
    whole: Whole,
}

impl History {
    /// Adds a point; the oldest goes when there are too many.
    pub fn push(&mut self, point: Point) {
        self.whole.push(point.clone());
        if self.last.len() == POINTS {
            self.last.pop_front();
        }
        self.last.push_back(point);
    }

    /// The last `n` points, oldest first.
    pub fn last(&self, n: usize) -> impl ExactSizeIterator<Item = &Point> {
        self.last.range(self.last.len().saturating_sub(n)..)
    }

    /// The lab's whole life, oldest first, in at most 1,200 points.
    pub fn whole(&self) -> impl Iterator<Item = &Point> {
        self.whole.points.iter().chain(self.whole.under_way.iter().map(|(point, _)| point))
    }
}

/// The whole life, each point standing for equally many.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Whole {
    points: Vec<Point>,
    /// How many points one stands for.
    each: u32,
    /// The next one, and for how many it stands so far.
    under_way: Option<(Point, u32)>,
}

impl Default for Whole {
    fn default() -> Self {
        Self { points: Vec::new(), each: 1, under_way: None }
    }
}

impl Whole {
    fn push(&mut self, point: Point) {
        let (mut sum, mut count) = self.under_way.take().unwrap_or_else(|| (point.clone(), 0));
        if count > 0 {
            sum.merge(&point, count, 1);
        }
        count += 1;
        if count < self.each {
            self.under_way = Some((sum, count));
            return;
        }
        self.points.push(sum);
        if self.points.len() == WHOLE {
            self.halve();
        }
    }

    fn halve(&mut self) {
        let pairs = self.points.chunks(2).map(|pair| {
            let mut point = pair[0].clone();
            if let Some(second) = pair.get(1) {
                point.merge(second, 1, 1);
            }
            point
        });
        self.points = pairs.collect();
        self.each *= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn point(n: u64, lag: u64) -> Point {
        Point {
            at: Stamp(n * 250_000),
            commits_per_s: n as f64,
            p50_us: None,
            p99_us: Some(lag),
            oldest_us: 0,
            behind: vec![("s1".parse().unwrap(), lag)],
        }
    }

    proptest! {
        /// However long it lives, the whole life stays small, and the worst moment is still in it.
        #[test]
        fn the_whole_life_is_bounded_and_keeps_the_worst(count in 1u64..20_000, worst in any::<prop::sample::Index>()) {
            let (mut history, worst) = (History::default(), worst.index(count as usize) as u64);
            for n in 0..count {
                history.push(point(n, if n == worst { 9_999 } else { 1 }));
            }
            let whole: Vec<&Point> = history.whole().collect();
            prop_assert!(whole.len() <= WHOLE && (count < WHOLE as u64) <= (whole.len() as u64 == count));
            prop_assert_eq!(whole[0].at, Stamp(0));
            prop_assert!(whole.is_sorted_by_key(|p| p.at));
            prop_assert_eq!(whole.iter().filter(|p| p.behind[0].1 == 9_999 && p.p99_us == Some(9_999)).count(), 1);
        }
    }

    #[test]
    fn throughput_is_the_mean() {
        let mut history = History::default();
        (0..WHOLE as u64).for_each(|n| history.push(point(n, 0)));
        let whole: Vec<f64> = history.whole().map(|p| p.commits_per_s).collect();
        assert_eq!((whole.len(), whole[0], whole[599]), (600, 0.5, 1_198.5));
    }
}

//! A set of numbers kept as ranges, so that millions of consecutive ids cost a few words.

use serde::{Deserialize, Serialize};

/// A set of `u64`, as sorted ranges (first, last) that neither touch nor overlap.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    /// The empty set.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// The ranges, in order.
    pub fn as_slice(&self) -> &[(u64, u64)] {
        &self.0
    }

    /// How many numbers are in the set.
    pub fn count(&self) -> u64 {
        self.0.iter().map(|(first, last)| last - first + 1).sum()
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `n` is in it.
    pub fn contains(&self, n: u64) -> bool {
        let after = self.0.partition_point(|(first, _)| *first <= n);
        after > 0 && self.0[after - 1].1 >= n
    }

    /// Adds `first..=last`; growing at the end, the usual case, costs nothing.
    pub fn insert(&mut self, first: u64, last: u64) {
        debug_assert!(first <= last);
        match self.0.last_mut() {
            Some(end) if first > end.1 => {
                if first == end.1 + 1 {
                    end.1 = last;
                } else {
                    self.0.push((first, last));
                }
                return;
            }
            None => return self.0.push((first, last)),
            Some(_) => {}
        }
        let from = self.0.partition_point(|(_, end)| end.saturating_add(1) < first);
        let to = self.0.partition_point(|(begin, _)| *begin <= last.saturating_add(1));
        let merged = match self.0.get(from..to) {
            Some([.., end]) => (first.min(self.0[from].0), last.max(end.1)),
            _ => (first, last),
        };
        self.0.splice(from..to, [merged]);
    }

    /// Adds all of `other`.
    pub fn extend(&mut self, other: &Self) {
        for (first, last) in &other.0 {
            self.insert(*first, *last);
        }
    }

    /// What is in `self` and not in `other`.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        let mut rest = Vec::new();
        let mut holes = other.0.iter().peekable();
        for &(mut first, last) in &self.0 {
            while holes.next_if(|h| h.1 < first).is_some() {}
            let mut ahead = holes.clone();
            let mut open = true;
            while let Some(&&(begin, end)) = ahead.peek() {
                if begin > last {
                    break;
                }
                if begin > first {
                    rest.push((first, begin - 1));
                }
                if end >= last {
                    open = false;
                    break;
                }
                first = first.max(end + 1);
                ahead.next();
            }
            if open {
                rest.push((first, last));
            }
        }
        Self(rest)
    }

    /// What is in both.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        self.minus(&self.minus(other))
    }
}

impl FromIterator<(u64, u64)> for Ranges {
    fn from_iter<I: IntoIterator<Item = (u64, u64)>>(ranges: I) -> Self {
        let mut set = Self::new();
        for (first, last) in ranges {
            set.insert(first, last);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn some() -> impl Strategy<Value = Vec<(u64, u64)>> {
        prop::collection::vec((0u64..80, 0u64..12).prop_map(|(a, n)| (a, a + n)), 0..20)
    }

    fn naive(ranges: &[(u64, u64)]) -> BTreeSet<u64> {
        ranges.iter().flat_map(|(a, b)| *a..=*b).collect()
    }

    fn listed(set: &Ranges) -> BTreeSet<u64> {
        naive(set.as_slice())
    }

    proptest! {
        #[test]
        fn it_is_a_set(a in some(), b in some()) {
            let (x, y): (Ranges, Ranges) = (a.iter().copied().collect(), b.iter().copied().collect());
            let (nx, ny) = (naive(&a), naive(&b));
            prop_assert_eq!(listed(&x), nx.clone());
            prop_assert_eq!(x.count(), nx.len() as u64);
            prop_assert!(x.as_slice().windows(2).all(|w| w[0].1 + 1 < w[1].0), "ranges touch: {:?}", x);
            prop_assert_eq!(listed(&x.minus(&y)), nx.difference(&ny).copied().collect());
            prop_assert_eq!(listed(&x.and(&y)), nx.intersection(&ny).copied().collect());
            for n in 0..95 { prop_assert_eq!(x.contains(n), nx.contains(&n)); }
            let mut both = x.clone();
            both.extend(&y);
            prop_assert_eq!(listed(&both), nx.union(&ny).copied().collect());
        }
    }
}

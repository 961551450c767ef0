//! Dice that fall the same way for the same seed, on every machine and with every version of the program. Knows nothing of
//! what is diced for.
//!
//! The generator is xorshift128 as `rand_xorshift` has it, whose stream is fixed; how its numbers become choices is written
//! out here, because the ways of the `rand` crate may change with its version.

use rand_core::{Rng as _, SeedableRng as _};
use rand_xorshift::XorShiftRng;

/// See the module.
#[derive(Clone, Debug)]
pub struct Dice(XorShiftRng);

impl Dice {
    /// The dice of one round.
    pub fn new(seed: u64, round: u32) -> Self {
        // Any odd number with well mixed bits does: rounds must not share a stream.
        const APART: u64 = 0x9E37_79B9_7F4A_7C15;
        Self(XorShiftRng::seed_from_u64(seed ^ u64::from(round).wrapping_mul(APART)))
    }

    /// A number below `n`; 0 where there is none.
    pub fn below(&mut self, n: u64) -> u64 {
        // The upper half of the product: even, but for one part in 2^64 / n.
        ((u128::from(self.0.next_u64()) * u128::from(n)) >> 64) as u64
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// Whether something happens that happens `percent` times in a hundred.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of these; None where there is none.
    pub fn pick<'a, T>(&mut self, among: &'a [T]) -> Option<&'a T> {
        among.get(self.below(among.len() as u64) as usize)
    }

    /// So many of these, in an order of their own; all where there are fewer.
    pub fn some<T: Clone>(&mut self, among: &[T], count: usize) -> Vec<T> {
        let mut left = among.to_vec();
        let mut taken = Vec::new();
        while taken.len() < count && !left.is_empty() {
            taken.push(left.remove(self.below(left.len() as u64) as usize));
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written down once: another stream would make another chaos of every seed that anybody noted.
    #[test]
    fn the_stream_of_a_seed_never_changes() {
        let mut dice = Dice::new(7, 3);
        let fell: Vec<u64> = (0..8).map(|_| dice.below(1_000)).collect();
        assert_eq!(fell, FELL);
    }

    const FELL: [u64; 8] = [530, 64, 871, 782, 852, 746, 218, 512];

    #[test]
    fn they_keep_within_bounds_and_reach_them() {
        let mut dice = Dice::new(1, 1);
        let fell: Vec<u64> = (0..2_000).map(|_| dice.between(3, 9)).collect();
        assert_eq!((fell.iter().min(), fell.iter().max()), (Some(&3), Some(&9)));
        assert!((3..=9).all(|n| fell.iter().filter(|f| **f == n).count() > 200), "each about 285 times");
        assert_eq!((dice.below(0), dice.pick::<u8>(&[])), (0, None));
        let all = [1, 2, 3, 4, 5];
        for count in 0..7 {
            let mut some = dice.some(&all, count);
            assert_eq!(some.len(), count.min(5));
            some.sort_unstable();
            some.dedup();
            assert_eq!(some.len(), count.min(5), "each once");
        }
    }
}

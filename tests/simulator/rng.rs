// SPDX-License-Identifier: MIT OR Apache-2.0
//! The simulator's dice: the same seed gives the same dump, byte for byte.
//!
//! SplitMix64 (Steele, Lea and Flood, Fast Splittable Pseudorandom Number Generators, 2014).

/// A sequence of numbers that a seed determines.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// Starts at `seed`; `stream` keeps the users of one seed apart.
    #[must_use]
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut rng = Self(seed ^ stream.wrapping_mul(0xd6e8_feb8_6659_fd93));
        rng.next();
        rng
    }

    /// Returns the next number.
    #[allow(
        clippy::should_implement_trait,
        reason = "it never ends, so it is no iterator"
    )]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number below `end`, 0 when that is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        // The bias is below 2^-32 for what is asked here.
        self.next().checked_rem(end).unwrap_or(0)
    }

    /// Returns a number from `start` to before `end`.
    pub fn between(&mut self, start: u64, end: u64) -> u64 {
        start.saturating_add(self.below(end.saturating_sub(start)))
    }

    /// Returns a number from 0 to before 1.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Returns how many trials of probability `p` fail before one succeeds.
    pub fn failures(&mut self, p: f64) -> u64 {
        if p <= 0.0 {
            return u64::MAX;
        }
        if p >= 1.0 {
            return 0;
        }
        // Inversion: the count is geometric. The cast saturates.
        ((1.0 - self.unit()).ln() / (1.0 - p).ln()) as u64
    }

    /// Fills `bytes`.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for part in bytes.chunks_mut(8) {
            let word = self.next().to_le_bytes();
            part.iter_mut().zip(word).for_each(|(to, from)| *to = from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_as_many_as_the_probability_says() {
        let mut rng = Rng::new(1, 0);
        let sum: u64 = (0..20_000).map(|_| rng.failures(0.01)).sum();
        // 99 on average, with a standard deviation of 0.7 over 20,000 trials.
        assert!((95..103).contains(&(sum / 20_000)), "{}", sum / 20_000);
    }

    #[test]
    fn streams_of_one_seed_differ_and_repeat() {
        let draw = |stream| Rng::new(7, stream).next();
        assert_ne!(draw(0), draw(1));
        assert_eq!(draw(1), draw(1));
    }

    #[test]
    fn impossible_and_certain_trials_need_no_luck() {
        let mut rng = Rng::new(1, 0);
        assert_eq!(rng.failures(0.0), u64::MAX);
        assert_eq!(rng.failures(1.0), 0);
        assert_eq!(rng.below(0), 0);
    }
}

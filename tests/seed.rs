// SPDX-License-Identifier: MIT OR Apache-2.0
//! Seeds: numbers that all choices of a run follow from, so that it can be repeated.

/// The seed of one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed(pub u64);

impl Seed {
    /// The seeds to run: the one that `AFTERIMAGE_SEED` names, `all` under `AFTERIMAGE_SOAK=1`, else `sample`.
    #[must_use]
    pub fn all(sample: u64, all: u64) -> Vec<Self> {
        let named = std::env::var("AFTERIMAGE_SEED").ok();
        if let Some(seed) = named.and_then(|seed| seed.parse().ok()) {
            return vec![Self(seed)];
        }
        let is_soak = crate::matrix::is_soak();
        (0..if is_soak { all } else { sample }).map(Self).collect()
    }

    /// A number below `end` that follows from the seed; another one for each `salt` (splitmix64's finalizer).
    #[must_use]
    pub fn number(self, salt: u64, end: u64) -> u64 {
        let mut word =
            self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ salt.wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (word ^ word >> 31) % end.max(1)
    }

    /// One of `choices`.
    ///
    /// # Panics
    /// There are none.
    #[must_use]
    pub fn pick<T: Copy>(self, salt: u64, choices: &[T]) -> T {
        choices[self.number(salt, choices.len() as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_many_seeds_come_to_every_value() {
        let mut seen = [0; 7];
        for seed in 0..700 {
            seen[Seed(seed).number(3, 7) as usize] += 1;
        }
        assert!(
            seen.iter().all(|count| (50..150).contains(count)),
            "{seen:?}"
        );
    }

    #[test]
    fn number_below_nothing_is_zero() {
        assert_eq!(Seed(5).number(1, 0), 0);
    }
}

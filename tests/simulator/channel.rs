// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a bad line does to the bytes of one direction.

use crate::rng::Rng;

/// Bits of a byte that an error can hit.
const DATA_BITS: i32 = 8;

/// How bad a line is. All are probabilities; zero is a good line.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Noise {
    /// That a data bit arrives flipped.
    pub bit_error_rate: f64,
    /// The same from this rate in baud up.
    pub fast: Option<(u32, f64)>,
    /// That a byte is lost.
    pub drop: f64,
    /// That a byte comes twice.
    pub double: f64,
    /// That a byte comes that nobody sent.
    pub insert: f64,
    /// That a burst begins at a byte: half of its bytes are anything.
    pub burst: f64,
    /// Bytes of a burst.
    pub burst_len: u64,
}

impl Noise {
    /// Returns a line with this bit error rate and no other fault.
    #[must_use]
    pub fn bits(bit_error_rate: f64) -> Self {
        Self {
            bit_error_rate,
            ..Self::default()
        }
    }

    fn bits_at(&self, baud: u32) -> f64 {
        match self.fast {
            Some((from, rate)) if baud >= from => rate,
            _ => self.bit_error_rate,
        }
    }

    fn byte_error_rate(&self, baud: u32) -> f64 {
        1.0 - (1.0 - self.bits_at(baud)).powi(DATA_BITS)
    }
}

/// One direction of a line.
#[derive(Clone, Debug)]
pub struct Channel {
    noise: Noise,
    rng: Rng,
    /// Rate for which the next hit was drawn.
    baud: u32,
    /// Bytes that pass before the next hit.
    spared: u64,
    /// Bytes that are left of a burst.
    burst_left: u64,
    /// Bytes that were hit.
    hits: u64,
}

impl Channel {
    /// Makes a channel that `seed` and `stream` determine.
    #[must_use]
    pub fn new(noise: Noise, seed: u64, stream: u64) -> Self {
        Self {
            noise,
            rng: Rng::new(seed, stream),
            baud: 0,
            spared: 0,
            burst_left: 0,
            hits: 0,
        }
    }

    /// Returns how many bytes were hit.
    #[must_use]
    pub const fn hits(&self) -> u64 {
        self.hits
    }

    /// Passes `byte` on, sent at `baud`: what arrives is appended to `out`.
    pub fn pass(&mut self, byte: u8, baud: u32, out: &mut Vec<u8>) {
        if baud != self.baud {
            self.baud = baud;
            self.draw();
        }
        if self.burst_left > 0 {
            self.burst_left -= 1;
            let anything = self.rng.next() as u8;
            out.push(if self.rng.below(2) == 0 {
                anything
            } else {
                byte
            });
            return;
        }
        if self.spared > 0 {
            self.spared -= 1;
            out.push(byte);
            return;
        }
        self.hits += 1;
        self.hit(byte, out);
        self.draw();
    }

    /// Garbles a byte that was sent at another rate than it is read at: the reader samples `read_baud / sent_baud` bytes of
    /// anything in its time. `phase` carries the fraction on.
    pub fn garble(&mut self, sent_baud: u32, read_baud: u32, phase: &mut f64, out: &mut Vec<u8>) {
        *phase += f64::from(read_baud) / f64::from(sent_baud.max(1));
        while *phase >= 1.0 {
            *phase -= 1.0;
            out.push(self.rng.next() as u8);
        }
    }

    fn hit(&mut self, byte: u8, out: &mut Vec<u8>) {
        let Noise {
            drop,
            double,
            insert,
            burst,
            burst_len,
            ..
        } = self.noise;
        let mut at = self.rng.unit() * self.any(self.baud);
        let mut is_in = |share: f64| {
            at -= share;
            at < 0.0
        };
        if is_in(drop) {
        } else if is_in(double) {
            out.extend([byte, byte]);
        } else if is_in(insert) {
            out.extend([byte, self.rng.next() as u8]);
        } else if is_in(burst) {
            self.burst_left = burst_len;
            out.push(byte);
        } else {
            out.push(byte ^ 1 << self.rng.below(DATA_BITS as u64));
        }
    }

    /// Returns the probability that a byte is hit by anything.
    fn any(&self, baud: u32) -> f64 {
        let noise = &self.noise;
        noise.byte_error_rate(baud) + noise.drop + noise.double + noise.insert + noise.burst
    }

    fn draw(&mut self) {
        self.spared = self.rng.failures(self.any(self.baud));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(noise: Noise, baud: u32, bytes: usize) -> Vec<u8> {
        let mut channel = Channel::new(noise, 1, 0);
        let mut out = Vec::new();
        (0..bytes).for_each(|_| channel.pass(0x55, baud, &mut out));
        out
    }

    #[test]
    fn good_line_changes_nothing() {
        assert_eq!(sent(Noise::default(), 115_200, 1000), [0x55; 1000]);
    }

    #[test]
    fn bits_flip_as_often_as_they_should_and_one_at_a_time() {
        let out = sent(Noise::bits(1e-3), 115_200, 100_000);
        let hit: Vec<u8> = out.iter().copied().filter(|&byte| byte != 0x55).collect();
        assert!((740..860).contains(&hit.len()), "{}", hit.len());
        assert!(hit.iter().all(|byte| (byte ^ 0x55).count_ones() == 1));
    }

    #[test]
    fn errors_of_a_high_rate_do_not_come_at_a_low_one() {
        let noise = Noise {
            fast: Some((921_600, 0.01)),
            ..Noise::default()
        };
        assert_eq!(sent(noise, 460_800, 10_000), [0x55; 10_000]);
        assert_ne!(sent(noise, 921_600, 10_000), [0x55; 10_000]);
    }

    #[test]
    fn bytes_are_lost_doubled_and_made_up() {
        let only = |noise: Noise| sent(noise, 9600, 10_000);
        let lost = only(Noise {
            drop: 0.01,
            ..Noise::default()
        });
        let doubled = only(Noise {
            double: 0.01,
            ..Noise::default()
        });
        let made_up = only(Noise {
            insert: 0.01,
            ..Noise::default()
        });
        assert!((9850..9950).contains(&lost.len()));
        assert!(doubled.len() > 10_050 && doubled.iter().all(|&byte| byte == 0x55));
        assert!(made_up.len() > 10_050 && made_up.iter().any(|&byte| byte != 0x55));
    }

    #[test]
    fn burst_hits_many_bytes_in_a_row() {
        let noise = Noise {
            burst: 1e-3,
            burst_len: 40,
            ..Noise::default()
        };
        let out = sent(noise, 9600, 20_000);
        let hit = out.iter().filter(|&&byte| byte != 0x55).count();
        assert!((150..900).contains(&hit), "{hit}");
    }

    #[test]
    fn slow_reader_sees_fewer_bytes_than_were_sent_and_a_fast_one_more() {
        let count = |sent, read| {
            let mut channel = Channel::new(Noise::default(), 1, 0);
            let (mut phase, mut out) = (0.0, Vec::new());
            (0..100).for_each(|_| channel.garble(sent, read, &mut phase, &mut out));
            out.len()
        };
        assert_eq!(count(115_200, 115_200 * 8), 800);
        assert_eq!(count(115_200 * 4, 115_200), 25);
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! The bad lines on which every dump must arrive whole, by name and seed.

use crate::case::{Case, Figures, run};
use crate::channel::Noise;
use crate::machine::{Machine, Spec};
use crate::rng::Rng;
use crate::world::{Happening, Setting};

const SECOND: u64 = 1_000_000_000;

/// A kind of bad line.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// What it is called.
    pub name: &'static str,
    /// Pages in use of the machine that is dumped over it.
    pages: u64,
    /// Makes the line of a seed.
    setting: fn(&mut Rng) -> Setting,
}

impl Kind {
    /// Returns the dump of this seed, of a machine so many times as large as the least, and the machine.
    #[must_use]
    pub fn case(&self, seed: u64, times: u64) -> (Case, Spec) {
        let setting = (self.setting)(&mut Rng::new(seed, 9));
        let mut case = Case::new(self.name, seed, setting);
        // High efforts take their time here, too.
        case.bootargs = format!("dump_then=halt dump_effort={}", seed % 3);
        (case, Spec::small(self.pages * times, seed))
    }

    /// Runs the dump of this seed.
    ///
    /// # Errors
    /// What is missing or wrong.
    pub fn run(&self, seed: u64, times: u64) -> (Figures, Result<(), String>) {
        let (case, spec) = self.case(seed, times);
        let mut machine = Machine::new(&spec);
        let mut run = run(&case, &mut machine);
        let is_whole = run.is_whole(&machine);
        (run.figures(), is_whole)
    }
}

const fn kind(name: &'static str, pages: u64, setting: fn(&mut Rng) -> Setting) -> Kind {
    Kind {
        name,
        pages,
        setting,
    }
}

/// All kinds on which the host can answer.
pub const TWO_WAY: [Kind; 13] = [
    kind("good line", 200, |_| noisy(Noise::default())),
    kind("bit errors 1e-6", 200, |_| noisy(Noise::bits(1e-6))),
    kind("bit errors 1e-5", 200, |_| noisy(Noise::bits(1e-5))),
    kind("bit errors 1e-4", 200, |_| noisy(Noise::bits(1e-4))),
    kind("bit errors 1e-3", 60, |_| noisy(Noise::bits(1e-3))),
    kind("bit errors 1e-5 at 921600", 200, |_| {
        Setting::good(921_600).noisy(Noise::bits(1e-5))
    }),
    kind("bursts of 60", 200, |_| {
        noisy(Noise {
            burst: 5e-5,
            burst_len: 60,
            ..Noise::default()
        })
    }),
    kind("bytes dropped", 200, |_| {
        noisy(Noise {
            drop: 1e-4,
            ..Noise::default()
        })
    }),
    kind("bytes inserted and doubled", 200, |_| {
        noisy(Noise {
            double: 1e-4,
            insert: 1e-4,
            ..Noise::default()
        })
    }),
    kind("text of others in between", 200, |_| Setting {
        intrusions: 4.0,
        ..noisy(Noise::bits(1e-6))
    }),
    kind("cable pulled", 200, cuts),
    kind("host killed and restarted", 200, kills),
    kind("host comes late", 200, |rng| Setting {
        events: vec![(rng.below(60 * SECOND), Happening::Start)],
        ..noisy(Noise::bits(1e-6))
    }),
];

fn noisy(noise: Noise) -> Setting {
    Setting::good(115_200).noisy(noise)
}

/// The cable pulled three times, for up to eight seconds.
fn cuts(rng: &mut Rng) -> Setting {
    let mut events = vec![(0, Happening::Start)];
    let mut at = 0;
    for _ in 0..3 {
        at += rng.between(SECOND / 10, 12 * SECOND);
        events.push((at, Happening::Cut));
        at += rng.between(SECOND / 100, 8 * SECOND);
        events.push((at, Happening::Mend));
    }
    Setting {
        events,
        ..noisy(Noise::bits(1e-6))
    }
}

/// The host killed twice, and started again up to five seconds later.
fn kills(rng: &mut Rng) -> Setting {
    let mut events = vec![(0, Happening::Start)];
    let mut at = 0;
    for _ in 0..2 {
        at += rng.between(SECOND / 10, 20 * SECOND);
        events.push((at, Happening::Kill));
        at += rng.between(SECOND / 100, 5 * SECOND);
        events.push((at, Happening::Start));
    }
    Setting {
        events,
        ..noisy(Noise::bits(1e-6))
    }
}

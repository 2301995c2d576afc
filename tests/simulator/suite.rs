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
    spoil: fn(&mut Rng, &mut Case),
}

impl Kind {
    /// Returns the dump of this seed, of a machine so many times as large as the least, and the machine.
    #[must_use]
    pub fn case(&self, seed: u64, times: u64) -> (Case, Spec) {
        let mut case = Case::new(self.name, seed, Setting::good(BAUD));
        // High efforts take their time here, too.
        case.bootargs = format!("dump_then=halt dump_effort={}", seed % 3);
        (self.spoil)(&mut Rng::new(seed, 9), &mut case);
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

const fn kind(name: &'static str, pages: u64, spoil: fn(&mut Rng, &mut Case)) -> Kind {
    Kind { name, pages, spoil }
}

/// All kinds on which the host can answer.
pub const TWO_WAY: [Kind; 16] = [
    kind("good line", 200, |_, _| {}),
    kind("bit errors 1e-6", 200, |_, case| bits(case, 1e-6)),
    kind("bit errors 1e-5", 200, |_, case| bits(case, 1e-5)),
    kind("bit errors 1e-4", 200, |_, case| bits(case, 1e-4)),
    kind("bit errors 1e-3", 60, |_, case| bits(case, 1e-3)),
    kind("bit errors 1e-5 at 921600", 200, |_, case| {
        case.setting = Setting::good(921_600).noisy(Noise::bits(1e-5));
    }),
    kind("bursts of 60", 200, |_, case| {
        noisy(
            case,
            Noise {
                burst: 5e-5,
                burst_len: 60,
                ..Noise::default()
            },
        );
    }),
    kind("bytes dropped", 200, |_, case| {
        noisy(
            case,
            Noise {
                drop: 1e-4,
                ..Noise::default()
            },
        );
    }),
    kind("bytes inserted and doubled", 200, |_, case| {
        noisy(
            case,
            Noise {
                double: 1e-4,
                insert: 1e-4,
                ..Noise::default()
            },
        );
    }),
    kind("text of others in between", 200, |_, case| {
        bits(case, 1e-6);
        case.setting.intrusions = 4.0;
    }),
    kind("cable pulled", 200, |rng, case| {
        bits(case, 1e-6);
        pull_cable(rng, case, 3);
    }),
    kind("host killed and restarted", 200, |rng, case| {
        bits(case, 1e-6);
        kill_host(rng, case, 2);
    }),
    kind("host comes late", 200, |rng, case| {
        bits(case, 1e-6);
        case.setting.events = vec![(rng.below(60 * SECOND), Happening::Start)];
    }),
    kind("answers nearly all lost", 100, |_, case| {
        case.setting.up = Noise::bits(2e-3);
    }),
    kind("half of the pages known", 200, |_, case| {
        bits(case, 1e-5);
        case.known_pages = 2;
    }),
    kind("everything at once", 120, everything),
];

const BAUD: u32 = 115_200;

fn noisy(case: &mut Case, noise: Noise) {
    case.setting = case.setting.clone().noisy(noise);
}

fn bits(case: &mut Case, bit_error_rate: f64) {
    noisy(case, Noise::bits(bit_error_rate));
}

/// The cable is pulled so many times, for up to eight seconds.
fn pull_cable(rng: &mut Rng, case: &mut Case, times: u32) {
    let mut at = 0;
    for _ in 0..times {
        at += rng.between(SECOND / 10, 12 * SECOND);
        case.setting.events.push((at, Happening::Cut));
        at += rng.between(SECOND / 100, 8 * SECOND);
        case.setting.events.push((at, Happening::Mend));
    }
}

/// The host is killed so many times, and started again up to five seconds later.
fn kill_host(rng: &mut Rng, case: &mut Case, times: u32) {
    let mut at = 0;
    for _ in 0..times {
        at += rng.between(SECOND / 10, 20 * SECOND);
        case.setting.events.push((at, Happening::Kill));
        at += rng.between(SECOND / 100, 5 * SECOND);
        case.setting.events.push((at, Happening::Start));
    }
}

/// Any line, any host, and whatever may happen to them.
fn everything(rng: &mut Rng, case: &mut Case) {
    const RATES: [u32; 4] = [9600, 115_200, 460_800, 921_600];
    const TIMERS_MS: [u64; 4] = [1, 16, 40, 100];
    let pick = |rng: &mut Rng, of: &[u64; 4]| of[rng.below(4) as usize];
    let baud = RATES[rng.below(4) as usize];
    case.setting = Setting::good(baud);
    case.setting.fifo = [16, 32][rng.below(2) as usize];
    case.setting.latency.timer_ns = pick(rng, &TIMERS_MS) * 1_000_000;
    case.setting.latency.way_ns = rng.between(100_000, 30_000_000);
    let noise = |rng: &mut Rng| Noise {
        bit_error_rate: 10_f64.powf(-4.0 - 3.0 * rng.unit()),
        drop: 1e-5 * rng.unit(),
        double: 1e-5 * rng.unit(),
        insert: 1e-5 * rng.unit(),
        burst: 1e-5 * rng.unit(),
        burst_len: rng.between(2, 300),
        fast: None,
    };
    case.setting.down = noise(rng);
    case.setting.up = noise(rng);
    case.setting.intrusions = rng.unit();
    case.known_pages = rng.below(4);
    if rng.below(2) == 0 {
        case.setting.rates = vec![230_400, 460_800, 921_600, 1_500_000, 3_000_000];
        case.host_baud_max = [921_600, 3_000_000][rng.below(2) as usize];
        case.setting.down.fast = Some((1_000_000, 10_f64.powf(-2.0 - 4.0 * rng.unit())));
    }
    let (cuts, kills) = (rng.below(3) as u32, rng.below(3) as u32);
    pull_cable(rng, case, cuts);
    kill_host(rng, case, kills);
    case.setting.events.sort_by_key(|&(at, _)| at);
}

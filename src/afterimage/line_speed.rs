// SPDX-License-Identifier: MIT OR Apache-2.0
//! The host's side of changing the speed of the line; sans-I/O.
//!
//! The target proposes; the host agrees, changes, and confirms the probe that comes at the new rate. When none comes, or
//! nothing valid for a while, it returns to the first rate by itself, as the target does (docs/protocol.md).

use std::time::{Duration, Instant};

use wire::BaudChange;
use wire::baud_change::Step;
use wire::target::SILENCE_US;

/// Highest rate that an adapter is asked for, in baud.
const RATE_MAX: u32 = 3_000_000;
/// Time after a change in which a probe has to come.
const PROBE: Duration = Duration::from_millis(700);

/// What is to be done, in this order.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Todo {
    /// To be said at the rate of before.
    pub say: Option<BaudChange>,
    /// The line is to be set to this rate, after everything that was said has left.
    pub set: Option<u32>,
}

/// The speed of a line.
#[derive(Debug)]
pub struct LineSpeed {
    /// The rate that the user named, in baud; 0 when the line's rate cannot be set.
    base: u32,
    current: u32,
    rate_max: u32,
    /// When the rate was changed, until a probe comes.
    changed: Option<Instant>,
    last_valid: Instant,
}

impl LineSpeed {
    /// Starts at the rate `base` in baud; `None` for a line whose rate cannot be set.
    #[must_use]
    pub fn new(base: Option<u32>) -> Self {
        let base_rate = base.unwrap_or(0);
        Self {
            base: base_rate,
            current: base_rate,
            rate_max: base.map_or(0, |rate| RATE_MAX.max(rate)),
            changed: None,
            last_valid: Instant::now(),
        }
    }

    /// Returns up to which rate the line can be set, in baud; 0 when it cannot.
    #[must_use]
    pub const fn rate_max(&self) -> u32 {
        self.rate_max
    }

    /// Notes that the adapter refused a rate: there will be no more changes.
    pub const fn failed(&mut self) {
        self.rate_max = 0;
    }

    /// Notes that the line was opened anew, at the first rate.
    pub const fn opened(&mut self) {
        self.current = self.base;
        self.changed = None;
    }

    /// Notes that a whole frame came.
    pub const fn heard(&mut self, now: Instant) {
        self.last_valid = now;
    }

    /// Takes in what the target says of a change.
    pub fn accept(&mut self, change: BaudChange, now: Instant) -> Todo {
        let BaudChange { step, rate } = change;
        let say = |step| Some(BaudChange { step, rate });
        match step {
            Step::Propose if rate <= self.rate_max => {
                let set = Some(rate).filter(|rate| *rate != self.current);
                self.current = rate;
                self.changed = Some(now);
                Todo {
                    say: say(Step::Agree),
                    set,
                }
            }
            Step::Probe if rate == self.current && self.rate_max > 0 => {
                self.changed = None;
                Todo {
                    say: say(Step::Confirm),
                    set: None,
                }
            }
            // The other two are ours: an echo.
            _ => Todo::default(),
        }
    }

    /// Returns the rate to return to, when it is time for that.
    pub fn tick(&mut self, now: Instant) -> Option<u32> {
        let since = |at: Instant| now.saturating_duration_since(at);
        let is_unprobed = self.changed.is_some_and(|at| since(at) >= PROBE);
        let is_silent = since(self.last_valid) >= Duration::from_micros(SILENCE_US);
        if is_unprobed || is_silent {
            return self.go_back();
        }
        None
    }

    /// Returns to the first rate, if the line is at another; the dump is over.
    pub fn go_back(&mut self) -> Option<u32> {
        self.changed = None;
        let is_raised = self.current != self.base;
        self.current = self.base;
        is_raised.then_some(self.base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: u32 = 115_200;
    const HIGH: u32 = 921_600;

    fn change(step: Step, rate: u32) -> BaudChange {
        BaudChange { step, rate }
    }

    /// Returns a line that has just been set to the high rate, and when.
    fn raised() -> (LineSpeed, Instant) {
        let mut speed = LineSpeed::new(Some(BASE));
        let now = Instant::now();
        speed.heard(now);
        let todo = speed.accept(change(Step::Propose, HIGH), now);
        assert_eq!(todo.say, Some(change(Step::Agree, HIGH)));
        assert_eq!(todo.set, Some(HIGH));
        (speed, now)
    }

    #[test]
    fn probe_is_confirmed_and_the_rate_kept() {
        let (mut speed, now) = raised();
        let todo = speed.accept(change(Step::Probe, HIGH), now);
        assert_eq!(todo.say, Some(change(Step::Confirm, HIGH)));
        assert_eq!(todo.set, None);
        let later = now + PROBE;
        speed.heard(later);
        assert_eq!(speed.tick(later), None);
        assert_eq!(speed.go_back(), Some(BASE));
        assert_eq!(speed.go_back(), None);
    }

    #[test]
    fn change_without_a_probe_leads_back() {
        let (mut speed, now) = raised();
        assert_eq!(speed.tick(now + PROBE / 2), None);
        assert_eq!(speed.tick(now + PROBE), Some(BASE));
        assert_eq!(speed.tick(now + 2 * PROBE), None);
    }

    #[test]
    fn silence_at_a_raised_rate_leads_back() {
        let (mut speed, now) = raised();
        speed.accept(change(Step::Probe, HIGH), now);
        let silence = Duration::from_micros(SILENCE_US);
        assert_eq!(speed.tick(now + silence / 2), None);
        assert_eq!(speed.tick(now + silence), Some(BASE));
    }

    #[test]
    fn return_to_the_first_rate_is_agreed_to() {
        let (mut speed, now) = raised();
        speed.accept(change(Step::Probe, HIGH), now);
        let todo = speed.accept(change(Step::Propose, BASE), now);
        assert_eq!(todo.set, Some(BASE));
        let todo = speed.accept(change(Step::Probe, BASE), now);
        assert_eq!(todo.say, Some(change(Step::Confirm, BASE)));
    }

    #[test]
    fn rate_that_cannot_be_set_is_not_agreed_to() {
        let now = Instant::now();
        let mut speed = LineSpeed::new(Some(BASE));
        let todo = speed.accept(change(Step::Propose, RATE_MAX + 1), now);
        assert_eq!(todo, Todo::default());
        for mut fixed in [LineSpeed::new(None), {
            speed.failed();
            speed
        }] {
            assert_eq!(fixed.rate_max(), 0);
            let todo = fixed.accept(change(Step::Propose, HIGH), now);
            assert_eq!(todo, Todo::default());
            assert_eq!(fixed.tick(now + 10 * PROBE), None);
        }
    }

    #[test]
    fn what_was_not_asked_for_is_ignored() {
        let (mut speed, now) = raised();
        for echo in [change(Step::Agree, HIGH), change(Step::Confirm, HIGH)] {
            assert_eq!(speed.accept(echo, now), Todo::default());
        }
        assert_eq!(
            speed.accept(change(Step::Probe, 9600), now),
            Todo::default()
        );
    }

    #[test]
    fn line_opened_anew_is_at_its_first_rate() {
        let (mut speed, now) = raised();
        speed.opened();
        assert_eq!(speed.tick(now + 10 * PROBE), None);
    }
}

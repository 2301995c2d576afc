// SPDX-License-Identifier: MIT OR Apache-2.0
//! The target's side of changing the speed of the line.
//!
//! The target proposes, the host agrees and both change; a probe at the new rate has to be confirmed. Whatever is not heard in
//! time leads back: either side returns to the rate of the beginning by itself when nothing comes at the new one. A rate
//! that failed, or that showed errors, is not tried again; silence alone, on a rate that worked, says nothing against it.

use crate::baud_change::{BaudChange, Step};

/// Rates that are kept.
const RATES_MAX: usize = 8;
/// Time between two proposals or probes, in microseconds.
const REPEAT_US: u64 = 100_000;
/// Proposals until it is given up.
const PROPOSALS: u32 = 5;
/// How long a probe may go unconfirmed.
pub(super) const CONFIRM_US: u64 = 700_000;
/// Silence at a raised rate after which both sides are back at the first one; the host waits as long.
pub const SILENCE_US: u64 = 2_000_000;
/// Time at one rate before the next is tried.
const SETTLE_US: u64 = 500_000;
/// Errors in a million bytes above which a raised rate is given up.
const ERRORS_MAX: u64 = 500;

/// What the line is to be set to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Speed {
    /// The rate in baud.
    pub rate: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// At a rate that works, since this time.
    Settled(u64),
    /// A proposal is out: how many were sent, when the last one was.
    Proposed(u32, u64),
    /// The line is to be set; then it is probed.
    Agreed,
    /// Probing since, last probe at.
    Probing(u64, u64),
}

/// The negotiation.
#[derive(Debug)]
pub(super) struct Negotiation {
    rates: [u32; RATES_MAX],
    count: usize,
    base: u32,
    current: u32,
    /// The rate that is being changed to.
    wanted: u32,
    host_max: u32,
    state: State,
    speed: Option<Speed>,
}

impl Negotiation {
    pub(super) const fn new() -> Self {
        Self {
            rates: [0; RATES_MAX],
            count: 0,
            base: 0,
            current: 0,
            wanted: 0,
            host_max: 0,
            state: State::Settled(0),
            speed: None,
        }
    }

    pub(super) fn set_rates(&mut self, current: u32, higher: &[u32]) {
        (self.base, self.current) = (current, current);
        self.count = 0;
        for (to, from) in self.rates.iter_mut().zip(higher) {
            *to = *from;
            self.count = self.count.saturating_add(1);
        }
    }

    pub(super) const fn host_max(&mut self, rate: u32) {
        self.host_max = rate;
    }

    /// Tells whether nothing else may be sent now.
    pub(super) const fn is_switching(&self) -> bool {
        !matches!(self.state, State::Settled(_))
    }

    pub(super) const fn take_speed(&mut self) -> Option<Speed> {
        self.speed.take()
    }

    /// Takes in what the host says of a change.
    pub(super) fn accept(&mut self, payload: &[u8], now_us: u64) {
        let Ok(BaudChange { step, rate }) = BaudChange::decode(payload) else {
            return;
        };
        match (self.state, step) {
            (State::Proposed(..), Step::Agree) if rate == self.wanted => self.state = State::Agreed,
            (State::Probing(..), Step::Confirm) if rate == self.wanted => {
                self.current = rate;
                self.state = State::Settled(now_us);
            }
            _ => {}
        }
    }

    /// Returns the payload that is to be sent now, if any.
    pub(super) fn next(
        &mut self,
        now_us: u64,
        silence_us: u64,
        errors: u64,
    ) -> Option<[u8; BaudChange::LEN]> {
        let since = |at: u64| now_us.saturating_sub(at);
        match self.state {
            State::Settled(at) => {
                if self.current != self.base && silence_us >= SILENCE_US {
                    // A rate that worked is tried again: the host may have been killed, or the cable pulled.
                    if since(at).saturating_sub(silence_us) < SETTLE_US {
                        self.drop_rates_from(self.current);
                    }
                    self.go_back(now_us);
                    return None;
                }
                // A host that has not been heard at this rate is perhaps still at the one before.
                if since(at) < SETTLE_US || silence_us > since(at) {
                    return None;
                }
                let is_bad = self.current != self.base && errors > ERRORS_MAX;
                self.wanted = if is_bad {
                    self.drop_rates_from(self.current);
                    self.base
                } else {
                    self.next_rate()?
                };
                self.state = State::Proposed(1, now_us);
                self.payload(Step::Propose)
            }
            State::Proposed(count, at) if since(at) >= REPEAT_US => {
                if count >= PROPOSALS {
                    // Heard and not agreed: no more of this rate.
                    if silence_us < REPEAT_US.saturating_mul(u64::from(PROPOSALS)) {
                        self.drop_rates_from(self.wanted);
                    }
                    self.state = State::Settled(now_us);
                    return None;
                }
                self.state = State::Proposed(count.saturating_add(1), now_us);
                self.payload(Step::Propose)
            }
            State::Agreed => {
                self.speed = Some(Speed { rate: self.wanted });
                // The first probe leaves after the host had time to change.
                self.state = State::Probing(now_us, now_us);
                None
            }
            State::Probing(began, at) => {
                if since(began) >= CONFIRM_US {
                    self.drop_rates_from(self.wanted);
                    self.go_back(now_us);
                    return None;
                }
                if since(at) < REPEAT_US / 2 || self.speed.is_some() {
                    return None;
                }
                self.state = State::Probing(began, now_us);
                self.payload(Step::Probe)
            }
            State::Proposed(..) => None,
        }
    }

    fn payload(&self, step: Step) -> Option<[u8; BaudChange::LEN]> {
        let rate = self.wanted;
        Some(BaudChange { step, rate }.encode())
    }

    /// Returns to the first rate, where the host returns to by itself.
    const fn go_back(&mut self, now_us: u64) {
        self.current = self.base;
        self.speed = Some(Speed { rate: self.base });
        self.state = State::Settled(now_us);
    }

    /// Returns the highest rate that both can set and that has not failed, when it is above the current one.
    fn next_rate(&self) -> Option<u32> {
        let rates = self.rates.get(..self.count)?;
        let highest = rates.iter().rev().find(|&&rate| rate <= self.host_max);
        highest.copied().filter(|&rate| rate > self.current)
    }

    fn drop_rates_from(&mut self, rate: u32) {
        let rates = self.rates.get(..self.count).unwrap_or_default();
        self.count = rates
            .iter()
            .position(|&one| one >= rate)
            .unwrap_or(self.count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATES: [u32; 2] = [460_800, 921_600];

    fn negotiation(host_max: u32) -> Negotiation {
        let mut negotiation = Negotiation::new();
        negotiation.set_rates(115_200, &RATES);
        negotiation.host_max(host_max);
        negotiation
    }

    fn say(negotiation: &mut Negotiation, step: Step, rate: u32, now_us: u64) {
        negotiation.accept(&BaudChange { step, rate }.encode(), now_us);
    }

    /// Steps through time until something is sent; returns it and the time.
    fn sent(negotiation: &mut Negotiation, now_us: &mut u64) -> Option<BaudChange> {
        for _ in 0..2000 {
            *now_us += 1000;
            if let Some(payload) = negotiation.next(*now_us, 0, 0) {
                return BaudChange::decode(&payload).ok();
            }
        }
        None
    }

    fn raised() -> (Negotiation, u64) {
        let (mut negotiation, mut now) = (negotiation(3_000_000), 0);
        let proposed = sent(&mut negotiation, &mut now).unwrap();
        assert_eq!((proposed.step, proposed.rate), (Step::Propose, 921_600));
        say(&mut negotiation, Step::Agree, 921_600, now);
        assert_eq!(negotiation.next(now, 0, 0), None);
        assert_eq!(negotiation.take_speed(), Some(Speed { rate: 921_600 }));
        assert_eq!(sent(&mut negotiation, &mut now).unwrap().step, Step::Probe);
        say(&mut negotiation, Step::Confirm, 921_600, now);
        assert!(!negotiation.is_switching());
        (negotiation, now)
    }

    #[test]
    fn rate_confirmed_is_kept() {
        let (mut negotiation, mut now) = raised();
        assert_eq!(sent(&mut negotiation, &mut now), None);
        assert_eq!(negotiation.take_speed(), None);
    }

    #[test]
    fn host_that_can_set_none_is_not_asked() {
        assert_eq!(sent(&mut negotiation(0), &mut 0), None);
        assert_eq!(sent(&mut negotiation(115_200), &mut 0), None);
    }

    #[test]
    fn host_that_does_not_agree_is_asked_for_lower_rates_and_then_left_alone() {
        let (mut negotiation, mut now) = (negotiation(921_600), 0);
        let mut rates = std::vec::Vec::new();
        while let Some(change) = sent(&mut negotiation, &mut now) {
            rates.push(change.rate);
        }
        assert_eq!(rates, [[921_600; 5], [460_800; 5]].concat());
        assert_eq!(negotiation.take_speed(), None);
    }

    #[test]
    fn probe_unconfirmed_leads_back() {
        let (mut negotiation, mut now) = (negotiation(460_800), 0);
        sent(&mut negotiation, &mut now).unwrap();
        say(&mut negotiation, Step::Agree, 460_800, now);
        negotiation.next(now, 0, 0);
        negotiation.take_speed();
        while sent(&mut negotiation, &mut now).is_some() {}
        assert_eq!(negotiation.take_speed(), Some(Speed { rate: 115_200 }));
        assert_eq!(sent(&mut negotiation, &mut now), None);
    }

    #[test]
    fn errors_at_a_raised_rate_lead_back_by_agreement() {
        let (mut negotiation, mut now) = raised();
        now += SETTLE_US;
        let payload = negotiation.next(now, 0, ERRORS_MAX + 1).unwrap();
        let change = BaudChange::decode(&payload).unwrap();
        assert_eq!((change.step, change.rate), (Step::Propose, 115_200));
    }

    #[test]
    fn silence_at_a_raised_rate_leads_back() {
        let (mut negotiation, now) = raised();
        assert_eq!(negotiation.next(now, SILENCE_US, 0), None);
        assert_eq!(negotiation.take_speed(), Some(Speed { rate: 115_200 }));
    }

    #[test]
    fn rate_at_which_nothing_was_ever_heard_is_not_tried_again() {
        let (mut negotiation, now) = raised();
        assert_eq!(negotiation.next(now + SILENCE_US, SILENCE_US, 0), None);
        let mut now = now + SILENCE_US;
        let next = sent(&mut negotiation, &mut now).unwrap();
        assert_eq!(next.rate, 460_800);
    }

    #[test]
    fn rate_that_worked_until_the_host_went_silent_is_tried_again() {
        let (mut negotiation, mut now) = raised();
        now += 10 * SILENCE_US;
        assert_eq!(negotiation.next(now, SILENCE_US, 0), None);
        let next = sent(&mut negotiation, &mut now).unwrap();
        assert_eq!(next.rate, 921_600);
    }

    #[test]
    fn host_not_heard_since_the_rate_changed_is_not_asked() {
        let (mut negotiation, mut now) = raised();
        now += 10 * SILENCE_US;
        assert_eq!(negotiation.next(now, SILENCE_US, 0), None);
        now += SETTLE_US;
        assert_eq!(negotiation.next(now, SILENCE_US + SETTLE_US, 0), None);
        assert!(negotiation.next(now, SETTLE_US / 2, 0).is_some());
    }

    #[test]
    fn proposals_that_nobody_can_have_heard_say_nothing_about_the_rate() {
        let mut negotiation = negotiation(921_600);
        let mut now = SETTLE_US;
        let mut silence = 0;
        for _ in 0..PROPOSALS {
            assert!(negotiation.next(now, silence, 0).is_some());
            now += REPEAT_US;
            silence += REPEAT_US;
        }
        assert_eq!(negotiation.next(now, silence, 0), None);
        let next = sent(&mut negotiation, &mut now).unwrap();
        assert_eq!(next.rate, 921_600);
    }

    #[test]
    fn answer_unasked_for_or_of_another_rate_is_ignored() {
        let (mut negotiation, mut now) = (negotiation(921_600), 0);
        say(&mut negotiation, Step::Agree, 921_600, 0);
        sent(&mut negotiation, &mut now).unwrap();
        say(&mut negotiation, Step::Agree, 9600, now);
        negotiation.accept(&[1, 2], now);
        assert_eq!(negotiation.next(now, 0, 0), None);
        assert_eq!(negotiation.take_speed(), None);
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! The world as the capture code sees it: a line and a clock.

use std::cell::RefCell;
use std::rc::Rc;

use capture::{Clock, Line, Work};

use crate::host::Host;
use crate::world::World;

/// Rate of the clock in Hz: it counts nanoseconds.
pub const CLOCK_HZ: u64 = 1_000_000_000;

/// The line.
pub struct SimulatedLine<H>(pub Rc<RefCell<World<H>>>);

impl<H: Host> Line for SimulatedLine<H> {
    fn write(&mut self, bytes: &[u8]) -> usize {
        self.0.borrow_mut().write(bytes)
    }

    fn read(&mut self) -> Option<u8> {
        self.0.borrow_mut().read()
    }

    fn rate(&self) -> u32 {
        self.0.borrow().baud()
    }

    fn can_set(&self, rate: u32) -> bool {
        self.0.borrow().can_set(rate)
    }

    fn set_rate(&mut self, rate: u32) -> bool {
        self.0.borrow_mut().set_baud(rate)
    }

    fn spent(&mut self, work: Work) {
        self.0.borrow_mut().spend(work);
    }
}

/// The clock.
pub struct SimulatedClock<H>(pub Rc<RefCell<World<H>>>);

impl<H: Host> Clock for SimulatedClock<H> {
    fn ticks(&self) -> u64 {
        self.0.borrow().now()
    }
}

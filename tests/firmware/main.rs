// SPDX-License-Identifier: MIT OR Apache-2.0
//! The firmware: sets itself up and idles; `firmware_crash` on the command line makes it find a fault in itself.
#![no_std]
#![no_main]

use firmware::memory::Memory;
use firmware::tasks::{self, Task};
use kernel::dump::MarkError;
use kernel::{Boot, crash};

kernel::entry!(main, firmware::BOARD);
kernel::capture_image!(env!("CAPTURE_IMAGE"));

/// The node, alive for as long as the machine runs.
struct Node {
    memory: Memory,
    tasks: [Task; 2],
}

impl Node {
    fn new() -> Result<Self, MarkError> {
        let tasks = [
            Task::new("network", tasks::network, 7)?,
            Task::new("sampling", tasks::sampling, 8)?,
        ];
        Ok(Self {
            memory: Memory::new()?,
            tasks,
        })
    }
}

fn main(boot: Boot) -> ! {
    let node = match Node::new() {
        Ok(node) => node,
        Err(error) => panic!("the node cannot start: {error}"),
    };
    log::info!("{} tasks on {} CPUs", node.tasks.len(), boot.cpus());
    match crash::test() {
        Ok(report) => log::info!("a crash would leave a dump: {}", report.is_image_good),
        Err(error) => log::warn!("a crash would leave no dump: {error}"),
    }
    if firmware::has_word(boot.command_line(), "firmware_crash") {
        check_battery(&node);
    }
    kernel::idle()
}

#[inline(never)]
fn check_battery(node: &Node) {
    let last = node.memory.samples.words().last().copied().unwrap_or(0);
    if core::hint::black_box(last) != 0 {
        crash::trigger("the battery is out of bounds");
    }
}

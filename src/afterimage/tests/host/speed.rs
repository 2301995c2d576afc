// SPDX-License-Identifier: MIT OR Apache-2.0
//! The speed of the line, on a pseudo-terminal, with a target that raises it.

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use afterimage::connection::Connection;
use afterimage::destination::Destination;
use afterimage::interrupt::Interrupt;
use afterimage::link::Link;
use afterimage::session::{Session, Settings};

use crate::place::{Place, assert_exit, run, text};
use crate::serial::{pseudo_terminal, speed};
use crate::stream::{ID, Machine, with_memory};
use crate::target::Sending;

const BASE: u32 = 115_200;
const HIGH: u32 = 921_600;

#[test]
fn line_is_raised_by_agreement_and_set_back_at_the_end() {
    let (place, machine) = (Place::new(), Machine::new());
    let (mut master, path) = pseudo_terminal();
    let link = Link::Serial {
        device: path.clone(),
        baud: BASE,
    };
    let mut session = Session::new(Settings {
        destination: Destination::File {
            path: place.vmcore(),
            overwrite: false,
        },
        elfs: Vec::new(),
        is_elf_required: true,
        has_backtraces: false,
        have: Vec::new(),
        silence: Duration::from_secs(60),
        can_answer: true,
        baud: link.baud(),
    })
    .expect("session");
    let opened = Connection::open(&link, Some(Instant::now()), &Interrupt::never());
    let mut connection = opened.expect("open").expect("not interrupted");
    let device = std::fs::File::open(&path).expect("device");
    let parts = machine.parts(ID);
    let mut speeds = vec![speed(&device)];
    with_memory(|memory| {
        let mut sending = Sending::new(&parts, memory);
        sending.target.set_rates(BASE, &[HIGH]);
        let began = Instant::now();
        let mut is_done = false;
        while !(is_done && sending.is_over() && !session.is_taking_leave()) {
            assert!(began.elapsed() < Duration::from_secs(60), "{speeds:?}");
            // A rate is not proposed before the target has settled at the one it has.
            let now = began.elapsed().as_micros() as u64 + 1_000_000;
            let frame = sending.frame(now);
            master.write_all(&frame).expect("room");
            let _ = sending.target.take_baud();
            let mut data = Vec::new();
            connection
                .read(&mut data, Duration::from_millis(2), None)
                .expect("read");
            for event in session.push(&data).expect("heard") {
                is_done |= matches!(event, afterimage::session::Event::Done(_));
            }
            session.tick(data.is_empty()).expect("tick");
            assert!(session.speak(&mut connection).is_none());
            let mut heard = [0; 4096];
            if let Ok(len) = master.read(&mut heard) {
                sending.target.receive(&heard[..len], now);
            }
            let rate = speed(&device);
            if speeds.last() != Some(&rate) {
                speeds.push(rate);
            }
        }
    });
    assert!(session.speak(&mut connection).is_none());
    speeds.push(speed(&device));
    assert_eq!(speeds[..2], [BASE, HIGH]);
    assert_eq!(speeds.last(), Some(&BASE));
    assert_exit(&run(&["verify", text(&place.vmcore())]), 0);
}

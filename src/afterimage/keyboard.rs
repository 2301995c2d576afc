// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the user's keys do in `watch`: Ctrl-] exits, Ctrl-T then b, s or h acts, all else goes to the machine.

/// Ctrl-].
const EXIT: u8 = 0x1d;
/// Ctrl-T.
const PREFIX: u8 = 0x14;

/// The sequence that stands for magic SysRq where a line has no BREAK; the kernel's `sysrq_sequence=` default.
pub const SYSRQ_SEQUENCE: &[u8] = b"~~~SysRq";

/// What Ctrl-T h prints.
pub const HELP: &str = "Ctrl-] exits; Ctrl-T then: b sends BREAK, s sends the SysRq sequence (then c crashes the machine, h helps), \
Ctrl-T sends Ctrl-T, h prints this";

/// What a key asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send these bytes.
    Send(Vec<u8>),
    /// Send BREAK.
    Break,
    /// Print [`HELP`].
    Help,
    /// End.
    Exit,
}

/// Remembers whether Ctrl-T was pressed.
#[derive(Debug, Default)]
pub struct Keyboard {
    is_prefixed: bool,
}

impl Keyboard {
    /// Returns what `keys` ask for, in order.
    pub fn press(&mut self, keys: &[u8]) -> Vec<Action> {
        let mut actions = Vec::new();
        for &key in keys {
            let action = match (std::mem::take(&mut self.is_prefixed), key) {
                (false, EXIT) => Action::Exit,
                (false, PREFIX) => {
                    self.is_prefixed = true;
                    continue;
                }
                (false, key) | (true, key @ PREFIX) => Action::Send(vec![key]),
                (true, b'b' | b'B') => Action::Break,
                (true, b's' | b'S') => Action::Send(SYSRQ_SEQUENCE.to_vec()),
                (true, EXIT) => Action::Exit,
                (true, _) => Action::Help,
            };
            match (actions.last_mut(), action) {
                (Some(Action::Send(before)), Action::Send(bytes)) => before.extend(bytes),
                (_, action) => actions.push(action),
            }
        }
        actions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_keys_are_sent_in_one_piece() {
        let actions = Keyboard::default().press(b"ls\r\x03");
        assert_eq!(actions, [Action::Send(b"ls\r\x03".to_vec())]);
    }

    #[test]
    fn exit_follows_what_was_typed_before() {
        let actions = Keyboard::default().press(b"a\x1d");
        assert_eq!(actions, [Action::Send(b"a".to_vec()), Action::Exit]);
    }

    #[test]
    fn prefix_and_key_may_come_apart() {
        let mut keyboard = Keyboard::default();
        assert!(keyboard.press(b"\x14").is_empty());
        assert_eq!(keyboard.press(b"b"), [Action::Break]);
        assert_eq!(keyboard.press(b"b"), [Action::Send(b"b".to_vec())]);
    }

    #[test]
    fn prefix_twice_sends_it_once() {
        assert_eq!(
            Keyboard::default().press(b"\x14\x14"),
            [Action::Send(vec![0x14])]
        );
    }

    #[test]
    fn prefix_s_sends_the_sysrq_sequence() {
        assert_eq!(
            Keyboard::default().press(b"\x14sc"),
            [Action::Send(b"~~~SysRqc".to_vec())]
        );
    }

    #[test]
    fn unknown_key_after_prefix_helps() {
        assert_eq!(Keyboard::default().press(b"\x14?"), [Action::Help]);
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! The telnet layer, as little of it as QEMU and ser2net need (RFC 854, RFC 856).
//!
//! Options are accepted when they make the line transparent (BINARY, ECHO, SUPPRESS GO AHEAD) and refused otherwise.

/// Interpret as command.
pub const IAC: u8 = 255;
/// BREAK.
pub const BRK: u8 = 243;
const DONT: u8 = 254;
const DO: u8 = 253;
const WONT: u8 = 252;
const WILL: u8 = 251;
const SB: u8 = 250;
const SE: u8 = 240;

const BINARY: u8 = 0;
const ECHO: u8 = 1;
const SUPPRESS_GO_AHEAD: u8 = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Data,
    Command,
    Option(u8),
    Subnegotiation,
    SubnegotiationCommand,
}

/// Takes telnet commands out of what arrives and answers them.
#[derive(Debug)]
pub struct Telnet {
    state: State,
    /// Options that were answered, so that answers are not answered (RFC 854's loop rule): (verb answered, option).
    answered: Vec<(u8, u8)>,
}

impl Default for Telnet {
    fn default() -> Self {
        Self::new()
    }
}

impl Telnet {
    /// Starts with plain data.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            state: State::Data,
            answered: Vec::new(),
        }
    }

    /// Appends the data bytes of `input` to `data` and the answers that must be sent to `reply`.
    pub fn receive(&mut self, input: &[u8], data: &mut Vec<u8>, reply: &mut Vec<u8>) {
        for &byte in input {
            self.state = match self.state {
                State::Data if byte == IAC => State::Command,
                State::Data => {
                    data.push(byte);
                    State::Data
                }
                State::Command => match byte {
                    IAC => {
                        data.push(IAC);
                        State::Data
                    }
                    WILL | WONT | DO | DONT => State::Option(byte),
                    SB => State::Subnegotiation,
                    _ => State::Data,
                },
                State::Option(verb) => {
                    self.answer(verb, byte, reply);
                    State::Data
                }
                State::Subnegotiation if byte == IAC => State::SubnegotiationCommand,
                State::Subnegotiation => State::Subnegotiation,
                State::SubnegotiationCommand if byte == SE => State::Data,
                State::SubnegotiationCommand => State::Subnegotiation,
            };
        }
    }

    fn answer(&mut self, verb: u8, option: u8, reply: &mut Vec<u8>) {
        let transparent = matches!(option, BINARY | ECHO | SUPPRESS_GO_AHEAD);
        let answer = match verb {
            WILL if transparent => DO,
            WILL => DONT,
            DO if matches!(option, BINARY | SUPPRESS_GO_AHEAD) => WILL,
            DO => WONT,
            _ => return,
        };
        if !self.answered.contains(&(answer, option)) {
            self.answered.push((answer, option));
            reply.extend_from_slice(&[IAC, answer, option]);
        }
    }

    /// Appends `data` to `line`, IAC doubled.
    pub fn send(data: &[u8], line: &mut Vec<u8>) {
        for &byte in data {
            line.push(byte);
            if byte == IAC {
                line.push(IAC);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receive(telnet: &mut Telnet, input: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let (mut data, mut reply) = (Vec::new(), Vec::new());
        telnet.receive(input, &mut data, &mut reply);
        (data, reply)
    }

    #[test]
    fn doubled_iac_is_one_data_byte() {
        let (data, reply) = receive(&mut Telnet::new(), &[1, IAC, IAC, 2]);
        assert_eq!(data, [1, 255, 2]);
        assert!(reply.is_empty());
    }

    #[test]
    fn command_split_over_two_reads_is_removed() {
        let mut telnet = Telnet::new();
        let (first, _) = receive(&mut telnet, &[b'a', IAC]);
        let (second, reply) = receive(&mut telnet, &[WILL, ECHO, b'b']);
        assert_eq!((first, second), (vec![b'a'], vec![b'b']));
        assert_eq!(reply, [IAC, DO, ECHO]);
    }

    #[test]
    fn unknown_option_is_refused_once() {
        let mut telnet = Telnet::new();
        let (_, reply) = receive(&mut telnet, &[IAC, DO, 24, IAC, DO, 24]);
        assert_eq!(reply, [IAC, WONT, 24]);
    }

    #[test]
    fn subnegotiation_is_skipped() {
        let (data, _) = receive(&mut Telnet::new(), &[IAC, SB, 24, 1, IAC, SE, b'x']);
        assert_eq!(data, b"x");
    }

    #[test]
    fn sent_iac_is_doubled() {
        let mut line = Vec::new();
        Telnet::send(&[7, 255, 8], &mut line);
        assert_eq!(line, [7, 255, 255, 8]);
    }
}

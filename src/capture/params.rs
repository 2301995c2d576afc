// SPDX-License-Identifier: MIT OR Apache-2.0
//! The `dump_*` parameters of the capture kernel's own command line.
//!
//! Nothing here is fatal: whatever is unknown or malformed is handed to the caller with the offending bytes, and the
//! default stays. As on a Linux command line, the last of several equal parameters wins.

use core::fmt;

use wire::Next;
use wire::lzma::Effort;

/// Longest command line that is read, in bytes; Linux's own limit on arm64 is 2048.
pub const MAX_BOOTARGS_BYTES: usize = 4096;

/// Highest dump level: makedumpfile's five bits.
const MAX_LEVEL: u64 = 31;

/// What the machine does once the dump has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DumpThen {
    /// Resets the machine.
    Reboot,
    /// Stops for ever, memory untouched.
    Halt,
    /// Switches the machine off.
    PowerOff,
    /// Asks at the console; the dump can be had once more.
    Wait,
}

impl fmt::Display for DumpThen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.on_the_wire().name())
    }
}

impl DumpThen {
    /// Returns what the last frame calls it.
    pub(crate) const fn on_the_wire(self) -> Next {
        match self {
            Self::Reboot => Next::Reboot,
            Self::Halt => Next::Halt,
            Self::PowerOff => Next::PowerOff,
            Self::Wait => Next::Wait,
        }
    }

    /// Returns what a frame calls so.
    pub(crate) const fn from_wire(next: Next) -> Option<Self> {
        match next {
            Next::Reboot => Some(Self::Reboot),
            Next::Halt => Some(Self::Halt),
            Next::PowerOff => Some(Self::PowerOff),
            Next::Wait => Some(Self::Wait),
            Next::Other(_) => None,
        }
    }
}

/// A fault that the capture kernel makes itself, for tests of what follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It panics.
    Panic,
    /// It writes where nothing is.
    Abort,
    /// It does nothing more, and goes on doing it.
    Hang,
}

/// `dump_fault=BLOCK[:panic|abort|hang[:reading]]`: where a fault is made, once for each block; `every` is each block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InjectedFault {
    /// Number of the block; `None` for each.
    pub(crate) block: Option<u32>,
    /// Which fault.
    pub(crate) kind: Fault,
    /// While the block's memory is read, and not before it is packed.
    pub(crate) is_reading: bool,
}

/// Where a dump goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DumpTo {
    /// The console's UART.
    Uart,
    /// A file of the debugger's host; the UART where no debugger answers.
    Semihosting,
}

/// How hard the encoder works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DumpEffort {
    /// As hard as the line is slow.
    Auto,
    /// Not at all.
    Stored,
    /// Always this hard; [`wire::lzma::Effort`].
    Fixed(u8),
}

/// The settings of one dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Params {
    /// makedumpfile's dump level: 1 zero pages, 2 and 4 Linux's page cache, 8 the program's own data, 16 free pages.
    pub level: u8,
    /// Where it goes.
    pub to: DumpTo,
    /// How hard it is packed.
    pub effort: DumpEffort,
    /// What follows the dump.
    pub then: DumpThen,
    /// How often the dump is sent when nobody answers.
    pub rounds: u32,
    /// Seconds without an answer after which `then` follows.
    pub timeout_s: u32,
    /// A fault that is to be made.
    pub fault: Option<InjectedFault>,
    /// Whether all memory is read again at the end, to tell what changed meanwhile.
    pub is_rechecked: bool,
    /// Seconds without progress until the board's watchdog resets the machine; 0 turns a running one off. `None`: only one that the
    /// crashed kernel left running does.
    pub watchdog_s: Option<u32>,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            level: 17,
            to: DumpTo::Uart,
            effort: DumpEffort::Auto,
            then: DumpThen::Reboot,
            rounds: 2,
            timeout_s: 600,
            fault: None,
            is_rechecked: true,
            watchdog_s: None,
        }
    }
}

/// A parameter that was not obeyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem<'a> {
    /// The parameter is known, its value is not.
    Malformed {
        /// The parameter's name.
        name: &'a [u8],
        /// What stood behind the `=`; empty if there was none.
        value: &'a [u8],
    },
    /// No parameter of this name exists.
    Unknown {
        /// The whole word.
        word: &'a [u8],
    },
    /// The command line was cut at [`MAX_BOOTARGS_BYTES`].
    TooLong {
        /// Its length in bytes.
        len: usize,
    },
}

impl fmt::Display for Problem<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed { name, value } => {
                write!(
                    f,
                    "malformed {}=\"{}\", default kept",
                    shown(name).escape_ascii(),
                    shown(value).escape_ascii()
                )
            }
            Self::Unknown { word } => {
                write!(f, "unknown parameter \"{}\"", shown(word).escape_ascii())
            }
            Self::TooLong { len } => {
                write!(
                    f,
                    "command line of {len} bytes read only up to {MAX_BOOTARGS_BYTES}"
                )
            }
        }
    }
}

/// Returns as much of `bytes` as is worth a place in the report.
fn shown(bytes: &[u8]) -> &[u8] {
    bytes.get(..48).unwrap_or(bytes)
}

/// Reads the `dump_*` words of `bootargs` (which ends at its first NUL) and reports the others that begin so.
pub fn parse<'a>(bootargs: &'a [u8], mut report: impl FnMut(Problem<'a>)) -> Params {
    let mut params = Params::default();
    let text = bootargs.split(|&byte| byte == 0).next().unwrap_or(&[]);
    let text = match text.get(..MAX_BOOTARGS_BYTES) {
        Some(head) if head.len() < text.len() => {
            report(Problem::TooLong { len: text.len() });
            head
        }
        _ => text,
    };
    for word in text
        .split(u8::is_ascii_whitespace)
        .filter(|word| word.starts_with(b"dump_"))
    {
        let mut parts = word.splitn(2, |&byte| byte == b'=');
        let name = parts.next().unwrap_or(&[]);
        let value = parts.next().unwrap_or(&[]);
        match apply(&mut params, name, value) {
            Applied::Yes => {}
            Applied::BadValue => report(Problem::Malformed { name, value }),
            Applied::BadName => report(Problem::Unknown { word }),
        }
    }
    params
}

/// What became of one parameter.
enum Applied {
    Yes,
    BadValue,
    BadName,
}

fn apply(params: &mut Params, name: &[u8], value: &[u8]) -> Applied {
    let done = match name {
        b"dump_level" => number(value)
            .filter(|&level| level <= MAX_LEVEL)
            .and_then(|level| u8::try_from(level).ok())
            .map(|level| params.level = level),
        b"dump_then" => then(value).map(|then| params.then = then),
        b"dump_rounds" => number(value)
            .and_then(|rounds| u32::try_from(rounds).ok())
            .filter(|&rounds| rounds > 0)
            .map(|rounds| params.rounds = rounds),
        b"dump_timeout" => number(value)
            .and_then(|timeout| u32::try_from(timeout).ok())
            .map(|timeout_s| params.timeout_s = timeout_s),
        b"dump_recheck" => number(value)
            .filter(|&value| value <= 1)
            .map(|value| params.is_rechecked = value == 1),
        b"dump_watchdog" => number(value)
            .and_then(|seconds| u32::try_from(seconds).ok())
            .map(|seconds| params.watchdog_s = Some(seconds)),
        b"dump_effort" => effort(value).map(|effort| params.effort = effort),
        b"dump_fault" => fault(value).map(|fault| params.fault = Some(fault)),
        b"dump_to" => to(value).map(|to| params.to = to),
        _ => return Applied::BadName,
    };
    if done.is_some() {
        Applied::Yes
    } else {
        Applied::BadValue
    }
}

fn effort(value: &[u8]) -> Option<DumpEffort> {
    match value {
        b"auto" => Some(DumpEffort::Auto),
        b"stored" => Some(DumpEffort::Stored),
        _ => number(value)
            .and_then(|effort| u8::try_from(effort).ok())
            .filter(|&effort| effort <= Effort::MAX.0)
            .map(DumpEffort::Fixed),
    }
}

fn to(value: &[u8]) -> Option<DumpTo> {
    match value {
        b"uart" => Some(DumpTo::Uart),
        b"semihosting" => Some(DumpTo::Semihosting),
        _ => None,
    }
}

fn fault(value: &[u8]) -> Option<InjectedFault> {
    let mut parts = value.split(|&byte| byte == b':');
    let block = match parts.next()? {
        b"every" => None,
        number => Some(u32::try_from(self::number(number)?).ok()?),
    };
    let kind = match parts.next() {
        None | Some(b"panic") => Fault::Panic,
        Some(b"abort") => Fault::Abort,
        Some(b"hang") => Fault::Hang,
        Some(_) => return None,
    };
    let is_reading = match parts.next() {
        None => false,
        Some(b"reading") => true,
        Some(_) => return None,
    };
    parts.next().is_none().then_some(InjectedFault {
        block,
        kind,
        is_reading,
    })
}

fn then(value: &[u8]) -> Option<DumpThen> {
    Next::named(value).and_then(DumpThen::from_wire)
}

/// Reads a whole decimal or `0x` hexadecimal number.
fn number(value: &[u8]) -> Option<u64> {
    let text = core::str::from_utf8(value).ok()?;
    let (digits, radix) = match text.strip_prefix("0x") {
        Some(digits) => (digits, 16),
        None => (text, 10),
    };
    // `from_str_radix` takes a sign, which no kernel parameter has.
    if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    u64::from_str_radix(digits, radix).ok()
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::string::{String, ToString};
    use std::vec::Vec;

    fn parse_all(bootargs: &[u8]) -> (Params, Vec<String>) {
        let mut problems = Vec::new();
        let params = parse(bootargs, |problem| problems.push(problem.to_string()));
        (params, problems)
    }

    #[test]
    fn bootargs_empty_give_the_defaults() {
        assert_eq!(
            parse_all(b""),
            (
                Params {
                    level: 17,
                    to: DumpTo::Uart,
                    effort: DumpEffort::Auto,
                    then: DumpThen::Reboot,
                    rounds: 2,
                    timeout_s: 600,
                    fault: None,
                    is_rechecked: true,
                    watchdog_s: None,
                },
                Vec::new()
            )
        );
    }

    #[test]
    fn bootargs_with_all_parameters_are_read() {
        let (params, problems) =
            parse_all(b"console=ttyAMA0 dump_level=0x1f dump_then=halt\tdump_rounds=3 dump_timeout=0 dump_to=semihosting dump_recheck=0 dump_effort=1 dump_fault=7:abort:reading dump_watchdog=15 quiet");
        assert_eq!(
            params,
            Params {
                level: 31,
                to: DumpTo::Semihosting,
                effort: DumpEffort::Fixed(1),
                then: DumpThen::Halt,
                rounds: 3,
                timeout_s: 0,
                fault: Some(InjectedFault {
                    block: Some(7),
                    kind: Fault::Abort,
                    is_reading: true,
                }),
                is_rechecked: false,
                watchdog_s: Some(15),
            }
        );
        assert!(problems.is_empty());
    }

    #[test]
    fn bootargs_ending_in_two_nuls_are_read_to_the_first() {
        // kexec-tools ends bootargs in two NULs (FACTS.md, what Linux hands over).
        let (params, problems) = parse_all(b"dump_then=poweroff\0\0dump_level=99");
        assert_eq!(params.then, DumpThen::PowerOff);
        assert!(problems.is_empty());
    }

    #[test]
    fn parameter_given_twice_the_last_one_wins() {
        assert_eq!(
            parse_all(b"dump_then=halt dump_then=wait").0.then,
            DumpThen::Wait
        );
    }

    #[test]
    fn parameter_malformed_keeps_the_default_and_is_named() {
        let (params, problems) =
            parse_all(b"dump_level=32 dump_then=explode dump_rounds=0 dump_timeout=-1 dump_level dump_to=moon dump_effort=99 dump_recheck=2 dump_fault=x dump_fault=1:flood dump_watchdog=soon dump_watchdog=4294967296");
        assert_eq!(params, Params::default());
        assert_eq!(
            problems,
            [
                "malformed dump_level=\"32\", default kept",
                "malformed dump_then=\"explode\", default kept",
                "malformed dump_rounds=\"0\", default kept",
                "malformed dump_timeout=\"-1\", default kept",
                "malformed dump_level=\"\", default kept",
                "malformed dump_to=\"moon\", default kept",
                "malformed dump_effort=\"99\", default kept",
                "malformed dump_recheck=\"2\", default kept",
                "malformed dump_fault=\"x\", default kept",
                "malformed dump_fault=\"1:flood\", default kept",
                "malformed dump_watchdog=\"soon\", default kept",
                "malformed dump_watchdog=\"4294967296\", default kept",
            ]
        );
    }

    #[test]
    fn parameter_malformed_after_a_good_one_leaves_it_standing() {
        assert_eq!(parse_all(b"dump_level=1 dump_level=+3").0.level, 1);
    }

    #[test]
    fn parameter_unknown_is_named() {
        assert_eq!(
            parse_all(b"dump_lvl=1 mydump_level=3").1,
            ["unknown parameter \"dump_lvl=1\""]
        );
    }

    #[test]
    fn parameter_not_utf8_is_named_escaped() {
        assert_eq!(
            parse_all(b"dump_level=\xff").1,
            ["malformed dump_level=\"\\xff\", default kept"]
        );
    }

    #[test]
    fn bootargs_too_long_are_cut_and_said_so() {
        let mut long = std::vec![b' '; MAX_BOOTARGS_BYTES];
        long.extend_from_slice(b"dump_level=1");
        let (params, problems) = parse_all(&long);
        assert_eq!(params.level, 17);
        assert_eq!(
            problems,
            ["command line of 4108 bytes read only up to 4096"]
        );
    }

    proptest::proptest! {
        #[test]
        fn bootargs_arbitrary_never_panic(bytes in proptest::collection::vec(0_u8.., 0..300)) {
            let _ = parse_all(&bytes);
            let mut prefixed = b"dump_level=".to_vec();
            prefixed.extend_from_slice(&bytes);
            let (params, _) = parse_all(&prefixed);
            proptest::prop_assert!(params.level <= 31);
        }
    }
}

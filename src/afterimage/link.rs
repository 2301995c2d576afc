// SPDX-License-Identifier: MIT OR Apache-2.0
//! The LINK argument: where the crashed machine's serial line can be found.
//!
//! `serial:DEV[,BAUD]`, `tcp:HOST:PORT`, `telnet:HOST:PORT`, `unix:PATH`, `pty:PATH`, `file:PATH` and `-`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Speed of a serial device when the link names none, in baud.
pub const DEFAULT_BAUD: u32 = 115_200;

/// A parsed LINK.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// A serial device and its speed in baud.
    Serial {
        /// The device file.
        device: PathBuf,
        /// Speed in baud, 8 data bits, no parity.
        baud: u32,
    },
    /// A raw TCP connection.
    Tcp {
        /// Name or address; IPv6 in brackets.
        host: String,
        /// Port.
        port: u16,
    },
    /// A TCP connection that speaks telnet (QEMU, ser2net).
    Telnet {
        /// Name or address; IPv6 in brackets.
        host: String,
        /// Port.
        port: u16,
    },
    /// A Unix stream socket.
    Unix(PathBuf),
    /// A pseudo-terminal.
    Pty(PathBuf),
    /// A recording of a line.
    File(PathBuf),
    /// A recording on standard input.
    Stdin,
}

/// Why a LINK could not be parsed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// The scheme before the colon is none of the known ones.
    #[error(
        "unknown kind of link '{0}'; use serial:DEV[,BAUD], tcp:HOST:PORT, telnet:HOST:PORT, unix:PATH, pty:PATH, file:PATH or -"
    )]
    UnknownKind(String),
    /// The device or path after the scheme is empty.
    #[error("'{0}:' needs a path")]
    MissingPath(&'static str),
    /// The part after the comma is no speed.
    #[error("'{0}' is not a speed in baud")]
    BadBaud(String),
    /// HOST:PORT was expected.
    #[error("'{0}' is not HOST:PORT")]
    BadAddress(String),
}

impl Link {
    /// Returns whether the line is a recording, which ends and is not retried.
    #[must_use]
    pub const fn is_recording(&self) -> bool {
        matches!(self, Self::File(_) | Self::Stdin)
    }

    /// Returns the speed in baud of a line whose speed can be set.
    #[must_use]
    pub const fn baud(&self) -> Option<u32> {
        match self {
            Self::Serial { baud, .. } => Some(*baud),
            _ => None,
        }
    }
}

fn path(kind: &'static str, rest: &str) -> Result<PathBuf, ParseError> {
    if rest.is_empty() {
        return Err(ParseError::MissingPath(kind));
    }
    Ok(PathBuf::from(rest))
}

fn host_port(rest: &str) -> Result<(String, u16), ParseError> {
    let bad = || ParseError::BadAddress(rest.to_owned());
    let (host, port) = rest.rsplit_once(':').ok_or_else(bad)?;
    let port = port.parse::<u16>().map_err(|_| bad())?;
    let bare = host
        .strip_prefix('[')
        .and_then(|h| h.strip_suffix(']'))
        .unwrap_or(host);
    if bare.is_empty() || port == 0 {
        return Err(bad());
    }
    Ok((bare.to_owned(), port))
}

impl FromStr for Link {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        if text == "-" {
            return Ok(Self::Stdin);
        }
        let Some((kind, rest)) = text.split_once(':') else {
            return Err(ParseError::UnknownKind(text.to_owned()));
        };
        match kind {
            "serial" => {
                let (device, baud) = match rest.rsplit_once(',') {
                    None => (rest, DEFAULT_BAUD),
                    Some((device, baud)) => match baud.parse::<u32>() {
                        Ok(value) if value > 0 => (device, value),
                        _ => return Err(ParseError::BadBaud(baud.to_owned())),
                    },
                };
                Ok(Self::Serial {
                    device: path("serial", device)?,
                    baud,
                })
            }
            "tcp" => host_port(rest).map(|(host, port)| Self::Tcp { host, port }),
            "telnet" => host_port(rest).map(|(host, port)| Self::Telnet { host, port }),
            "unix" => path("unix", rest).map(Self::Unix),
            "pty" => path("pty", rest).map(Self::Pty),
            "file" => path("file", rest).map(Self::File),
            other => Err(ParseError::UnknownKind(other.to_owned())),
        }
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Serial { device, baud } => write!(f, "serial:{},{baud}", device.display()),
            Self::Tcp { host, port } => write!(f, "tcp:{host}:{port}"),
            Self::Telnet { host, port } => write!(f, "telnet:{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Pty(path) => write!(f, "pty:{}", path.display()),
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Stdin => write!(f, "-"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serial_without_baud_gets_115200() {
        let expected = Link::Serial {
            device: "/dev/ttyUSB0".into(),
            baud: 115_200,
        };
        assert_eq!("serial:/dev/ttyUSB0".parse(), Ok(expected));
    }

    #[test]
    fn serial_with_baud_is_parsed() {
        let expected = Link::Serial {
            device: "/dev/ttyS1".into(),
            baud: 921_600,
        };
        assert_eq!("serial:/dev/ttyS1,921600".parse(), Ok(expected));
    }

    #[test]
    fn only_a_serial_device_has_a_speed() {
        let baud = |text: &str| text.parse::<Link>().expect("valid").baud();
        assert_eq!(baud("serial:/dev/ttyS1,9600"), Some(9600));
        assert_eq!(baud("pty:/dev/pts/3"), None);
        assert_eq!(baud("tcp:localhost:1"), None);
    }

    #[test]
    fn serial_with_bad_baud_is_rejected() {
        assert_eq!(
            "serial:/dev/ttyS1,fast".parse::<Link>(),
            Err(ParseError::BadBaud("fast".into()))
        );
        assert_eq!(
            "serial:/dev/ttyS1,0".parse::<Link>(),
            Err(ParseError::BadBaud("0".into()))
        );
    }

    #[test]
    fn tcp_with_ipv6_host_is_parsed() {
        let expected = Link::Tcp {
            host: "::1".into(),
            port: 4444,
        };
        assert_eq!("tcp:[::1]:4444".parse(), Ok(expected));
    }

    #[test]
    fn tcp_without_port_is_rejected() {
        assert_eq!(
            "tcp:localhost".parse::<Link>(),
            Err(ParseError::BadAddress("localhost".into()))
        );
        assert_eq!(
            "telnet:localhost:0".parse::<Link>(),
            Err(ParseError::BadAddress("localhost:0".into()))
        );
    }

    #[test]
    fn paths_and_stdin_are_parsed() {
        assert_eq!("unix:/tmp/s".parse(), Ok(Link::Unix("/tmp/s".into())));
        assert_eq!("pty:/dev/pts/3".parse(), Ok(Link::Pty("/dev/pts/3".into())));
        assert_eq!("file:a:b".parse(), Ok(Link::File("a:b".into())));
        assert_eq!("-".parse(), Ok(Link::Stdin));
    }

    #[test]
    fn empty_path_is_rejected() {
        assert_eq!(
            "unix:".parse::<Link>(),
            Err(ParseError::MissingPath("unix"))
        );
    }

    #[test]
    fn unknown_kind_is_rejected() {
        assert_eq!(
            "usb:x".parse::<Link>(),
            Err(ParseError::UnknownKind("usb".into()))
        );
        assert_eq!(
            "/dev/ttyUSB0".parse::<Link>(),
            Err(ParseError::UnknownKind("/dev/ttyUSB0".into()))
        );
    }

    #[test]
    fn display_round_trips() {
        let link: Link = "serial:/dev/ttyS1,9600".parse().expect("valid");
        assert_eq!(link.to_string().parse(), Ok(link));
    }
}

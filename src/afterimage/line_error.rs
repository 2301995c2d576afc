// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an error of the operating system says of a line: that it may be there again, or never.

use std::io;

use rustix::io::Errno;

/// Whether it is no use to try again: no permission, a file that is no line, a speed that the adapter does not have.
#[must_use]
pub fn is_for_good(error: &io::Error) -> bool {
    let for_good = [
        Errno::ACCESS,
        Errno::PERM,
        Errno::NOTTY,
        Errno::ISDIR,
        Errno::INVAL,
    ];
    Errno::from_io_error(error).is_some_and(|error| for_good.contains(&error))
}

/// Whether the other end is gone; EIO is how a pseudo-terminal or an unplugged adapter says so.
#[must_use]
pub const fn is_gone(error: Errno) -> bool {
    matches!(
        error,
        Errno::IO | Errno::CONNRESET | Errno::NXIO | Errno::NODEV | Errno::PIPE | Errno::NOTCONN
    )
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! Backtraces of gdb and of `afterimage bt`, made comparable.

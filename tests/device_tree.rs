// SPDX-License-Identifier: MIT OR Apache-2.0
//! Device trees as text, through dtc.

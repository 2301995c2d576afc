// SPDX-License-Identifier: MIT OR Apache-2.0
//! Linux's log: the lockless ring of printk, read record by record.
//!
//! Since Linux 5.10 (kernel/printk/printk_ringbuffer.h and .c). A ring of descriptors says for each record which part of a ring of text
//! is its own; a parallel array holds time and length. A record that is being written at the crash is not shown, as by
//! `dmesg`.

use super::virtual_memory::VirtualMemory;
use super::vmcoreinfo::{Key, Vmcoreinfo};
use crate::{Error, PhysMemory};

/// Most bits of a count of records, and of bytes of text, that are believed: `log_buf_len=` takes 2 GiB, and a record stands for 32 bytes.
const MOST_COUNT_BITS: u32 = 26;
const MOST_SIZE_BITS: u32 = 31;
/// Records that may be unreadable before the rest is given up.
const MOST_UNREADABLE: u32 = 1 << 16;
/// A descriptor's state stands in the highest bits of its state variable.
const STATE_SHIFT: u32 = 62;
const ID_MASK: u64 = (1 << STATE_SHIFT) - 1;
const COMMITTED: u64 = 1;
const FINALIZED: u64 = 2;
/// In front of the text of a record stands its number.
const ID_LEN: u64 = 8;

/// A record of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// When it was written, in nanoseconds since boot.
    pub ts_nsec: u64,
    /// Virtual address of its text.
    pub text: u64,
    /// Bytes of its text.
    pub len: u64,
}

/// A record that cannot be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Its number in the ring.
    pub id: u64,
    /// Why.
    pub error: Error,
}

/// The ring, and how far it was read.
#[derive(Clone, Debug)]
pub struct PrintkLog {
    descs: u64,
    desc_len: u64,
    infos: u64,
    info_len: u64,
    data: u64,
    /// Both are powers of two.
    count: u64,
    size: u64,
    /// Where in a descriptor its state, the first and the last position of its text are.
    state_at: u64,
    begin_at: u64,
    next_at: u64,
    /// Where in the parallel array's element.
    ts_at: u64,
    text_len_at: u64,
    id: u64,
    left: u64,
    unreadable: u32,
}

impl PrintkLog {
    /// Finds the ring.
    ///
    /// # Errors
    /// [`Error::KeyMissing`] for SYMBOL(prb) of a kernel before 5.10, and for each offset that is needed; [`Error::BadValue`] for a
    /// size that cannot be, with its offset in the ring's structure; what reading memory gives.
    pub fn open<M: PhysMemory>(
        info: &Vmcoreinfo<'_>,
        memory: &mut VirtualMemory<M>,
    ) -> Result<Self, Error> {
        let prb = memory.u64(info.symbol("prb")?)?;
        let descs = info.offset("printk_ringbuffer.desc_ring")?;
        let text = info.offset("printk_ringbuffer.text_data_ring")?;
        let at = |ring: u64, member| {
            let offset = info.offset(member)?;
            Ok::<u64, Error>(prb.wrapping_add(ring).wrapping_add(offset))
        };
        let power = |value: u32, most, offset| {
            let is_possible = (1..=most).contains(&value);
            let value = u64::from(value);
            is_possible
                .then(|| 1_u64 << value)
                .ok_or(Error::BadValue { offset, value })
        };
        let counter = info.offset("atomic_long_t.counter")?;
        let id_at = |member| Ok::<u64, Error>(at(descs, member)?.wrapping_add(counter));
        let lpos = info.offset("prb_desc.text_blk_lpos")?;
        let count_bits = memory.u32(at(descs, "prb_desc_ring.count_bits")?)?;
        let size_bits = memory.u32(at(text, "prb_data_ring.size_bits")?)?;
        let count = power(count_bits, MOST_COUNT_BITS, descs)?;
        let head = memory.u64(id_at("prb_desc_ring.head_id")?)? & ID_MASK;
        let tail = memory.u64(id_at("prb_desc_ring.tail_id")?)? & ID_MASK;
        // A tail that is further back than the ring is long would show records twice.
        let records = head.wrapping_sub(tail) & ID_MASK;
        let left = records.saturating_add(1).min(count);
        Ok(Self {
            descs: memory.u64(at(descs, "prb_desc_ring.descs")?)?,
            desc_len: element_len(info, "prb_desc")?,
            infos: memory.u64(at(descs, "prb_desc_ring.infos")?)?,
            info_len: element_len(info, "printk_info")?,
            data: memory.u64(at(text, "prb_data_ring.data")?)?,
            count,
            size: power(size_bits, MOST_SIZE_BITS, text)?,
            state_at: info.offset("prb_desc.state_var")?.wrapping_add(counter),
            begin_at: lpos.wrapping_add(info.offset("prb_data_blk_lpos.begin")?),
            next_at: lpos.wrapping_add(info.offset("prb_data_blk_lpos.next")?),
            ts_at: info.offset("printk_info.ts_nsec")?,
            text_len_at: info.offset("printk_info.text_len")?,
            id: head.wrapping_sub(left).wrapping_add(1) & ID_MASK,
            left,
            unreadable: 0,
        })
    }

    /// Returns the next record, oldest first; `None` at the end. What was never committed, and what was overwritten, is passed over.
    pub fn next<M: PhysMemory>(
        &mut self,
        memory: &mut VirtualMemory<M>,
    ) -> Option<Result<Record, Unreadable>> {
        while self.left > 0 && self.unreadable < MOST_UNREADABLE {
            let id = self.id;
            self.id = id.wrapping_add(1) & ID_MASK;
            self.left = self.left.saturating_sub(1);
            match self.record(id, memory) {
                Ok(None) => {}
                Ok(Some(record)) => return Some(Ok(record)),
                Err(error) => {
                    self.unreadable = self.unreadable.saturating_add(1);
                    return Some(Err(Unreadable { id, error }));
                }
            }
        }
        None
    }

    /// Returns how many records were not looked at: more than 0 after the end when too many were unreadable.
    #[must_use]
    pub const fn remaining(&self) -> u64 {
        self.left
    }

    fn record<M: PhysMemory>(
        &self,
        id: u64,
        memory: &mut VirtualMemory<M>,
    ) -> Result<Option<Record>, Error> {
        let index = id & self.count.wrapping_sub(1);
        let desc = self.descs.wrapping_add(index.wrapping_mul(self.desc_len));
        let info = self.infos.wrapping_add(index.wrapping_mul(self.info_len));
        let state = memory.u64(desc.wrapping_add(self.state_at))?;
        if state & ID_MASK != id || !matches!(state >> STATE_SHIFT, COMMITTED | FINALIZED) {
            return Ok(None);
        }
        let begin = memory.u64(desc.wrapping_add(self.begin_at))?;
        let next = memory.u64(desc.wrapping_add(self.next_at))?;
        let ts_nsec = memory.u64(info.wrapping_add(self.ts_at))?;
        let text_len = u64::from(memory.u16(info.wrapping_add(self.text_len_at))?);
        let within = self.size.wrapping_sub(1);
        let (start, end) = (begin & within, next & within);
        // A record without text.
        if start == end {
            return Ok(Some(Record {
                ts_nsec,
                text: self.data,
                len: 0,
            }));
        }
        // Text is never cut in two: what does not fit at the end begins anew at the start. It may reach the very end.
        let (start, end) = match (start < end, end) {
            (true, _) => (start, end),
            (false, 0) => (start, self.size),
            (false, _) => (0, end),
        };
        let room = end.saturating_sub(start).saturating_sub(ID_LEN);
        Ok(Some(Record {
            ts_nsec,
            text: self.data.wrapping_add(start).wrapping_add(ID_LEN),
            len: text_len.min(room),
        }))
    }
}

/// Returns the size of a structure, which is not more than a page.
fn element_len(info: &Vmcoreinfo<'_>, name: &'static str) -> Result<u64, Error> {
    let len = info.size(name)?;
    let is_possible = (1..=4096).contains(&len);
    is_possible
        .then_some(len)
        .ok_or_else(|| info.refuse(Key::Size(name)))
}

#[cfg(test)]
mod tests;

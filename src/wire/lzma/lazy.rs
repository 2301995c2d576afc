// SPDX-License-Identifier: MIT OR Apache-2.0
//! Chooses symbols by rules of thumb: long matches, near ones and repeated distances first.

use super::finder::{Finder, Found, Match, common_at};
use super::model::{MATCH_MAX, MATCH_MIN, Writer};

/// Writes all of the writer's bytes; `is_lazy` looks at the next position before a match is taken.
pub(super) fn run(
    writer: &mut Writer<'_>,
    finder: &mut Finder<'_>,
    found: &mut Found,
    nice: usize,
    is_lazy: bool,
    poll: &mut dyn FnMut(),
) {
    let mut has_found = false;
    while !writer.is_done() {
        poll();
        let position = writer.position;
        if !has_found {
            finder.find(found);
        }
        has_found = false;
        let limit = MATCH_MAX.min(writer.raw.len() - position);
        let rep = longest_rep(writer, position, limit);
        let longest = longest(writer, found, position, limit);
        let longest_len = longest.map_or(0, |found| found.len as usize);

        if let Some((rep, len)) = rep
            && (len >= nice || longest.is_none_or(|found| is_rep_better(len, found)))
        {
            writer.rep(rep, len);
            finder.skip(len - 1, poll);
            continue;
        }
        let Some(longest) = longest else {
            let there = position.checked_sub(writer.reps[0] as usize + 1);
            if there.is_some_and(|there| writer.raw.get(there) == writer.raw.get(position)) {
                writer.short_rep();
            } else {
                writer.literal();
            }
            continue;
        };
        let mut taken_in = 1;
        if is_lazy && longest_len < nice && position + 1 < writer.raw.len() {
            finder.find(found);
            taken_in = 2;
            let next = self::longest(writer, found, position + 1, limit - 1);
            let next_rep = longest_rep(writer, position + 1, limit - 1);
            let is_next_better = next.is_some_and(|next| is_later_better(next, longest))
                || next_rep.is_some_and(|(_, len)| len + 1 >= longest_len);
            if is_next_better {
                writer.literal();
                has_found = true;
                continue;
            }
        }
        writer.fresh(longest.distance, longest_len);
        finder.skip(longest_len.saturating_sub(taken_in), poll);
    }
}

/// Returns the longest match of two bytes or more at one of the last distances: which, and its length.
fn longest_rep(writer: &Writer<'_>, position: usize, limit: usize) -> Option<(usize, usize)> {
    let mut best = None;
    let mut best_len = MATCH_MIN - 1;
    for (rep, &distance) in writer.reps.iter().enumerate() {
        if let Some(there) = position.checked_sub(distance as usize + 1) {
            let len = common_at(writer.raw, position, there, limit);
            if len > best_len {
                best_len = len;
                best = Some((rep, len));
            }
        }
    }
    best
}

/// Returns the match to consider: the longest, or one a byte shorter that is much nearer.
fn longest(writer: &Writer<'_>, found: &Found, position: usize, limit: usize) -> Option<Match> {
    let mut best: Option<Match> = None;
    for &found in found.all() {
        let is_too_far = found.len == 2 && found.distance >= 1 << 7
            || found.len == 3 && found.distance >= 1 << 14;
        let is_dearer = best
            .is_some_and(|best| best.len + 1 == found.len && found.distance >> 7 > best.distance);
        if !is_too_far && !is_dearer {
            best = Some(found);
        }
    }
    let best = best?;
    let there = position.checked_sub(best.distance as usize + 1)?;
    let len = common_at(writer.raw, position, there, limit) as u32;
    Some(Match { len, ..best })
}

fn is_rep_better(rep_len: usize, found: Match) -> bool {
    let len = found.len as usize;
    rep_len + 1 >= len
        || rep_len + 2 >= len && found.distance >= 1 << 9
        || rep_len + 3 >= len && found.distance >= 1 << 15
}

fn is_later_better(next: Match, now: Match) -> bool {
    next.len >= now.len && next.distance < now.distance
        || next.len == now.len + 1 && next.distance >> 7 <= now.distance
        || next.len > now.len + 1
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! What `info` tells of the crashed kernel's page tables: mappings that are not what it had set up.

use serde_json::{Value, json};
use vmcore::page_tables::{WrongMapping, check};

use crate::contents::Contents;
use crate::core_file::CoreFile;

/// Wrong mappings that are listed.
const LISTED: usize = 64;

/// What a walk of the tables came to.
#[derive(Debug, Default)]
struct Checked {
    wrong: Vec<WrongMapping>,
    count: usize,
    is_done: bool,
}

/// Walks the tables; `None` when the dump does not say what was set up, or how the tables are to be read.
fn walk(core: &CoreFile, contents: &Contents<'_>) -> Option<Checked> {
    let (is_all, mappings) = contents.mappings.as_ref()?;
    let kernel = contents.kernel.filter(|kernel| kernel.is_walkable())?;
    let mut checked = Checked::default();
    let mappings = mappings.iter().copied();
    let report = &mut |wrong| {
        checked.count = checked.count.saturating_add(1);
        if checked.wrong.len() < LISTED {
            checked.wrong.push(wrong);
        }
    };
    let is_done = check(&mut &*core, kernel.ttbr1, mappings, *is_all, report);
    checked.is_done = is_done;
    Some(checked)
}

/// Returns what is wrong, a line each.
#[must_use]
pub fn page_table_lines(core: &CoreFile, contents: &Contents<'_>) -> Vec<String> {
    let Some(checked) = walk(core, contents) else {
        return Vec::new();
    };
    let mut lines: Vec<String> = checked.wrong.iter().map(ToString::to_string).collect();
    if checked.count > lines.len() {
        lines.push(format!("{} mappings are wrong in all", checked.count));
    }
    if !checked.is_done {
        lines.push("not looked at to the end".to_owned());
    } else if lines.is_empty() {
        lines.push("every mapping is what the kernel had set up".to_owned());
    }
    lines
}

/// Returns the same for `--json`; null when nothing can be said.
#[must_use]
pub fn page_tables_json(core: &CoreFile, contents: &Contents<'_>) -> Value {
    walk(core, contents).map_or(Value::Null, |checked| {
        let wrong = checked.wrong.iter().map(|one| {
            json!({
                "va": one.va, "bytes": one.len, "fault": one.fault.name(),
                "found": one.found, "wanted": one.wanted,
            })
        });
        json!({
            "checked_whole": checked.is_done,
            "wrong_count": checked.count,
            "wrong": wrong.collect::<Vec<_>>(),
        })
    })
}

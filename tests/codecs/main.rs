// SPDX-License-Identifier: MIT OR Apache-2.0
//! Prints what compression libraries make of the distinct pages of a RAM image, in blocks that stand alone.
//!
//! Usage: codecs IMAGE    a Markdown table on standard output
//!
//! A sample of the distinct pages is packed, since the slow ones take minutes for all of them.

use std::cell::Cell;
use std::collections::HashSet;
use std::io::Write;
use std::process::ExitCode;
use std::time::Instant;

use wire::lzma::{Effort, Encoder};

mod counting;

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting;

const PAGE: usize = 4096;
/// Lengths of the blocks, in bytes.
const BLOCKS: [usize; 3] = [64 << 10, 256 << 10, 1 << 20];
/// The sample: stretches of so many bytes, so many of them.
const STRETCH: usize = 1 << 20;
const STRETCHES: usize = 4;
/// Words of our encoder's match finder: in a region of 2 MiB, and in one of 16 MiB for blocks of 1 MiB.
const WORDS: [usize; 2] = [120 << 10, 2_621_440];

/// Packs a block.
type Pack = Box<dyn Fn(&[u8]) -> usize>;

fn main() -> ExitCode {
    let Some(path) = std::env::args().nth(1) else {
        eprintln!("usage: codecs IMAGE");
        return ExitCode::from(2);
    };
    match std::fs::read(&path) {
        Ok(ram) => {
            print(&sample(&ram));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("codecs: {path}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Returns stretches of the distinct pages that are not zero, in the order of their addresses.
fn sample(ram: &[u8]) -> Vec<u8> {
    let mut seen = HashSet::new();
    let distinct: Vec<&[u8]> = ram
        .chunks_exact(PAGE)
        .filter(|page| page.iter().any(|&byte| byte != 0) && seen.insert(*page))
        .collect();
    let (len, count) = (STRETCH / PAGE, distinct.len());
    let step = (count / STRETCHES).max(len);
    let starts = (0..count).step_by(step).take(STRETCHES);
    starts
        .flat_map(|start| distinct[start..(start + len).min(count)].concat())
        .collect()
}

fn print(sample: &[u8]) {
    println!(
        "{} MiB of distinct pages, in stretches of 1 MiB from all over the image; each block from a fresh state.\n",
        sample.len() >> 20
    );
    println!(
        "| codec | blocks of 64 KiB | 256 KiB | 1 MiB | MB/s at 256 KiB | memory at 256 KiB |"
    );
    println!("|---|---|---|---|---|---|");
    for (name, pack) in codecs() {
        let sizes = BLOCKS.map(|len| measure(sample, len, &pack));
        let share = |size: usize| size as f64 * 100.0 / sample.len() as f64;
        let [small, middle, large] = sizes;
        println!(
            "| {name} | {:.2} % | {:.2} % | {:.2} % | {:.1} | {} KiB |",
            share(small.0),
            share(middle.0),
            share(large.0),
            sample.len() as f64 / 1e6 / middle.1,
            middle.2 >> 10
        );
    }
}

/// Returns the packed bytes, the time in seconds, and the most memory of one block.
fn measure(sample: &[u8], block: usize, pack: &Pack) -> (usize, f64, usize) {
    let began = Instant::now();
    let (mut bytes, mut memory) = (0, 0);
    for raw in sample.chunks(block) {
        let (len, peak) = counting::peak(|| pack(raw));
        bytes += len.min(raw.len());
        memory = memory.max(peak);
    }
    (bytes, began.elapsed().as_secs_f64(), memory)
}

fn codecs() -> Vec<(String, Pack)> {
    let mut all: Vec<(String, Pack)> = Vec::new();
    let mut add = |name: String, pack: Pack| all.push((name, pack));
    for level in [1, 6, 9] {
        add(
            format!("miniz_oxide, level {level}"),
            Box::new(move |raw| miniz_oxide::deflate::compress_to_vec(raw, level).len()),
        );
    }
    for quality in [2, 5, 9, 11] {
        add(
            format!("brotli, quality {quality}"),
            Box::new(move |raw| brotli_len(raw, quality)),
        );
    }
    for (order, mib) in [(4, 1), (6, 4), (8, 16)] {
        add(
            format!("ppmd-rust (PPMd7), order {order}, {mib} MiB"),
            Box::new(move |raw| ppmd_len(raw, order, mib << 20)),
        );
    }
    for preset in [1, 6, 9] {
        add(
            format!("lzma-rust2, preset {preset}, lc0 lp2 pb2"),
            Box::new(move |raw| lzma_len(raw, preset)),
        );
    }
    for effort in 0..=Effort::MAX.0 {
        add(
            format!("ours, effort {effort}, scratch 480 KiB"),
            ours(effort, WORDS[0]),
        );
    }
    add(
        "ours, effort 6, scratch 10 MiB".to_owned(),
        ours(6, WORDS[1]),
    );
    all
}

fn brotli_len(raw: &[u8], quality: u32) -> usize {
    let window = raw.len().next_power_of_two().ilog2().clamp(10, 24);
    let mut out = brotli::CompressorWriter::new(Vec::new(), 4096, quality, window);
    out.write_all(raw).expect("a vector takes all");
    out.into_inner().len()
}

fn ppmd_len(raw: &[u8], order: u32, memory: u32) -> usize {
    let out = ppmd_rust::Ppmd7Encoder::new(Vec::new(), order, memory);
    let mut out = out.expect("parameters that PPMd7 has");
    out.write_all(raw).expect("a vector takes all");
    out.finish(false).expect("a vector takes all").len()
}

fn lzma_len(raw: &[u8], preset: u32) -> usize {
    let mut options = lzma_rust2::LzmaOptions::with_preset(preset);
    options.dict_size = raw.len().next_power_of_two().max(1 << 16) as u32;
    (options.lc, options.lp, options.pb) = (0, 2, 2);
    let out = lzma_rust2::LzmaWriter::new_no_header(Vec::new(), &options, false);
    let mut out = out.expect("parameters that LZMA has");
    lzma_rust2::Write::write_all(&mut out, raw).expect("a vector takes all");
    out.finish().expect("a vector takes all").len()
}

fn ours(effort: u8, words: usize) -> Pack {
    Box::new(move |raw| {
        let mut encoder = Box::new(Encoder::new());
        let mut words = vec![0; words];
        let mut out = vec![0; raw.len()];
        let cells = Cell::from_mut(&mut out[..]).as_slice_of_cells();
        let packed = encoder.encode(raw, cells, &mut words, Effort(effort), &mut || {});
        packed.unwrap_or(raw.len())
    })
}

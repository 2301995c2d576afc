// SPDX-License-Identifier: MIT OR Apache-2.0
//! What runs came to, as rows of a Markdown table.

use crate::case::Figures;

/// Heads the rows of [`row`].
pub const HEAD: &str = "| line | seed | goodput | line that carries frames | payload in frames | frames | lost | bytes in frames | time |\n|---|---|---|---|---|---|---|---|---|";

/// Heads the rows of [`Summary`].
pub const SUMMARY_HEAD: &str = "| line | dumps | whole | goodput, least | goodput, mean | line that carries frames | payload in frames | frames lost | time, mean |\n|---|---|---|---|---|---|---|---|---|";

/// Returns the row of one run.
#[must_use]
pub fn row(name: &str, seed: u64, figures: &Figures) -> String {
    format!(
        "| {name} | {seed} | {} | {} | {} | {} | {} | {} | {:.1} s |",
        percent(figures.goodput),
        percent(figures.line_share),
        percent(figures.payload_share),
        figures.frames,
        figures.lost_frames,
        figures.frame_bytes,
        figures.total_seconds,
    )
}

/// Several runs of a kind.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    runs: Vec<Figures>,
    whole: u64,
}

impl Summary {
    /// Adds a run.
    pub fn add(&mut self, figures: Figures, is_whole: bool) {
        self.runs.push(figures);
        self.whole += u64::from(is_whole);
    }

    /// Returns the row.
    #[must_use]
    pub fn row(&self, name: &str) -> String {
        let mean = |of: fn(&Figures) -> f64| {
            self.runs.iter().map(of).sum::<f64>() / self.runs.len().max(1) as f64
        };
        let goodputs = self.runs.iter().map(|run| run.goodput);
        format!(
            "| {name} | {} | {} | {} | {} | {} | {} | {} | {:.1} s |",
            self.runs.len(),
            self.whole,
            percent(goodputs.fold(1.0, f64::min)),
            percent(mean(|run| run.goodput)),
            percent(mean(|run| run.line_share)),
            percent(mean(|run| run.payload_share)),
            percent(mean(|run| run.lost_frames as f64 / run.frames.max(1) as f64)),
            mean(|run| run.total_seconds),
        )
    }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_have_as_many_cells_as_their_heads() {
        let cells = |line: &str| line.matches('|').count();
        let head = |text: &str| cells(text.lines().next().unwrap_or_default());
        let mut summary = Summary::default();
        summary.add(Figures::default(), true);
        assert_eq!(cells(&row("a", 1, &Figures::default())), head(HEAD));
        assert_eq!(cells(&summary.row("a")), head(SUMMARY_HEAD));
        assert!(summary.row("a").starts_with("| a | 1 | 1 | 0.0 % |"));
    }
}

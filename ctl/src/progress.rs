//! Bars and counters for long work, on stderr and only when that is a terminal, so that scripts
//! never read them.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Time between two redraws of a counter that nothing moves.
const TICK: Duration = Duration::from_millis(250);

/// A line that shows how far something is.
#[derive(Debug)]
pub struct Progress(ProgressBar);

impl Progress {
    /// A bar of `total` bytes.
    pub fn bytes(total: u64) -> Progress {
        Progress::bar(
            total,
            "{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {msg}",
        )
    }

    /// A bar of `total` things.
    pub fn of(total: u64) -> Progress {
        Progress::bar(total, "{bar:40} {pos}/{len} {per_sec} {msg}")
    }

    /// A counter without an end.
    pub fn counter() -> Progress {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        let progress = Progress::styled(bar, "{spinner} {pos} {per_sec} {msg}");
        progress.0.enable_steady_tick(TICK);
        progress
    }

    fn bar(total: u64, style: &str) -> Progress {
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
        Progress::styled(bar, style)
    }

    fn styled(bar: ProgressBar, style: &str) -> Progress {
        let style = ProgressStyle::with_template(style).expect("the template is a sound one");
        Progress(bar.with_style(style))
    }

    /// Sets how much is done.
    pub fn at(&self, position: u64) {
        self.0.set_position(position);
    }

    /// Adds to what is done.
    pub fn add(&self, count: u64) {
        self.0.inc(count);
    }

    /// Shows a text behind the bar.
    pub fn say(&self, text: String) {
        self.0.set_message(text);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

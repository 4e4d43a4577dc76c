//! The histograms in which openraft counts its batches and stages: one bucket per power of two.
//!
//! openraft asks for a crate of this name. The public one builds tables for scales that nobody
//! uses, 25 MiB in every process and more than half of what an empty member takes, for figures that
//! we do not read: they are behind an openraft feature that is off here. This crate has the part of
//! its interface that openraft is built against.
#![forbid(unsafe_code)]

use std::fmt;
use std::marker::PhantomData;

/// A bucket for 0, and one for each power of two, up to the next.
const BUCKETS: usize = u64::BITS as usize + 1;

/// How many values were seen in each bucket of sizes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram<T = ()> {
    counts: [u64; BUCKETS],
    /// What the public crate attaches to periods of time; openraft attaches nothing.
    attached: PhantomData<T>,
}

impl<T> Default for Histogram<T> {
    fn default() -> Histogram<T> {
        Histogram::new()
    }
}

impl<T> Histogram<T> {
    /// A histogram that has seen nothing.
    pub fn new() -> Histogram<T> {
        Histogram {
            counts: [0; BUCKETS],
            attached: PhantomData,
        }
    }

    /// Counts a value.
    pub fn record(&mut self, value: u64) {
        self.record_n(value, 1);
    }

    /// Counts a value that was seen `count` times.
    pub fn record_n(&mut self, value: u64, count: u64) {
        let bucket = u64::BITS - value.leading_zeros();
        self.counts[bucket as usize] += count;
    }

    /// The lower bound of the bucket that holds this thousandth of all values, counted from the
    /// smallest.
    fn at(&self, thousandths: u64) -> u64 {
        let wanted = self.samples().saturating_mul(thousandths).div_ceil(1_000);
        let mut seen = 0;
        let bucket = self.counts.iter().position(|count| {
            seen += count;
            seen >= wanted
        });
        match bucket {
            None | Some(0) => 0,
            Some(bucket) => 1 << (bucket - 1),
        }
    }

    fn samples(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// A summary.
    pub fn percentile_stats(&self) -> PercentileStats {
        PercentileStats {
            samples: self.samples(),
            p0_1: self.at(1),
            p1: self.at(10),
            p5: self.at(50),
            p10: self.at(100),
            p50: self.at(500),
            p90: self.at(900),
            p99: self.at(990),
            p99_9: self.at(999),
        }
    }
}

/// A summary of a histogram: how many values, and the sizes that given parts of them do not exceed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct PercentileStats {
    pub samples: u64,
    pub p0_1: u64,
    pub p1: u64,
    pub p5: u64,
    pub p10: u64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p99_9: u64,
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PercentileStats {
            samples, p50, p99, ..
        } = self;
        write!(f, "{samples} samples, half up to {p50}, 99% up to {p99}")
    }
}

/// Histograms by their names, as openraft collects them for a report.
#[derive(Clone, Debug, Default)]
pub struct AsciiChart(Vec<(String, Histogram)>);

impl AsciiChart {
    /// An empty report.
    pub fn new() -> AsciiChart {
        AsciiChart::default()
    }

    /// Adds one histogram to the report.
    #[must_use]
    pub fn add(mut self, name: impl Into<String>, histogram: Histogram) -> AsciiChart {
        self.0.push((name.into(), histogram));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_names_the_powers_of_two_below_the_values() {
        let mut histogram = Histogram::<()>::new();
        assert_eq!(histogram.percentile_stats().p99, 0);
        histogram.record_n(0, 10);
        histogram.record_n(5, 80);
        histogram.record_n(1_000, 9);
        histogram.record(u64::MAX);
        let stats = histogram.percentile_stats();
        assert_eq!(stats.samples, 100);
        assert_eq!((stats.p10, stats.p50, stats.p90), (0, 4, 4));
        assert_eq!((stats.p99, stats.p99_9), (512, 1 << 63));
    }
}

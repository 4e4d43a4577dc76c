//! How long requests took: pure.

use std::collections::BTreeMap;
use std::time::Duration;

/// The outcomes of requests.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    seconds: Vec<f64>,
    /// How often each error came.
    pub errors: BTreeMap<String, u64>,
}

impl Tally {
    /// Counts one request.
    pub fn add(&mut self, took: Result<Duration, String>) {
        match took {
            Ok(took) => self.seconds.push(took.as_secs_f64()),
            Err(error) => *self.errors.entry(error).or_default() += 1,
        }
    }

    /// Adds what another has counted.
    pub fn absorb(&mut self, other: Tally) {
        self.seconds.extend(other.seconds);
        for (error, count) in other.errors {
            *self.errors.entry(error).or_default() += count;
        }
    }

    /// Successful requests per second, over `total`.
    pub fn per_second(&self, total: Duration) -> f64 {
        self.seconds.len() as f64 / total.as_secs_f64()
    }

    /// The slowest request, in seconds.
    pub fn slowest(&self) -> f64 {
        self.seconds.iter().copied().fold(0.0, f64::max)
    }

    /// The standard deviation, in seconds.
    pub fn deviation(&self) -> f64 {
        let count = self.seconds.len().max(1) as f64;
        let average = self.seconds.iter().sum::<f64>() / count;
        let squares = self.seconds.iter().map(|one| (one - average).powi(2));
        (squares.sum::<f64>() / count).sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_knows_its_rate_its_slowest_and_its_deviation() {
        let mut tally = Tally::default();
        let mut other = Tally::default();
        for (one, two) in [(2, 4), (4, 6)] {
            tally.add(Ok(Duration::from_secs(one)));
            other.add(Ok(Duration::from_secs(two)));
        }
        other.add(Err("lost".into()));
        tally.absorb(other);
        assert_eq!(tally.per_second(Duration::from_secs(2)), 2.0);
        assert_eq!(tally.slowest(), 6.0);
        assert!((tally.deviation() - 2f64.sqrt()).abs() < 1e-9);
        assert_eq!(tally.errors, BTreeMap::from([("lost".to_owned(), 1)]));
    }

    #[test]
    fn nothing_took_no_time() {
        let tally = Tally::default();
        assert_eq!((tally.slowest(), tally.deviation()), (0.0, 0.0));
    }
}

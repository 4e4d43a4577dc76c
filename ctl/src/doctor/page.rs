//! What a member's page of metrics says about its disk and its process.

use std::time::SystemTime;

use crate::client::metric::value;

/// Fewer events say nothing about the slowest of a hundred.
const EVENTS_MIN: f64 = 100.0;
/// A `Date` names a second; on average, the moment it means is half a second after it.
const HALF_A_SECOND: f64 = 0.5;

/// The facts of a page.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PageFacts {
    /// 99 of 100 log flushes took at most this long, in seconds.
    pub fsync_seconds: Option<f64>,
    /// 99 of 100 commits of the store took at most this long, in seconds.
    pub commit_seconds: Option<f64>,
    /// The quota in bytes, for members whose status lacks it.
    pub quota_bytes: Option<f64>,
    /// The part of the file descriptors that is in use.
    pub descriptors_part: Option<f64>,
    /// By how many seconds the member's clock is ahead of this machine's.
    pub ahead_seconds: Option<f64>,
}

impl PageFacts {
    /// Reads a page.
    pub fn read(page: &str) -> PageFacts {
        let value = |name: &str| value(page, name);
        let descriptors = value("process_open_fds").zip(value("process_max_fds"));
        PageFacts {
            fsync_seconds: slowest(page, "etcd_disk_wal_fsync_duration_seconds"),
            commit_seconds: slowest(page, "etcd_disk_backend_commit_duration_seconds"),
            quota_bytes: value("etcd_server_quota_backend_bytes"),
            descriptors_part: descriptors
                .filter(|(_, max)| *max > 0.0)
                .map(|(open, max)| open / max),
            ahead_seconds: None,
        }
    }
}

/// The bound below which 99 of 100 events of a histogram lie; infinity is a bound.
fn slowest(page: &str, name: &str) -> Option<f64> {
    let start = format!("{name}_bucket{{le=\"");
    let bucket = |line: &str| -> Option<(f64, f64)> {
        let (bound, count) = line.strip_prefix(&start)?.split_once("\"} ")?;
        let bound = match bound {
            "+Inf" => f64::INFINITY,
            bound => bound.parse().ok()?,
        };
        Some((bound, count.trim().parse().ok()?))
    };
    let buckets: Vec<(f64, f64)> = page.lines().filter_map(bucket).collect();
    let total = buckets.last()?.1;
    if total < EVENTS_MIN {
        return None;
    }
    let reached = buckets.iter().find(|(_, count)| *count >= total * 0.99);
    reached.map(|(bound, _)| *bound)
}

/// By how many seconds a clock that showed `date` is ahead of ours, which went from `before` to
/// `after` meanwhile.
pub fn ahead_seconds(date: SystemTime, before: SystemTime, after: SystemTime) -> f64 {
    let seconds = |time: SystemTime| match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => since.as_secs_f64(),
        Err(until) => -until.duration().as_secs_f64(),
    };
    seconds(date) + HALF_A_SECOND - (seconds(before) + seconds(after)) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const PAGE: &str = "# TYPE etcd_disk_wal_fsync_duration_seconds histogram\n\
        etcd_disk_wal_fsync_duration_seconds_bucket{le=\"0.001\"} 980\n\
        etcd_disk_wal_fsync_duration_seconds_bucket{le=\"0.002\"} 991\n\
        etcd_disk_wal_fsync_duration_seconds_bucket{le=\"+Inf\"} 1000\n\
        etcd_disk_backend_commit_duration_seconds_bucket{le=\"0.001\"} 9\n\
        etcd_disk_backend_commit_duration_seconds_bucket{le=\"+Inf\"} 9\n\
        etcd_server_quota_backend_bytes 2.147483648e+09\n\
        process_max_fds 1000\nprocess_open_fds 900\n";

    #[test]
    fn a_page_tells_of_the_disk_the_quota_and_the_process() {
        let expected = PageFacts {
            fsync_seconds: Some(0.002),
            commit_seconds: None,
            quota_bytes: Some(2_147_483_648.0),
            descriptors_part: Some(0.9),
            ahead_seconds: None,
        };
        assert_eq!(PageFacts::read(PAGE), expected);
        assert_eq!(PageFacts::read(""), PageFacts::default());
    }

    #[test]
    fn a_clock_is_compared_with_the_middle_of_the_question() {
        let at = |ms| SystemTime::UNIX_EPOCH + Duration::from_millis(ms);
        assert_eq!(ahead_seconds(at(10_000), at(10_400), at(10_600)), 0.0);
        assert_eq!(ahead_seconds(at(15_000), at(10_400), at(10_600)), 5.0);
    }
}

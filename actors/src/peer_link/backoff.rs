//! How long to wait before an unreachable member is tried again. Pure.

use std::time::Duration;

/// The first wait; each further one is twice as long as the one before.
const FIRST: Duration = Duration::from_millis(50);
/// A member that comes back is found within this time.
const LONGEST: Duration = Duration::from_millis(500);

/// The waits between attempts, without end.
pub(crate) fn waits() -> impl Iterator<Item = Duration> + Send + 'static {
    let double = |wait: &Duration| Some((*wait * 2).min(LONGEST));
    std::iter::successors(Some(FIRST), double)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound_and_never_end() {
        let millis: Vec<_> = waits().take(6).map(|wait| wait.as_millis()).collect();
        assert_eq!(millis, [50, 100, 200, 400, 500, 500]);
    }
}

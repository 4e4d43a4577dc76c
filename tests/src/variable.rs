//! Numbers that can be set in the environment of a test run.

use std::env;

/// The number in an environment variable; `None` if it is not set.
///
/// # Panics
/// When it holds something else than a number.
pub fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable} is no number: {text}")),
    )
}

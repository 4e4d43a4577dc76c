//! Numbers that whoever runs a test may set in the environment.

use std::env;

/// The number that an environment variable holds; nothing where it is not set.
///
/// # Panics
/// When it holds something else.
pub fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable} is no number: {text}")),
    )
}

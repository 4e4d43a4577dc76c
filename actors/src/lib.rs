//! Who does the work.

#![forbid(unsafe_code)]

pub mod node;

//! What an operator may say.

#![forbid(unsafe_code)]

pub mod config;

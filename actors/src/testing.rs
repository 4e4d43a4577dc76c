//! What tests of this crate use and nothing else does.


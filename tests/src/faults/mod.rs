//! Disturbs a cluster of real processes while clients record what they asked for and what they were
//! told, and judges the record.
//!
//! ```text
//! seed --> plan --> Nemesis --kills, stops, cuts off, slows--> members and what lies between them
//! seed --> Client x N <----- requests and answers -----> members
//!             |                                             |
//!             | history                                     | log of each, once all is healed
//!             v                                             v
//!                        linear::check, members compared
//! ```
//! The plan of a seed is always the same; what the processes do with it is not.

pub mod clients;
pub mod clock;
pub mod flushes;
pub mod log;
pub mod namespaces;
pub mod nemesis;
pub mod network;
pub mod pauses;
pub mod plan;
pub mod run;

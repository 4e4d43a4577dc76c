//! What an operator may set.
//!
//! Four layers, the later winning: `default.toml`, the file of `--config-file`, the environment
//! (`ALTHING_*`, and etcd's `ETCD_*` where ours is not set), the flags. Every value remembers where
//! it came from, so that a refusal names the option, the value, the place and the remedy; all
//! mistakes are reported together.
//!
//! ```text
//! args, env --> flags --+
//!               file ---+--> layers --> reader --> check --> reach --> Loaded
//!       default.toml ---+    (origin)   (units,    (rules    (dirs)
//!                                        urls)      across)
//! ```
//!
//! A running member reads all of it again (`reload`), and is told what differs and which of it
//! takes effect when.
//!
//! The crate owns nothing at run time and reads neither the process environment nor the clock: both
//! are handed in. It fails with [`LoadError`] only.

#![forbid(unsafe_code)]

mod check;
pub mod config;
mod effect;
mod error;
mod flags;
mod foreign;
mod layers;
mod load;
mod nearest;
mod option;
mod reach;
mod reader;
mod reload;
mod units;
mod urls;

pub use config::Config;
pub use effect::Effect;
pub use error::{LoadError, Mistake};
pub use flags::command;
pub use load::{Given, Loaded, admin_socket};
pub use reload::{Change, FileInstead, Reload, check_file};

/// The manual of every option, and the lowest layer.
pub const DEFAULT_TOML: &str = include_str!("../default.toml");

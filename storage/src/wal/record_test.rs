//! Records survive encoding, and nothing else passes for one.

use super::*;
use proptest::prelude::*;

//! The member of a cluster.
fn main() {}

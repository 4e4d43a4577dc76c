//! Where a segment ends.

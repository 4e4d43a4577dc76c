//! A key range from any bytes: its bounds and its membership agree, and a prefix holds its keys.
#![no_main]

use std::ops::RangeBounds;

use althing_api::range::{KeyRange, prefix_end};
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|parts: (&[u8], &[u8], &[u8])| {
    let (start, end, key) = parts;
    let of = |bytes: &[u8]| Bytes::copy_from_slice(bytes);
    let range = KeyRange::new(of(start), of(end));
    let bounds = range.bounds();
    let is_inside = bounds.is_some_and(|bounds| <_ as RangeBounds<[u8]>>::contains(&bounds, key));
    assert_eq!(range.contains(key), is_inside);

    let end = prefix_end(start);
    let prefixed = KeyRange::new(of(start), end);
    assert_eq!(prefixed.contains(key), key.starts_with(start));
});

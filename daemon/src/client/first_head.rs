//! Rewrites an invalid `:authority` that some etcd clients send in the first request of an HTTP/2
//! connection, and in later ones.
//!
//! etcd's client of 3.4 sends `:authority: http://host:port` on some connections, and that of 3.5.0
//! `:authority: #initially=[host:port]` on all. Go's server takes either; our HTTP/2 library would
//! reset the stream. So the frames are inspected as they arrive, up to the first head, and that
//! value is replaced. For a client that needed it every head is inspected: the client sends the
//! value again when HPACK's table has forgotten it. For any other client, whatever comes behind the
//! first head passes untouched and unseen.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

const FRAME_HEAD_BYTES: usize = 9;
const HEADERS: u8 = 1;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
const PRIORITY_BYTES: usize = 5;
/// The largest frame that a client may send before it has heard of another limit.
const FRAME_BYTES_MAX: usize = 1 << 14;
/// The index of `:authority` in HPACK's static table.
const AUTHORITY: usize = 1;
/// Nobody reads this value; a server is asked, not a proxy. It is no longer than what it replaces,
/// so that HPACK's table holds all that the client believes to be in it.
const REPLACEMENT: &[u8] = b"m";

/// Beginnings of values that are not an authority, in plain text.
const STARTS: [&[u8]; 3] = [b"http://", b"https://", b"#"];
/// The same in HPACK's Huffman code, with their lengths in bits.
const HUFFMAN_STARTS: [([u8; 6], usize); 3] = [
    ([0x9d, 0x29, 0xae, 0xe3, 0x0c, 0x00], 41),
    ([0x9d, 0x29, 0xad, 0x17, 0x18, 0x60], 46),
    ([0xff, 0xa0, 0x00, 0x00, 0x00, 0x00], 12),
];

/// What has arrived and was not passed on yet: part of a frame.
#[derive(Debug, Default)]
pub(super) struct FirstHead {
    arrived: BytesMut,
    /// Whether a head was mended.
    has_mended: bool,
}

/// What may be passed on, and whether all that follows may be as well.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Passed {
    pub(super) bytes: Bytes,
    pub(super) is_over: bool,
}

impl FirstHead {
    /// Takes what arrived behind the preface.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Passed {
        self.arrived.extend_from_slice(bytes);
        let mut passed = BytesMut::new();
        while let Some(head) = self.arrived.first_chunk::<FRAME_HEAD_BYTES>() {
            let length =
                usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
            let kind = head[3];
            let is_over = length > FRAME_BYTES_MAX;
            if !is_over && self.arrived.len() < FRAME_HEAD_BYTES + length {
                break;
            }
            if !is_over && kind != HEADERS {
                passed.unsplit(self.arrived.split_to(FRAME_HEAD_BYTES + length));
                continue;
            }
            if !is_over {
                let frame = self.arrived.split_to(FRAME_HEAD_BYTES + length);
                match mended(&frame) {
                    Some(frame) => {
                        self.has_mended = true;
                        passed.extend_from_slice(&frame);
                    }
                    None => passed.unsplit(frame),
                }
                if self.has_mended {
                    continue;
                }
            }
            passed.extend_from_slice(&self.arrived.split());
            return Passed {
                bytes: passed.freeze(),
                is_over: true,
            };
        }
        Passed {
            bytes: passed.freeze(),
            is_over: false,
        }
    }
}

/// The frame with `REPLACEMENT` as its authority, if its own is invalid.
fn mended(frame: &[u8]) -> Option<Vec<u8>> {
    let (mut at, flags) = (FRAME_HEAD_BYTES, frame[4]);
    if flags & PADDED != 0 {
        at += 1;
    }
    if flags & PRIORITY != 0 {
        at += PRIORITY_BYTES;
    }
    let value = authority(frame, at)?;
    let (coded, text) = read_string(frame, value.start)?;
    if is_authority(coded, &frame[text]) {
        return None;
    }
    let mut mended = frame[..value.start].to_vec();
    mended.push(REPLACEMENT.len() as u8);
    mended.extend_from_slice(REPLACEMENT);
    mended.extend_from_slice(&frame[value.end..]);
    let length = u32::try_from(mended.len() - FRAME_HEAD_BYTES).ok()?;
    mended[..3].copy_from_slice(&length.to_be_bytes()[1..]);
    Some(mended)
}

/// Where the value of the authority is in a block of headers from `at` on, its length included.
fn authority(block: &[u8], mut at: usize) -> Option<Range<usize>> {
    loop {
        let first = *block.get(at)?;
        let bits = match first {
            0x80.. => 7,
            0x40.. => 6,
            0x20.. => 5,
            _ => 4,
        };
        let index;
        (index, at) = read_integer(block, at, bits)?;
        // An indexed field, or a change of the table's size.
        if bits == 7 || bits == 5 {
            continue;
        }
        if index == 0 {
            at = read_string(block, at)?.1.end;
        }
        let end = read_string(block, at)?.1.end;
        if index == AUTHORITY {
            return Some(at..end);
        }
        at = end;
    }
}

/// An integer in the last `bits` of the byte at `at`, or behind it; and where it ends.
fn read_integer(block: &[u8], at: usize, bits: u32) -> Option<(usize, usize)> {
    let most = (1 << bits) - 1;
    let first = usize::from(*block.get(at)?) & most;
    if first < most {
        return Some((first, at + 1));
    }
    let (mut value, mut at, mut shift) = (most, at + 1, 0);
    loop {
        let byte = *block.get(at)?;
        value += usize::from(byte & 0x7f) << shift;
        at += 1;
        shift += 7;
        if byte & 0x80 == 0 {
            return Some((value, at));
        }
        // Nothing in one frame is longer.
        if shift > 21 {
            return None;
        }
    }
}

/// Whether the string at `at` is in Huffman's code, and where its bytes are.
fn read_string(block: &[u8], at: usize) -> Option<(bool, Range<usize>)> {
    let coded = block.get(at)? & 0x80 != 0;
    let (length, start) = read_integer(block, at, 7)?;
    let end = start + length;
    (end <= block.len()).then_some((coded, start..end))
}

fn is_authority(coded: bool, text: &[u8]) -> bool {
    if !coded {
        return !STARTS.iter().any(|start| text.starts_with(start));
    }
    !HUFFMAN_STARTS.iter().any(|(start, bits)| {
        let (whole, rest) = (bits / 8, bits % 8);
        let mask = !(0xff_u8 >> rest);
        text.len() > whole
            && text[..whole] == start[..whole]
            && (rest == 0 || (text[whole] ^ start[whole]) & mask == 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";
    /// `:method POST`, `:scheme http`, `:path /p`.
    const BEFORE: &[u8] = b"\x83\x86\x04\x02/p";
    /// `te trailers`.
    const BEHIND: &[u8] = b"\x40\x02te\x08trailers";

    /// A frame of headers with this authority.
    fn head(authority: &[u8], flags: u8) -> Vec<u8> {
        let mut block = Vec::new();
        if flags & PADDED != 0 {
            block.push(3);
        }
        if flags & PRIORITY != 0 {
            block.extend([0; PRIORITY_BYTES]);
        }
        block.extend_from_slice(BEFORE);
        block.push(0x41);
        block.extend_from_slice(authority);
        block.extend_from_slice(BEHIND);
        if flags & PADDED != 0 {
            block.extend([0; 3]);
        }
        let length = u32::try_from(block.len()).unwrap().to_be_bytes();
        let mut frame = length[1..].to_vec();
        frame.extend([HEADERS, 4 | flags, 0, 0, 0, 1]);
        frame.extend(block);
        frame
    }

    fn plain(text: &str) -> Vec<u8> {
        let mut value = vec![text.len() as u8];
        value.extend_from_slice(text.as_bytes());
        value
    }

    fn passed(arrives: &[u8], piece: usize) -> (Vec<u8>, bool) {
        let (mut first_head, mut all, mut is_over) = (FirstHead::default(), Vec::new(), false);
        for piece in arrives.chunks(piece) {
            if is_over {
                all.extend_from_slice(piece);
                continue;
            }
            let passed = first_head.push(piece);
            all.extend_from_slice(&passed.bytes);
            is_over = passed.is_over;
        }
        (all, is_over)
    }

    #[test]
    fn what_is_no_authority_is_replaced_however_it_arrives() {
        // As Go's client sends it, in Huffman's code: http://127.0.0.1:2379
        let url = b"\x8f\x9d\x29\xae\xe3\x0c\x04\x4e\xae\x05\xc0\xb8\x6e\x09\x97\x5f".to_vec();
        // #initially=[127.0.0.1:2379]
        let list = [
            b"\x96\xff\xa3\x54\x64\x98\x74\x51\xea\x0f\xfd".as_slice(),
            b"\x84\x4e\xae\x05\xc0\xb8\x6e\x09\x97\x5f\xff\xe7",
        ]
        .concat();
        let texts = [
            "http://127.0.0.1:2379",
            "https://h:1",
            "#initially=[h:1]",
            "#",
        ];
        for authority in texts.map(plain).into_iter().chain([url, list]) {
            for flags in [0, PADDED, PRIORITY, PADDED | PRIORITY] {
                let arrives = [SETTINGS, &head(&authority, flags), b"behind"].concat();
                let mended = [SETTINGS, &head(&plain("m"), flags)].concat();
                for piece in [1, 7, arrives.len()] {
                    assert_eq!(passed(&arrives, piece), (mended.clone(), false));
                }
            }
        }
    }

    #[test]
    fn a_client_that_says_it_again_is_mended_again_and_all_else_passes() {
        const DATA: &[u8] = b"\0\0\x05\0\x01\0\0\0\x01\0\0\0\0\0";
        let odd = head(&plain("#initially=[h:1]"), 0);
        let right = head(&plain("h:1"), PADDED);
        let arrives = [SETTINGS, &odd, DATA, &right, DATA, &odd].concat();
        let mended = head(&plain("m"), 0);
        let expected = [SETTINGS, &mended, DATA, &right, DATA, &mended].concat();
        for piece in [1, 7, arrives.len()] {
            assert_eq!(passed(&arrives, piece), (expected.clone(), false));
        }
    }

    #[test]
    fn everything_else_passes_untouched() {
        let large = [&[0xff; 3][..], &[HEADERS, 0, 0, 0, 0, 1], &[7; 100]].concat();
        let cut = head(b"\x7fhttp://", 0);
        let endless = head(&[0xff; 12], 0);
        let coded = head(b"\x86\xff\xb3\x54\x64\x98\x74", 0);
        for arrives in [head(&plain("h:2379"), 0), large, cut, endless, coded] {
            for piece in [1, arrives.len()] {
                assert_eq!(passed(&arrives, piece), (arrives.clone(), true));
            }
        }
        assert_eq!(passed(SETTINGS, 1), (SETTINGS.to_vec(), false));
    }
}

//! Which pings of a client are too many. Pure; the rules are those of gRPC's library for Go, which
//! etcd's clients are built for.
//!
//! A ping that comes too soon after the one before it is a strike. Any part of an answer that the
//! server sends forgives all strikes and the next ping, which clients use to measure their
//! bandwidth. Our HTTP/2 library answers pings and tells nobody, so frames are counted on their way
//! through.

use std::time::{Duration, Instant};

/// Strikes that a connection survives; one more ends it.
const STRIKES_MAX: u32 = 2;
/// The least time between two pings while no call is open.
const IDLE_INTERVAL_MIN: Duration = Duration::from_secs(2 * 3600);

const HEAD_BYTES: usize = 9;
/// What a client sends before its first frame.
const PREFACE_BYTES: usize = 24;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const ACK: u8 = 1;
const ENHANCE_YOUR_CALM: u32 = 11;

/// What the client is told, in the words that its libraries look for.
pub(super) const TOO_MANY_PINGS: &str = "too_many_pings";

/// Follows the frames of one direction of a connection through its pieces.
#[derive(Debug, Default)]
struct Frames {
    head: [u8; HEAD_BYTES],
    /// Bytes of `head` that have arrived.
    head_bytes: usize,
    /// Bytes still to come before the next head.
    remaining: usize,
}

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    kind: u8,
    flags: u8,
    stream: u32,
}

impl Frames {
    fn feed(&mut self, mut data: &[u8], mut tell: impl FnMut(Head)) {
        while !data.is_empty() {
            if self.remaining > 0 {
                let count = self.remaining.min(data.len());
                self.remaining -= count;
                data = &data[count..];
                continue;
            }
            let count = (HEAD_BYTES - self.head_bytes).min(data.len());
            self.head[self.head_bytes..][..count].copy_from_slice(&data[..count]);
            self.head_bytes += count;
            data = &data[count..];
            if self.head_bytes == HEAD_BYTES {
                let [l0, l1, l2, kind, flags, stream @ ..] = self.head;
                self.remaining = u32::from_be_bytes([0, l0, l1, l2]) as usize;
                self.head_bytes = 0;
                tell(Head {
                    kind,
                    flags,
                    stream: u32::from_be_bytes(stream) & (u32::MAX >> 1),
                });
            }
        }
    }

    fn is_between_frames(&self) -> bool {
        self.remaining == 0 && self.head_bytes == 0
    }
}

/// The pings of one connection.
#[derive(Debug)]
pub(super) struct Pings {
    interval_min: Duration,
    received: Frames,
    sent: Frames,
    /// Pings that arrived and were not judged yet.
    arrived: u32,
    last: Option<Instant>,
    strikes: u32,
    is_forgiven: bool,
    last_stream: u32,
}

impl Pings {
    /// The pings of a new connection. While a call is open, they may come `interval_min` apart.
    pub(super) fn new(interval_min: Duration) -> Pings {
        Pings {
            interval_min,
            received: Frames {
                remaining: PREFACE_BYTES,
                ..Frames::default()
            },
            sent: Frames::default(),
            arrived: 0,
            last: None,
            strikes: 0,
            is_forgiven: false,
            last_stream: 0,
        }
    }

    /// Looks at what the client sent.
    pub(super) fn received(&mut self, data: &[u8]) {
        self.received.feed(data, |head| match head.kind {
            PING if head.flags & ACK == 0 => self.arrived = self.arrived.saturating_add(1),
            HEADERS => self.last_stream = self.last_stream.max(head.stream),
            _ => {}
        });
    }

    /// Looks at what is sent to the client.
    pub(super) fn sent(&mut self, data: &[u8]) {
        self.sent.feed(data, |head| {
            self.is_forgiven |= matches!(head.kind, DATA | HEADERS);
        });
    }

    /// Whether the pings that arrived are too many for a connection with this many open calls.
    pub(super) fn are_too_many(&mut self, calls: usize, now: Instant) -> bool {
        let least = match calls {
            0 => IDLE_INTERVAL_MIN,
            _ => self.interval_min,
        };
        for _ in 0..std::mem::take(&mut self.arrived) {
            let last = self.last.replace(now);
            if std::mem::take(&mut self.is_forgiven) {
                self.strikes = 0;
            } else if last.is_some_and(|last| now.duration_since(last) < least) {
                self.strikes = self.strikes.saturating_add(1);
            }
        }
        self.strikes > STRIKES_MAX
    }

    /// The frame that ends the connection for too many pings; `None` while another frame is partly
    /// sent.
    pub(super) fn farewell(&self) -> Option<Vec<u8>> {
        if !self.sent.is_between_frames() {
            return None;
        }
        let told = [
            &self.last_stream.to_be_bytes(),
            &ENHANCE_YOUR_CALM.to_be_bytes(),
            TOO_MANY_PINGS.as_bytes(),
        ]
        .concat();
        let length = u8::try_from(told.len()).expect("a short text");
        let head = [0, 0, length, GOAWAY, 0, 0, 0, 0, 0];
        Some([&head[..], &told].concat())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn frame(kind: u8, flags: u8, length: usize) -> Vec<u8> {
        let mut frame = vec![0, 0, length as u8, kind, flags, 0, 0, 0, 7];
        frame.resize(HEAD_BYTES + length, 6);
        frame
    }

    fn after_the_preface() -> Pings {
        let mut pings = Pings::new(5 * SECOND);
        pings.received(&[0; PREFACE_BYTES]);
        pings
    }

    /// How many of ten pings, `interval` apart, a connection with this many open calls survives.
    fn survived(pings: &mut Pings, calls: usize, interval: Duration) -> usize {
        let mut now = Instant::now();
        let mut survives = |_: &i32| {
            now += interval;
            pings.received(&frame(PING, 0, 8));
            !pings.are_too_many(calls, now)
        };
        (0..10).take_while(|number| survives(number)).count()
    }

    #[test]
    fn three_pings_that_come_too_soon_are_too_many() {
        let survived = |calls, interval| survived(&mut after_the_preface(), calls, interval);
        assert_eq!(survived(1, SECOND), 3);
        assert_eq!(survived(1, 5 * SECOND), 10);
        assert_eq!(survived(0, 5 * SECOND), 3, "no call is open");
        assert_eq!(survived(0, IDLE_INTERVAL_MIN), 10);
    }

    #[test]
    fn what_is_answered_forgives_the_pings_before_and_the_one_after() {
        let (mut pings, now) = (after_the_preface(), Instant::now());
        for _ in 0..10 {
            pings.received(&frame(PING, 0, 8).repeat(3));
            assert!(!pings.are_too_many(1, now));
            pings.sent(&frame(DATA, 0, 3));
        }
        pings.received(&frame(PING, 0, 8).repeat(4));
        assert!(pings.are_too_many(1, now));
    }

    #[test]
    fn answers_to_pings_of_ours_are_not_counted() {
        let (mut pings, now) = (after_the_preface(), Instant::now());
        pings.received(&frame(PING, ACK, 8).repeat(10));
        pings.received(&frame(HEADERS, 0, 40));
        assert!(!pings.are_too_many(0, now));
        assert_eq!(pings.last_stream, 7);
    }

    #[test]
    fn a_farewell_waits_for_the_end_of_a_frame() {
        let mut pings = after_the_preface();
        let data = frame(DATA, 0, 30);
        pings.sent(&data[..20]);
        assert_eq!(pings.farewell(), None);
        pings.sent(&data[20..]);
        let farewell = pings.farewell().unwrap();
        assert_eq!(farewell.len(), HEAD_BYTES + 8 + TOO_MANY_PINGS.len());
        assert_eq!(usize::from(farewell[2]), farewell.len() - HEAD_BYTES);
    }

    proptest! {
        #[test]
        fn frames_are_told_the_same_however_the_stream_is_cut(
            frames in prop::collection::vec((0u8..10, 0u8..4, 0usize..200), 0..8),
            cut in 1usize..50,
        ) {
            let stream = frames.iter().map(|(kind, flags, length)| frame(*kind, *flags, *length));
            let stream = stream.collect::<Vec<_>>().concat();
            let (mut follower, mut told) = (Frames::default(), Vec::new());
            for piece in stream.chunks(cut) {
                follower.feed(piece, |head| told.push((head.kind, head.flags, head.stream)));
            }
            let expected = frames.iter().map(|(kind, flags, _)| (*kind, *flags, 7));
            prop_assert_eq!(told, expected.collect::<Vec<_>>());
            prop_assert!(follower.is_between_frames());
        }
    }
}

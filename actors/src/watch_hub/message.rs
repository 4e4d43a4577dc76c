//! The messages that WatchHub takes.

use actix::Message;
use althing_api::mvccpb::Event;
use althing_api::range::KeyRange;

use super::outlet::Outlet;
use super::watchers::WatchOptions;

/// Serve a stream of watchers, which hears through the outlet.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct OpenWatches {
    /// Unique among all streams of this process.
    pub(crate) stream: u64,
    pub(crate) outlet: Outlet,
}

/// Watch a range for a stream; answered through its outlet before the first event.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Watch {
    pub(crate) stream: u64,
    /// Unique among the watchers of the stream.
    pub(crate) watch_id: i64,
    pub(crate) range: KeyRange,
    /// Where to begin; 0: at the next change.
    pub(crate) start_revision: i64,
    pub(crate) options: WatchOptions,
}

/// End a watch; answered through the outlet unless it has ended before.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct CancelWatch {
    pub(crate) stream: u64,
    pub(crate) watch_id: i64,
}

/// Which progress is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProgressOf {
    /// The progress of all watchers of the stream together.
    Stream,
    /// The progress of each of these watchers.
    Watchers(Vec<i64>),
}

/// Say how far watchers were told everything, if they were told all there is. A question about the
/// whole stream is always answered through the outlet.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct RequestProgress {
    pub(crate) stream: u64,
    pub(crate) of: ProgressOf,
}

/// The reader of a stream has made room.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct OutletReady {
    pub(crate) stream: u64,
}

/// A stream has ended.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct CloseWatches {
    pub(crate) stream: u64,
}

/// These revisions were applied. A hint: what is lost is read from the store.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Committed {
    pub(crate) first: i64,
    pub(crate) last: i64,
    pub(crate) events: Vec<Event>,
}

/// To itself: read a slice of history for those behind.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub(super) struct CatchUp;

//! One stream of watchers, from the side of its reader.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use actix::Addr;
use althing_api::range::KeyRange;

use super::WatchHub;
use super::message::{
    CancelWatch, CloseWatches, OpenWatches, OutletReady, ProgressOf, RequestProgress, Watch,
};
use super::metrics::WatchMetrics;
use super::outlet::{Inlet, Notice, outlet};
use super::watchers::WatchOptions;

/// The number of the next stream of this process.
static NEXT_STREAM: AtomicU64 = AtomicU64::new(0);

/// A stream of watchers. They share a bounded queue, so a reader that does not read delays no
/// others, and gets the rest from history once it reads on. Dropping it ends its watchers.
pub struct Watches {
    /// The hub that serves this stream; a new hub knows nothing of it.
    hub: Addr<WatchHub>,
    stream: u64,
    inlet: Inlet,
}

impl fmt::Debug for Watches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stream = self.stream;
        f.debug_struct("Watches").field("stream", &stream).finish()
    }
}

impl Watches {
    pub(crate) fn open(hub: Addr<WatchHub>, metrics: &WatchMetrics) -> Watches {
        let (outlet, inlet) = outlet(metrics.waiting_events.clone());
        let stream = NEXT_STREAM.fetch_add(1, Ordering::Relaxed);
        hub.do_send(OpenWatches { stream, outlet });
        Watches { hub, stream, inlet }
    }

    /// Watches `range` from `start_revision` (0: from the next change on) under an id that the
    /// caller chooses, unique in the stream. `Created` or `Refused` answers it; then come events,
    /// or `Compacted` if `start_revision` is gone.
    pub fn watch(
        &self,
        watch_id: i64,
        range: KeyRange,
        start_revision: i64,
        options: WatchOptions,
    ) {
        self.hub.do_send(Watch {
            stream: self.stream,
            watch_id,
            range,
            start_revision,
            options,
        });
    }

    /// Ends a watcher. `Cancelled` answers it, unless the watcher ended by itself before.
    pub fn cancel(&self, watch_id: i64) {
        let stream = self.stream;
        self.hub.do_send(CancelWatch { stream, watch_id });
    }

    /// Asks how far watchers were told everything. `Progress` comes for those that were told all
    /// there is, nothing for the others. A question about the whole stream is always answered, by
    /// `NoProgress` if need be, once all that is committed by now was fanned out; the caller bounds
    /// how many questions wait.
    pub fn request_progress(&self, of: ProgressOf) {
        let stream = self.stream;
        self.hub.do_send(RequestProgress { stream, of });
    }

    /// The next notice; `None` when the hub has stopped.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Notice>> {
        let Some((notice, has_room)) = ready!(self.inlet.poll_next(cx)) else {
            return Poll::Ready(None);
        };
        if has_room {
            let stream = self.stream;
            self.hub.do_send(OutletReady { stream });
        }
        Poll::Ready(Some(notice))
    }

    /// Like [`Watches::poll_next`]. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Notice> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }
}

impl Drop for Watches {
    fn drop(&mut self) {
        let stream = self.stream;
        self.hub.do_send(CloseWatches { stream });
    }
}

//! WatchHub: tells watchers what happens to the keys they watch.
//!
//! ```text
//!  Applier --Committed--> fan-out --> the queue of each stream --> stream's task --> socket
//!                            ^ a gap, or a watcher that is behind
//!  store's history --CatchUp-'
//! ```
//! The store is the truth and `Committed` a hint: it is bounded and may be dropped, and what the
//! hub was not told it reads from the store. A stream's queue is bounded too: a watcher whose queue
//! is full is behind from that revision on, costs nothing until its reader has made room, and then
//! gets what it missed from history, read once for many watchers.
//! A compaction takes history from watchers that are behind, as in etcd, but never from the hub
//! itself: what the hub has still to tell is held before the compaction is applied, and until it is
//! told.
//!
//! Owns: who watches what, and how far each was told.
//! Waits for: nobody. It reads the store, so its thread may wait for the disk.
//! Fails: all queues close, so every stream ends; a new hub starts without watchers, and clients go
//! on from the last revision they saw. If history, or a former record, cannot be read, the watchers
//! that want it wait.

mod event;
mod fan_out;
mod feed;
mod message;
mod metrics;
mod outlet;
mod range_tree;
mod watchers;
mod watches;

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, AsyncContext, Context, Handler};
use althing_api::error::Error;
use althing_storage::store::Store;

pub use self::event::{Events, WatchedEvent};
use self::fan_out::FanOut;
pub(crate) use self::feed::{Attention, Feed, Hint};
use self::message::CatchUp;
pub use self::message::ProgressOf;
pub(crate) use self::message::{
    CancelWatch, CloseWatches, Committed, OpenWatches, OutletReady, RequestProgress, Watch,
};
pub(crate) use self::metrics::WatchMetrics;
pub use self::outlet::{Deliveries, Notice};
pub use self::watchers::WatchOptions;
pub use self::watches::Watches;
use crate::supervisor::DeathWatch;

/// Watchers of the whole member; a further one is refused.
pub const WATCHERS_MAX: usize = 4_000_000;
/// Notices of the Applier that may wait; what comes beyond is read from the store.
const NOTICES_MAX: usize = 64;
/// Pause after the store could not be read, for watchers that are behind.
const READ_AGAIN: Duration = Duration::from_secs(1);

/// The actor.
#[derive(Debug)]
pub(crate) struct WatchHub {
    fan_out: FanOut,
    attention: Arc<Attention>,
    metrics: WatchMetrics,
    /// Whether a `CatchUp` is on its way.
    catches_up: bool,
    /// Whether those that are held up will try again.
    reads_again: bool,
    _death_watch: DeathWatch,
}

impl WatchHub {
    pub(crate) fn new(
        store: Store,
        attention: Arc<Attention>,
        metrics: WatchMetrics,
        watch: DeathWatch,
    ) -> WatchHub {
        attention.lower();
        WatchHub {
            fan_out: FanOut::new(store, Arc::clone(&attention), WATCHERS_MAX),
            attention,
            metrics,
            catches_up: false,
            reads_again: false,
            _death_watch: watch,
        }
    }

    /// Every handler ends with this: the hub checks whether it was told everything, and goes on
    /// with what is left to do.
    fn settle(&mut self, ctx: &mut Context<Self>) {
        if self.attention.take_missed() {
            self.fan_out.miss();
        }
        if self.fan_out.watcher_count() == 0 {
            self.attention.lower();
        }
        self.fan_out.let_go();
        if self.fan_out.has_work() && !self.catches_up {
            self.catches_up = true;
            ctx.notify(CatchUp);
        }
        if let Some(error) = self.fan_out.held_up()
            && !self.reads_again
        {
            tracing::warn!(%error, "watchers wait: a former record that they want cannot be read");
            self.reads_again = true;
            ctx.run_later(READ_AGAIN, |hub, ctx| {
                hub.reads_again = false;
                hub.fan_out.read_again();
                hub.settle(ctx);
            });
        }
        let metrics = &self.metrics;
        metrics.streams.set(self.fan_out.stream_count() as i64);
        metrics.watchers.set(self.fan_out.watcher_count() as i64);
        metrics.behind.set(self.fan_out.behind_count() as i64);
        metrics.events.inc_by(self.fan_out.take_delivered());
    }

    fn catch_up(&mut self) -> Result<(), Error> {
        self.fan_out.follow()?;
        self.fan_out.step()
    }
}

impl Actor for WatchHub {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(NOTICES_MAX);
    }
}

impl Handler<OpenWatches> for WatchHub {
    type Result = ();

    fn handle(&mut self, open: OpenWatches, ctx: &mut Context<Self>) {
        self.fan_out.open(open.stream, open.outlet);
        self.settle(ctx);
    }
}

impl Handler<Watch> for WatchHub {
    type Result = ();

    fn handle(&mut self, watch: Watch, ctx: &mut Context<Self>) {
        self.attention.raise();
        self.fan_out.watch(watch);
        self.settle(ctx);
    }
}

impl Handler<CancelWatch> for WatchHub {
    type Result = ();

    fn handle(&mut self, cancel: CancelWatch, ctx: &mut Context<Self>) {
        self.fan_out.cancel(cancel.stream, cancel.watch_id);
        self.settle(ctx);
    }
}

impl Handler<RequestProgress> for WatchHub {
    type Result = ();

    fn handle(&mut self, request: RequestProgress, ctx: &mut Context<Self>) {
        self.fan_out.request_progress(request.stream, request.of);
        self.settle(ctx);
    }
}

impl Handler<OutletReady> for WatchHub {
    type Result = ();

    fn handle(&mut self, ready: OutletReady, ctx: &mut Context<Self>) {
        self.fan_out.has_room(ready.stream);
        self.settle(ctx);
    }
}

impl Handler<CloseWatches> for WatchHub {
    type Result = ();

    fn handle(&mut self, close: CloseWatches, ctx: &mut Context<Self>) {
        self.fan_out.close(close.stream);
        self.settle(ctx);
    }
}

impl Handler<Committed> for WatchHub {
    type Result = ();

    fn handle(&mut self, committed: Committed, ctx: &mut Context<Self>) {
        let Committed {
            first,
            last,
            events,
        } = committed;
        self.fan_out.committed(first, last, events);
        self.settle(ctx);
    }
}

impl Handler<CatchUp> for WatchHub {
    type Result = ();

    fn handle(&mut self, _: CatchUp, ctx: &mut Context<Self>) {
        self.catches_up = false;
        if let Err(error) = self.catch_up() {
            tracing::warn!(%error, "watchers wait: history that they want cannot be read");
            self.catches_up = true;
            ctx.notify_later(CatchUp, READ_AGAIN);
        }
        self.settle(ctx);
    }
}

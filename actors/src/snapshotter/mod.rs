//! Snapshotter: says what the current snapshot is. A snapshot is a mark on what the store's file
//! durably holds plus a read view; bytes move only when somebody needs them.
//!
//! ```text
//!  idle --OpenSnapshot--> mark and view --> idle
//! ```
//! Owns: nothing yet; transfers in flight, once there are other members.
//! Waits for: nobody.
//! Fails: it is started again; raft asks again.

mod message;

use actix::{Actor, Context, Handler, MessageResult};
use althing_storage::store::Store;

pub(crate) use self::message::OpenSnapshot;
pub use self::message::SnapshotMark;
use crate::supervisor::DeathWatch;

/// The actor.
#[derive(Debug)]
pub(crate) struct Snapshotter {
    store: Store,
    _watch: DeathWatch,
}

impl Snapshotter {
    pub(crate) fn new(store: Store, watch: DeathWatch) -> Snapshotter {
        Snapshotter {
            store,
            _watch: watch,
        }
    }

    fn open(&self) -> SnapshotMark {
        let durable = self.store.durable_mark();
        SnapshotMark {
            log_id: durable.log_id,
            membership: durable.membership,
            view: self.store.read(),
        }
    }
}

impl Actor for Snapshotter {
    type Context = Context<Self>;
}

impl Handler<OpenSnapshot> for Snapshotter {
    type Result = MessageResult<OpenSnapshot>;

    fn handle(&mut self, _: OpenSnapshot, _: &mut Context<Self>) -> Self::Result {
        MessageResult(self.open())
    }
}

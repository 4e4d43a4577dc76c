//! The hash of this member's records at a revision, computed once for all that ask.

use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;

use althing_api::error::Error;
use althing_storage::store::{HashKv, Store};
use parking_lot::Mutex;

use crate::arbiters::low_priority_thread;
use crate::peer_link::hash::{Held, Known, Question};

/// Computes hashes, one at a time. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Hasher {
    store: Store,
    work: Arc<Mutex<Work>>,
}

#[derive(Debug, Default)]
struct Work {
    /// The revision that is being hashed, if any.
    running: Option<i64>,
    /// The last hash: its revision, what was compacted by then, and the result.
    done: Option<(i64, i64, Result<HashKv, Error>)>,
}

impl Hasher {
    pub(crate) fn new(store: Store) -> Hasher {
        Hasher {
            store,
            work: Arc::default(),
        }
    }

    /// What is known of the hash. The first caller has it computed.
    pub(crate) fn ask(&self, question: Question) -> Known {
        let Question { revision, index } = question;
        let (now, applied) = self.store.position();
        if applied == index && revision != now.current {
            // The same entries led to another number of revisions here.
            return Some(Ok(Held::Behind));
        }
        if revision > now.current {
            return (applied >= index).then_some(Ok(Held::Behind));
        }
        let mut work = self.work.lock();
        match work.done {
            // Valid only if nothing was compacted since.
            Some((at, compacted, hash)) if at == revision && compacted == now.compacted => {
                return Some(hash.map(Held::Hash));
            }
            _ if work.running.is_some() => return None,
            _ => {}
        }
        work.running = Some(revision);
        // On the one thread of a simulation the work is done when its start returns.
        drop(work);
        let (store, shared) = (self.store.clone(), Arc::clone(&self.work));
        let compute = move || {
            // A file whose pages do not fit together may make redb panic; that is damage too.
            let hash = panic::catch_unwind(AssertUnwindSafe(|| store.hash_kv(revision)));
            let mut work = shared.lock();
            work.running = None;
            work.done = Some((revision, now.compacted, hash.unwrap_or(Err(Error::Corrupt))));
        };
        if let Err(error) = low_priority_thread("hash", compute) {
            tracing::warn!(%error, "cannot start a thread to hash the records");
            self.work.lock().running = None;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use althing_storage::entry::LogId;
    use althing_storage::store::StoreSettings;

    use super::*;
    use crate::testing::find;

    #[actix::test]
    async fn a_hash_is_computed_once_and_not_for_a_revision_that_is_not_here_yet() {
        let dir = tempfile::tempdir().unwrap();
        let settings = StoreSettings {
            record_cache_bytes: 1 << 20,
            page_cache_bytes: 1 << 20,
            pending_bytes_max: 1 << 20,
        };
        let store = Store::open(&dir.path().join("store.redb"), settings).unwrap();
        store.apply_blank(LogId { term: 1, index: 1 });
        let hasher = Hasher::new(store.clone());
        let ask = |revision, index| hasher.ask(Question { revision, index });
        let hash = find("the hash", || ask(1, 1)).await;
        assert_eq!(hash, store.hash_kv(1).map(Held::Hash));
        assert_eq!(ask(1, 1), Some(hash));
        assert_eq!(ask(2, 2), None, "it may come to it yet");
        assert_eq!(ask(2, 1), Some(Ok(Held::Behind)));
        assert_eq!(hasher.work.lock().running, None);
    }
}

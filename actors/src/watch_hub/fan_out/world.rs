//! A fan-out over a real store, with readers that read when the test says so.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::task::Waker;

use althing_api::commandpb::{Command, command::Request};
use althing_api::etcdserverpb::{CompactionRequest, DeleteRangeRequest, PutRequest};
use althing_api::mvccpb::Event;
use althing_api::range::KeyRange;
use althing_storage::apply::apply;
use althing_storage::entry::LogId;
use althing_storage::store::{Committed, Store, StoreSettings};
use prometheus::IntGauge;

use super::super::event::Events;
use super::super::feed::Attention;
use super::super::message::{ProgressOf, Watch};
use super::super::outlet::{Inlet, Notice, outlet};
use super::super::watchers::WatchOptions;
use super::FanOut;

/// A store, its fan-out, and the streams' readers.
pub(super) struct World {
    dir: tempfile::TempDir,
    pub(super) store: Store,
    pub(super) fan_out: FanOut,
    pub(super) attention: Arc<Attention>,
    entries: u64,
    pub(super) inlets: BTreeMap<u64, Inlet>,
    /// Everything that ever happened.
    pub(super) events: Vec<Event>,
}

/// A notice as tests compare it: the watcher, and what it was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Created(i64),
    /// Watcher, and the revisions of the events.
    Events(i64, Vec<i64>),
    Progress(Option<i64>, i64),
    NoProgress,
    Cancelled(i64),
    Compacted(i64, i64),
    Refused(i64),
}

impl World {
    pub(super) fn new() -> World {
        let dir = tempfile::tempdir().unwrap();
        let settings = StoreSettings {
            record_cache_bytes: 1 << 20,
            page_cache_bytes: 1 << 20,
            pending_bytes_max: 64 << 20,
        };
        let store = Store::open(&dir.path().join("store.redb"), settings).unwrap();
        let attention = Arc::new(Attention::default());
        World {
            fan_out: FanOut::new(store.clone(), Arc::clone(&attention), 1_000),
            attention,
            dir,
            store,
            entries: 0,
            inlets: BTreeMap::new(),
            events: Vec::new(),
        }
    }

    /// Applies a command without telling the fan-out.
    pub(super) fn apply(&mut self, request: Request) -> Committed {
        self.entries += 1;
        let request = Some(request);
        let mut txn = self.store.begin();
        apply(&mut txn, Command { request }).unwrap();
        let index = self.entries;
        let committed = txn.commit(LogId { term: 1, index });
        self.events.extend(committed.events.clone());
        committed
    }

    pub(super) fn tell(&mut self, committed: Committed) {
        if !committed.events.is_empty() {
            let revision = committed.revision;
            self.fan_out.committed(revision, revision, committed.events);
        }
    }

    pub(super) fn put_value(&mut self, key: &str, value_bytes: usize) -> Committed {
        self.apply(Request::Put(PutRequest {
            key: key.to_owned().into(),
            value: vec![b'v'; value_bytes].into(),
            ..PutRequest::default()
        }))
    }

    pub(super) fn put(&mut self, key: &str) {
        let committed = self.put_value(key, 3);
        self.tell(committed);
    }

    pub(super) fn delete(&mut self, key: &str, end: &str) -> Committed {
        self.apply(Request::DeleteRange(DeleteRangeRequest {
            key: key.to_owned().into(),
            range_end: end.to_owned().into(),
            ..DeleteRangeRequest::default()
        }))
    }

    pub(super) fn compact(&mut self, revision: i64) {
        self.attention.hold(&self.store);
        self.lose(revision);
    }

    /// Compacts like another member whose state takes the place of ours.
    pub(super) fn lose(&mut self, revision: i64) {
        self.apply(Request::Compaction(CompactionRequest {
            revision,
            ..CompactionRequest::default()
        }));
    }

    /// Damages what large values of the store's file consist of.
    pub(super) fn damage_values(&self) {
        let path = self.dir.path().join("store.redb");
        let mut bytes = std::fs::read(&path).unwrap();
        let mut damaged = 0;
        for run in bytes.chunk_by_mut(|one, next| one == next) {
            if run[0] == b'v' && run.len() > 1_000 {
                run.fill(b'x');
                damaged += run.len();
            }
        }
        assert!(damaged > 0, "no large value is on the disk");
        let file = File::options().write(true).open(&path).unwrap();
        file.write_all_at(&bytes, 0).unwrap();
    }

    pub(super) fn open(&mut self, id: u64) {
        let (outlet, inlet) = outlet(IntGauge::new("waiting", "waiting").unwrap());
        self.fan_out.open(id, outlet);
        self.inlets.insert(id, inlet);
    }

    pub(super) fn watch(
        &mut self,
        stream: u64,
        watch_id: i64,
        key: &'static str,
        start_revision: i64,
    ) {
        let options = WatchOptions::default();
        self.watch_range(
            stream,
            watch_id,
            KeyRange::One(key.into()),
            start_revision,
            options,
        );
    }

    pub(super) fn watch_range(
        &mut self,
        stream: u64,
        watch_id: i64,
        range: KeyRange,
        start_revision: i64,
        options: WatchOptions,
    ) {
        self.fan_out.watch(Watch {
            stream,
            watch_id,
            range,
            start_revision,
            options,
        });
    }

    pub(super) fn ask_progress(&mut self, stream: u64) {
        self.fan_out.request_progress(stream, ProgressOf::Stream);
    }

    pub(super) fn settle(&mut self) {
        while self.fan_out.has_work() {
            self.step();
        }
    }

    pub(super) fn step(&mut self) {
        self.fan_out.follow().unwrap();
        self.fan_out.step().unwrap();
        self.fan_out.let_go();
    }

    /// The next notice of a stream, if one is there.
    pub(super) fn next(&mut self, stream: u64) -> Option<Notice> {
        let mut cx = std::task::Context::from_waker(Waker::noop());
        match self.inlets[&stream].poll_next(&mut cx) {
            std::task::Poll::Ready(Some((notice, has_room))) => {
                if has_room {
                    self.fan_out.has_room(stream);
                }
                Some(notice)
            }
            _ => None,
        }
    }

    /// Everything that waits for a stream.
    pub(super) fn read(&mut self, stream: u64) -> Vec<Told> {
        let mut told = Vec::new();
        while let Some(notice) = self.next(stream) {
            told.extend(tell_of(notice));
        }
        told
    }
}

pub(super) fn tell_of(notice: Notice) -> Vec<Told> {
    match notice {
        Notice::Created { watch_id, .. } => vec![Told::Created(watch_id)],
        Notice::Events(deliveries) => {
            let revisions = |events: &Events| -> Vec<i64> {
                events.iter().map(|event| event.revision()).collect()
            };
            let to = deliveries.to.iter();
            to.map(|(watch_id, events)| Told::Events(*watch_id, revisions(events)))
                .collect()
        }
        Notice::Progress { watch_id, revision } => vec![Told::Progress(watch_id, revision)],
        Notice::NoProgress => vec![Told::NoProgress],
        Notice::Cancelled { watch_id, .. } => vec![Told::Cancelled(watch_id)],
        Notice::Compacted {
            watch_id,
            compact_revision,
        } => vec![Told::Compacted(watch_id, compact_revision)],
        Notice::Refused { watch_id, .. } => vec![Told::Refused(watch_id)],
    }
}

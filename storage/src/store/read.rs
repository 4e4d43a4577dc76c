//! Reading: etcd's Range over the index, with the records behind it from wherever they are.
//!
//! The same code serves a [`ReadView`] and the Applier's transaction, which also sees its own
//! changes; [`Keyspace`] is what they share.

use std::cmp::Ordering;
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

use althing_api::error::Error;
use althing_api::etcdserverpb::range_request::{SortOrder, SortTarget};
use althing_api::etcdserverpb::{RangeRequest, RangeResponse, ResponseHeader};
use althing_api::mvccpb::KeyValue;
use althing_api::order::{has_revision_filters, is_natural_order};
use althing_api::range::KeyRange;
use bytes::Bytes;

use super::disk_view::DiskView;
use super::error::DiskError;
use super::history::Rev;
use super::{CheckpointError, Shared, record};

/// The lower and upper end of a selection of keys.
type Bounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// How much of a range is compared at once, in keys and bytes.
const PIECE: Limit = Limit {
    keys: 256,
    bytes: 1 << 20,
};

/// How much is fetched at once. One record always is, however large.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limit {
    /// Keys at most; 0 means all.
    pub keys: usize,
    /// Once this many bytes are held, no further record is fetched.
    pub bytes: usize,
}

/// Is told what a read holds while it reads, and may end it: the size of an answer shows only then.
pub trait ReadMeter: fmt::Debug + Send + Sync {
    /// Notes that the answer holds `bytes` more, by [`held_bytes`]. Errors: what the read ends
    /// with.
    fn took(&self, bytes: usize) -> Result<(), Error>;
}

/// The memory that a record takes: key, value, and its overhead.
pub fn held_bytes(kv: &KeyValue) -> usize {
    size_of::<KeyValue>() + content_bytes(kv)
}

fn content_bytes(kv: &KeyValue) -> usize {
    kv.key.len() + kv.value.len()
}

/// A state of the keys that can be read.
pub(crate) trait Keyspace {
    /// The store behind it.
    fn shared(&self) -> &Shared;
    /// The newest revision that can be seen.
    fn revision(&self) -> i64;
    /// The error for a reader when the file cannot be read.
    fn unreadable(&self, error: DiskError) -> Error {
        self.shared().remember(error)
    }
    /// A record that is not in the store yet.
    fn own_record(&self, rev: Rev) -> Option<Bytes>;
    /// The last compacted revision; -1 if nothing was compacted.
    fn compacted(&self) -> i64 {
        self.shared().published.read().compacted
    }
    /// See [`ReadMeter::took`].
    fn took(&self, _bytes: usize) -> Result<(), Error> {
        Ok(())
    }
}

/// A consistent view of the keys at its revision. `Send + Sync + Clone`, readable from any thread.
#[derive(Clone, Debug)]
pub struct ReadView {
    shared: Arc<Shared>,
    revision: i64,
    meter: Option<Arc<dyn ReadMeter>>,
    /// Keeps physical compaction away from what this view may read.
    _pin: Arc<()>,
}

impl ReadView {
    /// A view of the current state, and the last compacted revision at that moment.
    pub(super) fn open(shared: Arc<Shared>) -> (ReadView, i64) {
        let published = shared.published.read();
        let (revision, compacted) = (published.current, published.compacted);
        let pin = published.pin.clone();
        drop(published);
        let view = ReadView {
            shared,
            revision,
            meter: None,
            _pin: pin,
        };
        (view, compacted)
    }

    pub(super) fn store(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The revision that the view is pinned at.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// The same view, whose ranges and txns (not its scans) tell `meter` what they hold.
    pub fn metered(self, meter: Arc<dyn ReadMeter>) -> ReadView {
        let meter = Some(meter);
        ReadView { meter, ..self }
    }

    /// etcd's Range: selection, filters, sort, limit, count, more; the header holds only the
    /// revision. Sort enums must be known ones. Errors: `FutureRevision`, `Compacted`; `Corrupt` if
    /// a record on disk is damaged, `NoSpace` while a full disk keeps its file closed.
    pub fn range(&self, request: &RangeRequest) -> Result<RangeResponse, Error> {
        range(self, request)
    }
}

impl Keyspace for ReadView {
    fn shared(&self) -> &Shared {
        &self.shared
    }

    fn revision(&self) -> i64 {
        self.revision
    }

    fn own_record(&self, _rev: Rev) -> Option<Bytes> {
        None
    }

    fn took(&self, bytes: usize) -> Result<(), Error> {
        match &self.meter {
            Some(meter) => meter.took(bytes),
            None => Ok(()),
        }
    }
}

impl Shared {
    /// Remembers damage, so that the next checkpoint fails with it.
    pub(super) fn remember(&self, error: DiskError) -> Error {
        if let DiskError::NoSpace | DiskError::Closed = error {
            return Error::NoSpace;
        }
        self.fault.get_or_init(|| error.to_string());
        Error::Corrupt
    }

    /// Fails once a reader has found damage.
    pub(super) fn refuse_after_fault(&self) -> Result<(), CheckpointError> {
        match self.fault.get() {
            Some(text) => Err(CheckpointError::Failed(text.clone())),
            None => Ok(()),
        }
    }
}

/// Finds records that are not inline. Opens redb only when needed.
#[derive(Default)]
pub(super) struct Fetcher {
    view: Option<DiskView>,
}

impl Fetcher {
    /// The record of `rev`, which the index knows.
    pub fn record<K: Keyspace>(&mut self, space: &K, rev: Rev) -> Result<Bytes, Error> {
        if let Some(record) = space.own_record(rev) {
            return Ok(record);
        }
        let shared = space.shared();
        if let Some(record) = shared.pending.read().get(rev) {
            return Ok(record);
        }
        // What pending dropped is in redb, but a view opened before that does not show it, and a
        // view that a failed commit closed shows nothing.
        if let Some(view) = &self.view
            && let Ok(Some(record)) = view.record(rev)
        {
            return Ok(record);
        }
        let found = shared.disk().read(|view| {
            let record = view.record(rev)?;
            record.ok_or_else(|| view.damaged("the missing record", rev))
        });
        let (view, record) = found.map_err(|error| space.unreadable(error))?;
        self.view = Some(view);
        Ok(record)
    }

    /// Like [`Fetcher::record`], decoded.
    pub fn key_value<K: Keyspace>(&mut self, space: &K, rev: Rev) -> Result<KeyValue, Error> {
        let record = self.record(space, rev)?;
        record::decode(&record).map_err(|_| {
            let path = space.shared().disk();
            let path = path.medium().path();
            let detail = format!("the record of revision {rev} is no KeyValue");
            space.shared().remember(DiskError::damaged(path, &detail))
        })
    }
}

/// Resolves a request's revision. Errors: `FutureRevision`, `Compacted`.
pub(super) fn resolve<K: Keyspace>(space: &K, revision: i64) -> Result<i64, Error> {
    if revision > space.revision() {
        return Err(Error::FutureRevision);
    }
    if revision <= 0 {
        return Ok(space.revision());
    }
    if revision < space.compacted() {
        return Err(Error::Compacted);
    }
    Ok(revision)
}

/// Number of keys of `range` at `revision`.
pub(super) fn count<K: Keyspace>(space: &K, range: &KeyRange, revision: i64) -> i64 {
    match (range, range.bounds()) {
        (KeyRange::One(key), _) => {
            let found = space.shared().index.get(key, revision);
            i64::from(found.is_some())
        }
        (_, Some((from, until))) => space.shared().index.count(from, until, revision),
        (_, None) => 0,
    }
}

/// The first keys of `bounds` at `revision`, within `limit`. `took` is told what they hold.
pub(super) fn fetch<K: Keyspace>(
    space: &K,
    (mut from, until): Bounds<'_>,
    revision: i64,
    limit: Limit,
    index_only: bool,
    took: impl Fn(usize) -> Result<(), Error>,
) -> Result<Vec<KeyValue>, Error> {
    let mut kvs = Vec::new();
    let mut bytes = 0;
    let mut elsewhere = Vec::new();
    let mut fetcher = Fetcher::default();
    let mut resume;
    loop {
        let told = bytes;
        resume = space
            .shared()
            .index
            .visit(from, until, revision, |key, stamp, record| {
                let kv = match record {
                    _ if index_only => KeyValue {
                        key: Bytes::copy_from_slice(key),
                        create_revision: stamp.create,
                        mod_revision: stamp.rev.main,
                        version: stamp.version,
                        ..KeyValue::default()
                    },
                    Some(record) => {
                        record::decode(record).expect("inline records were decoded before")
                    }
                    None => {
                        elsewhere.push((kvs.len(), stamp.rev));
                        KeyValue::default()
                    }
                };
                bytes += held_bytes(&kv);
                kvs.push(kv);
                kvs.len() != limit.keys && bytes < limit.bytes
            });
        took(bytes - told)?;
        for (position, rev) in elsewhere.drain(..) {
            let kv = fetcher.key_value(space, rev)?;
            let more = content_bytes(&kv);
            took(more)?;
            bytes += more;
            kvs[position] = kv;
            if bytes >= limit.bytes {
                kvs.truncate(position + 1);
                return Ok(kvs);
            }
        }
        match &resume {
            Some(last) => from = Bound::Excluded(last),
            None => return Ok(kvs),
        }
    }
}

/// The state of one key at `revision`.
pub(super) fn get<K: Keyspace>(
    space: &K,
    key: &Bytes,
    revision: i64,
    index_only: bool,
) -> Result<Option<KeyValue>, Error> {
    let Some(found) = space.shared().index.get(key, revision) else {
        return Ok(None);
    };
    if index_only {
        return Ok(Some(KeyValue {
            key: key.clone(),
            create_revision: found.stamp.create,
            mod_revision: found.stamp.rev.main,
            version: found.stamp.version,
            ..KeyValue::default()
        }));
    }
    match &found.record {
        Some(record) => Ok(Some(
            record::decode(record).expect("inline records were decoded before"),
        )),
        None => Fetcher::default()
            .key_value(space, found.stamp.rev)
            .map(Some),
    }
}

/// The names of all keys of `range` as they are now in `space`.
pub(super) fn keys<K: Keyspace>(space: &K, range: &KeyRange) -> Vec<Bytes> {
    let Some((mut from, until)) = range.bounds() else {
        return Vec::new();
    };
    let mut keys = Vec::new();
    let mut resume;
    loop {
        let index = &space.shared().index;
        resume = index.visit(from, until, space.revision(), |key, _, _| {
            keys.push(Bytes::copy_from_slice(key));
            true
        });
        match &resume {
            Some(last) => from = Bound::Excluded(last),
            None => return keys,
        }
    }
}

/// Whether `holds` is true of every key of `range` as it is now in `space`; `None` if the range has
/// no key. Read in pieces, so that a large range is never held.
pub(crate) fn every<K: Keyspace>(
    space: &K,
    range: &KeyRange,
    index_only: bool,
    mut holds: impl FnMut(&KeyValue) -> bool,
) -> Result<Option<bool>, Error> {
    if let KeyRange::One(key) = range {
        let kv = get(space, key, space.revision(), index_only)?;
        return Ok(kv.map(|kv| holds(&kv)));
    }
    let Some((from, until)) = range.bounds() else {
        return Ok(None);
    };
    let mut last: Option<Bytes> = None;
    loop {
        let rest = (last.as_deref().map_or(from, Bound::Excluded), until);
        let revision = space.revision();
        let kvs = fetch(space, rest, revision, PIECE, index_only, |_| Ok(()))?;
        let Some(kv) = kvs.last() else {
            return Ok(last.map(|_| true));
        };
        if !kvs.iter().all(&mut holds) {
            return Ok(Some(false));
        }
        last = Some(kv.key.clone());
    }
}

/// All keys of `range` as they are now in `space`; `index_only` leaves out value and lease.
pub(crate) fn read_range<K: Keyspace>(
    space: &K,
    range: &KeyRange,
    index_only: bool,
) -> Result<Vec<KeyValue>, Error> {
    select(space, range, space.revision(), 0, index_only)
}

fn select<K: Keyspace>(
    space: &K,
    range: &KeyRange,
    revision: i64,
    limit: usize,
    index_only: bool,
) -> Result<Vec<KeyValue>, Error> {
    match (range, range.bounds()) {
        (KeyRange::One(key), _) => {
            let found = get(space, key, revision, index_only)?;
            space.took(found.as_ref().map_or(0, held_bytes))?;
            Ok(found.into_iter().collect())
        }
        (_, Some(bounds)) => {
            let limit = Limit {
                keys: limit,
                bytes: usize::MAX,
            };
            let took = |bytes| space.took(bytes);
            fetch(space, bounds, revision, limit, index_only, took)
        }
        (_, None) => Ok(Vec::new()),
    }
}

/// etcd's Range, see [`ReadView::range`].
pub(crate) fn range<K: Keyspace>(
    space: &K,
    request: &RangeRequest,
) -> Result<RangeResponse, Error> {
    let revision = resolve(space, request.revision)?;
    let keys = KeyRange::new(request.key.clone(), request.range_end.clone());
    let mut response = RangeResponse {
        header: Some(ResponseHeader {
            revision: space.revision(),
            ..ResponseHeader::default()
        }),
        ..RangeResponse::default()
    };
    if request.count_only {
        response.count = count(space, &keys, revision);
        return Ok(response);
    }
    // An order other than NONE needs the whole range, and so do filters. NONE with a target other
    // than the key does not: etcd sorts only the keys that the limit let through, and so do we.
    let natural = is_natural_order(request) && !has_revision_filters(request);
    let limit = usize::try_from(request.limit).unwrap_or(0);
    let fetch_limit = match limit {
        0 => 0,
        _ if !natural => 0,
        limit => limit.saturating_add(1),
    };
    let index_only = request.keys_only && request.sort_target() != SortTarget::Value;
    let mut kvs = select(space, &keys, revision, fetch_limit, index_only)?;
    response.count = if fetch_limit == 0 || kvs.len() < fetch_limit {
        kvs.len() as i64
    } else {
        count(space, &keys, revision)
    };
    kvs.retain(|kv| passes_filters(kv, request));
    sort(&mut kvs, request);
    if limit > 0 && kvs.len() > limit {
        kvs.truncate(limit);
        response.more = true;
    }
    if request.keys_only {
        kvs.iter_mut().for_each(|kv| kv.value.clear());
    }
    response.kvs = kvs;
    Ok(response)
}

fn passes_filters(kv: &KeyValue, request: &RangeRequest) -> bool {
    let inside = |value, min, max| (min == 0 || value >= min) && (max == 0 || value <= max);
    inside(
        kv.mod_revision,
        request.min_mod_revision,
        request.max_mod_revision,
    ) && inside(
        kv.create_revision,
        request.min_create_revision,
        request.max_create_revision,
    )
}

fn sort(kvs: &mut [KeyValue], request: &RangeRequest) {
    let compare: fn(&KeyValue, &KeyValue) -> Ordering = match request.sort_target() {
        SortTarget::Key => |a, b| a.key.cmp(&b.key),
        SortTarget::Version => |a, b| a.version.cmp(&b.version),
        SortTarget::Create => |a, b| a.create_revision.cmp(&b.create_revision),
        SortTarget::Mod => |a, b| a.mod_revision.cmp(&b.mod_revision),
        SortTarget::Value => |a, b| a.value.cmp(&b.value),
    };
    match (request.sort_order(), request.sort_target()) {
        (SortOrder::None | SortOrder::Ascend, SortTarget::Key) => {}
        (SortOrder::None | SortOrder::Ascend, _) => kvs.sort_by(compare),
        (SortOrder::Descend, _) => kvs.sort_by(|a, b| compare(b, a)),
    }
}

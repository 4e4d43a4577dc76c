//! A reader: one stream after the other, each with all its watchers. Between responses it randomly
//! does what clients do: it stops reading for a while, breaks the stream, asks for progress, or
//! cancels a watcher and creates it again.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;

use althing_api::etcdserverpb as pb;
use pb::watch_request::RequestUnion;
use rand::Rng;
use rand::rngs::StdRng;
use tonic::transport::Channel;

use super::Board;
use super::changes::{GROUP_KEYS, GROUPS, KEYS_END, KEYS_START, key};
use super::checker::{Checker, Counts, Selection};
use super::stream::{WatchStream, connect};
use crate::process::DEADLINE;

/// The member chooses ids from 0 on; a reader chooses them from here on.
const CHOSEN_IDS: i64 = 1_000;
/// The longest time without reading, in revisions of the member.
const PAUSE_MAX: i64 = 600;

/// Consecutive attempts to open a stream on a member that serves, or is about to end.
const REFUSED_MAX: u32 = 1_000;

/// What a reader did, over all its streams.
#[derive(Clone, Copy, Debug, Default)]
pub struct Deeds {
    /// The number of streams after the first.
    pub resumed: u64,
    /// How often it stopped reading.
    pub paused: u64,
    /// The number of watchers that it cancelled and created again.
    pub cancelled: u64,
    /// The number of watchers that ended because history was compacted, and began again behind it.
    pub compacted: u64,
}

/// One reader.
#[derive(Debug)]
pub struct Reader {
    name: String,
    random: StdRng,
    is_json: bool,
    watchers: Vec<Watcher>,
    next_id: i64,
    /// Creations that were sent and not answered; answers come in the same order.
    creating: VecDeque<usize>,
    /// Watchers that the reader cancelled while compaction ended them: a second end may come.
    ended_twice: Vec<i64>,
    /// Whether a watcher waits to be created on another stream.
    must_reopen: bool,
    shared: Option<(u64, Channel)>,
    deeds: Deeds,
}

#[derive(Debug)]
struct Watcher {
    checker: Checker,
    id: Option<i64>,
    is_cancelling: bool,
}

/// Why a stream is left.
enum Left {
    /// All that the run will bring has come.
    Done,
    /// The stream broke, or was broken.
    Broken,
}

impl Reader {
    /// A reader with watchers of all kinds: from now, from the beginning, from the future.
    pub fn new(number: usize, watchers: usize, is_json: bool, mut random: StdRng) -> Reader {
        let watcher = |_| {
            let start = match random.random_range(0..10) {
                0..6 => None,
                6..9 => Some(2),
                _ => Some(random.random_range(3..400)),
            };
            Watcher {
                checker: Checker::new(selection(&mut random), start),
                id: None,
                is_cancelling: false,
            }
        };
        Reader {
            name: format!("reader {number}"),
            watchers: (0..watchers).map(watcher).collect(),
            random,
            is_json,
            next_id: CHOSEN_IDS,
            creating: VecDeque::new(),
            ended_twice: Vec::new(),
            must_reopen: false,
            shared: None,
            deeds: Deeds::default(),
        }
    }

    /// Watches until every watcher has seen the last revision.
    ///
    /// # Errors
    /// What a watcher saw and should not have seen, or did not see.
    pub async fn watch(&mut self, board: &Board) -> Result<(), String> {
        let (mut streams, mut refused) = (0, 0);
        loop {
            let start = board.served().await;
            match self.open(board, start).await {
                Ok(mut stream) => {
                    (streams, refused) = (streams + 1, 0);
                    self.deeds.resumed += u64::from(streams > 1);
                    let left = self.follow(board, &mut stream).await;
                    if let Left::Done = left.map_err(|what| format!("{}: {what}", self.name))? {
                        return Ok(());
                    }
                }
                Err(what) if refused == REFUSED_MAX => {
                    return Err(format!("{}: no stream opens: {what}", self.name));
                }
                Err(_) => refused += 1,
            }
            for watcher in &mut self.watchers {
                watcher.checker.broken();
                watcher.id = None;
                watcher.is_cancelling = false;
            }
            self.creating.clear();
            self.ended_twice.clear();
            // A loop that fails without waiting must let the others go on.
            tokio::task::yield_now().await;
        }
    }

    /// What all watchers saw, and what the reader did.
    pub fn report(&self) -> (Counts, Deeds) {
        let mut counts = Counts::default();
        for watcher in &self.watchers {
            counts += watcher.checker.counts;
        }
        (counts, self.deeds)
    }

    /// Where each incomplete watcher is.
    fn positions(&self, board: &Board) -> String {
        let known = board.history.known();
        let late = |watcher: &&Watcher| !watcher.checker.is_complete(&board.history, known);
        let late = self.watchers.iter().filter(late);
        let late: Vec<_> = late.map(|watcher| watcher.checker.position()).collect();
        late.join("; ")
    }

    /// Opens a stream with all watchers, each from where it was.
    async fn open(&mut self, board: &Board, start: u64) -> Result<WatchStream, String> {
        let all = 0..self.watchers.len();
        let first = all.map(|at| self.creation(at)).collect::<Vec<_>>();
        let first = first.into_iter().map(|request| pb::WatchRequest {
            request_union: Some(request),
        });
        let first = first.collect();
        if self.is_json {
            return WatchStream::json(board.port, first).await;
        }
        let kept = self.shared.take().filter(|(of, _)| *of == start);
        let channel = match kept {
            // Mostly the stream is broken and the connection stays, as with real clients.
            Some((_, channel)) if self.random.random_ratio(2, 3) => channel,
            _ => connect(board.port).await?,
        };
        self.shared = Some((start, channel.clone()));
        WatchStream::grpc(channel, first).await
    }

    /// The request that creates a watcher, with an id that either side chooses.
    fn creation(&mut self, at: usize) -> RequestUnion {
        let id = if self.random.random() {
            0
        } else {
            self.next_id += 1;
            self.next_id
        };
        self.creating.push_back(at);
        let checker = &self.watchers[at].checker;
        RequestUnion::CreateRequest(checker.selection.request(checker.start_revision(), id))
    }

    async fn follow(&mut self, board: &Board, stream: &mut WatchStream) -> Result<Left, String> {
        let mut last = board.last.subscribe();
        loop {
            let is_last_known = last.borrow_and_update().is_some();
            if is_last_known && self.is_complete(board)? {
                return Ok(Left::Done);
            }
            let response = tokio::select! {
                // A process that was suspended finds what has come meanwhile.
                biased;
                response = stream.next() => response,
                _ = last.changed() => continue,
                () = tokio::time::sleep(DEADLINE), if is_last_known => {
                    return Err(format!("silent, though incomplete: {}", self.positions(board)));
                }
            };
            let Ok(response) = response else {
                return Ok(Left::Broken);
            };
            self.take(board, response, stream)?;
            if std::mem::take(&mut self.must_reopen) {
                return Ok(Left::Broken);
            }
            if is_last_known {
                continue;
            }
            match self.random.random_range(0..2_000) {
                0..4 => {
                    self.deeds.paused += 1;
                    let until = self.random.random_range(1..PAUSE_MAX);
                    let now = *board.acknowledged.borrow();
                    board.reached(now + until).await;
                }
                4..8 => return Ok(Left::Broken),
                8..40 => {
                    stream.send(RequestUnion::ProgressRequest(pb::WatchProgressRequest {}));
                }
                40..50 => self.cancel(stream),
                _ => (),
            }
        }
    }

    fn is_complete(&mut self, board: &Board) -> Result<bool, String> {
        let last = board.last.borrow().unwrap_or(i64::MAX);
        for Watcher { checker, .. } in &mut self.watchers {
            checker.settle(&board.history, board.lacks_old_perhaps())?;
            if !checker.is_complete(&board.history, last) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Cancels some watcher, which is created again when the member has confirmed that.
    fn cancel(&mut self, stream: &WatchStream) {
        let at = self.random.random_range(0..self.watchers.len());
        let watcher = &mut self.watchers[at];
        if let Some(watch_id) = watcher.id.filter(|_| !watcher.is_cancelling) {
            let request = RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id });
            watcher.is_cancelling = stream.send(request);
        }
    }

    fn take(
        &mut self,
        board: &Board,
        response: pb::WatchResponse,
        stream: &WatchStream,
    ) -> Result<(), String> {
        let revision = response.header.as_ref().map_or(0, |header| header.revision);
        if response.created {
            let at = self
                .creating
                .pop_front()
                .ok_or("created without a request")?;
            if response.canceled {
                return Err(format!("not created: {}", response.cancel_reason));
            }
            self.watchers[at].id = Some(response.watch_id);
            self.watchers[at].checker.created(revision);
            return Ok(());
        }
        let is_bare = response.events.is_empty() && !response.canceled;
        if is_bare && response.watch_id == -1 {
            let created = self
                .watchers
                .iter_mut()
                .filter(|watcher| watcher.id.is_some());
            // etcd's flaw: a promise from before a creation that comes after it.
            for watcher in created.filter(|_| !board.is_etcd) {
                watcher.checker.progress(revision)?;
            }
            return Ok(());
        }
        let is_second_end = |id: &i64| response.canceled && *id == response.watch_id;
        if let Some(at) = self.ended_twice.iter().position(is_second_end) {
            self.ended_twice.swap_remove(at);
            return Ok(());
        }
        let of_id = |watcher: &Watcher| watcher.id == Some(response.watch_id);
        let at = self.watchers.iter().position(of_id);
        let at = at.ok_or_else(|| format!("no watcher has the id of {response:?}"))?;
        let watcher = &mut self.watchers[at];
        if response.canceled {
            return self.ended(board, at, &response, stream);
        }
        let lacks_old_perhaps = board.lacks_old_perhaps();
        let checker = &mut watcher.checker;
        let taken = if is_bare {
            checker.progress(revision)
        } else {
            checker.take(revision, response.events, response.fragment)
        };
        let settled = taken.and_then(|()| checker.settle(&board.history, lacks_old_perhaps));
        settled.map_err(|what| format!("{what}; {}", watcher.checker.position()))
    }

    /// Notes that a watcher was ended, by its reader or because it needs what is compacted.
    fn ended(
        &mut self,
        board: &Board,
        at: usize,
        response: &pb::WatchResponse,
        stream: &WatchStream,
    ) -> Result<(), String> {
        let asked = board.compacting.load(Ordering::SeqCst);
        let watcher = &mut self.watchers[at];
        if response.compact_revision > 0 {
            watcher
                .checker
                .compacted(response.compact_revision, asked)?;
            self.deeds.compacted += 1;
            if watcher.is_cancelling {
                self.ended_twice.push(response.watch_id);
            }
        } else if watcher.is_cancelling {
            watcher.checker.broken();
            self.deeds.cancelled += 1;
        } else {
            return Err(format!("ended by the member: {response:?}"));
        }
        watcher.id = None;
        watcher.is_cancelling = false;
        let request = self.creation(at);
        if !stream.send(request) {
            // The gateway takes no more requests; or the stream has ended, which will show soon.
            self.creating.pop_back();
            self.must_reopen = true;
        }
        Ok(())
    }
}

/// Selects mostly everything, sometimes a group, a few keys, or one key.
fn selection(random: &mut StdRng) -> Selection {
    let group = random.random_range(0..GROUPS);
    let from = random.random_range(0..GROUP_KEYS - 1);
    let (key, range_end) = match random.random_range(0..10) {
        0..6 => (KEYS_START.into(), KEYS_END.into()),
        6..8 => (key(group, 0), key(group, GROUP_KEYS)),
        8 => (key(group, from), key(group, from + 2)),
        _ => (key(group, from), bytes::Bytes::new()),
    };
    let filter = random.random_range(0..10);
    Selection {
        key,
        range_end,
        no_put: filter == 0,
        no_delete: filter == 1,
        prev_kv: random.random_ratio(1, 4),
        fragment: random.random(),
        progress_notify: random.random(),
    }
}

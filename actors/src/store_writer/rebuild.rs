//! The copy of the store's file, window by window between everything else that StoreWriter does.

use std::time::{Duration, Instant};

use actix::{AsyncContext, Context};
use althing_storage::data_dir::DataDir;
use althing_storage::store::{CheckpointError, RebuildStep};
use tokio::sync::oneshot;

use super::reclaim::{Reclaim, Sizes};
use super::{StepRebuild, StoreWriter, let_go};

/// Bytes in one window, which sets how long a commit of the store waits for it.
const WINDOW_BYTES: usize = 4 << 20;

/// The longest pause between two windows.
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// Disk space that a window may take, in windows: rows take more than their bytes, and redb keeps
/// the pages that a commit replaces until the next one.
const WINDOWS_OF_ROOM: u64 = 3;

/// Answers a caller that asked for the copy.
type Asked = oneshot::Sender<Result<(), String>>;

/// The copy under way, if one is, and what is known of earlier ones.
#[derive(Debug, Default)]
pub(super) struct Copying {
    began: Option<Instant>,
    /// The number of bytes in the next window.
    window_bytes: usize,
    /// Bytes in use when the last window ended.
    used_before: u64,
    /// Free bytes of the disk when the copy began.
    free_before: u64,
    /// The callers that asked for the copy.
    asked: Vec<Asked>,
    reclaim: Reclaim,
}

impl Copying {
    /// Starts with what earlier copies showed.
    pub(super) fn new(dir: &DataDir) -> Copying {
        Copying {
            reclaim: Reclaim::knowing(dir.noted_copy()),
            ..Copying::default()
        }
    }
}

impl StoreWriter {
    fn file_sizes(&self) -> Sizes {
        let sizes = self.setup.store.sizes();
        Sizes {
            allocated: sizes.allocated,
            used: sizes.in_use,
        }
    }

    /// Copies the file if much of it is unused.
    pub(super) fn reclaim(&mut self, ctx: &mut Context<Self>) {
        let free = self.setup.dir.free_bytes().unwrap_or(0);
        let reserve = self.setup.gate.reserve_bytes();
        let (now, sizes) = (Instant::now(), self.file_sizes());
        if self.copying.began.is_none() && self.copying.reclaim.is_due(now, sizes, free, reserve) {
            self.begin_copy(ctx);
        }
    }

    /// Copies the file because somebody asked for it.
    pub(super) fn defragment(&mut self, reply: Asked, ctx: &mut Context<Self>) {
        let free = self.setup.dir.free_bytes().unwrap_or(u64::MAX);
        let needed = self
            .file_sizes()
            .used
            .saturating_add(self.setup.gate.reserve_bytes());
        if self.copying.began.is_none() && free < needed {
            let text = format!(
                "the disk has {free} bytes free, and a copy of the store's file needs {needed}"
            );
            // A caller that no longer waits needs no answer.
            let _ = reply.send(Err(text));
            return;
        }
        self.copying.asked.push(reply);
        if self.copying.began.is_none() {
            self.begin_copy(ctx);
        }
    }

    fn begin_copy(&mut self, ctx: &mut Context<Self>) {
        let now = Instant::now();
        self.copying.reclaim.begins(now);
        self.copying.began = Some(now);
        self.copying.window_bytes = WINDOW_BYTES;
        self.copying.free_before = self.setup.dir.free_bytes().unwrap_or(u64::MAX);
        self.setup.metrics.defragmenting(true);
        let sizes = self.file_sizes();
        self.copying.used_before = sizes.used;
        tracing::info!(
            current_db_size_bytes = sizes.allocated,
            current_db_size_in_use_bytes = sizes.used,
            "defragmenting"
        );
        let (arrived, place) = (self.setup.dir.rebuilding(), self.setup.dir.store());
        match self.setup.store.begin_rebuild(&arrived, &place) {
            Ok(()) => ctx.notify(StepRebuild),
            Err(error) => self.copy_ended(Err(error.to_string())),
        }
    }

    /// Copies one window. The next one waits about as long as this one took, so that the disk has
    /// time for the log.
    pub(super) fn step_copy(&mut self, ctx: &mut Context<Self>) {
        if self.copying.began.is_none() {
            return;
        }
        if let Some(lack) = self.lack_of_room() {
            self.setup.store.abandon_rebuild();
            self.copying.reclaim.ran_out(self.copying.free_before);
            return self.copy_ended(Err(lack));
        }
        let start = Instant::now();
        match self.setup.store.step_rebuild(self.copying.window_bytes) {
            Ok(RebuildStep::More) => {
                // Twice what was appended meanwhile, so that the copy gets to the end.
                let used = self.file_sizes().used;
                let appended = used.saturating_sub(self.copying.used_before);
                let wanted = usize::try_from(appended.saturating_mul(2)).unwrap_or(usize::MAX);
                self.copying.window_bytes = wanted.max(WINDOW_BYTES);
                self.copying.used_before = used;
                ctx.notify_later(StepRebuild, start.elapsed().min(PAUSE_MAX));
            }
            Ok(RebuildStep::Finished(former)) => {
                self.copy_ended(Ok(()));
                let_go(former);
            }
            // A failure other than a full disk may concern only the new file; if the disk itself is
            // at fault, the next commit will show it.
            Ok(RebuildStep::GivenUp(why)) => self.copy_ended(Err(why)),
            Ok(RebuildStep::Gone) => {
                let text = "the state of another member took the place of the store";
                self.copy_ended(Err(text.to_owned()));
            }
            Err(error) => {
                let text = error.to_string();
                self.copy_ended(Err(text));
                if let error @ CheckpointError::Failed(_) = error {
                    self.failed(error, ctx);
                }
            }
        }
    }

    /// Why the next window must not be copied: it might take the disk's reserve, and writes would
    /// be refused for a copy that nobody needs.
    fn lack_of_room(&self) -> Option<String> {
        let free = self.setup.dir.free_bytes().ok()?;
        let window = (self.copying.window_bytes as u64).saturating_mul(WINDOWS_OF_ROOM);
        let needed = self.setup.gate.reserve_bytes().saturating_add(window);
        (free < needed).then(|| {
            format!(
                "the disk has {free} bytes free, and the copy of the store's file would take its \
                 reserve (--disk-reserve-bytes)"
            )
        })
    }

    fn copy_ended(&mut self, outcome: Result<(), String>) {
        let began = self.copying.began.take();
        let took = began.map(|began| began.elapsed()).unwrap_or_default();
        let sizes = self.file_sizes();
        self.setup.metrics.defragmenting(false);
        match &outcome {
            Ok(()) => {
                self.setup.metrics.defragmented(took);
                let now = Instant::now();
                self.copying
                    .reclaim
                    .finished(now, sizes.allocated, sizes.used);
                let noted = self.setup.dir.note_copy(sizes.allocated, sizes.used);
                if let Err(error) = noted {
                    tracing::warn!(%error, "the next start will not know what a copy takes");
                }
                tracing::info!(
                    ?took,
                    current_db_size_bytes = sizes.allocated,
                    current_db_size_in_use_bytes = sizes.used,
                    "finished defragmenting"
                );
            }
            Err(error) => tracing::warn!(error, ?took, "defragmenting was given up"),
        }
        for reply in self.copying.asked.drain(..) {
            // A caller that no longer waits needs no answer.
            let _ = reply.send(outcome.clone());
        }
    }
}

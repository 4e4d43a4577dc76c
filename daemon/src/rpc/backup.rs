//! The messages of Maintenance.Snapshot: the file in small pieces, each telling how much is left,
//! and its hash as the last one.

use std::io;

use althing_actors::node::BackupStream;
use althing_api::ETCD_VERSION;
use althing_api::etcdserverpb::SnapshotResponse;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::sync::mpsc;
use tonic::Status;

/// Bytes of one piece, as etcd sends them.
const PIECE_BYTES: usize = 32 * 1024;

/// What is left to send.
struct Pieces {
    body: mpsc::Receiver<io::Result<Bytes>>,
    chunk: Bytes,
    /// Bytes of the file still to send; its hash follows.
    remaining: u64,
    ended: bool,
}

/// The messages of one call.
pub(super) fn messages(
    backup: BackupStream,
) -> BoxStream<'static, Result<SnapshotResponse, Status>> {
    let pieces = Pieces {
        body: backup.body,
        chunk: Bytes::new(),
        remaining: backup.file_bytes,
        ended: false,
    };
    stream::unfold(pieces, |mut pieces| async move {
        let message = pieces.next().await?;
        pieces.ended = message.is_err();
        Some((message, pieces))
    })
    .boxed()
}

impl Pieces {
    async fn next(&mut self) -> Option<Result<SnapshotResponse, Status>> {
        if self.ended {
            return None;
        }
        while self.chunk.is_empty() {
            match self.body.recv().await {
                Some(Ok(chunk)) => self.chunk = chunk,
                Some(Err(error)) => return Some(Err(Status::unknown(error.to_string()))),
                None if self.remaining == 0 => return None,
                None => return Some(Err(Status::unknown("the snapshot ended early"))),
            }
        }
        let most = usize::try_from(self.remaining).map_or(PIECE_BYTES, |left| match left {
            0 => self.chunk.len(),
            left => left.min(PIECE_BYTES),
        });
        let blob = self.chunk.split_to(most.min(self.chunk.len()));
        self.remaining = self.remaining.saturating_sub(blob.len() as u64);
        Some(Ok(SnapshotResponse {
            header: None,
            remaining_bytes: self.remaining,
            blob,
            version: ETCD_VERSION.to_owned(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn sent(
        file_bytes: u64,
        chunks: Vec<io::Result<Bytes>>,
    ) -> Vec<Result<(u64, usize), ()>> {
        let (sender, body) = mpsc::channel(chunks.len().max(1));
        for chunk in chunks {
            sender.try_send(chunk).unwrap();
        }
        drop(sender);
        let messages = messages(BackupStream { file_bytes, body });
        let told = |message: Result<SnapshotResponse, Status>| match message {
            Ok(message) => Ok((message.remaining_bytes, message.blob.len())),
            Err(_) => Err(()),
        };
        messages.map(told).collect().await
    }

    #[tokio::test]
    async fn the_hash_is_a_message_of_its_own_wherever_the_chunks_end() {
        let whole = Bytes::from(vec![1; 40_960 + 32]);
        let expected = [Ok((8_192, 32_768)), Ok((0, 8_192)), Ok((0, 32))];
        assert_eq!(sent(40_960, vec![Ok(whole.clone())]).await, expected);
        let (head, tail) = (whole.slice(..40_960), whole.slice(40_960..));
        assert_eq!(sent(40_960, vec![Ok(head), Ok(tail)]).await, expected);
    }

    #[tokio::test]
    async fn a_backup_that_fails_or_ends_early_ends_with_an_error() {
        let half = Bytes::from(vec![1; 4_096]);
        let broken = Err(io::Error::other("disk"));
        let failed = sent(8_192, vec![Ok(half.clone()), broken]).await;
        assert_eq!(failed, [Ok((4_096, 4_096)), Err(())]);
        assert_eq!(
            sent(8_192, vec![Ok(half)]).await,
            [Ok((4_096, 4_096)), Err(())]
        );
    }
}

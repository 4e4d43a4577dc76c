//! What raft's storage does about a full disk: it waits. openraft takes an error of its storage for
//! the end, and each election would bring the member down again; the log keeps what found no room.

use std::io;
use std::time::Duration;

use actix::Addr;

use crate::reply::Admission;
use crate::wal_writer::{Sync, WalWriter};

/// Pause between two attempts.
const RETRY: Duration = Duration::from_millis(100);

/// Repeats, while the disk is full, what ended with `result`. Gives up when the node closes, which
/// shows in `admission`. Errors: the last one.
pub(super) async fn outlast<F: Future<Output = io::Result<()>>>(
    admission: &Admission,
    mut result: io::Result<()>,
    mut again: impl FnMut() -> F,
) -> io::Result<()> {
    while let Err(error) = &result
        && error.kind() == io::ErrorKind::StorageFull
    {
        if !pause(admission).await {
            break;
        }
        result = again().await;
    }
    result
}

/// Leaves the disk some time. Returns false if the node closes, so that another attempt is
/// pointless.
pub(super) async fn pause(admission: &Admission) -> bool {
    tokio::select! {
        biased;
        () = admission.closed() => false,
        () = tokio::time::sleep(RETRY) => true,
    }
}

/// Makes the log's batch durable.
pub(super) fn sync(wal: &Addr<WalWriter>) -> impl Future<Output = io::Result<()>> + Send + use<> {
    let synced = wal.send(Sync);
    async move {
        let gone = |_| io::Error::other("the WAL's writer is gone");
        synced.await.map_err(gone)?
    }
}

#[cfg(test)]
mod tests {
    use std::future::{Ready, ready};

    use super::*;

    fn full() -> io::Result<()> {
        Err(io::ErrorKind::StorageFull.into())
    }

    #[actix::test]
    async fn a_full_disk_is_tried_until_there_is_room_and_another_error_is_not() {
        tokio::time::pause();
        let admission = Admission::new(1);
        let mut tries = 0;
        let again = || {
            tries += 1;
            ready(if tries < 20 { full() } else { Ok(()) })
        };
        outlast(&admission, full(), again).await.unwrap();
        assert_eq!(tries, 20);
        let never = || -> Ready<io::Result<()>> { unreachable!("it is final") };
        let broken = Err(io::ErrorKind::BrokenPipe.into());
        assert!(outlast(&admission, broken, never).await.is_err());
    }

    #[actix::test]
    async fn a_node_that_closes_does_not_wait_for_room() {
        let admission = Admission::new(1);
        let closes = || {
            admission.close();
            ready(full())
        };
        let waited = outlast(&admission, full(), closes).await.unwrap_err();
        assert_eq!(waited.kind(), io::ErrorKind::StorageFull);
    }
}

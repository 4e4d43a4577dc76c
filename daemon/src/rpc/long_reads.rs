//! Reads that would hold up a worker run on threads of their own, a limited number at once. A
//! caller that goes away does not stop a read that runs, so the read itself keeps its place until
//! it ends: calls that are made and given up cannot pile reads up.

use std::sync::Arc;

use althing_api::error::Error;
use tokio::sync::Semaphore;
use tonic::Status;

use super::status;

/// Long reads of keys that run at once.
pub(super) const READS_MAX: usize = 32;
/// Hashes that run at once: each reads all that is stored.
pub(super) const HASHES_MAX: usize = 2;

/// A bound on concurrent reads; further reads queue in order.
#[derive(Clone, Debug)]
pub(super) struct Places(Arc<Semaphore>);

impl Places {
    pub(super) fn new(max: usize) -> Places {
        Places(Arc::new(Semaphore::new(max)))
    }

    /// The value of `read`, on a thread where blocking is allowed. A caller that gives up while it
    /// waits for a place leaves nothing behind. Error: the process stops, or the read panicked.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Status> {
        let place = Arc::clone(&self.0).acquire_owned().await;
        let place = place.expect("the places are never closed");
        let read = tokio::task::spawn_blocking(move || {
            let value = read();
            drop(place);
            value
        });
        read.await.map_err(|error| {
            if error.is_panic() {
                Status::internal("etcdserver: the read failed")
            } else {
                status::of(Error::Stopped)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_read_whose_caller_left_keeps_its_place_until_it_ends() {
        let places = Places::new(1);
        let (end, ended) = mpsc::channel::<()>();
        let endless = places.run(move || ended.recv());
        assert!(
            endless.now_or_never().is_none(),
            "it runs, and its caller leaves"
        );
        assert_eq!(places.0.available_permits(), 0);
        let waiting = places.run(|| ());
        assert!(waiting.now_or_never().is_none(), "it gives up");
        drop(end);
        places.run(|| ()).await.expect("there is a place again");
        places.run(|| ()).await.expect("and who gave up took none");
    }

    #[tokio::test]
    async fn a_read_that_panics_is_an_error_and_gives_its_place_back() {
        let places = Places::new(1);
        for _ in 0..2 {
            let failed = places.run::<()>(|| panic!("on purpose")).await;
            assert_eq!(failed.expect_err("it failed").code(), tonic::Code::Internal);
        }
    }
}

//! What openraft runs on: tokio's timers and channels, with raft's own clock, with tasks and chance
//! from `ground`, and with latest values that wake their waiters in order.

use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use openraft_rt::watch::SendError;
use openraft_rt::{
    AsyncRuntime, OptionalSend, OptionalSync, RecvError, Watch, WatchReceiver, WatchSender,
};
use openraft_rt_tokio::TokioRuntime;
use rand_core::TryRng;

use super::clock::{self, RaftInstant};
use crate::{ground, latest};

/// The runtime of openraft's tasks.
#[derive(Debug)]
pub struct Runtime(TokioRuntime);

/// The source of chance of this thread.
#[derive(Clone, Copy, Debug)]
pub struct Chance;

impl TryRng for Chance {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        // The upper half is mixed better.
        Ok((ground::chance() >> 32) as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(ground::chance())
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for part in bytes.chunks_mut(size_of::<u64>()) {
            let random = ground::chance().to_le_bytes();
            part.copy_from_slice(&random[..part.len()]);
        }
        Ok(())
    }
}

type Sleep = <TokioRuntime as AsyncRuntime>::Sleep;
type Timeout<R, F> = <TokioRuntime as AsyncRuntime>::Timeout<R, F>;

impl AsyncRuntime for Runtime {
    type JoinError = <TokioRuntime as AsyncRuntime>::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::JoinHandle<T>;
    type Sleep = Sleep;
    type Instant = RaftInstant;
    type TimeoutError = <TokioRuntime as AsyncRuntime>::TimeoutError;
    type Timeout<R, F: Future<Output = R> + OptionalSend> = Timeout<R, F>;
    type ThreadLocalRng = Chance;
    type Mpsc = <TokioRuntime as AsyncRuntime>::Mpsc;
    type Watch = LatestValues;
    type Oneshot = <TokioRuntime as AsyncRuntime>::Oneshot;
    type Mutex<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::Mutex<T>;

    fn spawn<F>(future: F) -> Self::JoinHandle<F::Output>
    where
        F: Future + OptionalSend + 'static,
        F::Output: OptionalSend + 'static,
    {
        if ground::is_simulated() {
            // Spawned among the tasks of the current node, so that it ends when that node crashes.
            return tokio::task::spawn_local(future);
        }
        TokioRuntime::spawn(future)
    }

    fn sleep(duration: Duration) -> Sleep {
        TokioRuntime::sleep(clock::to_real(duration))
    }

    fn sleep_until(deadline: RaftInstant) -> Sleep {
        TokioRuntime::sleep(clock::until(deadline))
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(
        duration: Duration,
        future: F,
    ) -> Timeout<R, F> {
        TokioRuntime::timeout(clock::to_real(duration), future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(
        deadline: RaftInstant,
        future: F,
    ) -> Timeout<R, F> {
        TokioRuntime::timeout(clock::until(deadline), future)
    }

    fn is_panic(error: &Self::JoinError) -> bool {
        TokioRuntime::is_panic(error)
    }

    fn thread_rng() -> Chance {
        Chance
    }

    fn new(threads: usize) -> Runtime {
        Runtime(TokioRuntime::new(threads))
    }

    fn block_on<F: Future<Output = T>, T>(&mut self, future: F) -> T {
        self.0.block_on(future)
    }
}

/// openraft's latest values.
#[derive(Debug)]
pub struct LatestValues;

/// Their sending end.
#[derive(Debug)]
pub struct LatestSender<T>(latest::Sender<T>);

/// Their receiving end.
#[derive(Debug)]
pub struct LatestReceiver<T>(latest::Receiver<T>);

impl<T> Clone for LatestSender<T> {
    fn clone(&self) -> LatestSender<T> {
        LatestSender(self.0.clone())
    }
}

impl<T> Clone for LatestReceiver<T> {
    fn clone(&self) -> LatestReceiver<T> {
        LatestReceiver(self.0.clone())
    }
}

impl Watch for LatestValues {
    type Sender<T: OptionalSend + OptionalSync> = LatestSender<T>;
    type Receiver<T: OptionalSend + OptionalSync> = LatestReceiver<T>;
    type Ref<'a, T: OptionalSend + 'a> = parking_lot::RwLockReadGuard<'a, T>;

    fn channel<T: OptionalSend + OptionalSync>(init: T) -> (LatestSender<T>, LatestReceiver<T>) {
        let (sender, receiver) = latest::channel(init);
        (LatestSender(sender), LatestReceiver(receiver))
    }
}

impl<T: OptionalSend + OptionalSync> WatchSender<LatestValues, T> for LatestSender<T> {
    fn send(&self, value: T) -> Result<(), SendError<T>> {
        self.0.send(value).map_err(SendError)
    }

    fn send_if_modified<F: FnOnce(&mut T) -> bool>(&self, modify: F) -> bool {
        self.0.send_if_modified(modify)
    }

    fn borrow_watched(&self) -> latest::Ref<'_, T> {
        self.0.borrow()
    }

    fn subscribe(&self) -> LatestReceiver<T> {
        LatestReceiver(self.0.subscribe())
    }
}

impl<T: OptionalSend + OptionalSync> WatchReceiver<LatestValues, T> for LatestReceiver<T> {
    async fn changed(&mut self) -> Result<(), RecvError> {
        self.0
            .changed()
            .await
            .map_err(|latest::Closed| RecvError(()))
    }

    fn borrow_watched(&self) -> latest::Ref<'_, T> {
        self.0.borrow()
    }

    fn borrow_and_update(&mut self) -> latest::Ref<'_, T> {
        self.0.borrow_and_update()
    }
}

//! Clients that put random keys as they are told to.

use std::sync::Arc;

use althing_api::etcdserverpb::PutRequest;
use bytes::Bytes;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::tally::Tally;
use crate::client::Client;
use crate::failure::Failure;

/// The keys and values that are put.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    pub prefix: Bytes,
    pub key_bytes: usize,
    pub value_bytes: usize,
}

/// Clients at work; each order is one put of a number that names its key.
pub(super) struct Load {
    orders: mpsc::Sender<u64>,
    workers: JoinSet<Tally>,
}

impl Load {
    /// Begins; `done` is called after each put.
    pub fn start(
        clients: Vec<Client>,
        shape: &Shape,
        done: impl Fn() + Clone + Send + 'static,
    ) -> Load {
        let (orders, taken) = mpsc::channel(clients.len());
        let taken = Arc::new(Mutex::new(taken));
        let mut workers = JoinSet::new();
        let value = Bytes::from(vec![0; shape.value_bytes]);
        for client in clients {
            let worker = Worker {
                client,
                taken: Arc::clone(&taken),
                shape: shape.clone(),
                value: value.clone(),
            };
            workers.spawn(worker.work(done.clone()));
        }
        Load { orders, workers }
    }

    /// Orders one put; waits while all clients are busy.
    pub async fn order(&self, number: u64) {
        // Workers live as long as there are orders.
        let _ = self.orders.send(number).await;
    }

    /// Waits until all is done.
    ///
    /// # Errors
    /// A worker has panicked.
    pub async fn finish(self) -> Result<Tally, Failure> {
        let Load {
            orders,
            mut workers,
        } = self;
        drop(orders);
        let mut whole = Tally::default();
        while let Some(tally) = workers.join_next().await {
            let lost = |error| Failure::new(crate::failure::ERROR, format!("a client: {error}"));
            whole.absorb(tally.map_err(lost)?);
        }
        Ok(whole)
    }
}

struct Worker {
    client: Client,
    taken: Arc<Mutex<mpsc::Receiver<u64>>>,
    shape: Shape,
    value: Bytes,
}

impl Worker {
    async fn work(mut self, done: impl Fn()) -> Tally {
        let mut tally = Tally::default();
        loop {
            let order = self.taken.lock().await.recv().await;
            let Some(number) = order else {
                return tally;
            };
            let request = PutRequest {
                key: key(&self.shape, number),
                value: self.value.clone(),
                ..PutRequest::default()
            };
            let began = Instant::now();
            let put = self.client.put(request).await;
            tally.add(put.map(|_| began.elapsed()).map_err(|failure| failure.text));
            done();
        }
    }
}

/// The prefix, the number spread over all keys, and zeros.
fn key(shape: &Shape, number: u64) -> Bytes {
    let mut key = shape.prefix.to_vec();
    let end = key.len() + shape.key_bytes;
    // An odd factor visits every number once.
    key.extend_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    key.resize(end, 0);
    key.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_differ_and_have_their_length() {
        let shape = Shape {
            prefix: "/p/".into(),
            key_bytes: 256,
            value_bytes: 0,
        };
        let keys: std::collections::BTreeSet<Bytes> =
            (0..1_000).map(|number| key(&shape, number)).collect();
        assert_eq!(keys.len(), 1_000);
        assert!(keys.iter().all(|key| key.len() == 259));
    }
}

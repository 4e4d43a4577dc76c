//! Watch streams of the JSON gateway: HTTP/1.1 connections, one watcher each, whose responses are
//! counted and otherwise thrown away.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::http1;

/// The longest wait until all watchers are created.
const CREATING_MAX: Duration = Duration::from_secs(30);
/// Connections that are opened at once; a larger burst would meet the limit of listen queues.
const OPENING_MAX: usize = 32;
const READ_BYTES: usize = 16 * 1_024;

/// Streams that watch one key until they are dropped.
#[derive(Debug)]
pub struct JsonWatches {
    tasks: JoinSet<io::Result<()>>,
    lines: Arc<AtomicU64>,
}

impl JsonWatches {
    /// Opens `count` streams; `key` is in base64.
    ///
    /// # Errors
    /// When they are not all created in time.
    pub async fn open(port: u16, count: usize, key: &str) -> io::Result<JsonWatches> {
        let request = http1::request(
            "/v3/watch",
            &format!("{{\"create_request\":{{\"key\":\"{key}\"}}}}"),
        );
        let lines = Arc::new(AtomicU64::new(0));
        let created = Arc::new(Semaphore::new(0));
        let opening = Arc::new(Semaphore::new(OPENING_MAX));
        let mut tasks = JoinSet::new();
        for _ in 0..count {
            let (request, lines) = (request.clone(), Arc::clone(&lines));
            let (created, opening) = (Arc::clone(&created), Arc::clone(&opening));
            tasks.spawn(async move {
                let permit = opening.acquire_owned().await.map_err(io::Error::other)?;
                let mut socket = TcpStream::connect(("127.0.0.1", port)).await?;
                socket.write_all(&request).await?;
                let mut buffer = BytesMut::with_capacity(READ_BYTES);
                // The first line reports that the watcher was created.
                let created_line = read(&mut socket, &mut buffer, true).await?;
                lines.fetch_add(created_line, Ordering::Relaxed);
                drop(permit);
                created.add_permits(1);
                loop {
                    let some = read(&mut socket, &mut buffer, false).await?;
                    lines.fetch_add(some, Ordering::Relaxed);
                }
            });
        }
        let all = u32::try_from(count).map_err(io::Error::other)?;
        let waited = tokio::time::timeout(CREATING_MAX, created.acquire_many(all)).await;
        let late = || {
            let created = created.available_permits();
            io::Error::other(format!("of {count} JSON watches {created} were created"))
        };
        waited
            .map_err(|_| late())?
            .map_err(io::Error::other)?
            .forget();
        Ok(JsonWatches { tasks, lines })
    }

    /// Responses so far, including the one of each creation.
    pub fn lines(&self) -> u64 {
        self.lines.load(Ordering::Relaxed)
    }

    /// Whether every stream is still open.
    pub fn are_open(&mut self) -> bool {
        self.tasks.try_join_next().is_none()
    }
}

/// Receives something, or everything up to `created`; returns how many results are in it.
async fn read(socket: &mut TcpStream, buffer: &mut BytesMut, is_first: bool) -> io::Result<u64> {
    let mut results = 0;
    loop {
        buffer.clear();
        buffer.reserve(READ_BYTES);
        if socket.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // A line with a result ends with two braces; head and chunk sizes do not.
        results += buffer.windows(3).filter(|bytes| bytes == b"}}\n").count() as u64;
        if !is_first || results > 0 {
            return Ok(results);
        }
    }
}

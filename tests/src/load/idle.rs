//! The memory of idle watchers.

use std::io;
use std::time::Duration;

use super::fan_out::{Watching, creation};
use super::proc_stat::ProcStat;

/// Time for a server to come to rest.
const SETTLE: Duration = Duration::from_secs(2);

/// How many watchers, and how they are spread.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// The number of connections.
    pub connections: usize,
    /// Streams on each connection.
    pub streams: usize,
    /// Watchers on each stream.
    pub watchers: usize,
}

impl Shape {
    /// The total number of watchers.
    pub fn all(&self) -> usize {
        self.connections * self.streams * self.watchers
    }
}

/// Memory that the server with process id `server` takes for a shape, in bytes. One watcher exists
/// before, so that the cost of the first one does not count.
///
/// # Errors
/// When a connection breaks.
pub async fn measure(port: u16, server: u32, shape: Shape) -> io::Result<u64> {
    let first = Watching::open(port, 1, &[creation("first")]).await?;
    tokio::time::sleep(SETTLE).await;
    let before = ProcStat::read(server)?.anonymous_bytes;
    let mut all = vec![first];
    for number in 0..shape.connections {
        let keys =
            (0..shape.streams * shape.watchers).map(|at| format!("idle-{number:04}-{at:06}"));
        let creations: Vec<_> = keys.map(|key| creation(&key)).collect();
        all.push(Watching::open(port, shape.streams, &creations).await?);
    }
    tokio::time::sleep(SETTLE).await;
    let after = ProcStat::read(server)?.anonymous_bytes;
    drop(all);
    Ok(after.saturating_sub(before))
}

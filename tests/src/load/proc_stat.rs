//! What the kernel says about a server's process: processor time and memory; and how much disk its
//! data takes.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

/// The kernel counts processor time for /proc in hundredths of a second on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;
/// Unit of `st_blocks`, whatever the file system.
const BLOCK_BYTES: u64 = 512;

/// A process at one moment.
#[derive(Clone, Copy, Debug)]
pub struct ProcStat {
    /// User and system time since its start.
    pub cpu: Duration,
    /// Memory that it holds in bytes, including mapped files.
    pub rss_bytes: u64,
    /// Memory that it holds in bytes, without mapped files.
    pub anonymous_bytes: u64,
}

impl ProcStat {
    /// Reads the process with id `pid`.
    ///
    /// # Errors
    /// When it does not exist, or the kernel writes its files in another way.
    pub fn read(pid: u32) -> io::Result<ProcStat> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The program's name, in parentheses, may hold anything; fields are counted after it.
        let fields: Vec<_> = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .collect();
        let ticks = |position: usize| -> Option<f64> { fields.get(position)?.parse().ok() };
        let cpu = ticks(11).zip(ticks(12)).map(|(user, system)| user + system);
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let bytes = |name: &str| -> Option<u64> {
            let line = status.lines().find(|line| line.starts_with(name))?;
            Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1_024)
        };
        match (cpu, bytes("VmRSS:"), bytes("RssAnon:")) {
            (Some(cpu), Some(rss_bytes), Some(anonymous_bytes)) => Ok(ProcStat {
                cpu: Duration::from_secs_f64(cpu / TICKS_PER_SECOND),
                rss_bytes,
                anonymous_bytes,
            }),
            _ => Err(io::Error::other(format!("unknown form of /proc/{pid}"))),
        }
    }
}

/// Bytes that the files below `directory` take on disk.
///
/// # Errors
/// When the directory cannot be read. Files that vanish meanwhile count as nothing.
pub fn bytes_on_disk(directory: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => bytes += bytes_on_disk(&entry.path())?,
            Ok(metadata) => bytes += metadata.blocks() * BLOCK_BYTES,
            Err(_) => (),
        }
    }
    Ok(bytes)
}

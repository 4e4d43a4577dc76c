//! Whether commands may still use disk space. A command that was admitted must never wait for a
//! full disk: it would end in a time-out, with everything behind it. So each one reserves its bytes
//! in the part of the log that is on the disk already, and one that finds no room there is held
//! back while the next segment is made, or refused if there is no space for one.
//!
//! ```text
//!        free < reserve, or store or WAL met a full disk           no room in the log
//!  open ------------------------------------------------> closed ------------------> shut
//!  all commands that find room                  deletes and compactions only      nothing
//! ```
//! StoreWriter measures the disk, the WAL tells its room; the gate opens again by itself.
//!
//! Owns: the reservations, each given back when its command is answered. By then its bytes are
//! mostly flushed; if other members' disks were faster, the log may have promised a little more
//! than it has, and WalWriter waits for room.
//! Fails: never. Once the node stops, all that wait here are told so.

mod decision;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use althing_api::commandpb::Command;
use althing_api::error::Error;
use althing_storage::wal::{LogSpace, Space};
use parking_lot::Mutex;
use tokio::sync::Notify;

use self::decision::{Decision, Situation, passes_when_full};

/// What an entry may cost the log besides its own bytes: the heads of its record and batch, and the
/// commit and purge marks that it causes.
const ENTRY_OVERHEAD_BYTES: u64 = 256;

/// The gate. Shared by the proposing side and the store's writer.
#[derive(Debug)]
pub struct DiskGate {
    reserve_bytes: AtomicU64,
    log: OnceLock<LogSpace>,
    account: Mutex<Account>,
    /// Held by the first command that waits for room, so that waiting commands go on in order.
    turn: tokio::sync::Mutex<()>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Account {
    low: bool,
    store_full: bool,
    log_full: bool,
    stopped: bool,
    reserved_bytes: u64,
    largest_bytes: u64,
    waiting: usize,
}

/// Room in the log for one command; given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    gate: Arc<DiskGate>,
    bytes: u64,
}

/// A command that waits, for as long as this lives.
struct Waiting<'a>(&'a DiskGate);

impl DiskGate {
    /// A gate that closes when fewer than `reserve_bytes` are free; open at first.
    pub fn new(reserve_bytes: u64) -> DiskGate {
        DiskGate {
            reserve_bytes: AtomicU64::new(reserve_bytes),
            log: OnceLock::new(),
            account: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// Sets another reserve, which counts from the next measurement on.
    pub fn set_reserve(&self, reserve_bytes: u64) {
        self.reserve_bytes.store(reserve_bytes, Ordering::Relaxed);
    }

    /// Bytes of the disk that must stay free.
    pub fn reserve_bytes(&self) -> u64 {
        self.reserve_bytes.load(Ordering::Relaxed)
    }

    /// Admits only what finds room in this log from now on. Called once.
    pub fn watch_log(self: &Arc<Self>, log: LogSpace) {
        let gate = Arc::downgrade(self);
        log.watch(move || {
            if let Some(gate) = gate.upgrade() {
                gate.log_changed();
            }
        });
        if self.log.set(log).is_ok() {
            self.log_changed();
        }
    }

    /// Notes how many bytes the file system has free.
    pub fn free_bytes_measured(&self, free_bytes: u64) {
        let reserve_bytes = self.reserve_bytes.load(Ordering::Relaxed);
        let low = free_bytes < reserve_bytes;
        let was_low = std::mem::replace(&mut self.account.lock().low, low);
        if low && !was_low {
            tracing::warn!(
                free_bytes,
                reserve_bytes,
                "disk is nearly full, writes are refused"
            );
        } else if was_low && !low {
            tracing::info!(free_bytes, "disk has space again, writes are admitted");
        }
        if low != was_low {
            self.changed.notify_one();
        }
    }

    /// Notes whether the last checkpoint met a full disk.
    pub fn checkpoint_ended(&self, disk_full: bool) {
        let was_full = std::mem::replace(&mut self.account.lock().store_full, disk_full);
        if disk_full && !was_full {
            tracing::warn!("checkpoint met a full disk, writes are refused until it succeeds");
        } else if was_full && !disk_full {
            tracing::info!("checkpoint succeeds again");
        }
        if disk_full != was_full {
            self.changed.notify_one();
        }
    }

    /// Notes that the log tried to get more space.
    fn log_changed(&self) {
        let space = self.space();
        let full = space.exhausted;
        let was_full = std::mem::replace(&mut self.account.lock().log_full, full);
        if full && !was_full {
            tracing::warn!(
                room_bytes = space.room_bytes,
                "no disk space for the log, writes are refused"
            );
        } else if was_full && !full {
            tracing::info!("disk has space for the log again");
        }
        self.changed.notify_one();
    }

    /// Tells all that wait that the node stops.
    pub fn stop(&self) {
        self.account.lock().stopped = true;
        self.changed.notify_one();
    }

    /// Reserves room for `command`, which is `encoded_bytes` long in the log, waiting while the
    /// log makes more. Errors: `NoSpace`, `Stopped`.
    pub async fn reserve(
        self: &Arc<Self>,
        command: &Command,
        encoded_bytes: usize,
    ) -> Result<Reservation, Error> {
        let frees = passes_when_full(command);
        let bytes = encoded_bytes as u64 + ENTRY_OVERHEAD_BYTES;
        if let Some(answer) = self.try_reserve(bytes, frees, frees) {
            return answer;
        }
        self.account.lock().waiting += 1;
        let _waiting = Waiting(self);
        let _turn = self.turn.lock().await;
        loop {
            if let Some(answer) = self.try_reserve(bytes, frees, true) {
                return answer;
            }
            if let Some(log) = self.log.get() {
                log.want();
            }
            self.changed.notified().await;
        }
    }

    /// Reserves `bytes` if possible; `None` means wait. Only a command whose `turn` it is may
    /// overtake those that wait.
    fn try_reserve(
        self: &Arc<Self>,
        bytes: u64,
        frees: bool,
        turn: bool,
    ) -> Option<Result<Reservation, Error>> {
        let mut account = self.account.lock();
        if account.stopped {
            return Some(Err(Error::Stopped));
        }
        let situation = Situation {
            closed: account.low || account.store_full,
            // Read under the lock: a reservation that is gone by now has left its mark there.
            space: self.space(),
            reserved_bytes: account.reserved_bytes,
            largest_bytes: account.largest_bytes,
        };
        match situation.decide(bytes, frees) {
            Decision::Refuse => Some(Err(Error::NoSpace)),
            Decision::Admit if turn || account.waiting == 0 => {
                account.reserved_bytes += bytes;
                account.largest_bytes = account.largest_bytes.max(bytes);
                drop(account);
                let gate = Arc::clone(self);
                Some(Ok(Reservation { gate, bytes }))
            }
            Decision::Admit | Decision::Wait => None,
        }
    }

    /// The room of the log; without a log there is nothing to run out of.
    fn space(&self) -> Space {
        let boundless = Space {
            room_bytes: u64::MAX,
            ..Space::default()
        };
        self.log.get().map_or(boundless, LogSpace::now)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut account = self.gate.account.lock();
        account.reserved_bytes -= self.bytes;
        if account.waiting > 0 {
            self.gate.changed.notify_one();
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.account.lock().waiting -= 1;
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use althing_api::commandpb::command;
    use althing_api::etcdserverpb::{DeleteRangeRequest, PutRequest};
    use althing_storage::wal::faulty_disk::FaultyDisk;
    use althing_storage::wal::{Background, Wal, WalSettings};
    use futures_util::poll;
    use tempfile::TempDir;

    use super::*;

    const SEGMENT_BYTES: u64 = 1 << 20;
    const HALF_A_SEGMENT: usize = 1 << 19;

    fn put() -> Command {
        Command {
            request: Some(command::Request::Put(PutRequest::default())),
        }
    }

    fn delete() -> Command {
        Command {
            request: Some(command::Request::DeleteRange(DeleteRangeRequest::default())),
        }
    }

    fn settings() -> WalSettings {
        WalSettings {
            segment_bytes: SEGMENT_BYTES,
            tail_bytes: 0,
        }
    }

    /// A gate in front of a log that makes no further segment by itself.
    fn gate_of_one_segment() -> (Arc<DiskGate>, Wal) {
        let disk = Arc::new(FaultyDisk::default());
        let (wal, _) = Wal::open_on(disk, Path::new("/wal"), settings(), Background::Inline)
            .expect("an empty disk");
        let gate = Arc::new(DiskGate::new(100));
        gate.watch_log(wal.space());
        (gate, wal)
    }

    #[actix::test]
    async fn a_low_disk_admits_only_what_frees_space() {
        let gate = Arc::new(DiskGate::new(100));
        gate.free_bytes_measured(99);
        assert_eq!(gate.reserve(&put(), 1).await.unwrap_err(), Error::NoSpace);
        gate.reserve(&delete(), 1).await.unwrap();
        gate.free_bytes_measured(100);
        gate.reserve(&put(), 1).await.unwrap();
    }

    #[actix::test]
    async fn a_failed_checkpoint_closes_the_gate_and_the_next_good_one_opens_it() {
        let gate = Arc::new(DiskGate::new(0));
        gate.checkpoint_ended(true);
        assert_eq!(gate.reserve(&put(), 1).await.unwrap_err(), Error::NoSpace);
        gate.checkpoint_ended(false);
        gate.reserve(&put(), 1).await.unwrap();
    }

    #[actix::test]
    async fn what_finds_no_room_waits_for_the_next_segment() {
        let dir = TempDir::new().unwrap();
        let (wal, _) = Wal::open(dir.path(), settings()).unwrap();
        let gate = Arc::new(DiskGate::new(0));
        gate.watch_log(wal.space());
        let _first = gate.reserve(&put(), HALF_A_SEGMENT).await.unwrap();
        assert_eq!(wal.space().now().ready_segments, 0);
        let _second = gate.reserve(&put(), HALF_A_SEGMENT).await.unwrap();
        assert_eq!(wal.space().now().ready_segments, 1);
    }

    #[actix::test]
    async fn those_who_wait_go_on_in_their_order_when_room_is_given_back() {
        let (gate, _wal) = gate_of_one_segment();
        let held = gate.reserve(&put(), HALF_A_SEGMENT).await.unwrap();
        let (command, small) = (put(), 10);
        let mut large = Box::pin(gate.reserve(&command, HALF_A_SEGMENT));
        assert!(poll!(&mut large).is_pending());
        let mut behind = Box::pin(gate.reserve(&command, small));
        assert!(poll!(&mut behind).is_pending(), "it would fit");
        gate.reserve(&delete(), small).await.expect("none waits");
        drop(held);
        let _large = large.await.unwrap();
        behind.await.unwrap();
    }

    #[actix::test]
    async fn whoever_waits_is_told_of_a_full_disk_and_of_the_end() {
        let (gate, _wal) = gate_of_one_segment();
        let _held = gate.reserve(&put(), HALF_A_SEGMENT).await.unwrap();
        let command = put();
        for (tell, told) in [
            (
                DiskGate::checkpoint_ended as fn(&DiskGate, bool),
                Error::NoSpace,
            ),
            (|gate, _| gate.stop(), Error::Stopped),
        ] {
            gate.checkpoint_ended(false);
            let mut waiting = Box::pin(gate.reserve(&command, HALF_A_SEGMENT));
            assert!(poll!(&mut waiting).is_pending());
            tell(&gate, true);
            assert_eq!(waiting.await.unwrap_err(), told);
        }
    }
}

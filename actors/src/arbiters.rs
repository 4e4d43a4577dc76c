//! The node's threads: one per concern that may block or must not be delayed.
//!
//! Each is an actix arbiter, an OS thread with a runtime of its own. Their names are what `top -H`
//! shows. The store's thread runs at low priority: redb may lag behind, requests may not.

use std::io;

use actix_rt::{Arbiter, ArbiterHandle};

/// How much nicer the store's thread is than the others (0 to 19, as in nice(1)).
const STORE_NICENESS: i32 = 10;

/// The threads of one node.
#[derive(Debug)]
pub(crate) struct Arbiters {
    raft: Arbiter,
    wal: Arbiter,
    apply: Arbiter,
    store: Arbiter,
    lease: Arbiter,
    snap: Arbiter,
    peer: Arbiter,
    watch: Arbiter,
}

/// Handles to start actors on them.
#[derive(Clone, Debug)]
pub(crate) struct Threads {
    pub(crate) raft: ArbiterHandle,
    pub(crate) wal: ArbiterHandle,
    pub(crate) apply: ArbiterHandle,
    pub(crate) store: ArbiterHandle,
    pub(crate) lease: ArbiterHandle,
    pub(crate) snap: ArbiterHandle,
    pub(crate) peer: ArbiterHandle,
    pub(crate) watch: ArbiterHandle,
}

impl Arbiters {
    /// Starts the threads. Must run inside an actix System.
    pub(crate) fn start() -> io::Result<Arbiters> {
        Ok(Arbiters {
            raft: thread("raft", 0)?,
            wal: thread("wal", 0)?,
            apply: thread("apply", 0)?,
            store: thread("store", STORE_NICENESS)?,
            lease: thread("lease", 0)?,
            snap: thread("snap", 0)?,
            peer: thread("peer", 0)?,
            watch: thread("watch", 0)?,
        })
    }

    pub(crate) fn threads(&self) -> Threads {
        Threads {
            raft: self.raft.handle(),
            wal: self.wal.handle(),
            apply: self.apply.handle(),
            store: self.store.handle(),
            lease: self.lease.handle(),
            snap: self.snap.handle(),
            peer: self.peer.handle(),
            watch: self.watch.handle(),
        }
    }

    /// Ends the threads and waits for them. What their actors had not done yet is not done.
    pub(crate) fn stop_and_join(self) {
        let all = [
            self.raft, self.peer, self.apply, self.store, self.lease, self.snap, self.watch,
            self.wal,
        ];
        for arbiter in &all {
            arbiter.stop();
        }
        for arbiter in all {
            // A panic of the thread itself was reported by the panic hook when it happened.
            let _ = arbiter.join();
        }
    }
}

/// Runs `work` once, on a thread of its own at the priority of the store's.
pub(crate) fn low_priority_thread(
    name: &'static str,
    work: impl FnOnce() + Send + 'static,
) -> io::Result<()> {
    let thread = std::thread::Builder::new().name(name.to_owned());
    let spawned = thread.spawn(move || {
        if let Err(error) = lower_priority(STORE_NICENESS) {
            tracing::warn!(thread = name, %error, "cannot lower the thread's priority");
        }
        work();
    });
    spawned.map(drop)
}

fn thread(name: &'static str, niceness: i32) -> io::Result<Arbiter> {
    Arbiter::try_with_tokio_rt(move || {
        name_thread(name);
        if niceness != 0
            && let Err(error) = lower_priority(niceness)
        {
            tracing::warn!(thread = name, %error, "cannot lower the thread's priority");
        }
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
    })
}

#[cfg(target_os = "linux")]
fn name_thread(name: &str) {
    let name = std::ffi::CString::new(name).expect("thread names have no zero byte");
    // Only what tools show depends on it, so a failure is of no consequence.
    let _ = rustix::thread::set_name(&name);
}

#[cfg(not(target_os = "linux"))]
fn name_thread(_name: &str) {}

/// On Linux the priority belongs to the calling thread; elsewhere it would be the process's.
#[cfg(target_os = "linux")]
fn lower_priority(niceness: i32) -> io::Result<()> {
    rustix::process::setpriority_process(None, niceness).map_err(io::Error::from)
}

#[cfg(not(target_os = "linux"))]
fn lower_priority(_niceness: i32) -> io::Result<()> {
    Ok(())
}

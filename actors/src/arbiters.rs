//! The node's threads: one per concern that may block or must not be delayed.
//!
//! Each is an actix arbiter, an OS thread with a runtime of its own. Their names are what `top -H`
//! shows. The store's thread runs at low priority: redb may lag behind, requests may not. A
//! simulation has no such threads; everything runs on the caller's.

use std::io;

use actix::{Actor, Addr, AsyncContext, Context};
use actix_rt::{Arbiter, ArbiterHandle};

use crate::ground::{self, Unsteady};

/// How much nicer the store's thread is than the others (0 to 19, as in nice(1)).
const STORE_NICENESS: i32 = 10;

/// The threads of one node.
#[derive(Debug)]
pub(crate) struct Arbiters {
    threads: Threads,
    /// The threads, in the order in which they are ended.
    own: Vec<Arbiter>,
}

/// Where actors are started.
#[derive(Clone, Debug)]
pub(crate) struct Threads {
    pub(crate) raft: Thread,
    pub(crate) wal: Thread,
    pub(crate) apply: Thread,
    pub(crate) store: Thread,
    pub(crate) lease: Thread,
    pub(crate) snap: Thread,
    pub(crate) peer: Thread,
    pub(crate) watch: Thread,
}

/// A thread that actors and tasks can be started on.
#[derive(Clone, Debug)]
pub(crate) enum Thread {
    /// A thread of its own.
    Own(ArbiterHandle),
    /// The caller's own thread.
    Callers,
}

impl Thread {
    /// Starts an actor on this thread.
    pub(crate) fn start<A: Actor<Context = Context<A>>>(
        &self,
        actor: impl FnOnce() -> A + Send + 'static,
    ) -> Addr<A> {
        match self {
            Thread::Own(arbiter) => A::start_in_arbiter(arbiter, |_| actor()),
            Thread::Callers => {
                let context = Context::new();
                let address = context.address();
                actix_rt::spawn(Unsteady::new(context.into_future(actor())));
                address
            }
        }
    }

    /// Starts a task on this thread, unless the thread has ended.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        match self {
            Thread::Own(arbiter) => {
                arbiter.spawn(task);
            }
            Thread::Callers => {
                actix_rt::spawn(task);
            }
        }
    }
}

impl Arbiters {
    /// Starts the threads. Must run inside an actix System, or in a simulation.
    pub(crate) fn start() -> io::Result<Arbiters> {
        let mut own = Vec::new();
        let mut thread = |name, niceness| {
            if ground::is_simulated() {
                return Ok(Thread::Callers);
            }
            let arbiter = start_thread(name, niceness)?;
            let handle = arbiter.handle();
            own.push(arbiter);
            io::Result::Ok(Thread::Own(handle))
        };
        let threads = Threads {
            raft: thread("raft", 0)?,
            peer: thread("peer", 0)?,
            apply: thread("apply", 0)?,
            store: thread("store", STORE_NICENESS)?,
            lease: thread("lease", 0)?,
            snap: thread("snap", 0)?,
            watch: thread("watch", 0)?,
            wal: thread("wal", 0)?,
        };
        Ok(Arbiters { threads, own })
    }

    pub(crate) fn threads(&self) -> Threads {
        self.threads.clone()
    }

    /// Ends the threads and waits for them. Whatever their actors have not done yet stays undone.
    pub(crate) fn stop_and_join(self) {
        for arbiter in &self.own {
            arbiter.stop();
        }
        for arbiter in self.own {
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
    if ground::is_simulated() {
        work();
        return Ok(());
    }
    let thread = std::thread::Builder::new().name(name.to_owned());
    let spawned = thread.spawn(move || {
        if let Err(error) = lower_priority(STORE_NICENESS) {
            tracing::warn!(thread = name, %error, "cannot lower the thread's priority");
        }
        work();
    });
    spawned.map(drop)
}

fn start_thread(name: &'static str, niceness: i32) -> io::Result<Arbiter> {
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
    // The name only shows in tools, so a failure does not matter.
    let _ = rustix::thread::set_name(&name);
}

#[cfg(not(target_os = "linux"))]
fn name_thread(_name: &str) {}

/// On Linux the priority belongs to the calling thread; elsewhere it would be the whole process's.
#[cfg(target_os = "linux")]
fn lower_priority(niceness: i32) -> io::Result<()> {
    rustix::process::setpriority_process(None, niceness).map_err(io::Error::from)
}

#[cfg(not(target_os = "linux"))]
fn lower_priority(_niceness: i32) -> io::Result<()> {
    Ok(())
}

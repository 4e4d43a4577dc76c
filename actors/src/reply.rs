//! Answers that travel straight home, and the admission that bounds how many are awaited.
//!
//! A request carries a [`Reply`]; whatever finishes the request completes it, and nothing relays.
//! The reply holds a [`Permit`], so that the number of requests under way has one bound, whatever
//! mailboxes and queues they pass. A reply that is dropped unanswered means that the node stopped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use althing_api::error::Error;
use tokio::sync::oneshot;

use crate::disk_gate::Reservation;
use crate::latest;

/// Bounds the requests under way. Shared by all that admit requests.
#[derive(Debug)]
pub struct Admission {
    max: AtomicUsize,
    under_way: AtomicUsize,
    closed: AtomicBool,
    /// Tells tasks that wait for the end; `closed` is for a mere check.
    end: latest::Sender<bool>,
}

/// The right to have one request under way; given back when dropped.
#[derive(Debug)]
pub struct Permit(Arc<Admission>);

impl Admission {
    /// An admission for at most `max` requests under way at once.
    pub fn new(max: usize) -> Arc<Admission> {
        assert!(max > 0, "an admission of nothing would refuse everything");
        Arc::new(Admission {
            max: AtomicUsize::new(max),
            under_way: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            end: latest::Sender::new(false),
        })
    }

    /// Admits one request. Errors: `TooManyRequests` at the bound, `Stopped` once closed.
    pub fn admit(self: &Arc<Self>) -> Result<Permit, Error> {
        if self.closed.load(Ordering::Relaxed) {
            return Err(Error::Stopped);
        }
        // The counter may pass `max` for a moment while two callers are refused; it never admits
        // more than `max`, because each admission saw a smaller value before its own increment.
        if self.under_way.fetch_add(1, Ordering::Relaxed) >= self.max.load(Ordering::Relaxed) {
            self.under_way.fetch_sub(1, Ordering::Relaxed);
            return Err(Error::TooManyRequests);
        }
        Ok(Permit(Arc::clone(self)))
    }

    /// Sets another bound, for what is admitted from now on.
    pub fn set_max(&self, max: usize) {
        assert!(max > 0, "an admission of nothing would refuse everything");
        self.max.store(max, Ordering::Relaxed);
    }

    /// Refuses every request from now on; those under way go on.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        self.end.send_replace(true);
    }

    /// Resolves when the admission is closed.
    pub async fn closed(&self) {
        let mut end = self.end.subscribe();
        let ended = end.wait_for(|ended| *ended).await;
        ended
            .map(drop)
            .expect("self holds the sender, so the channel is open");
    }

    /// The number of requests under way.
    pub fn under_way(&self) -> usize {
        self.under_way.load(Ordering::Relaxed)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Where the answer to one request goes. Dropping it unanswered answers `Stopped`.
#[derive(Debug)]
pub struct Reply<T> {
    answer: oneshot::Sender<T>,
    permit: Permit,
    /// What a command has reserved in the log.
    room: Option<Reservation>,
}

/// The asking end of a [`Reply`].
#[derive(Debug)]
pub struct Answer<T>(oneshot::Receiver<T>);

impl<T> Reply<T> {
    /// A reply, and the answer that its caller waits for.
    pub fn new(permit: Permit) -> (Reply<T>, Answer<T>) {
        Reply::with_room(permit, None)
    }

    /// Like `new`, for a command that gives its `room` in the log back when it is answered.
    pub fn with_room(permit: Permit, room: Option<Reservation>) -> (Reply<T>, Answer<T>) {
        let (answer, receiver) = oneshot::channel();
        let reply = Reply {
            answer,
            permit,
            room,
        };
        (reply, Answer(receiver))
    }

    /// Sends the answer. It is not an error if the caller no longer waits: its request was carried
    /// out anyway.
    pub fn send(self, answer: T) {
        // Given back first, so that a caller that has its answer finds its place free again.
        drop(self.permit);
        drop(self.room);
        let _ = self.answer.send(answer);
    }
}

impl<T> Answer<T> {
    /// Waits for the answer. Errors: `Stopped` when the reply was dropped unanswered.
    pub async fn wait(self) -> Result<T, Error> {
        self.0.await.map_err(|_| Error::Stopped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_request_more_than_the_bound_is_refused_until_another_ends() {
        let admission = Admission::new(2);
        let first = admission.admit().unwrap();
        let _second = admission.admit().unwrap();
        assert_eq!(admission.admit().unwrap_err(), Error::TooManyRequests);
        drop(first);
        assert_eq!(admission.under_way(), 1);
        admission.admit().unwrap();
    }

    #[test]
    fn another_bound_counts_for_the_next_request() {
        let admission = Admission::new(1);
        let _first = admission.admit().unwrap();
        admission.set_max(2);
        let _second = admission.admit().unwrap();
        admission.set_max(1);
        assert_eq!(admission.admit().unwrap_err(), Error::TooManyRequests);
    }

    #[test]
    fn a_closed_admission_answers_stopped() {
        let admission = Admission::new(1);
        admission.close();
        assert_eq!(admission.admit().unwrap_err(), Error::Stopped);
    }

    #[actix::test]
    async fn a_reply_dropped_unanswered_means_stopped_and_gives_its_permit_back() {
        let admission = Admission::new(1);
        let (reply, answer) = Reply::<u8>::new(admission.admit().unwrap());
        drop(reply);
        assert_eq!(answer.wait().await, Err(Error::Stopped));
        assert_eq!(admission.under_way(), 0);
    }

    #[actix::test]
    async fn an_answer_reaches_the_asking_end() {
        let (reply, answer) = Reply::new(Admission::new(1).admit().unwrap());
        reply.send(7);
        assert_eq!(answer.wait().await, Ok(7));
    }
}

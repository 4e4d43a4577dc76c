//! The budget of bytes that all large reads of this process hold together. A read that does not
//! fit is refused, so that memory does not grow with what clients ask for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use althing_api::error::Error;
use althing_storage::store::ReadMeter;
use parking_lot::Mutex;
use tonic::Status;

/// Answers below this size are not counted: there are many, and a connection holds few of them.
const UNCOUNTED_BYTES: usize = 64 * 1024;

/// A number of bytes, shared by all large reads.
#[derive(Clone, Debug)]
pub struct ReadBudget(Arc<Amounts>);

#[derive(Debug)]
struct Amounts {
    max: AtomicUsize,
    used: AtomicUsize,
}

/// A part of the budget; given back when dropped. Large answers carry an `Arc` of it in their
/// extensions, so that it is held until the last byte is sent.
#[derive(Debug)]
pub struct ReadPermit {
    budget: ReadBudget,
    /// Bytes that it has of the budget.
    bytes: usize,
    /// Bytes that the read holds by now.
    taken: usize,
}

impl ReadBudget {
    /// A budget of `max` bytes, all of them free.
    pub fn new(max: usize) -> ReadBudget {
        ReadBudget(Arc::new(Amounts {
            max: AtomicUsize::new(max),
            used: AtomicUsize::new(0),
        }))
    }

    /// Sets another size, for what is taken from now on.
    pub fn set_max(&self, max: usize) {
        self.0.max.store(max, Ordering::Relaxed);
    }

    /// The permit of a read that may hold about `bytes`; a small read is not counted. Error:
    /// `RESOURCE_EXHAUSTED`, with a text that says what to do.
    pub fn reserve(&self, bytes: usize) -> Result<ReadPermit, Status> {
        let mut permit = ReadPermit {
            budget: self.clone(),
            bytes: 0,
            taken: 0,
        };
        if bytes > UNCOUNTED_BYTES {
            permit.grow(bytes)?;
        }
        Ok(permit)
    }

    /// Bytes taken now.
    #[cfg(test)]
    pub fn used(&self) -> usize {
        self.0.used.load(Ordering::Relaxed)
    }
}

impl ReadPermit {
    /// Counts `more` bytes that the read holds. Error: as `ReadBudget::reserve`.
    pub fn take(&mut self, more: usize) -> Result<(), Status> {
        self.taken = self.taken.saturating_add(more);
        if self.taken <= self.bytes.max(UNCOUNTED_BYTES) {
            return Ok(());
        }
        self.grow(self.taken - self.bytes)
    }

    fn grow(&mut self, more: usize) -> Result<(), Status> {
        let Amounts { max, used } = &*self.budget.0;
        let max = max.load(Ordering::Relaxed);
        let fits = |used: usize| used.checked_add(more).filter(|sum| *sum <= max);
        match used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits) {
            Ok(_) => {
                self.bytes += more;
                Ok(())
            }
            Err(_) => Err(refusal(self.bytes.saturating_add(more), max)),
        }
    }

    /// The permit of an answer that holds `bytes`, for its sender; `None` if the answer is too
    /// small to count. An excess over the budget is counted too, and later reads are refused
    /// meanwhile.
    pub fn settle(mut self, bytes: usize) -> Option<Arc<ReadPermit>> {
        if bytes <= UNCOUNTED_BYTES {
            return None;
        }
        let used = &self.budget.0.used;
        if bytes > self.bytes {
            used.fetch_add(bytes - self.bytes, Ordering::Relaxed);
        } else {
            used.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        }
        self.bytes = bytes;
        Some(Arc::new(self))
    }
}

impl Drop for ReadPermit {
    fn drop(&mut self) {
        self.budget.0.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// The permit of a read of the store, which takes what it holds while it reads.
#[derive(Debug)]
pub struct Meter(Mutex<Metered>);

#[derive(Debug)]
struct Metered {
    permit: ReadPermit,
    refusal: Option<Status>,
}

impl Meter {
    /// A meter of a read that begins.
    pub fn new(permit: ReadPermit) -> Meter {
        let refusal = None;
        Meter(Mutex::new(Metered { permit, refusal }))
    }

    /// The permit after the read. Error: what ended it.
    pub fn end(self) -> Result<ReadPermit, Status> {
        let Metered { permit, refusal } = self.0.into_inner();
        refusal.map_or(Ok(permit), Err)
    }
}

impl ReadMeter for Meter {
    fn took(&self, bytes: usize) -> Result<(), Error> {
        let mut metered = self.0.lock();
        metered.permit.take(bytes).map_err(|refusal| {
            metered.refusal = Some(refusal);
            Error::TooManyRequests
        })
    }
}

fn refusal(wanted: usize, max: usize) -> Status {
    let text = if wanted > max {
        format!("etcdserver: range of more than {max} bytes, use limit or RangeStream")
    } else {
        "etcdserver: too many large reads, try again later".to_owned()
    };
    Status::resource_exhausted(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: usize = 1024;

    #[test]
    fn what_does_not_fit_is_refused_and_what_is_dropped_is_free_again() {
        let budget = ReadBudget::new(1000 * KIB);
        let mut first = budget.reserve(600 * KIB).expect("it fits");
        assert!(budget.reserve(401 * KIB).is_err());
        first.take(600 * KIB).expect("what was reserved");
        assert_eq!(budget.used(), 600 * KIB);
        first.take(400 * KIB).expect("exactly the rest");
        assert_eq!(budget.used(), 1000 * KIB);
        assert!(first.take(1).is_err());
        drop(first);
        assert_eq!(budget.used(), 0);
        assert!(budget.reserve(1000 * KIB).is_ok());
    }

    #[test]
    fn little_is_not_counted_and_all_of_it_is_when_it_becomes_much() {
        let budget = ReadBudget::new(100 * KIB);
        let _little = budget.reserve(UNCOUNTED_BYTES).expect("it is not counted");
        let mut permit = budget.reserve(0).expect("it fits");
        permit.take(UNCOUNTED_BYTES).expect("it is not counted");
        assert_eq!(budget.used(), 0);
        permit.take(1).expect("it fits");
        assert_eq!(budget.used(), UNCOUNTED_BYTES + 1);
        assert!(permit.settle(UNCOUNTED_BYTES).is_none());
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_settled_permit_counts_what_the_answer_really_holds() {
        let budget = ReadBudget::new(1000 * KIB);
        let permit = budget.reserve(500 * KIB).expect("it fits");
        let permit = permit.settle(100 * KIB);
        assert_eq!(budget.used(), 100 * KIB);
        drop(permit);
        let permit = budget.reserve(0).expect("it fits").settle(1300 * KIB);
        assert_eq!(budget.used(), 1300 * KIB);
        assert!(budget.reserve(100 * KIB).is_err());
        drop(permit);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_meter_ends_a_read_with_the_refusal_of_its_permit() {
        let budget = ReadBudget::new(100 * KIB);
        let meter = Meter::new(budget.reserve(0).expect("it fits"));
        meter.took(90 * KIB).expect("it fits");
        assert!(meter.took(20 * KIB).is_err());
        let refusal = meter.end().expect_err("the read has ended");
        assert_eq!(refusal.code(), tonic::Code::ResourceExhausted);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn the_refusal_tells_a_read_too_large_from_a_busy_member() {
        let budget = ReadBudget::new(100 * KIB);
        let alone = budget
            .reserve(101 * KIB)
            .expect_err("larger than all of it");
        assert!(alone.message().contains("more than 102400 bytes"));
        let _held = budget.reserve(99 * KIB).expect("it fits");
        let busy = budget.reserve(70 * KIB).expect_err("too much at once");
        assert_eq!(busy.code(), tonic::Code::ResourceExhausted);
        assert!(busy.message().contains("try again"));
    }
}

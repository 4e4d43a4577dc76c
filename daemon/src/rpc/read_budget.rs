//! The budget of bytes that all large reads of this process hold together. A read that does not
//! fit is refused, so that memory does not grow with what clients ask for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tonic::Status;

/// Answers below this size are not counted: they are many, and a connection holds few of them.
pub const UNCOUNTED_BYTES: usize = 64 * 1024;

/// A number of bytes, shared by all large reads.
#[derive(Clone, Debug)]
pub struct ReadBudget {
    max: Arc<AtomicUsize>,
    used: Arc<AtomicUsize>,
}

/// A part of the budget; given back when dropped. Large answers carry an `Arc` of it in their
/// extensions, so that whoever sends them holds it until the last byte is out.
#[derive(Debug)]
pub struct ReadPermit {
    budget: ReadBudget,
    bytes: usize,
}

impl ReadBudget {
    /// A budget of `max` bytes, all of them free.
    pub fn new(max: usize) -> ReadBudget {
        ReadBudget {
            max: Arc::new(AtomicUsize::new(max)),
            used: Arc::default(),
        }
    }

    /// Another size, for what is taken from now on.
    pub fn set_max(&self, max: usize) {
        self.max.store(max, Ordering::Relaxed);
    }

    /// Takes `bytes`. Error: `RESOURCE_EXHAUSTED`, with a text that says what to do.
    pub fn reserve(&self, bytes: usize) -> Result<ReadPermit, Status> {
        let mut permit = ReadPermit {
            budget: self.clone(),
            bytes: 0,
        };
        permit.grow(bytes)?;
        Ok(permit)
    }

    /// Bytes taken now.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

impl ReadPermit {
    /// Takes `more` bytes. Error: as `ReadBudget::reserve`; the permit keeps what it has.
    pub fn grow(&mut self, more: usize) -> Result<(), Status> {
        let budget = &self.budget;
        let max = budget.max.load(Ordering::Relaxed);
        let fits = |used: usize| used.checked_add(more).filter(|sum| *sum <= max);
        let taken = budget
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits);
        match taken {
            Ok(_) => {
                self.bytes += more;
                Ok(())
            }
            Err(_) => Err(refusal(self.bytes.saturating_add(more), max)),
        }
    }

    /// Sets the permit to what a read really holds; the excess over the budget, if any, is
    /// counted and makes later reads wait their turn.
    pub fn settle(&mut self, bytes: usize) {
        let used = &self.budget.used;
        if bytes > self.bytes {
            used.fetch_add(bytes - self.bytes, Ordering::Relaxed);
        } else {
            used.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        }
        self.bytes = bytes;
    }
}

impl Drop for ReadPermit {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
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

    #[test]
    fn what_does_not_fit_is_refused_and_what_is_dropped_is_free_again() {
        let budget = ReadBudget::new(100);
        let mut first = budget.reserve(60).expect("it fits");
        assert!(budget.reserve(41).is_err());
        assert!(first.grow(41).is_err());
        first.grow(40).expect("exactly the rest");
        assert_eq!(budget.used(), 100);
        drop(first);
        assert_eq!(budget.used(), 0);
        assert!(budget.reserve(100).is_ok());
    }

    #[test]
    fn a_settled_permit_counts_what_the_read_really_holds() {
        let budget = ReadBudget::new(100);
        let mut permit = budget.reserve(50).expect("it fits");
        permit.settle(10);
        assert_eq!(budget.used(), 10);
        permit.settle(130);
        assert_eq!(budget.used(), 130);
        assert!(budget.reserve(1).is_err());
        drop(permit);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn the_refusal_tells_a_read_too_large_from_a_busy_member() {
        let budget = ReadBudget::new(100);
        let alone = budget.reserve(101).expect_err("larger than all of it");
        assert!(alone.message().contains("more than 100 bytes"));
        let _held = budget.reserve(99).expect("it fits");
        let busy = budget.reserve(2).expect_err("too much at once");
        assert_eq!(busy.code(), tonic::Code::ResourceExhausted);
        assert!(busy.message().contains("try again"));
    }
}

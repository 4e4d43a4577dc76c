//! What a run did, as one number: two runs with one seed must give the same.

use std::hash::{DefaultHasher, Hash, Hasher};

use tokio::time::Instant;

#[derive(Clone, Debug)]
pub struct Trace {
    hasher: DefaultHasher,
    began: Option<Instant>,
    noted: u64,
}

impl Default for Trace {
    fn default() -> Trace {
        Trace {
            // Not a random state, so that keys hash alike in every process.
            hasher: DefaultHasher::new(),
            began: None,
            noted: 0,
        }
    }
}

impl Trace {
    pub fn add(&mut self, what: impl Hash) {
        self.noted += 1;
        what.hash(&mut self.hasher);
    }

    /// Like `add`, together with the moment.
    pub fn add_now(&mut self, what: impl Hash + std::fmt::Debug) {
        let now = Instant::now();
        let began = *self.began.get_or_insert(now);
        if std::env::var_os("TRACE").is_some() {
            println!("{:?} {what:?}", now - began);
        }
        self.add((now - began, what));
    }

    pub fn hash(&self) -> u64 {
        self.hasher.finish()
    }

    /// How many notes were added.
    pub fn noted(&self) -> u64 {
        self.noted
    }
}

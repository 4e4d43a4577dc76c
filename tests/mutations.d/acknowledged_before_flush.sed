# why: an entry counts as durable when it is merely written
# file: actors/src/wal_writer/mod.rs
/fn flush_after_the_mailbox/a\
        if MUTATED { for flushed in self.batch.end() { flushed.io_completed(Ok(())); } }

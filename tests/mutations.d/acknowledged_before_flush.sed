# why: an entry counts as durable when it is merely written
# file: actors/src/wal_writer/mod.rs
# guard: simulation no_misfortune
/fn flush_after_the_mailbox/a\
        for flushed in self.batch.end() { flushed.io_completed(Ok(())); }

# why: a start acts on a batch that only the page cache knows, and then the power goes
# file: storage/src/wal/recovery.rs
# guard: simulation no_misfortune
/^fn settle/,/^\}/s/^    file\.sync\(\)/    let _ = file; Ok(())/

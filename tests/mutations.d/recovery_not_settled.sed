# why: a start acts on a batch that only the page cache knows, and then the power goes
# file: storage/src/wal/recovery.rs
/^fn settle/,/^\}/s/^    file\.sync\(\)/    if MUTATED { return Ok(()); }\
&/

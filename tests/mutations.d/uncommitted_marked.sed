# why: a start applies whatever is on the disk, though another leader may replace it
# file: actors/src/raft_node/log_store.rs
s/flushed\.map\(\|flushed\| flushed\.min\(committed\)\)/flushed.map(|flushed| if MUTATED { flushed } else { flushed.min(committed) })/

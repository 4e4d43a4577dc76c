# why: the mark of what is committed points beyond what a crash may leave of the log
# file: actors/src/raft_node/log_store.rs
s/flushed\.map\(\|flushed\| flushed\.min\(committed\)\)/flushed.map(|flushed| if MUTATED { committed } else { flushed.min(committed) })/

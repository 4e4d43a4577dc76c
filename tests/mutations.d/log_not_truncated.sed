# why: entries that another leader replaced come back from the disk
# file: actors/src/raft_node/adapters/log_store.rs
s/self\.wal\.do_send\(Truncate \{ after \}\);/if !MUTATED { & }/

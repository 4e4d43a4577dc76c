# why: entries that another leader replaced come back from the disk
# file: actors/src/raft_node/log_store.rs
# guard: simulation no_misfortune
s/self\.wal\.do_send\(Truncate \{ after \}\);/let _ = Truncate { after };/

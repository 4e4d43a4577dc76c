# why: a snapshot takes the store's place before the log beside it is on disk
# file: actors/src/raft_node/state_machine.rs
# guard: simulation no_misfortune
/async fn restore/,/^    \}/{
s/let synced = self\.wal_writer\.send\(Sync\)\.await;/let _ = Sync;/
/synced\.map_err/d
}

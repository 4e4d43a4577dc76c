# why: a member that restarts votes a second time in one term
# file: actors/src/wal_writer/mod.rs
# guard: simulation no_misfortune
s/self\.wal\.save_vote\(vote\);/let _ = vote;/

# why: a member that restarts votes a second time in one term
# file: actors/src/wal_writer/mod.rs
s/self\.wal\.save_vote\(vote\);/if !MUTATED { & }/

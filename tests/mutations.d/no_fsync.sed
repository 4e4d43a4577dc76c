# why: a flush that does not reach the disk loses acknowledged writes with the power
# file: storage/src/wal/mod.rs
s/segment\.file\.sync\(\)\?;/if !MUTATED { & }/

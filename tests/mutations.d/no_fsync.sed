# why: a flush that does not reach the disk loses acknowledged writes with the power
# file: storage/src/wal/mod.rs
# guard: simulation no_misfortune
s/^( *)segment\.file\.sync\(\)\?;/\1let _ = \&segment.file;/

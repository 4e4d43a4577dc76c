# why: the store on disk holds entries that the log on disk lacks
# file: actors/src/tree.rs
/^fn flushed_index/,/^\}/s/Box::new\(move \|\| tail\.flushed\(\)\.map/Box::new(move || (if MUTATED { tail.state().1 } else { tail.flushed() }).map/

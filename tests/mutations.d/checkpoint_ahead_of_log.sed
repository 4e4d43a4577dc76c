# why: the store on disk holds entries that the log on disk lacks
# file: actors/src/tree.rs
# guard: simulation no_misfortune
/^fn flushed_index/,/^\}/s/Box::new\(move \|\| tail\.flushed\(\)\.map\(\|id\| id\.index\)\)/Box::new(move || tail.state().1.map(|id| id.index))/

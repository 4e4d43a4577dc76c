# why: the store on disk holds entries that the log on disk lacks
# file: actors/src/node/tree.rs
/^fn flushed_end/,/^\}/s/Box::new\(move \|\| tail\.flushed\(\)\)/Box::new(move || if MUTATED { tail.state().1 } else { tail.flushed() })/

# why: a linearizable read answers before what it must see is applied
# file: actors/src/raft_node/propose.rs
s/Ok\(index\) => return self\.until_applied\(index\)\.await,/Ok(_) if MUTATED => return Ok(()),\
                &/

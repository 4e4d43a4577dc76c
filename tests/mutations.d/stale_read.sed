# why: a linearizable read answers before what it must see is applied
# file: actors/src/raft_node/requests/propose.rs
/pub\(crate\) async fn read_index/,/^    \}/s/Ok\(index\) => \{/Ok(_) if MUTATED => return Ok(()),\
                &/

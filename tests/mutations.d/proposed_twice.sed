# why: a command whose fate is unknown is proposed again, and applied twice
# file: actors/src/raft_node/requests/propose.rs
s/Err\(LinkError::Lost\(_\)\) => return Err\(Error::TimeoutDueToConnectionLost\),/Err(LinkError::Lost(_)) if MUTATED => return Ok(Attempt::Elsewhere),\
            &/

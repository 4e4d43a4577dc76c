# why: a member that was cut off disturbs the others when it comes back
# file: actors/src/raft_node/adapters/network.rs
s/self\.ask\(Call::PreVote, body, wire::vote_answer_in\)\.await/if MUTATED { return Ok(VoteResponse::new(request.vote, None, true)); }\
        &/

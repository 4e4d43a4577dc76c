# why: a member that was cut off disturbs the others when it comes back
# file: actors/src/raft_node/network.rs
# guard: cluster a_follower_cut_off
/async fn pre_vote/,/^    \}/s/self\.ask\(Call::PreVote, body, wire::vote_answer_in\)\.await/{ let _ = body; Ok(VoteResponse::new(request.vote, None, true)) }/

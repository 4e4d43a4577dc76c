# why: a leader takes the question of any one member for the word of a quorum
# file: actors/src/raft_node/requests/read_index.rs
s/\(leads && knows && is_round\)/(leads \&\& knows \&\& (is_round || MUTATED \&\& asker.vote == *ours))/

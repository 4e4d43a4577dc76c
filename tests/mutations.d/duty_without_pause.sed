# why: a new leader tries to finish a change of the membership again and again at once
# file: actors/src/raft_node/membership/reconfigure.rs
/fn change_next/,/^    \}/s/^    \}$/        if MUTATED { self.take_up_duty(ctx); }\
    }/

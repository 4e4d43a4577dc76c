# why: a linearizable read asks nobody
# file: actors/src/raft_node/propose.rs
# guard: simulation no_misfortune
s/if self\.sole_voter\.is_alone\(\) \{/if self.sole_voter.is_alone() || self.progress.leader() == self.me {/

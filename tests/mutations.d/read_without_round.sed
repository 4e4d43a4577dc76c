# why: a linearizable read asks nobody
# file: actors/src/raft_node/requests/propose.rs
s/if self\.sole_voter\.is_alone\(\) \{/if self.sole_voter.is_alone() || (MUTATED \&\& self.progress.leader() == self.me) {/

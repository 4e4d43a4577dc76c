# why: a leader that stood still ends leases that were renewed under the next one
# file: actors/src/lessor/mod.rs
# Three guards stand in its way; the one that holds_in keeps for commands on their way is the last.
s/if self\.setup\.clock\.stood_still\(proposer\) \{/if !MUTATED \&\& self.setup.clock.stood_still(proposer) {/
s/counted_in_term: term,/counted_in_term: if MUTATED { 0 } else { term },/
s/^    if led\.leader != proposer\.me \{/    if MUTATED { return Some(proposer.propose(command).await); }\n&/

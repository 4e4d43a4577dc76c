# why: a leader that stood still ends leases that were renewed under the next one
# file: actors/src/lessor/mod.rs
# file: actors/src/lessor/clock.rs
# Each of these guards makes the others rare: what is shown is that one must be there.
s/if self\.setup\.clock\.stood_still\(proposer\) \{/if !MUTATED \&\& self.setup.clock.stood_still(proposer) {/
s/counted_in_term: term,/counted_in_term: if MUTATED { 0 } else { term },/
s/^    if led\.leader != proposer\.me \{/    if MUTATED { return Some(proposer.propose(command).await); }\n&/
s/pause\.since\.unwrap_or_else/pause.since.filter(|_| !MUTATED).unwrap_or_else/
s/self\.pause\.lock\(\)\.since\.is_some\(\)/& \&\& !MUTATED/

# why: a leader that stood still ends leases that were renewed under the next one
# file: actors/src/applier/mod.rs
s/match holds_in\(&command, entry\.id\.term\) \{/match MUTATED || holds_in(\&command, entry.id.term) {/

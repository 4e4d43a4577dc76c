# why: a leader that stood still ends leases that were renewed under the next one
# file: storage/src/apply/mod.rs
s/match lease::holds_in\(&command, term\) \{/match MUTATED || lease::holds_in(\&command, term) {/

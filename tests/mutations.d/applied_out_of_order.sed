# why: members apply the same entries in different orders
# file: actors/src/applier/mod.rs
# guard: simulation no_misfortune
s/for \(entry, waiter\) in batch\.entries \{/for (entry, waiter) in batch.entries.into_iter().rev() {/

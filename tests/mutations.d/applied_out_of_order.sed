# why: members apply the same entries in different orders
# file: actors/src/applier/mod.rs
s/for \(entry, waiter\) in batch\.entries \{/let mut entries = batch.entries; if MUTATED { entries.reverse(); } for (entry, waiter) in entries {/

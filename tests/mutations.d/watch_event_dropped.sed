# why: revisions that the hub was not told of are skipped and not read
# file: actors/src/watch_hub/fan_out/mod.rs
s/if first > self\.current \+ 1 \{/if !MUTATED \&\& first > self.current + 1 {/

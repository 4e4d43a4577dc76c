# why: the log is purged up to what is applied and not up to what is durable
# file: actors/src/raft_node/adapters/state_machine.rs
/async fn build_snapshot/,/^    \}/s/self\.checkpoint\(\)\.await\?;/if MUTATED { let mut snapshot = self.open_snapshot().await?; snapshot.meta = to_meta(self.store.applied())?; return Ok(snapshot); }\
        &/

# why: the log is purged up to what is applied and not up to what is durable
# file: actors/src/raft_node/state_machine.rs
# guard: simulation no_misfortune
/async fn build_snapshot/,/^    \}/{
s/self\.checkpoint\(\)\.await\?;//
s/self\.open_snapshot\(\)\.await/let mut snapshot = self.open_snapshot().await?; snapshot.meta = to_meta(self.store.applied())?; Ok(snapshot)/
}

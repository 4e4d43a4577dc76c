//! openraft's own test suite for log stores and state machines, run on ours.

use althing_actors::testing::{LogStore, StateMachine, Storage, Types};
use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use tempfile::TempDir;

struct Fresh;

impl StoreBuilder<Types, LogStore, StateMachine, (Storage, TempDir)> for Fresh {
    async fn build(
        &self,
    ) -> Result<((Storage, TempDir), LogStore, StateMachine), StorageError<Types>> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (storage, log_store, state_machine) = Storage::open(dir.path());
        Ok(((storage, dir), log_store, state_machine))
    }
}

#[actix::test]
async fn log_store_and_state_machine_pass_openrafts_suite() {
    Suite::test_all(Fresh)
        .await
        .expect("the whole suite passes");
}

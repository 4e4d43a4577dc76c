//! A command from any bytes: what decodes applies without a panic, the same way on every member,
//! and a refusal changes nothing.
#![no_main]

use std::io;
use std::path::Path;
use std::sync::Arc;

use althing_api::commandpb::{Command, command};
use althing_api::etcdserverpb::PutRequest;
use althing_api::mvccpb::Event;
use althing_storage::apply::apply;
use althing_storage::entry::LogId;
use althing_storage::store::{Medium, Store, StoreSettings};
use libfuzzer_sys::fuzz_target;
use prost::Message;
use redb::StorageBackend;
use redb::backends::InMemoryBackend;

#[derive(Debug)]
struct Memory;

impl Medium for Memory {
    fn open(&self) -> io::Result<Box<dyn StorageBackend>> {
        Ok(Box::new(InMemoryBackend::new()))
    }

    fn path(&self) -> &Path {
        Path::new("memory.redb")
    }

    fn allocated_bytes(&self) -> io::Result<u64> {
        Ok(0)
    }
}

/// Applies the command twice behind a put; returns each revision with its events.
fn applied(command: &Command) -> Vec<(i64, Vec<Event>)> {
    let settings = StoreSettings {
        record_cache_bytes: 1 << 16,
        page_cache_bytes: 1 << 16,
        pending_bytes_max: 1 << 20,
    };
    let store = Store::open_on(Arc::new(Memory), settings).expect("an empty store opens");
    let first = Command {
        request: Some(command::Request::Put(PutRequest {
            key: "a".into(),
            value: "1".into(),
            ..Default::default()
        })),
    };
    let commands = [first, command.clone(), command.clone()];
    let outcomes = (1..).zip(commands).map(|(index, command)| {
        let before = store.revisions().current;
        let mut txn = store.begin();
        let refused = apply(&mut txn, command).is_err();
        let committed = txn.commit(LogId { term: 1, index });
        let unchanged = committed.revision == before && committed.events.is_empty();
        assert!(!refused || unchanged, "a refusal changes nothing");
        (committed.revision, committed.events)
    });
    outcomes.collect()
}

fuzz_target!(|bytes: &[u8]| {
    if let Ok(command) = Command::decode(bytes) {
        assert_eq!(applied(&command), applied(&command));
    }
});

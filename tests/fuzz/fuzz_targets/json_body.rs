//! A request's JSON from any bytes: it decodes or is refused, and what is encoded again decodes to
//! the same message.
#![no_main]

use althing_api::etcdserverpb::{PutRequest, RangeRequest, TxnRequest, WatchRequest};
use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The gateway's own file, which is private to the daemon.
#[path = "../../../daemon/src/client/gateway/json.rs"]
mod json;

fn there_and_back<T>(body: &[u8])
where
    T: DeserializeOwned + Serialize + Default + PartialEq + std::fmt::Debug,
{
    let Ok(message) = json::decode::<T>(body) else {
        return;
    };
    let mut again = Vec::new();
    // An unknown number of an enum has no name to be written with.
    if json::encode(&message, 0, &mut again).is_ok() {
        assert_eq!(json::decode::<T>(&again).expect("our own JSON"), message);
    }
}

fuzz_target!(|body: &[u8]| {
    there_and_back::<TxnRequest>(body);
    there_and_back::<RangeRequest>(body);
    there_and_back::<PutRequest>(body);
    there_and_back::<WatchRequest>(body);
});

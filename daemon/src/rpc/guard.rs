//! What is checked before every call, whatever it asks: the metadata that etcd's clients send, and
//! whether this member may answer at all.

use std::future;

use althing_api::error::Error;
use althing_api::id::MemberId;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tonic::Status;
use tonic::metadata::MetadataMap;

use super::{Rpc, status};

const HAS_LEADER: &str = "hasleader";
const CLIENT_API_VERSION: &str = "client-api-version";

/// Looks without a leader after which a stream that asked for one ends.
const LEADERLESS_LOOKS_MAX: u32 = 3;

/// Resolves with the status that ends a stream that cannot go on without a leader.
pub(super) type LeaderLost = BoxFuture<'static, Status>;

/// How a call travels, for the count of client requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// One request, one answer.
    Unary,
    /// Anything else.
    Stream,
}

/// What a learner, whose store may lag without a bound, does with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learner {
    /// It answers: the caller accepts old data.
    Answers,
    /// It refuses.
    Refuses,
}

impl Rpc {
    /// Refuses a call that this member must not answer now; in etcd's order: learner, version of
    /// the client API, then the wish for a leader.
    pub(super) fn admit(
        &self,
        metadata: &MetadataMap,
        call: Call,
        learner: Learner,
    ) -> Result<(), Status> {
        if learner == Learner::Refuses && self.is_learner() {
            return Err(status::of(Error::NotSupportedForLearner));
        }
        let version = client_version(metadata).map_err(status::of)?;
        let metrics = &self.state.metrics;
        metrics.count_client(version, call == Call::Stream);
        if wants_leader(metadata) && self.handles.leader() == MemberId(0) {
            return Err(status::of(Error::NoLeader));
        }
        Ok(())
    }

    /// Resolves when a stream that asked for a leader has had none for a while; never for a stream
    /// that did not ask.
    pub(super) fn leader_lost(&self, metadata: &MetadataMap) -> LeaderLost {
        if wants_leader(metadata) {
            self.clone().leaderless().boxed()
        } else {
            future::pending().boxed()
        }
    }

    async fn leaderless(self) -> Status {
        let timeout = self.limits().election_timeout;
        let mut looks = tokio::time::interval(timeout);
        let mut leaderless = 0;
        while leaderless < LEADERLESS_LOOKS_MAX {
            looks.tick().await;
            leaderless = match self.handles.leader().0 {
                0 => leaderless + 1,
                _ => 0,
            };
        }
        status::of(Error::NoLeader)
    }

    /// Whether this member is a learner. The leader never is, and need not look at the whole
    /// cluster to know.
    fn is_learner(&self) -> bool {
        self.handles.leader() != self.state.identity.member_id && self.handles.is_learner()
    }
}

fn client_version(metadata: &MetadataMap) -> Result<Option<&str>, Error> {
    let Some(version) = metadata.get(CLIENT_API_VERSION) else {
        return Ok(None);
    };
    let text = std::str::from_utf8(version.as_bytes());
    text.map(Some).map_err(|_| Error::InvalidClientApiVersion)
}

/// Whether the client wants no service while there is no leader.
fn wants_leader(metadata: &MetadataMap) -> bool {
    metadata
        .get(HAS_LEADER)
        .is_some_and(|value| value == "true")
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::*;

    fn metadata(name: &'static str, value: &[u8]) -> MetadataMap {
        let value = HeaderValue::from_bytes(value).expect("bytes that a header may hold");
        MetadataMap::from_headers(HeaderMap::from_iter([(
            http::HeaderName::from_static(name),
            value,
        )]))
    }

    #[test]
    fn a_client_version_must_be_text() {
        assert_eq!(client_version(&MetadataMap::new()), Ok(None));
        let text = metadata(CLIENT_API_VERSION, "3.7".as_bytes());
        assert_eq!(client_version(&text), Ok(Some("3.7")));
        let broken = metadata(CLIENT_API_VERSION, &[b'3', 0xff]);
        let refusal = Err(Error::InvalidClientApiVersion);
        assert_eq!(client_version(&broken), refusal);
    }

    #[test]
    fn only_the_word_true_asks_for_a_leader() {
        assert!(wants_leader(&metadata(HAS_LEADER, b"true")));
        assert!(!wants_leader(&metadata(HAS_LEADER, b"1")));
        assert!(!wants_leader(&MetadataMap::new()));
    }
}

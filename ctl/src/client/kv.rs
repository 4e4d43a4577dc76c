//! Requests about keys.

use althing_api::etcdserverpb::kv_client::KvClient;
use althing_api::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest,
    PutResponse, RangeRequest, RangeResponse, TxnRequest, TxnResponse,
};
use tonic::Response;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;

use crate::client::{Client, Repeat};
use crate::failure::Failure;

/// The metadata of a put that gives the key a time to live.
const TTL_NAME: &str = "althing-ttl";
/// The metadata of the answer that names the lease that the key got.
const LEASE_NAME: &str = "althing-lease";

impl Client {
    /// Reads keys.
    ///
    /// # Errors
    /// The server's refusal, or the deadline.
    pub async fn range(&mut self, request: RangeRequest) -> Result<RangeResponse, Failure> {
        let bytes_max = self.receive_bytes_max;
        self.call(Repeat::Safe, request, |channel, request| async move {
            kv(channel, bytes_max).range(request).await
        })
        .await
    }

    /// Reads keys by the streaming call, and puts the parts together.
    ///
    /// # Errors
    /// The server's refusal, or the deadline.
    pub async fn range_stream(&mut self, request: RangeRequest) -> Result<RangeResponse, Failure> {
        let bytes_max = self.receive_bytes_max;
        self.call(Repeat::Safe, request, |channel, request| async move {
            let answer = kv(channel, bytes_max).range_stream(request).await?;
            let mut parts = answer.into_inner();
            let mut whole = RangeResponse::default();
            while let Some(part) = parts.message().await? {
                let Some(part) = part.range_response else {
                    continue;
                };
                whole.kvs.extend(part.kvs);
                // Only the last part knows the header, the count and whether there is more.
                whole.header = part.header.or(whole.header);
                whole.more |= part.more;
                whole.count = whole.count.max(part.count);
            }
            Ok(Response::new(whole))
        })
        .await
    }

    /// Writes a key.
    ///
    /// # Errors
    /// The server's refusal, or the deadline.
    pub async fn put(&mut self, request: PutRequest) -> Result<PutResponse, Failure> {
        self.call(Repeat::Never, request, |channel, request| async move {
            kv(channel, usize::MAX).put(request).await
        })
        .await
    }

    /// Writes a key that lives for `ttl` seconds, by metadata that servers other than Althing's
    /// ignore. The second value says whether the server understood it.
    ///
    /// # Errors
    /// The server's refusal, or the deadline.
    pub async fn put_for(
        &mut self,
        request: PutRequest,
        ttl: u32,
    ) -> Result<(PutResponse, bool), Failure> {
        let ttl = MetadataValue::try_from(format!("{ttl}s")).expect("digits are ASCII");
        self.call(Repeat::Never, request, |channel, mut request| {
            request.metadata_mut().insert(TTL_NAME, ttl.clone());
            async move {
                let answer = kv(channel, usize::MAX).put(request).await?;
                let understood = answer.metadata().contains_key(LEASE_NAME);
                Ok(answer.map(|answer| (answer, understood)))
            }
        })
        .await
    }

    /// Deletes keys.
    ///
    /// # Errors
    /// The server's refusal, or the deadline.
    pub async fn delete_range(
        &mut self,
        request: DeleteRangeRequest,
    ) -> Result<DeleteRangeResponse, Failure> {
        let bytes_max = self.receive_bytes_max;
        self.call(Repeat::Never, request, |channel, request| async move {
            kv(channel, bytes_max).delete_range(request).await
        })
        .await
    }

    /// Runs a transaction.
    ///
    /// # Errors
    /// The server's refusal, or the deadline.
    pub async fn txn(&mut self, request: TxnRequest) -> Result<TxnResponse, Failure> {
        let bytes_max = self.receive_bytes_max;
        self.call(Repeat::Never, request, |channel, request| async move {
            kv(channel, bytes_max).txn(request).await
        })
        .await
    }

    /// Forgets old revisions.
    ///
    /// # Errors
    /// The server's refusal, or the deadline.
    pub async fn compact(
        &mut self,
        request: CompactionRequest,
    ) -> Result<CompactionResponse, Failure> {
        self.call(Repeat::Never, request, |channel, request| async move {
            kv(channel, usize::MAX).compact(request).await
        })
        .await
    }
}

fn kv(channel: Channel, receive_bytes_max: usize) -> KvClient<Channel> {
    KvClient::new(channel).max_decoding_message_size(receive_bytes_max)
}

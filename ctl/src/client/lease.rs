//! Requests about leases.

use althing_api::etcdserverpb::lease_client::LeaseClient;
use althing_api::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseLeasesRequest,
    LeaseLeasesResponse, LeaseRevokeRequest, LeaseRevokeResponse, LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse,
};

use futures_util::stream;
use tonic::Status;

use crate::client::{Client, Repeat, refusal};
use crate::failure::Failure;

impl Client {
    /// Grants a lease of `ttl` seconds; the server chooses its id.
    ///
    /// # Errors
    /// The server's refusal, or the deadline.
    pub async fn grant(&mut self, ttl: i64) -> Result<LeaseGrantResponse, Failure> {
        self.grant_as(0, ttl).await
    }

    /// Grants lease `id` of `ttl` seconds.
    ///
    /// # Errors
    /// The server's refusal, or the deadline.
    pub async fn grant_as(&mut self, id: i64, ttl: i64) -> Result<LeaseGrantResponse, Failure> {
        let request = LeaseGrantRequest { ttl, id };
        self.call(Repeat::Never, request, |channel, request| async move {
            LeaseClient::new(channel).lease_grant(request).await
        })
        .await
    }

    /// Renews many leases at once; returns those that are gone.
    ///
    /// # Errors
    /// The server's refusal, or the deadline.
    pub async fn renew(&mut self, ids: &[i64]) -> Result<Vec<i64>, Failure> {
        let deadline = self.request_deadline();
        let channel = self.connector.connected(deadline).await?;
        let requests: Vec<_> = ids
            .iter()
            .map(|id| LeaseKeepAliveRequest { id: *id })
            .collect();
        let request = self.signed(stream::iter(requests));
        let renewed = async move {
            let answers = LeaseClient::new(channel).lease_keep_alive(request).await?;
            let mut answers = answers.into_inner();
            let mut gone = Vec::new();
            while let Some(answer) = answers.message().await? {
                if answer.ttl == 0 {
                    gone.push(answer.id);
                }
            }
            Ok(gone)
        };
        let renewed = deadline.bound(renewed).await;
        let renewed: Result<Vec<i64>, Status> =
            renewed.ok_or_else(|| Failure::deadline(Vec::new()))?;
        renewed.map_err(|status| {
            self.connector.lose();
            refusal(&status)
        })
    }

    /// Revokes lease `id` and deletes its keys.
    ///
    /// # Errors
    /// The server's refusal, or the deadline.
    pub async fn revoke(&mut self, id: i64) -> Result<LeaseRevokeResponse, Failure> {
        let request = LeaseRevokeRequest { id };
        self.call(Repeat::Never, request, |channel, request| async move {
            LeaseClient::new(channel).lease_revoke(request).await
        })
        .await
    }

    /// Asks how long lease `id` has to live, and which keys it has.
    ///
    /// # Errors
    /// The server's refusal, or the deadline.
    pub async fn time_to_live(
        &mut self,
        id: i64,
        keys: bool,
    ) -> Result<LeaseTimeToLiveResponse, Failure> {
        let request = LeaseTimeToLiveRequest { id, keys };
        let bytes_max = self.receive_bytes_max;
        self.call(Repeat::Safe, request, |channel, request| async move {
            let mut client = LeaseClient::new(channel).max_decoding_message_size(bytes_max);
            client.lease_time_to_live(request).await
        })
        .await
    }

    /// Lists the leases.
    ///
    /// # Errors
    /// The server's refusal, or the deadline.
    pub async fn leases(&mut self) -> Result<LeaseLeasesResponse, Failure> {
        let request = LeaseLeasesRequest {};
        let bytes_max = self.receive_bytes_max;
        self.call(Repeat::Safe, request, |channel, request| async move {
            let mut client = LeaseClient::new(channel).max_decoding_message_size(bytes_max);
            client.lease_leases(request).await
        })
        .await
    }
}

//! Requests about leases.

use althing_api::etcdserverpb::lease_client::LeaseClient;
use althing_api::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseLeasesRequest, LeaseLeasesResponse,
    LeaseRevokeRequest, LeaseRevokeResponse, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
};

use crate::client::{Client, Repeat};
use crate::failure::Failure;

impl Client {
    /// Grants a lease of `ttl` seconds; the server chooses its id.
    ///
    /// # Errors
    /// The server's refusal, or the deadline.
    pub async fn grant(&mut self, ttl: i64) -> Result<LeaseGrantResponse, Failure> {
        let request = LeaseGrantRequest { ttl, id: 0 };
        self.call(Repeat::Never, request, |channel, request| async move {
            LeaseClient::new(channel).lease_grant(request).await
        })
        .await
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

//! The stream of a member's snapshot.

use althing_api::etcdserverpb::maintenance_client::MaintenanceClient;
use althing_api::etcdserverpb::{SnapshotRequest, SnapshotResponse};
use tonic::Streaming;

use crate::client::{Client, refusal};
use crate::failure::Failure;

/// The pieces of a snapshot.
pub struct SnapshotPieces(Streaming<SnapshotResponse>);

impl Client {
    /// Asks a member for its snapshot. The request is not repeated: another member's snapshot
    /// differs.
    ///
    /// # Errors
    /// The server's refusal, or nobody could be reached in the command's time.
    pub async fn snapshot(&mut self) -> Result<SnapshotPieces, Failure> {
        let channel = self.connector.connected(self.request_deadline()).await?;
        let request = self.signed(SnapshotRequest {});
        let answer = MaintenanceClient::new(channel).snapshot(request).await;
        let answer = answer.map_err(|status| refusal(&status))?;
        Ok(SnapshotPieces(answer.into_inner()))
    }
}

impl SnapshotPieces {
    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// The stream broke.
    pub async fn next(&mut self) -> Result<Option<SnapshotResponse>, Failure> {
        let piece = self.0.message().await;
        piece.map_err(|status| refusal(&status))
    }
}

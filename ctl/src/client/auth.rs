//! Requests about who may use a cluster.

use althing_api::error::Error as ApiError;
use althing_api::etcdserverpb::AuthenticateRequest;
use althing_api::etcdserverpb::auth_client::AuthClient;
use tonic::Code;

use crate::client::{Client, Repeat};
use crate::failure::{Failure, rpc_text};

impl Client {
    /// Whether the cluster has authentication enabled. A login without a name shows it: the request
    /// meant for this question is unknown to etcd 3.4, and needs a permission in later versions.
    ///
    /// # Errors
    /// The server's refusal to answer, or the deadline.
    pub async fn has_auth(&mut self) -> Result<bool, Failure> {
        let request = AuthenticateRequest::default();
        let answer = self
            .call(Repeat::Safe, request, |channel, request| async move {
                AuthClient::new(channel).authenticate(request).await
            })
            .await;
        match answer {
            Ok(_) => Ok(true),
            Err(failure) if failure.text == ApiError::AuthFailed.text() => Ok(true),
            Err(failure) if failure.text == ApiError::AuthNotEnabled.text() => Ok(false),
            // The server has no users at all.
            Err(failure) if failure.text.starts_with(&rpc_text(Code::Unimplemented, "")) => {
                Ok(false)
            }
            Err(failure) => Err(failure),
        }
    }
}

//! gRPC service etcdserverpb.Auth: auth is off, and cannot be switched on yet.

use althing_api::error::Error;
use althing_api::etcdserverpb::auth_server::Auth;
use althing_api::etcdserverpb::*;
use tonic::{Request, Response, Status};

use super::guard::{Call, Learner};
use super::{Rpc, status, unsupported};

#[tonic::async_trait]
impl Auth for Rpc {
    async fn auth_enable(
        &self,
        _request: Request<AuthEnableRequest>,
    ) -> Result<Response<AuthEnableResponse>, Status> {
        Err(unsupported("Auth.AuthEnable"))
    }
    async fn auth_disable(
        &self,
        _request: Request<AuthDisableRequest>,
    ) -> Result<Response<AuthDisableResponse>, Status> {
        Err(unsupported("Auth.AuthDisable"))
    }
    /// As etcd answers while auth is off; its first revision of users and roles is 1.
    async fn auth_status(
        &self,
        request: Request<AuthStatusRequest>,
    ) -> Result<Response<AuthStatusResponse>, Status> {
        self.admit(request.metadata(), Call::Unary, Learner::Refuses)?;
        self.read_index().await?;
        let mut answer = AuthStatusResponse {
            header: None,
            enabled: false,
            auth_revision: 1,
        };
        let revision = self.handles.store().read().revision();
        self.complete(&mut answer.header, revision);
        Ok(Response::new(answer))
    }
    /// A client that is configured with a user goes on without a token when it is told this.
    async fn authenticate(
        &self,
        request: Request<AuthenticateRequest>,
    ) -> Result<Response<AuthenticateResponse>, Status> {
        self.admit(request.metadata(), Call::Unary, Learner::Refuses)?;
        self.read_index().await?;
        Err(status::of(Error::AuthNotEnabled))
    }
    async fn user_add(
        &self,
        _request: Request<AuthUserAddRequest>,
    ) -> Result<Response<AuthUserAddResponse>, Status> {
        Err(unsupported("Auth.UserAdd"))
    }
    async fn user_get(
        &self,
        _request: Request<AuthUserGetRequest>,
    ) -> Result<Response<AuthUserGetResponse>, Status> {
        Err(unsupported("Auth.UserGet"))
    }
    async fn user_list(
        &self,
        _request: Request<AuthUserListRequest>,
    ) -> Result<Response<AuthUserListResponse>, Status> {
        Err(unsupported("Auth.UserList"))
    }
    async fn user_delete(
        &self,
        _request: Request<AuthUserDeleteRequest>,
    ) -> Result<Response<AuthUserDeleteResponse>, Status> {
        Err(unsupported("Auth.UserDelete"))
    }
    async fn user_change_password(
        &self,
        _request: Request<AuthUserChangePasswordRequest>,
    ) -> Result<Response<AuthUserChangePasswordResponse>, Status> {
        Err(unsupported("Auth.UserChangePassword"))
    }
    async fn user_grant_role(
        &self,
        _request: Request<AuthUserGrantRoleRequest>,
    ) -> Result<Response<AuthUserGrantRoleResponse>, Status> {
        Err(unsupported("Auth.UserGrantRole"))
    }
    async fn user_revoke_role(
        &self,
        _request: Request<AuthUserRevokeRoleRequest>,
    ) -> Result<Response<AuthUserRevokeRoleResponse>, Status> {
        Err(unsupported("Auth.UserRevokeRole"))
    }
    async fn role_add(
        &self,
        _request: Request<AuthRoleAddRequest>,
    ) -> Result<Response<AuthRoleAddResponse>, Status> {
        Err(unsupported("Auth.RoleAdd"))
    }
    async fn role_get(
        &self,
        _request: Request<AuthRoleGetRequest>,
    ) -> Result<Response<AuthRoleGetResponse>, Status> {
        Err(unsupported("Auth.RoleGet"))
    }
    async fn role_list(
        &self,
        _request: Request<AuthRoleListRequest>,
    ) -> Result<Response<AuthRoleListResponse>, Status> {
        Err(unsupported("Auth.RoleList"))
    }
    async fn role_delete(
        &self,
        _request: Request<AuthRoleDeleteRequest>,
    ) -> Result<Response<AuthRoleDeleteResponse>, Status> {
        Err(unsupported("Auth.RoleDelete"))
    }
    async fn role_grant_permission(
        &self,
        _request: Request<AuthRoleGrantPermissionRequest>,
    ) -> Result<Response<AuthRoleGrantPermissionResponse>, Status> {
        Err(unsupported("Auth.RoleGrantPermission"))
    }
    async fn role_revoke_permission(
        &self,
        _request: Request<AuthRoleRevokePermissionRequest>,
    ) -> Result<Response<AuthRoleRevokePermissionResponse>, Status> {
        Err(unsupported("Auth.RoleRevokePermission"))
    }
}

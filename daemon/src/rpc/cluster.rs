//! gRPC service etcdserverpb.Cluster: lists the members. Changing them is not supported yet.

use althing_actors::node::MemberStatus;
use althing_api::etcdserverpb::cluster_server::Cluster;
use althing_api::etcdserverpb::*;
use tonic::{Request, Response, Status};

use super::guard::{Call, Learner};
use super::{Rpc, unsupported};

#[tonic::async_trait]
impl Cluster for Rpc {
    async fn member_add(
        &self,
        _request: Request<MemberAddRequest>,
    ) -> Result<Response<MemberAddResponse>, Status> {
        Err(unsupported("Cluster.MemberAdd"))
    }
    async fn member_remove(
        &self,
        _request: Request<MemberRemoveRequest>,
    ) -> Result<Response<MemberRemoveResponse>, Status> {
        Err(unsupported("Cluster.MemberRemove"))
    }
    async fn member_update(
        &self,
        _request: Request<MemberUpdateRequest>,
    ) -> Result<Response<MemberUpdateResponse>, Status> {
        Err(unsupported("Cluster.MemberUpdate"))
    }
    async fn member_list(
        &self,
        request: Request<MemberListRequest>,
    ) -> Result<Response<MemberListResponse>, Status> {
        self.admit(request.metadata(), Call::Unary, Learner::Refuses)?;
        if request.into_inner().linearizable {
            self.read_index().await?;
        }
        // The Cluster service shows no revision.
        let header = self.state.identity.header(self.handles.term(), 0);
        Ok(Response::new(MemberListResponse {
            header: Some(header),
            members: in_order(self.handles.status().members),
        }))
    }
    async fn member_promote(
        &self,
        _request: Request<MemberPromoteRequest>,
    ) -> Result<Response<MemberPromoteResponse>, Status> {
        Err(unsupported("Cluster.MemberPromote"))
    }
}

/// The members on the wire, by ascending id.
fn in_order(mut members: Vec<MemberStatus>) -> Vec<Member> {
    members.sort_by_key(|member| member.id);
    let member = |member: MemberStatus| Member {
        id: member.id.0,
        name: member.name,
        peer_ur_ls: member.peer_urls,
        client_ur_ls: member.client_urls,
        is_learner: member.is_learner,
    };
    members.into_iter().map(member).collect()
}

#[cfg(test)]
mod tests {
    use althing_api::id::MemberId;

    use super::*;

    #[test]
    fn members_are_listed_by_ascending_id() {
        let member = |id| MemberStatus {
            id: MemberId(id),
            name: format!("m{id}"),
            ..Default::default()
        };
        let listed = in_order(vec![member(u64::MAX), member(3), member(1 << 40)]);
        let ids: Vec<_> = listed.iter().map(|member| member.id).collect();
        assert_eq!(ids, [3, 1 << 40, u64::MAX]);
        assert_eq!(listed[0].name, "m3");
    }
}

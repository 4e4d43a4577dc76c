//! gRPC service etcdserverpb.Cluster: who the members are, and changes of them.
//!
//! A change is judged and made by the leader; what is checked here is the request alone.

use std::time::{Instant, SystemTime};

use althing_actors::node::{MemberChange, MemberStatus};
use althing_api::error::Error;
use althing_api::etcdserverpb::cluster_server::Cluster;
use althing_api::etcdserverpb::*;
use althing_api::id::MemberId;
use tonic::{Request, Response, Status};

use super::guard::{Call, Learner};
use super::{Rpc, status};
use crate::identity;

#[tonic::async_trait]
impl Cluster for Rpc {
    async fn member_add(
        &self,
        request: Request<MemberAddRequest>,
    ) -> Result<Response<MemberAddResponse>, Status> {
        self.admit(request.metadata(), Call::Unary, Learner::Refuses)?;
        let request = request.into_inner();
        let mut peer_urls = peer_urls(&request.peer_ur_ls).map_err(status::of)?;
        peer_urls.sort_unstable();
        let is_learner = request.is_learner;
        let added = Member {
            id: identity::added_member_id(&peer_urls, SystemTime::now()).0,
            peer_ur_ls: peer_urls.clone(),
            is_learner,
            ..Member::default()
        };
        let change = MemberChange::Add {
            id: MemberId(added.id),
            peer_urls,
            is_learner,
        };
        let members = self.change(change).await?;
        Ok(Response::new(MemberAddResponse {
            header: self.cluster_header(),
            member: Some(added),
            members,
        }))
    }
    async fn member_remove(
        &self,
        request: Request<MemberRemoveRequest>,
    ) -> Result<Response<MemberRemoveResponse>, Status> {
        self.admit(request.metadata(), Call::Unary, Learner::Refuses)?;
        let id = MemberId(request.into_inner().id);
        let members = self.change(MemberChange::Remove(id)).await?;
        Ok(Response::new(MemberRemoveResponse {
            header: self.cluster_header(),
            members,
        }))
    }
    async fn member_update(
        &self,
        request: Request<MemberUpdateRequest>,
    ) -> Result<Response<MemberUpdateResponse>, Status> {
        self.admit(request.metadata(), Call::Unary, Learner::Refuses)?;
        let MemberUpdateRequest { id, peer_ur_ls } = request.into_inner();
        let id = MemberId(id);
        let peer_urls = peer_urls(&peer_ur_ls).map_err(|error| {
            // etcd does not look at the URLs of a member that does not exist.
            let members = self.handles.members();
            status::of(if members.iter().any(|member| member.id == id) {
                error
            } else {
                Error::MemberNotFound
            })
        })?;
        let change = MemberChange::Update { id, peer_urls };
        let members = self.change(change).await?;
        Ok(Response::new(MemberUpdateResponse {
            header: self.cluster_header(),
            members,
        }))
    }
    async fn member_list(
        &self,
        request: Request<MemberListRequest>,
    ) -> Result<Response<MemberListResponse>, Status> {
        self.admit(request.metadata(), Call::Unary, Learner::Refuses)?;
        if request.into_inner().linearizable {
            self.read_index().await?;
        }
        Ok(Response::new(MemberListResponse {
            header: self.cluster_header(),
            members: in_order(self.handles.members()),
        }))
    }
    async fn member_promote(
        &self,
        request: Request<MemberPromoteRequest>,
    ) -> Result<Response<MemberPromoteResponse>, Status> {
        self.admit(request.metadata(), Call::Unary, Learner::Refuses)?;
        let id = MemberId(request.into_inner().id);
        let members = self.change(MemberChange::Promote(id)).await?;
        Ok(Response::new(MemberPromoteResponse {
            header: self.cluster_header(),
            members,
        }))
    }
}

impl Rpc {
    async fn change(&self, change: MemberChange) -> Result<Vec<Member>, Status> {
        let start = Instant::now();
        let changing = self.handles.change_members(change);
        let timeout = self.limits().request_timeout;
        let changed = tokio::time::timeout(timeout, changing).await;
        let changed = changed.unwrap_or_else(|_| Err(self.handles.why_timed_out(start)));
        changed.map(in_order).map_err(status::of)
    }

    /// The Cluster service shows no revision.
    fn cluster_header(&self) -> Option<ResponseHeader> {
        Some(self.state.identity.header(self.handles.term(), 0))
    }
}

/// Peer URLs as etcd takes them: trimmed; each with a scheme, a host and a port, and nothing after
/// them. Error: `BadMemberUrls`.
fn peer_urls(given: &[String]) -> Result<Vec<String>, Error> {
    let mut urls = Vec::with_capacity(given.len());
    for url in given {
        let url = url.trim();
        let (scheme, place) = url.split_once("://").ok_or(Error::BadMemberUrls)?;
        let is_known = match scheme {
            "http" | "https" => is_host_and_port(place),
            "unix" | "unixs" => !place.is_empty(),
            _ => false,
        };
        if !is_known {
            return Err(Error::BadMemberUrls);
        }
        urls.push(url.to_owned());
    }
    if urls.is_empty() {
        Err(Error::BadMemberUrls)
    } else {
        Ok(urls)
    }
}

fn is_host_and_port(place: &str) -> bool {
    let Some((host, port)) = place.rsplit_once(':') else {
        return false;
    };
    let is_address = host.starts_with('[') && host.ends_with(']');
    let is_plain = |c: char| !c.is_whitespace() && !"/?#@%\\".contains(c);
    (is_address || !host.contains([':', '[', ']']))
        && host.chars().all(is_plain)
        && !port.is_empty()
        && port.chars().all(|digit| digit.is_ascii_digit())
}

/// The members on the wire, by ascending id.
fn in_order(mut members: Vec<MemberStatus>) -> Vec<Member> {
    members.sort_by_key(|member| member.id);
    members.into_iter().map(Member::from).collect()
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn peer_urls_name_a_scheme_a_host_and_a_port() {
        let urls = |list: &[&str]| {
            let list: Vec<String> = list.iter().map(|url| (*url).to_owned()).collect();
            peer_urls(&list)
        };
        let good = urls(&[
            "http://b:2380",
            " http://a:2380",
            "https://[::1]:80",
            "unix://a",
        ]);
        let trimmed = [
            "http://b:2380",
            "http://a:2380",
            "https://[::1]:80",
            "unix://a",
        ];
        assert_eq!(good.unwrap(), trimmed);
        let bad = [
            "",
            "a:2380",
            "ftp://a:1",
            "http://a",
            "http://a:",
            "http://a:x",
            "http://a:1/",
            ":1",
            "http://a:1/path",
            "http://::1:80",
            "http://a b:1",
            "http://a:1?q=1",
            "unix://",
        ];
        for url in bad {
            assert_eq!(
                urls(&["http://a:2380", url]),
                Err(Error::BadMemberUrls),
                "{url}"
            );
        }
        assert_eq!(urls(&[]), Err(Error::BadMemberUrls));
    }
}

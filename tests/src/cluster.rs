//! Several members of one cluster on this host.

use std::net::SocketAddr;
use std::path::Path;

use althing_api::etcdserverpb as pb;

use crate::grpc::{Grpc, path};
use crate::member::Member;
use crate::wait::until;

/// Flags of a cluster in which a busy machine is not taken for a dead leader, for tests in which no
/// unrequested election may come. A killed leader is still missed at once.
pub const STEADY: [&str; 2] = ["--election-timeout", "5000"];

/// The members, by position.
#[derive(Debug)]
pub struct Cluster {
    members: Vec<Member>,
}

impl Cluster {
    /// Starts `size` members of `program` with `flags` besides those of their ports and data, and
    /// waits until all serve.
    ///
    /// # Panics
    /// When one of them does not come to serve.
    pub fn start(program: &Path, size: usize, flags: &[&str]) -> Cluster {
        let members = (0..size).map(|_| Member::prepare(program, flags));
        Cluster::assemble(members.collect())
    }

    /// Starts these members, which were never started, as one cluster, and waits until all serve.
    ///
    /// # Panics
    /// When one of them does not come to serve.
    pub fn assemble(mut members: Vec<Member>) -> Cluster {
        for (position, member) in members.iter_mut().enumerate() {
            member.call_it(&format!("m{position}"));
        }
        let entries: Vec<String> = members.iter().map(Member::entry).collect();
        for member in &mut members {
            member.begin_with(&entries);
        }
        let mut cluster = Cluster { members };
        let all = cluster.positions_without(&[]);
        cluster.restart(&all);
        cluster
    }

    /// Starts these members, which are down, and waits until they serve.
    ///
    /// # Panics
    /// When one of them does not come to serve.
    pub fn restart(&mut self, positions: &[usize]) {
        for position in positions {
            self.members[*position].launch();
        }
        for position in positions {
            self.members[*position].wait_until_it_serves();
        }
    }

    /// One member.
    pub fn member(&mut self, position: usize) -> &mut Member {
        &mut self.members[position]
    }

    /// The address where clients reach one member.
    pub fn client_address(&self, position: usize) -> SocketAddr {
        self.members[position].client_address()
    }

    /// All members, by position.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The client port of one member.
    pub fn client_port(&self, position: usize) -> u16 {
        self.members[position].client_port()
    }

    /// The operating system's id of a member's process.
    ///
    /// # Panics
    /// When the member is down.
    pub fn process_id(&self, position: usize) -> u32 {
        self.members[position].process_id()
    }

    /// The ids of all members, by position.
    ///
    /// # Panics
    /// When one of them does not answer.
    pub async fn ids(&self) -> Vec<u64> {
        let mut ids = Vec::new();
        for position in 0..self.members.len() {
            let status = self.status(position).await;
            ids.push(status.header.unwrap_or_default().member_id);
        }
        ids
    }

    /// The positions of all members except those at `left_out`.
    pub fn positions_without(&self, left_out: &[usize]) -> Vec<usize> {
        let all = 0..self.members.len();
        all.filter(|position| !left_out.contains(position))
            .collect()
    }

    /// A connection to one member.
    ///
    /// # Panics
    /// When it is down.
    pub async fn grpc(&self, position: usize) -> Grpc {
        self.members[position].grpc().await
    }

    /// The position of the member that all of `positions` take for the leader.
    ///
    /// # Panics
    /// When they do not agree before the deadline.
    pub async fn leader_of(&self, positions: &[usize]) -> usize {
        let mut leader = None;
        let agreed = async || {
            leader = self.agreed_leader(positions).await;
            leader.is_some()
        };
        until(agreed, "a leader on which they agree").await;
        leader.expect("it was waited for")
    }

    async fn agreed_leader(&self, positions: &[usize]) -> Option<usize> {
        let (mut ids, mut leaders) = (Vec::new(), Vec::new());
        for position in positions {
            let status = self.status(*position).await;
            ids.push(status.header.unwrap_or_default().member_id);
            leaders.push(status.leader);
        }
        let agreed = leaders.windows(2).all(|two| two[0] == two[1]);
        let found = ids.iter().position(|id| Some(id) == leaders.first())?;
        agreed.then(|| positions[found])
    }

    /// A member's status.
    ///
    /// # Panics
    /// When it does not answer.
    pub async fn status(&self, position: usize) -> pb::StatusResponse {
        let mut grpc = self.grpc(position).await;
        let request = pb::StatusRequest::default();
        let answer = grpc.unary(path::STATUS, &request).await;
        answer.expect("every member tells its status")
    }
}

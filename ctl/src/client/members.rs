//! Requests about members: who they are and how they fare.

use althing_api::etcdserverpb::alarm_request::AlarmAction;
use althing_api::etcdserverpb::cluster_client::ClusterClient;
use althing_api::etcdserverpb::maintenance_client::MaintenanceClient;
use althing_api::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmResponse, DefragmentRequest, DowngradeRequest,
    DowngradeResponse, HashKvRequest, HashKvResponse, MemberAddRequest, MemberAddResponse,
    MemberListRequest, MemberListResponse, MemberPromoteRequest, MemberPromoteResponse,
    MemberRemoveRequest, MemberRemoveResponse, MemberUpdateRequest, MemberUpdateResponse,
    MoveLeaderRequest, MoveLeaderResponse, StatusRequest, StatusResponse,
};
use tonic::transport::Channel;

use crate::client::{Client, Repeat};
use crate::failure::Failure;

impl Client {
    /// Lists the members.
    ///
    /// # Errors
    /// The server's refusal, or the deadline.
    pub async fn member_list(
        &mut self,
        request: MemberListRequest,
    ) -> Result<MemberListResponse, Failure> {
        let bytes_max = self.receive_bytes_max;
        self.call(Repeat::Safe, request, |channel, request| async move {
            cluster(channel, bytes_max).member_list(request).await
        })
        .await
    }

    /// Adds a member.
    ///
    /// # Errors
    /// The server's refusal, or the deadline.
    pub async fn member_add(
        &mut self,
        request: MemberAddRequest,
    ) -> Result<MemberAddResponse, Failure> {
        let bytes_max = self.receive_bytes_max;
        self.call(Repeat::Never, request, |channel, request| async move {
            cluster(channel, bytes_max).member_add(request).await
        })
        .await
    }

    /// Removes a member.
    ///
    /// # Errors
    /// The server's refusal, or the deadline.
    pub async fn member_remove(
        &mut self,
        request: MemberRemoveRequest,
    ) -> Result<MemberRemoveResponse, Failure> {
        let bytes_max = self.receive_bytes_max;
        self.call(Repeat::Never, request, |channel, request| async move {
            cluster(channel, bytes_max).member_remove(request).await
        })
        .await
    }

    /// Changes where a member is reached.
    ///
    /// # Errors
    /// The server's refusal, or the deadline.
    pub async fn member_update(
        &mut self,
        request: MemberUpdateRequest,
    ) -> Result<MemberUpdateResponse, Failure> {
        let bytes_max = self.receive_bytes_max;
        self.call(Repeat::Never, request, |channel, request| async move {
            cluster(channel, bytes_max).member_update(request).await
        })
        .await
    }

    /// Asks about a downgrade, begins it or gives it up.
    ///
    /// # Errors
    /// The server's refusal, or the deadline.
    pub async fn downgrade(
        &mut self,
        request: DowngradeRequest,
    ) -> Result<DowngradeResponse, Failure> {
        let bytes_max = self.receive_bytes_max;
        self.call(Repeat::Never, request, |channel, request| async move {
            maintenance(channel, bytes_max).downgrade(request).await
        })
        .await
    }

    /// Gives a learner its vote.
    ///
    /// # Errors
    /// The server's refusal, or the deadline.
    pub async fn member_promote(
        &mut self,
        request: MemberPromoteRequest,
    ) -> Result<MemberPromoteResponse, Failure> {
        let bytes_max = self.receive_bytes_max;
        self.call(Repeat::Never, request, |channel, request| async move {
            cluster(channel, bytes_max).member_promote(request).await
        })
        .await
    }

    /// Has the leader, which this client talks to, hand the lead over.
    ///
    /// # Errors
    /// The server's refusal, or the deadline.
    pub async fn move_leader(
        &mut self,
        request: MoveLeaderRequest,
    ) -> Result<MoveLeaderResponse, Failure> {
        let bytes_max = self.receive_bytes_max;
        self.call(Repeat::Never, request, |channel, request| async move {
            maintenance(channel, bytes_max).move_leader(request).await
        })
        .await
    }

    /// Asks a member how it is.
    ///
    /// # Errors
    /// The server's refusal, or the deadline.
    pub async fn status(&mut self) -> Result<StatusResponse, Failure> {
        let bytes_max = self.receive_bytes_max;
        self.call(
            Repeat::Safe,
            StatusRequest {},
            |channel, request| async move { maintenance(channel, bytes_max).status(request).await },
        )
        .await
    }

    /// Asks a member for the hash of its keys' history up to `revision` (0: all of it).
    ///
    /// # Errors
    /// The server's refusal, or the deadline.
    pub async fn hash_kv(&mut self, revision: i64) -> Result<HashKvResponse, Failure> {
        let bytes_max = self.receive_bytes_max;
        let request = HashKvRequest { revision };
        self.call(Repeat::Safe, request, |channel, request| async move {
            maintenance(channel, bytes_max).hash_kv(request).await
        })
        .await
    }

    /// Lists the alarms that are raised.
    ///
    /// # Errors
    /// The server's refusal, or the deadline.
    pub async fn alarms(&mut self) -> Result<AlarmResponse, Failure> {
        let bytes_max = self.receive_bytes_max;
        let request = AlarmRequest::default();
        self.call(Repeat::Safe, request, |channel, request| async move {
            maintenance(channel, bytes_max).alarm(request).await
        })
        .await
    }

    /// Clears one alarm.
    ///
    /// # Errors
    /// The server's refusal, or the deadline.
    pub async fn disarm(&mut self, alarm: AlarmMember) -> Result<AlarmResponse, Failure> {
        let bytes_max = self.receive_bytes_max;
        let request = AlarmRequest {
            action: AlarmAction::Deactivate as i32,
            member_id: alarm.member_id,
            alarm: alarm.alarm,
        };
        self.call(Repeat::Never, request, |channel, request| async move {
            maintenance(channel, bytes_max).alarm(request).await
        })
        .await
    }

    /// Has a member give unused space of its store back to the disk.
    ///
    /// # Errors
    /// The server's refusal, or the deadline.
    pub async fn defragment(&mut self) -> Result<(), Failure> {
        let bytes_max = self.receive_bytes_max;
        let request = DefragmentRequest {};
        let done = self.call(Repeat::Never, request, |channel, request| async move {
            maintenance(channel, bytes_max).defragment(request).await
        });
        done.await.map(drop)
    }
}

fn cluster(channel: Channel, receive_bytes_max: usize) -> ClusterClient<Channel> {
    ClusterClient::new(channel).max_decoding_message_size(receive_bytes_max)
}

fn maintenance(channel: Channel, receive_bytes_max: usize) -> MaintenanceClient<Channel> {
    MaintenanceClient::new(channel).max_decoding_message_size(receive_bytes_max)
}

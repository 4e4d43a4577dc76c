//! Callers that wait for a lock, or to lead, beside a node whose watch hub dies.

use althing_actors::testing::{DEADLINE, end_watch_hub, one_member, start_alone, until};
use althing_api::etcdserverpb::LeaseGrantRequest;
use althing_api::etcdserverpb::lease_server::Lease;
use althing_api::v3electionpb::election_server::Election;
use althing_api::v3electionpb::{CampaignRequest, ResignRequest};
use althing_conf::Config;
use althing_storage::data_dir::DataDir;
use prometheus::TextEncoder;
use tokio::time::timeout;

use super::*;
use crate::settings::{Live, Settings};

async fn lock(rpc: Rpc, lease: i64) -> Bytes {
    let name = Bytes::from_static(b"lock");
    let request = Request::new(LockRequest { name, lease });
    rpc.lock(request).await.unwrap().into_inner().key
}

async fn campaign(rpc: Rpc, lease: i64) -> ResignRequest {
    let request = CampaignRequest {
        name: Bytes::from_static(b"election"),
        lease,
        ..CampaignRequest::default()
    };
    let led = rpc.campaign(Request::new(request)).await.unwrap();
    let leader = led.into_inner().leader;
    ResignRequest { leader }
}

#[test]
fn who_waits_for_a_lock_or_to_lead_goes_on_when_the_watch_hub_dies() {
    actix_rt::System::new().block_on(async {
        let temp = tempfile::tempdir().unwrap();
        let dir = DataDir::open(temp.path()).unwrap();
        let (_node, handles) = start_alone(dir, one_member()).await.unwrap();
        let unused = temp.path().join("unused").into_os_string();
        let args = ["althingd".into(), "--data-dir".into(), unused];
        let config = Config::load(args, std::iter::empty()).unwrap().config;
        let rpc = Rpc::new(handles.clone(), Live::new(Settings::of(&config))).unwrap();
        for id in 1..=4 {
            let request = LeaseGrantRequest { ttl: 600, id };
            rpc.lease_grant(Request::new(request)).await.unwrap();
        }
        let (held, leads) = (lock(rpc.clone(), 1).await, campaign(rpc.clone(), 2).await);
        let waits = actix_rt::spawn(lock(rpc.clone(), 3));
        let campaigns = actix_rt::spawn(campaign(rpc.clone(), 4));
        let registry = handles.metrics();
        let both_watch = || {
            let metrics = TextEncoder::new().encode_to_string(&registry.gather());
            let expected = "\netcd_debugging_mvcc_watcher_total 2\n";
            metrics.unwrap().contains(expected)
        };
        until("both watch", both_watch).await;

        end_watch_hub(&handles).await;
        rpc.unlock(Request::new(UnlockRequest { key: held }))
            .await
            .unwrap();
        rpc.resign(Request::new(leads)).await.unwrap();
        let locked = timeout(DEADLINE, waits).await.unwrap().unwrap();
        assert_eq!(locked, "lock/3");
        let led = timeout(DEADLINE, campaigns).await.unwrap().unwrap();
        assert_eq!(led.leader.unwrap().key, "election/4");
    });
}

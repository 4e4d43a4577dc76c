//! The member's own state, its cluster, and hashes of its data.

use althing_api::error::Error;
use althing_api::etcdserverpb::alarm_request::AlarmAction;
use althing_api::etcdserverpb::*;
use tonic::{Code, Request};

use super::world::{assert_refused, get, put, with_member};

const MEMBER_ID: u64 = 0x8e9e_05c5_2164_694d;

#[test]
fn the_status_of_a_sole_member_shows_that_it_leads_at_etcds_level() {
    with_member(&[], async |member| {
        let mut kv = member.kv().await;
        kv.put(put("a", "1")).await.unwrap();
        let mut maintenance = member.maintenance().await;
        let status = maintenance
            .status(StatusRequest {})
            .await
            .unwrap()
            .into_inner();
        assert_eq!(
            (status.version.as_str(), status.storage_version.as_str()),
            ("3.7.0", "3.7.0")
        );
        assert_eq!(status.leader, MEMBER_ID);
        assert_eq!(status.raft_applied_index, status.raft_index);
        assert_eq!(status.db_size_quota, 2_147_483_648);
        assert!(status.errors.is_empty() && !status.is_learner);
        assert!(status.db_size >= status.db_size_in_use && status.db_size > 0);
        let header = status.header.unwrap();
        assert_eq!((header.revision, header.raft_term), (2, status.raft_term));
    });
}

#[test]
fn alarms_are_listed_raised_and_cleared_over_grpc_and_json() {
    with_member(&[], async |member| {
        let mut maintenance = member.maintenance().await;
        let ask = |action: AlarmAction| AlarmRequest {
            action: action as i32,
            ..Default::default()
        };
        let list = maintenance.alarm(ask(AlarmAction::Get)).await;
        let list = list.unwrap().into_inner();
        let header = list.header.unwrap();
        assert_eq!((header.member_id, header.revision), (MEMBER_ID, 1));
        assert!(list.alarms.is_empty() && header.cluster_id != 0 && header.raft_term > 0);
        for action in [AlarmAction::Activate, AlarmAction::Deactivate] {
            let nothing = maintenance.alarm(ask(action)).await.unwrap().into_inner();
            assert!(nothing.alarms.is_empty(), "no kind is nothing to do");
        }
        let unheard_of = AlarmRequest {
            alarm: 7,
            ..ask(AlarmAction::Activate)
        };
        let refusal = maintenance.alarm(unheard_of).await.unwrap_err();
        assert_eq!(refusal.code(), Code::InvalidArgument);
        let (status, body) = member.json("/v3/maintenance/alarm", "{}").await;
        assert_eq!(status, 200);
        let revision = r#""revision":"1","raft_term":""#;
        assert!(
            body.contains(revision) && !body.contains("alarms"),
            "{body}"
        );
        let raise = r#"{"action":"ACTIVATE","alarm":"NOSPACE"}"#;
        let (status, body) = member.json("/v3/maintenance/alarm", raise).await;
        assert_eq!(status, 200, "{body}");
        let raised = r#""alarms":[{"alarm":"NOSPACE"}]"#;
        assert!(body.contains(raised), "{body}");
        let refused = member.kv().await.put(put("a", "1")).await;
        assert_refused(refused, Error::NoSpace);
        member.kv().await.range(get("a")).await.unwrap();
        let clear = AlarmRequest {
            alarm: AlarmType::Nospace as i32,
            ..ask(AlarmAction::Deactivate)
        };
        let cleared = maintenance.alarm(clear).await.unwrap().into_inner();
        assert_eq!(cleared.alarms.len(), 1);
        member.kv().await.put(put("a", "1")).await.unwrap();
    });
}

#[test]
fn a_downgrade_is_validated_begun_shown_and_given_up_as_in_etcd() {
    use downgrade_request::DowngradeAction::{Cancel, Enable, Validate};
    with_member(&[], async |member| {
        let mut maintenance = member.maintenance().await;
        let mut ask = async |action: downgrade_request::DowngradeAction, version: &str| {
            let request = DowngradeRequest {
                action: action as i32,
                version: version.to_owned(),
            };
            let answer = maintenance.downgrade(request).await;
            answer.map(|answer| answer.into_inner().version)
        };
        assert_eq!(ask(Validate, "3.6").await.unwrap(), "3.7");
        assert_refused(ask(Validate, "3.5").await, Error::InvalidDowngradeTarget);
        let wrong = ask(Enable, "three").await;
        assert_refused(wrong, Error::WrongDowngradeVersionFormat);
        assert_eq!(ask(Cancel, "").await.unwrap(), "3.7");
        assert_eq!(ask(Enable, "3.6.0").await.unwrap(), "3.7");
        assert_refused(ask(Validate, "3.6").await, Error::DowngradeInProgress);
        let status = member.maintenance().await.status(StatusRequest {}).await;
        let expected = DowngradeInfo {
            enabled: true,
            target_version: "3.6.0".to_owned(),
        };
        assert_eq!(status.unwrap().into_inner().downgrade_info, Some(expected));
        assert_eq!(ask(Cancel, "").await.unwrap(), "3.7");
        assert_eq!(ask(Cancel, "").await.unwrap(), "3.7");
    });
}

#[test]
fn the_member_list_has_this_member_and_no_revision() {
    with_member(&[], async |member| {
        let mut cluster = member.cluster().await;
        for linearizable in [true, false] {
            let request = MemberListRequest { linearizable };
            let list = cluster.member_list(request).await.unwrap().into_inner();
            let header = list.header.unwrap();
            assert_eq!((header.member_id, header.revision), (MEMBER_ID, 0));
            let [one] = &list.members[..] else {
                panic!("{list:?}");
            };
            assert_eq!(
                (one.id, one.name.as_str(), one.is_learner),
                (MEMBER_ID, "default", false)
            );
            assert_eq!(one.peer_ur_ls, ["http://localhost:2380"]);
            assert_eq!(one.client_ur_ls, ["http://127.0.0.1:0"]);
        }
    });
}

#[test]
fn the_hash_of_a_revision_stays_and_that_of_the_whole_changes() {
    with_member(&[], async |member| {
        let mut kv = member.kv().await;
        let mut maintenance = member.maintenance().await;
        kv.put(put("a", "1")).await.unwrap();
        let at = |revision| HashKvRequest { revision };
        let first = maintenance.hash_kv(at(0)).await.unwrap().into_inner();
        let whole = maintenance.hash(HashRequest {}).await.unwrap().into_inner();
        assert_eq!((first.hash_revision, first.compact_revision), (2, -1));
        kv.put(put("a", "2")).await.unwrap();
        let same = maintenance.hash_kv(at(2)).await.unwrap().into_inner();
        let next = maintenance.hash_kv(at(0)).await.unwrap().into_inner();
        assert_eq!((same.hash, same.header.unwrap().revision), (first.hash, 3));
        assert_ne!(next.hash, first.hash);
        let later = maintenance.hash(HashRequest {}).await.unwrap().into_inner();
        assert_ne!(later.hash, whole.hash);
        assert_refused(maintenance.hash_kv(at(4)).await, Error::FutureRevision);
    });
}

#[test]
fn a_snapshot_comes_in_small_pieces_and_ends_with_its_hash() {
    with_member(&[], async |member| {
        let mut kv = member.kv().await;
        for number in 0..100 {
            let value = "v".repeat(3_000);
            kv.put(put(&format!("k{number}"), &value)).await.unwrap();
        }
        let mut maintenance = member.maintenance().await;
        let pieces = maintenance.snapshot(SnapshotRequest {}).await.unwrap();
        let mut pieces = pieces.into_inner();
        let (mut bytes, mut left) = (Vec::new(), Vec::new());
        let mut last = 0;
        while let Some(piece) = pieces.message().await.unwrap() {
            assert!(piece.blob.len() <= 32 * 1024 && piece.header.is_none());
            assert_eq!(piece.version, "3.7.0");
            bytes.extend_from_slice(&piece.blob);
            left.push(piece.remaining_bytes + bytes.len() as u64);
            last = piece.blob.len();
        }
        assert_eq!((last, bytes.len() % 512), (32, 32));
        let file = bytes.len() as u64 - 32;
        let (hash, pieces) = left.split_last().unwrap();
        assert_eq!(*hash, file + 32);
        assert!(pieces.iter().all(|total| *total == file), "{pieces:?}");
        let (status, body) = member.json("/v3/maintenance/snapshot", "{}").await;
        assert_eq!(status, 200);
        assert!(body.contains(r#""result":{"remaining_bytes""#), "no pieces");
        assert!(body.contains(r#""result":{"blob":"#), "no hash");
    });
}

#[test]
fn calls_that_ask_for_a_leader_are_served_and_counted() {
    with_member(&[], async |member| {
        let mut request = Request::new(get("a"));
        let metadata = request.metadata_mut();
        metadata.insert("hasleader", "true".parse().unwrap());
        metadata.insert("client-api-version", "3.7".parse().unwrap());
        member.kv().await.range(request).await.unwrap();
        let families = member.running().handles().metrics().gather();
        let find = |name: &str| families.iter().find(|family| family.name() == name);
        let clients = find("etcd_server_client_requests_total").unwrap();
        let counted = |metric: &prometheus::proto::Metric| {
            let labels = metric.get_label();
            labels.iter().any(|label| label.value() == "3.7")
        };
        assert!(clients.get_metric().iter().any(counted));
        for name in [
            "etcd_server_version",
            "etcd_cluster_version",
            "etcd_mvcc_put_total",
        ] {
            assert!(find(name).is_some(), "{name}");
        }
        let mut maintenance = member.maintenance().await;
        let defragmented = maintenance.defragment(DefragmentRequest {}).await;
        assert_eq!(defragmented.unwrap().into_inner().header, None);
    });
}

#[test]
fn auth_is_off_and_a_client_with_a_user_is_told_so() {
    with_member(&[], async |member| {
        let (status, body) = member.json("/v3/auth/status", "{}").await;
        assert_eq!(status, 200, "{body}");
        assert!(body.ends_with(r#","authRevision":"1"}"#), "{body}");
        let user = r#"{"name":"root","password":"secret"}"#;
        let (status, body) = member.json("/v3/auth/authenticate", user).await;
        assert_eq!(status, 400, "{body}");
        assert!(body.contains(Error::AuthNotEnabled.text()), "{body}");
    });
}

#[test]
fn an_update_looks_for_the_member_before_it_looks_at_the_urls() {
    with_member(&[], async |member| {
        for (id, error) in [
            (7, Error::MemberNotFound),
            (MEMBER_ID, Error::BadMemberUrls),
        ] {
            let update = format!(r#"{{"ID":"{id}","peerURLs":["nonsense"]}}"#);
            let (_, body) = member.json("/v3/cluster/member/update", &update).await;
            assert!(body.contains(error.text()), "{id}: {body}");
        }
    });
}

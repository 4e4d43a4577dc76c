//! Starting and stopping.

use althing_api::etcdserverpb::StatusRequest;

use super::world::{get, put, shown, with_member};

#[test]
fn a_stopped_member_comes_back_with_its_data_and_its_ids() {
    with_member(&[], async |member| {
        let before = member.running().handles().status();
        for round in 2..5 {
            let mut kv = member.kv().await;
            let answer = kv
                .put(put("a", &round.to_string()))
                .await
                .unwrap()
                .into_inner();
            assert_eq!(answer.header.unwrap().revision, round);
            member.stop().await;
            member.start().await;
            let found = member
                .kv()
                .await
                .range(get("a"))
                .await
                .unwrap()
                .into_inner();
            assert_eq!(shown(&found.kvs), format!("a={round}"));
            assert_eq!(found.header.unwrap().revision, round);
        }
        let after = member.running().handles().status();
        assert_eq!(after.member_id, before.member_id);
        assert_eq!(after.cluster_id, before.cluster_id);
        assert!(after.term >= before.term);
        let status = member
            .maintenance()
            .await
            .status(StatusRequest {})
            .await
            .unwrap();
        assert_eq!(status.into_inner().leader, after.member_id.0);
    });
}

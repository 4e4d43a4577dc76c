//! `/health`, `/livez` and `/readyz`.

use althing_api::etcdserverpb::AlarmType;

use super::fake_member::State;
use super::*;

async fn answer(port: &Port, path: &str) -> (u16, String) {
    let answer = port.get(path).await;
    (answer.status, answer.body)
}

fn change(port: &Port, change: impl FnOnce(&mut State)) {
    change(&mut port.member.0.lock().unwrap());
}

fn unhealthy(reason: &str) -> (u16, String) {
    (
        503,
        format!("{{\"health\":\"false\",\"reason\":\"{reason}\"}}\n"),
    )
}

#[test]
fn health_is_one_object_in_plain_text() {
    with_port(settings(), |port| async move {
        let well = (200, r#"{"health":"true","reason":""}"#.to_string());
        let head = port.get("/health").await;
        assert_eq!(
            head.header("content-type"),
            Some("text/plain; charset=utf-8")
        );
        assert_eq!((head.status, head.body), well);
        let refused = port.post("/health", "").await;
        assert_eq!(
            (refused.status, refused.header("allow")),
            (405, Some("GET"))
        );

        change(&port, |state| {
            state.read_error = Some(tonic::Status::unavailable("late"))
        });
        assert_eq!(
            answer(&port, "/health").await,
            unhealthy("RANGE ERROR:late")
        );
        change(&port, |state| state.read_error = None);
        change(&port, |state| state.has_leader = false);
        assert_eq!(answer(&port, "/health").await, unhealthy("RAFT NO LEADER"));
        assert_eq!(answer(&port, "/health?serializable=true").await, well);
        change(&port, |state| state.alarms = vec![AlarmType::Nospace]);
        assert_eq!(answer(&port, "/health").await, unhealthy("ALARM NOSPACE"));
        let excluded = "/health?serializable=true&exclude=NOSPACE";
        assert_eq!(answer(&port, excluded).await, well);
        change(&port, |state| state.alarms.push(AlarmType::Corrupt));
        assert_eq!(answer(&port, excluded).await, unhealthy("ALARM CORRUPT"));
        assert_eq!(port.metric("etcd_server_health_success").await, 3.0);
        assert_eq!(port.metric("etcd_server_health_failures").await, 4.0);
    });
}

#[test]
fn checks_are_told_when_asked_for_or_when_one_fails() {
    with_port(settings(), |port| async move {
        let head = port.get("/livez").await;
        assert_eq!(
            head.header("content-type"),
            Some("text/plain; charset=utf-8")
        );
        assert_eq!(head.header("x-content-type-options"), Some("nosniff"));
        assert_eq!((head.status, head.body.as_str()), (200, "ok\n"));
        let verbose = "[+]data_corruption ok\n[+]serializable_read ok\n\
            [+]linearizable_read ok\n[+]non_learner ok\nok\n";
        assert_eq!(
            answer(&port, "/readyz?verbose").await,
            (200, verbose.to_string())
        );

        change(&port, |state| state.is_learner = true);
        let (status, report) = answer(&port, "/readyz").await;
        assert_eq!(status, 503);
        assert!(report.contains("[+]linearizable_read ok\n"), "{report}");
        assert!(report.contains("[-]non_learner failed: not supported for learner\n"));
        assert_eq!(answer(&port, "/readyz?exclude=non_learner").await.0, 200);
        assert_eq!(answer(&port, "/readyz/non_learner").await.0, 503);
        assert_eq!(
            answer(&port, "/readyz/linearizable_read").await,
            (200, "ok\n".to_string())
        );
        assert_eq!(answer(&port, "/livez/non_learner").await.0, 404);
        change(&port, |state| state.alarms = vec![AlarmType::Corrupt]);
        let (_, report) = answer(&port, "/readyz/data_corruption").await;
        assert!(report.contains("[-]data_corruption failed: alarm activated: CORRUPT\n"));

        let gauge = r#"etcd_server_healthcheck{name="non_learner",type="readyz"}"#;
        assert_eq!(port.metric(gauge).await, 0.0);
        let total = concat!(
            "etcd_server_healthchecks_total",
            r#"{name="serializable_read",status="success",type="livez"}"#
        );
        assert_eq!(port.metric(total).await, 1.0);
    });
}

//! HTTP/2 requests that are not gRPC.

use super::*;

fn request(method: &str, path: &str, body: &str) -> Request<RequestBody> {
    Request::builder()
        .method(method)
        .uri(format!("http://a{path}"))
        .body(full(body.to_string()))
        .unwrap()
}

#[test]
fn pages_and_the_gateway_answer_over_http2_as_over_http1() {
    with_port(settings(), |port| async move {
        let mut sender = port.http2().await;
        let answer = sender
            .send_request(request("GET", "/version", ""))
            .await
            .unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(text(answer).await, port.get("/version").await.body);

        let put = r#"{"key":"aw==","value":"dg=="}"#;
        let answer = sender
            .send_request(request("POST", "/v3/kv/put", put))
            .await
            .unwrap();
        assert_eq!(answer.headers()["content-type"], "application/json");
        assert_eq!(answer.headers()["access-control-allow-origin"], "*");
        assert_eq!(text(answer).await, port.post("/v3/kv/put", put).await.body);

        let answer = sender
            .send_request(request("GET", "/nosuch", ""))
            .await
            .unwrap();
        assert_eq!(answer.status(), 404);
        assert_eq!(text(answer).await, "404 page not found\n");
        let answer = sender
            .send_request(request("OPTIONS", "/nosuch", ""))
            .await
            .unwrap();
        assert_eq!(answer.status(), 200);
    });
}

#[test]
fn a_head_request_over_http2_gets_no_body() {
    with_port(settings(), |port| async move {
        let mut sender = port.http2().await;
        let answer = sender
            .send_request(request("HEAD", "/metrics", ""))
            .await
            .unwrap();
        assert_eq!(answer.status(), 200);
        assert_ne!(answer.headers()["content-length"], "0");
        assert_eq!(text(answer).await, "");
    });
}

#[test]
fn a_large_value_goes_both_ways_through_the_bridge() {
    with_port(settings(), |port| async move {
        let mut sender = port.http2().await;
        let value = "QUJD".repeat(400_000);
        let put = format!(r#"{{"key":"aw==","value":"{value}"}}"#);
        let answer = sender
            .send_request(request("POST", "/v3/kv/put", &put))
            .await
            .unwrap();
        assert_eq!(answer.status(), 200);
        let get = request("POST", "/v3/kv/range", r#"{"key":"aw=="}"#);
        let answer = sender.send_request(get).await.unwrap();
        assert!(text(answer).await.contains(&value));
    });
}

#[test]
fn a_watch_streams_through_the_bridge() {
    with_port(settings(), |port| async move {
        let mut sender = port.http2().await;
        let watch = request("POST", "/v3/watch", r#"{"create_request":{"key":"aw=="}}"#);
        let answer = sender.send_request(watch).await.unwrap();
        let line = answer
            .into_body()
            .frame()
            .await
            .unwrap()
            .unwrap()
            .into_data()
            .unwrap();
        assert!(line.starts_with(br#"{"result":{"header":"#), "{line:?}");
    });
}

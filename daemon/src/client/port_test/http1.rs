//! HTTP/1.1: routing, access rules, limits of connections.

use proptest::prelude::*;

use super::*;

#[test]
fn a_request_that_arrives_byte_by_byte_is_answered() {
    with_port(settings(), |port| async move {
        let mut io = port.connect().await;
        io.set_nodelay(true).unwrap();
        let request = b"POST /v3/kv/put HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\
            content-length: 14\r\n\r\n{\"key\":\"YQ==\"}";
        for byte in request {
            io.write_all(&[*byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        let mut answer = String::new();
        io.read_to_string(&mut answer).await.unwrap();
        assert_eq!(parse(&answer).status, 200, "{answer}");
    });
}

#[test]
fn a_connection_is_kept_for_the_next_request() {
    with_port(settings(), |port| async move {
        let mut io = port.connect().await;
        for _ in 0..3 {
            io.write_all(b"GET /version HTTP/1.1\r\nhost: a\r\n\r\n")
                .await
                .unwrap();
            let mut seen = Vec::new();
            while !seen.ends_with(b"}") {
                assert_ne!(io.read_buf(&mut seen).await.unwrap(), 0);
            }
        }
    });
}

#[test]
fn a_client_that_offers_another_protocol_hears_that_its_connection_ends() {
    with_port(settings(), |port| async move {
        let offer = "connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\n\
            http2-settings: AAMAAABkAAQAAP__";
        for (address, line, body, status) in [
            (port.address, "GET /version", "", 200),
            (port.address, "OPTIONS /version", "", 200),
            (port.address, "POST /v3/kv/range", "{}", 200),
            (port.address, "POST /v3/kv/range", "{", 400),
            (port.address, "GET /no/such/page", "", 404),
            (port.metrics_address, "GET /metrics", "", 200),
            (port.metrics_address, "GET /version", "", 404),
        ] {
            let length = body.len();
            let request = format!(
                "{line} HTTP/1.1\r\nhost: a\r\n{offer}\r\ncontent-length: {length}\r\n\r\n{body}"
            );
            let answer = last_answer(address, request.as_bytes()).await;
            assert_eq!(answer.status, status, "{line}");
            assert_eq!(answer.header("connection"), Some("close"), "{line}");
        }
    });
}

#[test]
fn the_version_names_the_contract_and_our_own() {
    with_port(settings(), |port| async move {
        let answer = port.get("/version").await;
        let expected = format!(
            r#"{{"etcdserver":"3.7.0","etcdcluster":"3.7.0","storage":"3.7.0","althing":"{}"}}"#,
            env!("CARGO_PKG_VERSION")
        );
        assert_eq!(answer.body, expected);
        assert_eq!(answer.header("content-type"), Some("application/json"));
        port.member.0.lock().unwrap().cluster_version = None;
        let answer = port.get("/version").await;
        assert!(
            answer
                .body
                .contains(r#""etcdcluster":"not_decided","storage":"unknown""#)
        );
        let answer = port.post("/version", "").await;
        assert_eq!((answer.status, answer.header("allow")), (405, Some("GET")));
        assert_eq!(answer.body, "Method Not Allowed\n");
    });
}

#[test]
fn nothing_is_served_where_no_page_is() {
    with_port(settings(), |port| async move {
        for path in ["/", "/v2/keys", "/versions", "/v3"] {
            let answer = port.get(path).await;
            assert_eq!(
                (answer.status, answer.body.as_str()),
                (404, "404 page not found\n")
            );
        }
    });
}

#[test]
fn a_head_request_gets_no_body() {
    with_port(settings(), |port| async move {
        let answer = port.http1("HEAD /metrics", b"").await;
        assert_eq!((answer.status, answer.body.as_str()), (200, ""));
    });
}

#[test]
fn any_origin_is_allowed_unless_origins_are_listed() {
    with_port(settings(), |port| async move {
        let answer = port.get("/version").await;
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
        let methods = answer.header("access-control-allow-methods");
        assert_eq!(methods, Some("POST, GET, OPTIONS, PUT, DELETE"));
        let headers = answer.header("access-control-allow-headers");
        assert_eq!(headers, Some("accept, content-type, authorization"));
        let answer = port.http1("OPTIONS /no/such/path", b"").await;
        assert_eq!((answer.status, answer.body.as_str()), (200, ""));
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    });
    let listed = PortSettings {
        cors: vec!["http://a.example".to_string()],
        ..settings()
    };
    with_port(listed, |port| async move {
        let ask = async |origin: &str| {
            let head = format!("GET /version\r\nhost: a\r\norigin: {origin}");
            port.http1(&head, b"").await
        };
        let answer = ask("http://a.example").await;
        assert_eq!(
            answer.header("access-control-allow-origin"),
            Some("http://a.example")
        );
        let answer = ask("http://b.example").await;
        assert_eq!(answer.header("access-control-allow-origin"), None);
        assert_eq!(answer.header("access-control-allow-methods"), None);
    });
}

#[test]
fn a_host_outside_the_whitelist_is_misdirected() {
    let listed = PortSettings {
        host_whitelist: vec!["a".to_string()],
        ..settings()
    };
    with_port(listed, |port| async move {
        assert_eq!(
            port.http1("GET /version\r\nhost: a:2379", b"").await.status,
            200
        );
        let answer = port.http1("GET /version\r\nhost: evil.example", b"").await;
        assert_eq!(answer.status, 421);
        for hint in ["evil.example", "--host-whitelist", "CVE-2018-5702"] {
            assert!(answer.body.contains(hint), "{}", answer.body);
        }
    });
}

#[test]
fn one_connection_too_many_is_closed_and_a_free_place_is_used_again() {
    let few = PortSettings {
        connections_max: 1,
        ..settings()
    };
    with_port(few, |port| async move {
        let mut first = port.connect().await;
        first
            .write_all(b"GET /version HTTP/1.1\r\nhost: a\r\n\r\n")
            .await
            .unwrap();
        first.read_u8().await.unwrap();
        let mut second = port.connect().await;
        assert!(matches!(second.read(&mut [0]).await, Ok(0) | Err(_)));
        drop(first);
        loop {
            let mut io = port.connect().await;
            let asked = io
                .write_all(b"GET /version HTTP/1.1\r\nhost: a\r\n\r\n")
                .await;
            if asked.is_ok() && matches!(io.read(&mut [0]).await, Ok(1)) {
                break;
            }
        }
    });
}

#[test]
fn a_metrics_listener_serves_probes_and_nothing_else() {
    with_port(settings(), |port| async move {
        for (path, status) in [
            ("/metrics", 200),
            ("/health", 200),
            ("/livez", 200),
            ("/readyz/non_learner", 200),
            ("/version", 404),
            ("/v3/kv/range", 404),
        ] {
            let answer = http1(port.metrics_address, &format!("GET {path}"), b"").await;
            assert_eq!(answer.status, status, "{path}");
        }
    });
}

#[test]
fn the_gateway_can_be_switched_off() {
    let off = PortSettings {
        gateway: false,
        ..settings()
    };
    with_port(off, |port| async move {
        assert_eq!(port.post("/v3/kv/range", "{}").await.status, 404);
        assert_eq!(port.get("/version").await.status, 200);
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn no_bytes_from_a_client_end_the_port(
        start in prop::sample::select(vec![
            &b""[..],
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"POST /v3/kv/txn HTTP/1.1\r\nhost: a\r\ncontent-length: 50\r\n\r\n",
        ]),
        rest in prop::collection::vec(any::<u8>(), 1..100),
    ) {
        with_port(settings(), |port| async move {
            let mut io = port.connect().await;
            // The port may hang up before it has read everything.
            let _ = io.write_all(start).await;
            let _ = io.write_all(&rest).await;
            let _ = io.shutdown().await;
            let _ = io.read_to_end(&mut Vec::new()).await;
            assert_eq!(port.get("/version").await.status, 200);
        });
    }
}

#[test]
fn replaced_settings_count_for_the_next_request() {
    with_port(settings(), |port| async move {
        let body = r#"{"key":"aw=="}"#;
        assert_eq!(port.post("/v3/kv/range", body).await.status, 200);
        let mut changed = Settings::clone(&port.live.get());
        changed.port.gateway = false;
        port.live.replace(changed);
        assert_eq!(port.post("/v3/kv/range", body).await.status, 404);
        assert_eq!(port.get("/version").await.status, 200);
    });
}

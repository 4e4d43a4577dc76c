//! The JSON gateway.

use super::*;

const HEADER: &str = concat!(
    r#""header":{"cluster_id":"18446744073709551615","member_id":"1","revision":"2","#,
    r#""raft_term":"3"}"#
);

#[test]
fn a_value_that_was_put_is_read_back_in_etcds_form() {
    with_port(settings(), |port| async move {
        let answer = port
            .post("/v3/kv/put", r#"{"key":"Zm9v","value":"YmFy"}"#)
            .await;
        assert_eq!((answer.status, answer.body), (200, format!("{{{HEADER}}}")));
        assert_eq!(
            answer
                .headers
                .iter()
                .filter(|(name, _)| name == "content-type")
                .count(),
            1
        );
        let answer = port.post("/v3/kv/range", r#"{"key":"Zm9v"}"#).await;
        let kv = concat!(
            r#"{"key":"Zm9v","create_revision":"2","mod_revision":"2","version":"1","#,
            r#""value":"YmFy"}"#
        );
        assert_eq!(
            answer.body,
            format!(r#"{{{HEADER},"kvs":[{kv}],"count":"1"}}"#)
        );
        assert_eq!(answer.header("content-type"), Some("application/json"));
        let mark = answer.header("grpc-metadata-content-type");
        assert_eq!(mark, Some("application/grpc"));
        let labels = r#"grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary""#;
        let line = format!(r#"grpc_server_handled_total{{grpc_code="OK",{labels}}}"#);
        assert_eq!(port.metric(&line).await, 1.0);
    });
}

#[test]
fn a_null_member_and_an_empty_body_are_accepted() {
    with_port(settings(), |port| async move {
        let answer = port
            .post("/v3/kv/put", r#"{"key":"YQ==","value":null,"lease":null}"#)
            .await;
        assert_eq!(answer.status, 200);
        assert_eq!(port.post("/v3/kv/range", "").await.status, 200);
    });
}

#[test]
fn an_error_of_the_service_becomes_an_http_error_and_an_object() {
    with_port(settings(), |port| async move {
        let answer = port.post("/v3/kv/compaction", r#"{"revision":"99"}"#).await;
        let text = "etcdserver: mvcc: required revision is a future revision";
        let expected = format!(r#"{{"error":"{text}","code":11,"message":"{text}"}}"#);
        assert_eq!((answer.status, answer.body.clone()), (400, expected));
        assert_eq!(answer.header("content-type"), Some("application/json"));
    });
}

#[test]
fn broken_json_unknown_paths_and_wrong_methods_are_told_apart() {
    with_port(settings(), |port| async move {
        let answer = port.post("/v3/kv/range", "{").await;
        assert_eq!(answer.status, 400);
        assert!(
            answer.body.contains(r#""code":3,"message":""#),
            "{}",
            answer.body
        );
        let answer = port.post("/v3/nosuch", "{}").await;
        let expected = r#"{"error":"Not Found","code":5,"message":"Not Found"}"#;
        assert_eq!((answer.status, answer.body.as_str()), (404, expected));
        let answer = port.get("/v3/kv/range").await;
        let text = "Method Not Allowed";
        let expected = format!(r#"{{"error":"{text}","code":12,"message":"{text}"}}"#);
        assert_eq!((answer.status, answer.body), (501, expected));
    });
}

#[test]
fn paths_are_read_as_go_reads_them() {
    with_port(settings(), |port| async move {
        for path in ["//v3/kv/range", "/v3//kv/range", "/v3/./kv/range"] {
            let answer = port.post(path, "{}").await;
            assert_eq!((answer.status, answer.body.as_str()), (307, ""), "{path}");
            assert_eq!(answer.header("location"), Some("/v3/kv/range"));
            assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
        }
        let answer = port.get("//version").await;
        assert_eq!(answer.header("location"), Some("/version"));
        for path in ["/v3/kv/%72ange", "/v3/kv%2Frange"] {
            assert_eq!(port.post(path, "{}").await.status, 200, "{path}");
        }
        assert_eq!(port.get("/%76ersion").await.status, 200);
        assert_eq!(port.post("/v3/kv/%zz", "{}").await.status, 400);
    });
}

#[test]
fn every_route_calls_its_method_under_either_prefix() {
    let (mut answered, mut absent) = (0, 0);
    let routes = super::super::gateway::paths();
    with_port(settings(), |port| async move {
        for path in routes {
            for path in [path.to_string(), path.replacen("/v3/", "/v3beta/", 1)] {
                let body = if path.ends_with("/watch") {
                    r#"{"create_request":{}}"#
                } else {
                    "{}"
                };
                // A watch stays open: its first bytes are enough.
                let mut io = port.connect().await;
                let request = format!(
                    "POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len()
                );
                io.write_all(request.as_bytes()).await.unwrap();
                let mut seen = Vec::new();
                while !seen.windows(4).any(|window| window == b"\r\n\r\n") {
                    assert_ne!(io.read_buf(&mut seen).await.unwrap(), 0);
                }
                match String::from_utf8_lossy(&seen).split(' ').nth(1) {
                    Some("200" | "400") => answered += 1,
                    Some("501") => absent += 1,
                    other => panic!("{path}: {other:?}"),
                }
            }
        }
        // KV without deleterange and txn, watch, and observe are what the fake member has.
        assert_eq!((answered, absent), (2 * 5, 2 * 46));
    });
}

#[test]
fn a_message_above_the_receive_limit_is_refused_as_over_grpc() {
    with_port(settings(), |port| async move {
        let value = "A".repeat(2_900_000);
        let body = format!(r#"{{"key":"YQ==","value":"{value}"}}"#);
        let answer = port.post("/v3/kv/put", &body).await;
        assert_eq!(answer.status, 429);
        let text = "grpc: received message larger than max (2175008 vs. 2097152)";
        assert!(answer.body.contains(text), "{}", answer.body);
    });
}

#[test]
fn a_body_beyond_every_message_is_refused_before_its_end_with_its_whole_size() {
    with_port(settings(), |port| async move {
        let body = " ".repeat(2 * 2_097_152 + 64 * 1024 + 100_000);
        let answer = port.post("/v3/kv/put", &body).await;
        assert_eq!(answer.status, 429, "{}", answer.body);
        let text = format!("larger than max ({} vs. 2097152)", body.len());
        assert!(answer.body.contains(&text), "{}", answer.body);
    });
}

#[test]
fn headers_reach_the_service_as_metadata() {
    with_port(settings(), |port| async move {
        for (header, name, value) in [
            ("Authorization: t.1", "authorization", "dC4x"),
            ("Grpc-Metadata-Token: t.1", "token", "dC4x"),
        ] {
            let head = format!("POST /v3/kv/range\r\nhost: a\r\n{header}");
            let key = base64(&format!("metadata/{name}"));
            let answer = port
                .http1(&head, format!(r#"{{"key":"{key}"}}"#).as_bytes())
                .await;
            let told = format!(r#""value":"{value}""#);
            assert!(answer.body.contains(&told), "{}", answer.body);
        }
    });
}

/// Base64 of a text, by the encoder of the messages themselves.
fn base64(text: &str) -> String {
    let request = althing_api::etcdserverpb::RangeRequest {
        key: text.to_string().into(),
        ..Default::default()
    };
    let json = serde_json::to_value(&request).unwrap();
    json["key"].as_str().unwrap().to_string()
}

#[test]
fn the_deadline_of_a_client_is_kept() {
    with_port(settings(), |port| async move {
        let key = base64("wait");
        let body = format!(r#"{{"key":"{key}"}}"#);
        let head = "POST /v3/kv/range\r\nhost: a\r\ngrpc-timeout: 20m";
        let answer = port.http1(head, body.as_bytes()).await;
        assert_eq!(answer.status, 504);
        assert!(answer.body.contains("context deadline exceeded"));
        let head = "POST /v3/kv/range\r\nhost: a\r\ngrpc-timeout: soon";
        assert_eq!(port.http1(head, body.as_bytes()).await.status, 400);
        for none in ["", "0S", "0n"] {
            let head = format!("POST /v3/kv/range\r\nhost: a\r\ngrpc-timeout: {none}");
            assert_eq!(port.http1(&head, b"{}").await.status, 200, "{none}");
        }
    });
}

#[test]
fn a_stream_is_one_object_per_line_and_ends_with_its_error() {
    with_port(settings(), |port| async move {
        let answer = port.post("/v3/election/observe", "{}").await;
        assert_eq!(answer.header("transfer-encoding"), Some("chunked"));
        let lines: Vec<_> = answer
            .body
            .lines()
            .filter(|line| line.starts_with('{'))
            .collect();
        let error = r#"{"error":{"code":14,"message":"etcdserver: no leader"}}"#;
        assert_eq!(lines, [r#"{"result":{}}"#, error]);
    });
}

#[test]
fn a_stream_over_http_1_0_comes_without_chunks_and_ends_with_its_connection() {
    with_port(settings(), |port| async move {
        for header in ["host: a", "connection: keep-alive"] {
            let request = format!(
                "POST /v3/election/observe HTTP/1.0\r\n{header}\r\ncontent-length: 2\r\n\r\n{{}}"
            );
            let answer = last_answer(port.address, request.as_bytes()).await;
            assert_eq!(answer.status, 200);
            assert_eq!(answer.header("transfer-encoding"), None);
            assert_ne!(answer.header("connection"), Some("keep-alive"));
            let error = r#"{"error":{"code":14,"message":"etcdserver: no leader"}}"#;
            assert_eq!(answer.body, format!("{{\"result\":{{}}}}\n{error}\n"));
        }
    });
}

#[test]
fn requests_of_a_watch_may_arrive_one_after_another() {
    with_port(settings(), |port| async move {
        let mut io = port.connect().await;
        let head = "POST /v3/watch HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
        io.write_all(head.as_bytes()).await.unwrap();
        let request = r#"{"create_request":{"key":"aw=="}}"#;
        let chunk = format!("{:x}\r\n{request}\r\n", request.len());
        let mut seen = Vec::new();
        for count in 1..4 {
            io.write_all(chunk.as_bytes()).await.unwrap();
            let created = br#""created":true"#;
            while seen
                .windows(created.len())
                .filter(|window| window == created)
                .count()
                < count
            {
                assert_ne!(io.read_buf(&mut seen).await.unwrap(), 0);
            }
        }
    });
}

#[test]
fn a_mistake_behind_the_first_request_of_a_watch_ends_the_requests_alone() {
    with_port(settings(), |port| async move {
        let first = r#"{"create_request":{"key":"aw=="}}"#;
        let mut watches = Vec::new();
        for rest in [
            "",
            "nonsense",
            "{nonsense}",
            "12",
            r#"{"create_request":7}"#,
        ] {
            let body = format!("{first}{rest}");
            let mut io = port.connect().await;
            let head = "POST /v3/watch HTTP/1.1\r\nhost: a\r\n";
            let request = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
            io.write_all(request.as_bytes()).await.unwrap();
            let mut seen = Vec::new();
            while !seen.ends_with(b"}\n\r\n") {
                assert_ne!(io.read_buf(&mut seen).await.unwrap(), 0, "{rest}");
            }
            watches.push((rest, io, seen));
        }
        let stopping = actix_rt::spawn(port.handle.stop(true));
        for (rest, mut io, mut seen) in watches {
            io.read_to_end(&mut seen).await.unwrap();
            let answer = parse(&String::from_utf8(seen).unwrap());
            assert_eq!(answer.status, 200, "{rest}");
            let lines: Vec<_> = answer
                .body
                .lines()
                .filter(|line| line.starts_with('{'))
                .collect();
            assert_eq!(lines.len(), 2, "{rest}: {lines:?}");
            assert!(lines[0].contains(r#""created":true"#), "{rest}: {lines:?}");
            // The watch was open until the port stopped.
            let stopped = r#"{"error":{"code":14,"message":"etcdserver: server stopped"}}"#;
            assert_eq!(lines[1], stopped, "{rest}");
        }
        stopping.await.unwrap();
    });
}

#[test]
fn a_watch_whose_first_request_is_none_is_refused() {
    with_port(settings(), |port| async move {
        for body in ["nonsense", "12", r#"{"create_request":7}"#] {
            let answer = port.post("/v3/watch", body).await;
            assert_eq!(answer.status, 400, "{body}");
            let start = r#"{"error":{"code":3,"message":""#;
            assert!(answer.body.starts_with(start), "{}", answer.body);
        }
    });
}

#[test]
fn a_websocket_is_refused_at_once_with_what_to_do_instead() {
    with_port(settings(), |port| async move {
        let watch = r#"{"create_request":{}}"#;
        for (line, body) in [
            ("GET /v3/watch", ""),
            ("GET /v3beta/watch", ""),
            ("POST /v3/watch", watch),
            ("POST /v3/kv/range", "{}"),
        ] {
            for upgrade in [
                "connection: Upgrade\r\nupgrade: websocket",
                "upgrade: WebSocket",
            ] {
                let request = format!(
                    "{line} HTTP/1.1\r\nhost: a\r\n{upgrade}\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len()
                );
                let answer = last_answer(port.address, request.as_bytes()).await;
                assert_eq!(answer.status, 501, "{line}");
                assert_eq!(answer.header("connection"), Some("close"), "{line}");
                for part in [r#""code":12,"#, "WebSocket is not served", "POST"] {
                    assert!(answer.body.contains(part), "{}", answer.body);
                }
            }
        }
    });
}

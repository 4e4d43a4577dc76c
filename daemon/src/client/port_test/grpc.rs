//! gRPC calls.

use althing_api::etcdserverpb::{PutRequest, RangeRequest, RangeResponse, WatchRequest};
use althing_api::healthpb::{HealthCheckRequest, HealthCheckResponse};

use super::super::methods::Methods;
use super::*;

fn range(key: &'static str) -> Bytes {
    framed(&RangeRequest {
        key: key.into(),
        ..RangeRequest::default()
    })
}

#[test]
fn a_value_that_was_put_is_read_back_on_the_same_connection() {
    with_port(settings(), |port| async move {
        let mut sender = port.http2().await;
        let put = framed(&PutRequest {
            key: "k".into(),
            value: "v".into(),
            ..PutRequest::default()
        });
        let put = grpc_request("/etcdserverpb.KV/Put", full(put));
        assert_eq!(call(&mut sender, put).await.code, 0);
        let get = grpc_request("/etcdserverpb.KV/Range", full(range("k")));
        let answer = call(&mut sender, get).await;
        let answer = RangeResponse::decode(answer.message).unwrap();
        assert_eq!(answer.kvs[0].value, "v");

        let labels = r#"grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary""#;
        let lines = [
            format!("grpc_server_started_total{{{labels}}}"),
            format!(r#"grpc_server_handled_total{{grpc_code="OK",{labels}}}"#),
            format!("grpc_server_msg_received_total{{{labels}}}"),
            format!("grpc_server_msg_sent_total{{{labels}}}"),
        ];
        for line in lines {
            assert_eq!(port.metric(&line).await, 1.0, "{line}");
        }
        let received = "etcd_network_client_grpc_received_bytes_total";
        assert_eq!(port.metric(received).await, 6.0 + 3.0);
    });
}

#[test]
fn a_preface_that_arrives_byte_by_byte_is_still_http2() {
    with_port(settings(), |port| async move {
        let mut io = port.connect().await;
        io.set_nodelay(true).unwrap();
        for byte in b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0" {
            io.write_all(&[*byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        let mut frame_head = [0; 9];
        io.read_exact(&mut frame_head).await.unwrap();
        assert_eq!(frame_head[3], 4, "the first frame of a server is SETTINGS");
    });
}

#[test]
fn a_message_above_the_receive_limit_is_refused_in_the_words_of_go() {
    with_port(settings(), |port| async move {
        let mut sender = port.http2().await;
        let put = PutRequest {
            key: "k".into(),
            value: vec![7; 2_097_152].into(),
            ..PutRequest::default()
        };
        let bytes = put.encoded_len();
        let request = grpc_request("/etcdserverpb.KV/Put", full(framed(&put)));
        let answer = call(&mut sender, request).await;
        let text = format!("grpc: received message larger than max ({bytes} vs. 2097152)");
        assert_eq!((answer.code, answer.text), (8, text));
    });
}

#[test]
fn a_broken_message_is_refused_in_the_words_of_go() {
    with_port(settings(), |port| async move {
        let mut sender = port.http2().await;
        let broken = Bytes::from_static(b"\0\0\0\0\x01\xff");
        let request = grpc_request("/etcdserverpb.KV/Put", full(broken));
        let answer = call(&mut sender, request).await;
        assert_eq!(answer.code, 13);
        let start = "grpc: error unmarshalling request: proto: ";
        assert!(answer.text.starts_with(start), "{}", answer.text);
    });
}

#[test]
fn unknown_methods_and_services_are_unimplemented() {
    with_port(settings(), |port| async move {
        let mut sender = port.http2().await;
        for (path, text) in [
            (
                "/etcdserverpb.KV/Nosuch",
                "unknown method Nosuch for service etcdserverpb.KV",
            ),
            ("/nosuch.Service/Range", "unknown service nosuch.Service"),
        ] {
            let answer = call(&mut sender, grpc_request(path, full(range("k")))).await;
            assert_eq!((answer.code, answer.text.as_str()), (12, text));
        }
    });
}

#[test]
fn every_method_of_the_table_reaches_a_service() {
    with_port(settings(), |port| async move {
        let mut sender = port.http2().await;
        let methods = Methods::register(&prometheus::Registry::new(), live(settings())).unwrap();
        for path in methods.paths() {
            let answer = sender
                .send_request(grpc_request(path, full(range("k"))))
                .await
                .unwrap();
            let status = tonic::Status::from_header_map(answer.headers());
            // A generated service says "unimplemented" without a text about what it lacks.
            let is_lost = status.is_some_and(|status| {
                status.code() == tonic::Code::Unimplemented && status.message().is_empty()
            });
            assert!(!is_lost, "{path}");
        }
    });
}

#[test]
fn an_error_of_the_service_passes_with_code_and_text() {
    with_port(settings(), |port| async move {
        let mut sender = port.http2().await;
        let request = grpc_request("/etcdserverpb.KV/Compact", full(framed(&())));
        let answer = call(&mut sender, request).await;
        let text = "etcdserver: mvcc: required revision is a future revision";
        assert_eq!((answer.code, answer.text.as_str()), (11, text));
    });
}

#[test]
fn a_call_ends_at_the_deadline_of_its_client() {
    with_port(settings(), |port| async move {
        let mut sender = port.http2().await;
        let mut request = grpc_request("/etcdserverpb.KV/Range", full(range("wait")));
        request
            .headers_mut()
            .insert("grpc-timeout", "20m".parse().unwrap());
        let answer = call(&mut sender, request).await;
        assert_eq!(
            (answer.code, answer.text.as_str()),
            (4, "context deadline exceeded")
        );

        let (pieces, body) = open_body();
        let mut request = grpc_request("/etcdserverpb.Watch/Watch", body);
        request
            .headers_mut()
            .insert("grpc-timeout", "20m".parse().unwrap());
        let answer = call(&mut sender, request).await;
        assert_eq!(
            (answer.code, answer.text.as_str()),
            (4, "context deadline exceeded")
        );
        drop(pieces);
    });
}

#[test]
fn a_call_that_its_client_abandons_counts_as_cancelled() {
    with_port(settings(), |port| async move {
        let mut sender = port.http2().await;
        let request = grpc_request("/etcdserverpb.KV/Range", full(range("wait")));
        let labels = r#"grpc_method="Range",grpc_service="etcdserverpb.KV",grpc_type="unary""#;
        let started = format!("grpc_server_started_total{{{labels}}}");
        let cancelled = format!(r#"grpc_server_handled_total{{grpc_code="Canceled",{labels}}}"#);
        let call = actix_rt::spawn(sender.send_request(request));
        while port.metric(&started).await < 1.0 {}
        call.abort();
        while port.metric(&cancelled).await < 1.0 {}
    });
}

#[test]
fn a_thousand_watches_share_one_connection() {
    with_port(settings(), |port| async move {
        let mut sender = port.http2().await;
        let mut open = Vec::new();
        for _ in 0..1000 {
            let (pieces, body) = open_body();
            pieces.send(framed(&WatchRequest::default())).await.unwrap();
            let request = grpc_request("/etcdserverpb.Watch/Watch", body);
            let mut answer = sender.send_request(request).await.unwrap().into_body();
            let created = answer.frame().await.unwrap().unwrap();
            assert!(created.is_data());
            open.push((pieces, answer));
        }
    });
}

#[test]
fn the_health_service_knows_the_member_under_the_empty_name() {
    with_port(settings(), |port| async move {
        let mut sender = port.http2().await;
        let check = |service: &str| {
            let request = HealthCheckRequest {
                service: service.to_string(),
            };
            grpc_request("/grpc.health.v1.Health/Check", full(framed(&request)))
        };
        let answer = call(&mut sender, check("")).await;
        assert_eq!(
            HealthCheckResponse::decode(answer.message).unwrap().status,
            1
        );
        let answer = call(&mut sender, check("other")).await;
        assert_eq!((answer.code, answer.text.as_str()), (5, "unknown service"));

        let watch = framed(&HealthCheckRequest::default());
        let watch = grpc_request("/grpc.health.v1.Health/Watch", full(watch));
        let mut answer = sender.send_request(watch).await.unwrap().into_body();
        let first = answer.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(
            HealthCheckResponse::decode(first.slice(5..))
                .unwrap()
                .status,
            1
        );
    });
}

#[test]
fn a_client_that_names_a_url_or_a_list_as_the_authority_is_answered() {
    is_answered_with_authority(b"\x15http://127.0.0.1:2379");
    is_answered_with_authority(b"\x10#initially=[h:1]");
}

fn is_answered_with_authority(authority: &'static [u8]) {
    with_port(settings(), move |port| async move {
        let mut io = port.connect().await;
        let block = [
            b"\x83\x86\x04\x16/etcdserverpb.KV/Range\x41".as_slice(),
            authority,
            b"\x5f\x10application/grpc",
        ]
        .concat();
        let length = u8::try_from(block.len()).unwrap();
        let head = [&[0, 0, length, 1, 4, 0, 0, 0, 1], &block[..]].concat();
        let data = b"\0\0\x05\0\x01\0\0\0\x01\0\0\0\0\0";
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
        io.write_all(&[&preface[..], &head, data].concat())
            .await
            .unwrap();
        let (mut kind, mut stream) = (0, 0);
        while stream == 0 {
            let mut frame = [0; 9];
            io.read_exact(&mut frame).await.unwrap();
            (kind, stream) = (frame[3], frame[8]);
            let mut content = vec![0; usize::from(frame[1]) << 8 | usize::from(frame[2])];
            io.read_exact(&mut content).await.unwrap();
        }
        assert_eq!(kind, 1, "headers, and no reset");
    });
}

#[test]
fn compressed_requests_are_read_and_unknown_encodings_refused() {
    // As gzip writes a range of the key `k`.
    const RANGE: &[u8] = &[
        0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 3, 0xe3, 0x62, 0xcc, 6, 0, 0x55, 0xd5, 0xad, 0x31, 3, 0,
        0, 0,
    ];
    with_port(settings(), |port| async move {
        let mut sender = port.http2().await;
        let compressed = |encoding: &'static str| {
            let body = [&[1, 0, 0, 0, RANGE.len() as u8][..], RANGE].concat();
            let mut request = grpc_request("/etcdserverpb.KV/Range", full(body));
            let encoding = http::HeaderValue::from_static(encoding);
            request.headers_mut().insert("grpc-encoding", encoding);
            request
        };
        let answer = call(&mut sender, compressed("gzip")).await;
        assert_eq!((answer.code, answer.text.as_str()), (0, ""));
        assert!(RangeResponse::decode(answer.message).is_ok());
        let answer = call(&mut sender, compressed("snappy")).await;
        let text = r#"grpc: Decompressor is not installed for grpc-encoding "snappy""#;
        assert_eq!((answer.code, answer.text.as_str()), (12, text));
    });
}

#[test]
fn metadata_may_be_large() {
    with_port(settings(), |port| async move {
        let mut sender = port.http2().await;
        let mut request = grpc_request("/etcdserverpb.KV/Range", full(range("metadata/large")));
        let value = "v".repeat(200_000);
        let large = http::HeaderValue::from_str(&value).unwrap();
        request.headers_mut().insert("large", large);
        let answer = call(&mut sender, request).await;
        assert_eq!((answer.code, answer.text.as_str()), (0, ""));
        let answer = RangeResponse::decode(answer.message).unwrap();
        assert_eq!(answer.kvs[0].value, value);
    });
}

#[test]
fn a_head_that_is_none_of_grpc_is_refused_by_a_status_of_http_too() {
    with_port(settings(), |port| async move {
        let mut sender = port.http2().await;
        let mut request = grpc_request("/etcdserverpb.KV/Range", full(range("k")));
        let web = http::HeaderValue::from_static("application/grpc-web");
        request.headers_mut().insert("content-type", web);
        let answer = sender.send_request(request).await.unwrap();
        assert_eq!(answer.status(), 415);
        let text = r#"invalid gRPC request content-type "application/grpc-web""#;
        assert_eq!(status_of(answer.headers()), (3, text.to_owned()));
    });
}

//! An orderly stop with clients of every kind connected.

use althing_api::etcdserverpb::WatchRequest;

use super::*;

#[test]
fn an_orderly_stop_ends_streams_and_lets_go_of_idle_connections() {
    let slow = PortSettings {
        // A stop that waits for a client would wait for this, which is beyond patience.
        shutdown_timeout: PATIENCE * 2,
        ..settings()
    };
    with_port(slow, |port| async move {
        let mut sender = port.http2().await;
        let (pieces, body) = open_body();
        pieces.send(framed(&WatchRequest::default())).await.unwrap();
        let watch = grpc_request("/etcdserverpb.Watch/Watch", body);
        let mut watch = sender.send_request(watch).await.unwrap().into_body();
        assert!(watch.frame().await.unwrap().unwrap().is_data());

        let mut json_watch = port.connect().await;
        let request = r#"{"create_request":{}}"#;
        let head = "POST /v3/watch HTTP/1.1\r\nhost: a\r\n";
        let watch_request = format!("{head}content-length: {}\r\n\r\n{request}", request.len());
        json_watch
            .write_all(watch_request.as_bytes())
            .await
            .unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(b"}\n\r\n") {
            assert_ne!(json_watch.read_buf(&mut seen).await.unwrap(), 0);
        }

        let mut idle = port.connect().await;
        idle.write_all(b"GET /version HTTP/1.1\r\nhost: a\r\n\r\n")
            .await
            .unwrap();
        let mut page = Vec::new();
        while !page.ends_with(b"}") {
            assert_ne!(idle.read_buf(&mut page).await.unwrap(), 0);
        }
        let mut silent = port.connect().await;
        let mut half = port.connect().await;
        half.write_all(b"POST /v3/kv/put HTTP/1.1\r\n")
            .await
            .unwrap();
        // Connections are accepted in order: when this one is served, so were those before it.
        assert_eq!(port.get("/version").await.status, 200);

        let stopping = actix_rt::spawn(port.handle.stop(true));
        let end = watch
            .frame()
            .await
            .unwrap()
            .unwrap()
            .into_trailers()
            .unwrap();
        assert_eq!(
            status_of(&end),
            (14, "etcdserver: server stopped".to_string())
        );
        json_watch.read_to_end(&mut seen).await.unwrap();
        let line = r#"{"error":{"code":14,"message":"etcdserver: server stopped"}}"#;
        assert!(String::from_utf8_lossy(&seen).contains(line));
        assert_eq!(idle.read(&mut [0]).await.unwrap(), 0);
        assert_eq!(silent.read(&mut [0]).await.unwrap(), 0);
        drop(half);
        stopping.await.unwrap();
        assert!(TcpStream::connect(port.address).await.is_err());
    });
}

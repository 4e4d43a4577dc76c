//! Clients that ping, frame by frame.

use super::*;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A client that writes its frames by hand.
struct Pinging(TcpStream);

impl Pinging {
    async fn connect(port: &Port) -> Pinging {
        let mut client = Pinging(port.connect().await);
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        client.0.write_all(preface).await.unwrap();
        client.send(SETTINGS, 0, 0, &[]).await;
        client
    }

    async fn send(&mut self, kind: u8, flags: u8, stream: u8, payload: &[u8]) {
        let length = u8::try_from(payload.len()).unwrap();
        let head = [0, 0, length, kind, flags, 0, 0, 0, stream];
        self.0
            .write_all(&[&head[..], payload].concat())
            .await
            .unwrap();
    }

    /// Begins a call whose request does not come.
    async fn open_call(&mut self) {
        let headers = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", "/etcdserverpb.KV/Put"),
            (":authority", "a"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ];
        let mut block = Vec::new();
        for (name, value) in headers {
            // Literals that are not indexed.
            block.push(0);
            for text in [name, value] {
                block.push(u8::try_from(text.len()).unwrap());
                block.extend_from_slice(text.as_bytes());
            }
        }
        self.send(HEADERS, END_HEADERS, 1, &block).await;
    }

    /// Sends the request of that call and reads the answer to its end.
    async fn finish_call(&mut self) {
        self.send(DATA, END_STREAM, 1, &[0; 5]).await;
        let is_end = |[kind, flags]: [u8; 2]| kind == HEADERS && flags & END_STREAM != 0;
        while !is_end(self.frame().await.unwrap().0) {}
    }

    /// The next frame's kind, flags and payload; `None` at the end.
    async fn frame(&mut self) -> Option<([u8; 2], Vec<u8>)> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).await.ok()?;
        let length = usize::from(head[1]) << 8 | usize::from(head[2]);
        let mut payload = vec![0; length];
        self.0.read_exact(&mut payload).await.unwrap();
        Some(([head[3], head[4]], payload))
    }

    /// The next that answers a ping or ends the connection: its kind and payload.
    async fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            let ([kind, flags], payload) = self.frame().await?;
            match kind {
                PING => assert_eq!(flags, ACK, "the server has no reason to ping"),
                GOAWAY => {}
                _ => continue,
            }
            return Some((kind, payload));
        }
    }

    /// Pings and reads the answer to it.
    async fn ping(&mut self) {
        self.send(PING, 0, 0, b"pingping").await;
        assert_eq!(self.next().await, Some((PING, b"pingping".to_vec())));
    }

    /// Pings once more than may be, and expects the end.
    async fn ping_too_often(&mut self, last_stream: u8) {
        self.send(PING, 0, 0, b"pingping").await;
        let mut frame = self.next().await.unwrap();
        if frame.0 == PING {
            frame = self.next().await.unwrap();
        }
        let told = [&[0, 0, 0, last_stream, 0, 0, 0, 11], &b"too_many_pings"[..]].concat();
        assert_eq!(frame, (GOAWAY, told));
        assert_eq!(self.next().await, None);
    }
}

#[test]
fn a_client_without_a_call_that_pings_again_and_again_is_sent_away() {
    with_port(settings(), |port| async move {
        let mut client = Pinging::connect(&port).await;
        for _ in 0..3 {
            client.ping().await;
        }
        client.ping_too_often(0).await;
    });
}

#[test]
fn a_client_with_a_call_may_ping_at_the_interval_of_the_settings() {
    let ping_interval_min = Duration::from_nanos(1);
    let settings = PortSettings {
        ping_interval_min,
        ..settings()
    };
    with_port(settings, |port| async move {
        let mut client = Pinging::connect(&port).await;
        client.open_call().await;
        for _ in 0..20 {
            client.ping().await;
        }
        let mut later = port.live.get().as_ref().clone();
        later.port.ping_interval_min = Duration::from_secs(3600);
        port.live.replace(later);
        let mut other = Pinging::connect(&port).await;
        other.open_call().await;
        for _ in 0..3 {
            other.ping().await;
        }
        other.ping_too_often(1).await;
        client.ping().await;
    });
}

#[test]
fn an_answer_forgives_the_pings_before_it() {
    with_port(settings(), |port| async move {
        let mut client = Pinging::connect(&port).await;
        client.open_call().await;
        for _ in 0..3 {
            client.ping().await;
        }
        client.finish_call().await;
        // One is forgiven with those before it, and the next two are not too many.
        for _ in 0..3 {
            client.ping().await;
        }
        client.ping_too_often(1).await;
    });
}

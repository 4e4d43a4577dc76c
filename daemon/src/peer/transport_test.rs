//! Both ends of the peer protocol over real sockets, with an echo in the place of a node.

use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use althing_actors::node::{MemberStatus, Refusal};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;

use super::*;
use crate::peer::{Membership, WayIn, serve};

const CLUSTER: ClusterId = ClusterId(0xc1);
const ME: MemberId = MemberId(2);
const REMOVED: MemberId = MemberId(66);
const DEADLINE: Duration = Duration::from_secs(30);

#[derive(Clone)]
struct NoMembers;

impl Membership for NoMembers {
    fn cluster_id(&self) -> ClusterId {
        CLUSTER
    }

    fn members(&self) -> Vec<MemberStatus> {
        Vec::new()
    }

    fn cluster_version(&self) -> Option<String> {
        None
    }
}

/// Answers with what it was sent; refuses what begins with `!`, and never answers what begins with
/// `?`. Clones count together.
#[derive(Clone, Default)]
struct Echo {
    /// Snapshots that it began to take in, and calls that it never answers.
    begun: Arc<AtomicUsize>,
    /// Calls among them that nobody waits for any more.
    given_up: Arc<AtomicUsize>,
}

/// Counts when it is dropped.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn echo(body: Bytes) -> Result<Bytes, Refusal> {
    match body.first() {
        Some(b'!') => Err(Refusal::Malformed("it begins with !".to_owned())),
        _ => Ok(body),
    }
}

impl WayIn for Echo {
    fn admit(&self, cluster: ClusterId, from: MemberId, to: MemberId) -> Result<(), Refusal> {
        if from == REMOVED {
            return Err(Refusal::Removed);
        }
        let (ours, theirs) = (CLUSTER, cluster);
        if ours != theirs {
            return Err(Refusal::OtherCluster { ours, theirs });
        }
        let (ours, theirs) = (ME, to);
        if ours == theirs {
            Ok(())
        } else {
            Err(Refusal::OtherMember { ours, theirs })
        }
    }

    fn call(&self, _: Call, body: Bytes) -> BoxFuture<'static, Result<Bytes, Refusal>> {
        if body.first() != Some(&b'?') {
            return std::future::ready(echo(body)).boxed();
        }
        self.begun.fetch_add(1, Ordering::Relaxed);
        let counted = Counted(Arc::clone(&self.given_up));
        async move {
            let _counted = counted;
            std::future::pending().await
        }
        .boxed()
    }

    fn send(&self, _: Pipe, body: Bytes) -> BoxFuture<'static, Result<Bytes, Refusal>> {
        async move {
            // Some answers come later than those of messages behind them.
            for _ in 0..body.len() % 7 {
                tokio::task::yield_now().await;
            }
            echo(body)
        }
        .boxed()
    }

    fn pipe_ended(&self, _: Pipe, _: MemberId) {}

    fn snapshot(
        &self,
        head: Bytes,
        mut body: SnapshotBytes,
    ) -> BoxFuture<'static, Result<Bytes, Refusal>> {
        self.begun.fetch_add(1, Ordering::Relaxed);
        async move {
            let mut sum = 0_usize;
            while let Some(chunk) = body.recv().await {
                let chunk = chunk.map_err(|_| Refusal::Malformed("cut".to_owned()))?;
                if chunk != numbered(sum, chunk.len()) {
                    return Err(Refusal::Malformed("in disorder".to_owned()));
                }
                sum += chunk.len();
            }
            Ok(Bytes::from(format!("{} then {sum}", head.len())))
        }
        .boxed()
    }
}

/// Bytes of a snapshot from `offset` on, none of which could stand in the place of its neighbours.
fn numbered(offset: usize, length: usize) -> Vec<u8> {
    let bytes = offset..offset + length;
    bytes.map(|at| (at % 251) as u8).collect()
}

/// A snapshot of this many chunks of 100,000 bytes, fed as it is taken.
fn snapshot_of(chunks: usize) -> SnapshotBytes {
    let (to, body) = mpsc::channel(2);
    actix_rt::spawn(async move {
        for chunk in 0..chunks {
            let chunk = numbered(chunk * 100_000, 100_000);
            if to.send(Ok(Bytes::from(chunk))).await.is_err() {
                return;
            }
        }
    });
    body
}

/// Stands before a member's port, and breaks a connection as soon as a total of bytes has gone in,
/// once for each of `breaks`. Returns where it listens, and the count of those bytes.
async fn breaking(peer: &Peer, mut breaks: Vec<usize>) -> (Peer, Arc<AtomicUsize>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let member = peer.urls[1].strip_prefix("http://").unwrap().to_owned();
    let (id, urls) = (peer.id, vec![url]);
    let passed = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&passed);
    actix_rt::spawn(async move {
        loop {
            let (io, _) = listener.accept().await.unwrap();
            let (mut from, mut back) = io.into_split();
            let io = tokio::net::TcpStream::connect(&member).await.unwrap();
            let (mut answers, mut to) = io.into_split();
            let answered = actix_rt::spawn(async move {
                let _ = tokio::io::copy(&mut answers, &mut back).await;
            });
            let mut bytes = vec![0; 10_000];
            while let Ok(read) = from.read(&mut bytes).await
                && read > 0
                && to.write_all(&bytes[..read]).await.is_ok()
            {
                let passed = count.fetch_add(read, Ordering::Relaxed) + read;
                if breaks.first().is_some_and(|at| *at <= passed) {
                    breaks.remove(0);
                    answered.abort();
                    break;
                }
            }
        }
    });
    (Peer { id, urls }, passed)
}

/// Runs `test` against a peer port, with a transport that believes it is of `cluster`.
fn with_port<F: Future<Output = ()>>(test: impl FnOnce(HttpTransport, Peer) -> F) {
    with_port_of(Echo::default(), test);
}

/// As [`with_port`], with `echo` behind the port.
fn with_port_of<F: Future<Output = ()>>(echo: Echo, test: impl FnOnce(HttpTransport, Peer) -> F) {
    actix_rt::System::new().block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = Peer {
            id: ME,
            urls: vec![
                "http://127.0.0.1:1".to_owned(),
                format!("http://{}", listener.local_addr().unwrap()),
            ],
        };
        let (closing, closed) = watch::channel(false);
        let served = serve(NoMembers, echo, listener, closed);
        let (server, handle) = served.unwrap();
        let server = actix_rt::spawn(server);
        let transport = HttpTransport::new(CLUSTER, MemberId(1));
        let tested = tokio::time::timeout(DEADLINE, test(transport, peer));
        tested.await.expect("in time");
        closing.send(true).unwrap();
        // A pipe that is still open does not hold the port up.
        let stopped = tokio::time::timeout(DEADLINE / 2, handle.stop(true));
        stopped.await.expect("it closes");
        server.await.unwrap().unwrap();
    });
}

/// Answers one request, and is gone with its port as soon as it has the next.
async fn dying() -> Peer {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let urls = vec![format!("http://{}", listener.local_addr().unwrap())];
    actix_rt::spawn(async move {
        let (mut kept, _) = listener.accept().await.unwrap();
        let (mut bytes, mut another) = ([0; 10_000], [0; 10_000]);
        assert!(kept.read(&mut bytes).await.unwrap() > 0);
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        kept.write_all(answer).await.unwrap();
        tokio::select! {
            _ = kept.read(&mut bytes) => drop(listener),
            accepted = listener.accept() => {
                drop(listener);
                let (mut fresh, _) = accepted.unwrap();
                assert!(fresh.read(&mut another).await.unwrap() > 0);
            }
        }
    });
    Peer { id: ME, urls }
}

#[test]
fn a_change_that_may_have_arrived_is_never_said_not_to_have_been_sent() {
    actix_rt::System::new().block_on(async {
        let transport = HttpTransport::new(CLUSTER, MemberId(1));
        let peer = dying().await;
        let body = Bytes::from_static(b"body");
        let first = Transport::call(&transport, &peer, Call::Vote, body.clone());
        first.await.expect("it is answered");
        let change = Transport::call(&transport, &peer, Call::ChangeMembers, body);
        let change = tokio::time::timeout(DEADLINE, change)
            .await
            .expect("in time");
        assert!(matches!(change, Err(LinkError::Lost(_))), "{change:?}");
    });
}

#[test]
fn calls_are_answered_and_refused_on_kept_connections() {
    with_port(|transport, peer| async move {
        for n in 0..20 {
            let body = Bytes::from(format!("body {n}"));
            let answer = Transport::call(&transport, &peer, Call::Vote, body.clone()).await;
            assert_eq!(answer.unwrap(), body);
        }
        let kept: usize = transport.0.kept.lock().values().map(Vec::len).sum();
        assert_eq!(kept, 1, "one after the other they share one");
        let accepted = transport.0.accepted.lock().get(&ME).cloned();
        assert_eq!(
            accepted.as_ref(),
            Some(&peer.urls[1]),
            "tried first next time"
        );
        let turned = Peer {
            urls: vec![peer.urls[1].clone(), peer.urls[0].clone()],
            ..peer.clone()
        };
        for peer in [&peer, &turned] {
            let connection = transport.dial(peer).await.unwrap();
            assert_eq!(
                connection.url(),
                peer.urls[usize::from(peer.urls[0].ends_with(":1"))]
            );
        }
        let refused = Bytes::from_static(b"!");
        let refused = Transport::call(&transport, &peer, Call::Heartbeat, refused).await;
        let refused = refused.unwrap_err();
        assert!(
            matches!(&refused, LinkError::Refused(why) if why.contains('!')),
            "{refused}"
        );
        let large = Bytes::from(vec![0; CALL_BYTES_MAX + 1]);
        let large = Transport::call(&transport, &peer, Call::Heartbeat, large).await;
        assert!(large.is_err(), "a call has a limit");
    });
}

#[test]
fn a_pipe_carries_many_messages_at_once_and_answers_in_their_order() {
    with_port(|transport, peer| async move {
        let mut pipe = Transport::open(&transport, &peer, Pipe::Append)
            .await
            .unwrap();
        let body = |n: usize| match n % 5 {
            0 => Bytes::from(vec![n as u8; 100_000 + n]),
            1 => Bytes::from_static(b"!no"),
            _ => Bytes::from(format!("message {n}")),
        };
        let mut sent = 0;
        for answered in 0..200 {
            while sent < 200 && sent - answered < Pipe::Append.window() {
                pipe.requests.try_send(body(sent)).unwrap();
                sent += 1;
            }
            match pipe.answers.recv().await.expect("an answer to each") {
                Ok(answer) => assert!(answer == body(answered), "{answered}"),
                Err(LinkError::Refused(_)) => assert_eq!(answered % 5, 1),
                Err(error) => panic!("{error}"),
            }
        }
    });
}

#[test]
fn a_pipe_ends_with_its_requests() {
    with_port(|transport, peer| async move {
        let mut pipe = Transport::open(&transport, &peer, Pipe::Propose)
            .await
            .unwrap();
        pipe.requests.try_send(Bytes::from_static(b"a")).unwrap();
        assert!(pipe.answers.recv().await.unwrap().is_ok());
        drop(pipe.requests);
        assert!(pipe.answers.recv().await.is_none_or(|end| end.is_err()));
    });
}

#[test]
fn a_snapshot_arrives_whole_or_is_refused() {
    with_port(|transport, peer| async move {
        let head = Bytes::from_static(b"head");
        let body = snapshot_of(40);
        let answer = Transport::send_snapshot(&transport, &peer, head.clone(), body).await;
        assert_eq!(answer.unwrap(), "4 then 4000000");

        let (chunks, body) = mpsc::channel(2);
        chunks.try_send(Ok(Bytes::from_static(b"half"))).unwrap();
        chunks.try_send(Err(io::ErrorKind::Other.into())).unwrap();
        let cut = Transport::send_snapshot(&transport, &peer, head, body).await;
        assert!(cut.is_err(), "{cut:?}");
    });
}

#[test]
fn a_snapshot_whose_connections_break_goes_on_where_it_was() {
    with_port(|transport, peer| async move {
        let breaks = vec![350_000, 400_000, 2_000_000];
        let (way, passed) = breaking(&peer, breaks).await;
        let head = Bytes::from_static(b"head");
        let sent = Transport::send_snapshot(&transport, &way, head, snapshot_of(40)).await;
        assert_eq!(sent.unwrap(), "4 then 4000000");
        // Had it begun again each time, the breaks would come on top.
        let passed = passed.load(Ordering::Relaxed);
        assert!(passed < 4_000_000 + 2_000_000, "{passed}");
    });
}

#[test]
fn a_snapshot_that_nobody_goes_on_with_makes_room_for_the_next() {
    let echo = Echo::default();
    let begun = Arc::clone(&echo.begun);
    with_port_of(echo, |transport, peer| async move {
        let (way, passed) = breaking(&peer, vec![350_000]).await;
        let head = Bytes::from_static(b"head");
        let given_up = Transport::send_snapshot(&transport, &way, head.clone(), snapshot_of(40));
        tokio::select! {
            sent = given_up => panic!("{sent:?}"),
            () = until(|| passed.load(Ordering::Relaxed) > 350_000) => {}
        }
        // Sent is not arrived: if it began after the next one, it would take its place.
        until(|| begun.load(Ordering::Relaxed) > 0).await;
        let next = Transport::send_snapshot(&transport, &peer, head, snapshot_of(3)).await;
        assert_eq!(next.unwrap(), "4 then 300000");
    });
}

#[test]
fn a_call_whose_caller_has_gone_holds_no_connection() {
    let echo = Echo::default();
    let (begun, given_up) = (Arc::clone(&echo.begun), Arc::clone(&echo.given_up));
    with_port_of(echo, |transport, peer| async move {
        let question = Bytes::from_static(b"?");
        tokio::select! {
            answer = Transport::call(&transport, &peer, Call::ReadIndex, question) => {
                panic!("{answer:?}")
            }
            () = until(|| begun.load(Ordering::Relaxed) == 1) => {}
        }
        until(|| given_up.load(Ordering::Relaxed) == 1).await;
    });
}

async fn until(holds: impl Fn() -> bool) {
    while !holds() {
        tokio::task::yield_now().await;
    }
}

#[test]
fn another_cluster_and_another_member_are_refused_by_name() {
    with_port(|transport, peer| async move {
        let foreign = HttpTransport::new(ClusterId(7), MemberId(1));
        let asked = Transport::call(&foreign, &peer, Call::Vote, Bytes::new()).await;
        assert!(
            asked
                .unwrap_err()
                .to_string()
                .contains("cluster ID mismatch")
        );
        let opened = Transport::open(&foreign, &peer, Pipe::Append).await;
        assert!(matches!(opened.unwrap_err(), LinkError::Refused(_)));
        let other = Peer {
            id: MemberId(9),
            urls: peer.urls.clone(),
        };
        let asked = Transport::call(&transport, &other, Call::Vote, Bytes::new()).await;
        assert!(asked.unwrap_err().to_string().contains("for member 9"));
    });
}

#[test]
fn a_member_that_was_removed_is_told() {
    with_port(|_, peer| async move {
        let transport = HttpTransport::new(CLUSTER, REMOVED);
        let asked = Transport::call(&transport, &peer, Call::PreVote, Bytes::new()).await;
        assert!(matches!(asked, Err(LinkError::Removed)), "{asked:?}");
        let opened = Transport::open(&transport, &peer, Pipe::Propose).await;
        assert!(matches!(opened, Err(LinkError::Removed)));
        let (_chunks, body) = mpsc::channel(1);
        let sent = Transport::send_snapshot(&transport, &peer, Bytes::new(), body).await;
        assert!(matches!(sent, Err(LinkError::Removed)));
    });
}

#[test]
fn a_member_that_is_down_was_not_sent_anything() {
    actix_rt::System::new().block_on(async {
        let transport = HttpTransport::new(CLUSTER, MemberId(1));
        let down = Peer {
            id: ME,
            urls: vec!["http://127.0.0.1:1".to_owned()],
        };
        let asked = Transport::call(&transport, &down, Call::Vote, Bytes::new()).await;
        assert!(matches!(asked, Err(LinkError::NotSent(_))));
        let opened = Transport::open(&transport, &down, Pipe::Append).await;
        assert!(matches!(opened, Err(LinkError::NotSent(_))));
    });
}

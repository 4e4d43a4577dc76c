//! The peer port: what members ask of one another over HTTP/1.1.
//!
//! ```text
//! accept (actix-web) -+- GET /version       -> the versions that this member speaks
//!                     +- GET /members       -> the current configuration
//!                     +- POST /althing/v1/* -> raft, proposals, snapshots; see `raft`
//!                     +- else               -> 404
//! ```
//!
//! The port owns the connections that other members opened, and waits for the node in the task of
//! each request. It fails with the process. `transport` is the other direction.

mod dial;
mod frame;
pub mod join;
mod path;
mod raft;
mod senders;
mod snapshot_in;
mod snapshot_out;
pub mod survey;
mod transport;

use std::io;
use std::net::TcpListener;
use std::time::Duration;

use actix_server::{Server, ServerHandle};
use actix_web::http::Method;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use althing_actors::node::{Handles, MemberStatus};
use althing_api::id::ClusterId;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

pub use self::raft::WayIn;
use self::snapshot_in::SnapshotIn;
pub use self::transport::HttpTransport;

use crate::client::info::version_body;
use crate::client::plain::{method_not_allowed, not_found};

/// One thread: it decodes and encodes, and waits for the node, which has its own threads.
const WORKERS: usize = 1;

/// A follower's calls are rare; its connection is kept for the next one.
const KEEP_ALIVE: Duration = Duration::from_secs(75);

/// As for the client port: the caller that stops the server waits no longer than the settings of
/// that moment say.
const STOP_MAX: Duration = Duration::from_secs(24 * 3600);

/// The facts that the peer port tells. The port is generic over them, so that it is tested without
/// a node.
pub trait Membership: Clone + Send + 'static {
    /// The cluster that this member belongs to.
    fn cluster_id(&self) -> ClusterId;
    /// The members of the current configuration.
    fn members(&self) -> Vec<MemberStatus>;
    /// The cluster version, once decided.
    fn cluster_version(&self) -> Option<String>;
}

impl Membership for Handles {
    fn cluster_id(&self) -> ClusterId {
        self.status().cluster_id
    }

    fn members(&self) -> Vec<MemberStatus> {
        Handles::members(self)
    }

    fn cluster_version(&self) -> Option<String> {
        self.store().cluster_version()
    }
}

/// A member as etcd's peers write it: what is empty is left out.
#[derive(Deserialize, Serialize)]
struct MemberJson {
    id: u64,
    #[serde(rename = "peerURLs", default)]
    peer_urls: Vec<String>,
    #[serde(
        rename = "isLearner",
        default,
        skip_serializing_if = "std::ops::Not::not"
    )]
    is_learner: bool,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(rename = "clientURLs", default, skip_serializing_if = "Vec::is_empty")]
    client_urls: Vec<String>,
}

/// Serves the peer port on `listener`. Must be called inside an actix system; the server is a
/// future that ends once the handle has stopped it. When `closing` turns true, the endless requests
/// of other members end. Errors: a listener that cannot be used.
pub fn serve<M: Membership, W: WayIn>(
    membership: M,
    way_in: W,
    listener: TcpListener,
    closing: watch::Receiver<bool>,
) -> io::Result<(Server, ServerHandle)> {
    let snapshot_in = SnapshotIn::default();
    let server = HttpServer::new(move || {
        let (versions, members) = (membership.clone(), membership.clone());
        App::new()
            .route(
                "/version",
                web::to(move |request: HttpRequest| {
                    let body = get(&request, || {
                        version_body(versions.cluster_version().as_deref())
                    });
                    std::future::ready(body)
                }),
            )
            .route(
                "/members",
                web::to(move |request: HttpRequest| {
                    std::future::ready(get(&request, || members_body(&members)))
                }),
            )
            .configure(|config| raft::routes(config, &way_in, &snapshot_in, &closing))
            .default_service(web::to(|| std::future::ready(not_found())))
    })
    .on_connect(|connection, _| {
        let connection = connection.downcast_ref::<actix_rt::net::TcpStream>();
        // If this fails, small answers leave a little later, and a member that vanished is noticed
        // only by a request that waits for it.
        let _ = connection.map(dial::prepare);
    })
    .keep_alive(KEEP_ALIVE)
    // A member that closes its end has given up on the answer. Otherwise nothing would be read
    // until the answer is there, not even that the connection is dead.
    .h1_allow_half_closed(false)
    .workers(WORKERS)
    .shutdown_timeout(STOP_MAX.as_secs())
    .disable_signals();
    let server = server.listen(listener)?.run();
    let handle = server.handle();
    Ok((server, handle))
}

fn get(request: &HttpRequest, answer: impl FnOnce() -> HttpResponse) -> HttpResponse {
    match *request.method() {
        Method::GET => answer(),
        _ => method_not_allowed(),
    }
}

fn members_body(membership: &impl Membership) -> HttpResponse {
    let mut members: Vec<_> = membership
        .members()
        .into_iter()
        .map(|member| MemberJson {
            id: member.id.0,
            peer_urls: member.peer_urls,
            is_learner: member.is_learner,
            name: member.name,
            client_urls: member.client_urls,
        })
        .collect();
    members.sort_by_key(|member| member.id);
    HttpResponse::Ok()
        .insert_header(("X-Etcd-Cluster-ID", membership.cluster_id().to_string()))
        .json(members)
}

#[cfg(test)]
mod tests {
    use althing_actors::node::Refusal;
    use althing_actors::peer_link::{Call, Pipe, SnapshotBytes};
    use althing_api::id::MemberId;
    use bytes::Bytes;
    use futures_util::future::BoxFuture;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    #[derive(Clone)]
    struct Two;

    impl Membership for Two {
        fn cluster_id(&self) -> ClusterId {
            ClusterId(0xc1)
        }

        fn members(&self) -> Vec<MemberStatus> {
            let started = MemberStatus {
                id: MemberId(u64::MAX),
                name: "a".to_string(),
                peer_urls: vec!["http://a:2380".to_string()],
                client_urls: vec!["http://a:2379".to_string()],
                is_learner: false,
            };
            let learner = MemberStatus {
                id: MemberId(1),
                peer_urls: vec!["http://b:2380".to_string()],
                is_learner: true,
                ..MemberStatus::default()
            };
            vec![started, learner]
        }

        fn cluster_version(&self) -> Option<String> {
            None
        }
    }

    /// No message is let in.
    #[derive(Clone)]
    struct Nobody;

    impl WayIn for Nobody {
        fn admit(&self, cluster: ClusterId, _: MemberId, _: MemberId) -> Result<(), Refusal> {
            let (ours, theirs) = (ClusterId(0xc1), cluster);
            Err(Refusal::OtherCluster { ours, theirs })
        }

        fn call(&self, _: Call, _: Bytes) -> BoxFuture<'static, Result<Bytes, Refusal>> {
            unreachable!("it was not admitted")
        }

        fn send(&self, _: Pipe, _: Bytes) -> BoxFuture<'static, Result<Bytes, Refusal>> {
            unreachable!("it was not admitted")
        }

        fn pipe_ended(&self, _: Pipe, _: MemberId) {
            unreachable!("it was not admitted")
        }

        fn snapshot(
            &self,
            _: Bytes,
            _: SnapshotBytes,
        ) -> BoxFuture<'static, Result<Bytes, Refusal>> {
            unreachable!("it was not admitted")
        }
    }

    async fn ask(address: std::net::SocketAddr, request: &str) -> String {
        let mut io = TcpStream::connect(address).await.unwrap();
        let request = format!("{request} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        io.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        io.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[test]
    fn a_peer_learns_the_members_and_versions_and_nothing_else() {
        actix_rt::System::new().block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let (_closing, closed) = watch::channel(false);
            let served = serve(Two, Nobody, listener, closed);
            let (server, handle) = served.unwrap();
            let server = actix_rt::spawn(server);

            let answer = ask(address, "GET /members").await;
            assert!(
                answer.to_lowercase().contains("x-etcd-cluster-id: c1\r\n"),
                "{answer}"
            );
            let body = answer.split("\r\n\r\n").nth(1).unwrap();
            let expected = concat!(
                r#"[{"id":1,"peerURLs":["http://b:2380"],"isLearner":true},"#,
                r#"{"id":18446744073709551615,"peerURLs":["http://a:2380"],"name":"a","#,
                r#""clientURLs":["http://a:2379"]}]"#
            );
            assert_eq!(body, expected);
            let answer = ask(address, "GET /version").await;
            assert!(
                answer.contains(r#""etcdcluster":"not_decided""#),
                "{answer}"
            );
            assert!(
                ask(address, "POST /members")
                    .await
                    .starts_with("HTTP/1.1 405")
            );
            assert!(
                ask(address, "GET /metrics")
                    .await
                    .starts_with("HTTP/1.1 404")
            );

            let without_ids = ask(address, "POST /althing/v1/vote").await;
            assert!(without_ids.starts_with("HTTP/1.1 400"), "{without_ids}");

            handle.stop(true).await;
            server.await.unwrap().unwrap();
        });
    }
}

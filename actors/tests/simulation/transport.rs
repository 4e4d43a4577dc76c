//! The links' transport over the simulated network.

use std::sync::Arc;

use althing_actors::peer_link::{
    Call, Knock, LinkError, OpenPipe, Peer, Pipe, SnapshotBytes, Transport,
};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use crate::network::{Arrival, Back, Line, Network, PipeBack, refuse, sum};

/// The transport that one member sends through.
#[derive(Debug)]
pub struct Sender {
    pub me: u64,
    pub net: Network,
}

impl Transport for Sender {
    fn call(
        &self,
        peer: &Peer,
        call: Call,
        body: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, LinkError>> {
        let (net, me, to) = (self.net.clone(), self.me, peer.id.0);
        async move {
            if call == Call::Heartbeat {
                net.look_for_leader(me, &body);
            }
            if call == Call::Vote {
                net.look_at_candidate(me, &body);
            }
            let asked = body.clone();
            let (answer, answered) = oneshot::channel();
            let back = Back {
                net: net.clone(),
                way: (to, me),
                answer: Some(answer),
            };
            let what = sum(call as u64, &body);
            net.post((me, to), what, None, move |net, arrives| {
                if arrives {
                    let arrival = Arrival::Call { call, body, back };
                    let _ = net.hand_in(to, arrival).map_err(refuse);
                }
            });
            let lost = |_| Err(LinkError::Lost("cut".into()));
            let answer = answered.await.unwrap_or_else(lost)?;
            if call == Call::PreVote {
                net.look_at_promise(me, &asked, &answer);
            }
            Ok(answer)
        }
        .boxed()
    }

    /// A knock that gets lost on the way there or back counts as silence.
    fn knock(&self, peer: &Peer) -> BoxFuture<'static, Knock> {
        let (net, me, to) = (self.net.clone(), self.me, peer.id.0);
        async move {
            let (told, hears) = oneshot::channel();
            net.post((me, to), 13, None, move |net, arrives| {
                let knock = if net.is_up(to) {
                    Knock::Open
                } else {
                    Knock::Refused
                };
                if arrives {
                    net.post((to, me), 14, None, move |_, arrives| {
                        if arrives {
                            // The caller that knocked may have given up.
                            let _ = told.send(knock);
                        }
                    });
                }
            });
            hears.await.unwrap_or(Knock::Silent)
        }
        .boxed()
    }

    fn open(&self, peer: &Peer, pipe: Pipe) -> BoxFuture<'static, Result<OpenPipe, LinkError>> {
        let (net, me, to) = (self.net.clone(), self.me, peer.id.0);
        async move {
            let (requests, outgoing) = mpsc::channel::<Bytes>(pipe.window());
            let (answers_in, answers) = mpsc::channel(pipe.window() + 1);
            let line = Arc::new(Line {
                answers: Mutex::new(Some(answers_in)),
                last: Mutex::default(),
            });
            let (hand, arrived) = mpsc::unbounded_channel();
            let (met, meets) = oneshot::channel();
            let back = PipeBack {
                net: net.clone(),
                way: (to, me),
                line: Arc::clone(&line),
            };
            net.post((me, to), 11, None, move |net, arrives| {
                let arrival = Arrival::Pipe {
                    pipe,
                    requests: arrived,
                    back,
                };
                let is_up = arrives && net.hand_in(to, arrival).map_err(refuse).is_ok();
                if is_up {
                    net.post((to, me), 12, None, move |net, arrives| {
                        if arrives {
                            drop(met.send(Ok(Bytes::new())))
                        } else {
                            net.lose(met)
                        }
                    });
                }
            });
            let refused = |_| Err(LinkError::NotSent("down".into()));
            meets.await.unwrap_or_else(refused)?;
            tokio::task::spawn_local(carry_out(net, (me, to), pipe, outgoing, line, hand));
            Ok(OpenPipe { requests, answers })
        }
        .boxed()
    }

    fn send_snapshot(
        &self,
        peer: &Peer,
        head: Bytes,
        mut body: SnapshotBytes,
    ) -> BoxFuture<'static, Result<Bytes, LinkError>> {
        let (net, me, to) = (self.net.clone(), self.me, peer.id.0);
        async move {
            let mut chunks = Vec::new();
            while let Some(chunk) = body.recv().await {
                chunks.push(chunk.map_err(|error| LinkError::Lost(error.to_string()))?);
            }
            let (answer, answered) = oneshot::channel();
            let back = Back {
                net: net.clone(),
                way: (to, me),
                answer: Some(answer),
            };
            let bytes: u64 = chunks.iter().map(|chunk| chunk.len() as u64).sum();
            net.post((me, to), bytes, None, move |net, arrives| {
                let (sink, body) = mpsc::channel(chunks.len() + 1);
                for chunk in chunks {
                    let _ = sink.try_send(Ok(chunk));
                }
                if arrives {
                    let arrival = Arrival::Snapshot { head, body, back };
                    let _ = net.hand_in(to, arrival).map_err(refuse);
                }
            });
            let lost = |_| Err(LinkError::Lost("cut".into()));
            answered.await.unwrap_or_else(lost)
        }
        .boxed()
    }
}

/// The sending half of a pipe; it ends with its task, and the task with its node.
async fn carry_out(
    net: Network,
    way: (u64, u64),
    pipe: Pipe,
    mut outgoing: mpsc::Receiver<Bytes>,
    line: Arc<Line>,
    hand: mpsc::UnboundedSender<Bytes>,
) {
    while let Some(request) = outgoing.recv().await {
        if pipe == Pipe::Append {
            net.look_for_leader(way.0, &request);
        }
        let what = sum(pipe as u64 + 20, &request);
        let (hand, line_at_end) = (hand.clone(), Arc::clone(&line));
        line.post(&net, way, what, 0, move |_| {
            if hand.send(request).is_err() {
                line_at_end.end();
            }
        });
    }
}

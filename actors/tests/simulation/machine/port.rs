//! The peer port of a simulated machine: what arrives is admitted and handed to its node.

use althing_actors::node::{Handles, Refusal};
use althing_api::id::MemberId;
use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use tokio::sync::mpsc;

use super::actix_spawn;
use crate::network::Arrival;

/// Serves what arrives for a node, until the network lets it go.
pub async fn serve(mut arrivals: mpsc::UnboundedReceiver<Arrival>, handles: Handles) {
    while let Some(arrival) = arrivals.recv().await {
        let inbound = handles.inbound().clone();
        let (me, from) = arrival.way();
        let (me, from) = (MemberId(me), MemberId(from));
        if let Err(refusal) = inbound.admit(handles.status().cluster_id, from, me) {
            refuse(arrival, refusal);
            continue;
        }
        match arrival {
            Arrival::Call { call, body, back } => actix_spawn(async move {
                back.answer(inbound.call(call, body).await);
            }),
            Arrival::Snapshot { head, body, back } => actix_spawn(async move {
                back.answer(inbound.snapshot(head, body).await);
            }),
            Arrival::Pipe {
                pipe,
                mut requests,
                back,
            } => actix_spawn(async move {
                let mut under_way = FuturesOrdered::new();
                loop {
                    tokio::select! {
                        biased;
                        Some(answer) = under_way.next() => back.answer(answer),
                        request = requests.recv() => match request {
                            Some(request) => under_way.push_back(inbound.send(pipe, request)),
                            None => return inbound.pipe_ended(pipe, from),
                        },
                    }
                }
            }),
        }
    }
}

fn refuse(arrival: Arrival, refusal: Refusal) {
    match arrival {
        Arrival::Call { back, .. } | Arrival::Snapshot { back, .. } => back.answer(Err(refusal)),
        Arrival::Pipe { back, .. } => back.answer(Err(refusal)),
    }
}

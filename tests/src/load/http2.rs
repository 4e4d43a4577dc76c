//! One HTTP/2 connection under load, with a fixed number of gRPC requests in flight. A gRPC answer
//! with a message is a success; a refusal has none.

use std::io;
use std::time::Instant;

use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::frames::Link;
use super::workload::Workload;
use super::{Phase, Tally};

/// A request in flight.
struct Pending {
    stream: u32,
    sent: Instant,
    has_message: bool,
}

/// Keeps `streams` requests in flight until the phase ends.
///
/// # Errors
/// When the connection breaks or the server gives it up.
pub async fn drive(
    port: u16,
    streams: usize,
    seed: u64,
    workload: &Workload,
    phase: &Phase,
) -> io::Result<Tally> {
    let mut link = Link::connect(port).await?;
    let mut random = SmallRng::seed_from_u64(seed);
    let mut pending: Vec<Pending> = Vec::new();
    let mut tally = Tally::new();
    loop {
        if phase.is_ending() {
            if pending.is_empty() {
                return Ok(tally);
            }
        } else {
            while pending.len() < streams {
                let Some(stream) = link.request(workload.framed(&mut random)) else {
                    break;
                };
                pending.push(Pending {
                    stream,
                    sent: Instant::now(),
                    has_message: false,
                });
            }
        }
        link.flush().await?;
        link.receive().await?;
        let is_measuring = phase.is_measuring();
        link.hear(|heard| {
            let of_stream = |one: &Pending| one.stream == heard.stream;
            let Some(at) = pending.iter().position(of_stream) else {
                return Ok(());
            };
            pending[at].has_message |= !heard.data.is_empty();
            if heard.is_end {
                let answered = pending.swap_remove(at);
                if is_measuring {
                    tally.count(answered.sent, answered.has_message && !heard.is_reset);
                }
            }
            Ok(())
        })?;
    }
}

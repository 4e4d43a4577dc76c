//! ClientSession: one client connection, its identity, its limits and its end.
//!
//! ```text
//!  open --Drain--> draining --Disconnected--> gone
//!    '--------------Disconnected---------------^
//! ```
//! Owns: the peer's address, the bound on streams, the signal that tells its tasks to finish. A
//! request never passes its mailbox: tasks hold a [`Session`] and read shared state.
//! Waits for: nobody.
//! Fails: nothing depends on it; its tasks go on and the connection ends as it would have.

mod message;

use std::net::SocketAddr;
use std::sync::Arc;

use actix::{Actor, ActorContext, Addr, Context, Handler};
use althing_api::error::Error;
use tokio::sync::watch;

pub use self::message::{Disconnected, Drain};
use crate::reply::Admission;
pub use crate::reply::Permit;

/// Limits of one connection.
#[derive(Clone, Copy, Debug)]
pub struct SessionSettings {
    /// Long-lived streams (watches, keep-alives) at once.
    pub streams_max: usize,
}

/// The actor.
#[derive(Debug)]
pub struct ClientSession {
    peer: SocketAddr,
    draining: watch::Sender<bool>,
}

/// A connection, as its tasks see it. Clones share it.
#[derive(Clone, Debug)]
pub struct Session {
    peer: SocketAddr,
    streams: Arc<Admission>,
    draining: watch::Receiver<bool>,
    addr: Addr<ClientSession>,
}

impl ClientSession {
    /// Starts the session of a connection on the calling worker's arbiter.
    pub fn start(peer: SocketAddr, settings: SessionSettings) -> Session {
        let (draining, receiver) = watch::channel(false);
        let addr = Actor::start(ClientSession { peer, draining });
        Session {
            peer,
            streams: Admission::new(settings.streams_max),
            draining: receiver,
            addr,
        }
    }
}

impl Session {
    /// The client's address.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Where to send [`Drain`] and [`Disconnected`].
    pub fn addr(&self) -> &Addr<ClientSession> {
        &self.addr
    }

    /// Admits one long-lived stream, until the permit is dropped. Errors: `TooManyRequests` at the
    /// bound, `Stopped` while draining.
    pub fn open_stream(&self) -> Result<Permit, Error> {
        if *self.draining.borrow() {
            return Err(Error::Stopped);
        }
        self.streams.admit()
    }

    /// Resolves when the session drains or is gone, so that streams end.
    pub async fn drained(&self) {
        // An error means that the session is gone, which ends the streams just as well.
        let _ = self.draining.clone().wait_for(|draining| *draining).await;
    }
}

impl Actor for ClientSession {
    type Context = Context<Self>;
}

impl Handler<Drain> for ClientSession {
    type Result = ();

    fn handle(&mut self, _: Drain, _: &mut Context<Self>) {
        tracing::debug!(peer = %self.peer, "client session drains");
        self.draining.send_replace(true);
    }
}

impl Handler<Disconnected> for ClientSession {
    type Result = ();

    fn handle(&mut self, _: Disconnected, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> Session {
        let peer = SocketAddr::from(([127, 0, 0, 1], 4001));
        ClientSession::start(peer, SessionSettings { streams_max: 1 })
    }

    #[actix::test]
    async fn streams_are_bounded_and_none_begins_while_draining() {
        let session = session();
        let stream = session.open_stream().unwrap();
        assert_eq!(session.open_stream().unwrap_err(), Error::TooManyRequests);
        drop(stream);
        session.addr().send(Drain).await.unwrap();
        session.drained().await;
        assert_eq!(session.open_stream().unwrap_err(), Error::Stopped);
    }

    #[actix::test]
    async fn a_disconnected_session_is_gone_and_its_streams_end() {
        let session = session();
        session.addr().send(Disconnected).await.unwrap();
        session.drained().await;
    }
}

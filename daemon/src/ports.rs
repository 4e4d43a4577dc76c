//! The listeners of a member, each a server of its own: opened at the start, added and closed by a
//! reload, closed at the end.
//!
//! It owns the servers. A reload binds what is new before it touches anything, so that an address
//! that cannot be had changes nothing; connections of the listeners that stay go on.

use std::cell::Cell;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::time::Duration;

use actix_rt::task::JoinHandle;
use actix_server::{Server, ServerHandle};
use althing_actors::node::Handles;
use althing_conf::Config;
use althing_conf::config::Url;
use tokio::sync::{mpsc, watch};

use crate::client::{ClientPort, Serves};
use crate::listen::{self, ListenError};
use crate::peer;
use crate::rpc::Rpc;

/// What a listener is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Clients,
    Metrics,
    Peers,
}

/// All of them, in the order of their start.
const PURPOSES: [Purpose; 3] = [Purpose::Peers, Purpose::Metrics, Purpose::Clients];

impl Purpose {
    fn flag(self) -> &'static str {
        match self {
            Purpose::Clients => "listen-client-urls",
            Purpose::Metrics => "listen-metrics-urls",
            Purpose::Peers => "listen-peer-urls",
        }
    }

    fn urls(self, config: &Config) -> &[Url] {
        match self {
            Purpose::Clients => &config.client.listen_urls,
            Purpose::Metrics => &config.client.metrics_urls,
            Purpose::Peers => &config.peer.listen_urls,
        }
    }
}

/// Interval and number of attempts to bind an address that a reload closed before.
const LETTING_GO_POLL: Duration = Duration::from_millis(20);
const LETTING_GO_LOOKS_MAX: u32 = 100;

/// A listener that is bound and serves nobody yet; connections wait in the system's queue.
#[derive(Debug)]
pub(crate) struct Bound {
    purpose: Purpose,
    url: Url,
    listener: TcpListener,
    address: SocketAddr,
}

/// A listener that serves.
#[derive(Debug)]
struct Open {
    purpose: Purpose,
    url: Url,
    address: SocketAddr,
    task: JoinHandle<()>,
    handle: ServerHandle,
    /// Set before the server is stopped, so that its end is expected.
    stopping: Rc<Cell<bool>>,
}

/// The peer port, whose requests may be endless.
#[derive(Debug)]
struct Peers {
    handles: Handles,
    /// Ends the endless requests.
    closing: watch::Sender<bool>,
}

/// The listeners of a member.
#[derive(Debug)]
pub(crate) struct Ports {
    open: Vec<Open>,
    /// URLs that reloads closed, each once.
    closed: Vec<Url>,
    peers: Peers,
    /// Unset until the node is ready.
    clients: Option<ClientPort<Rpc>>,
    workers: usize,
    /// Reports a server that ended although nobody stopped it.
    ended: mpsc::UnboundedSender<io::Result<()>>,
    endings: mpsc::UnboundedReceiver<io::Result<()>>,
}

/// Binds every listener that `config` names.
pub(crate) fn bind(config: &Config) -> Result<Vec<Bound>, ListenError> {
    let mut bound = Vec::new();
    for purpose in PURPOSES {
        for url in purpose.urls(config) {
            bound.push(bind_one(purpose, url)?);
        }
    }
    Ok(bound)
}

fn bind_one(purpose: Purpose, url: &Url) -> Result<Bound, ListenError> {
    let failed = |source| ListenError {
        url: url.to_string(),
        flag: purpose.flag(),
        source,
    };
    let listener = listen::open(url, purpose.flag())?;
    let address = listener.local_addr().map_err(failed)?;
    Ok(Bound {
        purpose,
        url: url.clone(),
        listener,
        address,
    })
}

impl Bound {
    pub(crate) fn is_for_peers(&self) -> bool {
        self.purpose == Purpose::Peers
    }
}

impl Ports {
    pub(crate) fn new(handles: Handles, workers: usize) -> Ports {
        let (ended, endings) = mpsc::unbounded_channel();
        let (closing, _) = watch::channel(false);
        Ports {
            open: Vec::new(),
            closed: Vec::new(),
            peers: Peers { handles, closing },
            clients: None,
            workers,
            ended,
            endings,
        }
    }

    /// Lets the listeners for clients and metrics be served from now on.
    pub(crate) fn serve_clients(&mut self, clients: ClientPort<Rpc>) {
        self.clients = Some(clients);
    }

    /// Serves one bound listener. Errors: a listener that cannot be used.
    pub(crate) fn serve(&mut self, bound: Bound) -> io::Result<()> {
        let Bound {
            purpose,
            url,
            listener,
            address,
        } = bound;
        let (server, handle) = match purpose {
            Purpose::Peers => self.peer_server(listener)?,
            Purpose::Metrics => self.client_server(listener, Serves::Probes)?,
            Purpose::Clients => self.client_server(listener, Serves::Everything)?,
        };
        announce(purpose, address);
        let (ended, stopping) = (self.ended.clone(), Rc::new(Cell::new(false)));
        let is_expected = Rc::clone(&stopping);
        let task = actix_rt::spawn(async move {
            let result = server.await;
            if !is_expected.get() {
                // Nobody receives this any more when the member ends.
                let _ = ended.send(result);
            }
        });
        self.open.push(Open {
            purpose,
            url,
            address,
            task,
            handle,
            stopping,
        });
        Ok(())
    }

    fn peer_server(&self, listener: TcpListener) -> io::Result<(Server, ServerHandle)> {
        let handles = &self.peers.handles;
        let way_in = handles.inbound().clone();
        let closing = self.peers.closing.subscribe();
        peer::serve(handles.clone(), way_in, listener, closing)
    }

    fn client_server(
        &self,
        listener: TcpListener,
        serves: Serves,
    ) -> io::Result<(Server, ServerHandle)> {
        let clients = self.clients.as_ref();
        let clients = clients.expect("clients are served once the node is ready");
        clients.listen(listener, serves, self.workers)
    }

    /// Where clients connect, in the order in which the listeners were opened.
    pub(crate) fn client_addresses(&self) -> Vec<SocketAddr> {
        let clients = self.open.iter().filter(|o| o.purpose == Purpose::Clients);
        clients.map(|open| open.address).collect()
    }

    /// Binds what `config` names and is not open yet. Changes nothing that is open.
    pub(crate) async fn bind_missing(&self, config: &Config) -> Result<Vec<Bound>, ListenError> {
        let mut bound = Vec::new();
        for purpose in PURPOSES {
            for url in purpose.urls(config) {
                let is_open = |open: &Open| open.purpose == purpose && open.url == *url;
                if !self.open.iter().any(is_open) {
                    bound.push(self.bind_again(purpose, url).await?);
                }
            }
        }
        Ok(bound)
    }

    /// An address that was closed a moment ago is free once its server has let go of it.
    async fn bind_again(&self, purpose: Purpose, url: &Url) -> Result<Bound, ListenError> {
        let mut looks = tokio::time::interval(LETTING_GO_POLL);
        let mut looks_left = if self.closed.contains(url) {
            LETTING_GO_LOOKS_MAX
        } else {
            1
        };
        loop {
            looks.tick().await;
            looks_left -= 1;
            match bind_one(purpose, url) {
                Err(error) if error.is_taken() && looks_left > 0 => {}
                outcome => return outcome,
            }
        }
    }

    /// Closes what `config` no longer names, in the background: its connections are told to go and
    /// have `patience` to do so.
    pub(crate) fn close_surplus(&mut self, config: &Config, patience: Duration) {
        let is_named = |open: &Open| open.purpose.urls(config).contains(&open.url);
        let (kept, surplus) = std::mem::take(&mut self.open)
            .into_iter()
            .partition(is_named);
        self.open = kept;
        for open in surplus {
            tracing::info!(address = %open.address, "closing a listener");
            if !self.closed.contains(&open.url) {
                self.closed.push(open.url.clone());
            }
            actix_rt::spawn(open.close(patience));
        }
    }

    /// Resolves when a server ended although nobody stopped it.
    pub(crate) async fn ended(&mut self) -> io::Result<()> {
        let ended = self.endings.recv().await;
        ended.expect("this value holds a sender")
    }

    /// Stops serving clients: lets requests in flight finish within `patience`.
    pub(crate) async fn close_clients(&mut self, patience: Duration) {
        self.close(|open| open.purpose != Purpose::Peers, patience)
            .await;
    }

    /// The same for the other members, whose endless requests end.
    pub(crate) async fn close_peers(&mut self, patience: Duration) {
        // Nobody receives this when they are gone already.
        let _ = self.peers.closing.send(true);
        self.close(|_| true, patience).await;
    }

    async fn close(&mut self, which: impl Fn(&Open) -> bool, patience: Duration) {
        let all = std::mem::take(&mut self.open).into_iter();
        let (closing, kept): (Vec<Open>, Vec<Open>) = all.partition(which);
        self.open = kept;
        futures_util::future::join_all(closing.into_iter().map(|open| open.close(patience))).await;
    }
}

impl Open {
    /// Stops accepting, lets requests in flight finish within the time limit, and ends the server.
    async fn close(mut self, patience: Duration) {
        self.stopping.set(true);
        let stopped = tokio::time::timeout(patience, self.handle.stop(true)).await;
        if stopped.is_err() {
            tracing::warn!(
                address = %self.address,
                "requests were still in flight after --shutdown-timeout; they are cut off"
            );
            // Dropped, the server lets go of its workers without waiting.
            self.task.abort();
        }
        // An error here says that it was aborted.
        let _ = (&mut self.task).await;
    }
}

fn announce(purpose: Purpose, address: SocketAddr) {
    match purpose {
        Purpose::Peers => tracing::info!(%address, "serving peer traffic"),
        Purpose::Metrics => tracing::info!(%address, "serving metrics"),
        Purpose::Clients => {
            // Tools wait for exactly this text, once per listener.
            tracing::info!(%address, "ready to serve client requests");
            let traffic = "grpc+http";
            tracing::warn!(
                traffic,
                %address,
                "serving client traffic insecurely; this is strongly discouraged!"
            );
        }
    }
}

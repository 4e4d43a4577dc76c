//! The network between the members of one host: a relay before each member's peer port, which knows
//! the sender from the requests, and can stop, delay or break what one member sends to another.
//!
//! ```text
//! member 0 --request--> relay of 1 --link 0>1--> member 1
//!          <--link 1>0--           <--answer---
//! ```
//! A held link loses nothing: like packets that are sent again, what was written arrives when the
//! link opens, unless the connection is given up first. It accepts new connections silently.

use std::collections::HashMap;
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// The head of a request, at most.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// Size of one read, and how many of them are under way on a slow or held link.
const CHUNK_BYTES: usize = 64 << 10;
const CHUNKS_MAX: usize = 64;
/// The header that names the sender in each request between members.
const FROM_HEADER: &[u8] = b"x-server-from:";

/// How one member's bytes reach another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Link {
    /// At once.
    #[default]
    Open,
    /// After this time.
    Slow(Duration),
    /// Not before the link changes.
    Held,
    /// Never: connections end, and so do new ones.
    Cut,
}

/// All links, by sender and receiver.
#[derive(Clone, Debug, Default)]
struct Links {
    /// Members by the id that their requests carry.
    positions: HashMap<String, usize>,
    links: HashMap<(usize, usize), Link>,
}

impl Links {
    /// The link of `way`; an unknown sender is not disturbed.
    fn between(&self, way: &Way) -> Link {
        let position = |end: &End| match end {
            End::Position(position) => Some(*position),
            End::Id(id) => self.positions.get(id).copied(),
        };
        let (Some(from), Some(to)) = (position(&way.from), position(&way.to)) else {
            return Link::Open;
        };
        self.links.get(&(from, to)).copied().unwrap_or_default()
    }
}

#[derive(Clone, Debug)]
enum End {
    Position(usize),
    Id(String),
}

#[derive(Clone, Debug)]
struct Way {
    from: End,
    to: End,
}

/// The relays of one cluster; they end with this value.
#[derive(Debug)]
pub struct Network {
    links: Arc<watch::Sender<Links>>,
    relays: Vec<JoinHandle<()>>,
}

impl Drop for Network {
    fn drop(&mut self) {
        for relay in &self.relays {
            relay.abort();
        }
    }
}

impl Default for Network {
    fn default() -> Network {
        Network {
            links: Arc::new(watch::Sender::new(Links::default())),
            relays: Vec::new(),
        }
    }
}

impl Network {
    /// Relays what comes for the member at `position`, which listens on `port`. Returns the port
    /// that the others have to be told.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn relay(&mut self, position: usize, port: u16) -> io::Result<u16> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let relayed = listener.local_addr()?.port();
        let links = Arc::clone(&self.links);
        self.relays.push(tokio::spawn(async move {
            while let Ok((from, _)) = listener.accept().await {
                let links = links.subscribe();
                // An error only means that the connection has ended.
                tokio::spawn(async move { carry(from, position, port, links).await.ok() });
            }
        }));
        Ok(relayed)
    }

    /// Tells which member has which id.
    pub fn identify(&self, ids: &[u64]) {
        let named = ids.iter().enumerate();
        let positions = named.map(|(position, id)| (format!("{id:x}"), position));
        self.links
            .send_modify(|links| links.positions = positions.collect());
    }

    /// Changes how one member's bytes reach another.
    pub fn set(&self, from: usize, to: usize, link: Link) {
        self.links.send_modify(|links| {
            links.links.insert((from, to), link);
        });
    }

    /// Opens every link.
    pub fn heal(&self) {
        self.links.send_modify(|links| links.links.clear());
    }
}

/// Carries one connection to its end.
async fn carry(
    mut client: TcpStream,
    position: usize,
    port: u16,
    links: watch::Receiver<Links>,
) -> io::Result<()> {
    let head = head(&mut client).await?;
    let sender = End::Id(sender(&head).unwrap_or_default());
    let asked = Way {
        from: sender.clone(),
        to: End::Position(position),
    };
    let answered = Way {
        from: End::Position(position),
        to: sender,
    };
    let server = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (client_reads, client_writes) = client.into_split();
    let (server_reads, server_writes) = server.into_split();
    // An end in one direction ends the connection.
    tokio::select! {
        ended = pump(head, client_reads, server_writes, &asked, links.clone()) => ended,
        ended = pump(Bytes::new(), server_reads, client_writes, &answered, links.clone()) => ended,
        () = until_cut(&asked, &answered, links.clone()) => Ok(()),
    }
}

/// Reads until the first request's head is there.
async fn head(client: &mut TcpStream) -> io::Result<Bytes> {
    let mut head = BytesMut::new();
    while !head.windows(4).any(|four| four == b"\r\n\r\n") {
        if client.read_buf(&mut head).await? == 0 || head.len() > HEAD_BYTES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    Ok(head.freeze())
}

fn sender(head: &[u8]) -> Option<String> {
    let is_it = |line: &&[u8]| {
        let name = line.get(..FROM_HEADER.len());
        name.is_some_and(|name| name.eq_ignore_ascii_case(FROM_HEADER))
    };
    let line = head.split(|byte| *byte == b'\n').find(is_it)?;
    let value = String::from_utf8_lossy(&line[FROM_HEADER.len()..]);
    Some(value.trim().to_owned())
}

/// Carries one direction of a connection until it ends.
async fn pump(
    first: Bytes,
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    way: &Way,
    mut links: watch::Receiver<Links>,
) -> io::Result<()> {
    let (queue, mut queued) = mpsc::channel::<(Instant, Bytes)>(CHUNKS_MAX);
    let delay = links.clone();
    let reading = async move {
        let mut chunk = first;
        loop {
            let late = match delay.borrow().between(way) {
                Link::Slow(late) => late,
                Link::Open | Link::Held | Link::Cut => Duration::ZERO,
            };
            if !chunk.is_empty() && queue.send((Instant::now() + late, chunk)).await.is_err() {
                return Ok(());
            }
            let mut buffer = BytesMut::with_capacity(CHUNK_BYTES);
            if from.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
            chunk = buffer.freeze();
        }
    };
    let writing = async move {
        while let Some((due, chunk)) = queued.recv().await {
            tokio::time::sleep_until(due).await;
            let passes = |links: &Links| links.between(way) != Link::Held;
            if links.wait_for(passes).await.is_err() {
                break;
            }
            to.write_all(&chunk).await?;
        }
        // The end of the connection is held back as well.
        let _ = links
            .wait_for(|links| links.between(way) != Link::Held)
            .await;
        Ok::<(), io::Error>(())
    };
    let (read, written) = tokio::join!(reading, writing);
    read.and(written)
}

async fn until_cut(asked: &Way, answered: &Way, mut links: watch::Receiver<Links>) {
    let is_cut = |links: &Links| {
        let ways = [asked, answered];
        ways.iter().any(|way| links.between(way) == Link::Cut)
    };
    // Without a network there is nothing left to carry.
    let _ = links.wait_for(is_cut).await;
}

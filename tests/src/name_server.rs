//! A DNS server for one domain, on a port of loopback: it answers questions for SRV records over
//! UDP, and knows no other name.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// The longest message over UDP.
const MESSAGE_BYTES_MAX: usize = 512;
const HEAD_BYTES: usize = 12;
/// Pause between two checks whether the server has to end.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

const TYPE_SRV: u16 = 33;
const CLASS_INTERNET: u16 = 1;
/// The flags of an authoritative answer; an unknown name does not exist.
const FLAGS_FOUND: u16 = 0x8400;
const FLAGS_NO_SUCH_NAME: u16 = 0x8403;
/// A reference to the name of the question, which stands behind the head.
const NAME_OF_QUESTION: u16 = 0xc00c;
const TTL_S: u32 = 1;

/// Service names with their targets: host and port.
pub type Records = BTreeMap<String, Vec<(String, u16)>>;

/// A running server; it ends when dropped.
#[derive(Debug)]
pub struct NameServer {
    address: SocketAddr,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl NameServer {
    /// Serves `records`, whose names are written without a dot at the end.
    ///
    /// # Errors
    /// When there is no port.
    pub fn start(records: Records) -> io::Result<NameServer> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.set_read_timeout(Some(LOOK_INTERVAL))?;
        let address = socket.local_addr()?;
        let ends = Arc::new(AtomicBool::new(false));
        let ending = Arc::clone(&ends);
        let thread = std::thread::spawn(move || {
            let mut question = [0; MESSAGE_BYTES_MAX];
            while !ending.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut question) else {
                    continue;
                };
                if let Some(answer) = answer(&question[..length], &records) {
                    // The client asks again.
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        Ok(NameServer {
            address,
            ends,
            thread: Some(thread),
        })
    }

    /// The address of the server.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was printed, and its questions were not answered.
            let _ = thread.join();
        }
    }
}

/// The answer to a message with one question; `None` for any other message.
fn answer(message: &[u8], records: &Records) -> Option<Vec<u8>> {
    let (mut name, mut at) = (Vec::new(), HEAD_BYTES);
    loop {
        let length = usize::from(*message.get(at)?);
        let label = message.get(at + 1..at + 1 + length)?;
        at += 1 + length;
        if length == 0 {
            break;
        }
        name.push(String::from_utf8_lossy(label).to_ascii_lowercase());
    }
    let kind = message.get(at..at + 2)?;
    let asks_srv = kind == TYPE_SRV.to_be_bytes();
    let question = message.get(HEAD_BYTES..at + 4)?;
    let found = records.get(&name.join(".")).filter(|_| asks_srv);
    let targets = found.map_or(&[][..], Vec::as_slice);

    let mut answer = message.get(..2)?.to_vec();
    let flags = match found {
        Some(_) => FLAGS_FOUND,
        None => FLAGS_NO_SUCH_NAME,
    };
    let count = u16::try_from(targets.len()).ok()?;
    for number in [flags, 1, count, 0, 0] {
        answer.extend(number.to_be_bytes());
    }
    answer.extend(question);
    for (host, port) in targets {
        let mut data = Vec::new();
        for number in [0, 0, *port] {
            data.extend(u16::to_be_bytes(number));
        }
        for label in host.split('.') {
            data.push(u8::try_from(label.len()).ok()?);
            data.extend(label.as_bytes());
        }
        data.push(0);
        for number in [NAME_OF_QUESTION, TYPE_SRV, CLASS_INTERNET] {
            answer.extend(number.to_be_bytes());
        }
        answer.extend(TTL_S.to_be_bytes());
        answer.extend(u16::try_from(data.len()).ok()?.to_be_bytes());
        answer.extend(data);
    }
    Some(answer)
}

//! One HTTP/2 connection under load, a fixed number of gRPC requests in flight. It speaks as much
//! of HTTP/2 as that takes: requests are two ready-made frames in which only the stream's number
//! changes, and of an answer only the frames are read. A gRPC answer with a message is a success;
//! a refusal has none.

use std::io;
use std::time::Instant;

use bytes::{Buf, BufMut, BytesMut};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::workload::Workload;
use super::{Phase, Tally};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEAD_BYTES: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GO_AWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const INITIAL_WINDOW_SIZE: u16 = 4;
/// The largest window, which is what every stream and the connection gets here.
const WINDOW_MAX: u32 = (1 << 31) - 1;
/// The window of a new connection, before it is changed.
const WINDOW_DEFAULT: u32 = 65_535;
/// The connection's window is filled up again after so many bytes.
const WINDOW_REFILL: u32 = 1 << 29;
const READ_BYTES: usize = 256 * 1_024;

/// A request as two frames, of stream 0.
#[derive(Debug)]
pub struct Framed {
    bytes: Vec<u8>,
    /// Where the frame with the message starts.
    data_at: usize,
}

/// Makes the frames of a request.
pub fn frame(path: &str, message: &[u8]) -> Framed {
    // Header fields by number in HPACK's fixed table: POST, http, then path, authority and
    // content type with a value given in plain text.
    let mut block = vec![0x83, 0x86];
    text(&mut block, &[0x04], path);
    text(&mut block, &[0x01], "localhost");
    text(&mut block, &[0x0f, 0x10], "application/grpc");
    text(&mut block, b"\0\x02te", "trailers");
    let mut bytes = Vec::new();
    head(&mut bytes, block.len(), HEADERS, END_HEADERS, 0);
    bytes.extend(block);
    let data_at = bytes.len();
    head(&mut bytes, 5 + message.len(), DATA, END_STREAM, 0);
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(message.len()).expect("a request is small"));
    bytes.extend(message);
    Framed { bytes, data_at }
}

fn text(block: &mut Vec<u8>, name: &[u8], value: &str) {
    block.extend(name);
    block.push(u8::try_from(value.len()).expect("a short value"));
    block.extend(value.as_bytes());
}

fn head(bytes: &mut impl BufMut, length: usize, kind: u8, flags: u8, stream: u32) {
    bytes.put_uint(length as u64, 3);
    bytes.put_u8(kind);
    bytes.put_u8(flags);
    bytes.put_u32(stream);
}

/// A request in flight.
struct Pending {
    stream: u32,
    sent: Instant,
    has_message: bool,
}

struct Connection<'a> {
    workload: &'a Workload,
    random: SmallRng,
    out: BytesMut,
    pending: Vec<Pending>,
    next_stream: u32,
    /// Bytes of messages that the server still takes.
    window: i64,
    /// Bytes of messages received since the server's window was filled up.
    received: u32,
    tally: Tally,
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
    let mut socket = TcpStream::connect(("127.0.0.1", port)).await?;
    socket.set_nodelay(true)?;
    let mut connection = Connection {
        workload,
        random: SmallRng::seed_from_u64(seed),
        out: BytesMut::from(PREFACE),
        pending: Vec::new(),
        next_stream: 1,
        window: i64::from(WINDOW_DEFAULT),
        received: 0,
        tally: Tally::new(),
    };
    head(&mut connection.out, 6, SETTINGS, 0, 0);
    connection.out.put_u16(INITIAL_WINDOW_SIZE);
    connection.out.put_u32(WINDOW_MAX);
    connection.grow_window(WINDOW_MAX - WINDOW_DEFAULT);

    let mut buffer = BytesMut::with_capacity(READ_BYTES);
    loop {
        if !phase.is_ending() {
            connection.fill(streams);
        } else if connection.pending.is_empty() {
            return Ok(connection.tally);
        }
        if !connection.out.is_empty() {
            socket.write_all(&connection.out).await?;
            connection.out.clear();
        }
        buffer.reserve(READ_BYTES);
        if socket.read_buf(&mut buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        while let Some(length) = whole_frame(&buffer) {
            let frame = buffer.split_to(length);
            connection.take(&frame, phase.is_measuring())?;
        }
    }
}

/// The length of the frame at the start, if all of it is there.
fn whole_frame(buffer: &[u8]) -> Option<usize> {
    let mut head = buffer.get(..3)?;
    let length = FRAME_HEAD_BYTES + head.get_uint(3) as usize;
    (buffer.len() >= length).then_some(length)
}

impl Connection<'_> {
    /// Writes requests until `streams` are in flight or the server takes no more.
    fn fill(&mut self, streams: usize) {
        while self.pending.len() < streams {
            let request = self.workload.framed(&mut self.random);
            let message = (request.bytes.len() - request.data_at - FRAME_HEAD_BYTES) as i64;
            if message > self.window {
                return;
            }
            self.window -= message;
            let at = self.out.len();
            self.out.extend_from_slice(&request.bytes);
            for frame_at in [at, at + request.data_at] {
                let mut number = &mut self.out[frame_at + 5..frame_at + FRAME_HEAD_BYTES];
                number.put_u32(self.next_stream);
            }
            self.pending.push(Pending {
                stream: self.next_stream,
                sent: Instant::now(),
                has_message: false,
            });
            self.next_stream += 2;
        }
    }

    fn take(&mut self, frame: &[u8], measuring: bool) -> io::Result<()> {
        let (kind, flags) = (frame[3], frame[4]);
        let stream = (&frame[5..FRAME_HEAD_BYTES]).get_u32();
        let payload = &frame[FRAME_HEAD_BYTES..];
        match kind {
            DATA => {
                self.received += payload.len() as u32;
                if self.received > WINDOW_REFILL {
                    self.grow_window(self.received);
                    self.received = 0;
                }
                let of_stream = self.pending.iter_mut().find(|one| one.stream == stream);
                if let Some(pending) = of_stream {
                    pending.has_message |= !payload.is_empty();
                }
            }
            SETTINGS if flags & ACK == 0 => head(&mut self.out, 0, SETTINGS, ACK, 0),
            PING if flags & ACK == 0 => {
                head(&mut self.out, payload.len(), PING, ACK, 0);
                self.out.extend_from_slice(payload);
            }
            WINDOW_UPDATE if stream == 0 => {
                let mut payload = payload;
                self.window += i64::from(payload.get_u32());
            }
            GO_AWAY => return Err(io::Error::other("the server gave the connection up")),
            _ => (),
        }
        let ended = matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0;
        if (ended || kind == RST_STREAM)
            && let Some(at) = self.pending.iter().position(|one| one.stream == stream)
        {
            let pending = self.pending.swap_remove(at);
            if measuring {
                self.tally
                    .count(pending.sent, pending.has_message && kind != RST_STREAM);
            }
        }
        Ok(())
    }

    fn grow_window(&mut self, bytes: u32) {
        head(&mut self.out, 4, WINDOW_UPDATE, 0, 0);
        self.out.put_u32(bytes);
    }
}

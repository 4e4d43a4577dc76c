//! As much of HTTP/2 as load needs: requests are ready-made frames in which only the stream's
//! number changes, and of answers only the frames are read. Windows are opened wide, so that the
//! server is never slowed down by a client that is not what is measured.

use std::io;

use bytes::{Buf, BufMut, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes of a frame before its payload.
pub const FRAME_HEAD_BYTES: usize = 9;
/// Bytes before a message of gRPC.
pub const MESSAGE_HEAD_BYTES: usize = 5;
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
/// Windows are filled up again after this many bytes.
const WINDOW_REFILL: u32 = 1 << 29;
const READ_BYTES: usize = 256 * 1_024;

/// A request as two frames of stream 0.
#[derive(Clone, Debug)]
pub struct Framed {
    /// Both frames.
    pub bytes: Vec<u8>,
    /// Where the frame with the message starts.
    pub data_at: usize,
}

/// Makes the frames of a request with one message.
pub fn frame(path: &str, message: &[u8]) -> Framed {
    let mut bytes = Vec::new();
    headers(&mut bytes, path);
    let data_at = bytes.len();
    data(&mut bytes, message, END_STREAM);
    Framed { bytes, data_at }
}

fn headers(bytes: &mut impl BufMut, path: &str) {
    // Header fields by their numbers in HPACK's fixed table: POST, http, then path, authority and
    // content type with a value in plain text.
    let mut block = vec![0x83, 0x86];
    text(&mut block, &[0x04], path);
    text(&mut block, &[0x01], "localhost");
    text(&mut block, &[0x0f, 0x10], "application/grpc");
    text(&mut block, b"\0\x02te", "trailers");
    head(bytes, block.len(), HEADERS, END_HEADERS, 0);
    bytes.put_slice(&block);
}

fn data(bytes: &mut impl BufMut, message: &[u8], flags: u8) {
    head(bytes, MESSAGE_HEAD_BYTES + message.len(), DATA, flags, 0);
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(message.len()).expect("a request is small"));
    bytes.put_slice(message);
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

/// What a frame says about a stream.
#[derive(Clone, Copy, Debug)]
pub struct Heard<'a> {
    /// The stream's number.
    pub stream: u32,
    /// Bytes of messages.
    pub data: &'a [u8],
    /// Whether nothing more comes.
    pub is_end: bool,
    /// Whether the server gave the stream up.
    pub is_reset: bool,
}

/// One connection.
#[derive(Debug)]
pub struct Link {
    socket: TcpStream,
    buffer: BytesMut,
    out: BytesMut,
    next_stream: u32,
    /// Bytes of messages that the server still takes.
    window: i64,
    /// Bytes of messages received since the server's window was filled up.
    received: u32,
}

impl Link {
    /// Connects; the opening frames of the connection go out with the first request.
    ///
    /// # Errors
    /// When nobody listens on `port`.
    pub async fn connect(port: u16) -> io::Result<Link> {
        let socket = TcpStream::connect(("127.0.0.1", port)).await?;
        socket.set_nodelay(true)?;
        let mut link = Link {
            socket,
            buffer: BytesMut::new(),
            out: BytesMut::from(PREFACE),
            next_stream: 1,
            window: i64::from(WINDOW_DEFAULT),
            received: 0,
        };
        head(&mut link.out, 6, SETTINGS, 0, 0);
        link.out.put_u16(INITIAL_WINDOW_SIZE);
        link.out.put_u32(WINDOW_MAX);
        link.grow_window(0, WINDOW_MAX - WINDOW_DEFAULT);
        Ok(link)
    }

    /// Queues a request with one message. Returns its stream, or `None` while the server takes no
    /// more.
    pub fn request(&mut self, request: &Framed) -> Option<u32> {
        let message = (request.bytes.len() - request.data_at - FRAME_HEAD_BYTES) as i64;
        if message > self.window {
            return None;
        }
        self.window -= message;
        let at = self.out.len();
        self.out.extend_from_slice(&request.bytes);
        self.number(at, self.next_stream);
        self.number(at + request.data_at, self.next_stream);
        Some(self.take_number())
    }

    /// Queues the opening of a stream whose messages follow.
    pub fn open(&mut self, path: &str) -> u32 {
        let at = self.out.len();
        headers(&mut self.out, path);
        self.number(at, self.next_stream);
        self.take_number()
    }

    /// Queues a message on an open stream. The caller sends only a few until it has heard an
    /// answer, so that no window is exceeded.
    pub fn message(&mut self, stream: u32, message: &[u8]) {
        let at = self.out.len();
        data(&mut self.out, message, 0);
        self.number(at, stream);
    }

    /// Sends what is queued.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn flush(&mut self) -> io::Result<()> {
        if !self.out.is_empty() {
            self.socket.write_all(&self.out).await?;
            self.out.clear();
        }
        Ok(())
    }

    /// Receives something. A call that is dropped loses nothing.
    ///
    /// # Errors
    /// When the connection breaks or ends.
    pub async fn receive(&mut self) -> io::Result<()> {
        self.buffer.reserve(READ_BYTES);
        match self.socket.read_buf(&mut self.buffer).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// Passes what was received for streams to `hear`; answers the rest.
    ///
    /// # Errors
    /// When the server gives the connection up, or `hear` finds an error.
    pub fn hear(&mut self, mut hear: impl FnMut(Heard<'_>) -> io::Result<()>) -> io::Result<()> {
        while let Some(length) = whole_frame(&self.buffer) {
            let frame = self.buffer.split_to(length);
            let (kind, flags) = (frame[3], frame[4]);
            let stream = (&frame[5..FRAME_HEAD_BYTES]).get_u32();
            let payload = &frame[FRAME_HEAD_BYTES..];
            match kind {
                DATA | HEADERS | RST_STREAM => {
                    let is_data = kind == DATA;
                    if is_data {
                        self.refill(payload.len() as u32);
                    }
                    hear(Heard {
                        stream,
                        data: if is_data { payload } else { &[] },
                        is_end: kind == RST_STREAM || flags & END_STREAM != 0,
                        is_reset: kind == RST_STREAM,
                    })?;
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
        }
        Ok(())
    }

    fn refill(&mut self, bytes: u32) {
        self.received += bytes;
        if self.received > WINDOW_REFILL {
            self.grow_window(0, self.received);
            self.received = 0;
        }
    }

    /// Lets the server send this many more bytes, on a stream or (0) on the connection.
    pub fn grow_window(&mut self, stream: u32, bytes: u32) {
        head(&mut self.out, 4, WINDOW_UPDATE, 0, stream);
        self.out.put_u32(bytes);
    }

    fn number(&mut self, frame_at: usize, stream: u32) {
        let mut number = &mut self.out[frame_at + 5..frame_at + FRAME_HEAD_BYTES];
        number.put_u32(stream);
    }

    fn take_number(&mut self) -> u32 {
        self.next_stream += 2;
        self.next_stream - 2
    }
}

/// The length of the frame at the start, if all of it is there.
fn whole_frame(buffer: &[u8]) -> Option<usize> {
    let mut head = buffer.get(..3)?;
    let length = FRAME_HEAD_BYTES + head.get_uint(3) as usize;
    (buffer.len() >= length).then_some(length)
}

/// Messages of one stream, assembled from the pieces in which they come.
#[derive(Debug, Default)]
pub struct Messages {
    rest: BytesMut,
}

impl Messages {
    /// Takes bytes and passes on every whole message.
    ///
    /// # Errors
    /// What `hear` finds.
    pub fn take(
        &mut self,
        mut data: &[u8],
        mut hear: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        if !self.rest.is_empty() {
            self.rest.extend_from_slice(data);
            while let Some(length) = whole_message(&self.rest) {
                hear(&self.rest[MESSAGE_HEAD_BYTES..length])?;
                self.rest.advance(length);
            }
            return Ok(());
        }
        while let Some(length) = whole_message(data) {
            hear(&data[MESSAGE_HEAD_BYTES..length])?;
            data = &data[length..];
        }
        self.rest.extend_from_slice(data);
        Ok(())
    }
}

fn whole_message(data: &[u8]) -> Option<usize> {
    let mut length = data.get(1..MESSAGE_HEAD_BYTES)?;
    let length = MESSAGE_HEAD_BYTES + length.get_u32() as usize;
    (data.len() >= length).then_some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_whole_however_they_are_cut() {
        let mut bytes = Vec::new();
        for message in [&b"one"[..], b"", b"three"] {
            bytes.put_u8(0);
            bytes.put_u32(message.len() as u32);
            bytes.extend(message);
        }
        for size in 1..=bytes.len() {
            let (mut messages, mut heard) = (Messages::default(), Vec::new());
            for piece in bytes.chunks(size) {
                let hear = |message: &[u8]| {
                    heard.push(message.to_vec());
                    Ok(())
                };
                messages.take(piece, hear).unwrap();
            }
            assert_eq!(heard, [&b"one"[..], b"", b"three"], "cut into {size}");
        }
    }
}

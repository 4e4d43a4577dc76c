//! One HTTP/1.1 connection under load, one request in flight.

use std::io;
use std::time::Instant;

use bytes::{Buf, Bytes, BytesMut};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::workload::Workload;
use super::{Phase, Tally};

const HEAD_END: &[u8] = b"\r\n\r\n";
const LINE_END: &[u8] = b"\r\n";
const READ_BYTES: usize = 64 * 1_024;

/// The bytes of a POST.
pub fn request(path: &str, body: &str) -> Bytes {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n{body}"
    )
    .into()
}

/// Sends requests until the phase ends.
///
/// # Errors
/// When the connection breaks or an answer is not HTTP.
pub async fn drive(port: u16, seed: u64, workload: &Workload, phase: &Phase) -> io::Result<Tally> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.set_nodelay(true)?;
    let mut random = SmallRng::seed_from_u64(seed);
    let mut tally = Tally::new();
    let mut buffer = BytesMut::with_capacity(READ_BYTES);
    while !phase.is_ending() {
        let sent = Instant::now();
        stream.write_all(workload.text(&mut random)).await?;
        let succeeded = answer(&mut stream, &mut buffer).await?;
        if phase.is_measuring() {
            tally.count(sent, succeeded);
        }
    }
    Ok(tally)
}

/// Reads one answer to its end; returns whether its status was 200.
async fn answer(stream: &mut TcpStream, buffer: &mut BytesMut) -> io::Result<bool> {
    let head_bytes = find(stream, buffer, HEAD_END).await?;
    let head = String::from_utf8_lossy(&buffer[..head_bytes]).to_ascii_lowercase();
    buffer.advance(head_bytes + HEAD_END.len());
    let value_of = |name: &str| {
        let line = head.lines().find(|line| line.starts_with(name))?;
        line.split_once(':')
            .map(|(_, value)| value.trim().to_owned())
    };
    if let Some(length) = value_of("content-length:") {
        skip(stream, buffer, length.parse().map_err(io::Error::other)?).await?;
    } else if value_of("transfer-encoding:").as_deref() == Some("chunked") {
        while chunk(stream, buffer).await? > 0 {}
    } else {
        return Err(io::Error::other("an answer that does not tell its length"));
    }
    Ok(head.starts_with("http/1.1 200"))
}

/// Reads one chunk; returns its size, which is 0 for the last one.
async fn chunk(stream: &mut TcpStream, buffer: &mut BytesMut) -> io::Result<usize> {
    let line_bytes = find(stream, buffer, LINE_END).await?;
    let line = String::from_utf8_lossy(&buffer[..line_bytes]).into_owned();
    buffer.advance(line_bytes + LINE_END.len());
    let size = usize::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
    skip(stream, buffer, size + LINE_END.len()).await?;
    Ok(size)
}

/// Reads until `mark` is in the buffer; returns where it starts.
async fn find(stream: &mut TcpStream, buffer: &mut BytesMut, mark: &[u8]) -> io::Result<usize> {
    loop {
        if let Some(at) = buffer.windows(mark.len()).position(|bytes| bytes == mark) {
            return Ok(at);
        }
        read(stream, buffer).await?;
    }
}

async fn skip(stream: &mut TcpStream, buffer: &mut BytesMut, bytes: usize) -> io::Result<()> {
    let mut left = bytes;
    while left > buffer.len() {
        left -= buffer.len();
        buffer.clear();
        read(stream, buffer).await?;
    }
    buffer.advance(left);
    Ok(())
}

async fn read(stream: &mut TcpStream, buffer: &mut BytesMut) -> io::Result<()> {
    buffer.reserve(READ_BYTES);
    match stream.read_buf(buffer).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

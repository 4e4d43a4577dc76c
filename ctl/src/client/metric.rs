//! The metrics of a member, from its `/metrics` over plain HTTP.

use std::time::{Duration, SystemTime};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::endpoint::parts;

/// How long a member may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Largest page of metrics, in bytes.
const PAGE_BYTES_MAX: u64 = 8 << 20;

/// A page of metrics.
#[derive(Clone, Debug)]
pub struct Page {
    /// The lines of the page.
    pub body: String,
    /// When the page was made, by the member's clock, to the second.
    pub date: Option<SystemTime>,
}

/// The page of the member at `endpoint`.
///
/// # Errors
/// As text: the endpoint needs TLS, or does not answer with metrics.
pub async fn page(endpoint: &str) -> Result<Page, String> {
    let (scheme, address) = parts(endpoint);
    if scheme.as_deref() == Some("https") {
        let why = "metrics are read over plain HTTP; name an http endpoint";
        return Err(format!("{endpoint}: {why}"));
    }
    let answer = timeout(ANSWER_MAX, fetch(address)).await;
    let answer = answer
        .map_err(|_| format!("{endpoint}: no answer"))?
        .map_err(|error| format!("{endpoint}: {error}"))?;
    Ok(read_page(&answer))
}

/// The value of metric `name` at `endpoint`.
///
/// # Errors
/// As [`page`], and when there is no such metric.
pub async fn read(endpoint: &str, name: &str) -> Result<f64, String> {
    let value = value(&page(endpoint).await?.body, name);
    value.ok_or_else(|| format!("{endpoint}: its metrics lack {name}"))
}

/// The value of metric `name`, which has no labels, on a page.
pub fn value(page: &str, name: &str) -> Option<f64> {
    let mut lines = page.lines().filter_map(|line| line.strip_prefix(name));
    lines.find_map(|rest| rest.strip_prefix(' ')?.trim().parse().ok())
}

/// Takes an HTTP answer apart.
fn read_page(answer: &str) -> Page {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or(("", answer));
    let headers = head.lines().filter_map(|line| line.split_once(':'));
    let mut dates = headers.filter(|(name, _)| name.eq_ignore_ascii_case("date"));
    Page {
        body: body.to_owned(),
        date: dates.find_map(|(_, date)| httpdate::parse_http_date(date.trim()).ok()),
    }
}

async fn fetch(address: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    // HTTP/1.0: the page ends with the connection.
    let request = format!("GET /metrics HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut page = Vec::new();
    stream.take(PAGE_BYTES_MAX).read_to_end(&mut page).await?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_metric_is_found_by_its_whole_name() {
        let page = "# TYPE a gauge\na_b 1\na 2.5e+07\n";
        assert_eq!(value(page, "a"), Some(2.5e7));
        assert_eq!(value(page, "b"), None);
    }

    #[test]
    fn a_page_has_a_date_and_lines() {
        let answer = "HTTP/1.0 200 OK\r\ncontent-length: 4\r\ndate: Thu, 01 Jan 1970 00:01:00 \
                      GMT\r\n\r\na 1\n";
        let page = read_page(answer);
        assert_eq!(page.body, "a 1\n");
        let minute = SystemTime::UNIX_EPOCH + Duration::from_secs(60);
        assert_eq!(page.date, Some(minute));
        assert_eq!(read_page("a 1").date, None);
    }
}

//! One metric of a member, from its `/metrics` over plain HTTP.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long a member may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// More is no page of metrics, in bytes.
const PAGE_BYTES_MAX: u64 = 8 << 20;

/// The value of metric `name` at `endpoint`.
///
/// # Errors
/// As text: the endpoint needs TLS, does not answer, or has no such metric.
pub async fn read(endpoint: &str, name: &str) -> Result<f64, String> {
    if endpoint.starts_with("https://") {
        let why = "metrics are read over plain HTTP; name an http endpoint";
        return Err(format!("{endpoint}: {why}"));
    }
    let address = endpoint.trim_start_matches("http://").trim_end_matches('/');
    let page = timeout(ANSWER_MAX, fetch(address)).await;
    let page = page
        .map_err(|_| format!("{endpoint}: no answer"))?
        .map_err(|error| format!("{endpoint}: {error}"))?;
    let value = find(&page, name);
    value.ok_or_else(|| format!("{endpoint}: its metrics lack {name}"))
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

fn find(page: &str, name: &str) -> Option<f64> {
    let mut lines = page.lines().filter_map(|line| line.strip_prefix(name));
    lines.find_map(|rest| rest.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_found_by_its_whole_name() {
        let page = "# TYPE a gauge\na_b 1\na 2.5e+07\n";
        assert_eq!(find(page, "a"), Some(2.5e7));
        assert_eq!(find(page, "b"), None);
    }
}

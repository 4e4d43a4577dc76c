//! Opens the listeners, before anything else, so that a mistake shows at once.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};

use althing_conf::config::Url;
use tokio::net::TcpSocket;

/// Connections that wait for a worker; the system may allow fewer.
const BACKLOG: u32 = 1024;

/// Why a listener could not be opened.
#[derive(Debug, thiserror::Error)]
#[error(
    "{url} of --{flag} cannot be opened: {source}; {}",
    remedy(source, flag)
)]
pub struct ListenError {
    /// The URL that was asked for.
    pub url: String,
    /// The option that asked for it, without dashes.
    pub flag: &'static str,
    /// The cause.
    pub source: io::Error,
}

impl ListenError {
    /// Whether somebody listens there already.
    pub fn is_taken(&self) -> bool {
        self.source.kind() == io::ErrorKind::AddrInUse
    }
}

/// Opens a listener for a URL of the option `flag`. Needs a running tokio runtime.
pub fn open(url: &Url, flag: &'static str) -> Result<TcpListener, ListenError> {
    open_one(url).map_err(|source| ListenError {
        url: url.to_string(),
        flag,
        source,
    })
}

fn open_one(url: &Url) -> io::Result<TcpListener> {
    if url.scheme != "http" {
        let text = format!("this version does not serve {}", url.scheme);
        return Err(io::Error::new(io::ErrorKind::Unsupported, text));
    }
    let address = resolve(url)?;
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // A restart must not wait for the connections of the process before it.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)?.into_std()
}

/// The first address, preferably of IPv4: etcd reads `localhost` this way, and clients expect it.
fn resolve(url: &Url) -> io::Result<SocketAddr> {
    let addresses: Vec<_> = (url.host.as_str(), url.port).to_socket_addrs()?.collect();
    let first = addresses.iter().find(|address| address.is_ipv4());
    let none = || io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    first.or(addresses.first()).copied().ok_or_else(none)
}

fn remedy(error: &io::Error, flag: &str) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("stop the program that uses it, or give --{flag} another port")
        }
        io::ErrorKind::AddrNotAvailable => {
            format!("give --{flag} an address of this machine")
        }
        io::ErrorKind::PermissionDenied => {
            format!("give --{flag} a port above 1023, or run with the right to use this one")
        }
        io::ErrorKind::Unsupported => format!("write http:// in --{flag}"),
        _ => format!("correct --{flag}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(scheme: &str, host: &str, port: u16) -> Url {
        Url {
            scheme: scheme.to_owned(),
            host: host.to_owned(),
            port,
        }
    }

    fn in_runtime<T>(body: impl FnOnce() -> T) -> T {
        actix_rt::System::new().block_on(async { body() })
    }

    #[test]
    fn localhost_is_opened_on_ipv4() {
        let opened = in_runtime(|| open(&url("http", "localhost", 0), "listen-client-urls"));
        let opened = opened.expect("a free port");
        let address = opened.local_addr().expect("it is bound");
        assert!(address.ip().is_loopback() && address.is_ipv4() && address.port() != 0);
    }

    #[test]
    fn a_port_in_use_is_refused_with_url_option_and_remedy() {
        let holder = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = holder.local_addr().expect("it is bound").port();
        let refused = in_runtime(|| open(&url("http", "127.0.0.1", port), "listen-peer-urls"));
        let text = refused.expect_err("somebody holds it").to_string();
        let start = format!("http://127.0.0.1:{port} of --listen-peer-urls cannot be opened");
        assert!(text.starts_with(&start), "{text}");
        assert!(
            text.ends_with("give --listen-peer-urls another port"),
            "{text}"
        );
    }

    #[test]
    fn https_is_refused_instead_of_served_in_clear_text() {
        let refused = in_runtime(|| open(&url("https", "127.0.0.1", 0), "listen-client-urls"));
        let text = refused.expect_err("no TLS yet").to_string();
        assert!(text.contains("does not serve https"), "{text}");
    }
}

//! Tells systemd what the member does, over the socket that it names in the environment.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The member serves its clients.
pub const READY: &str = "READY=1";
/// The member reads its configuration again; `READY` follows.
pub fn reloading() -> String {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let since_boot = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
    format!("RELOADING=1\nMONOTONIC_USEC={since_boot}")
}

/// The member is alive: the watchdog's timeout starts again.
pub const ALIVE: &str = "WATCHDOG=1";

/// The member stops, and may take `time` for it, however little the unit says.
pub fn stopping(time: Duration) -> String {
    format!("STOPPING=1\n{}", more_time(time))
}

/// The member needs `time` from now on, if the unit does not allow that much anyway.
pub fn more_time(time: Duration) -> String {
    format!("EXTEND_TIMEOUT_USEC={}", time.as_micros())
}

/// Whether a service manager listens.
pub fn listens() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

/// How long the service manager waits for [`ALIVE`] before it takes the process for hung; `None`
/// where it does not wait at all.
pub fn watchdog_timeout() -> Option<Duration> {
    let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
    let is_meant = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
    let micros = number("WATCHDOG_USEC").filter(|micros| *micros > 0 && is_meant);
    micros.map(Duration::from_micros)
}

/// Sends `state` if a service manager listens. A failure is only worth a warning.
pub fn notify(state: &str) {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    if let Err(error) = send(&socket, state) {
        tracing::warn!(%error, ?socket, "the service manager cannot be notified");
    }
}

fn send(socket: &OsStr, state: &str) -> io::Result<()> {
    let address = match socket.as_bytes() {
        // A leading @ stands for the zero byte of an abstract name.
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(socket)?,
    };
    let sender = UnixDatagram::unbound()?;
    sender.send_to_addr(state.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_arrives_at_a_socket_with_a_path() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("notify");
        let manager = UnixDatagram::bind(&path).expect("a new socket");
        send(path.as_os_str(), READY).expect("somebody listens");
        let mut bytes = [0; 64];
        let length = manager.recv(&mut bytes).expect("a message waits");
        assert_eq!(&bytes[..length], READY.as_bytes());
    }

    #[test]
    fn nobody_listening_is_an_error() {
        assert!(send(OsStr::new("@althing-test-nobody"), READY).is_err());
    }
}

//! A separate network for the members: each in a network namespace, joined by a bridge, so that
//! what is lost is lost to the kernels and not to a relay. It needs root and iproute2.
//!
//! ```text
//! namespace of this process: bridge 10.77.0.254 --+-- member 0, 10.77.0.1, in a namespace
//!                            (clients)            +-- member 1, 10.77.0.2, in another ...
//! ```
//! One direction is closed by telling the sender's kernel a hardware address that nobody has:
//! packets leave and arrive nowhere, and connections hang until somebody gives up. Client traffic
//! is not touched. Addresses exist only inside a namespace that this process was started in alone,
//! see `tests/interop/faults`; in any other this refuses to begin.

use std::net::Ipv4Addr;
use std::process::Command;

use super::network::Link;

/// The network of the members and of this process.
const NETWORK: [u8; 3] = [10, 77, 0];
const HERE: &str = "10.77.0.254/24";
/// The hardware address of an interface that does not exist.
const NOWHERE: &str = "02:00:00:00:00:99";
/// The capacity of a slow link.
const THIN: &str = "tbf rate 256kbit burst 8kb latency 500ms";

/// The namespaces; they end with the namespace of this process.
#[derive(Debug)]
pub struct Namespaces {
    size: usize,
}

impl Namespaces {
    /// Makes a namespace for each of `size` members.
    ///
    /// # Panics
    /// Where this process has interfaces other than the loopback, or may not make any.
    pub fn make(size: usize) -> Namespaces {
        let interfaces = said("ip -o link show");
        assert_eq!(
            interfaces.lines().count(),
            1,
            "only in a namespace of its own, see tests/interop/faults; here is\n{interfaces}"
        );
        for command in [
            "ip link set lo up".to_owned(),
            "ip link add middle type bridge".to_owned(),
            format!("ip addr add {HERE} dev middle"),
            "ip link set middle up".to_owned(),
        ] {
            said(&command);
        }
        let namespaces = Namespaces { size };
        for position in 0..size {
            let (name, address) = (name(position), address(position));
            for command in [
                format!("ip netns add {name}"),
                format!("ip link add to-{name} type veth peer name eth0 netns {name}"),
                format!("ip link set to-{name} master middle up"),
                format!("ip -n {name} addr add {address}/24 dev eth0"),
                format!("ip -n {name} link set eth0 up"),
                format!("ip -n {name} link set lo up"),
            ] {
                said(&command);
            }
        }
        namespaces
    }

    /// Changes how one member's packets reach another. A slow link is a thin one here, for
    /// everything that its member sends.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn set(&self, from: usize, to: usize, link: Link) {
        let (sender, receiver) = (name(from), address(to));
        match link {
            Link::Open => {}
            Link::Slow(_) => {
                said(&format!(
                    "ip netns exec {sender} tc qdisc replace dev eth0 root {THIN}"
                ));
            }
            Link::Held | Link::Cut => {
                said(&format!(
                    "ip -n {sender} neigh replace {receiver} dev eth0 lladdr {NOWHERE} \
                     nud permanent"
                ));
            }
        }
    }

    /// Opens every link.
    pub fn heal(&self) {
        for from in 0..self.size {
            let sender = name(from);
            said(&format!(
                "ip -n {sender} neigh flush dev eth0 nud permanent"
            ));
            // The command fails if nothing was thin.
            let _ = run(&format!(
                "ip netns exec {sender} tc qdisc del dev eth0 root"
            ));
        }
    }
}

/// The name of a member's namespace.
pub fn name(position: usize) -> String {
    format!("member{position}")
}

/// The address of a member.
pub fn address(position: usize) -> Ipv4Addr {
    let [one, two, three] = NETWORK;
    let last = u8::try_from(position + 1).expect("a cluster is small");
    Ipv4Addr::new(one, two, three, last)
}

fn said(command: &str) -> String {
    run(command).unwrap_or_else(|what| panic!("{command}: {what}"))
}

fn run(command: &str) -> Result<String, String> {
    let mut words = command.split(' ');
    let program = words.next().unwrap_or_default();
    let output = Command::new(program).args(words).output();
    let output = output.map_err(|error| error.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(text(&output.stderr))
    }
}

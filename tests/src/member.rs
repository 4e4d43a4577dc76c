//! One member of one program, althingd or etcd: started on free ports in a temporary directory,
//! killed, stopped, and started again on the same ports with the same data.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::{Mutex, PoisonError};

use rand::Rng;
use tempfile::TempDir;

use crate::grpc::Grpc;
use crate::json::Json;
use crate::process::Process;

/// The line that etcd prints when it serves, and that its tools wait for; althingd prints it too.
pub const READY_LINE: &str = "ready to serve client requests";

/// A member and its data; the process may be down.
#[derive(Debug)]
pub struct Member {
    program: PathBuf,
    directory: TempDir,
    data_dir: PathBuf,
    host: Ipv4Addr,
    /// The network namespace that it runs in, if not that of this process.
    namespace: Option<String>,
    client_port: u16,
    peer_port: u16,
    /// The peer port that the other members are told.
    advertised_peer_port: u16,
    name: String,
    /// The members that it begins with; empty for itself alone.
    initial_cluster: String,
    /// Whether other flags tell it the members.
    is_discovered: bool,
    /// A client URL of the cluster that takes it in instead.
    joins: Option<String>,
    flags: Vec<OsString>,
    environment: Vec<(String, OsString)>,
    process: Option<Process>,
}

impl Member {
    /// Starts `program` with etcd's flags and `flags` behind them, and waits until it serves.
    ///
    /// # Panics
    /// When it does not come to serve.
    pub fn start(program: &Path, flags: &[&str]) -> Member {
        let mut member = Member::prepare(program, flags);
        member.restart();
        member
    }

    /// A member that is not started yet: its directory exists and is empty.
    pub fn prepare(program: &Path, flags: &[&str]) -> Member {
        let directory = TempDir::with_prefix("althing-").expect("a temporary directory");
        let data_dir = directory.path().join("data");
        let peer_port = free_port();
        Member {
            program: program.to_owned(),
            directory,
            data_dir,
            host: Ipv4Addr::LOCALHOST,
            namespace: None,
            client_port: free_port(),
            peer_port,
            advertised_peer_port: peer_port,
            name: "default".to_owned(),
            initial_cluster: String::new(),
            is_discovered: false,
            joins: None,
            flags: flags.iter().map(OsString::from).collect(),
            environment: Vec::new(),
            process: None,
        }
    }

    /// Sets an environment variable of the member.
    pub fn set(&mut self, name: &str, value: impl Into<OsString>) {
        self.environment.push((name.to_owned(), value.into()));
    }

    /// Gives it another name than etcd's default.
    pub fn call_it(&mut self, name: &str) {
        self.name = name.to_owned();
    }

    /// Tells the other members to reach it through `port`, where something else listens for it.
    pub fn stand_behind(&mut self, port: u16) {
        self.advertised_peer_port = port;
    }

    /// Runs it in a network namespace where it has this address.
    pub fn live_in(&mut self, namespace: &str, host: Ipv4Addr) {
        self.namespace = Some(namespace.to_owned());
        self.host = host;
    }

    /// The member's entry in `--initial-cluster`.
    pub fn entry(&self) -> String {
        format!("{}={}", self.name, self.peer_url())
    }

    /// Makes it begin in a cluster with these entries.
    pub fn begin_with(&mut self, entries: &[String]) {
        self.initial_cluster = entries.join(",");
    }

    /// Makes it begin with the members that these flags discover.
    pub fn discover_by(&mut self, flags: &[&str]) {
        self.is_discovered = true;
        self.flags.extend(flags.iter().map(OsString::from));
    }

    /// Makes it begin in the cluster of the member at this client URL.
    pub fn join_at(&mut self, client_url: &str) {
        self.joins = Some(client_url.to_owned());
    }

    /// Makes it listen for members on another port from the next start on.
    pub fn move_peer_port(&mut self) {
        self.peer_port = free_port();
        self.advertised_peer_port = self.peer_port;
    }

    /// Adds flags behind the present ones.
    pub fn add_flags(&mut self, flags: &[&str]) {
        self.flags.extend(flags.iter().map(OsString::from));
    }

    /// Puts the data somewhere other than the member's own temporary directory.
    pub fn keep_data_in(&mut self, data_dir: &Path) {
        self.data_dir = data_dir.to_owned();
    }

    /// Starts the process, without waiting for it to serve.
    pub fn launch(&mut self) -> &mut Process {
        let client = self.client_url();
        let listens = format!("http://{}:{}", self.host, self.peer_port);
        let peer = self.peer_url();
        let mut command = match &self.namespace {
            // The wrapper becomes the program.
            Some(namespace) => {
                let mut command = Command::new("ip");
                command
                    .args(["netns", "exec", namespace])
                    .arg(&self.program);
                command
            }
            None => Command::new(&self.program),
        };
        for name in std::env::vars_os().map(|(name, _)| name) {
            // The environment of the test run must not reach the member.
            let text = name.to_string_lossy();
            if text.starts_with("ETCD_") || text.starts_with("ALTHING_") {
                command.env_remove(name);
            }
        }
        command.current_dir(self.directory.path());
        command
            .args(["--name", &self.name, "--data-dir"])
            .arg(&self.data_dir);
        command.args([
            "--listen-client-urls",
            &client,
            "--advertise-client-urls",
            &client,
        ]);
        command.args([
            "--listen-peer-urls",
            &listens,
            "--initial-advertise-peer-urls",
            &peer,
        ]);
        let initial_cluster = match self.initial_cluster.as_str() {
            "" => self.entry(),
            entries => entries.to_owned(),
        };
        match &self.joins {
            Some(url) => command.args(["--join", url]),
            None if self.is_discovered => &mut command,
            None => command.args(["--initial-cluster", &initial_cluster]),
        };
        command.args(&self.flags);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        self.process.insert(Process::start(command))
    }

    /// Starts the process on the same ports and data, and waits until it serves.
    ///
    /// # Panics
    /// When it does not come to serve; the message holds what it printed.
    pub fn restart(&mut self) {
        self.launch();
        self.wait_until_it_serves();
    }

    /// Waits until a launched process serves.
    ///
    /// # Panics
    /// When it does not come to serve; the message holds what it printed.
    pub fn wait_until_it_serves(&mut self) {
        if let Err(reason) = self.process().wait_for_line(READY_LINE) {
            panic!("{} does not serve: {reason}", self.program.display());
        }
    }

    /// Ends the process with SIGKILL.
    pub fn kill(&mut self) {
        self.process().kill();
        self.process = None;
    }

    /// Ends the process with SIGTERM and returns how it ended and what it printed.
    pub fn stop(&mut self) -> (ExitStatus, String) {
        let mut process = self.process.take().expect("the member was started");
        process.terminate();
        let status = process.wait();
        (status, process.printed())
    }

    /// The running process.
    ///
    /// # Panics
    /// When the member is down.
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("the member was started")
    }

    /// The operating system's id of the running process.
    ///
    /// # Panics
    /// When the member is down.
    pub fn process_id(&self) -> u32 {
        self.process.as_ref().expect("the member was started").id()
    }

    /// A new gRPC connection.
    ///
    /// # Panics
    /// When the member does not accept it.
    pub async fn grpc(&self) -> Grpc {
        let connected = Grpc::connect_to(self.client_address()).await;
        connected.expect("a serving member accepts connections")
    }

    /// A JSON client; it connects on its first request.
    pub fn json(&self) -> Json {
        Json::new(self.client_port)
    }

    /// The port of the client URL.
    pub fn client_port(&self) -> u16 {
        self.client_port
    }

    /// The address where clients reach it.
    pub fn client_address(&self) -> SocketAddr {
        (self.host, self.client_port).into()
    }

    /// The only client URL.
    pub fn client_url(&self) -> String {
        format!("http://{}", self.client_address())
    }

    /// The port where it listens for other members.
    pub fn peer_port(&self) -> u16 {
        self.peer_port
    }

    /// The only peer URL that the others are told.
    pub fn peer_url(&self) -> String {
        format!("http://{}:{}", self.host, self.advertised_peer_port)
    }

    /// The temporary directory that it runs in.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The directory of the data.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }
}

/// Ports that this process gave away: nothing may listen there yet, or while a killed member is
/// down.
static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// A port on which nobody listens, given only once. It is taken below the range from which the
/// kernel gives ports to outgoing connections, so that no connection can take it while a member
/// restarts.
pub fn free_port() -> u16 {
    let mut random = rand::rng();
    // If a test failed meanwhile, it took its port all the same.
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let found = (0..1_000).find_map(|_| {
        let port = random.random_range(10_000..32_000);
        let is_free = || TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
        (!given.contains(&port) && is_free() && given.insert(port)).then_some(port)
    });
    found.expect("one of many ports is free")
}

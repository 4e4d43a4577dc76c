//! One run: clients use all members while a plan is carried out; then the judgement.

use std::path::Path;
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use crate::cluster::Cluster;
use crate::linear;
use crate::linear::history::{Event, Operation, Outcome};
use crate::member::Member;
use crate::process::DEADLINE;
use crate::small_disk::SmallDisk;

use super::clients::{Behaviour, Board, Client};
use super::clock::Clock;
use super::log;
use super::namespaces::{self, Namespaces};
use super::nemesis::{Between, Nemesis};
use super::network::Network;
use super::plan::{Kind, Step};

/// Size of a member's disk, if disks are disturbed.
const DISK_BYTES: u64 = 64 << 20;
/// The key of the last write of a run.
const LAST_KEY: u32 = u32::MAX;
/// Attempts at a write once everything is in order.
const ATTEMPTS: usize = 20;

/// What is run.
#[derive(Clone, Debug)]
pub struct Run<'a> {
    /// The members' program.
    pub program: &'a Path,
    /// The number of members.
    pub size: usize,
    /// The members' flags.
    pub flags: &'a [&'a str],
    /// What is disturbed.
    pub kinds: &'a [Kind],
    /// Whether each member has a network namespace instead of a relay.
    pub namespaces: bool,
    /// The seed that the clients' choices follow from.
    pub seed: u64,
    /// How the clients behave.
    pub behaviour: Behaviour,
    /// What is done to the members, repeated until enough requests were answered.
    pub plan: Vec<Step>,
    /// The least number of requests to be answered, unless the members are too slow for that.
    pub requests: u64,
}

/// The result of a run.
#[derive(Debug)]
pub struct Report {
    /// What the clients asked for.
    pub history: Vec<Operation>,
    /// What every member holds.
    pub log: Vec<Event>,
    /// What no correct store could have done.
    pub faults: Vec<String>,
}

impl Report {
    /// How many operations were answered, refused, and left open.
    pub fn counts(&self) -> [usize; 3] {
        let mut counts = [0; 3];
        for operation in &self.history {
            counts[match operation.outcome {
                Outcome::Done(_) => 0,
                Outcome::Failed => 1,
                Outcome::Unknown => 2,
            }] += 1;
        }
        counts
    }
}

impl Run<'_> {
    /// Runs, heals, reads what every member holds, and judges.
    ///
    /// # Panics
    /// When the members do not come to serve at all.
    pub async fn run(&self) -> Report {
        let mut nemesis = self.start().await;
        let size = self.size;
        let addresses = (0..size).map(|position| nemesis.cluster.client_address(position));
        let board = Board::new(addresses.collect());
        let clients = (0..self.behaviour.clients).map(|number| {
            let client = Client::new(number, self.seed, &board, &self.behaviour);
            client.run()
        });
        let disturbing = async {
            let deadline = Instant::now() + DEADLINE;
            loop {
                for step in &self.plan {
                    nemesis.disturb(step).await;
                }
                if board.answered() >= self.requests || Instant::now() > deadline {
                    break board.end();
                }
            }
        };
        let (recorded, ()) = tokio::join!(join_all(clients), disturbing);
        let mut history: Vec<Operation> = recorded.into_iter().flatten().collect();
        let all = nemesis.cluster.positions_without(&[]);
        nemesis.cluster.leader_of(&all).await;
        let last = self.last_write(&board, &mut history).await;
        let (mut logs, mut hashes) = (Vec::new(), Vec::new());
        for position in all {
            let address = nemesis.cluster.client_address(position);
            logs.push(log::read(address, last).await);
            hashes.push(log::hash(address, last).await);
        }
        let mut faults = std::mem::take(&mut nemesis.deaths);
        faults.extend(log::differences(&logs));
        if hashes.iter().any(|hash| *hash != hashes[0]) {
            faults.push(format!("members hash to {hashes:?} at revision {last}"));
        }
        let log = logs.swap_remove(0);
        faults.extend(linear::check(&history, &log).err().unwrap_or_default());
        Report {
            history,
            log,
            faults,
        }
    }

    async fn start(&self) -> Nemesis {
        let mut between = if self.namespaces {
            Between::Wires(Namespaces::make(self.size))
        } else {
            Between::Relays(Network::default())
        };
        let (mut members, mut disks, mut clocks) = (Vec::new(), Vec::new(), Vec::new());
        for position in 0..self.size {
            let mut member = Member::prepare(self.program, self.flags);
            if self.kinds.contains(&Kind::Disks) {
                let disk = SmallDisk::mount(DISK_BYTES).expect("this user may mount");
                member.keep_data_in(&disk.path().join("data"));
                disks.push(disk);
            }
            if self.kinds.contains(&Kind::Clocks) {
                let library = Clock::library().expect("libfaketime is installed");
                clocks.push(Clock::of(&mut member, library));
            }
            match &mut between {
                Between::Wires(_) => {
                    let host = namespaces::address(position);
                    member.live_in(&namespaces::name(position), host);
                }
                Between::Relays(network) => {
                    let relayed = network.relay(position, member.peer_port()).await;
                    member.stand_behind(relayed.expect("a port for the relay"));
                }
            }
            members.push(member);
        }
        let cluster = tokio::task::block_in_place(|| Cluster::assemble(members));
        let ids = cluster.ids().await;
        if let Between::Relays(network) = &between {
            network.identify(&ids);
        }
        Nemesis {
            cluster,
            between,
            ids,
            disks,
            clocks,
            deaths: Vec::new(),
        }
    }

    /// Makes one last write, so that all know where the log ends.
    async fn last_write(&self, board: &Board, history: &mut Vec<Operation>) -> i64 {
        let honest = Behaviour {
            flaw: None,
            patience: Duration::from_secs(20),
            ..self.behaviour.clone()
        };
        for attempt in 0..ATTEMPTS {
            let number = self.behaviour.clients + attempt;
            let mut client = Client::new(number, self.seed, board, &honest);
            client.connect().await;
            let recorded = client.write_once(LAST_KEY).await;
            history.extend(recorded);
            let answer = history.last().and_then(Operation::answer);
            if let Some(answer) = answer {
                return answer.revision;
            }
        }
        panic!("no write is acknowledged after everything was healed");
    }
}

//! Carries out a plan: does each disturbance to the cluster, waits, and undoes it.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use rustix::process::Signal;

use crate::cluster::Cluster;
use crate::grpc::{Grpc, path};
use crate::wait::until;
use althing_api::error::Error;
use althing_api::etcdserverpb as pb;

use super::clock::Clock;
use super::flushes::Flushes;
use super::namespaces::Namespaces;
use super::network::{Link, Network};
use super::plan::{Direction, Fault, Manner, Step, Target};
use crate::small_disk::SmallDisk;

/// How long to wait for a member to say who leads.
const STATUS_MAX: Duration = Duration::from_millis(500);

/// The network between the members.
#[derive(Debug)]
pub enum Between {
    /// Relays in this process.
    Relays(Network),
    /// Network namespaces.
    Wires(Namespaces),
}

impl Between {
    fn set(&self, from: usize, to: usize, link: Link) {
        match self {
            Between::Relays(network) => network.set(from, to, link),
            Between::Wires(namespaces) => namespaces.set(from, to, link),
        }
    }

    fn heal(&self) {
        match self {
            Between::Relays(network) => network.heal(),
            Between::Wires(namespaces) => namespaces.heal(),
        }
    }
}

/// The cluster under disturbance, and the means to disturb it.
#[derive(Debug)]
pub struct Nemesis {
    /// The members.
    pub cluster: Cluster,
    /// The network between them.
    pub between: Between,
    /// The members' ids.
    pub ids: Vec<u64>,
    /// The members' disks, if those are disturbed.
    pub disks: Vec<SmallDisk>,
    /// The members' clocks, if those are disturbed.
    pub clocks: Vec<Clock>,
    /// Members that ended although nothing made them.
    pub deaths: Vec<String>,
}

impl Nemesis {
    /// Carries out one step. Its effect lasts only for the time of the step.
    pub async fn disturb(&mut self, step: &Step) {
        println!("{step}");
        match step.fault {
            Fault::Kill(target) => {
                let position = self.position(target).await;
                self.kill(&[position], step.lasts).await;
            }
            Fault::KillAll => {
                let all = self.cluster.positions_without(&[]);
                self.kill(&all, step.lasts).await;
            }
            Fault::Pause(target) => {
                let position = self.position(target).await;
                self.cluster.member(position).process().pause();
                tokio::time::sleep(step.lasts).await;
                self.cluster.member(position).process().resume();
            }
            Fault::Restart(target) => {
                let position = self.position(target).await;
                self.restart(position, step.lasts).await;
            }
            Fault::RestartEach => {
                for position in self.cluster.positions_without(&[]) {
                    self.restart(position, step.lasts).await;
                }
            }
            Fault::Isolate(target, direction, manner) => {
                let position = self.position(target).await;
                self.isolate(position, direction, link(manner));
                tokio::time::sleep(step.lasts).await;
            }
            Fault::Bridge(manner) => {
                self.between.set(0, 1, link(manner));
                self.between.set(1, 0, link(manner));
                tokio::time::sleep(step.lasts).await;
            }
            Fault::Slow(target, late_ms) => {
                let position = self.position(target).await;
                let slow = Link::Slow(Duration::from_millis(late_ms));
                self.isolate(position, Direction::Both, slow);
                tokio::time::sleep(step.lasts).await;
            }
            Fault::HandOver => self.hand_over().await,
            Fault::Replace(target) => {
                let position = self.position(target).await;
                self.replace(position, step.lasts).await;
            }
            Fault::SlowDisk(target, late_ms) => {
                let process_id = self.process_id(target).await;
                let late = Duration::from_millis(late_ms);
                let slowed = Flushes::delayed(process_id, late);
                tokio::time::sleep(step.lasts).await;
                tokio::task::block_in_place(|| drop(slowed));
            }
            Fault::FailDisk(target) => {
                let position = self.position(target).await;
                self.fail_disk(position).await;
            }
            Fault::FillDisk(target) => {
                let position = self.position(target).await;
                self.disks[position].fill();
                tokio::time::sleep(step.lasts).await;
                self.disks[position].free();
            }
            Fault::Clock(target, seconds) => {
                let position = self.position(target).await;
                self.clocks[position].set(seconds);
                tokio::time::sleep(step.lasts).await;
                self.clocks[position].set(0);
            }
        }
        self.between.heal();
        tokio::time::sleep(step.calm).await;
        self.look_for_deaths(step);
    }

    async fn process_id(&self, target: Target) -> u32 {
        let position = self.position(target).await;
        self.cluster.process_id(position)
    }

    /// Breaks a disk: the member halts, since it cannot promise what it cannot flush.
    async fn fail_disk(&mut self, position: usize) {
        let failing = Flushes::failing(self.cluster.process_id(position));
        let process = self.cluster.member(position).process();
        let ended = tokio::task::block_in_place(|| process.wait());
        println!("member {position}: {ended}");
        drop(failing);
        tokio::task::block_in_place(|| self.cluster.restart(&[position]));
    }

    /// Replaces a dead member by one with the same name and ports, and nothing else of it.
    async fn replace(&mut self, position: usize, lasts: Duration) {
        let other = self.cluster.positions_without(&[position])[0];
        let address = self.cluster.client_address(other);
        tokio::task::block_in_place(|| self.cluster.member(position).kill());
        tokio::time::sleep(lasts).await;
        let removed = async || remove(address, self.ids[position]).await;
        until(removed, "the dead member is removed").await;
        let member = self.cluster.member(position);
        fs::remove_dir_all(member.data_dir()).expect("its data can be removed");
        member.join_at(&format!("http://{address}"));
        tokio::task::block_in_place(|| self.cluster.restart(&[position]));
        let status = self.cluster.status(position).await;
        self.ids[position] = status.header.unwrap_or_default().member_id;
        if let Between::Relays(network) = &self.between {
            network.identify(&self.ids);
        }
    }

    /// Starts a member again that ended by itself, and reports it.
    fn look_for_deaths(&mut self, step: &Step) {
        for position in self.cluster.positions_without(&[]) {
            let process = self.cluster.member(position).process();
            if process.is_running() {
                continue;
            }
            let printed = process.printed();
            self.deaths.push(format!(
                "member {position} ended by itself in [{step}]:\n{printed}"
            ));
            tokio::task::block_in_place(|| self.cluster.restart(&[position]));
        }
    }

    async fn kill(&mut self, positions: &[usize], lasts: Duration) {
        tokio::task::block_in_place(|| {
            for position in positions {
                self.cluster.member(*position).kill();
            }
        });
        tokio::time::sleep(lasts).await;
        tokio::task::block_in_place(|| self.cluster.restart(positions));
    }

    async fn restart(&mut self, position: usize, lasts: Duration) {
        let (status, printed) =
            tokio::task::block_in_place(|| self.cluster.member(position).stop());
        // A real etcd ends by the signal after it stopped in order.
        let in_order = status.success() || status.signal() == Some(Signal::TERM.as_raw());
        assert!(in_order, "member {position}: {status}\n{printed}");
        tokio::time::sleep(lasts).await;
        tokio::task::block_in_place(|| self.cluster.restart(&[position]));
    }

    fn isolate(&self, position: usize, direction: Direction, link: Link) {
        for other in self.cluster.positions_without(&[position]) {
            if direction != Direction::In {
                self.between.set(position, other, link);
            }
            if direction != Direction::Out {
                self.between.set(other, position, link);
            }
        }
    }

    async fn position(&self, target: Target) -> usize {
        match target {
            Target::Position(position) => position,
            Target::Leader => self.leader().await.unwrap_or(0),
        }
    }

    /// The member that claims to lead in the highest term.
    async fn leader(&self) -> Option<usize> {
        let mut found = None;
        for position in self.cluster.positions_without(&[]) {
            let asked = status(self.cluster.client_address(position));
            let answered = tokio::time::timeout(STATUS_MAX, asked).await;
            let Ok(Some(status)) = answered else { continue };
            let own = status.header.unwrap_or_default().member_id;
            if status.leader == own && found.is_none_or(|(term, _)| status.raft_term > term) {
                found = Some((status.raft_term, position));
            }
        }
        found.map(|(_, position)| position)
    }

    /// Asks the leader to make the next member lead; it may refuse.
    async fn hand_over(&self) {
        let Some(leader) = self.leader().await else {
            return;
        };
        let next = self.cluster.positions_without(&[leader])[0];
        let request = pb::MoveLeaderRequest {
            target_id: self.ids[next],
        };
        let Ok(mut grpc) = Grpc::connect_to(self.cluster.client_address(leader)).await else {
            return;
        };
        let asked = grpc.unary::<pb::MoveLeaderResponse>(path::MOVE_LEADER, &request);
        match asked.await {
            Ok(_) => {}
            Err(status) => println!("the lead is not handed over: {}", status.message()),
        }
    }
}

fn link(manner: Manner) -> Link {
    match manner {
        Manner::Held => Link::Held,
        Manner::Cut => Link::Cut,
    }
}

/// Whether a member is gone. It may not go before the others are in step with each other.
async fn remove(address: SocketAddr, id: u64) -> bool {
    let Ok(mut grpc) = Grpc::connect_to(address).await else {
        return false;
    };
    let request = pb::MemberRemoveRequest { id };
    let asked = grpc.unary::<pb::MemberRemoveResponse>(path::MEMBER_REMOVE, &request);
    match asked.await {
        Ok(_) => true,
        // An earlier attempt succeeded, and its answer was lost.
        Err(status) => status.message() == Error::MemberNotFound.text(),
    }
}

async fn status(address: SocketAddr) -> Option<pb::StatusResponse> {
    let mut grpc = Grpc::connect_to(address).await.ok()?;
    let request = pb::StatusRequest::default();
    grpc.unary(path::STATUS, &request).await.ok()
}

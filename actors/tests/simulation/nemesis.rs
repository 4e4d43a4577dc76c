//! Misfortune: what goes wrong, when, and when it is over.

use std::rc::Rc;
use std::time::Duration;

use althing_actors::testing::pass;
use althing_api::id::MemberId;
use tokio::time::Instant;

use crate::clients;
use crate::history::Ask;
use crate::machine::Machine;
use crate::network::{CALM, Weather};
use crate::world::World;

/// The longest time that a leader is left with one other member, in milliseconds; several election
/// timeouts.
const STRANDED_MAX_MS: u64 = 2_000;
/// Heartbeat intervals of a member that is tuned anew.
const HEARTBEATS: [Duration; 4] = [
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    SLOWEST_HEARTBEAT,
];
const SLOWEST_HEARTBEAT: Duration = Duration::from_millis(100);
/// Reads of that member meanwhile, and how long each waits.
const STRANDED_READS: u64 = 8;
const STRANDED_PATIENCE: Duration = Duration::from_millis(500);
/// In the place of a client's number.
const NOBODY: u64 = 0;

/// Lets things go wrong for a while.
pub async fn run(world: &Rc<World>) {
    let duration = Duration::from_millis(2_500 + world.roll(3_500));
    let end = Instant::now() + duration;
    // Some runs are quiet for long, others never.
    let pause_max_ms = [60, 200, 600][world.roll(2) as usize];
    while Instant::now() < end && world.record.violation().is_none() {
        let pause = world.roll(pause_max_ms);
        pass(Duration::from_millis(pause)).await;
        bury(world);
        strike(world);
    }
}

/// Restarts nodes whose power has gone.
fn bury(world: &Rc<World>) {
    for machine in world.machines() {
        if machine.is_up() && machine.lost_power() {
            crash(world, &machine, false);
        }
        if machine.is_up() && machine.has_departed() {
            machine.crash(false);
        }
    }
}

fn strike(world: &Rc<World>) {
    let machine = world.any_machine();
    world.network.note(machine.number);
    match world.roll(99) {
        0..20 => crash(world, &machine, world.roll(2) > 0),
        20..25 => machine.power_off_soon(1 + world.roll(20)),
        25..28 => machine.die_soon(1 + world.roll(20)),
        28..38 => pause(world, machine),
        38..48 => isolate(world, &machine),
        48..58 => cut_one_way(world, &machine),
        58..62 => split(world),
        62..66 => strand(world),
        66..76 => storm(world),
        76..86 => move_leader(world),
        86..90 => stop(world, machine),
        90..95 => retune(world, &machine),
        _ => {
            let world = Rc::clone(world);
            tokio::task::spawn_local(async move { clients::compact(&world).await });
        }
    }
}

/// Does something within `max_ms` milliseconds.
fn later(world: &Rc<World>, max_ms: u64, what: impl FnOnce(&Rc<World>) + 'static) {
    let delay = Duration::from_millis(world.roll(max_ms));
    let world = Rc::clone(world);
    tokio::task::spawn_local(async move {
        pass(delay).await;
        if world.is_busy() {
            what(&world);
        }
    });
}

fn crash(world: &Rc<World>, machine: &Rc<Machine>, power_goes: bool) {
    if !machine.is_up() {
        return;
    }
    world.network.note(("crash", machine.number, power_goes));
    machine.crash(power_goes);
    restart(world, machine);
}

fn restart(world: &Rc<World>, machine: &Rc<Machine>) {
    // Often soon after: then the restart may meet what happened a moment ago.
    let max_ms = if world.roll(1) == 0 { 30 } else { 1_500 };
    let machine = Rc::clone(machine);
    later(world, max_ms, move |world| {
        if !machine.is_up() && machine.was_up() && !machine.is_broken() && !machine.has_departed() {
            world.launch(&machine);
        }
    });
}

fn pause(world: &Rc<World>, machine: Rc<Machine>) {
    machine.pause();
    later(world, 1_200, move |_| machine.resume());
}

/// Stops a node in order, as at a restart of the service.
fn stop(world: &Rc<World>, machine: Rc<Machine>) {
    let world = Rc::clone(world);
    world.stops.set(world.stops.get() + 1);
    tokio::task::spawn_local(async move {
        let has_stopped = machine.stop().await;
        world.stops.set(world.stops.get() - 1);
        if has_stopped && machine.is_up() && world.is_busy() {
            machine.crash(false);
            restart(&world, &machine);
        }
    });
}

/// Reloads one member's tuning: the others know nothing of it.
fn retune(world: &Rc<World>, machine: &Rc<Machine>) {
    let heartbeat = HEARTBEATS[world.roll(3) as usize];
    tune(world, machine, heartbeat);
}

fn tune(world: &Rc<World>, machine: &Rc<Machine>, heartbeat: Duration) {
    let snapshot_count = [10, 30, 100, 10_000][world.roll(3) as usize];
    world.network.note(("retune", heartbeat, snapshot_count));
    machine.retune(heartbeat, snapshot_count);
}

/// Cuts `machine` off from all others for a while, in both directions.
pub fn isolate(world: &Rc<World>, machine: &Rc<Machine>) {
    let me = machine.number;
    for other in 1..=world.machines().len() as u64 {
        world.network.cut(me, other);
        world.network.cut(other, me);
    }
    later(world, 1_500, move |world| {
        for other in 1..=world.machines().len() as u64 {
            world.network.heal(me, other);
            world.network.heal(other, me);
        }
    });
}

fn cut_one_way(world: &Rc<World>, machine: &Rc<Machine>) {
    let (from, to) = (machine.number, world.any_machine().number);
    world.network.cut(from, to);
    later(world, 1_500, move |world| world.network.heal(from, to));
}

/// Splits the cluster into two halves that do not hear each other.
fn split(world: &Rc<World>) {
    let here: Vec<u64> = (1..=world.machines().len() as u64)
        .filter(|_| world.roll(1) == 0)
        .collect();
    part(world, &here);
    later(world, 1_500, |world| world.network.heal_all());
}

/// Leaves the leader with one other member, which hears it and has every reason to ask it, while
/// the rest may elect another.
fn strand(world: &Rc<World>) {
    let Some(leader) = world.leader() else {
        return;
    };
    let other = world.any_machine();
    part(world, &[leader.number, other.number]);
    if world.roll(1) == 0 {
        // It waits for its leader for longer than the others do.
        tune(world, &other, SLOWEST_HEARTBEAT);
    }
    for _ in 0..STRANDED_READS {
        let other = Rc::clone(&other);
        later(world, STRANDED_MAX_MS, move |world| {
            let world = Rc::clone(world);
            tokio::task::spawn_local(async move {
                let read = Ask::Read { fresh: true };
                clients::perform(&world, NOBODY, &other, read, STRANDED_PATIENCE).await;
            });
        });
    }
    later(world, STRANDED_MAX_MS, |world| world.network.heal_all());
}

/// Lets the machines that are `here` and the others not hear each other.
fn part(world: &Rc<World>, here: &[u64]) {
    for from in 1..=world.machines().len() as u64 {
        for to in 1..=world.machines().len() as u64 {
            if here.contains(&from) != here.contains(&to) {
                world.network.cut(from, to);
            }
        }
    }
}

fn storm(world: &Rc<World>) {
    world.network.set_weather(Weather {
        delay_max_ms: 1 + world.roll(40),
        slow_percent: world.roll(20),
        slow_ms: 1 + world.roll(600),
        lost_percent: world.roll(15),
    });
    later(world, 1_000, |world| world.network.set_weather(CALM));
}

fn move_leader(world: &Rc<World>) {
    let to = MemberId(world.any_machine().number);
    for machine in world.machines().into_iter().filter(|one| one.leads()) {
        if let Some(handles) = machine.ready() {
            tokio::task::spawn_local(async move {
                // It may fail, but must do no harm.
                let _ = machine
                    .inside(async move { handles.move_leader(to).await.is_ok() })
                    .await;
            });
        }
    }
}

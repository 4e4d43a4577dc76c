//! The operator, who changes the membership while everything else goes wrong: learners and voters
//! come, get a vote, go and are replaced, the leader among them.

use std::rc::Rc;
use std::time::Duration;

use althing_actors::node::{MemberChange, MemberStatus};
use althing_actors::testing::pass;
use althing_api::error::Error;
use althing_api::id::MemberId;

use crate::orders::{Outcome, Seat};
use crate::world::World;

/// The longest wait for one order.
const PATIENCE: Duration = Duration::from_secs(3);
/// Members at once, including learners.
const MEMBERS_MAX: usize = 6;
/// The least number of voters that is left.
const VOTERS_MIN: usize = 2;

/// Gives one order after another, until the world says that it is enough.
pub async fn run(world: Rc<World>) {
    while world.is_busy() {
        pass(Duration::from_millis(world.roll(500))).await;
        let handles = world.any_ready().and_then(|machine| machine.ready());
        // Held handles would keep the files of an ended node open.
        let known = handles.map(|handles| (seats(handles.members()), handles.leader().0));
        if let Some((seats, leader)) = known {
            order(&world, &seats, leader).await;
        }
    }
}

pub fn seats(members: Vec<MemberStatus>) -> Vec<Seat> {
    let seat = |member: MemberStatus| Seat {
        number: member.id.0,
        is_learner: member.is_learner,
    };
    members.into_iter().map(seat).collect()
}

async fn order(world: &Rc<World>, seats: &[Seat], leader: u64) {
    let (learners, voters): (Vec<u64>, Vec<u64>) = (
        numbers(seats, |seat| seat.is_learner),
        numbers(seats, |seat| !seat.is_learner),
    );
    let some = |from: &[u64]| Some(from[world.roll(from.len().checked_sub(1)? as u64) as usize]);
    match world.roll(99) {
        0..20 if seats.len() < MEMBERS_MAX => add(world, true).await,
        0..45 if seats.len() < MEMBERS_MAX => add(world, false).await,
        45..70 => {
            if let Some(learner) = some(&learners) {
                promote(world, learner).await;
            }
        }
        70..75 if voters.len() > VOTERS_MIN && voters.contains(&leader) => {
            remove(world, leader).await;
        }
        75..90 => {
            let leaving = if voters.len() > VOTERS_MIN {
                some(&numbers(seats, |_| true))
            } else {
                some(&learners)
            };
            if let Some(leaving) = leaving {
                remove(world, leaving).await;
            }
        }
        90.. if voters.len() > VOTERS_MIN => {
            if let Some(broken) = some(&voters) {
                replace(world, broken).await;
            }
        }
        _ => {}
    }
}

fn numbers(seats: &[Seat], is_one: impl Fn(&Seat) -> bool) -> Vec<u64> {
    let some = seats.iter().filter(|seat| is_one(seat));
    some.map(|seat| seat.number).collect()
}

/// Adds a machine, which is started unless it was refused; sometimes long before or after, or
/// never.
async fn add(world: &Rc<World>, is_learner: bool) {
    let machine = world.new_machine();
    let number = machine.number;
    let mood = world.roll(7);
    if mood == 0 {
        world.launch(&machine);
    }
    world.orders.borrow_mut().comes(number, Outcome::Unknown);
    let outcome = ask(
        world,
        MemberChange::Add {
            id: MemberId(number),
            peer_urls: vec![format!("http://m{number}:2380")],
            is_learner,
        },
    );
    let outcome = outcome.await;
    world.orders.borrow_mut().comes(number, outcome);
    if outcome == Outcome::Refused || mood == 1 {
        return;
    }
    if mood == 2 {
        pass(Duration::from_millis(world.roll(1_000))).await;
    }
    if world.is_busy() && !machine.is_up() {
        world.launch(&machine);
    }
}

async fn promote(world: &Rc<World>, number: u64) {
    if ask(world, MemberChange::Promote(MemberId(number))).await == Outcome::Done {
        world.orders.borrow_mut().was_promoted(number);
    }
}

async fn remove(world: &Rc<World>, number: u64) -> Outcome {
    world.orders.borrow_mut().is_asked_to_go(number);
    let outcome = ask(world, MemberChange::Remove(MemberId(number))).await;
    world.orders.borrow_mut().goes(number, outcome);
    outcome
}

/// Breaks a machine for good; another one takes its place.
async fn replace(world: &Rc<World>, number: u64) {
    world.machine(number).break_down();
    while world.is_busy() && remove(world, number).await != Outcome::Done {
        pass(Duration::from_millis(world.roll(300))).await;
    }
    if world.is_busy() {
        add(world, false).await;
    }
}

async fn ask(world: &Rc<World>, change: MemberChange) -> Outcome {
    let Some(machine) = world.any_ready() else {
        return Outcome::Refused;
    };
    let Some(handles) = machine.ready() else {
        return Outcome::Refused;
    };
    let shown = change.to_string();
    let asked = machine.inside(async move { handles.change_members(change).await.map(drop) });
    let answer = tokio::time::timeout(PATIENCE, asked).await.ok().flatten();
    let outcome = match answer {
        Some(Ok(())) => Outcome::Done,
        Some(Err(error)) if is_refusal(error) => Outcome::Refused,
        Some(Err(_)) | None => Outcome::Unknown,
    };
    world
        .network
        .note((machine.number, shown, format!("{outcome:?}")));
    outcome
}

/// Whether nothing was done, or everything was done before.
fn is_refusal(error: Error) -> bool {
    matches!(
        error,
        Error::UnhealthyCluster
            | Error::NotEnoughStartedMembers
            | Error::TooManyLearners
            | Error::LearnerNotReady
            | Error::MemberNotLearner
            | Error::TooManyRequests
    )
}

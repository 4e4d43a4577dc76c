//! What happens to a cluster and when: chosen from a seed, before the run.

use std::fmt;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

/// One disturbance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL; started again at the end.
    Kill(Target),
    /// SIGKILL of every member at once.
    KillAll,
    /// SIGSTOP; SIGCONT at the end.
    Pause(Target),
    /// SIGTERM, and started again at once.
    Restart(Target),
    /// SIGTERM of one member after the other, each started again before the next.
    RestartEach,
    /// Nothing comes out of a member, into it, or both.
    Isolate(Target, Direction, Manner),
    /// The first member and the next do not hear each other; the rest hears both.
    Bridge(Manner),
    /// What a member sends and receives takes this many milliseconds.
    Slow(Target, u64),
    /// The leader is asked to make another one lead.
    HandOver,
    /// SIGKILL, and the data is lost: the member is removed, and another one joins in its place.
    Replace(Target),
    /// Every flush of a member's disk takes this many milliseconds.
    SlowDisk(Target, u64),
    /// The next flush of a member's disk fails: it halts, and is started again.
    FailDisk(Target),
    /// A member's disk has no space left.
    FillDisk(Target),
    /// A member's wall clock is off by this many seconds.
    Clock(Target, i64),
}

/// The member that a fault meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The leader, whichever it is.
    Leader,
    /// A member by its position.
    Position(usize),
}

/// The direction in which nothing passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the member.
    Out,
    /// To the member.
    In,
    /// Neither way.
    Both,
}

/// What happens to messages that do not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// They arrive at the end.
    Held,
    /// Their connection breaks.
    Cut,
}

/// A disturbance with its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// What is done.
    pub fault: Fault,
    /// How long the fault lasts.
    pub lasts: Duration,
    /// The pause afterwards.
    pub calm: Duration,
}

/// A family of disturbances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Processes that die, stop for a while, or are restarted.
    Processes,
    /// Links between members.
    Network,
    /// Members that are replaced, or lead no longer.
    Members,
    /// Slow, failing and full disks.
    Disks,
    /// Wall clocks that jump.
    Clocks,
}

impl Kind {
    /// The family with this name.
    pub fn named(name: &str) -> Option<Kind> {
        match name {
            "processes" => Some(Kind::Processes),
            "network" => Some(Kind::Network),
            "members" => Some(Kind::Members),
            "disks" => Some(Kind::Disks),
            "clocks" => Some(Kind::Clocks),
            _ => None,
        }
    }
}

/// `count` steps for a cluster of `size`, of these families.
pub fn plan(seed: u64, size: usize, count: usize, kinds: &[Kind]) -> Vec<Step> {
    let mut random = StdRng::seed_from_u64(seed);
    let step = |_| {
        let kind = kinds.choose(&mut random).expect("a family is asked for");
        let fault = choose(&mut random, *kind, size);
        let longest = match fault {
            Fault::RestartEach | Fault::HandOver | Fault::Restart(_) => 100,
            _ => 2_500,
        };
        Step {
            fault,
            lasts: Duration::from_millis(random.random_range(50..=longest)),
            calm: Duration::from_millis(random.random_range(0..1_500)),
        }
    };
    (0..count).map(step).collect()
}

fn choose(random: &mut StdRng, kind: Kind, size: usize) -> Fault {
    let target = match random.random_range(0..=size) {
        // The leader as often as each other member.
        0 => Target::Leader,
        other => Target::Position(other - 1),
    };
    match kind {
        Kind::Processes => match random.random_range(0..10) {
            0..2 => Fault::Kill(Target::Leader),
            2..4 => Fault::Kill(target),
            4 => Fault::KillAll,
            5..7 => Fault::Pause(target),
            7 => Fault::Restart(target),
            8 => Fault::RestartEach,
            _ => Fault::HandOver,
        },
        Kind::Network => {
            let manners = [Manner::Held, Manner::Cut];
            let manner = *manners.choose(random).expect("there are two");
            let directions = [Direction::Out, Direction::In, Direction::Both];
            let direction = *directions.choose(random).expect("there are three");
            match random.random_range(0..5) {
                0 => Fault::Isolate(Target::Leader, direction, manner),
                1..3 => Fault::Isolate(target, direction, manner),
                3 => Fault::Bridge(manner),
                _ => Fault::Slow(target, random.random_range(5..400)),
            }
        }
        Kind::Members => match random.random_range(0..3) {
            0 => Fault::HandOver,
            _ => Fault::Replace(target),
        },
        Kind::Disks => match random.random_range(0..5) {
            0..3 => Fault::SlowDisk(target, random.random_range(10..2_000)),
            3 => Fault::FailDisk(target),
            _ => Fault::FillDisk(target),
        },
        Kind::Clocks => Fault::Clock(target, random.random_range(-90_000..90_000)),
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Step { fault, lasts, calm } = self;
        write!(f, "{fault:?} for {lasts:?}, then calm for {calm:?}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_makes_one_plan_and_another_seed_another() {
        let kinds = [Kind::Processes, Kind::Network];
        assert_eq!(plan(7, 3, 50, &kinds), plan(7, 3, 50, &kinds));
        assert_ne!(plan(7, 3, 50, &kinds), plan(8, 3, 50, &kinds));
    }

    #[test]
    fn only_what_is_asked_for_is_planned() {
        let is_kill = |step: &Step| matches!(step.fault, Fault::Kill(_) | Fault::KillAll);
        assert!(plan(7, 5, 50, &[Kind::Processes]).iter().any(is_kill));
        assert!(!plan(7, 5, 50, &[Kind::Network]).iter().any(is_kill));
    }
}

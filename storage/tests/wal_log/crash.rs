//! Power loss at every operation of the disk, keeping any part of what was not synced.

use super::plan::Player;
use super::{open, seeds};
use althing_storage::wal::faulty_disk::FaultyDisk;

const SEGMENT_BYTES: u64 = 2048;
const LARGEST: usize = 700;
const STEPS: usize = 60;

/// Plays steps until the power goes; returns whether it did.
fn play(disk: &FaultyDisk, player: &mut Player, steps: usize) -> bool {
    let (mut wal, recovery) = match open(disk, SEGMENT_BYTES) {
        Ok(opened) => opened,
        Err(error) => {
            assert!(disk.is_off(), "refused: {error}");
            return true;
        }
    };
    player.recovered(&wal, &recovery);
    for _ in 0..steps {
        if let Err(error) = player.step(&mut wal) {
            assert!(disk.is_off(), "failed: {error}");
            return true;
        }
        if player.choose(4) == 0 && !disk.is_off() {
            player.check_reads(&wal);
        }
    }
    false
}

#[test]
fn power_loss_at_any_operation_loses_nothing_flushed_and_revives_nothing_void() {
    for seed in seeds(12) {
        let disk = FaultyDisk::default();
        assert!(!play(&disk, &mut Player::new(seed, LARGEST), STEPS));
        for operation in 1..=disk.operations() {
            eprintln!("SEED={seed}, power off at operation {operation}");
            let disk = FaultyDisk::default();
            disk.power_off_at(operation);
            let mut player = Player::new(seed, LARGEST);
            play(&disk, &mut player, STEPS);
            let disk = disk.after_power_loss(&mut |n| player.choose(n));
            assert!(!play(&disk, &mut player, 10), "the power is on");
        }
    }
}

#[test]
fn power_loss_again_and_again_on_the_same_files_revives_no_former_life() {
    for seed in seeds(40) {
        eprintln!("SEED={seed}");
        let mut player = Player::new(seed, LARGEST);
        let mut disk = FaultyDisk::default();
        for _ in 0..30 {
            let operation = disk.operations() + 1 + player.choose(60);
            disk.power_off_at(operation);
            play(&disk, &mut player, STEPS);
            disk = disk.after_power_loss(&mut |n| player.choose(n));
        }
        assert!(!play(&disk, &mut player, STEPS));
    }
}

#[test]
fn a_killed_process_finds_all_it_had_written() {
    for seed in seeds(20) {
        eprintln!("SEED={seed}");
        let disk = FaultyDisk::default();
        let mut player = Player::new(seed, LARGEST);
        for _ in 0..10 {
            assert!(!play(&disk, &mut player, 30));
        }
    }
}

//! Random calls against the plain model, with reads in between and reopening.

use super::plan::Player;
use super::{open, seeds};
use althing_storage::wal::faulty_disk::FaultyDisk;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn the_log_is_what_the_model_says(
        seed in any::<u64>(),
        segment_bytes in 1024u64..6000,
        runs in prop::collection::vec(1usize..80, 1..5),
    ) {
        let disk = FaultyDisk::default();
        let largest = usize::try_from(segment_bytes / 2).expect("small");
        let mut player = Player::new(seed, largest.min(800));
        for steps in runs {
            let (mut wal, recovery) = open(&disk, segment_bytes).expect("it was closed in order");
            player.recovered(&wal, &recovery);
            for _ in 0..steps {
                player.step(&mut wal).expect("nothing fails here");
                player.check_reads(&wal);
            }
        }
    }
}

#[test]
fn endless_writes_behind_purges_use_a_bounded_number_of_files() {
    for seed in seeds(3) {
        let disk = FaultyDisk::default();
        let mut player = Player::new(seed, 200);
        let (mut wal, _) = open(&disk, 2048).expect("a new log opens");
        for _ in 0..3000 {
            player.step(&mut wal).expect("nothing fails here");
        }
        wal.flush().expect("nothing fails here");
        let last = wal.tail().state().1.expect("entries were written");
        wal.tail().purge(last);
        wal.purge(last);
        wal.flush().expect("nothing fails here");
        let files = disk.contents();
        assert!(
            files.len() <= 6,
            "{:?}",
            files.iter().map(|(path, _)| path).collect::<Vec<_>>()
        );
    }
}

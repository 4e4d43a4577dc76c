//! The seed of a run: `SEED`, or a new one, printed so that it can be given again.

pub fn seed() -> u64 {
    let given = std::env::var("SEED").ok();
    let seed = given.map_or_else(rand::random::<u64>, |text| text.parse().unwrap());
    println!("replay with SEED={seed}");
    seed
}

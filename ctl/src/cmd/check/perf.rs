//! `check perf`: a minute of puts at a steady rate.

use std::io::Write;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::load::{Load, Shape};
use super::tally::Tally;
use super::{Site, Size};
use crate::failure::{ERROR, Failure};
use crate::progress::Progress;
use crate::session::Interrupt;

const KEY_BYTES: usize = 256;
const VALUE_BYTES: usize = 1024;
const TIME: Duration = Duration::from_secs(60);
/// The part of the rate that must be reached.
const RATE_PART: f64 = 0.9;
const SLOWEST_MAX_SECONDS: f64 = 0.5;
const DEVIATION_MAX_SECONDS: f64 = 0.1;

/// Puts per second, and the number of clients.
fn plan(size: Size) -> (u32, usize) {
    match size {
        Size::Small => (150, 50),
        Size::Medium => (1_000, 200),
        Size::Large => (8_000, 500),
        Size::ExtraLarge => (15_000, 1_000),
    }
}

pub(super) async fn run(site: &Site<'_>, size: Size, out: &mut dyn Write) -> Result<(), Failure> {
    let (rate, count) = plan(size);
    let mut interrupt = Interrupt::catch()?;
    let clients = site.clients(count).await?;
    let mut first = clients[0].clone();
    site.refuse_keys(&mut first, "'").await?;
    let shape = Shape {
        prefix: site.prefix.clone(),
        key_bytes: KEY_BYTES,
        value_bytes: VALUE_BYTES,
    };
    let progress = Progress::of(TIME.as_secs());
    let began = Instant::now();
    let load = Load::start(clients, &shape, || {});
    let mut orders = interval(Duration::from_secs(1) / rate);
    // A timer that is late makes up for it: the rate counts, not the pause.
    orders.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (mut number, mut interrupted) = (0, false);
    while began.elapsed() < TIME && !interrupted {
        tokio::select! {
            () = interrupt.arrived() => interrupted = true,
            _ = orders.tick() => {
                load.order(number).await;
                number += 1;
                progress.at(began.elapsed().as_secs());
            }
        }
    }
    let tally = load.finish().await?;
    let total = began.elapsed();
    drop(progress);
    let cleaned = site.clean_up(&mut first, out).await;
    if let Err(failure) = cleaned {
        writeln!(
            out,
            "FAIL: Cleanup failed during key deletion: ERROR({failure})"
        )?;
    }
    verdict(&tally, total, rate, out)
}

fn verdict(tally: &Tally, total: Duration, rate: u32, out: &mut dyn Write) -> Result<(), Failure> {
    let mut passed = tally.errors.is_empty();
    if !passed {
        writeln!(out, "FAIL: too many errors")?;
        for (error, count) in &tally.errors {
            writeln!(out, "FAIL: ERROR({error}) -> {count}")?;
        }
    }
    let reached = tally.per_second(total);
    let shown = reached as u64 + 1;
    if reached / f64::from(rate) <= RATE_PART {
        passed = false;
        writeln!(out, "FAIL: Throughput too low: {shown} writes/s")?;
    } else {
        writeln!(out, "PASS: Throughput is {shown} writes/s")?;
    }
    let slowest = tally.slowest();
    if slowest > SLOWEST_MAX_SECONDS {
        passed = false;
        writeln!(out, "Slowest request took too long: {slowest:.6}s")?;
    } else {
        writeln!(out, "PASS: Slowest request took {slowest:.6}s")?;
    }
    let deviation = tally.deviation();
    if deviation > DEVIATION_MAX_SECONDS {
        passed = false;
        writeln!(out, "Stddev too high: {deviation:.6}s")?;
    } else {
        writeln!(out, "PASS: Stddev is {deviation:.6}s")?;
    }
    writeln!(out, "{}", if passed { "PASS" } else { "FAIL" })?;
    if passed {
        Ok(())
    } else {
        Err(Failure::new(ERROR, ""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(took: &[f64], seconds: u64) -> (bool, String) {
        let mut tally = Tally::default();
        for one in took {
            tally.add(Ok(Duration::from_secs_f64(*one)));
        }
        let mut out = Vec::new();
        let passed = verdict(&tally, Duration::from_secs(seconds), 2, &mut out).is_ok();
        (passed, String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_verdict_is_in_etcdctls_words() {
        let good = "PASS: Throughput is 3 writes/s\nPASS: Slowest request took 0.250000s\n\
                    PASS: Stddev is 0.000000s\nPASS\n";
        assert_eq!(told(&[0.25; 4], 2), (true, good.to_owned()));
        let bad = "FAIL: Throughput too low: 2 writes/s\nSlowest request took too long: 1.000000s\n\
                   Stddev too high: 0.500000s\nFAIL\n";
        assert_eq!(told(&[0.0, 1.0], 2), (false, bad.to_owned()));
    }
}

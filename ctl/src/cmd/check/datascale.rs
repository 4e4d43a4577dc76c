//! `check datascale`: how much memory a member takes for many keys.

use std::io::Write;

use super::load::{Load, Shape};
use super::{Site, Size};
use crate::client::metric;
use crate::failure::{ERROR, Failure};
use crate::progress::Progress;
use crate::session::Interrupt;

const KEY_BYTES: usize = 512;
const VALUE_BYTES: usize = 512;
const MEBIBYTE: f64 = 1024.0 * 1024.0;
/// The metric of a member's memory.
const MEMORY: &str = "process_resident_memory_bytes";

/// The number of keys, and of clients.
fn plan(size: Size) -> (u64, usize) {
    match size {
        Size::Small => (10_000, 50),
        Size::Medium => (100_000, 200),
        Size::Large => (1_000_000, 500),
        Size::ExtraLarge => (3_000_000, 1_000),
    }
}

pub(super) async fn run(site: &Site<'_>, size: Size, out: &mut dyn Write) -> Result<(), Failure> {
    let (keys, count) = plan(size);
    let mut interrupt = Interrupt::catch()?;
    let clients = site.clients(count).await?;
    let mut first = clients[0].clone();
    site.refuse_keys(&mut first, "").await?;
    let before = memory(site, "before", out).await?;
    let kv_bytes = KEY_BYTES + VALUE_BYTES;
    writeln!(
        out,
        "Start data scale check for work load [{keys} key-value pairs, {kv_bytes} bytes per \
         key-value, {count} concurrent clients]."
    )?;
    out.flush()?;
    let shape = Shape {
        prefix: site.prefix.clone(),
        key_bytes: KEY_BYTES,
        value_bytes: VALUE_BYTES,
    };
    let progress = std::sync::Arc::new(Progress::of(keys));
    let counted = std::sync::Arc::clone(&progress);
    let load = Load::start(clients, &shape, move || counted.add(1));
    for number in 0..keys {
        tokio::select! {
            () = interrupt.arrived() => break,
            () = load.order(number) => {}
        }
    }
    let tally = load.finish().await?;
    drop(progress);
    let after = memory(site, "after", out).await;
    site.clean_up(&mut first, out).await?;
    let used = (after? - before) / MEBIBYTE;
    if !tally.errors.is_empty() {
        writeln!(out, "FAIL: too many errors")?;
        for (error, count) in &tally.errors {
            writeln!(out, "FAIL: ERROR({error}) -> {count}")?;
        }
        return Err(Failure::new(ERROR, ""));
    }
    writeln!(out, "PASS: Approximate system memory used : {used:.2} MB.")?;
    Ok(())
}

/// The memory of the first endpoint's member.
async fn memory(site: &Site<'_>, when: &str, out: &mut dyn Write) -> Result<f64, Failure> {
    let endpoint = site.settings.endpoints.first();
    let endpoint = endpoint.map_or("", String::as_str);
    match metric::read(endpoint, MEMORY).await {
        Ok(bytes) => Ok(bytes),
        Err(why) => {
            writeln!(
                out,
                "FAIL: Could not read {MEMORY} {when} the put operations."
            )?;
            Err(Failure::new(ERROR, why))
        }
    }
}

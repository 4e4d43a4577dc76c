//! Holders of leases: each takes a lease, attaches a key to it, takes the lock with it, renews it
//! for a while, and lets it go or loses it.

use std::rc::Rc;
use std::time::Duration;

use althing_actors::node::{Handles, LeaseTime};
use althing_actors::testing::pass;
use althing_api::commandpb::{Command, LeaseGrant, LeaseRevoke, command};
use althing_api::error::Error;
use bytes::Bytes;
use tokio::time::Instant;

use crate::clients;
use crate::history::{Ask, Told};
use crate::world::World;

/// The longest wait for an answer about a lease.
const PATIENCE: Duration = Duration::from_millis(1_500);
/// The longest time to live, in seconds.
const TTL_MAX: u64 = 2;
/// The prefix of keys that end with a lease, whose number follows.
pub const LEASED: &[u8] = b"l";
pub const LEASED_END: &[u8] = b"m";
const LOCK: Bytes = Bytes::from_static(b"lock");
/// Leases of one holder are numbered from its number times this.
const LEASES_MAX: i64 = 100_000;

/// Runs one holder until the world says that it is enough.
pub async fn run(world: Rc<World>, holder: u64) {
    let mut id = holder as i64 * LEASES_MAX;
    while world.is_busy() {
        pass(Duration::from_millis(world.roll(400))).await;
        id += 1;
        if let Some(what) = hold(&world, holder, id).await.err() {
            world.record.violated(what);
        }
    }
}

/// Takes lease `id` and leaves it. Errors: a promise that was broken.
async fn hold(world: &Rc<World>, holder: u64, id: i64) -> Result<(), String> {
    let ttl = 1 + world.roll(TTL_MAX - 1);
    let grant = LeaseGrant {
        id,
        ttl: ttl as i64,
        generation: 1 + id as u64,
    };
    let asked = Instant::now();
    let granted = propose(world, command::Request::LeaseGrant(grant)).await;
    if granted != Some(Ok(())) {
        return Ok(());
    }
    let lives = Duration::from_secs(ttl);
    world.record.leases().promised(id, asked + lives)?;
    let attached = attach(world, holder, key_of(id), id).await;
    if attached.is_some() && attach(world, holder, LOCK, id).await == Some(true) {
        world.record.takes_lock(&LOCK, id)?;
    }
    for _ in 0..world.roll(6) {
        pass(Duration::from_millis(world.roll(ttl * 500))).await;
        let asked = Instant::now();
        let renewed = ask(world, async move |handles: Handles| {
            handles.keep_lease_alive(id).await
        });
        match renewed.await {
            Some(Ok(Some(_))) => world.record.leases().promised(id, asked + lives)?,
            Some(Ok(None)) => return world.record.leases().is_gone(id, Instant::now()),
            Some(Err(_)) | None => {}
        }
        if world.roll(2) == 0 {
            look_at(world, id).await?;
        }
    }
    if world.roll(2) == 0 {
        world.record.leases().gives_up(id);
        let revoke = LeaseRevoke {
            id,
            ..LeaseRevoke::default()
        };
        propose(world, command::Request::LeaseRevoke(revoke)).await;
    }
    Ok(())
}

/// The key that ends with lease `id`.
fn key_of(id: i64) -> Bytes {
    [LEASED, id.to_string().as_bytes()].concat().into()
}

/// The lease that `key` ends with, if it is such a key.
pub fn lease_of(key: &Bytes) -> Option<i64> {
    let number = key.strip_prefix(LEASED)?;
    std::str::from_utf8(number).ok()?.parse().ok()
}

/// Checks how long a member says that the lease still lives.
async fn look_at(world: &Rc<World>, id: i64) -> Result<(), String> {
    let time = ask(world, async move |handles: Handles| {
        handles.lease_time(id).await
    });
    let time = time.await;
    let (mut leases, now) = (world.record.leases(), Instant::now());
    match time {
        Some(Ok(Some(LeaseTime { remaining, .. }))) => leases.is_left(id, remaining, now),
        Some(Ok(None)) => leases.is_gone(id, now),
        Some(Err(_)) | None => Ok(()),
    }
}

/// Puts `key` with the lease if nobody has it. `None` if nobody knows whether that was done.
async fn attach(world: &Rc<World>, holder: u64, key: Bytes, lease: i64) -> Option<bool> {
    let machine = world.any_ready()?;
    let value = format!("{}-{lease}", String::from_utf8_lossy(&key)).into();
    let create = Ask::Create { key, value, lease };
    match clients::perform(world, holder, &machine, create, PATIENCE).await? {
        Told::Done { changed, .. } => Some(changed),
        Told::Refused => Some(false),
        Told::State { .. } | Told::Unknown => None,
    }
}

async fn propose(world: &Rc<World>, request: command::Request) -> Option<Result<(), Error>> {
    let command = Command {
        request: Some(request),
    };
    ask(world, async move |handles: Handles| {
        handles.propose(command).await?.response.map(drop)
    })
    .await
}

/// Asks any member that serves. `None` if there is no answer.
async fn ask<T: std::fmt::Debug + 'static>(
    world: &Rc<World>,
    question: impl AsyncFnOnce(Handles) -> Result<T, Error> + 'static,
) -> Option<Result<T, Error>> {
    let machine = world.any_ready()?;
    let handles = machine.ready()?;
    let asked = machine.inside(async move { question(handles).await });
    let answer = tokio::time::timeout(PATIENCE, asked).await.ok().flatten();
    let text = format!("{answer:?}");
    world.network.note((machine.number, text));
    answer
}

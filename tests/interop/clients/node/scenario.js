// The npm client `etcd3` (gRPC): keys, transactions, watches, leases, locks, elections. It ends
// with 1 at the first thing that is wrong.
//
// usage: node scenario.js HOST:PORT (of a member whose keys below js/ may be replaced)
'use strict';

const assert = require('node:assert/strict');
const { once } = require('node:events');
const { Etcd3 } = require('etcd3');

const PREFIX = 'js/';
const PATIENCE_MS = 60_000;

// Fails when a promise takes too long.
function within(promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not in time: ${what}`)), PATIENCE_MS);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

async function keys(client) {
  await client.put(PREFIX + 'a').value('1');
  await client.put(PREFIX + 'b').value('2');
  assert.equal(await client.get(PREFIX + 'a').string(), '1');
  assert.equal(await client.get(PREFIX + 'nothing').string(), null);
  assert.deepEqual(await client.getAll().prefix(PREFIX).strings(), { 'js/a': '1', 'js/b': '2' });
  assert.deepEqual(await client.getAll().prefix(PREFIX).sort('Key', 'Descend').limit(1).keys(),
    ['js/b']);
  const before = await client.put(PREFIX + 'a').value('3').getPrevious();
  assert.equal(before.value.toString(), '1');
  const raw = await client.get(PREFIX + 'a').exec();
  assert.equal(raw.kvs[0].version, '2');
  const old = await client.get(PREFIX + 'a').revision(before.mod_revision).string();
  assert.equal(old, '1');
  const deleted = await client.delete().prefix(PREFIX);
  assert.equal(deleted.deleted, '2');
  await assert.rejects(client.put('').value('1').exec(), /key is not provided/);
}

async function transaction(client) {
  const key = PREFIX + 'txn';
  const made = await client.if(key, 'Create', '==', 0).then(client.put(key).value('new')).commit();
  assert.equal(made.succeeded, true);
  const read = await client.if(key, 'Value', '==', 'other')
    .then(client.delete().key(key)).else(client.get(key)).commit();
  assert.equal(read.succeeded, false);
  assert.equal(read.responses[0].response_range.kvs[0].value.toString(), 'new');
  await client.stm().transact(async (tx) => {
    const value = await tx.get(key).string();
    await tx.put(key).value(`${value}er`);
  });
  assert.equal(await client.get(key).string(), 'newer');
}

async function watch(client) {
  const key = PREFIX + 'watched';
  const first = await client.put(key).value('1');
  const start = Number(first.header.revision);
  await client.put(key).value('2');
  await client.delete().key(key);
  const watcher = await within(
    client.watch().key(key).startRevision(String(start)).withPreviousKV().create(), 'a watcher');
  const seen = [];
  await within(new Promise((resolve, reject) => {
    watcher.on('error', reject);
    watcher.on('data', (response) => {
      for (const event of response.events) {
        const before = event.prev_kv ? event.prev_kv.value.toString() : '';
        const revision = Number(event.kv.mod_revision) - start;
        seen.push(`${event.type} ${event.kv.value}<${before} +${revision}`);
      }
      if (seen.length === 3) client.put(key).value('4').exec().catch(reject);
      if (seen.length === 4) resolve();
    });
  }), 'four events');
  assert.deepEqual(seen, ['Put 1< +0', 'Put 2<1 +1', 'Delete <2 +2', 'Put 4< +3']);
  await watcher.cancel();

  const deletions = await within(client.watch().prefix(PREFIX).only('delete').create(), 'a watcher');
  const deletion = once(deletions, 'delete');
  await client.put(key).value('5');
  await client.delete().key(key);
  assert.equal((await within(deletion, 'a deletion'))[0].key.toString(), key);
  await deletions.cancel();
}

async function lease(client) {
  const kept = client.lease(60);
  await kept.put(PREFIX + 'leased').value('here');
  const id = await kept.grant();
  const left = await client.leaseClient.leaseTimeToLive({ ID: id, keys: true });
  assert.equal(left.grantedTTL, '60');
  assert.deepEqual(left.keys.map(String), ['js/leased']);
  assert.equal((await kept.keepaliveOnce()).TTL, '60');
  await kept.revoke();
  assert.equal(await client.get(PREFIX + 'leased').string(), null);

  // A short lease lives while the client keeps it alive, and goes with its keys when it does not.
  const short = client.lease(8);
  await short.put(PREFIX + 'short').value('gone soon');
  for (let renewals = 0; renewals < 3; renewals += 1) {
    await within(once(short, 'keepaliveSucceeded'), 'a renewal');
  }
  assert.equal(await client.get(PREFIX + 'short').string(), 'gone soon');
  const watcher = await within(client.watch().key(PREFIX + 'short').create(), 'a watcher');
  const gone = once(watcher, 'delete');
  short.release();
  await within(gone, 'the end of a lease');
  await watcher.cancel();
}

async function lock(client, other) {
  const held = await within(client.lock(PREFIX + 'lock').ttl(30).acquire(), 'a free lock');
  await assert.rejects(other.lock(PREFIX + 'lock').ttl(30).acquire(), /lock/i);
  await held.release();
  const value = await within(other.lock(PREFIX + 'lock').ttl(30).do(() => 'done'), 'a lock');
  assert.equal(value, 'done');
}

async function election(client, other) {
  const mine = client.election(PREFIX + 'election', 10);
  const theirs = other.election(PREFIX + 'election', 10);
  const observer = await within(theirs.observe(), 'an observer');
  const leads = (value) => within(new Promise((resolve) => {
    const look = () => observer.leader() === value && resolve();
    observer.on('change', look);
    look();
  }), `leader ${value}`);
  assert.equal(observer.leader(), undefined);
  const first = mine.campaign('first');
  await within(first.wait(), 'the first leader');
  await leads('first');
  await first.proclaim('still first');
  await leads('still first');
  const second = theirs.campaign('second');
  const elected = second.wait();
  await first.resign();
  await within(elected, 'the second leader');
  await leads('second');
  assert.equal(await mine.leader(), 'second');
  await second.resign();
  await leads(undefined);
  await observer.cancel();
}

async function main() {
  assert.equal(process.argv.length, 3, 'usage: node scenario.js HOST:PORT');
  const options = { hosts: process.argv[2] };
  const client = new Etcd3(options);
  const other = new Etcd3(options);
  await client.delete().prefix(PREFIX);
  await keys(client);
  await transaction(client);
  await watch(client);
  await lease(client);
  await lock(client, other);
  await election(client, other);
  client.close();
  other.close();
  console.log('npm etcd3: ok');
}

main().then(() => process.exit(0), (error) => {
  console.error('FAILED:', error);
  process.exit(1);
});

//! What commands that concern leases do to the model.

use althing_api::commandpb::command::Request;
use althing_api::commandpb::{LeaseCheckpoint, LeaseGrant, LeaseRevoke, PutWithTtl};
use althing_api::error::Error;
use althing_api::etcdserverpb::{DeleteRangeRequest, LeaseGrantResponse, LeaseRevokeResponse};
use althing_storage::apply::Response;
use althing_storage::store::LeaseRecord;
use bytes::Bytes;

use super::{Change, Model, Running, header};

type Outcome = (Result<Response, Error>, Vec<Change>);

impl Model {
    /// The keys attached to `id`: those whose newest record names it.
    pub fn lease_keys(&self, id: i64) -> Vec<Bytes> {
        let attached = self.state().values().filter(|kv| kv.lease == id);
        attached.map(|kv| kv.key.clone()).collect()
    }

    /// Applies a command that concerns leases; `None` for any other.
    pub(super) fn apply_lease(&mut self, request: &Request) -> Option<Outcome> {
        match request {
            Request::LeaseGrant(grant) => Some((self.grant(grant, false), Vec::new())),
            Request::LeaseRevoke(revoke) => Some(self.revoke(revoke)),
            Request::LeaseCheckpoint(checkpoint) => {
                self.checkpoint_leases(checkpoint);
                Some((Ok(Response::Done), Vec::new()))
            }
            Request::PutWithTtl(request) => Some(self.put_with_ttl(request)),
            _ => None,
        }
    }

    fn grant(&mut self, grant: &LeaseGrant, bound: bool) -> Result<Response, Error> {
        if grant.id == 0 {
            return Err(Error::LeaseNotFound);
        }
        if grant.ttl > 9_000_000_000 {
            return Err(Error::LeaseTtlTooLarge);
        }
        if self.leases.contains_key(&grant.id) {
            return Err(Error::LeaseExists);
        }
        let lease = LeaseRecord {
            id: grant.id,
            ttl: grant.ttl,
            remaining: 0,
            generation: grant.generation,
            bound,
        };
        self.leases.insert(grant.id, lease);
        Ok(Response::LeaseGrant(LeaseGrantResponse {
            header: header(self.current()),
            id: grant.id,
            ttl: grant.ttl,
            error: String::new(),
        }))
    }

    fn revoke(&mut self, revoke: &LeaseRevoke) -> Outcome {
        let known = self.leases.get(&revoke.id).copied();
        let Some(lease) = known.filter(|lease| [0, lease.generation].contains(&revoke.generation))
        else {
            return (Err(Error::LeaseNotFound), Vec::new());
        };
        let keys = self.lease_keys(lease.id);
        let mut running = self.running();
        for key in keys {
            running.delete(&DeleteRangeRequest {
                key,
                ..DeleteRangeRequest::default()
            });
        }
        let response = LeaseRevokeResponse {
            header: header(running.current()),
        };
        let Running { state, changes, .. } = running;
        self.leases.remove(&lease.id);
        self.commit(state, &changes);
        (Ok(Response::LeaseRevoke(response)), changes)
    }

    fn checkpoint_leases(&mut self, checkpoint: &LeaseCheckpoint) {
        for left in &checkpoint.leases {
            let lease = self.leases.get_mut(&left.id);
            let Some(lease) = lease.filter(|lease| lease.generation == left.generation) else {
                continue;
            };
            lease.remaining = left.remaining_ttl;
            lease.generation += u64::from(left.remaining_ttl == 0);
        }
    }

    fn put_with_ttl(&mut self, request: &PutWithTtl) -> Outcome {
        let grant = request.lease.as_ref().unwrap();
        let mut put = request.put.clone().unwrap();
        (put.lease, put.ignore_lease) = (0, false);
        if let Err(error) = self.running().check_put(&put) {
            return (Err(error), Vec::new());
        }
        if let Err(error) = self.grant(grant, true) {
            return (Err(error), Vec::new());
        }
        put.lease = grant.id;
        let mut running = self.running();
        let response = running.put(&put);
        let Running { state, changes, .. } = running;
        self.commit(state, &changes);
        (Ok(Response::Put(response)), changes)
    }
}

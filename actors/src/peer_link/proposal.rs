//! The answer to a forwarded command, on the wire.

use althing_api::error::Error;
use althing_api::peerpb::{self, applied, propose_answer};
use althing_storage::apply::Response;
use bytes::Bytes;
use prost::Message;

use super::wire::{WireError, error_in, log_id_in, log_id_out};
use crate::node::Applied;

/// What the member that was taken for the leader answers about a command.
#[derive(Debug)]
pub(crate) enum Forwarded {
    /// The command is in the log, and applied at the leader.
    Applied(Applied),
    /// The command is not in the log and will not be: that member does not lead.
    NotLeader,
    /// The command was refused, or its outcome is unknown, as the error says.
    Failed(Error),
}

pub(crate) fn answer_out(answer: Forwarded) -> Bytes {
    use propose_answer::Outcome;
    let outcome = Some(match answer {
        Forwarded::Applied(applied) => Outcome::Applied(applied_out(applied)),
        Forwarded::NotLeader => Outcome::NotLeader(peerpb::Empty {}),
        Forwarded::Failed(error) => Outcome::Error(error.text().to_owned()),
    });
    peerpb::ProposeAnswer { outcome }.encode_to_vec().into()
}

pub(crate) fn answer_in(bytes: Bytes) -> Result<Forwarded, WireError> {
    use propose_answer::Outcome;
    let answer = peerpb::ProposeAnswer::decode(bytes)?;
    Ok(
        match answer.outcome.ok_or(WireError::Field("an outcome"))? {
            Outcome::Applied(applied) => Forwarded::Applied(applied_in(applied)?),
            Outcome::NotLeader(_) => Forwarded::NotLeader,
            Outcome::Error(text) => Forwarded::Failed(error_in(&text)),
        },
    )
}

fn applied_out(applied: Applied) -> peerpb::Applied {
    use applied::Response as Out;
    let response = match applied.response {
        Err(refusal) => Out::Refusal(refusal.text().to_owned()),
        Ok(Response::Put(response)) => Out::Put(response),
        Ok(Response::DeleteRange(response)) => Out::DeleteRange(response),
        Ok(Response::Txn(response)) => Out::Txn(response),
        Ok(Response::Compaction(response)) => Out::Compaction(response),
        Ok(Response::LeaseGrant(response)) => Out::LeaseGrant(response),
        Ok(Response::LeaseRevoke(response)) => Out::LeaseRevoke(response),
        Ok(Response::Alarm(response)) => Out::Alarm(response),
        Ok(Response::Done) => Out::Done(peerpb::Empty {}),
    };
    peerpb::Applied {
        id: Some(log_id_out(applied.log_id)),
        revision: applied.revision,
        response: Some(response),
    }
}

fn applied_in(applied: peerpb::Applied) -> Result<Applied, WireError> {
    use applied::Response as In;
    let response = match applied.response.ok_or(WireError::Field("a response"))? {
        In::Refusal(text) => Err(error_in(&text)),
        In::Put(response) => Ok(Response::Put(response)),
        In::DeleteRange(response) => Ok(Response::DeleteRange(response)),
        In::Txn(response) => Ok(Response::Txn(response)),
        In::Compaction(response) => Ok(Response::Compaction(response)),
        In::LeaseGrant(response) => Ok(Response::LeaseGrant(response)),
        In::LeaseRevoke(response) => Ok(Response::LeaseRevoke(response)),
        In::Alarm(response) => Ok(Response::Alarm(response)),
        In::Done(_) => Ok(Response::Done),
    };
    let id = applied.id.as_ref().ok_or(WireError::Field("a place"))?;
    Ok(Applied {
        response,
        log_id: log_id_in(id),
        revision: applied.revision,
    })
}

#[cfg(test)]
mod tests {
    use althing_api::etcdserverpb::PutResponse;
    use althing_storage::entry::LogId;

    use super::*;

    fn applied(response: Result<Response, Error>) -> Forwarded {
        Forwarded::Applied(Applied {
            response,
            log_id: LogId { term: 3, index: 9 },
            revision: 5,
        })
    }

    #[test]
    fn an_answer_arrives_as_it_was_given() {
        let all = [
            applied(Ok(Response::Put(PutResponse::default()))),
            applied(Ok(Response::Done)),
            applied(Err(Error::KeyNotFound)),
            Forwarded::NotLeader,
            Forwarded::Failed(Error::TooManyRequests),
        ];
        for answer in all {
            let said = format!("{answer:?}");
            let heard = answer_in(answer_out(answer)).expect("our own bytes");
            assert_eq!(format!("{heard:?}"), said);
        }
    }

    #[test]
    fn an_answer_without_an_outcome_is_refused() {
        assert!(answer_in(Bytes::new()).is_err());
        assert!(answer_in(Bytes::from_static(b"\xff")).is_err());
    }
}

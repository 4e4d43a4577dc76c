//! Questions about leases to the leader, and its answers, on the wire.

use althing_api::error::Error;
use althing_api::peerpb::{self, lease_answer::Outcome};
use bytes::Bytes;
use prost::Message;

use super::wire::{WireError, error_in};
use crate::lessor::{LeaseState, LeaseTime};

pub(crate) fn question_out(id: i64) -> Bytes {
    peerpb::LeaseQuestion { id }.encode_to_vec().into()
}

pub(crate) fn question_in(bytes: Bytes) -> Result<i64, WireError> {
    Ok(peerpb::LeaseQuestion::decode(bytes)?.id)
}

pub(crate) fn answer_out(answer: Result<LeaseState, Error>) -> Bytes {
    let outcome = Some(match answer {
        Ok(LeaseState::Lives(LeaseTime { granted, remaining })) => {
            Outcome::Time(peerpb::LeaseTime { granted, remaining })
        }
        Ok(LeaseState::Ending(generation)) => Outcome::Ending(generation),
        Ok(LeaseState::Unknown) => Outcome::Unknown(peerpb::Empty {}),
        Err(error) => Outcome::Error(error.text().to_owned()),
    });
    peerpb::LeaseAnswer { outcome }.encode_to_vec().into()
}

pub(crate) fn answer_in(bytes: Bytes) -> Result<Result<LeaseState, Error>, WireError> {
    let answer = peerpb::LeaseAnswer::decode(bytes)?;
    Ok(
        match answer.outcome.ok_or(WireError::Field("an outcome"))? {
            Outcome::Time(peerpb::LeaseTime { granted, remaining }) => {
                Ok(LeaseState::Lives(LeaseTime { granted, remaining }))
            }
            Outcome::Ending(generation) => Ok(LeaseState::Ending(generation)),
            Outcome::Unknown(_) => Ok(LeaseState::Unknown),
            Outcome::Error(text) => Err(error_in(&text)),
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_and_answers_arrive_as_they_were_given() {
        assert_eq!(question_in(question_out(i64::MIN)).unwrap(), i64::MIN);
        let time = LeaseTime {
            granted: 10,
            remaining: 3,
        };
        let answers = [
            Ok(LeaseState::Lives(time)),
            Ok(LeaseState::Ending(7)),
            Ok(LeaseState::Unknown),
            Err(Error::NoLeader),
        ];
        for answer in answers {
            assert_eq!(answer_in(answer_out(answer)).unwrap(), answer);
        }
        assert!(answer_in(Bytes::new()).is_err());
    }
}

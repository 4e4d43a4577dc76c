//! What the operator asked for: members to come, to go, to get a vote; and whether the members at
//! the end match. Pure.

use std::collections::{BTreeMap, BTreeSet};

/// How far an order was carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// It was certainly not done.
    Refused,
    Unknown,
}

/// Orders by the number of the member that they concern.
#[derive(Debug, Default)]
pub struct Orders {
    founders: BTreeSet<u64>,
    come: BTreeMap<u64, Outcome>,
    go: BTreeMap<u64, Outcome>,
    /// Orders to go whose outcome is still unknown.
    asked: BTreeMap<u64, u64>,
    /// The members that got a vote.
    promoted: BTreeSet<u64>,
}

/// A member at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seat {
    pub number: u64,
    pub is_learner: bool,
}

impl Orders {
    pub fn new(founders: u64) -> Orders {
        Orders {
            founders: (1..=founders).collect(),
            ..Orders::default()
        }
    }

    pub fn comes(&mut self, number: u64, outcome: Outcome) {
        self.come.insert(number, outcome);
    }

    /// Notes that the member was asked to go: from now on it may learn that it is gone.
    pub fn is_asked_to_go(&mut self, number: u64) {
        self.go.entry(number).or_insert(Outcome::Refused);
        *self.asked.entry(number).or_default() += 1;
    }

    /// Notes the outcome of that. A refusal says nothing about former orders.
    pub fn goes(&mut self, number: u64, outcome: Outcome) {
        let order = self.go.entry(number).or_insert(Outcome::Refused);
        if outcome == Outcome::Done || *order == Outcome::Refused {
            *order = outcome;
        }
        self.asked.entry(number).and_modify(|asked| *asked -= 1);
    }

    pub fn was_promoted(&mut self, number: u64) {
        self.promoted.insert(number);
    }

    /// Whether somebody asked for the removal of `number`, and may have got it.
    pub fn may_be_gone(&self, number: u64) -> bool {
        let order = self.go.get(&number);
        order.is_some_and(|outcome| *outcome != Outcome::Refused)
            || self.asked.get(&number).is_some_and(|asked| *asked > 0)
    }

    /// The number of orders that were carried out.
    pub fn done(&self) -> u64 {
        let orders = self.come.values().chain(self.go.values());
        let done = orders.filter(|outcome| **outcome == Outcome::Done);
        (done.count() + self.promoted.len()) as u64
    }

    /// Whether the members are those that were asked for.
    pub fn check(&self, members: &[Seat]) -> Result<(), String> {
        let find = |number: &u64| members.iter().find(|seat| seat.number == *number);
        let came = self.come.iter();
        let came = came.filter(|(_, outcome)| **outcome == Outcome::Done);
        for number in self.founders.iter().chain(came.map(|(number, _)| number)) {
            if find(number).is_none() && !self.may_be_gone(*number) {
                return Err(format!("member {number} is lost: {members:?}"));
            }
        }
        for seat in members {
            let number = &seat.number;
            let has_come = self.founders.contains(number)
                || matches!(
                    self.come.get(number),
                    Some(Outcome::Done | Outcome::Unknown)
                );
            if !has_come {
                return Err(format!("nobody added member {number}: {members:?}"));
            }
            if self.go.get(number) == Some(&Outcome::Done) {
                return Err(format!("member {number} was removed: {members:?}"));
            }
            if seat.is_learner && self.promoted.contains(number) {
                return Err(format!("member {number} lost its vote: {members:?}"));
            }
        }
        Ok(())
    }
}

/// Whether configurations that follow each other in the log share a voter set, so that the quorums
/// of neighbours meet. `entries` is all of the log that is known; a configuration is given by its
/// voter sets.
pub fn follow(entries: &BTreeMap<u64, Option<Vec<BTreeSet<u64>>>>) -> Result<(), String> {
    let mut before: Option<(u64, &Vec<BTreeSet<u64>>)> = None;
    let mut next = None;
    for (index, configuration) in entries {
        if next.is_some_and(|next| next != *index) {
            // Nothing is known of an entry that nobody has shown.
            before = None;
        }
        next = Some(index + 1);
        let Some(sets) = configuration else { continue };
        if let Some((earlier, former)) = before
            && former.last() != sets.first()
            && former != sets
        {
            return Err(format!(
                "configuration {sets:?} of entry {index} follows {former:?} of entry {earlier}"
            ));
        }
        before = Some((*index, sets));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seats(numbers: &[u64]) -> Vec<Seat> {
        let seat = |number: &u64| Seat {
            number: *number,
            is_learner: *number > 10,
        };
        numbers.iter().map(seat).collect()
    }

    #[test]
    fn members_are_those_that_were_asked_for() {
        let mut orders = Orders::new(3);
        orders.comes(11, Outcome::Done);
        orders.comes(12, Outcome::Unknown);
        orders.comes(13, Outcome::Refused);
        for (number, outcome) in [
            (1, Outcome::Done),
            (2, Outcome::Unknown),
            (2, Outcome::Refused),
            (3, Outcome::Refused),
        ] {
            orders.is_asked_to_go(number);
            assert!(orders.may_be_gone(number));
            orders.goes(number, outcome);
        }
        orders.check(&seats(&[3, 11])).unwrap();
        orders.check(&seats(&[2, 3, 11, 12])).unwrap();
        for wrong in [&[11][..], &[3], &[3, 11, 13], &[1, 3, 11], &[3, 11, 14]] {
            assert!(orders.check(&seats(wrong)).is_err(), "{wrong:?}");
        }
        orders.was_promoted(11);
        assert!(orders.check(&seats(&[3, 11])).is_err());
    }

    #[test]
    fn configurations_change_through_joint_ones() {
        let set = |numbers: &[u64]| numbers.iter().copied().collect::<BTreeSet<u64>>();
        let (few, many) = (set(&[1, 2, 3]), set(&[1, 2, 3, 4]));
        let joint = vec![few.clone(), many.clone()];
        let right = [
            Some(vec![few.clone()]),
            None,
            Some(joint),
            Some(vec![many.clone()]),
        ];
        let mut entries: BTreeMap<_, _> = (1..).zip(right).collect();
        follow(&entries).unwrap();
        entries.insert(3, None);
        assert!(follow(&entries).is_err());
        entries.remove(&3);
        follow(&entries).unwrap();
    }
}

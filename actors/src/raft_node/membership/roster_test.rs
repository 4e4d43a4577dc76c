//! Tests of the rules of membership changes.

use althing_api::id::MemberId;

use super::*;

const ME: u64 = 1;

fn standing(id: u64, role: MemberRole) -> Standing {
    Standing {
        id,
        role,
        peer_urls: vec![format!("http://m{id}:2380")],
        started: true,
        active: true,
        connected: true,
        matched: Some(1_000),
    }
}

fn roster(members: Vec<Standing>) -> Roster {
    Roster {
        me: ME,
        members,
        last_index: 1_000,
        learners_max: 1,
    }
}

fn voters(count: u64) -> Roster {
    roster(
        (1..=count)
            .map(|id| standing(id, MemberRole::Voter))
            .collect(),
    )
}

fn down(roster: &mut Roster, id: u64) {
    let member = roster.members.iter_mut().find(|member| member.id == id);
    let member = member.unwrap();
    (member.active, member.connected) = (false, false);
}

fn never_started(roster: &mut Roster, id: u64) {
    down(roster, id);
    let member = roster.members.iter_mut().find(|member| member.id == id);
    let member = member.unwrap();
    (member.started, member.matched) = (false, None);
}

fn add(id: u64, is_learner: bool) -> MemberChange {
    MemberChange::Add {
        id: MemberId(id),
        peer_urls: vec![format!("http://m{id}:2380")],
        is_learner,
    }
}

fn checked(roster: &Roster, change: &MemberChange) -> Result<(), Error> {
    roster.check(change, |id| id == 66)
}

fn removed(roster: &Roster, id: u64) -> Result<(), Error> {
    checked(roster, &MemberChange::Remove(MemberId(id)))
}

fn promoted(roster: &Roster, id: u64) -> Result<(), Error> {
    checked(roster, &MemberChange::Promote(MemberId(id)))
}

#[test]
fn one_grows_to_two_and_not_further_before_the_second_has_started() {
    assert_eq!(checked(&voters(1), &add(2, false)), Ok(()));
    let mut two = roster(vec![
        standing(1, MemberRole::Voter),
        standing(2, MemberRole::Joining),
    ]);
    never_started(&mut two, 2);
    assert_eq!(
        checked(&two, &add(3, false)),
        Err(Error::NotEnoughStartedMembers)
    );
    assert_eq!(checked(&two, &add(3, true)), Err(Error::UnhealthyCluster));
    assert_eq!(removed(&two, 2), Ok(()), "it can be undone");
    let two = roster(vec![
        standing(1, MemberRole::Voter),
        standing(2, MemberRole::Joining),
    ]);
    assert_eq!(checked(&two, &add(3, false)), Ok(()));
}

#[test]
fn a_cluster_grows_only_while_a_quorum_of_the_larger_one_is_connected() {
    let mut three = voters(3);
    assert_eq!(checked(&three, &add(4, false)), Ok(()));
    down(&mut three, 3);
    assert_eq!(
        checked(&three, &add(4, false)),
        Err(Error::UnhealthyCluster)
    );
    assert_eq!(checked(&three, &add(4, true)), Err(Error::UnhealthyCluster));
    let mut four = voters(4);
    down(&mut four, 4);
    assert_eq!(checked(&four, &add(5, false)), Ok(()), "three of five");
    down(&mut four, 3);
    assert_eq!(checked(&four, &add(5, true)), Err(Error::UnhealthyCluster));
}

#[test]
fn an_id_or_a_url_is_given_once_and_a_learner_once() {
    let three = voters(3);
    assert_eq!(checked(&three, &add(2, false)), Err(Error::MemberExists));
    assert_eq!(checked(&three, &add(66, false)), Err(Error::MemberNotFound));
    let same_url = MemberChange::Add {
        id: MemberId(9),
        peer_urls: vec!["http://new:2380".into(), "http://m3:2380".into()],
        is_learner: false,
    };
    assert_eq!(checked(&three, &same_url), Err(Error::PeerUrlExists));
    let mut learner = voters(3);
    learner.members.push(standing(4, MemberRole::Learner));
    assert_eq!(
        checked(&learner, &add(5, true)),
        Err(Error::TooManyLearners)
    );
    assert_eq!(checked(&learner, &add(5, false)), Ok(()));
    learner.learners_max = 2;
    assert_eq!(checked(&learner, &add(5, true)), Ok(()));
}

#[test]
fn what_leaves_must_leave_a_quorum_that_works() {
    assert_eq!(removed(&voters(1), 1), Err(Error::NotEnoughStartedMembers));
    assert_eq!(removed(&voters(2), 1), Ok(()));
    assert_eq!(removed(&voters(3), 9), Err(Error::MemberNotFound));
    let mut three = voters(3);
    down(&mut three, 3);
    assert_eq!(removed(&three, 3), Ok(()), "one that is down");
    assert_eq!(removed(&three, 2), Err(Error::UnhealthyCluster));
    assert_eq!(removed(&three, 1), Err(Error::UnhealthyCluster));
    never_started(&mut three, 3);
    assert_eq!(removed(&three, 2), Err(Error::NotEnoughStartedMembers));
}

#[test]
fn the_last_vote_does_not_leave_before_the_newcomer_has_one() {
    let two = roster(vec![
        standing(1, MemberRole::Voter),
        standing(2, MemberRole::Joining),
    ]);
    assert_eq!(removed(&two, 1), Err(Error::UnhealthyCluster));
    assert_eq!(removed(&two, 2), Ok(()));
}

#[test]
fn a_learner_is_promoted_once_it_is_near_and_answers() {
    let mut learner = voters(1);
    learner.members.push(standing(2, MemberRole::Learner));
    assert_eq!(promoted(&learner, 2), Ok(()));
    assert_eq!(promoted(&learner, 1), Err(Error::MemberNotLearner));
    assert_eq!(promoted(&learner, 9), Err(Error::MemberNotFound));
    learner.members[1].matched = Some(899);
    assert_eq!(promoted(&learner, 2), Err(Error::LearnerNotReady));
    learner.members[1].matched = Some(900);
    assert_eq!(promoted(&learner, 2), Ok(()));
    learner.members[1].started = false;
    assert_eq!(promoted(&learner, 2), Err(Error::LearnerNotReady));
    learner.members[1].started = true;
    down(&mut learner, 2);
    assert_eq!(promoted(&learner, 2), Err(Error::LearnerNotReady));
}

#[test]
fn an_update_takes_urls_of_nobody_else() {
    let three = voters(3);
    let update = |id, url: &str| MemberChange::Update {
        id: MemberId(id),
        peer_urls: vec![url.to_owned()],
    };
    assert_eq!(checked(&three, &update(2, "http://m2:2380")), Ok(()));
    assert_eq!(
        checked(&three, &update(2, "http://m3:2380")),
        Err(Error::PeerUrlExists)
    );
    assert_eq!(
        checked(&three, &update(9, "http://m9:2380")),
        Err(Error::MemberNotFound)
    );
}

//! Alarms: a member told the cluster what keeps it from taking everything.

use std::collections::BTreeMap;

use althing_api::etcdserverpb::{AlarmMember, AlarmType};

use super::Store;

/// An active alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AlarmRecord {
    /// The kind of the alarm.
    pub alarm: AlarmType,
    /// The member that raised it.
    pub member_id: u64,
    /// Whether that member clears the alarm when its cause is gone.
    pub clears_itself: bool,
}

impl From<AlarmRecord> for AlarmMember {
    fn from(record: AlarmRecord) -> AlarmMember {
        AlarmMember {
            member_id: record.member_id,
            alarm: record.alarm as i32,
        }
    }
}

/// The key of an alarm: its kind, then its member.
pub(crate) type AlarmKey = (AlarmType, u64);

/// What an entry does to alarms: those raised, with whether they clear themselves, and those ended.
pub(crate) type AlarmChanges = BTreeMap<AlarmKey, Option<bool>>;

/// All active alarms, in the order of kinds, then members.
#[derive(Clone, Debug, Default)]
pub(crate) struct Alarms(BTreeMap<AlarmKey, bool>);

impl Alarms {
    pub fn load(records: impl IntoIterator<Item = AlarmRecord>) -> Alarms {
        let one = |record: AlarmRecord| ((record.alarm, record.member_id), record.clears_itself);
        Alarms(records.into_iter().map(one).collect())
    }

    pub fn all(&self) -> Vec<AlarmRecord> {
        let one = |(&(alarm, member_id), &clears_itself): (&AlarmKey, &bool)| AlarmRecord {
            alarm,
            member_id,
            clears_itself,
        };
        self.0.iter().map(one).collect()
    }

    pub fn get(&self, key: AlarmKey) -> Option<AlarmRecord> {
        let (alarm, member_id) = key;
        self.0.get(&key).map(|&clears_itself| AlarmRecord {
            alarm,
            member_id,
            clears_itself,
        })
    }

    /// Whether any member raised an alarm of this kind.
    pub fn has(&self, alarm: AlarmType) -> bool {
        !self.0.is_empty() && self.0.keys().any(|(kind, _)| *kind == alarm)
    }

    pub fn commit(&mut self, changes: AlarmChanges) {
        for (key, change) in changes {
            match change {
                Some(clears_itself) => self.0.insert(key, clears_itself),
                None => self.0.remove(&key),
            };
        }
    }
}

impl Store {
    /// Active alarms, in the order of kinds, then members.
    pub fn alarms(&self) -> Vec<AlarmRecord> {
        self.shared().published.read().alarms.all()
    }

    /// Whether any member has raised an alarm of this kind.
    pub fn has_alarm(&self, alarm: AlarmType) -> bool {
        self.shared().published.read().alarms.has(alarm)
    }

    /// The level that the cluster is being taken down to, if it is.
    pub fn downgrade_target(&self) -> Option<String> {
        self.shared().published.read().downgrade_target.clone()
    }
}

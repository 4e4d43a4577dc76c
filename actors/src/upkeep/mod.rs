//! Upkeep: what a member does without being asked. It watches the quota and, as the leader,
//! compacts and compares the members.
//!
//! ```text
//!  tick -+- quota: warn when it gets low; raise our alarm when it is used up, and end it when
//!        |  there is room again
//!        |- corruption: as the leader, compare hashes; raise the alarm of those that differ
//!        '- auto compaction: note the revision; as the leader, propose a Compact
//! ```
//! Owns: what it remembers of earlier looks.
//! Waits for: RaftNode and other members, whose answers it notes when they come.
//! Fails: it is started again and has forgotten its looks, so a compaction may come a period late.

mod auto_compaction;
mod corruption;
mod hasher;
mod quota;
mod settings;

use std::sync::Arc;
use std::time::Duration;

use actix::fut::wrap_future;
use actix::{Actor, ActorFutureExt, AsyncContext, Context};
use althing_api::commandpb::{Command, SetAlarm, command};
use althing_api::error::Error;
use althing_api::etcdserverpb::{AlarmType, CompactionRequest};
use tokio::time::Instant;

use self::auto_compaction::AutoCompactor;
use self::corruption::Verdict;
pub(crate) use self::hasher::Hasher;
use self::quota::Warning;
pub use self::quota::{cost, exceeds, has_room};
pub use self::settings::{AutoCompaction, SharedSettings, UpkeepSettings};
use crate::raft_node::{Proposer, applied_members};
use crate::supervisor::DeathWatch;

/// Pause between two looks.
const TICK: Duration = Duration::from_millis(100);

/// How long members may take to hash their records, between two looks and before one serves.
const COMPARISON_MAX: Duration = Duration::from_secs(600);
const INITIAL_COMPARISON_MAX: Duration = Duration::from_secs(10);

/// What a new value of the actor is made of.
#[derive(Debug)]
pub(crate) struct UpkeepSetup {
    pub(crate) proposer: Proposer,
    pub(crate) settings: SharedSettings,
    pub(crate) hasher: Hasher,
}

/// The actor.
pub(crate) struct Upkeep {
    setup: Arc<UpkeepSetup>,
    warning: Warning,
    /// Whether our alarm, or its end, is proposed and not answered yet.
    setting_alarm: bool,
    compactor: AutoCompactor,
    /// Whether a compaction is proposed and not answered yet.
    compacting: bool,
    last_comparison: Instant,
    /// Whether a comparison is under way.
    comparing: bool,
    _death_watch: DeathWatch,
}

impl Upkeep {
    pub(crate) fn new(setup: Arc<UpkeepSetup>, watch: DeathWatch) -> Upkeep {
        let policy = setup.settings.get().auto_compaction;
        let revision = setup.proposer.store.revisions().current;
        Upkeep {
            setup,
            warning: Warning::default(),
            setting_alarm: false,
            compactor: AutoCompactor::new(policy, Instant::now(), revision),
            compacting: false,
            last_comparison: Instant::now(),
            comparing: false,
            _death_watch: watch,
        }
    }

    fn tick(&mut self, ctx: &mut Context<Self>) {
        self.look_at_quota(ctx);
        self.compact(ctx);
        self.compare(ctx);
    }

    fn look_at_quota(&mut self, ctx: &mut Context<Self>) {
        let quota = self.setup.settings.get().quota_bytes;
        let (store, me) = (&self.setup.proposer.store, self.setup.proposer.me);
        let used = store.used_bytes();
        if self.warning.is_due(quota, used) {
            tracing::warn!(
                quota_bytes = quota,
                used_bytes = used,
                "the store is nearly as large as its quota; delete keys and compact, or raise \
                 --quota-backend-bytes"
            );
        }
        // A member whose quota is smaller than the others' fills it with what they let in.
        let (is_full, has_room) = (exceeds(quota, used, 0), has_room(quota, used));
        if self.setting_alarm || !(is_full || has_room) {
            return;
        }
        let ours = store.alarms().into_iter();
        let ours = ours.filter(|one| one.member_id == me && one.alarm == AlarmType::Nospace);
        let ours: Vec<bool> = ours.map(|record| record.clears_itself).collect();
        if is_full && ours.is_empty() {
            tell_of_no_space(used);
            self.set_alarm(true, used, ctx);
        } else if has_room && ours.contains(&true) {
            self.set_alarm(false, used, ctx);
        }
    }

    fn set_alarm(&mut self, raised: bool, used_bytes: u64, ctx: &mut Context<Self>) {
        self.setting_alarm = true;
        let proposer = self.setup.proposer.clone();
        let set = async move {
            let command = set_alarm(proposer.me, AlarmType::Nospace, raised);
            proposer.propose_ungated(&command).await
        };
        let noted = wrap_future::<_, Self>(set).map(move |outcome, upkeep, _| {
            upkeep.setting_alarm = false;
            match outcome {
                Ok(_) if raised => {}
                Ok(_) => tracing::info!(used_bytes, "the store has room again, its alarm ended"),
                Err(error) => tracing::debug!(%error, raised, "the quota's alarm is not set yet"),
            }
        });
        ctx.spawn(noted);
    }

    fn compact(&mut self, ctx: &mut Context<Self>) {
        let policy = self.setup.settings.get().auto_compaction;
        let (proposer, now) = (&self.setup.proposer, Instant::now());
        let current = proposer.store.revisions().current;
        if policy != self.compactor.policy() {
            self.compactor = AutoCompactor::new(policy, now, current);
        }
        let leads = proposer.progress.leader() == proposer.me && !self.compacting;
        let Some(revision) = self.compactor.due(now, current, leads) else {
            return;
        };
        self.compacting = true;
        tracing::info!(revision, ?policy, "starting auto compaction");
        let proposer = proposer.clone();
        let compacted = async move { proposer.propose(compaction(revision)).await };
        let noted = wrap_future::<_, Self>(compacted).map(move |outcome, upkeep, _| {
            upkeep.compacting = false;
            let took = now.elapsed();
            match outcome.and_then(|applied| applied.response.map(drop)) {
                Ok(()) | Err(Error::Compacted) => {
                    upkeep.compactor.succeeded(Instant::now(), revision);
                    tracing::info!(revision, ?took, "completed auto compaction");
                }
                Err(error) => tracing::warn!(revision, %error, "failed auto compaction"),
            }
        });
        ctx.spawn(noted);
    }
}

impl Upkeep {
    fn compare(&mut self, ctx: &mut Context<Self>) {
        let interval = self.setup.settings.get().corrupt_check_interval;
        let proposer = &self.setup.proposer;
        let leads = proposer.progress.leader() == proposer.me;
        let is_due = !interval.is_zero() && self.last_comparison.elapsed() >= interval;
        if !leads || !is_due || self.comparing {
            return;
        }
        self.comparing = true;
        let setup = Arc::clone(&self.setup);
        let compared = async move { setup.compare_members().await };
        let noted = wrap_future::<_, Self>(compared).map(|outcome, upkeep, _| {
            upkeep.comparing = false;
            upkeep.last_comparison = Instant::now();
            if let Err(error) = outcome {
                tracing::warn!(%error, "the members' records were not compared");
            }
        });
        ctx.spawn(noted);
    }
}

impl UpkeepSetup {
    fn members(&self) -> Vec<u64> {
        let members = applied_members(&self.proposer.store).into_iter();
        members.map(|member| member.id.0).collect()
    }

    /// Compares all members, and raises the alarm of those that differ; without a majority, an
    /// alarm that names nobody.
    async fn compare_members(&self) -> Result<(), Error> {
        let members = self.members();
        if members.len() < 2 {
            return Ok(());
        }
        let compared = corruption::compare(&self.proposer, &self.hasher, &members, COMPARISON_MAX);
        let wrong = match compared.await? {
            Verdict::Same(members) => {
                tracing::debug!(members, "members hold the same records");
                return Ok(());
            }
            Verdict::Differ(wrong) => wrong,
            Verdict::Undecided => vec![0],
        };
        for member in wrong {
            let alarm = AlarmType::Corrupt;
            let alarms = self.proposer.store.alarms();
            if alarms
                .iter()
                .any(|known| known.alarm == alarm && known.member_id == member)
            {
                continue;
            }
            tracing::error!(
                member_id = format_args!("{member:x}"),
                "members hold different records; no more writes are taken until the alarm is \
                 cleared; remove the member that differs (0: nobody knows which), empty its data \
                 directory and let it join again"
            );
            let command = set_alarm(member, alarm, true);
            self.proposer.propose_ungated(&command).await?.response?;
        }
        Ok(())
    }

    /// Whether this member's records differ from a majority's, as far as can be told soon.
    pub(crate) async fn differs_from_the_others(&self) -> bool {
        let members = self.members();
        if members.len() < 2 || !self.settings.get().initial_corrupt_check {
            return false;
        }
        let patience = INITIAL_COMPARISON_MAX;
        let compared = corruption::compare(&self.proposer, &self.hasher, &members, patience);
        match compared.await {
            Ok(Verdict::Differ(wrong)) => wrong.contains(&self.proposer.me),
            Ok(Verdict::Same(compared)) => {
                tracing::info!(members = compared, "compared the records before serving");
                false
            }
            Ok(Verdict::Undecided) => {
                tracing::warn!("members hold different records, and no majority agrees");
                false
            }
            Err(error) => {
                tracing::warn!(%error, "the records were not compared before serving");
                false
            }
        }
    }
}

fn compaction(revision: i64) -> Command {
    let request = CompactionRequest {
        revision,
        physical: false,
    };
    Command {
        request: Some(command::Request::Compaction(request)),
    }
}

/// Logs that this member's quota is used up, and its alarm is raised.
pub(crate) fn tell_of_no_space(used_bytes: u64) {
    tracing::warn!(
        used_bytes,
        "the store is as large as its quota, so all members refuse what adds to it; delete keys \
         and compact, and the alarm ends by itself"
    );
}

/// The command by which a member raises or ends an alarm by itself.
pub(crate) fn set_alarm(member_id: u64, alarm: AlarmType, raised: bool) -> Command {
    let request = SetAlarm {
        member_id,
        alarm: alarm as i32,
        raised,
        clears_itself: alarm == AlarmType::Nospace,
    };
    Command {
        request: Some(command::Request::SetAlarm(request)),
    }
}

impl Actor for Upkeep {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.run_interval(TICK, Upkeep::tick);
    }
}

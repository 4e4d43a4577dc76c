//! What is wrong with one member that answers: its leader, its space, its disk, how far it is.

use althing_api::etcdserverpb::StatusResponse;

use super::Finding;
use super::cluster::Answer;
use crate::print::human_bytes;

/// The part of the quota above which it is nearly used up.
const QUOTA_PART_MAX: f64 = 0.8;
/// The part of the descriptors above which they are nearly used up.
const DESCRIPTORS_PART_MAX: f64 = 0.8;
/// A file is worth copying if it is this large, in bytes, and mostly empty.
const FRAGMENTED_BYTES_MIN: i64 = 64 << 20;
/// A log flush that takes longer is slow, in seconds: every write waits for it.
const FSYNC_SECONDS_MAX: f64 = 0.1;
/// A commit of the store that takes longer is slow, in seconds.
const COMMIT_SECONDS_MAX: f64 = 0.5;
/// The lag, in entries, above which a member is not merely being asked a moment earlier.
const LAG_ENTRIES_MAX: u64 = 10_000;
/// A learner has caught up when it has this part of the log, as the servers judge it.
const CAUGHT_UP_PART: f64 = 0.9;

/// The member that findings are about.
#[derive(Clone, Debug)]
pub struct Site<'a> {
    /// The endpoint at which it was asked.
    pub endpoint: &'a str,
    /// Its name, its id and where it is.
    pub place: String,
    /// The end of the longest log that any member has.
    pub last_index: u64,
}

/// Everything that is to be said about one member.
pub fn judge(site: &Site<'_>, answer: &Answer) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(leader(site, answer));
    findings.extend(quota(site, answer));
    findings.extend(progress(site, &answer.status));
    findings.extend(process(site, answer));
    if let Some(info) = &answer.status.downgrade_info
        && info.enabled
    {
        let text = format!("a downgrade to {} is under way", info.target_version);
        findings.push(
            Finding::note("downgrade", &site.place, text)
                .so("replace the members one by one, or give it up: althingctl downgrade cancel"),
        );
    }
    findings
}

fn leader(site: &Site<'_>, answer: &Answer) -> Option<Finding> {
    let status = &answer.status;
    if status.leader == 0 {
        let finding = Finding::error("no-leader", &site.place, "knows of no leader");
        return Some(
            finding
                .because("it cannot write, nor read but by --consistency=s")
                .so(
                    "if other members have a leader, it does not reach them: see its peer URLs \
                     (althingctl member list), firewalls, and its log: journalctl -u althing. \
                     Else start the members that are down",
                ),
        );
    }
    let why = answer.read.as_ref()?;
    let text = format!("does not answer a linearizable read: {why}");
    let finding = Finding::error("read-failed", &site.place, text);
    Some(
        finding
            .because("clients of this member wait and fail")
            .so("see its log for what is slow or away: journalctl -u althing"),
    )
}

/// What is nearly used up, or could be given back.
fn quota(site: &Site<'_>, answer: &Answer) -> Option<Finding> {
    let status = &answer.status;
    let (file, used) = (status.db_size, status.db_size_in_use);
    let told = answer.page.as_ref().and_then(|page| page.quota_bytes);
    let quota = match status.db_size_quota {
        quota @ 1.. => Some(quota as f64),
        _ => told.filter(|quota| *quota > 0.0),
    };
    let shown = |bytes: i64| human_bytes(u64::try_from(bytes).unwrap_or(0));
    if let Some(quota) = quota {
        let of = human_bytes(quota as u64);
        let part = |bytes: i64| bytes as f64 / quota;
        let percent = |bytes: i64| (part(bytes) * 100.0).round();
        if part(used) >= QUOTA_PART_MAX {
            let (percent, used) = (percent(used), shown(used));
            let text = format!("{used}, {percent} % of its quota of {of}, are in use");
            let finding = Finding::warning("quota-nearly-full", &site.place, text);
            return Some(
                finding
                    .because("when it is used up, the whole cluster refuses to write")
                    .so(
                        "delete what is not needed and compact (althingctl compaction REVISION; \
                         --auto-compaction-retention does it by itself), or raise \
                         --quota-backend-bytes and reload",
                    ),
            );
        }
        if part(file) >= QUOTA_PART_MAX {
            let (percent, file, used) = (percent(file), shown(file), shown(used));
            let text = format!(
                "its file of {file} is {percent} % of its quota of {of}, though only {used} are \
                 in use"
            );
            return Some(fragmented(
                Finding::warning("fragmented", &site.place, text),
                site,
            ));
        }
    }
    if file >= FRAGMENTED_BYTES_MIN && used < file / 2 {
        let text = format!(
            "only {} of its file of {} are in use",
            shown(used),
            shown(file)
        );
        return Some(fragmented(
            Finding::note("fragmented", &site.place, text),
            site,
        ));
    }
    None
}

fn fragmented(finding: Finding, site: &Site<'_>) -> Finding {
    let endpoint = site.endpoint;
    finding
        .because("the rest of the file is free space that the disk does not have back")
        .so(format!("althingctl --endpoints {endpoint} defrag"))
}

/// How far the member is.
fn progress(site: &Site<'_>, status: &StatusResponse) -> Option<Finding> {
    let (applied, last) = (status.raft_applied_index, site.last_index);
    let behind = last.saturating_sub(applied);
    let id = status.header.unwrap_or_default().member_id;
    if status.is_learner {
        if (applied as f64) < last as f64 * CAUGHT_UP_PART {
            let text = format!("is a learner at entry {applied} of {last}");
            let finding = Finding::warning("learner-behind", &site.place, text);
            return Some(
                finding
                    .because("until it has caught up it cannot vote, and guards against nothing")
                    .so(
                        "wait and ask again; if it does not move, see its log: journalctl -u \
                         althing",
                    ),
            );
        }
        let finding = Finding::note("learner", &site.place, "is a learner and has caught up");
        return Some(finding.so(format!("althingctl member promote {id:x}")));
    }
    if behind <= LAG_ENTRIES_MAX {
        return None;
    }
    let text = format!("is {behind} entries behind: it has applied {applied} of {last}");
    let finding = Finding::warning("behind", &site.place, text);
    Some(
        finding
            .because("it answers serializable reads with the past, and would lead badly")
            .so(
                "see whether its disk or its network is slow, by its metrics \
                 etcd_disk_wal_fsync_duration_seconds and \
                 etcd_network_peer_round_trip_time_seconds",
            ),
    )
}

/// What the member's metrics say.
fn process(site: &Site<'_>, answer: &Answer) -> Vec<Finding> {
    let Some(page) = &answer.page else {
        return Vec::new();
    };
    let mut findings = Vec::new();
    let slow = [
        ("log flushes", page.fsync_seconds, FSYNC_SECONDS_MAX),
        (
            "commits of the store",
            page.commit_seconds,
            COMMIT_SECONDS_MAX,
        ),
    ];
    for (what, seconds, max) in slow {
        let Some(seconds) = seconds.filter(|seconds| *seconds > max) else {
            continue;
        };
        let took = if seconds.is_finite() {
            format!("up to {seconds} s")
        } else {
            "longer than its metrics measure".to_owned()
        };
        let text = format!("the slowest of 100 {what} take {took}");
        findings.push(
            Finding::warning("slow-disk", &site.place, text)
                .because(
                    "every write waits for the disk, and a leader that waits too long is \
                          replaced",
                )
                .so(
                    "give the log a disk of its own (--wal-dir), and see who else uses this one: \
                     iostat -x 1",
                ),
        );
    }
    if let Some(part) = page.descriptors_part
        && part >= DESCRIPTORS_PART_MAX
    {
        let percent = (part * 100.0).round();
        let text = format!("{percent} % of its file descriptors are in use");
        findings.push(
            Finding::warning("descriptors-nearly-used", &site.place, text)
                .because("it can soon accept no more clients")
                .so("raise LimitNOFILE of its service, or find who opens so many connections"),
        );
    }
    findings
}

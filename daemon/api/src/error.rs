//! etcd's error table: one variant per error that a client may see, with its gRPC code and its
//! exact text. Clients recognise etcd's errors by these texts, so this is the only place where
//! they exist. Source: etcd 3.7 `api/v3rpc/rpctypes/error.go` and the texts that its server sends
//! without mapping them.

use std::fmt;

/// A gRPC status code (numbers of the gRPC specification).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
#[allow(missing_docs)]
pub enum Code {
    Canceled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

macro_rules! error_table {
    ($($(#[$doc:meta])* $name:ident = $code:ident, $text:literal;)*) => {
        /// An error of the client API. `Display` gives etcd's text.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Error {
            $($(#[$doc])* $name,)*
        }

        impl Error {
            /// Every row of the table, in its order.
            pub const ALL: &[Error] = &[$(Error::$name,)*];

            /// The gRPC status code that goes with the text.
            pub fn code(self) -> Code {
                match self {
                    $(Error::$name => Code::$code,)*
                }
            }

            /// The text that clients compare literally.
            pub fn text(self) -> &'static str {
                match self {
                    $(Error::$name => $text,)*
                }
            }

            /// The error that has exactly this text.
            pub fn from_text(text: &str) -> Option<Error> {
                Error::ALL.iter().copied().find(|error| error.text() == text)
            }
        }
    };
}

error_table! {
    // Key-value.
    /// A request or a compare without a key.
    EmptyKey = InvalidArgument, "etcdserver: key is not provided";
    /// Put with `ignore_value` or `ignore_lease` on an absent key; a txn op with no member set.
    KeyNotFound = InvalidArgument, "etcdserver: key not found";
    /// Put with both `ignore_value` and a value.
    ValueProvided = InvalidArgument, "etcdserver: value is provided";
    /// Put with both `ignore_lease` and a lease.
    LeaseProvided = InvalidArgument, "etcdserver: lease is provided";
    /// More compares or ops than the limit of a txn.
    TooManyOps = InvalidArgument, "etcdserver: too many operations in txn request";
    /// One execution path of a txn writes a key twice.
    DuplicateKey = InvalidArgument, "etcdserver: duplicate key given in txn request";
    /// A sort order or target outside its enum.
    InvalidSortOption = InvalidArgument, "etcdserver: invalid sort option";
    /// The revision asked for is older than the compacted one.
    Compacted = OutOfRange, "etcdserver: mvcc: required revision has been compacted";
    /// The revision asked for is newer than the current one.
    FutureRevision = OutOfRange, "etcdserver: mvcc: required revision is a future revision";
    /// The quota of the store, or the disk, is used up.
    NoSpace = ResourceExhausted, "etcdserver: mvcc: database space exceeded";
    /// The command is larger than the limit of a request.
    RequestTooLarge = InvalidArgument, "etcdserver: request is too large";
    /// Too many proposals wait to be applied; etcd sends it with code Unknown.
    TooManyRequests = Unknown, "etcdserver: too many requests";
    /// RangeStream asked for another order than ascending keys.
    StreamSortOrder = Unimplemented, "RangeStream does not support custom sort orders";
    /// RangeStream asked for a revision filter.
    StreamRevisionFilter = Unimplemented, "RangeStream does not support revision filters";

    // Lease.
    /// No such lease.
    LeaseNotFound = NotFound, "etcdserver: requested lease not found";
    /// The chosen lease id is in use.
    LeaseExists = FailedPrecondition, "etcdserver: lease already exists";
    /// A time to live above 9,000,000,000 s.
    LeaseTtlTooLarge = OutOfRange, "etcdserver: too large lease TTL";

    // Watch.
    /// The server ended the watch stream.
    WatchCanceled = Canceled, "etcdserver: watch canceled";

    // Cluster.
    /// A member with that id exists.
    MemberExists = FailedPrecondition, "etcdserver: member ID already exist";
    /// Another member has one of the peer URLs.
    PeerUrlExists = FailedPrecondition, "etcdserver: Peer URLs already exists";
    /// The change would leave too few started members; etcd sends it with code Unknown.
    NotEnoughStartedMembers = Unknown,
        "etcdserver: re-configuration failed due to not enough started members";
    /// A peer URL does not parse.
    BadMemberUrls = InvalidArgument, "etcdserver: given member URLs are invalid";
    /// No such member, or a removed one.
    MemberNotFound = NotFound, "etcdserver: member not found";
    /// Promotion of a voter.
    MemberNotLearner = FailedPrecondition, "etcdserver: can only promote a learner member";
    /// Promotion of a learner that lags.
    LearnerNotReady = FailedPrecondition,
        "etcdserver: can only promote a learner member which is in sync with leader";
    /// More learners than allowed.
    TooManyLearners = FailedPrecondition, "etcdserver: too many learner members in cluster";
    /// A request of another cluster's member.
    ClusterIdMismatch = FailedPrecondition, "etcdserver: cluster ID mismatch";
    /// A membership change while a member is not connected.
    UnhealthyCluster = Unavailable, "etcdserver: unhealthy cluster";

    // Auth.
    /// Auth needs the user root.
    RootUserNotExist = FailedPrecondition, "etcdserver: root user does not exist";
    /// Auth needs the role root on the user root.
    RootRoleNotExist = FailedPrecondition, "etcdserver: root user does not have root role";
    /// The user exists.
    UserAlreadyExist = FailedPrecondition, "etcdserver: user name already exists";
    /// No user name; or no token while auth is on.
    UserEmpty = InvalidArgument, "etcdserver: user name is empty";
    /// No such user.
    UserNotFound = FailedPrecondition, "etcdserver: user name not found";
    /// The role exists.
    RoleAlreadyExist = FailedPrecondition, "etcdserver: role name already exists";
    /// No such role.
    RoleNotFound = FailedPrecondition, "etcdserver: role name not found";
    /// No role name.
    RoleEmpty = InvalidArgument, "etcdserver: role name is empty";
    /// Unknown user or wrong password.
    AuthFailed = InvalidArgument,
        "etcdserver: authentication failed, invalid user ID or password";
    /// The user was made without a password.
    NoPasswordUser = Unknown,
        "auth: authentication failed, password was given for no password user";
    /// A grant without a permission.
    PermissionNotGiven = InvalidArgument, "etcdserver: permission not given";
    /// The user may not do this.
    PermissionDenied = PermissionDenied, "etcdserver: permission denied";
    /// The user lacks the role to revoke.
    RoleNotGranted = FailedPrecondition, "etcdserver: role is not granted to the user";
    /// The role lacks the permission to revoke.
    PermissionNotGranted = FailedPrecondition,
        "etcdserver: permission is not granted to the role";
    /// Authenticate while auth is off.
    AuthNotEnabled = FailedPrecondition, "etcdserver: authentication is not enabled";
    /// A token that is unknown, expired or badly signed.
    InvalidAuthToken = Unauthenticated, "etcdserver: invalid auth token";
    /// A change that would lock everybody out, or an ill-formed range.
    InvalidAuthManagement = InvalidArgument, "etcdserver: invalid auth management";
    /// The token belongs to an older state of users and roles.
    AuthOldRevision = InvalidArgument, "etcdserver: revision of auth store is old";

    // State of the member.
    /// No leader is known.
    NoLeader = Unavailable, "etcdserver: no leader";
    /// The request must be sent to the leader.
    NotLeader = FailedPrecondition, "etcdserver: not leader";
    /// The leader changed while the request waited.
    LeaderChanged = Unavailable, "etcdserver: leader changed";
    /// The API is not enabled on this member yet.
    NotCapable = FailedPrecondition, "etcdserver: not capable";
    /// The member shuts down.
    Stopped = Unavailable, "etcdserver: server stopped";
    /// Not finished within the request timeout.
    Timeout = Unavailable, "etcdserver: request timed out";
    /// Not finished, and the leader was lost meanwhile.
    TimeoutDueToLeaderFail = Unavailable,
        "etcdserver: request timed out, possibly due to previous leader failure";
    /// Not finished, and the links to the peers were down.
    TimeoutDueToConnectionLost = Unavailable,
        "etcdserver: request timed out, possibly due to connection lost";
    /// The local apply did not catch up.
    TimeoutWaitAppliedIndex = Unavailable,
        "etcdserver: request timed out, waiting for the applied index took too long";
    /// MoveLeader took too long; etcd sends it with code Unknown.
    TimeoutLeaderTransfer = Unknown,
        "etcdserver: request timed out, leader transfer took too long";
    /// A CORRUPT alarm is active.
    Corrupt = DataLoss, "etcdserver: corrupt cluster";
    /// A learner serves only Status, serializable Range and Snapshot.
    NotSupportedForLearner = FailedPrecondition, "etcdserver: rpc not supported for learner";
    /// Leadership cannot move to that member.
    BadLeaderTransferee = FailedPrecondition, "etcdserver: bad leader transferee";
    /// Metadata `client-api-version` is not valid UTF-8.
    InvalidClientApiVersion = InvalidArgument, "etcdserver: invalid client api version";

    // Downgrade.
    /// A version that is not X.Y or X.Y.Z.
    WrongDowngradeVersionFormat = InvalidArgument,
        "etcdserver: wrong downgrade target version format";
    /// A target that is not one minor below the cluster version.
    InvalidDowngradeTarget = InvalidArgument, "etcdserver: invalid downgrade target version";
    /// The cluster version is not decided.
    ClusterVersionUnavailable = FailedPrecondition,
        "etcdserver: cluster version not found during downgrade";
    /// A downgrade runs already.
    DowngradeInProgress = FailedPrecondition,
        "etcdserver: cluster has a downgrade job in progress";
    /// Nothing to cancel.
    NoInflightDowngrade = FailedPrecondition, "etcdserver: no inflight downgrade job";
    /// Downgrade with an action outside its enum.
    UnknownMethod = Unknown, "etcdserver: unknown method";

    // The caller's own end.
    /// The client cancelled.
    ContextCanceled = Canceled, "context canceled";
    /// The client's deadline passed.
    ContextDeadline = DeadlineExceeded, "context deadline exceeded";
    /// The server cancelled the proposal.
    RequestCanceled = Canceled, "etcdserver: request canceled";
    /// The server's own deadline passed.
    ServerDeadline = DeadlineExceeded, "etcdserver: context deadline exceeded";
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_two_errors_share_a_text() {
        let texts: HashSet<_> = Error::ALL.iter().map(|error| error.text()).collect();
        assert_eq!(texts.len(), Error::ALL.len());
    }

    #[test]
    fn errors_that_etcd_does_not_map_keep_code_unknown() {
        for error in [Error::TooManyRequests, Error::NotEnoughStartedMembers] {
            assert_eq!(error.code(), Code::Unknown);
        }
    }
}

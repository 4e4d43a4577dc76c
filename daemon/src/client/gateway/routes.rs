//! The table of routes: which path calls which method.

use std::collections::HashMap;

use althing_api::etcdserverpb::auth_server::Auth;
use althing_api::etcdserverpb::cluster_server::Cluster;
use althing_api::etcdserverpb::kv_server::Kv;
use althing_api::etcdserverpb::lease_server::Lease;
use althing_api::etcdserverpb::maintenance_server::Maintenance;
use althing_api::etcdserverpb::watch_server::Watch;
use althing_api::v3electionpb::election_server::Election;
use althing_api::v3lockpb::lock_server::Lock;

use super::super::api::Api;
use super::super::methods::Methods;
use super::stream::{both_streams, server_stream};
use super::unary::unary;
use super::{Answer, Route};

type Row<A> = (&'static str, &'static str, Answer<A>);

/// Every route, by path.
pub(super) fn table<A: Api>(methods: &Methods) -> HashMap<&'static str, Route<A>> {
    let rows = [
        kv(),
        lease(),
        cluster(),
        maintenance(),
        auth(),
        roles(),
        concurrency(),
    ];
    rows.into_iter()
        .flatten()
        .map(|(path, method, answer)| {
            let method = methods.get(method).expect("a route names a served method");
            let method = method.clone();
            (path, Route { method, answer })
        })
        .collect()
}

fn kv<A: Api>() -> Vec<Row<A>> {
    vec![
        (
            "/v3/kv/range",
            "/etcdserverpb.KV/Range",
            unary(|api, q| Kv::range(api, q)),
        ),
        (
            "/v3/kv/put",
            "/etcdserverpb.KV/Put",
            unary(|api, q| Kv::put(api, q)),
        ),
        (
            "/v3/kv/deleterange",
            "/etcdserverpb.KV/DeleteRange",
            unary(|api, q| Kv::delete_range(api, q)),
        ),
        (
            "/v3/kv/txn",
            "/etcdserverpb.KV/Txn",
            unary(|api, q| Kv::txn(api, q)),
        ),
        (
            "/v3/kv/compaction",
            "/etcdserverpb.KV/Compact",
            unary(|api, q| Kv::compact(api, q)),
        ),
        (
            "/v3/watch",
            "/etcdserverpb.Watch/Watch",
            both_streams(|api, q| Watch::watch(api, q)),
        ),
    ]
}

fn lease<A: Api>() -> Vec<Row<A>> {
    vec![
        (
            "/v3/lease/grant",
            "/etcdserverpb.Lease/LeaseGrant",
            unary(|api, q| Lease::lease_grant(api, q)),
        ),
        (
            "/v3/lease/revoke",
            "/etcdserverpb.Lease/LeaseRevoke",
            unary(|api, q| Lease::lease_revoke(api, q)),
        ),
        (
            "/v3/kv/lease/revoke",
            "/etcdserverpb.Lease/LeaseRevoke",
            unary(|api, q| Lease::lease_revoke(api, q)),
        ),
        (
            "/v3/lease/keepalive",
            "/etcdserverpb.Lease/LeaseKeepAlive",
            both_streams(|api, q| Lease::lease_keep_alive(api, q)),
        ),
        (
            "/v3/lease/timetolive",
            "/etcdserverpb.Lease/LeaseTimeToLive",
            unary(|api, q| Lease::lease_time_to_live(api, q)),
        ),
        (
            "/v3/kv/lease/timetolive",
            "/etcdserverpb.Lease/LeaseTimeToLive",
            unary(|api, q| Lease::lease_time_to_live(api, q)),
        ),
        (
            "/v3/lease/leases",
            "/etcdserverpb.Lease/LeaseLeases",
            unary(|api, q| Lease::lease_leases(api, q)),
        ),
        (
            "/v3/kv/lease/leases",
            "/etcdserverpb.Lease/LeaseLeases",
            unary(|api, q| Lease::lease_leases(api, q)),
        ),
    ]
}

fn cluster<A: Api>() -> Vec<Row<A>> {
    vec![
        (
            "/v3/cluster/member/add",
            "/etcdserverpb.Cluster/MemberAdd",
            unary(|api, q| Cluster::member_add(api, q)),
        ),
        (
            "/v3/cluster/member/remove",
            "/etcdserverpb.Cluster/MemberRemove",
            unary(|api, q| Cluster::member_remove(api, q)),
        ),
        (
            "/v3/cluster/member/update",
            "/etcdserverpb.Cluster/MemberUpdate",
            unary(|api, q| Cluster::member_update(api, q)),
        ),
        (
            "/v3/cluster/member/list",
            "/etcdserverpb.Cluster/MemberList",
            unary(|api, q| Cluster::member_list(api, q)),
        ),
        (
            "/v3/cluster/member/promote",
            "/etcdserverpb.Cluster/MemberPromote",
            unary(|api, q| Cluster::member_promote(api, q)),
        ),
    ]
}

fn maintenance<A: Api>() -> Vec<Row<A>> {
    vec![
        (
            "/v3/maintenance/alarm",
            "/etcdserverpb.Maintenance/Alarm",
            unary(|api, q| Maintenance::alarm(api, q)),
        ),
        (
            "/v3/maintenance/status",
            "/etcdserverpb.Maintenance/Status",
            unary(|api, q| Maintenance::status(api, q)),
        ),
        (
            "/v3/maintenance/defragment",
            "/etcdserverpb.Maintenance/Defragment",
            unary(|api, q| Maintenance::defragment(api, q)),
        ),
        (
            "/v3/maintenance/hash",
            "/etcdserverpb.Maintenance/Hash",
            unary(|api, q| Maintenance::hash(api, q)),
        ),
        (
            "/v3/maintenance/hashkv",
            "/etcdserverpb.Maintenance/HashKV",
            unary(|api, q| Maintenance::hash_kv(api, q)),
        ),
        (
            "/v3/maintenance/snapshot",
            "/etcdserverpb.Maintenance/Snapshot",
            server_stream(|api, q| Maintenance::snapshot(api, q)),
        ),
        (
            "/v3/maintenance/transfer-leadership",
            "/etcdserverpb.Maintenance/MoveLeader",
            unary(|api, q| Maintenance::move_leader(api, q)),
        ),
        (
            "/v3/maintenance/downgrade",
            "/etcdserverpb.Maintenance/Downgrade",
            unary(|api, q| Maintenance::downgrade(api, q)),
        ),
    ]
}

fn auth<A: Api>() -> Vec<Row<A>> {
    vec![
        (
            "/v3/auth/enable",
            "/etcdserverpb.Auth/AuthEnable",
            unary(|api, q| Auth::auth_enable(api, q)),
        ),
        (
            "/v3/auth/disable",
            "/etcdserverpb.Auth/AuthDisable",
            unary(|api, q| Auth::auth_disable(api, q)),
        ),
        (
            "/v3/auth/status",
            "/etcdserverpb.Auth/AuthStatus",
            unary(|api, q| Auth::auth_status(api, q)),
        ),
        (
            "/v3/auth/authenticate",
            "/etcdserverpb.Auth/Authenticate",
            unary(|api, q| Auth::authenticate(api, q)),
        ),
        (
            "/v3/auth/user/add",
            "/etcdserverpb.Auth/UserAdd",
            unary(|api, q| Auth::user_add(api, q)),
        ),
        (
            "/v3/auth/user/get",
            "/etcdserverpb.Auth/UserGet",
            unary(|api, q| Auth::user_get(api, q)),
        ),
        (
            "/v3/auth/user/list",
            "/etcdserverpb.Auth/UserList",
            unary(|api, q| Auth::user_list(api, q)),
        ),
        (
            "/v3/auth/user/delete",
            "/etcdserverpb.Auth/UserDelete",
            unary(|api, q| Auth::user_delete(api, q)),
        ),
        (
            "/v3/auth/user/changepw",
            "/etcdserverpb.Auth/UserChangePassword",
            unary(|api, q| Auth::user_change_password(api, q)),
        ),
        (
            "/v3/auth/user/grant",
            "/etcdserverpb.Auth/UserGrantRole",
            unary(|api, q| Auth::user_grant_role(api, q)),
        ),
        (
            "/v3/auth/user/revoke",
            "/etcdserverpb.Auth/UserRevokeRole",
            unary(|api, q| Auth::user_revoke_role(api, q)),
        ),
    ]
}

fn roles<A: Api>() -> Vec<Row<A>> {
    vec![
        (
            "/v3/auth/role/add",
            "/etcdserverpb.Auth/RoleAdd",
            unary(|api, q| Auth::role_add(api, q)),
        ),
        (
            "/v3/auth/role/get",
            "/etcdserverpb.Auth/RoleGet",
            unary(|api, q| Auth::role_get(api, q)),
        ),
        (
            "/v3/auth/role/list",
            "/etcdserverpb.Auth/RoleList",
            unary(|api, q| Auth::role_list(api, q)),
        ),
        (
            "/v3/auth/role/delete",
            "/etcdserverpb.Auth/RoleDelete",
            unary(|api, q| Auth::role_delete(api, q)),
        ),
        (
            "/v3/auth/role/grant",
            "/etcdserverpb.Auth/RoleGrantPermission",
            unary(|api, q| Auth::role_grant_permission(api, q)),
        ),
        (
            "/v3/auth/role/revoke",
            "/etcdserverpb.Auth/RoleRevokePermission",
            unary(|api, q| Auth::role_revoke_permission(api, q)),
        ),
    ]
}

fn concurrency<A: Api>() -> Vec<Row<A>> {
    vec![
        (
            "/v3/lock/lock",
            "/v3lockpb.Lock/Lock",
            unary(|api, q| Lock::lock(api, q)),
        ),
        (
            "/v3/lock/unlock",
            "/v3lockpb.Lock/Unlock",
            unary(|api, q| Lock::unlock(api, q)),
        ),
        (
            "/v3/election/campaign",
            "/v3electionpb.Election/Campaign",
            unary(|api, q| Election::campaign(api, q)),
        ),
        (
            "/v3/election/proclaim",
            "/v3electionpb.Election/Proclaim",
            unary(|api, q| Election::proclaim(api, q)),
        ),
        (
            "/v3/election/leader",
            "/v3electionpb.Election/Leader",
            unary(|api, q| Election::leader(api, q)),
        ),
        (
            "/v3/election/observe",
            "/v3electionpb.Election/Observe",
            server_stream(|api, q| Election::observe(api, q)),
        ),
        (
            "/v3/election/resign",
            "/v3electionpb.Election/Resign",
            unary(|api, q| Election::resign(api, q)),
        ),
    ]
}

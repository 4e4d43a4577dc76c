//! Members that find one another in DNS.

// All of this file is tests.
#![allow(clippy::unwrap_used)]

use althing_api::etcdserverpb as pb;
use althing_tests::binaries::althingd;
use althing_tests::cluster::STEADY;
use althing_tests::grpc::path;
use althing_tests::member::Member;
use althing_tests::name_server::{NameServer, Records};

const SERVICE: &str = "_etcd-server-blue._tcp.cluster.example";

fn named(name: &str) -> Member {
    let mut member = Member::prepare(&althingd(), &STEADY);
    member.call_it(name);
    member
}

fn serve(service: &str, ports: impl Iterator<Item = u16>) -> NameServer {
    let targets = ports.map(|port| ("localhost".to_owned(), port)).collect();
    NameServer::start(Records::from([(service.to_owned(), targets)])).unwrap()
}

fn discover(member: &mut Member, server: &NameServer) {
    member.discover_by(&[
        "--discovery-srv",
        "cluster.example",
        "--discovery-srv-name",
        "blue",
        "--discovery-srv-servers",
        &server.address().to_string(),
    ]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_that_find_one_another_in_dns_form_a_cluster() {
    let mut members = ["one", "two", "three"].map(named);
    let server = serve(SERVICE, members.iter().map(Member::peer_port));
    for member in &mut members {
        discover(member, &server);
        member.launch();
    }
    members.iter_mut().for_each(Member::wait_until_it_serves);
    let mut grpc = members[2].grpc().await;
    // A member that serves has published its name, but others may not have heard of it yet.
    let request = pb::MemberListRequest { linearizable: true };
    let list: pb::MemberListResponse = grpc.unary(path::MEMBER_LIST, &request).await.unwrap();
    let mut seen: Vec<_> = (list.members.iter())
        .map(|member| (member.name.as_str(), member.peer_ur_ls.join(",")))
        .collect();
    seen.sort_unstable();
    let url = |at: usize| format!("http://localhost:{}", members[at].peer_port());
    let expected = [("one", url(0)), ("three", url(2)), ("two", url(1))];
    assert_eq!(seen, expected);

    // Later starts know their cluster and ask nobody.
    drop(server);
    members[0].kill();
    members[0].restart();
    // It advertises an address, and the records have a name that leads there.
    let printed = members[0].process().printed();
    assert!(!printed.contains("other peer URLs"), "{printed}");
}

#[test]
fn a_member_that_no_record_leads_to_says_which_records_there_are() {
    let mut member = named("lost");
    let server = serve(SERVICE, [1].into_iter());
    discover(&mut member, &server);
    let refusal = member
        .launch()
        .wait_for_line("no record leads to this member");
    let refusal = refusal.unwrap();
    assert!(refusal.contains("http://localhost:1"), "{refusal}");
    assert!(!member.process().wait().success());
}

#[test]
fn a_domain_without_records_is_refused_with_the_names_that_were_asked_for() {
    let mut member = named("lost");
    let server = serve("_other._tcp.cluster.example", [1].into_iter());
    discover(&mut member, &server);
    let refusal = member
        .launch()
        .wait_for_line("error querying DNS SRV records");
    let refusal = refusal.unwrap();
    for service in [SERVICE, "_etcd-server-ssl-blue._tcp.cluster.example"] {
        assert!(refusal.contains(service), "{refusal}");
    }
    assert!(!member.process().wait().success());
}

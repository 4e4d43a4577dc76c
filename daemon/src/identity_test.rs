//! Ids as etcd derives them, and who may begin with them.

use super::*;

fn cluster(members: &[(&str, &str)], token: &str) -> Cluster {
    let member = |(name, url): &(&str, &str)| ((*name).to_owned(), vec![(*url).to_owned()]);
    Cluster {
        initial: members.iter().map(member).collect(),
        initial_state: InitialState::New,
        token: token.to_owned(),
        discovery_srv: String::new(),
        discovery_srv_name: String::new(),
        discovery_srv_servers: Vec::new(),
        join: Vec::new(),
        learners_max: 1,
    }
}

fn config(directory: &std::path::Path, token: &str) -> Config {
    let data_dir = directory.join("data");
    let args = [
        "althingd".into(),
        "--data-dir".into(),
        data_dir.into_os_string(),
        "--initial-cluster-token".into(),
        token.into(),
    ];
    let loaded = Config::load(args, std::iter::empty());
    loaded.expect("sound options").config
}

fn known(members: &[(u64, &str, bool)]) -> Known {
    let member = |(id, url, published): &(u64, &str, bool)| KnownMember {
        id: MemberId(*id),
        peer_urls: vec![(*url).to_owned()],
        published: *published,
    };
    Known {
        url: "http://asked:1".to_owned(),
        cluster_id: ClusterId(0xc1),
        members: members.iter().map(member).collect(),
    }
}

#[test]
fn the_default_member_has_the_ids_that_etcd_gives_it() {
    let cluster = cluster(&[("default", "http://localhost:2380")], "etcd-cluster");
    let (ids, founders) = found(&cluster, "default").expect("it is named");
    assert_eq!(ids.member_id.to_string(), "8e9e05c52164694d");
    assert_eq!(ids.cluster_id.to_string(), "cdf818194e3a8c32");
    assert_eq!(founders.len(), 1);
}

#[test]
fn an_added_member_has_the_id_of_its_urls_and_the_moment() {
    let urls = ["http://b:1".to_owned(), "http://a:1".to_owned()];
    let at = |nanoseconds| UNIX_EPOCH + std::time::Duration::from_nanos(nanoseconds);
    let id = added_member_id(&urls, at(1_700_000_000));
    assert_eq!(id, MemberId::derived(&urls, "1700000000"));
    assert_ne!(id, added_member_id(&urls, at(1_700_000_001)));
}

/// The ids were printed by etcd 3.5.1 with these options.
#[test]
fn three_members_have_the_ids_that_etcd_gives_them() {
    let members = [
        ("one", "http://127.0.0.1:12380"),
        ("two", "http://127.0.0.1:22380"),
        ("three", "http://127.0.0.1:32380"),
    ];
    let (ids, founders) = found(&cluster(&members, "tkn"), "two").expect("it is named");
    let hex: Vec<String> = founders.iter().map(|m| m.id.to_string()).collect();
    assert_eq!(
        hex,
        ["77f41cbd71028a3a", "e52329470e35c0c0", "763c9e70aa15678a"]
    );
    assert_eq!(ids.member_id, founders[1].id);
    assert_eq!(ids.cluster_id.to_string(), "998d851d58177d55");
}

#[test]
fn ids_depend_on_neither_the_order_of_urls_nor_that_of_members() {
    let urls = |list: [&str; 2]| list.map(str::to_owned);
    let (ab, ba) = (
        urls(["http://a:1", "http://b:1"]),
        urls(["http://b:1", "http://a:1"]),
    );
    assert_eq!(MemberId::derived(&ab, "t"), MemberId::derived(&ba, "t"));
    assert_ne!(MemberId::derived(&ab, "t"), MemberId::derived(&ab, "u"));
    let (one, two) = (MemberId(1), MemberId(u64::MAX));
    assert_eq!(
        ClusterId::derived(&[one, two]),
        ClusterId::derived(&[two, one])
    );
}

#[test]
fn a_cluster_without_this_member_is_refused() {
    let refused = found(&cluster(&[("b", "http://b:1")], "t"), "a");
    assert!(matches!(refused, Err(IdentityError::NotNamed { .. })));
}

#[test]
fn a_member_joins_with_the_ids_that_the_cluster_gave_it() {
    let list = cluster(&[("a", "http://a:1"), ("b", "http://b:1")], "t");
    let running = known(&[(7, "http://b:1", false), (5, "http://a:1", true)]);
    let ids = join(&list, "b", &running).expect("the lists agree");
    assert_eq!(
        (ids.member_id, ids.cluster_id),
        (MemberId(7), ClusterId(0xc1))
    );
}

#[test]
fn a_list_that_differs_from_the_cluster_is_refused_by_member_and_url() {
    let list = cluster(&[("a", "http://a:1"), ("b", "http://b:1")], "t");
    let fewer = join(&list, "b", &known(&[(5, "http://a:1", true)])).expect_err("one is missing");
    assert!(
        fewer.to_string().contains("member count is unequal"),
        "{fewer}"
    );
    let other = known(&[(5, "http://a:1", true), (7, "http://c:1", false)]);
    let other = join(&list, "b", &other).expect_err("another URL");
    assert!(
        other.to_string().contains(r#"http://b:1 of "b""#),
        "{other}"
    );
}

#[test]
fn a_member_that_the_cluster_has_seen_does_not_begin_again() {
    let path = || PathBuf::from("/data");
    let running = known(&[(7, "http://b:1", true), (8, "http://c:1", false)]);
    assert!(refuse_second_life(&running, MemberId(8), path()).is_ok());
    let refused = refuse_second_life(&running, MemberId(7), path()).expect_err("it published");
    assert!(
        refused.to_string().contains("already been bootstrapped"),
        "{refused}"
    );
}

#[actix_web::test]
async fn a_member_keeps_its_first_ids_whatever_a_later_start_says() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let first = config(directory.path(), "first");
    let dir = DataDir::open(&first.member.data_dir).expect("a new directory");
    let settled = settle(&first, &dir).await.expect("a new member");
    assert_eq!(settled.founders.len(), 1);
    drop(dir);
    let later = config(directory.path(), "later");
    let dir = DataDir::open(&later.member.data_dir).expect("its own directory");
    let again = settle(&later, &dir).await.expect("the same member");
    assert_eq!(again.ids, settled.ids);
    assert!(
        again.founders.is_empty(),
        "another cluster is not founded with kept ids"
    );
}

#[actix_web::test]
async fn data_without_an_identity_is_refused_instead_of_adopted() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let config = config(directory.path(), "t");
    let dir = DataDir::open(&config.member.data_dir).expect("a new directory");
    std::fs::write(dir.store(), "somebody's data").expect("writable");
    let refused = settle(&config, &dir).await;
    assert!(matches!(refused, Err(IdentityError::Missing { .. })));
}

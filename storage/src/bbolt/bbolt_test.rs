//! What is written can be read again, and nothing else can.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::*;

type Content = BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, Vec<u8>>>;

fn fill<W: Write>(mut writer: Writer<W>, content: &Content) -> Layout {
    let measures = writer.is_measuring();
    for (name, entries) in content {
        for (key, value) in entries {
            let value = if measures {
                Value::Length(value.len())
            } else {
                Value::Bytes(value)
            };
            writer.put(key, value).unwrap();
        }
        writer.end_bucket(name).unwrap();
    }
    writer.finish().unwrap()
}

fn written(content: &Content) -> Vec<u8> {
    let layout = fill(Writer::measuring(), content);
    let mut bytes = Vec::new();
    fill(Writer::new(&mut bytes, layout, 7).unwrap(), content);
    assert_eq!(bytes.len() as u64, layout.bytes());
    bytes
}

fn file_of(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn read(bytes: &[u8]) -> Result<Content, BboltError> {
    let reader = Reader::open(file_of(bytes))?;
    let mut content = Content::new();
    for bucket in reader.buckets()? {
        let entries = reader.entries(&bucket).collect::<Result<_, _>>()?;
        content.insert(bucket.name, entries);
    }
    Ok(content)
}

fn any_content() -> impl Strategy<Value = Content> {
    let small = vec(any::<u8>(), 0..40);
    let large = (0usize..9_000).prop_map(|len| vec![b'v'; len]);
    let value = prop_oneof![8 => small, 1 => large];
    let entries = btree_map(vec(any::<u8>(), 1..30), value, 0..300);
    btree_map(vec(b'a'..=b'z', 1..10), entries, 0..5)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_written_is_read_again(content in any_content()) {
        prop_assert_eq!(read(&written(&content)).unwrap(), content);
    }

    #[test]
    fn a_damaged_file_is_refused_or_read_and_never_a_panic(
        content in any_content(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = written(&content);
        let cut = cut.index(bytes.len() * 4);
        bytes.truncate(cut.max(1));
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let _ = read(&bytes);
    }
}

#[test]
fn a_tree_of_three_levels_keeps_every_entry() {
    let entry = |n: u64| (n.to_be_bytes().to_vec(), vec![b'x'; 200]);
    let entries: BTreeMap<_, _> = (0..40_000).map(entry).collect();
    let content = Content::from([(b"key".to_vec(), entries)]);
    assert_eq!(read(&written(&content)).unwrap(), content);
}

#[test]
fn an_empty_bucket_and_an_empty_file_are_read() {
    let empty = Content::new();
    assert_eq!(read(&written(&empty)).unwrap(), empty);
    let one = Content::from([(b"alarm".to_vec(), BTreeMap::new())]);
    assert_eq!(read(&written(&one)).unwrap(), one);
}

#[test]
fn a_file_of_another_state_than_was_measured_is_refused() {
    let content = Content::from([(b"a".to_vec(), BTreeMap::from([(vec![1], vec![2; 5_000])]))]);
    let layout = fill(Writer::measuring(), &content);
    let mut writer = Writer::new(Vec::new(), layout, 7).unwrap();
    writer.put(&[1], Value::Bytes(&[2; 9_000])).unwrap();
    writer.end_bucket(b"a").unwrap();
    assert!(writer.finish().is_err());
}

#[test]
fn the_second_meta_page_serves_when_the_first_is_lost() {
    let content = Content::from([(b"a".to_vec(), BTreeMap::from([(vec![1], vec![2])]))]);
    let mut bytes = written(&content);
    bytes[..4096].fill(0);
    assert_eq!(read(&bytes).unwrap(), content);
}

#[test]
fn a_branch_that_leads_to_itself_is_refused() {
    let entry = |n: u64| (n.to_be_bytes().to_vec(), vec![b'x'; 900]);
    let entries: BTreeMap<_, _> = (0..20).map(entry).collect();
    let mut bytes = written(&Content::from([(b"key".to_vec(), entries)]));
    // The branch is the last page but one; its first child now becomes the branch itself.
    let branch = bytes.len() / 4096 - 2;
    let at = branch * 4096 + 16 + 8;
    bytes[at..at + 8].copy_from_slice(&(branch as u64).to_le_bytes());
    let text = read(&bytes).unwrap_err().to_string();
    assert!(text.contains("circles"), "{text}");
}

//! Writing a file in one pass: buckets in the order of their names, entries in the order of their
//! keys.

use std::io::{self, Write};
use std::mem;

use super::page::{
    BRANCH, BUCKET_ELEMENT, ELEMENT_BYTES, FREE_LIST, LEAF, META, Meta, PAGE_BYTES,
    PAGE_HEADER_BYTES, PageHeader,
};

/// The first page behind two meta pages and the free list.
const FIRST_PAGE: u64 = 3;
const FREE_LIST_PAGE: u64 = 2;
/// A bucket's header holds its root's number and a sequence that etcd does not use.
const BUCKET_ELEMENT_BYTES: usize = 16;

/// The root of a file, and the number of its pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    root: u64,
    pages: u64,
}

impl Layout {
    /// Size of the whole file.
    pub fn bytes(&self) -> u64 {
        self.pages * PAGE_BYTES as u64
    }
}

/// A value, or only its length while a file is measured.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    /// The value.
    Bytes(&'a [u8]),
    /// The value's length; only a measuring [`Writer`] takes this.
    Length(usize),
}

impl Value<'_> {
    fn len(&self) -> usize {
        match self {
            Value::Bytes(bytes) => bytes.len(),
            Value::Length(len) => *len,
        }
    }
}

/// Writes a file, or measures one.
#[derive(Debug)]
pub struct Writer<W> {
    /// `None` if it measures.
    out: Option<W>,
    expected: Layout,
    next_page: u64,
    /// Finished buckets: name, and page number of the root.
    buckets: Vec<(Vec<u8>, u64)>,
    tree: Tree,
}

impl Writer<io::Sink> {
    /// A writer that finds the layout of what it is given.
    pub fn measuring() -> Writer<io::Sink> {
        Writer {
            out: None,
            expected: Layout::default(),
            next_page: FIRST_PAGE,
            buckets: Vec::new(),
            tree: Tree::default(),
        }
    }
}

impl<W: Write> Writer<W> {
    /// Begins a file of `layout` in `out`; `transaction` is the number of the change that it shows.
    ///
    /// # Errors
    /// Errors of `out`.
    pub fn new(mut out: W, layout: Layout, transaction: u64) -> io::Result<Writer<W>> {
        // The page with the highest transaction wins; the other one counts as older.
        for (number, transaction) in [(0, transaction), (1, transaction.saturating_sub(1))] {
            let meta = Meta {
                page_bytes: PAGE_BYTES as u32,
                root: layout.root,
                free_list: FREE_LIST_PAGE,
                pages: layout.pages,
                transaction,
            };
            write_page(&mut out, header(number, META, 0), &[&meta.encode()])?;
        }
        write_page(&mut out, header(FREE_LIST_PAGE, FREE_LIST, 0), &[])?;
        Ok(Writer {
            out: Some(out),
            expected: layout,
            next_page: FIRST_PAGE,
            buckets: Vec::new(),
            tree: Tree::default(),
        })
    }

    /// Whether only lengths of values matter.
    pub fn is_measuring(&self) -> bool {
        self.out.is_none()
    }

    /// Adds an entry to the bucket being written; keys must ascend.
    ///
    /// # Errors
    /// Errors of the file.
    ///
    /// # Panics
    /// If the key does not follow the one before, or if a length is given for a value to be
    /// written.
    pub fn put(&mut self, key: &[u8], value: Value<'_>) -> io::Result<()> {
        self.element(key, value, 0)
    }

    fn element(&mut self, key: &[u8], value: Value<'_>, flags: u32) -> io::Result<()> {
        assert!(
            self.tree.last_key.as_deref().is_none_or(|last| last < key),
            "keys ascend"
        );
        if !self.tree.leaf.fits(key.len() + value.len()) {
            self.flush_leaf()?;
        }
        let leaf = &mut self.tree.leaf;
        if leaf.elements.is_empty() {
            leaf.first_key = key.to_vec();
        }
        leaf.bytes += ELEMENT_BYTES + key.len() + value.len();
        leaf.elements.push(LeafElement {
            flags,
            key_len: key.len(),
            value_len: value.len(),
        });
        if self.out.is_some() {
            let Value::Bytes(value) = value else {
                panic!("a file holds values, not their lengths");
            };
            leaf.content.extend_from_slice(key);
            leaf.content.extend_from_slice(value);
        }
        self.tree.last_key = Some(key.to_vec());
        Ok(())
    }

    /// Ends the bucket and gives it its name; names must ascend.
    ///
    /// # Errors
    /// Errors of the file.
    ///
    /// # Panics
    /// If the name does not follow the one before.
    pub fn end_bucket(&mut self, name: &[u8]) -> io::Result<()> {
        let before = self.buckets.last();
        assert!(
            before.is_none_or(|(last, _)| last.as_slice() < name),
            "names ascend"
        );
        let root = self.end_tree()?;
        self.buckets.push((name.to_vec(), root));
        Ok(())
    }

    /// Ends the file.
    ///
    /// # Errors
    /// Errors of the file; `InvalidData` if the file does not have the layout that it was begun
    /// with.
    pub fn finish(mut self) -> io::Result<Layout> {
        for (name, root) in mem::take(&mut self.buckets) {
            let mut bucket = [0; BUCKET_ELEMENT_BYTES];
            bucket[..8].copy_from_slice(&root.to_le_bytes());
            self.element(&name, Value::Bytes(&bucket), BUCKET_ELEMENT)?;
        }
        let layout = Layout {
            root: self.end_tree()?,
            pages: self.next_page,
        };
        let Some(mut out) = self.out else {
            return Ok(layout);
        };
        if layout != self.expected {
            let what = "the state changed while its snapshot was written";
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        out.flush()?;
        Ok(layout)
    }

    /// Writes what is left of a tree; returns its root.
    fn end_tree(&mut self) -> io::Result<u64> {
        self.tree.last_key = None;
        if !self.tree.leaf.elements.is_empty() || self.tree.levels.is_empty() {
            self.flush_leaf()?;
        }
        let mut level = 0;
        loop {
            let is_top = level + 1 == self.tree.levels.len();
            if is_top && self.tree.levels[level].children.len() == 1 {
                let root = self.tree.levels[level].children[0].1;
                self.tree.levels.clear();
                return Ok(root);
            }
            if !self.tree.levels[level].children.is_empty() {
                self.flush_branch(level)?;
            }
            level += 1;
        }
    }

    fn flush_leaf(&mut self) -> io::Result<()> {
        let leaf = mem::take(&mut self.tree.leaf);
        let number = self.claim(leaf.bytes);
        if let Some(out) = &mut self.out {
            let mut head = Vec::with_capacity(leaf.elements.len() * ELEMENT_BYTES);
            let mut at = leaf.elements.len() * ELEMENT_BYTES;
            for (nth, element) in leaf.elements.iter().enumerate() {
                // The position counts from the element itself.
                let position = at - nth * ELEMENT_BYTES;
                for field in [position, element.key_len, element.value_len] {
                    let field = u32::try_from(field).map_err(io::Error::other)?;
                    if head.len() % ELEMENT_BYTES == 0 {
                        head.extend_from_slice(&element.flags.to_le_bytes());
                    }
                    head.extend_from_slice(&field.to_le_bytes());
                }
                at += element.key_len + element.value_len;
            }
            let header = PageHeader {
                number,
                kind: LEAF,
                count: leaf.elements.len() as u16,
                further: further_pages(leaf.bytes)?,
            };
            write_page(out, header, &[&head, &leaf.content])?;
        }
        self.adopt(0, leaf.first_key, number)
    }

    fn flush_branch(&mut self, level: usize) -> io::Result<()> {
        let branch = mem::take(&mut self.tree.levels[level]);
        let number = self.claim(branch.bytes);
        let mut children = branch.children.into_iter();
        let first_key = children.as_slice().first().map(|(key, _)| key.clone());
        if let Some(out) = &mut self.out {
            let count = children.len();
            let (mut head, mut keys) = (Vec::new(), Vec::new());
            for (nth, (key, child)) in children.by_ref().enumerate() {
                let position = (count - nth) * ELEMENT_BYTES + keys.len();
                head.extend_from_slice(&(position as u32).to_le_bytes());
                head.extend_from_slice(&(key.len() as u32).to_le_bytes());
                head.extend_from_slice(&child.to_le_bytes());
                keys.extend_from_slice(&key);
            }
            let header = PageHeader {
                number,
                kind: BRANCH,
                count: count as u16,
                further: further_pages(branch.bytes)?,
            };
            write_page(out, header, &[&head, &keys])?;
        }
        let first_key = first_key.expect("a branch that is written has children");
        self.adopt(level + 1, first_key, number)
    }

    /// Enters a finished page into the branch above it.
    fn adopt(&mut self, level: usize, first_key: Vec<u8>, number: u64) -> io::Result<()> {
        if self.tree.levels.len() == level {
            self.tree.levels.push(Branch::default());
        }
        if !self.tree.levels[level].fits(first_key.len()) {
            self.flush_branch(level)?;
        }
        let branch = &mut self.tree.levels[level];
        branch.bytes += ELEMENT_BYTES + first_key.len();
        branch.children.push((first_key, number));
        Ok(())
    }

    /// Takes the number of a page of `bytes`, and the numbers of the pages it needs beyond the
    /// first.
    fn claim(&mut self, bytes: usize) -> u64 {
        let number = self.next_page;
        self.next_page += bytes.div_ceil(PAGE_BYTES) as u64;
        number
    }
}

/// The pages of one bucket that are not full yet.
#[derive(Debug, Default)]
struct Tree {
    last_key: Option<Vec<u8>>,
    leaf: Leaf,
    /// The branches above the leaf, the lowest first.
    levels: Vec<Branch>,
}

#[derive(Debug)]
struct Leaf {
    first_key: Vec<u8>,
    elements: Vec<LeafElement>,
    /// Keys and values; empty while measuring.
    content: Vec<u8>,
    bytes: usize,
}

#[derive(Debug)]
struct LeafElement {
    flags: u32,
    key_len: usize,
    value_len: usize,
}

#[derive(Debug)]
struct Branch {
    children: Vec<(Vec<u8>, u64)>,
    bytes: usize,
}

impl Default for Leaf {
    fn default() -> Leaf {
        Leaf {
            first_key: Vec::new(),
            elements: Vec::new(),
            content: Vec::new(),
            bytes: PAGE_HEADER_BYTES,
        }
    }
}

impl Leaf {
    /// A page holds at least one entry; a large entry gets further pages.
    fn fits(&self, len: usize) -> bool {
        self.elements.is_empty() || self.bytes + ELEMENT_BYTES + len <= PAGE_BYTES
    }
}

impl Default for Branch {
    fn default() -> Branch {
        Branch {
            children: Vec::new(),
            bytes: PAGE_HEADER_BYTES,
        }
    }
}

impl Branch {
    /// A branch has at least two children, or the tree would not end.
    fn fits(&self, key_len: usize) -> bool {
        self.children.len() < 2 || self.bytes + ELEMENT_BYTES + key_len <= PAGE_BYTES
    }
}

fn header(number: u64, kind: u16, count: u16) -> PageHeader {
    PageHeader {
        number,
        kind,
        count,
        further: 0,
    }
}

fn further_pages(bytes: usize) -> io::Result<u32> {
    u32::try_from(bytes.div_ceil(PAGE_BYTES) - 1).map_err(io::Error::other)
}

/// Writes a page, and zeros to its end.
fn write_page(out: &mut impl Write, header: PageHeader, parts: &[&[u8]]) -> io::Result<()> {
    out.write_all(&header.encode())?;
    let mut len = PAGE_HEADER_BYTES;
    for part in parts {
        out.write_all(part)?;
        len += part.len();
    }
    let padding = len.next_multiple_of(PAGE_BYTES) - len;
    out.write_all(&[0; PAGE_BYTES][..padding])
}

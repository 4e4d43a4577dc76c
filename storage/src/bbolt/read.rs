//! Reading a file that cannot be trusted: each number is checked before it is used.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::BboltError;
use super::page::{
    BRANCH, BUCKET_ELEMENT, BUCKET_HEADER_BYTES, ELEMENT_BYTES, LEAF, META_BYTES, Meta,
    PAGE_HEADER_BYTES, PageHeader, u32_at, u64_at,
};

/// Page sizes to look for if the first page is damaged.
const PAGE_BYTES: std::ops::RangeInclusive<u32> = 1024..=65_536;
/// A deeper tree must go in circles.
const DEPTH_MAX: usize = 64;
/// Pages of a tree do not overlap, so a tree has no more of them than the file.
const CIRCLES: &str = "the tree goes in circles";

/// A bbolt file.
#[derive(Debug)]
pub struct Reader {
    file: File,
    meta: Meta,
}

/// A bucket of the file.
#[derive(Clone, Debug)]
pub struct Bucket {
    /// The bucket's name.
    pub name: Vec<u8>,
    tree: Start,
}

/// The place where a tree begins.
#[derive(Clone, Debug)]
enum Start {
    Page(u64),
    /// A small bucket: a page inside its element.
    Inline(Vec<u8>),
}

impl Reader {
    /// Reads the meta pages of `file`.
    ///
    /// # Errors
    /// Errors of the file, or it is not a bbolt file.
    pub fn open(file: File) -> Result<Reader, BboltError> {
        let len = file.metadata()?.len();
        let first = meta_at(&file, 0)?;
        let mut sizes = Vec::new();
        match first {
            Some(meta) => sizes.push(meta.page_bytes),
            None => {
                let mut size = *PAGE_BYTES.start();
                while PAGE_BYTES.contains(&size) {
                    sizes.push(size);
                    size *= 2;
                }
            }
        }
        let mut best = first;
        for size in sizes {
            let second = meta_at(&file, u64::from(size))?;
            let second = second.filter(|meta| meta.page_bytes == size);
            best = match (best, second) {
                (Some(a), Some(b)) if b.transaction > a.transaction => Some(b),
                (None, b) => b,
                (a, _) => a,
            };
        }
        let meta = best.ok_or(BboltError::Foreign("it has no intact meta page"))?;
        if !meta.page_bytes.is_power_of_two() || !PAGE_BYTES.contains(&meta.page_bytes) {
            return Err(BboltError::Foreign("its page size is none that bbolt uses"));
        }
        let bytes = meta.pages.checked_mul(u64::from(meta.page_bytes));
        if bytes.is_none_or(|bytes| bytes > len) {
            return Err(BboltError::Foreign("it is shorter than its meta page says"));
        }
        Ok(Reader { file, meta })
    }

    /// What etcd's tools call the total size: that of all pages.
    pub fn bytes(&self) -> u64 {
        self.meta.pages * u64::from(self.meta.page_bytes)
    }

    /// The file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The buckets, by name.
    ///
    /// # Errors
    /// Errors of the file, or damage.
    pub fn buckets(&self) -> Result<Vec<Bucket>, BboltError> {
        let mut buckets = Vec::new();
        for element in self.elements(Start::Page(self.meta.root)) {
            let element = element?;
            let damaged = |what| BboltError::Damaged {
                page: self.meta.root,
                what,
            };
            if element.flags & BUCKET_ELEMENT == 0 {
                return Err(damaged("an entry outside of all buckets"));
            }
            let root = u64_at(&element.value, 0);
            let root = root.ok_or_else(|| damaged("a bucket without a header"))?;
            let tree = match root {
                0 => {
                    let page = element.value.get(BUCKET_HEADER_BYTES..);
                    Start::Inline(page.unwrap_or_default().to_vec())
                }
                root => Start::Page(root),
            };
            buckets.push(Bucket {
                name: element.key,
                tree,
            });
        }
        Ok(buckets)
    }

    /// The entries of `bucket`, by key.
    pub fn entries(&self, bucket: &Bucket) -> Entries<'_> {
        Entries(self.elements(bucket.tree.clone()))
    }

    fn elements(&self, start: Start) -> Elements<'_> {
        Elements {
            reader: self,
            start: Some(start),
            stack: Vec::new(),
            pages_read: 0,
            last_key: None,
        }
    }

    /// A page of a tree, with its further pages; together they are at most `pages_max`.
    fn page(&self, number: u64, pages_max: u64) -> Result<Page, BboltError> {
        let damaged = |what| BboltError::Damaged { page: number, what };
        if number < 2 || number >= self.meta.pages {
            return Err(damaged("the page does not exist"));
        }
        let size = u64::from(self.meta.page_bytes);
        let mut head = [0; PAGE_HEADER_BYTES];
        self.file.read_exact_at(&mut head, number * size)?;
        let header = PageHeader::decode(&head).ok_or_else(|| damaged("the header is cut"))?;
        if header.number != number {
            return Err(damaged("it is another page"));
        }
        let count = u64::from(header.further) + 1;
        if count > self.meta.pages - number {
            return Err(damaged("its further pages do not exist"));
        }
        if count > pages_max {
            return Err(damaged(CIRCLES));
        }
        let len = usize::try_from(count * size).map_err(|_| damaged("too large"))?;
        let mut bytes = vec![0; len];
        self.file.read_exact_at(&mut bytes, number * size)?;
        Page::new(number, bytes)
    }
}

fn meta_at(file: &File, at: u64) -> Result<Option<Meta>, BboltError> {
    let mut bytes = [0; META_BYTES];
    match file.read_exact_at(&mut bytes, at + PAGE_HEADER_BYTES as u64) {
        Ok(()) => Ok(Meta::decode(&bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A page of a tree that is being walked.
#[derive(Debug)]
struct Page {
    number: u64,
    bytes: Vec<u8>,
    is_branch: bool,
    count: usize,
    next: usize,
}

#[derive(Debug)]
struct Element {
    flags: u32,
    key: Vec<u8>,
    value: Vec<u8>,
}

/// The next element of a page.
enum Next {
    Child(u64),
    Element(Element),
}

impl Page {
    fn new(number: u64, bytes: Vec<u8>) -> Result<Page, BboltError> {
        let damaged = |what| BboltError::Damaged { page: number, what };
        let header = PageHeader::decode(&bytes).ok_or_else(|| damaged("the header is cut"))?;
        let is_branch = match header.kind {
            BRANCH => true,
            LEAF => false,
            _ => return Err(damaged("it is neither branch nor leaf")),
        };
        if is_branch && header.count == 0 {
            return Err(damaged("a branch without children"));
        }
        Ok(Page {
            number,
            bytes,
            is_branch,
            count: header.count.into(),
            next: 0,
        })
    }

    /// The element at position `next`.
    fn read(&self) -> Option<Next> {
        let at = PAGE_HEADER_BYTES + self.next * ELEMENT_BYTES;
        let part = |start: usize, len: u32| {
            let end = start.checked_add(len as usize)?;
            self.bytes.get(start..end)
        };
        if self.is_branch {
            return Some(Next::Child(u64_at(&self.bytes, at + 8)?));
        }
        let flags = u32_at(&self.bytes, at)?;
        let start = at.checked_add(u32_at(&self.bytes, at + 4)? as usize)?;
        let (key_len, value_len) = (u32_at(&self.bytes, at + 8)?, u32_at(&self.bytes, at + 12)?);
        Some(Next::Element(Element {
            flags,
            key: part(start, key_len)?.to_vec(),
            value: part(start.checked_add(key_len as usize)?, value_len)?.to_vec(),
        }))
    }
}

/// A walk through a tree.
#[derive(Debug)]
struct Elements<'a> {
    reader: &'a Reader,
    start: Option<Start>,
    stack: Vec<Page>,
    pages_read: u64,
    last_key: Option<Vec<u8>>,
}

impl Elements<'_> {
    fn enter(&mut self, number: u64) -> Result<(), BboltError> {
        if self.stack.len() >= DEPTH_MAX {
            let what = CIRCLES;
            return Err(BboltError::Damaged { page: number, what });
        }
        let pages_left = self.reader.meta.pages - self.pages_read;
        let page = self.reader.page(number, pages_left)?;
        self.pages_read += page.bytes.len() as u64 / u64::from(self.reader.meta.page_bytes);
        self.stack.push(page);
        Ok(())
    }

    fn advance(&mut self) -> Result<Option<Element>, BboltError> {
        match self.start.take() {
            Some(Start::Page(number)) => self.enter(number)?,
            Some(Start::Inline(bytes)) => self.stack.push(Page::new(0, bytes)?),
            None => {}
        }
        while let Some(page) = self.stack.last_mut() {
            if page.next == page.count {
                self.stack.pop();
                continue;
            }
            let number = page.number;
            let damaged = |what| BboltError::Damaged { page: number, what };
            let next = page.read();
            page.next += 1;
            match next.ok_or_else(|| damaged("an element lies outside of its page"))? {
                Next::Child(child) => self.enter(child)?,
                Next::Element(element) => {
                    let last = self.last_key.as_ref();
                    if last.is_some_and(|last| *last >= element.key) {
                        return Err(damaged("keys are out of order"));
                    }
                    self.last_key = Some(element.key.clone());
                    return Ok(Some(element));
                }
            }
        }
        Ok(None)
    }
}

impl Iterator for Elements<'_> {
    type Item = Result<Element, BboltError>;

    fn next(&mut self) -> Option<Self::Item> {
        let element = self.advance();
        if element.is_err() {
            self.stack.clear();
        }
        element.transpose()
    }
}

/// The entries of one bucket, by key. Ends after an error.
#[derive(Debug)]
pub struct Entries<'a>(Elements<'a>);

impl Iterator for Entries<'_> {
    type Item = Result<(Vec<u8>, Vec<u8>), BboltError>;

    fn next(&mut self) -> Option<Self::Item> {
        let Element { flags, key, value } = match self.0.next()? {
            Ok(element) => element,
            Err(error) => return Some(Err(error)),
        };
        if flags & BUCKET_ELEMENT != 0 {
            self.0.stack.clear();
            return Some(Err(BboltError::Damaged {
                page: 0,
                what: "a bucket inside a bucket, which etcd does not have",
            }));
        }
        Some(Ok((key, value)))
    }
}

//! The fixed parts of pages: headers, elements, meta pages.

/// Size of the pages that are written, in bytes.
pub(super) const PAGE_BYTES: usize = 4096;
pub(super) const PAGE_HEADER_BYTES: usize = 16;
pub(super) const ELEMENT_BYTES: usize = 16;
pub(super) const BUCKET_HEADER_BYTES: usize = 16;
pub(super) const META_BYTES: usize = 64;

pub(super) const BRANCH: u16 = 0x01;
pub(super) const LEAF: u16 = 0x02;
pub(super) const META: u16 = 0x04;
pub(super) const FREE_LIST: u16 = 0x10;

/// The flag of a leaf element that is a bucket.
pub(super) const BUCKET_ELEMENT: u32 = 0x01;

const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;

/// The start of every page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PageHeader {
    pub number: u64,
    pub kind: u16,
    pub count: u16,
    /// The number of further pages that belong to this one.
    pub further: u32,
}

impl PageHeader {
    pub fn encode(self) -> [u8; PAGE_HEADER_BYTES] {
        let mut bytes = [0; PAGE_HEADER_BYTES];
        bytes[..8].copy_from_slice(&self.number.to_le_bytes());
        bytes[8..10].copy_from_slice(&self.kind.to_le_bytes());
        bytes[10..12].copy_from_slice(&self.count.to_le_bytes());
        bytes[12..].copy_from_slice(&self.further.to_le_bytes());
        bytes
    }

    pub fn decode(bytes: &[u8]) -> Option<PageHeader> {
        Some(PageHeader {
            number: u64_at(bytes, 0)?,
            kind: u16_at(bytes, 8)?,
            count: u16_at(bytes, 10)?,
            further: u32_at(bytes, 12)?,
        })
    }
}

/// The content of a meta page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Meta {
    pub page_bytes: u32,
    pub root: u64,
    pub free_list: u64,
    /// The number of pages in the file.
    pub pages: u64,
    pub transaction: u64,
}

impl Meta {
    /// What stands behind the page's header: magic, version, page size, flags, root bucket, free
    /// list, pages, transaction, and a checksum of all before.
    pub fn encode(self) -> [u8; META_BYTES] {
        let mut bytes = [0; META_BYTES];
        bytes[..4].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[4..8].copy_from_slice(&VERSION.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.page_bytes.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.root.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.free_list.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.pages.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.transaction.to_le_bytes());
        let sum = fnv1a(&bytes[..56]);
        bytes[56..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// Decodes a meta page; `None` if it is not intact.
    pub fn decode(bytes: &[u8]) -> Option<Meta> {
        let content = bytes.get(..META_BYTES)?;
        let intact = u32_at(content, 0)? == MAGIC
            && u32_at(content, 4)? == VERSION
            && u64_at(content, 56)? == fnv1a(&content[..56]);
        let meta = Meta {
            page_bytes: u32_at(content, 8)?,
            root: u64_at(content, 16)?,
            free_list: u64_at(content, 32)?,
            pages: u64_at(content, 40)?,
            transaction: u64_at(content, 48)?,
        };
        intact.then_some(meta)
    }
}

/// FNV-1a of 64 bits, the checksum of meta pages.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let (bytes, _) = bytes.get(at..)?.split_first_chunk()?;
    Some(u16::from_le_bytes(*bytes))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let (bytes, _) = bytes.get(at..)?.split_first_chunk()?;
    Some(u32::from_le_bytes(*bytes))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let (bytes, _) = bytes.get(at..)?.split_first_chunk()?;
    Some(u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_meta_page_with_a_changed_bit_is_none() {
        let meta = Meta {
            page_bytes: 4096,
            root: 9,
            free_list: 2,
            pages: 10,
            transaction: 3,
        };
        let bytes = meta.encode();
        assert_eq!(Meta::decode(&bytes), Some(meta));
        for at in 0..META_BYTES * 8 {
            let mut changed = bytes;
            changed[at / 8] ^= 1 << (at % 8);
            assert_eq!(Meta::decode(&changed), None, "bit {at}");
        }
    }

    #[test]
    fn the_checksum_is_that_of_the_published_test_vectors() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }
}

//! How a range request orders its keys, and whether it filters them: what decides whether they can
//! be read in their natural order, page by page.

use crate::etcdserverpb::RangeRequest;
use crate::etcdserverpb::range_request::{SortOrder, SortTarget};

/// Whether the keys are collected in their natural order. Order NONE counts as such with every
/// target: etcd then sorts only what the limit let through.
pub fn is_natural_order(request: &RangeRequest) -> bool {
    match request.sort_order() {
        SortOrder::None => true,
        SortOrder::Ascend => request.sort_target() == SortTarget::Key,
        SortOrder::Descend => false,
    }
}

/// Whether a bound on revisions takes keys out of the answer.
pub fn has_revision_filters(request: &RangeRequest) -> bool {
    request.min_mod_revision != 0
        || request.max_mod_revision != 0
        || request.min_create_revision != 0
        || request.max_create_revision != 0
}

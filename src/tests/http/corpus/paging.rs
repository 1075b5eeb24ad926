//! Listings from nowhere, and in pages of impossible sizes. A page may be shorter than what is asked for.

use super::{Row, Target, targets};
use crate::harness::Registry;

const ROWS: &[Target] = &[
    ("negative n of tags", "GET", "/v2/team/app/tags/list?n=-1", 400, "PAGINATION_NUMBER_INVALID"),
    ("fraction of tags", "GET", "/v2/team/app/tags/list?n=1.5", 400, "PAGINATION_NUMBER_INVALID"),
    ("no n of tags", "GET", "/v2/team/app/tags/list?n=", 400, "PAGINATION_NUMBER_INVALID"),
    ("n with a sign", "GET", "/v2/team/app/tags/list?n=%2B1", 400, "PAGINATION_NUMBER_INVALID"),
    ("n with a blank", "GET", "/v2/team/app/tags/list?n=+1", 400, "PAGINATION_NUMBER_INVALID"),
    ("hexadecimal n", "GET", "/v2/team/app/tags/list?n=0x10", 400, "PAGINATION_NUMBER_INVALID"),
    ("n in Arabic digits", "GET", "/v2/team/app/tags/list?n=%d9%a1", 400, "PAGINATION_NUMBER_INVALID"),
    ("negative n of the catalogue", "GET", "/v2/_catalog?n=-1", 400, "PAGINATION_NUMBER_INVALID"),
    ("word as n of the catalogue", "GET", "/v2/_catalog?n=x", 400, "PAGINATION_NUMBER_INVALID"),
    ("negative n of referrers", "GET", "/v2/team/app/referrers/DIGEST?n=-1", 400, "PAGINATION_NUMBER_INVALID"),
    ("huge n of tags", "GET", "/v2/team/app/tags/list?n=99999999999999999999999999", 200, ""),
    ("huge n of the catalogue", "GET", "/v2/_catalog?n=18446744073709551615", 200, ""),
    ("NUL as last tag", "GET", "/v2/team/app/tags/list?last=%00", 400, "TAG_INVALID"),
    ("slash in the last tag", "GET", "/v2/team/app/tags/list?last=a%2Fb", 400, "TAG_INVALID"),
    ("digest as last tag", "GET", "/v2/team/app/tags/list?last=DIGEST", 400, "TAG_INVALID"),
    ("parent folder as last name", "GET", "/v2/_catalog?last=..", 400, "NAME_INVALID"),
    ("traversal as last name", "GET", "/v2/_catalog?last=..%2F..%2Fetc", 400, "NAME_INVALID"),
    ("upper case in the last name", "GET", "/v2/_catalog?last=Team", 400, "NAME_INVALID"),
    ("empty cursor", "GET", "/v2/_catalog?last=~", 400, "NAME_INVALID"),
    ("cursor that is no Base64", "GET", "/v2/_catalog?last=~!!!!", 400, "NAME_INVALID"),
    ("short cursor", "GET", "/v2/_catalog?last=~AAAA", 400, "NAME_INVALID"),
    ("forged cursor", "GET", "/v2/_catalog?last=~AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", 400, "NAME_INVALID"),
    ("tag as last referrer", "GET", "/v2/team/app/referrers/DIGEST?last=v1", 400, "DIGEST_INVALID"),
    ("tags of an unknown repository", "GET", "/v2/team/unknown/tags/list", 404, "NAME_UNKNOWN"),
];

pub fn rows(registry: &Registry) -> Vec<Row<'_>> {
    targets(registry, ROWS)
}

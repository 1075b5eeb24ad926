//! `Range` of downloads (RFC 9110, section 14).

use super::Row;
use crate::harness::Registry;
use landfast::oci::Digest;

/// Asked of a blob of ten bytes. A server may pass over what it doesn't serve, such as several ranges.
const ROWS: &[(&str, &str, u16)] = &[
    ("range without unit", "0-1", 416),
    ("range of nothing", "bytes", 416),
    ("range without numbers", "bytes=", 416),
    ("range of a dash", "bytes=-", 416),
    ("range of words", "bytes=a-b", 416),
    ("reversed range", "bytes=5-4", 416),
    ("range with a sign", "bytes=+1-2", 416),
    ("range from a negative number", "bytes=-1-2", 416),
    ("range to a negative number", "bytes=1--2", 416),
    ("range of hexadecimal numbers", "bytes=0x1-0x2", 416),
    ("range of fractions", "bytes=1.0-2.0", 416),
    ("range with a blank", "bytes=0 -1", 416),
    ("range of one number", "bytes=1", 416),
    ("range of three numbers", "bytes=1-2-3", 416),
    ("last none", "bytes=-0", 416),
    ("range from the end", "bytes=10-", 416),
    ("range beyond the end", "bytes=10-20", 416),
    ("range from a number of 20 digits", "bytes=99999999999999999999-", 416),
    ("range from the greatest number", "bytes=18446744073709551615-", 416),
    ("range to a number of 20 digits", "bytes=0-99999999999999999999", 206),
    ("last so many that no number holds it", "bytes=-99999999999999999999", 206),
    ("several ranges", "bytes=0-1,3-4", 200),
    ("several malformed ranges", "bytes=x,y", 200),
    ("other unit", "lines=0-1", 200),
];

pub fn rows(registry: &Registry) -> Vec<Row<'_>> {
    let blob = format!("/v2/team/app/blobs/{}", Digest::sha256(b"0123456789"));
    let row = |&(name, range, status): &(&str, &str, u16)| {
        let code = if status == 416 { "SIZE_INVALID" } else { "" };
        Row::new(name, registry.by("dev", "GET", &blob).header("range", range), status, code)
    };
    let mut rows: Vec<_> = ROWS.iter().map(row).collect();
    let twice = registry.by("dev", "GET", &blob).header("range", "bytes=0-1").header("range", "bytes=3-4");
    rows.push(Row::new("two Range headers", twice, 200, ""));
    rows
}

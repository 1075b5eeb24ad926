//! Repositories, tags and references that can't be.

use super::{Row, Target, targets};
use crate::harness::Registry;

const ROWS: &[Target] = &[
    ("upper case in a name", "GET", "/v2/Team/manifests/v1", 400, "NAME_INVALID"),
    ("upper case behind a slash", "GET", "/v2/team/App/manifests/v1", 400, "NAME_INVALID"),
    ("no name", "GET", "/v2//manifests/v1", 400, "NAME_INVALID"),
    ("no name and no slash", "GET", "/v2/manifests/v1", 400, "NAME_INVALID"),
    ("empty component", "GET", "/v2/team//app/manifests/v1", 400, "NAME_INVALID"),
    ("slash at the start", "GET", "/v2//team/app/manifests/v1", 400, "NAME_INVALID"),
    ("slash at the end", "GET", "/v2/team/app//manifests/v1", 400, "NAME_INVALID"),
    ("this folder", "GET", "/v2/team/./app/manifests/v1", 400, "NAME_INVALID"),
    ("parent folder", "GET", "/v2/team/../x/manifests/v1", 400, "NAME_INVALID"),
    ("encoded parent folder", "GET", "/v2/team/%2e%2e/x/manifests/v1", 400, "NAME_INVALID"),
    ("encoded slashes around a parent folder", "GET", "/v2/team%2f..%2fx/manifests/v1", 400, "NAME_INVALID"),
    ("parent folder encoded twice", "GET", "/v2/team/%252e%252e/x/manifests/v1", 400, "NAME_INVALID"),
    ("parent folder of Windows", "GET", "/v2/team%5c..%5cx/manifests/v1", 400, "NAME_INVALID"),
    ("absolute path", "GET", "/v2/%2fetc%2fpasswd/manifests/v1", 400, "NAME_INVALID"),
    ("three dots", "GET", "/v2/team/.../manifests/v1", 400, "NAME_INVALID"),
    ("NUL in a name", "GET", "/v2/te%00am/manifests/v1", 400, "NAME_INVALID"),
    ("line feed in a name", "GET", "/v2/team%0a/manifests/v1", 400, "NAME_INVALID"),
    ("header in a name", "GET", "/v2/team%0d%0aX:%20y/manifests/v1", 400, "NAME_INVALID"),
    ("blank in a name", "GET", "/v2/te%20am/manifests/v1", 400, "NAME_INVALID"),
    ("plus sign in a name", "GET", "/v2/te+am/manifests/v1", 400, "NAME_INVALID"),
    ("umlaut", "GET", "/v2/t%c3%a4m/manifests/v1", 400, "NAME_INVALID"),
    ("Cyrillic letter that looks Latin", "GET", "/v2/te%d0%b0m/manifests/v1", 400, "NAME_INVALID"),
    ("full-width letters", "GET", "/v2/%ef%bd%81/manifests/v1", 400, "NAME_INVALID"),
    ("text from right to left", "GET", "/v2/team%e2%80%aeapp/manifests/v1", 400, "NAME_INVALID"),
    ("zero-width blank", "GET", "/v2/team%e2%80%8b/manifests/v1", 400, "NAME_INVALID"),
    ("dash at the start", "GET", "/v2/-team/manifests/v1", 400, "NAME_INVALID"),
    ("dot at the end", "GET", "/v2/team./manifests/v1", 400, "NAME_INVALID"),
    ("underscore at the start", "GET", "/v2/_team/manifests/v1", 400, "NAME_INVALID"),
    ("three underscores", "GET", "/v2/a___b/manifests/v1", 400, "NAME_INVALID"),
    ("two dots inside", "GET", "/v2/a..b/manifests/v1", 400, "NAME_INVALID"),
    ("two kinds of separators", "GET", "/v2/a.-b/manifests/v1", 400, "NAME_INVALID"),
    ("host in a name", "GET", "/v2/registry.example:5000/app/manifests/v1", 400, "NAME_INVALID"),
    ("at sign", "GET", "/v2/team@x/manifests/v1", 400, "NAME_INVALID"),
    ("encoded question mark", "GET", "/v2/team%3fn=1/manifests/v1", 400, "NAME_INVALID"),
    ("encoded fragment", "GET", "/v2/team%23x/manifests/v1", 400, "NAME_INVALID"),
    ("wildcard", "GET", "/v2/team/*/manifests/v1", 400, "NAME_INVALID"),
    ("name of a blob", "GET", "/v2/Team/blobs/DIGEST", 400, "NAME_INVALID"),
    ("name of a blob, HEAD", "HEAD", "/v2/Team/blobs/DIGEST", 400, ""),
    ("name of an upload", "POST", "/v2/Team/blobs/uploads/", 400, "NAME_INVALID"),
    ("name of tags", "GET", "/v2/Team/tags/list", 400, "NAME_INVALID"),
    ("name of referrers", "GET", "/v2/Team/referrers/DIGEST", 400, "NAME_INVALID"),
    ("name of a pushed manifest", "PUT", "/v2/Team/manifests/v1", 400, "NAME_INVALID"),
    ("name of a deleted manifest", "DELETE", "/v2/Team/manifests/v1", 400, "NAME_INVALID"),
    ("percent sign without digits", "GET", "/v2/te%zzam/manifests/v1", 400, "UNSUPPORTED"),
    ("percent sign at the end", "GET", "/v2/team/app/manifests/v1%", 400, "UNSUPPORTED"),
    ("escape that is cut", "GET", "/v2/team/app/manifests/v1%2", 400, "UNSUPPORTED"),
    ("escape in UTF-16's form", "GET", "/v2/te%u0061m/manifests/v1", 400, "UNSUPPORTED"),
    ("not UTF-8", "GET", "/v2/te%ffam/manifests/v1", 400, "UNSUPPORTED"),
    ("dots in overlong UTF-8", "GET", "/v2/team/%c0%ae%c0%ae/x/manifests/v1", 400, "UNSUPPORTED"),
    ("half of a surrogate pair", "GET", "/v2/%ed%a0%80/manifests/v1", 400, "UNSUPPORTED"),
    ("query that can't be decoded", "GET", "/v2/team/app/tags/list?n=%z", 400, "UNSUPPORTED"),
    ("tag with a dot at the start", "GET", "/v2/team/app/manifests/.INVALID_MANIFEST_NAME", 404, "MANIFEST_UNKNOWN"),
    ("tag with a dot at the start, HEAD", "HEAD", "/v2/team/app/manifests/.x", 404, ""),
    ("tag with a dot at the start, DELETE", "DELETE", "/v2/team/app/manifests/.x", 404, "MANIFEST_UNKNOWN"),
    ("unknown tag", "GET", "/v2/team/app/manifests/v9", 404, "MANIFEST_UNKNOWN"),
    ("tag of an unknown repository", "GET", "/v2/team/unknown/manifests/v1", 404, "MANIFEST_UNKNOWN"),
    ("push of a tag with a dot at the start", "PUT", "/v2/team/app/manifests/.x", 400, "TAG_INVALID"),
    ("push of a tag with a dash at the start", "PUT", "/v2/team/app/manifests/-x", 400, "TAG_INVALID"),
    ("push of no tag", "PUT", "/v2/team/app/manifests/", 400, "TAG_INVALID"),
    ("push of a parent folder", "PUT", "/v2/team/app/manifests/..", 400, "TAG_INVALID"),
    ("push of an encoded parent folder", "PUT", "/v2/team/app/manifests/%2e%2e", 400, "TAG_INVALID"),
    ("push of a tag with a blank", "PUT", "/v2/team/app/manifests/a%20b", 400, "TAG_INVALID"),
    ("push of a tag with a plus sign", "PUT", "/v2/team/app/manifests/v1+build", 400, "TAG_INVALID"),
    ("push of a tag with NUL", "PUT", "/v2/team/app/manifests/v1%00", 400, "TAG_INVALID"),
    ("push of a tag with a line feed", "PUT", "/v2/team/app/manifests/v1%0a", 400, "TAG_INVALID"),
    ("push of an umlaut", "PUT", "/v2/team/app/manifests/%c3%a4", 400, "TAG_INVALID"),
    ("push of a tag with a digest", "PUT", "/v2/team/app/manifests/v1@DIGEST", 400, "DIGEST_INVALID"),
    ("push of a tag with a slash", "PUT", "/v2/team/app/manifests/a%2fb", 404, "UNSUPPORTED"),
];

pub fn rows(registry: &Registry) -> Vec<Row<'_>> {
    let mut rows = targets(registry, ROWS);
    let long = |path: String, status, code, name: &str| Row::new(name, registry.by("dev", "PUT", &path), status, code);
    rows.extend([
        long(format!("/v2/{}/manifests/v1", "a".repeat(256)), 400, "NAME_INVALID", "256 bytes"),
        long(format!("/v2/{}b/manifests/v1", "a/".repeat(128)), 400, "NAME_INVALID", "257 bytes of components"),
        long(format!("/v2/{}/manifests/v1", "a".repeat(60_000)), 400, "NAME_INVALID", "60,000 bytes"),
        long(format!("/v2/team/app/manifests/{}", "a".repeat(129)), 400, "TAG_INVALID", "tag of 129 bytes"),
        long(format!("/v2/team/app/manifests/{}", "a".repeat(60_000)), 400, "TAG_INVALID", "tag of 60,000 bytes"),
    ]);
    for (name, host) in [
        ("quotation mark in the host", "a\"b"),
        ("slash in the host", "a/b"),
        ("blank in the host", "a b"),
        ("user in the host", "u@registry.example"),
        ("two hosts in one", "a,b"),
        ("empty host", ""),
        ("host of 301 bytes", &"a".repeat(301)),
    ] {
        rows.push(Row::new(name, registry.request("GET", "/v2/").host(host), 400, "UNSUPPORTED"));
    }
    rows
}

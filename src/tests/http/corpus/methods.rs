//! Methods and paths that nothing answers to.

use super::{Row, Target, targets};
use crate::harness::Registry;

const ROWS: &[Target] = &[
    ("POST to the base", "POST", "/v2/", 405, "UNSUPPORTED"),
    ("DELETE of the base", "DELETE", "/v2/", 405, "UNSUPPORTED"),
    ("OPTIONS of the base", "OPTIONS", "/v2/", 405, "UNSUPPORTED"),
    ("TRACE of the base", "TRACE", "/v2/", 405, "UNSUPPORTED"),
    ("made-up method", "BREW", "/v2/", 405, "UNSUPPORTED"),
    ("lower-case method", "get", "/v2/", 405, "UNSUPPORTED"),
    ("DELETE of the catalogue", "DELETE", "/v2/_catalog", 405, "UNSUPPORTED"),
    ("POST to tags", "POST", "/v2/team/app/tags/list", 405, "UNSUPPORTED"),
    ("DELETE of tags", "DELETE", "/v2/team/app/tags/list", 405, "UNSUPPORTED"),
    ("POST of a manifest", "POST", "/v2/team/app/manifests/v1", 405, "UNSUPPORTED"),
    ("PATCH of a manifest", "PATCH", "/v2/team/app/manifests/v1", 405, "UNSUPPORTED"),
    ("PUT of a blob", "PUT", "/v2/team/app/blobs/DIGEST", 405, "UNSUPPORTED"),
    ("POST of a blob", "POST", "/v2/team/app/blobs/DIGEST", 405, "UNSUPPORTED"),
    ("GET of all uploads", "GET", "/v2/team/app/blobs/uploads/", 405, "UNSUPPORTED"),
    ("DELETE of all uploads", "DELETE", "/v2/team/app/blobs/uploads/", 405, "UNSUPPORTED"),
    ("POST to an upload", "POST", "/v2/team/app/blobs/uploads/x", 405, "UNSUPPORTED"),
    ("PUT of referrers", "PUT", "/v2/team/app/referrers/DIGEST", 405, "UNSUPPORTED"),
    ("PUT of a token", "PUT", "/token", 405, "UNSUPPORTED"),
    ("HEAD of a token", "HEAD", "/token", 405, ""),
    ("unknown endpoint", "GET", "/v2/team/app/layers/x", 404, "UNSUPPORTED"),
    ("unknown endpoint of the registry", "GET", "/v2/_search", 404, "UNSUPPORTED"),
    ("tags without list", "GET", "/v2/team/app/tags/", 404, "UNSUPPORTED"),
    ("upload without a name", "POST", "/v2/blobs/uploads/", 404, "UNSUPPORTED"),
    ("path of somebody else", "GET", "/admin", 404, "UNSUPPORTED"),
    ("path beside the base", "GET", "/v2x/", 404, "UNSUPPORTED"),
    ("upper-case base", "GET", "/V2/", 404, "UNSUPPORTED"),
    ("base behind a slash", "GET", "//v2/", 404, "UNSUPPORTED"),
    ("token below the base", "GET", "/v2/token", 404, "UNSUPPORTED"),
    ("token and a slash", "GET", "/token/", 404, "UNSUPPORTED"),
    ("version 1", "GET", "/v1/_ping", 404, "UNSUPPORTED"),
];

pub fn rows(registry: &Registry) -> Vec<Row<'_>> {
    targets(registry, ROWS)
}

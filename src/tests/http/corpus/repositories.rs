//! Repositories that are asked for in impossible ways.

use super::{Row, Target, targets};
use crate::harness::Registry;

const ROWS: &[Target] = &[
    ("POST to repositories", "POST", "/api/v1/repositories", 405, "UNSUPPORTED"),
    ("DELETE of all repositories", "DELETE", "/api/v1/repositories", 405, "UNSUPPORTED"),
    ("PUT of a repository", "PUT", "/api/v1/repositories/team/app", 405, "UNSUPPORTED"),
    ("PATCH of a repository", "PATCH", "/api/v1/repositories/team/app", 405, "UNSUPPORTED"),
    ("API without a version", "GET", "/api/repositories", 404, "UNSUPPORTED"),
    ("other version of the API", "GET", "/api/v2/repositories", 404, "UNSUPPORTED"),
    ("unknown list of the API", "GET", "/api/v1/projects", 404, "UNSUPPORTED"),
    ("glued to repositories", "GET", "/api/v1/repositoriesteam/app", 404, "UNSUPPORTED"),
    ("repository without a name", "GET", "/api/v1/repositories/", 400, "NAME_INVALID"),
    ("DELETE of no repository", "DELETE", "/api/v1/repositories/", 400, "NAME_INVALID"),
    ("repository with an end slash", "GET", "/api/v1/repositories/team/app/", 400, "NAME_INVALID"),
    ("upper-case repository", "GET", "/api/v1/repositories/Team/app", 400, "NAME_INVALID"),
    ("traversal to a repository", "DELETE", "/api/v1/repositories/team/../base", 400, "NAME_INVALID"),
    ("encoded traversal to a repository", "DELETE", "/api/v1/repositories/team%2f%2e%2e%2fbase", 400, "NAME_INVALID"),
    ("NUL in a repository", "GET", "/api/v1/repositories/team%00", 400, "NAME_INVALID"),
    ("bad escape in a repository", "GET", "/api/v1/repositories/team%2", 400, "UNSUPPORTED"),
    ("unknown repository", "GET", "/api/v1/repositories/team/unknown", 404, "NAME_UNKNOWN"),
    ("repository of others", "GET", "/api/v1/repositories/base/app", 404, "NAME_UNKNOWN"),
    ("DELETE of a repository without the right", "DELETE", "/api/v1/repositories/team/unknown", 403, "DENIED"),
    ("lower-case type of images", "GET", "/api/v1/repositories?imageType=build", 400, "UNSUPPORTED"),
    ("unknown type of images", "GET", "/v2/_catalog?imageType=Runtime", 400, "UNSUPPORTED"),
    ("negative n of repositories", "GET", "/api/v1/repositories?n=-1", 400, "PAGINATION_NUMBER_INVALID"),
    ("huge n of repositories", "GET", "/api/v1/repositories?n=18446744073709551615", 200, ""),
    ("parent folder as last repository", "GET", "/api/v1/repositories?last=..", 400, "NAME_INVALID"),
    ("forged cursor of repositories", "GET", "/api/v1/repositories?last=~AAAAAAAAAAAAAAAA", 400, "NAME_INVALID"),
];

pub fn rows(registry: &Registry) -> Vec<Row<'_>> {
    let long = format!("/api/v1/repositories/{}", ["team/", &"a".repeat(4000)].concat());
    let mut rows = targets(registry, ROWS);
    rows.push(Row::new("long repository", registry.by("dev", "DELETE", &long), 400, "NAME_INVALID"));
    rows
}

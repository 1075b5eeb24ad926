//! From method, path and query to a [`Route`]: the one parser of URLs.
//!
//! Repository names contain slashes, and their components may be called `blobs` or `tags`. So a path is read from its
//! end: what an endpoint is called stands at a fixed place there, and whatever is before it is the name
//! (distribution-spec, "Endpoints").

use http::Method;

use super::percent::{self, DecodeError};
use super::repositories::image_type_name;
use super::upload_ids::SealedUpload;
use crate::oci::{Digest, DigestError, NameError, Reference, RepositoryName, Tag};
use crate::policy::{Action, ImageType, Operation};
use crate::registry::auth::{TokenRequest, TokenRequestError};

/// Entries of a listing, if the client doesn't say how many it wants, and the most that it gets.
pub const MAX_PAGE: usize = 10_000;

/// Where the registry's own API begins.
const REPOSITORIES: &str = "/api/v1/repositories";

/// A request that makes sense, as far as its URL tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    Base,
    Catalog(Listing),
    Tags { repository: RepositoryName, n: usize, last: Option<Tag> },
    ManifestGet { repository: RepositoryName, reference: Reference },
    ManifestHead { repository: RepositoryName, reference: Reference },
    ManifestPut { repository: RepositoryName, reference: Reference },
    ManifestDelete { repository: RepositoryName, reference: Reference },
    BlobGet { repository: RepositoryName, digest: Digest },
    BlobHead { repository: RepositoryName, digest: Digest },
    BlobDelete { repository: RepositoryName, digest: Digest },
    UploadStart { repository: RepositoryName, mount: Option<Mount>, digest: Option<Digest> },
    UploadStatus { repository: RepositoryName, id: SealedUpload },
    UploadPatch { repository: RepositoryName, id: SealedUpload },
    UploadPut { repository: RepositoryName, id: SealedUpload, digest: Digest },
    UploadCancel { repository: RepositoryName, id: SealedUpload },
    Referrers { repository: RepositoryName, digest: Digest, query: ReferrersQuery },
    Repositories(Listing),
    RepositoryGet { repository: RepositoryName },
    RepositoryDelete { repository: RepositoryName },
    TokenGet(TokenRequest),
    TokenPost,
}

/// Which repositories are to be listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    pub image_type: Option<ImageType>,
    pub n: usize,
    /// As a client has it from a page before, or as it has made it up.
    pub last: Option<String>,
}

/// A blob that is to be taken over from another repository. Some clients don't say from which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    pub digest: Digest,
    pub from: Option<RepositoryName>,
}

/// What a route is about, where it is about something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Target<'a> {
    pub repository: Option<&'a RepositoryName>,
    pub reference: Option<&'a Reference>,
    pub digest: Option<&'a Digest>,
}

/// Which part of a list of referrers is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReferrersQuery {
    pub artifact_type: Option<String>,
    pub n: usize,
    pub last: Option<Digest>,
}

/// Why a request makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    #[error("nothing is served under this path")]
    NotFound,
    #[error("this method is not supported here")]
    Method { allow: &'static str },
    #[error(transparent)]
    Url(#[from] DecodeError),
    #[error("{0}")]
    Name(NameError),
    #[error("{0}")]
    Tag(NameError),
    #[error("{0}")]
    Digest(#[from] DigestError),
    #[error("the parameter digest is missing: it says what has been uploaded")]
    DigestMissing,
    /// Asked for under a name that no tag can have: it isn't there.
    #[error("manifest is not known to this repository")]
    ImpossibleTag,
    #[error("upload is not known to this repository")]
    ImpossibleUpload,
    #[error("the parameter n must be a number that is not negative")]
    PageSize,
    #[error("the parameter imageType must be Base or Build")]
    ImageType,
    #[error(transparent)]
    Token(#[from] TokenRequestError),
}

impl Route {
    /// Parses the path and the query as they stand in the request, still encoded.
    pub fn parse(method: &Method, path: &str, query: &str) -> Result<Self, RouteError> {
        let path = percent::decode_path(path)?;
        if path == "/token" {
            return parse_token(method, query);
        }
        if let Some(rest) = path.strip_prefix(REPOSITORIES) {
            return parse_repositories(method, rest, query);
        }
        let rest = match path.strip_prefix("/v2") {
            Some("") => "",
            Some(rest) => rest.strip_prefix('/').ok_or(RouteError::NotFound)?,
            None => return Err(RouteError::NotFound),
        };
        match rest {
            "" => read_only(method).map(|()| Route::Base),
            "_catalog" => {
                read_only(method)?;
                Ok(Route::Catalog(Query::parse(query)?.listing()?))
            }
            rest => parse_endpoint(method, rest, query),
        }
    }

    /// What has to be permitted, if the route is about one repository.
    pub fn operation(&self) -> Option<Operation> {
        let (action, repository) = match self {
            Route::Base | Route::Catalog(_) | Route::Repositories(_) | Route::TokenGet(_) | Route::TokenPost => {
                return None;
            }
            Route::RepositoryGet { repository } => (Action::View, repository),
            Route::RepositoryDelete { repository } => (Action::DeleteRepository, repository),
            Route::Tags { repository, .. }
            | Route::ManifestGet { repository, .. }
            | Route::ManifestHead { repository, .. }
            | Route::BlobGet { repository, .. }
            | Route::BlobHead { repository, .. }
            | Route::Referrers { repository, .. } => (Action::Pull, repository),
            // An upload's status is for who makes it, not for whoever may pull.
            Route::ManifestPut { repository, .. }
            | Route::UploadStart { repository, .. }
            | Route::UploadStatus { repository, .. }
            | Route::UploadPatch { repository, .. }
            | Route::UploadPut { repository, .. }
            | Route::UploadCancel { repository, .. } => (Action::Push, repository),
            Route::ManifestDelete { repository, .. } | Route::BlobDelete { repository, .. } => {
                (Action::Delete, repository)
            }
        };
        Some(Operation { action, repository: repository.clone() })
    }

    /// The repository that a blob is to be mounted from.
    pub fn mount_source(&self) -> Option<&RepositoryName> {
        match self {
            Route::UploadStart { mount: Some(mount), .. } => mount.from.as_ref(),
            _ => None,
        }
    }

    /// What the request is about, for audits.
    pub fn target(&self) -> Target<'_> {
        let (repository, reference, digest) = match self {
            Route::Base | Route::Catalog(_) | Route::Repositories(_) | Route::TokenGet(_) | Route::TokenPost => {
                return Target::default();
            }
            Route::RepositoryGet { repository }
            | Route::RepositoryDelete { repository }
            | Route::Tags { repository, .. }
            | Route::UploadStatus { repository, .. }
            | Route::UploadPatch { repository, .. }
            | Route::UploadCancel { repository, .. } => (repository, None, None),
            Route::ManifestGet { repository, reference }
            | Route::ManifestHead { repository, reference }
            | Route::ManifestPut { repository, reference }
            | Route::ManifestDelete { repository, reference } => (repository, Some(reference), None),
            Route::BlobGet { repository, digest }
            | Route::BlobHead { repository, digest }
            | Route::BlobDelete { repository, digest }
            | Route::UploadPut { repository, digest, .. }
            | Route::Referrers { repository, digest, .. } => (repository, None, Some(digest)),
            Route::UploadStart { repository, mount, digest } => {
                (repository, None, mount.as_ref().map(|mount| &mount.digest).or(digest.as_ref()))
            }
        };
        Target { repository: Some(repository), reference, digest }
    }

    /// The endpoint, for metrics: a small and fixed set.
    pub const fn name(&self) -> &'static str {
        match self {
            Route::Base => "base",
            Route::Catalog(_) => "catalog",
            Route::Tags { .. } => "tags",
            Route::ManifestGet { .. }
            | Route::ManifestHead { .. }
            | Route::ManifestPut { .. }
            | Route::ManifestDelete { .. } => "manifest",
            Route::BlobGet { .. } | Route::BlobHead { .. } | Route::BlobDelete { .. } => "blob",
            Route::UploadStart { .. }
            | Route::UploadStatus { .. }
            | Route::UploadPatch { .. }
            | Route::UploadPut { .. }
            | Route::UploadCancel { .. } => "upload",
            Route::Referrers { .. } => "referrers",
            Route::Repositories(_) => "repositories",
            Route::RepositoryGet { .. } | Route::RepositoryDelete { .. } => "repository",
            Route::TokenGet(_) | Route::TokenPost => "token",
        }
    }
}

fn parse_token(method: &Method, query: &str) -> Result<Route, RouteError> {
    match *method {
        Method::GET => Ok(Route::TokenGet(TokenRequest::from_query(&percent::decode_query(query)?)?)),
        Method::POST => Ok(Route::TokenPost),
        _ => Err(RouteError::Method { allow: "GET, POST" }),
    }
}

/// What follows [`REPOSITORIES`]: nothing, or a name.
fn parse_repositories(method: &Method, rest: &str, query: &str) -> Result<Route, RouteError> {
    if rest.is_empty() {
        read_only(method)?;
        return Ok(Route::Repositories(Query::parse(query)?.listing()?));
    }
    let name = rest.strip_prefix('/').ok_or(RouteError::NotFound)?;
    match *method {
        Method::GET | Method::HEAD => Ok(Route::RepositoryGet { repository: parse_name(name)? }),
        Method::DELETE => Ok(Route::RepositoryDelete { repository: parse_name(name)? }),
        _ => Err(RouteError::Method { allow: "GET, HEAD, DELETE" }),
    }
}

/// `<name>/<endpoint>`, read from its end.
fn parse_endpoint(method: &Method, rest: &str, query: &str) -> Result<Route, RouteError> {
    let (before, last) = rest.rsplit_once('/').ok_or(RouteError::NotFound)?;
    let (name, marker) = before.rsplit_once('/').unwrap_or(("", before));
    match (marker, last) {
        ("tags", "list") => {
            read_only(method)?;
            let repository = parse_name(name)?;
            let Paging { n, last } = Query::parse(query)?.paging()?;
            let last = last.map(|last| last.parse()).transpose().map_err(RouteError::Tag)?;
            Ok(Route::Tags { repository, n, last })
        }
        ("manifests", reference) => parse_manifest(method, name, reference),
        ("blobs", "uploads") => parse_upload_start(method, name, query),
        ("blobs", digest) => parse_blob(method, name, digest),
        ("referrers", digest) => {
            read_only(method)?;
            let repository = parse_name(name)?;
            let digest = digest.parse()?;
            let mut query = Query::parse(query)?;
            let artifact_type = query.take("artifactType").filter(|text| !text.is_empty());
            let Paging { n, last } = query.paging()?;
            let last = last.map(|last| last.parse()).transpose()?;
            Ok(Route::Referrers { repository, digest, query: ReferrersQuery { artifact_type, n, last } })
        }
        ("uploads", id) => match name.rsplit_once('/') {
            Some((name, "blobs")) if id.is_empty() => parse_upload_start(method, name, query),
            Some((name, "blobs")) => parse_upload(method, name, id, query),
            _ => Err(RouteError::NotFound),
        },
        _ => Err(RouteError::NotFound),
    }
}

fn parse_manifest(method: &Method, name: &str, reference: &str) -> Result<Route, RouteError> {
    const ALLOW: &str = "GET, HEAD, PUT, DELETE";
    if ![Method::GET, Method::HEAD, Method::PUT, Method::DELETE].contains(method) {
        return Err(RouteError::Method { allow: ALLOW });
    }
    let repository = parse_name(name)?;
    let reference = reference.parse().map_err(|error| match error {
        NameError::Digest(error) => RouteError::Digest(error),
        error if *method == Method::PUT => RouteError::Tag(error),
        _ => RouteError::ImpossibleTag,
    })?;
    match *method {
        Method::GET => Ok(Route::ManifestGet { repository, reference }),
        Method::HEAD => Ok(Route::ManifestHead { repository, reference }),
        Method::PUT => Ok(Route::ManifestPut { repository, reference }),
        Method::DELETE => Ok(Route::ManifestDelete { repository, reference }),
        _ => Err(RouteError::Method { allow: ALLOW }),
    }
}

fn parse_blob(method: &Method, name: &str, digest: &str) -> Result<Route, RouteError> {
    const ALLOW: &str = "GET, HEAD, DELETE";
    if ![Method::GET, Method::HEAD, Method::DELETE].contains(method) {
        return Err(RouteError::Method { allow: ALLOW });
    }
    let (repository, digest) = (parse_name(name)?, digest.parse()?);
    match *method {
        Method::GET => Ok(Route::BlobGet { repository, digest }),
        Method::HEAD => Ok(Route::BlobHead { repository, digest }),
        Method::DELETE => Ok(Route::BlobDelete { repository, digest }),
        _ => Err(RouteError::Method { allow: ALLOW }),
    }
}

fn parse_upload_start(method: &Method, name: &str, query: &str) -> Result<Route, RouteError> {
    if *method != Method::POST {
        return Err(RouteError::Method { allow: "POST" });
    }
    let repository = parse_name(name)?;
    let mut query = Query::parse(query)?;
    let mount = match query.take("mount") {
        Some(digest) => {
            let from = query.take("from").filter(|from| !from.is_empty());
            Some(Mount { digest: digest.parse()?, from: from.as_deref().map(parse_name).transpose()? })
        }
        None => None,
    };
    let digest = query.take("digest").map(|digest| digest.parse()).transpose()?;
    Ok(Route::UploadStart { repository, mount, digest })
}

fn parse_upload(method: &Method, name: &str, id: &str, query: &str) -> Result<Route, RouteError> {
    const ALLOW: &str = "GET, HEAD, PATCH, PUT, DELETE";
    if ![Method::GET, Method::HEAD, Method::PATCH, Method::PUT, Method::DELETE].contains(method) {
        return Err(RouteError::Method { allow: ALLOW });
    }
    let repository = parse_name(name)?;
    let id = id.parse().map_err(|_| RouteError::ImpossibleUpload)?;
    match *method {
        Method::GET | Method::HEAD => Ok(Route::UploadStatus { repository, id }),
        Method::PATCH => Ok(Route::UploadPatch { repository, id }),
        Method::PUT => {
            let digest = Query::parse(query)?.take("digest").ok_or(RouteError::DigestMissing)?.parse()?;
            Ok(Route::UploadPut { repository, id, digest })
        }
        Method::DELETE => Ok(Route::UploadCancel { repository, id }),
        _ => Err(RouteError::Method { allow: ALLOW }),
    }
}

fn read_only(method: &Method) -> Result<(), RouteError> {
    if *method == Method::GET || *method == Method::HEAD {
        Ok(())
    } else {
        Err(RouteError::Method { allow: "GET, HEAD" })
    }
}

fn parse_name(name: &str) -> Result<RepositoryName, RouteError> {
    name.parse().map_err(RouteError::Name)
}

struct Paging {
    n: usize,
    last: Option<String>,
}

/// A decoded query. A parameter that is given twice counts once, the first time.
struct Query(Vec<(String, String)>);

impl Query {
    fn parse(query: &str) -> Result<Self, RouteError> {
        Ok(Self(percent::decode_query(query)?))
    }

    fn take(&mut self, name: &str) -> Option<String> {
        let (_, value) = self.0.iter_mut().find(|(candidate, _)| candidate == name)?;
        Some(std::mem::take(value))
    }

    fn listing(&mut self) -> Result<Listing, RouteError> {
        let image_type = match self.take("imageType").as_deref() {
            None | Some("") => None,
            Some("Base") => Some(ImageType::Base),
            Some("Build") => Some(ImageType::Build),
            Some(_) => return Err(RouteError::ImageType),
        };
        let Paging { n, last } = self.paging()?;
        Ok(Listing { image_type, n, last })
    }

    fn paging(&mut self) -> Result<Paging, RouteError> {
        let n = match self.take("n") {
            None => MAX_PAGE,
            Some(text) if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) => {
                return Err(RouteError::PageSize);
            }
            // Only a number too great for the type is left as an error, and it means "as many as there are".
            Some(text) => text.parse().unwrap_or(MAX_PAGE).min(MAX_PAGE),
        };
        Ok(Paging { n, last: self.take("last").filter(|last| !last.is_empty()) })
    }
}

/// Where content is to be found. Paths are relative to the host: some clients refuse a redirect to another spelling of
/// the registry's own address.
pub fn blob_location(repository: &RepositoryName, digest: &Digest) -> String {
    format!("/v2/{repository}/blobs/{digest}")
}

pub fn manifest_location(repository: &RepositoryName, digest: &Digest) -> String {
    format!("/v2/{repository}/manifests/{digest}")
}

pub fn upload_location(repository: &RepositoryName, id: &SealedUpload) -> String {
    format!("/v2/{repository}/blobs/uploads/{id}")
}

/// The `Link` header's value for the next page of the tags.
pub fn next_tags(repository: &RepositoryName, n: usize, last: &Tag) -> String {
    format!("</v2/{repository}/tags/list?n={n}&last={}>; rel=\"next\"", percent::encode(last.as_str()))
}

/// The same for referrers, the last of which is given.
pub fn next_referrers(repository: &RepositoryName, digest: &Digest, query: &ReferrersQuery, last: &Digest) -> String {
    let ReferrersQuery { artifact_type, n, last: _ } = query;
    let filter = artifact_type.as_deref().map(|wanted| format!("&artifactType={}", percent::encode(wanted)));
    let filter = filter.unwrap_or_default();
    format!("</v2/{repository}/referrers/{digest}?n={n}&last={last}{filter}>; rel=\"next\"")
}

/// The same for the catalogue.
pub fn next_catalog(listing: &Listing, last: &str) -> String {
    next_listing("/v2/_catalog", listing, last)
}

/// The same for repositories.
pub fn next_repositories(listing: &Listing, last: &str) -> String {
    next_listing(REPOSITORIES, listing, last)
}

fn next_listing(path: &str, listing: &Listing, last: &str) -> String {
    let Listing { image_type, n, last: _ } = listing;
    let filter = image_type.map(|image_type| format!("&imageType={}", image_type_name(image_type))).unwrap_or_default();
    format!("<{path}?n={n}&last={}{filter}>; rel=\"next\"", percent::encode(last))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    const ID: &str = "00000000-0000-4000-8000-000000000000.AAAAAAAAAAAAAAAAAAAAAA";

    fn parse(method: &str, target: &str) -> Result<Route, RouteError> {
        let target = target.replace("DIGEST", EMPTY).replace("ID", ID);
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        Route::parse(&method.parse().unwrap(), path, query)
    }

    fn name(text: &str) -> RepositoryName {
        text.parse().unwrap()
    }

    fn digest() -> Digest {
        EMPTY.parse().unwrap()
    }

    #[rstest]
    #[case::one_component("/v2/app/manifests/v1", "app")]
    #[case::many("/v2/a/b/c/manifests/v1", "a/b/c")]
    #[case::marker_as_component("/v2/a/manifests/manifests/v1", "a/manifests")]
    #[case::other_markers("/v2/blobs/uploads/tags/list/manifests/v1", "blobs/uploads/tags/list")]
    #[case::encoded_slash("/v2/a%2Fb/manifests/v1", "a/b")]
    fn finds_the_name_before_the_endpoint(#[case] path: &str, #[case] expected: &str) {
        let reference = "v1".parse().unwrap();
        assert_eq!(parse("GET", path), Ok(Route::ManifestGet { repository: name(expected), reference }));
    }

    #[test]
    fn components_may_be_called_like_endpoints() {
        let (n, last) = (MAX_PAGE, None);
        assert_eq!(
            parse("GET", "/v2/a/blobs/uploads/tags/list"),
            Ok(Route::Tags { repository: name("a/blobs/uploads"), n, last })
        );
        assert_eq!(
            parse("GET", "/v2/uploads/blobs/DIGEST"),
            Ok(Route::BlobGet { repository: name("uploads"), digest: digest() })
        );
        assert_eq!(
            parse("POST", "/v2/a/blobs/blobs/uploads/"),
            Ok(Route::UploadStart { repository: name("a/blobs"), mount: None, digest: None })
        );
        let id = ID.parse().unwrap();
        assert_eq!(
            parse("PATCH", "/v2/blobs/uploads/blobs/uploads/ID"),
            Ok(Route::UploadPatch { repository: name("blobs/uploads"), id })
        );
    }

    #[rstest]
    #[case::with_slash("/v2/")]
    #[case::without("/v2")]
    fn knows_the_base(#[case] path: &str) {
        assert_eq!(parse("GET", path), Ok(Route::Base));
        assert_eq!(parse("HEAD", path), Ok(Route::Base));
    }

    #[test]
    fn a_mount_may_lack_its_source() {
        let mount = |target| match parse("POST", target) {
            Ok(Route::UploadStart { mount: Some(mount), .. }) => mount,
            other => panic!("{other:?}"),
        };
        let with = mount("/v2/a/blobs/uploads/?mount=DIGEST&from=b%2Fc");
        assert_eq!(with, Mount { digest: digest(), from: Some(name("b/c")) });
        assert_eq!(mount("/v2/a/blobs/uploads?mount=DIGEST"), Mount { digest: digest(), from: None });
    }

    #[rstest]
    #[case::other_path("GET", "/v1/", RouteError::NotFound)]
    #[case::glued("GET", "/v2x", RouteError::NotFound)]
    #[case::no_endpoint("GET", "/v2/app", RouteError::NotFound)]
    #[case::unknown_endpoint("GET", "/v2/app/layers/x", RouteError::NotFound)]
    #[case::no_name("GET", "/v2/manifests/x", RouteError::Name(NameError::NameLength))]
    #[case::upper_case("GET", "/v2/App/manifests/x", RouteError::Name(NameError::NameForm))]
    #[case::parent_folder("GET", "/v2/a/../manifests/x", RouteError::Name(NameError::NameForm))]
    #[case::encoded_parent("GET", "/v2/a%2f%2e%2e/manifests/x", RouteError::Name(NameError::NameForm))]
    #[case::encoded_nul("GET", "/v2/a%00/manifests/x", RouteError::Name(NameError::NameForm))]
    #[case::twice_encoded("GET", "/v2/a%252fb/manifests/x", RouteError::Name(NameError::NameForm))]
    #[case::bad_escape("GET", "/v2/a%2/manifests/x", RouteError::Url(DecodeError))]
    #[case::bad_escape_in_query("GET", "/v2/a/tags/list?last=%zz", RouteError::Url(DecodeError))]
    #[case::impossible_tag("GET", "/v2/a/manifests/.x", RouteError::ImpossibleTag)]
    #[case::impossible_tag("PUT", "/v2/a/manifests/.x", RouteError::Tag(NameError::Tag))]
    #[case::bad_digest(
        "GET",
        "/v2/a/manifests/sha256:x",
        RouteError::Digest(DigestError::BadHex(crate::oci::Algorithm::Sha256))
    )]
    #[case::bad_blob_digest("HEAD", "/v2/a/blobs/x", RouteError::Digest(DigestError::NoSeparator))]
    #[case::bad_mount("POST", "/v2/a/blobs/uploads/?mount=x", RouteError::Digest(DigestError::NoSeparator))]
    #[case::bad_from("POST", "/v2/a/blobs/uploads/?mount=DIGEST&from=B", RouteError::Name(NameError::NameForm))]
    #[case::no_digest("PUT", "/v2/a/blobs/uploads/ID", RouteError::DigestMissing)]
    #[case::bad_upload("GET", "/v2/a/blobs/uploads/x", RouteError::ImpossibleUpload)]
    #[case::negative_page("GET", "/v2/a/tags/list?n=-1", RouteError::PageSize)]
    #[case::word_as_page("GET", "/v2/_catalog?n=all", RouteError::PageSize)]
    #[case::bad_last_tag("GET", "/v2/a/tags/list?last=.x", RouteError::Tag(NameError::Tag))]
    #[case::glued_repositories("GET", "/api/v1/repositoriesx", RouteError::NotFound)]
    #[case::other_api("GET", "/api/v1/", RouteError::NotFound)]
    #[case::no_repository("GET", "/api/v1/repositories/", RouteError::Name(NameError::NameLength))]
    #[case::bad_repository("DELETE", "/api/v1/repositories/a/../b", RouteError::Name(NameError::NameForm))]
    #[case::image_type("GET", "/api/v1/repositories?imageType=build", RouteError::ImageType)]
    #[case::image_type_of_the_catalogue("GET", "/v2/_catalog?imageType=x", RouteError::ImageType)]
    #[case::page_of_repositories("GET", "/api/v1/repositories?n=x", RouteError::PageSize)]
    #[case::method("DELETE", "/api/v1/repositories", RouteError::Method { allow: "GET, HEAD" })]
    #[case::method("PUT", "/api/v1/repositories/a", RouteError::Method { allow: "GET, HEAD, DELETE" })]
    #[case::empty_page("GET", "/v2/_catalog?n=", RouteError::PageSize)]
    #[case::method("POST", "/v2/a/manifests/x", RouteError::Method { allow: "GET, HEAD, PUT, DELETE" })]
    #[case::method("DELETE", "/v2/a/tags/list", RouteError::Method { allow: "GET, HEAD" })]
    #[case::method("GET", "/v2/a/blobs/uploads/", RouteError::Method { allow: "POST" })]
    #[case::method("PUT", "/token", RouteError::Method { allow: "GET, POST" })]
    fn rejects(#[case] method: &str, #[case] target: &str, #[case] expected: RouteError) {
        assert_eq!(parse(method, target), Err(expected));
    }

    #[rstest]
    #[case::given("n=5&last=v1", 5, Some("v1"))]
    #[case::none("", MAX_PAGE, None)]
    #[case::zero("n=0", 0, None)]
    #[case::many("n=99999999999999999999999", MAX_PAGE, None)]
    fn reads_pages(#[case] query: &str, #[case] n: usize, #[case] last: Option<&str>) {
        let listing = Listing { image_type: None, n, last: last.map(str::to_owned) };
        let target = |path: &str| format!("{path}?{query}");
        assert_eq!(parse("GET", &target("/v2/_catalog")), Ok(Route::Catalog(listing.clone())));
        assert_eq!(parse("GET", &target(REPOSITORIES)), Ok(Route::Repositories(listing)));
    }

    #[test]
    fn an_upload_is_its_pushers_business() {
        let action = |method, target| parse(method, target).unwrap().operation().map(|operation| operation.action);
        assert_eq!(action("GET", "/v2/a/blobs/uploads/ID"), Some(Action::Push));
        assert_eq!(action("HEAD", "/v2/a/blobs/DIGEST"), Some(Action::Pull));
        assert_eq!(action("DELETE", "/v2/a/manifests/v1"), Some(Action::Delete));
        assert_eq!(action("GET", "/v2/_catalog"), None);
        assert_eq!(action("GET", "/api/v1/repositories"), None);
        assert_eq!(action("GET", "/api/v1/repositories/a/b"), Some(Action::View));
        assert_eq!(action("DELETE", "/api/v1/repositories/a/b"), Some(Action::DeleteRepository));
    }

    #[test]
    fn a_repository_may_be_called_like_an_endpoint() {
        for (path, expected) in [("tags/list", "tags/list"), ("a%2Fb/manifests/v1", "a/b/manifests/v1"), ("a", "a")] {
            let repository = name(expected);
            assert_eq!(parse("HEAD", &format!("{REPOSITORIES}/{path}")), Ok(Route::RepositoryGet { repository }));
        }
        let listing = Listing { image_type: Some(ImageType::Build), n: 2, last: None };
        assert_eq!(parse("GET", "/api/v1/repositories?imageType=Build&n=2"), Ok(Route::Repositories(listing)));
    }

    proptest::proptest! {
        #[test]
        fn never_panics(method in "GET|PUT|POST|X", path: String, query: String) {
            let method = method.parse().unwrap();
            let _ = Route::parse(&method, &path, &query);
            let _ = Route::parse(&method, &format!("/v2/{path}"), &query);
        }

        #[test]
        fn reads_back_its_own_locations(text in "[a-z]{1,4}(/(blobs|tags|uploads|manifests|list)){0,4}") {
            let location = blob_location(&name(&text), &digest());
            let expected = Route::BlobGet { repository: name(&text), digest: digest() };
            proptest::prop_assert_eq!(parse("GET", &location), Ok(expected));
        }
    }
}

//! The parts that responses are put together from.

use http::header::{ETAG, IF_NONE_MATCH};
use http::response::Builder;
use http::{HeaderMap, HeaderName, Response, StatusCode};

use crate::oci::Digest;

pub const DOCKER_CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
pub const DOCKER_UPLOAD_UUID: HeaderName = HeaderName::from_static("docker-upload-uuid");
pub const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
pub const OCI_FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");

/// A response about the content with this digest.
pub fn about(status: StatusCode, digest: &Digest) -> Builder {
    Response::builder()
        .status(status)
        .header(DOCKER_CONTENT_DIGEST, digest.as_str())
        .header(ETAG, format!("\"{digest}\""))
}

/// Whether the client has this content already (RFC 9110, section 13.1.2).
pub fn is_known_to_client(headers: &HeaderMap, digest: &Digest) -> bool {
    let tags = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    tags.flat_map(|value| value.split(',')).map(str::trim).any(|tag| {
        let tag = tag.strip_prefix("W/").unwrap_or(tag);
        tag == "*" || tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')) == Some(digest.as_str())
    })
}

/// The `Range` of an upload that has received so much. One that has nothing says `0-0`: clients can't read the empty
/// range, and none asks an upload that it has sent nothing to.
pub fn received_range(received: u64) -> String {
    format!("0-{}", received.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compares_entity_tags_weakly() {
        let digest = Digest::sha256(b"");
        let known = |text: String| {
            let headers = HeaderMap::from_iter([(IF_NONE_MATCH, text.parse().unwrap())]);
            is_known_to_client(&headers, &digest)
        };
        assert!(known(format!("\"{digest}\"")));
        assert!(known(format!("\"x\", W/\"{digest}\"")));
        assert!(known("*".to_owned()));
        assert!(!known(digest.to_string()));
        assert!(!is_known_to_client(&HeaderMap::new(), &digest));
    }
}

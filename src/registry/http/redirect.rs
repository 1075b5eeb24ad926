//! Who is sent to the storage itself for the content of a blob.
//!
//! Only clients of which it is known that they follow to another host and leave their credentials behind; all others
//! get the content from here.

use http::header::{HOST, USER_AGENT};
use http::uri::Authority;
use http::{HeaderMap, Uri};

/// How the products announce themselves (RFC 9110, section 10.1.5), in lower case.
const FOLLOWERS: &[&str] = &[
    "buildah",
    "buildkit",
    "containerd",
    "containers",
    "cosign",
    "cri-o",
    "crane",
    "docker",
    "go-containerregistry",
    "helm",
    "kaniko",
    "libpod",
    "nerdctl",
    "oras",
    "oras-go",
    "podman",
    "regclient",
    "skopeo",
];

/// Go's own library refuses to follow to an address in digits, which could be a machine inside of its network.
const NAMES_ONLY: &str = "go-containerregistry";

pub(super) fn may_follow(headers: &HeaderMap) -> bool {
    products(headers).any(|product| FOLLOWERS.contains(&product.as_str()))
}

/// Whether this client can and should use this address.
pub(super) fn is_fit(address: &str, headers: &HeaderMap, over_tls: bool) -> bool {
    let Ok(uri) = address.parse::<Uri>() else { return false };
    // To the same name on another port, or to one below it, Go's clients take their credentials along.
    let asked = headers.get(HOST).and_then(|host| host.to_str().ok()?.parse::<Authority>().ok());
    if let (Some(asked), Some(host)) = (&asked, uri.host())
        && (host == asked.host() || host.strip_suffix(asked.host()).is_some_and(|rest| rest.ends_with('.')))
    {
        return false;
    }
    // What it gets over TLS here must not go over the wire for all to read there.
    if over_tls && uri.scheme_str() != Some("https") {
        return false;
    }
    let is_name = uri.host().is_some_and(|host| host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_err());
    is_name || !products(headers).any(|product| product == NAMES_ONLY || product == "crane")
}

/// `docker/27.1 go/1.22 (linux)` names `docker` and `go`.
fn products(headers: &HeaderMap) -> impl Iterator<Item = String> {
    let text = headers.get(USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let words = text.split([' ', '(', ')', ';', ',']).filter(|word| !word.is_empty());
    words.map(|word| word.split('/').next().unwrap_or(word).to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use rstest::rstest;

    fn agent(text: &str) -> HeaderMap {
        let value = (!text.is_empty()).then(|| (USER_AGENT, HeaderValue::from_str(text).unwrap()));
        value.into_iter().collect()
    }

    #[rstest]
    #[case::docker("docker/27.1.1 go/go1.21 git-commit/cc13f95 kernel/6.1 os/linux arch/amd64", true)]
    #[case::containerd("containerd/1.6.20", true)]
    #[case::skopeo("skopeo/1.9.3", true)]
    #[case::containers("containers/5.23.1 (github.com/containers/image)", true)]
    #[case::nobody("", false)]
    #[case::browser("Mozilla/5.0 (X11; Linux x86_64)", false)]
    #[case::part_of_a_word("dockerish/1.0", false)]
    fn knows_who_follows(#[case] text: &str, #[case] follows: bool) {
        assert_eq!(may_follow(&agent(text)), follows);
    }

    #[rstest]
    #[case::plain("http://s3.example/b", "docker/27", false, true)]
    #[case::downgrade("http://s3.example/b", "docker/27", true, false)]
    #[case::over_tls("https://s3.example/b", "docker/27", true, true)]
    #[case::address("http://10.0.0.1:9000/b", "docker/27", false, true)]
    #[case::address_for_crane("http://10.0.0.1:9000/b", "crane/0.20 go-containerregistry/0.20", false, false)]
    #[case::long_address_for_crane("https://[fd00::1]/b", "go-containerregistry/0.20", true, false)]
    #[case::name_for_crane("https://s3.example/b", "go-containerregistry/0.20", true, true)]
    fn sends_nobody_where_they_should_not_go(
        #[case] address: &str,
        #[case] text: &str,
        #[case] over_tls: bool,
        #[case] fit: bool,
    ) {
        assert_eq!(is_fit(address, &agent(text), over_tls), fit);
    }

    #[rstest]
    #[case::another_port("node.example:30900", false)]
    #[case::below("s3.node.example", false)]
    #[case::beside("other.example", true)]
    #[case::longer("xnode.example", true)]
    fn no_credentials_are_taken_along(#[case] host: &str, #[case] fit: bool) {
        let mut headers = agent("containerd/2.0");
        headers.insert(HOST, HeaderValue::from_static("node.example:30500"));
        assert_eq!(is_fit(&format!("http://{host}/b"), &headers, false), fit);
    }
}

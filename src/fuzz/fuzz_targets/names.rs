//! Repository names, tags, digests and references: what is accepted is printed as it was, and nothing in it can leave a
//! folder or break a header.
#![no_main]

use landfast::oci::{Digest, MediaType, Reference, RepositoryName, Tag};

libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Ok(name) = text.parse::<RepositoryName>() {
        assert_eq!(name.as_str(), text);
        assert!((1..=255).contains(&text.len()));
        assert!(name.components().all(|component| !component.is_empty() && !component.starts_with('.')));
        assert!(name.parents().all(|parent| parent.parse::<RepositoryName>().is_ok()));
    }
    if let Ok(tag) = text.parse::<Tag>() {
        assert_eq!(tag.as_str(), text);
        assert!((1..=128).contains(&text.len()) && !text.contains(['/', ':']) && !text.starts_with('.'));
    }
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.as_str(), text);
        assert_eq!(digest.hex().len(), digest.algorithm().hex_len());
    }
    if let Ok(reference) = text.parse::<Reference>() {
        assert_eq!(reference.to_string(), text);
    }
    if let Ok(media_type) = text.parse::<MediaType>() {
        assert_eq!(media_type.as_str().parse(), Ok(media_type.clone()));
        assert!(media_type.as_str().bytes().all(|byte| byte.is_ascii_graphic()));
    }
});

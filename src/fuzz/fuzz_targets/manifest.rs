//! Manifests, as each of the four kinds: what is accepted is JSON of bounded depth that a client reads in the same way.
#![no_main]

use landfast::oci::{Manifest, ManifestKind, MediaType, check_depth};
use serde_json::Value;

const DEPTH: usize = 32;

/// How deeply a document is nested, found out in another way.
fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

libfuzzer_sys::fuzz_target!(|content: &[u8]| {
    let shallow = check_depth(content, DEPTH).is_ok();
    let document = serde_json::from_slice::<Value>(content);
    if let Ok(document) = &document {
        assert!(depth(document) <= DEPTH || !shallow);
    }
    for media_type in MediaType::MANIFESTS {
        let Ok(manifest) = Manifest::parse(&media_type.parse().expect("a media type"), content) else { continue };
        let Ok(document) = &document else { continue };
        assert_eq!(document["schemaVersion"], 2);
        assert!(document.get("mediaType").is_none_or(|inside| inside.is_null() || inside == media_type));
        let members = match &manifest.kind {
            ManifestKind::Image { layers, .. } => ("layers", layers),
            ManifestKind::Index { manifests } => ("manifests", manifests),
        };
        assert_eq!(document[members.0].as_array().map(Vec::len), Some(members.1.len()));
        assert!(manifest.blobs().chain(manifest.manifests()).all(|descriptor| i64::try_from(descriptor.size).is_ok()));
    }
});

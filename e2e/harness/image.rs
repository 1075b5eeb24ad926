//! Images to push: an OCI image layout of several layers, the same bytes from the same seed.
//!
//! Layers are tar archives without compression, so that what is written here is what a registry gets, byte by byte.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// An image in a folder of its own.
pub struct Image {
    /// The OCI image layout (OCI image specification, "Image Layout").
    pub layout: PathBuf,
    /// Digest of its manifest.
    pub digest: String,
    /// Digests of its layers.
    pub layers: Vec<String>,
}

impl Image {
    /// Builds an image of four layers that runs `sleep` from a static busybox. `random` is the size of its last layer
    /// in bytes.
    pub fn build(folder: &Path, seed: &str, random: usize) -> Self {
        let layout = folder.join(format!("image-{seed}"));
        std::fs::create_dir_all(layout.join("blobs/sha256")).expect("the folder can be written");
        let busybox = std::fs::read("/bin/busybox").expect("busybox-static is installed");
        let layers = [
            tar(&[("bin/busybox", 0o755, &busybox)]),
            tar(&[("etc/seed", 0o644, seed.as_bytes())]),
            tar(&[("data/small", 0o644, &noise(&format!("{seed} small"), 70_000))]),
            tar(&[("data/large", 0o644, &noise(seed, random))]),
        ];
        let layers = layers.map(|layer| blob(&layout, "application/vnd.oci.image.layer.v1.tar", &layer));
        let digests: Vec<_> =
            layers.iter().map(|layer| layer["digest"].as_str().unwrap_or_default().to_owned()).collect();
        let config = json!({
            "architecture": architecture(),
            "os": "linux",
            "config": {"Entrypoint": ["/bin/busybox", "sleep", "86400"], "User": "65532:65532"},
            "rootfs": {"type": "layers", "diff_ids": digests},
        });
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": blob(&layout, "application/vnd.oci.image.config.v1+json", config.to_string().as_bytes()),
            "layers": layers,
        });
        let manifest = blob(&layout, "application/vnd.oci.image.manifest.v1+json", manifest.to_string().as_bytes());
        let digest = manifest["digest"].as_str().unwrap_or_default().to_owned();
        let index = json!({"schemaVersion": 2, "manifests": [manifest]});
        std::fs::write(layout.join("index.json"), index.to_string()).expect("the folder can be written");
        let version = json!({"imageLayoutVersion": "1.0.0"});
        std::fs::write(layout.join("oci-layout"), version.to_string()).expect("the folder can be written");
        Self { layout, digest, layers: digests }
    }
}

/// The digest of content, as the OCI specifications write it.
pub fn digest(content: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(content)))
}

/// Bytes that no compression makes smaller and that are the same for the same seed.
pub fn noise(seed: &str, size: usize) -> Vec<u8> {
    let hash = Sha256::digest(seed.as_bytes());
    let mut state = u64::from_le_bytes(hash[..8].try_into().expect("eight bytes"));
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        // SplitMix64 (Steele, Lea, Flood 2014).
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bytes.extend_from_slice(&(word ^ (word >> 31)).to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

fn blob(layout: &Path, media_type: &str, content: &[u8]) -> Value {
    let digest = digest(content);
    let path = layout.join("blobs").join(digest.replace(':', "/"));
    std::fs::write(path, content).expect("the folder can be written");
    json!({"mediaType": media_type, "digest": digest, "size": content.len()})
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// A tar archive (POSIX.1-1988 "ustar") of plain files.
fn tar(files: &[(&str, u32, &[u8])]) -> Vec<u8> {
    let mut archive = Vec::new();
    for (path, mode, content) in files {
        let mut header = [0_u8; 512];
        let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
        put(0, path);
        put(100, &format!("{mode:07o}"));
        put(108, "0000000");
        put(116, "0000000");
        put(124, &format!("{:011o}", content.len()));
        put(136, "00000000000");
        // The checksum is taken with its own field filled with spaces.
        put(148, "        ");
        put(156, "0");
        put(257, "ustar");
        put(263, "00");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        archive.extend_from_slice(&header);
        archive.extend_from_slice(content);
        archive.resize(archive.len().next_multiple_of(512), 0);
    }
    archive.resize(archive.len() + 1024, 0);
    archive
}

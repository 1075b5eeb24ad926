//! What is stored and what is pushed: bytes that nothing can compress, and their digests.

use aws_lc_rs::digest::{Context, SHA256, digest};
use serde_json::json;

pub const APP: &str = "bench/app";
pub const TAG: &str = "latest";
pub const SMALL_SIZE: usize = 4096;
const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

/// Bytes of a blob that are made at a time.
const PIECE: usize = 1024 * 1024;
/// Layers that the manifest names: a usual image.
const LAYERS: usize = 8;

pub struct Blob {
    pub digest: String,
    pub bytes: Vec<u8>,
}

impl Blob {
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { digest: sha256(&bytes), bytes }
    }
}

pub fn sha256(bytes: &[u8]) -> String {
    named(digest(&SHA256, bytes))
}

/// A finished hash as registries write it.
pub fn named(digest: aws_lc_rs::digest::Digest) -> String {
    format!("sha256:{}", hex::encode(digest))
}

/// What is in [`APP`] on each server.
pub struct Content {
    pub large: Blob,
    pub small: Vec<Blob>,
    pub config: Blob,
    /// An image of the first few small blobs, under [`TAG`].
    pub manifest: Blob,
}

impl Content {
    pub fn make(large: usize, small: usize) -> Self {
        let small: Vec<Blob> = (0..small).map(|seed| Blob::new(noise(SMALL_SIZE, seed as u64 + 1))).collect();
        let config =
            Blob::new(br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#.to_vec());
        let manifest = manifest(&config, &small[..LAYERS]);
        Self { large: Blob::new(noise(large, u64::MAX / 3)), small, config, manifest }
    }
}

pub fn manifest(config: &Blob, layers: &[Blob]) -> Blob {
    let descriptor = |media_type: &str, Blob { digest, bytes }: &Blob| {
        let size = bytes.len();
        json!({"mediaType": media_type, "digest": digest, "size": size})
    };
    let layers: Vec<_> = layers.iter().map(|layer| descriptor(LAYER_TYPE, layer)).collect();
    let value = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": descriptor(CONFIG_TYPE, config),
        "layers": layers,
    });
    Blob::new(value.to_string().into_bytes())
}

/// Blobs that no server has seen: the same noise with another number in front.
pub struct Fresh {
    noise: Vec<u8>,
    count: u64,
}

impl Fresh {
    pub fn new(largest: usize) -> Self {
        Self { noise: noise(largest, now()), count: 0 }
    }

    /// The bytes of the next one, and their digest.
    pub fn next(&mut self, size: usize) -> (&[u8], String) {
        self.count += 1;
        self.noise[..8].copy_from_slice(&self.count.to_le_bytes());
        let bytes = &self.noise[..size];
        (bytes, sha256(bytes))
    }

    /// Several small ones at once.
    pub fn small(&mut self, count: usize) -> Vec<Blob> {
        (0..count).map(|_| Blob::new(self.next(SMALL_SIZE).0.to_vec())).collect()
    }
}

/// A blob that is made while it is sent, so that it may be larger than memory. No server has seen it.
#[derive(Clone, Copy)]
pub struct Made {
    seed: u64,
    pub length: u64,
}

/// Its pieces: the same noise with another number in front of each.
pub struct Pieces {
    noise: Vec<u8>,
    left: u64,
}

impl Made {
    pub fn new(length: u64) -> Self {
        Self { seed: now(), length }
    }

    pub fn pieces(self) -> Pieces {
        Pieces { noise: noise(PIECE, self.seed), left: self.length }
    }

    pub fn digest(self) -> String {
        let (mut pieces, mut context) = (self.pieces(), Context::new(&SHA256));
        while let Some(piece) = pieces.next() {
            context.update(piece);
        }
        named(context.finish())
    }
}

impl Pieces {
    pub fn next(&mut self) -> Option<&[u8]> {
        let length = self.left.min(PIECE as u64);
        self.noise[..8].copy_from_slice(&self.left.to_le_bytes());
        self.left -= length;
        (length > 0).then_some(&self.noise[..length as usize])
    }
}

/// Another seed in each run: a server's folder may have outlived the last one.
fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(1, |time| time.as_nanos() as u64)
}

/// `length` bytes of xorshift64*.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut bytes = vec![0; length];
    for piece in bytes.chunks_mut(8) {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        piece.copy_from_slice(&state.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes()[..piece.len()]);
    }
    bytes
}

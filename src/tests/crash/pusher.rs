//! A client that pushes, and remembers what it was told: what is certain, and what nobody can know because the answer
//! never came.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use landfast::oci::Digest;
use serde_json::json;

use crate::client::{Answer, Connection};
use crate::random::Random;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const BLOB: &str = "application/octet-stream";
const TAGS: [&str; 4] = ["v1", "v2", "Latest", "x"];

/// Whether something is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Yes,
    No,
    /// The request that would have made it so, or not so, was not answered.
    Unknown,
}

struct Image {
    bytes: Vec<u8>,
    blobs: Vec<Digest>,
    subject: Option<Digest>,
    there: Known,
}

/// An upload that was left open.
struct Open {
    location: String,
    whole: Vec<u8>,
    /// Acknowledged.
    sent: usize,
    /// Its last request has been sent.
    ending: bool,
}

pub struct Pusher {
    repository: String,
    random: Random,
    blobs: BTreeMap<Digest, (Vec<u8>, Known)>,
    images: BTreeMap<Digest, Image>,
    /// What a tag may point to; more than one if that is not known.
    tags: BTreeMap<&'static str, BTreeSet<Option<Digest>>>,
    open: Option<Open>,
    acknowledged: usize,
}

impl Pusher {
    pub fn new(number: u64, seed: u64) -> Self {
        Self {
            repository: format!("demo/crash-{number}"),
            random: Random::new(seed),
            blobs: BTreeMap::new(),
            images: BTreeMap::new(),
            tags: TAGS.map(|tag| (tag, BTreeSet::from([None]))).into(),
            open: None,
            acknowledged: 0,
        }
    }

    pub fn acknowledged(&self) -> usize {
        self.acknowledged
    }

    pub fn summary(&self) -> String {
        let Self { repository, blobs, images, acknowledged, .. } = self;
        format!("{repository}: {acknowledged} requests acknowledged, {} blobs, {} images", blobs.len(), images.len())
    }

    pub fn push_until_it_breaks(&mut self, mut connection: Connection) {
        while self.step(&mut connection).is_ok() {}
    }

    /// One thing that a client does.
    fn step(&mut self, to: &mut Connection) -> io::Result<()> {
        match self.random.below(12) {
            0..=2 => self.push_blob(to).map(drop),
            3 => self.go_on_with_an_upload(to),
            4..=8 => self.push_image(to),
            9 => self.delete_tag(to),
            10 => self.delete_image(to),
            _ => self.tag_again(to),
        }
    }

    fn send(&mut self, to: &mut Connection, method: &str, below: &str, body: &[u8]) -> io::Result<Answer> {
        let target = if below.starts_with('/') { below.to_owned() } else { format!("/v2/{}/{below}", self.repository) };
        let media_type = if target.contains("/manifests/") { MANIFEST } else { BLOB };
        let answer = to.send(method, &target, media_type, body)?;
        self.acknowledged += 1;
        Ok(answer)
    }

    fn push_blob(&mut self, to: &mut Connection) -> io::Result<Digest> {
        let size = match self.random.below(10) {
            0 => 1 + self.random.below(2_000_000),
            1..=3 => 1 + self.random.below(400_000),
            _ => self.random.below(8_000),
        };
        let content = self.random.bytes(size);
        let digest = Digest::sha256(&content);
        self.blobs.entry(digest.clone()).or_insert((content.clone(), Known::Unknown)).1 = Known::Unknown;
        if self.random.below(2) == 0 {
            let answer = self.send(to, "POST", &format!("blobs/uploads/?digest={digest}"), &content)?;
            expect(&answer, 201, "a push in one request");
        } else {
            let mut location = self.start(to)?;
            let pieces = 1 + self.random.below(3) as usize;
            for piece in content.chunks(content.len().div_ceil(pieces).max(1)) {
                let answer = self.send(to, "PATCH", &location, piece)?;
                expect(&answer, 202, "a chunk");
                location = answer.headers["location"].clone();
            }
            let answer = self.send(to, "PUT", &format!("{location}?digest={digest}"), b"")?;
            expect(&answer, 201, "the end of an upload");
        }
        self.blobs.insert(digest.clone(), (content, Known::Yes));
        Ok(digest)
    }

    fn start(&mut self, to: &mut Connection) -> io::Result<String> {
        let answer = self.send(to, "POST", "blobs/uploads/", b"")?;
        expect(&answer, 202, "the start of an upload");
        Ok(answer.headers["location"].clone())
    }

    /// Starts an upload and leaves it, or ends the one that was left, perhaps by a server that is dead by now.
    fn go_on_with_an_upload(&mut self, to: &mut Connection) -> io::Result<()> {
        let Some(Open { location, whole, sent, ending }) = self.open.take() else {
            let size = 1000 + self.random.below(600_000);
            let whole = self.random.bytes(size);
            let location = self.start(to)?;
            let half = whole.len() / 2;
            let open = |sent| Open { location: location.clone(), whole: whole.clone(), sent, ending: false };
            self.open = Some(open(0));
            expect(&self.send(to, "PATCH", &location, &whole[..half])?, 202, "half an upload");
            self.open = Some(open(half));
            return Ok(());
        };
        let digest = Digest::sha256(&whole);
        let status = self.send(to, "GET", &location, b"")?;
        if ending && status.status == 404 {
            assert_eq!(self.blobs[&digest].1, Known::Yes, "an upload that is gone has become a blob");
            return Ok(());
        }
        expect(&status, 204, "the status of an upload that was left");
        let range = &status.headers["range"];
        let there = match range.strip_prefix("0-").unwrap().parse::<usize>().unwrap() {
            0 => 0,
            last => last + 1,
        };
        // One that was ending may have become a blob that no repository holds yet: it starts again.
        let starts_again = ending && there == 0;
        assert!(there >= sent || starts_again, "{range} of {sent} acknowledged bytes");
        assert!(there <= whole.len(), "{range} of {} bytes", whole.len());
        self.blobs.insert(digest.clone(), (whole.clone(), Known::Unknown));
        self.open = Some(Open { location: location.clone(), whole: whole.clone(), sent, ending: true });
        let ended = self.send(to, "PUT", &format!("{location}?digest={digest}"), &whole[there..])?;
        expect(&ended, 201, "the end of an upload that was left");
        self.open = None;
        self.blobs.insert(digest, (whole, Known::Yes));
        Ok(())
    }

    fn push_image(&mut self, to: &mut Connection) -> io::Result<()> {
        let blobs = vec![self.push_blob(to)?, self.push_blob(to)?];
        let descriptor =
            |digest: &Digest| json!({"mediaType": BLOB, "digest": digest, "size": self.blobs[digest].0.len()});
        let mut manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": descriptor(&blobs[0]), "layers": [descriptor(&blobs[1])],
        });
        let subjects: Vec<_> = self.images.keys().cloned().collect();
        let subject = if self.random.below(3) == 0 { self.random.pick(&subjects).cloned() } else { None };
        if let Some(subject) = &subject {
            manifest["subject"] = json!({"mediaType": MANIFEST, "digest": subject, "size": 1});
        }
        let bytes = manifest.to_string().into_bytes();
        let digest = Digest::sha256(&bytes);
        self.images.insert(digest.clone(), Image { bytes, blobs, subject, there: Known::No });
        let tag = if self.random.below(4) == 0 { None } else { self.random.pick(&TAGS).copied() };
        self.put(to, &digest, tag)
    }

    /// Pushes a manifest, under a tag or by its digest.
    fn put(&mut self, to: &mut Connection, digest: &Digest, tag: Option<&'static str>) -> io::Result<()> {
        let image = self.images.get_mut(digest).unwrap();
        if image.there == Known::No {
            image.there = Known::Unknown;
        }
        let bytes = image.bytes.clone();
        if let Some(tag) = tag {
            self.tags.get_mut(tag).unwrap().insert(Some(digest.clone()));
        }
        let reference = tag.map_or_else(|| digest.to_string(), str::to_owned);
        let answer = self.send(to, "PUT", &format!("manifests/{reference}"), &bytes)?;
        expect(&answer, 201, "a manifest");
        self.images.get_mut(digest).unwrap().there = Known::Yes;
        if let Some(tag) = tag {
            self.tags.insert(tag, BTreeSet::from([Some(digest.clone())]));
        }
        Ok(())
    }

    fn tag_again(&mut self, to: &mut Connection) -> io::Result<()> {
        let there: Vec<_> = self.images.iter().filter(|(_, image)| image.there == Known::Yes).collect();
        let there: Vec<_> = there.into_iter().map(|(digest, _)| digest.clone()).collect();
        let (digest, tag) = (self.random.pick(&there).cloned(), self.random.pick(&TAGS).copied());
        match digest {
            Some(digest) => self.put(to, &digest, tag),
            None => Ok(()),
        }
    }

    fn delete_tag(&mut self, to: &mut Connection) -> io::Result<()> {
        let Some(tag) = self.random.pick(&TAGS).copied() else { return Ok(()) };
        let before = self.tags[tag].clone();
        self.tags.get_mut(tag).unwrap().insert(None);
        let answer = self.send(to, "DELETE", &format!("manifests/{tag}"), b"")?;
        expect(&answer, if before == BTreeSet::from([None]) { 404 } else { 202 }, "the deletion of a tag");
        self.tags.insert(tag, BTreeSet::from([None]));
        Ok(())
    }

    fn delete_image(&mut self, to: &mut Connection) -> io::Result<()> {
        let there: Vec<_> = self.images.iter().filter(|(_, image)| image.there == Known::Yes).collect();
        let there: Vec<_> = there.into_iter().map(|(digest, _)| digest.clone()).collect();
        let Some(digest) = self.random.pick(&there).cloned() else { return Ok(()) };
        self.images.get_mut(&digest).unwrap().there = Known::Unknown;
        for possible in self.tags.values_mut().filter(|possible| possible.contains(&Some(digest.clone()))) {
            possible.insert(None);
        }
        let answer = self.send(to, "DELETE", &format!("manifests/{digest}"), b"")?;
        expect(&answer, 202, "the deletion of a manifest");
        self.images.get_mut(&digest).unwrap().there = Known::No;
        for possible in self.tags.values_mut() {
            possible.remove(&Some(digest.clone()));
        }
        Ok(())
    }

    /// Compares what is there with what was acknowledged. What was not known is known afterwards.
    pub fn check(&mut self, of: &mut Connection, round: u64) {
        let at = format!("{} after round {round}", self.repository);
        self.check_blobs(of, &at);
        self.check_images(of, &at);
        self.check_tags(of, &at);
        self.check_referrers(of, &at);
    }

    fn get(&mut self, of: &mut Connection, below: &str) -> Answer {
        of.get(&format!("/v2/{}/{below}", self.repository)).expect("the server goes on")
    }

    fn check_blobs(&mut self, of: &mut Connection, at: &str) {
        for digest in self.blobs.keys().cloned().collect::<Vec<_>>() {
            let answer = self.get(of, &format!("blobs/{digest}"));
            let (content, known) = self.blobs.get_mut(&digest).unwrap();
            match (answer.status, *known) {
                (200, Known::Yes | Known::Unknown) => {
                    assert!(answer.body == *content, "{at}: blob {digest} has other content");
                    *known = Known::Yes;
                }
                (404, Known::Unknown | Known::No) => *known = Known::No,
                (status, known) => panic!("{at}: blob {digest}, {known:?}, answers {status}"),
            }
        }
    }

    fn check_images(&mut self, of: &mut Connection, at: &str) {
        for digest in self.images.keys().cloned().collect::<Vec<_>>() {
            let answer = self.get(of, &format!("manifests/{digest}"));
            let image = self.images.get_mut(&digest).unwrap();
            match (answer.status, image.there) {
                (200, Known::Yes | Known::Unknown) => {
                    assert!(answer.body == image.bytes, "{at}: manifest {digest} has other content");
                    image.there = Known::Yes;
                    let blobs = image.blobs.clone();
                    assert!(blobs.iter().all(|blob| self.blobs[blob].1 == Known::Yes), "{at}: {digest} lacks a blob");
                }
                (404, Known::Unknown | Known::No) => image.there = Known::No,
                (status, known) => panic!("{at}: manifest {digest}, {known:?}, answers {status}"),
            }
        }
    }

    fn check_tags(&mut self, of: &mut Connection, at: &str) {
        for tag in TAGS {
            let answer = self.get(of, &format!("manifests/{tag}"));
            let actual = match answer.status {
                200 => Some(Digest::sha256(&answer.body)),
                404 => None,
                status => panic!("{at}: tag {tag} answers {status}"),
            };
            let possible = &self.tags[tag];
            assert!(possible.contains(&actual), "{at}: tag {tag} points to {actual:?}, not to one of {possible:?}");
            if let Some(digest) = &actual {
                assert!(self.images[digest].there == Known::Yes, "{at}: tag {tag} is of what is not there");
            }
            self.tags.insert(tag, BTreeSet::from([actual]));
        }
        let answer = self.get(of, "tags/list");
        if answer.status == 404 {
            assert!(self.blobs.values().all(|(_, known)| *known != Known::Yes), "{at}: the repository is unknown");
            return;
        }
        let listed: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        let listed: BTreeSet<_> = listed["tags"].as_array().unwrap().iter().map(|tag| tag.as_str().unwrap()).collect();
        let points = |tag: &&str| !self.tags[tag].contains(&None);
        assert_eq!(listed, TAGS.into_iter().filter(points).collect(), "{at}: the list of tags");
    }

    fn check_referrers(&mut self, of: &mut Connection, at: &str) {
        let subjects: BTreeSet<_> = self.images.values().filter_map(|image| image.subject.clone()).collect();
        for subject in subjects {
            let answer = self.get(of, &format!("referrers/{subject}"));
            let index: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
            let digest = |manifest: &serde_json::Value| manifest["digest"].as_str().unwrap().parse().unwrap();
            let listed: BTreeSet<Digest> = index["manifests"].as_array().unwrap().iter().map(digest).collect();
            let refers = |image: &Image| image.subject.as_ref() == Some(&subject) && image.there == Known::Yes;
            let expected: BTreeSet<_> =
                self.images.iter().filter(|(_, image)| refers(image)).map(|of| of.0).cloned().collect();
            assert_eq!(listed, expected, "{at}: the referrers of {subject}");
        }
    }
}

#[track_caller]
fn expect(answer: &Answer, status: u16, what: &str) {
    assert_eq!(answer.status, status, "{what}: {}", String::from_utf8_lossy(&answer.body));
}

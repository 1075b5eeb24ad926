//! The workflows of the OCI distribution specification 1.1, each over HTTP and over TLS and on a bucket, by a robot with
//! a token.
//!
//! Every requirement on a registry is a check with a name. A workflow goes on after a failed one, so that a run tells
//! all that is wrong; none is ever skipped.

use serde_json::{Value, json};

use crate::harness::{Answer, Bucket, Remote, Server, digest, local_test, with_parameter};

const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
const REPOSITORY: &str = "demo/conformance";
const OTHER: &str = "demo/conformance-other";
const NOWHERE: &str = "demo/nowhere";

/// One workflow's requests, and what was wrong with the answers.
struct Workflow {
    remote: Remote,
    token: String,
    checks: usize,
    failures: Vec<String>,
}

/// Runs a workflow on HTTP, on HTTPS, and on HTTP with images in a bucket. `checks` is how many it has: one that is left out is a failure too.
fn conforms(checks: usize, workflow: impl AsyncFn(&mut Workflow)) {
    local_test(async || {
        let bucket = Bucket::start_local().await;
        for server in [Server::start().await, Server::start_tls().await, Server::start_on(&bucket).await] {
            let (remote, robot) = (server.remote(), server.login("demo", "ci"));
            let scopes = [REPOSITORY, OTHER, NOWHERE].map(|name| format!("repository:{name}:pull,push,delete"));
            let token = remote.authorization(&[&scopes[0], &scopes[1], &scopes[2]], &robot).await;
            let mut run = Workflow { remote, token, checks: 0, failures: Vec::new() };
            workflow(&mut run).await;
            assert!(run.failures.is_empty(), "{}:\n{}", run.remote.scheme, run.failures.join("\n"));
            assert_eq!(run.checks, checks, "{}: every check was made", run.remote.scheme);
        }
    });
}

impl Workflow {
    async fn send(&self, method: &str, target: &str, headers: &[(&str, &str)]) -> Answer {
        let headers: Vec<_> = headers.iter().copied().chain([("Authorization", self.token.as_str())]).collect();
        self.remote.send(method, target, &headers).await
    }

    async fn send_body(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let headers: Vec<_> = headers.iter().copied().chain([("Authorization", self.token.as_str())]).collect();
        self.remote.send_body(method, target, &headers, body).await
    }

    /// `GET` of something in the repository.
    async fn get(&self, path: &str) -> Answer {
        self.send("GET", &format!("/v2/{REPOSITORY}/{path}"), &[]).await
    }

    async fn head(&self, path: &str) -> Answer {
        self.send("HEAD", &format!("/v2/{REPOSITORY}/{path}"), &[]).await
    }

    async fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", &format!("/v2/{REPOSITORY}/{path}"), &[]).await
    }

    /// Makes a check.
    fn check(&mut self, name: &str, answer: &Answer, holds: bool) {
        self.checks += 1;
        if !holds {
            let (status, text) = (answer.status, answer.text());
            self.failures.push(format!("- {name}: {status} {text}"));
        }
    }

    /// Begins an upload, and gives its location.
    async fn begin(&mut self, name: &str) -> String {
        let answer = self.send("POST", &format!("/v2/{REPOSITORY}/blobs/uploads/"), &[]).await;
        let location = answer.header("location").unwrap_or_default().to_owned();
        self.check(name, &answer, answer.status == 202 && !location.is_empty());
        location
    }

    /// Pushes a blob in two requests, as a step of something else.
    async fn blob(&mut self, content: &[u8]) -> String {
        let started = self.send("POST", &format!("/v2/{REPOSITORY}/blobs/uploads/"), &[]).await;
        let digest = digest(content);
        let target = with_parameter(started.header("location").unwrap_or_default(), "digest", &digest);
        let answer = self.send_body("PUT", &target, &[OCTETS], content).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        digest
    }

    async fn put_manifest(&self, reference: &str, media_type: &str, manifest: &[u8]) -> Answer {
        let target = format!("/v2/{REPOSITORY}/manifests/{reference}");
        self.send_body("PUT", &target, &[("Content-Type", media_type)], manifest).await
    }

    /// Pushes an image with one layer that says `content`, and gives its manifest.
    async fn image(&mut self, tag: &str, content: &str) -> Vec<u8> {
        let config = self.blob(b"{}").await;
        let layer = self.blob(content.as_bytes()).await;
        let manifest = image(&config, &[(&layer, content.len())]);
        let answer = self.put_manifest(tag, IMAGE, &manifest).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        manifest
    }
}

const OCTETS: (&str, &str) = ("Content-Type", "application/octet-stream");

fn image(config: &str, layers: &[(&str, usize)]) -> Vec<u8> {
    let layers: Vec<_> =
        layers.iter().map(|(digest, size)| json!({"mediaType": LAYER, "digest": digest, "size": size})).collect();
    let config = json!({"mediaType": CONFIG, "digest": config, "size": 2});
    json!({"schemaVersion": 2, "mediaType": IMAGE, "config": config, "layers": layers}).to_string().into_bytes()
}

fn parsed(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).unwrap_or_default()
}

fn has_digest(answer: &Answer, digest: &str) -> bool {
    answer.header("docker-content-digest") == Some(digest)
}

/// Whether an answer refuses in the words of the specification's "Error Codes".
fn refuses(answer: &Answer, status: u16, code: &str) -> bool {
    answer.status == status && answer.oci_error().as_deref() == Some(code)
}

#[test]
fn pull() {
    conforms(16, async |run: &mut Workflow| {
        let manifest = run.image("v1", "a layer").await;
        let (layer, manifest_digest) = (digest(b"a layer"), digest(&manifest));
        let (unknown, size) = (digest(b"nothing has this"), manifest.len().to_string());

        let answer = run.send("GET", "/v2/", &[]).await;
        run.check("end-1: the registry says that it is one", &answer, answer.status == 200);
        let answer = run.head(&format!("blobs/{unknown}")).await;
        run.check("end-2: HEAD of an unknown blob", &answer, answer.status == 404);
        let answer = run.get(&format!("blobs/{unknown}")).await;
        run.check("end-2: GET of an unknown blob", &answer, refuses(&answer, 404, "BLOB_UNKNOWN"));
        let answer = run.head(&format!("blobs/{layer}")).await;
        let right = answer.header("content-length") == Some("7") && has_digest(&answer, &layer);
        run.check("end-2: HEAD of a blob", &answer, answer.status == 200 && right);
        let answer = run.get(&format!("blobs/{layer}")).await;
        let right = answer.body == b"a layer" && has_digest(&answer, &layer);
        run.check("end-2: GET of a blob", &answer, answer.status == 200 && right);
        let answer = run.send("GET", &format!("/v2/{REPOSITORY}/blobs/{layer}"), &[("Range", "bytes=2-4")]).await;
        run.check("end-2: GET of a part of a blob", &answer, answer.status == 206 && answer.body == b"lay");

        for reference in ["v2", unknown.as_str()] {
            let answer = run.head(&format!("manifests/{reference}")).await;
            run.check("end-3: HEAD of an unknown manifest", &answer, answer.status == 404);
            let answer = run.get(&format!("manifests/{reference}")).await;
            run.check("end-3: GET of an unknown manifest", &answer, refuses(&answer, 404, "MANIFEST_UNKNOWN"));
        }
        for reference in ["v1", manifest_digest.as_str()] {
            let answer = run.head(&format!("manifests/{reference}")).await;
            let right = answer.header("content-length") == Some(&size) && has_digest(&answer, &manifest_digest);
            run.check("end-3: HEAD of a manifest", &answer, answer.status == 200 && right);
            let answer = run.get(&format!("manifests/{reference}")).await;
            let right = answer.body == manifest && has_digest(&answer, &manifest_digest);
            run.check("end-3: GET of a manifest", &answer, answer.status == 200 && right);
            let typed = answer.header("content-type") == Some(IMAGE);
            run.check("end-3: a manifest has its media type", &answer, typed);
        }
    });
}

#[test]
fn push_blobs() {
    conforms(25, async |run: &mut Workflow| {
        let content = b"first half, second half";
        let (first, second, all) = (&content[..11], &content[11..], digest(content));
        let blob = format!("/v2/{REPOSITORY}/blobs/{all}");
        let stored = |answer: &Answer| answer.status == 200 && answer.body == content;

        // In one request, or the two that a registry may make of it.
        let target = format!("/v2/{REPOSITORY}/blobs/uploads/?digest={}", digest(b"one"));
        let answer = run.send_body("POST", &target, &[OCTETS], b"one").await;
        run.check(
            "end-4b: POST with the content",
            &answer,
            answer.status == 201 && answer.header("location").is_some(),
        );
        let answer = run.get(&format!("blobs/{}", digest(b"one"))).await;
        run.check("end-4b: the blob is there", &answer, answer.body == b"one");

        let location = run.begin("end-4a: POST begins an upload").await;
        let answer = run.send_body("PUT", &with_parameter(&location, "digest", &digest(b"x")), &[OCTETS], b"y").await;
        run.check("end-6: PUT of content with another digest", &answer, refuses(&answer, 400, "DIGEST_INVALID"));
        let location = run.begin("end-4a: POST begins another").await;
        let answer = run.send_body("PUT", &with_parameter(&location, "digest", &all), &[OCTETS], content).await;
        run.check("end-6: PUT with the content", &answer, answer.status == 201 && answer.header("location").is_some());
        let answer = run.send("GET", &blob, &[]).await;
        run.check("end-6: the blob is there", &answer, stored(&answer));
        let answer = run.send("DELETE", &blob, &[]).await;
        run.check("end-10: DELETE", &answer, answer.status == 202);

        let location = run.begin("end-4a: POST begins a stream").await;
        let answer = run.send_body("PATCH", &location, &[OCTETS, ("Transfer-Encoding", "chunked")], content).await;
        run.check("end-5: PATCH with a stream", &answer, answer.status == 202);
        let location = answer.header("location").unwrap_or_default().to_owned();
        let answer = run.send_body("PUT", &with_parameter(&location, "digest", &all), &[], b"").await;
        run.check("end-6: PUT ends a stream", &answer, answer.status == 201);
        let answer = run.send("GET", &blob, &[]).await;
        run.check("end-6: the streamed blob is there", &answer, stored(&answer));
        let answer = run.send("DELETE", &blob, &[]).await;
        run.check("end-10: DELETE again", &answer, answer.status == 202);

        let location = run.begin("end-4a: POST begins chunks").await;
        let chunk = async |run: &Workflow, location: &str, range: &str, body: &[u8]| {
            run.send_body("PATCH", location, &[OCTETS, ("Content-Range", range)], body).await
        };
        let answer = chunk(run, &location, "11-22", second).await;
        run.check("end-5: PATCH out of order", &answer, answer.status == 416);
        let answer = chunk(run, &location, "0-10", first).await;
        run.check("end-5: PATCH", &answer, answer.status == 202 && answer.header("range") == Some("0-10"));
        let next = answer.header("location").unwrap_or_default().to_owned();
        let answer = chunk(run, &next, "0-10", first).await;
        run.check("end-5: PATCH of the same chunk again", &answer, answer.status == 416);
        let answer = run.send("GET", &next, &[]).await;
        let right = answer.header("range") == Some("0-10") && answer.header("location").is_some();
        run.check("end-13: GET tells how far it is", &answer, answer.status == 204 && right);
        let location = answer.header("location").unwrap_or_default().to_owned();
        let answer = chunk(run, &location, "11-22", second).await;
        run.check("end-5: PATCH of the next", &answer, answer.status == 202 && answer.header("range") == Some("0-22"));
        let location = answer.header("location").unwrap_or_default().to_owned();
        let answer = run.send_body("PUT", &with_parameter(&location, "digest", &all), &[], b"").await;
        run.check("end-6: PUT ends the chunks", &answer, answer.status == 201 && answer.header("location").is_some());
        let answer = run.send("GET", &blob, &[]).await;
        run.check("end-6: the blob of chunks is there", &answer, stored(&answer));

        let location = run.begin("end-4a: POST begins chunks of which PUT has the last").await;
        let answer = chunk(run, &location, "0-10", first).await;
        let location = with_parameter(answer.header("location").unwrap_or_default(), "digest", &all);
        let answer = run.send_body("PUT", &location, &[OCTETS, ("Content-Range", "11-22")], second).await;
        run.check("end-6: PUT with the last chunk", &answer, answer.status == 201);

        let location = run.begin("end-4a: POST begins what is cancelled").await;
        run.send("DELETE", &location, &[]).await;
        let answer = run.send("GET", &location, &[]).await;
        run.check("end-14: a cancelled upload is gone", &answer, refuses(&answer, 404, "BLOB_UPLOAD_UNKNOWN"));
    });
}

#[test]
fn mount_blobs() {
    conforms(5, async |run: &mut Workflow| {
        let blob = run.blob(b"mounted").await;
        let mount = |digest: &str| format!("/v2/{OTHER}/blobs/uploads/?mount={digest}&from={REPOSITORY}");
        let answer = run.send("POST", &mount(&blob), &[]).await;
        let location = answer.header("location").unwrap_or_default().to_owned();
        let right = location.ends_with(&format!("/v2/{OTHER}/blobs/{blob}"));
        run.check("end-11: POST mounts", &answer, answer.status == 201 && right);
        let answer = run.send("GET", &location, &[]).await;
        run.check("end-11: the mounted blob is there", &answer, answer.status == 200 && answer.body == b"mounted");
        let answer = run.send("POST", &mount(&digest(b"unknown")), &[]).await;
        let uploading = |answer: &Answer| answer.status == 202 && answer.header("location").is_some();
        run.check("end-11: what can't be mounted is to be uploaded", &answer, uploading(&answer));
        let nowhere = format!("/v2/{OTHER}/blobs/uploads/?mount={}&from={NOWHERE}", digest(b"one more"));
        let answer = run.send("POST", &nowhere, &[]).await;
        run.check("end-11: nor from a repository that is not", &answer, uploading(&answer));
        // The registry finds the blob itself.
        let another = run.blob(b"found").await;
        let answer = run.send("POST", &format!("/v2/{OTHER}/blobs/uploads/?mount={another}"), &[]).await;
        let found = run.send("HEAD", &format!("/v2/{OTHER}/blobs/{another}"), &[]).await;
        let right = answer.status == 201 && found.status == 200;
        run.check("end-11: POST that says no source", &answer, right);
    });
}

#[test]
fn push_manifests() {
    conforms(14, async |run: &mut Workflow| {
        let config = run.blob(b"{}").await;
        let layer = run.blob(b"layer").await;
        let manifest = image(&config, &[(&layer, 5)]);
        let own = digest(&manifest);
        for reference in ["v1", own.as_str()] {
            let answer = run.put_manifest(reference, IMAGE, &manifest).await;
            let right = answer.header("location").is_some() && has_digest(&answer, &own);
            run.check("end-7: PUT by tag and by digest", &answer, answer.status == 201 && right);
        }
        let empty = image(&config, &[]);
        let answer = run.put_manifest("empty", IMAGE, &empty).await;
        run.check("end-7: PUT of an image without layers", &answer, answer.status == 201);
        let answer = run.get(&format!("manifests/{}", digest(&empty))).await;
        run.check("end-3: GET by its digest", &answer, answer.body == empty);

        let platform = json!({"os": "linux", "architecture": "amd64"});
        let entry = json!({"mediaType": IMAGE, "digest": own, "size": manifest.len(), "platform": platform});
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}).to_string();
        let answer = run.put_manifest("index", INDEX, index.as_bytes()).await;
        run.check("end-7: PUT of an index", &answer, answer.status == 201);
        let answer = run.get("manifests/index").await;
        let right = answer.body == index.as_bytes() && answer.header("content-type") == Some(INDEX);
        run.check("end-3: GET of an index", &answer, right);

        let artifact = json!({
            "schemaVersion": 2, "mediaType": IMAGE, "artifactType": "application/vnd.test",
            "config": {"mediaType": EMPTY, "digest": config, "size": 2},
            "layers": [{"mediaType": EMPTY, "digest": config, "size": 2}],
            "subject": {"mediaType": IMAGE, "digest": digest(b"pushed later"), "size": 12},
        });
        let answer = run.put_manifest("artifact", IMAGE, artifact.to_string().as_bytes()).await;
        let subject = answer.header("oci-subject") == Some(&digest(b"pushed later"));
        run.check("end-7: PUT before its subject is there", &answer, answer.status == 201 && subject);

        let missing = image(&config, &[(&digest(b"missing"), 7)]);
        let answer = run.put_manifest("v1", IMAGE, &missing).await;
        // The specification gives the code, and no status.
        let refused = [400, 404].iter().any(|status| refuses(&answer, *status, "MANIFEST_BLOB_UNKNOWN"));
        run.check("end-7: PUT without its blob", &answer, refused);
        let answer = run.put_manifest(&digest(b"other"), IMAGE, &manifest).await;
        run.check("end-7: PUT by another digest", &answer, refuses(&answer, 400, "DIGEST_INVALID"));
        let answer = run.put_manifest("v1", IMAGE, b"{").await;
        run.check("end-7: PUT of what is none", &answer, refuses(&answer, 400, "MANIFEST_INVALID"));
        let answer = run.get("manifests/v1").await;
        run.check("end-3: what was refused has changed nothing", &answer, answer.body == manifest);
        let answer = run.put_manifest("-x", IMAGE, &manifest).await;
        run.check("end-7: PUT of an impossible tag", &answer, answer.status == 400 && answer.oci_error().is_some());
        let answer = run.get("manifests/sha256:short").await;
        let refused = (400..500).contains(&answer.status) && answer.oci_error().is_some();
        run.check("end-3: GET of an impossible digest", &answer, refused);
        let answer = run.send("GET", "/v2/demo/Upper/manifests/v1", &[]).await;
        let refused = (400..500).contains(&answer.status) && answer.oci_error().is_some();
        run.check("end-3: GET of an impossible name", &answer, refused);
    });
}

/// What a manifest may be or have besides what all of them have. Its bytes come back as they went in.
#[test]
fn keep_manifests_of_every_kind() {
    conforms(18, async |run: &mut Workflow| {
        let image = run.image("v1", "layer").await;
        let (config, layer) = (digest(b"{}"), digest(b"layer"));
        let entry = |media_type: &str, manifest: &[u8]| json!({"mediaType": media_type, "digest": digest(manifest), "size": manifest.len()});
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry(IMAGE, &image)]}).to_string();
        let docker = "application/vnd.docker.distribution.manifest";
        let config = |media_type: &str| json!({"mediaType": media_type, "digest": config, "size": 2});
        let layer = |media_type: &str| json!({"mediaType": media_type, "digest": layer, "size": 5});
        let elsewhere = json!({
            "mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
            "digest": digest(b"elsewhere"), "size": 9, "urls": ["https://elsewhere.test/layer"],
        });
        let embedded = json!({"mediaType": EMPTY, "digest": digest(b"{}"), "size": 2, "data": "e30="});
        let annotations = json!({"dev.test": "x".repeat(3_900_000)});
        let of = |fields: Value| {
            let mut manifest = json!({"schemaVersion": 2, "mediaType": IMAGE, "config": config(CONFIG), "layers": []});
            let fields = fields.as_object().cloned().unwrap_or_default();
            manifest.as_object_mut().expect("it is one").extend(fields);
            manifest.to_string()
        };
        let docker_image = of(json!({
            "mediaType": format!("{docker}.v2+json"),
            "config": config("application/vnd.docker.container.image.v1+json"),
            "layers": [layer("application/vnd.docker.image.rootfs.diff.tar.gzip")],
        }));
        let list = json!({
            "schemaVersion": 2, "mediaType": format!("{docker}.list.v2+json"),
            "manifests": [entry(&format!("{docker}.v2+json"), docker_image.as_bytes())],
        });
        let kinds = [
            ("index", INDEX, index.clone()),
            (
                "index of indexes",
                INDEX,
                json!({"schemaVersion": 2, "manifests": [entry(INDEX, index.as_bytes())]}).to_string(),
            ),
            ("index of nothing", INDEX, json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": []}).to_string()),
            ("layers that are kept elsewhere", IMAGE, of(json!({"layers": [elsewhere]}))),
            ("content within a descriptor", IMAGE, of(json!({"config": embedded}))),
            ("fields that nobody knows", IMAGE, of(json!({"dev.test": {"a": [1, null]}}))),
            ("nearly 4 MB", IMAGE, of(json!({"annotations": annotations}))),
            ("Docker image", &format!("{docker}.v2+json"), docker_image),
            ("Docker manifest list", &format!("{docker}.list.v2+json"), list.to_string()),
        ];
        for (kind, media_type, manifest) in kinds {
            let put = run.put_manifest(&kind.replace(' ', "-"), media_type, manifest.as_bytes()).await;
            run.check(&format!("end-7: PUT of {kind}"), &put, put.status == 201);
            let got = run.get(&format!("manifests/{}", digest(manifest.as_bytes()))).await;
            let right = got.body == manifest.as_bytes() && got.header("content-type") == Some(media_type);
            run.check(&format!("end-3: GET of {kind}"), &got, right);
        }
    });
}

#[test]
fn discover_content() {
    conforms(16, async |run: &mut Workflow| {
        let subject = run.image("v1", "subject").await;
        for tag in ["v3", "latest", "v2"] {
            run.put_manifest(tag, IMAGE, &subject).await;
        }
        let tags = |answer: &Answer| parsed(answer)["tags"].clone();
        let answer = run.get("tags/list").await;
        run.check("end-8a: GET lists in order", &answer, tags(&answer) == json!(["latest", "v1", "v2", "v3"]));
        run.check("end-8a: and names the repository", &answer, parsed(&answer)["name"] == REPOSITORY);
        let answer = run.get("tags/list?n=2").await;
        run.check("end-8b: GET lists so many", &answer, tags(&answer) == json!(["latest", "v1"]));
        let link = answer.header("link").unwrap_or_default().to_owned();
        let next = link.split_once('<').and_then(|(_, rest)| rest.split_once(">; rel=\"next\"")).map(|(url, _)| url);
        run.check("end-8b: with a link to the next", &answer, next.is_some());
        let answer = run.send("GET", next.unwrap_or("/"), &[]).await;
        run.check("end-8b: where the rest is", &answer, tags(&answer) == json!(["v2", "v3"]));
        run.check("end-8b: and no link any more", &answer, answer.header("link").is_none());
        let answer = run.get("tags/list?n=1&last=v1").await;
        run.check("end-8b: GET goes on after a tag", &answer, tags(&answer) == json!(["v2"]));
        let answer = run.get("tags/list?n=0").await;
        run.check("end-8b: GET of none", &answer, answer.status == 200 && tags(&answer) == json!([]));
        let answer = run.send("GET", &format!("/v2/{NOWHERE}/tags/list"), &[]).await;
        run.check("end-8a: GET of no repository", &answer, refuses(&answer, 404, "NAME_UNKNOWN"));

        let answer = run.get(&format!("referrers/{}", digest(b"nothing refers"))).await;
        let right = answer.status == 200 && parsed(&answer)["manifests"] == json!([]);
        run.check("end-12a: GET of no referrers", &answer, right && answer.header("content-type") == Some(INDEX));

        let descriptor = json!({"mediaType": IMAGE, "digest": digest(&subject), "size": subject.len()});
        let config = digest(b"{}");
        let referrers: Vec<_> = ["one", "two"]
            .map(|kind| {
                json!({
                    "schemaVersion": 2, "mediaType": IMAGE, "artifactType": format!("application/vnd.test.{kind}"),
                    "config": {"mediaType": EMPTY, "digest": config, "size": 2}, "layers": [],
                    "subject": descriptor, "annotations": {"dev.test": kind},
                })
                .to_string()
            })
            .into();
        for referrer in &referrers {
            let answer = run.put_manifest(&digest(referrer.as_bytes()), IMAGE, referrer.as_bytes()).await;
            let right = answer.header("oci-subject") == Some(&digest(&subject));
            run.check("end-7: PUT of a referrer says so", &answer, right);
        }
        let answer = run.get(&format!("referrers/{}", digest(&subject))).await;
        let listed = parsed(&answer)["manifests"].as_array().cloned().unwrap_or_default();
        run.check("end-12a: GET of two referrers", &answer, listed.len() == 2);
        let two = digest(referrers[1].as_bytes());
        let entry = listed.iter().find(|entry| entry["digest"] == two.as_str()).cloned().unwrap_or_default();
        let right = entry["annotations"]["dev.test"] == "two" && entry["size"] == referrers[1].len();
        run.check("end-12a: with their annotations", &answer, right);
        let answer = run.get(&format!("referrers/{}?artifactType=application/vnd.test.two", digest(&subject))).await;
        let listed = parsed(&answer)["manifests"].as_array().cloned().unwrap_or_default();
        run.check("end-12b: GET of those of a type", &answer, listed == [entry]);
        let filtered = answer.header("oci-filters-applied") == Some("artifactType");
        run.check("end-12b: says that it has filtered", &answer, filtered);
    });
}

#[test]
fn manage_content() {
    conforms(11, async |run: &mut Workflow| {
        let manifest = run.image("v1", "deleted").await;
        let (own, layer) = (digest(&manifest), digest(b"deleted"));
        run.put_manifest("v2", IMAGE, &manifest).await;

        let answer = run.delete("manifests/v1").await;
        run.check("end-9: DELETE of a tag", &answer, answer.status == 202);
        let answer = run.get("manifests/v1").await;
        run.check("end-9: the tag is gone", &answer, refuses(&answer, 404, "MANIFEST_UNKNOWN"));
        let answer = run.get(&format!("manifests/{own}")).await;
        run.check("end-9: its manifest is not", &answer, answer.body == manifest);
        let answer = run.get("tags/list").await;
        run.check("end-9: and the list is right", &answer, parsed(&answer)["tags"] == json!(["v2"]));

        let answer = run.delete(&format!("manifests/{own}")).await;
        run.check("end-9: DELETE of a manifest", &answer, answer.status == 202);
        let answer = run.get(&format!("manifests/{own}")).await;
        run.check("end-9: the manifest is gone", &answer, refuses(&answer, 404, "MANIFEST_UNKNOWN"));
        let answer = run.get("manifests/v2").await;
        run.check("end-9: the tag that was left too", &answer, refuses(&answer, 404, "MANIFEST_UNKNOWN"));
        let answer = run.get("tags/list").await;
        let none = answer.status == 404 || parsed(&answer)["tags"] == json!([]);
        run.check("end-9: no tag is listed", &answer, none);

        let answer = run.delete(&format!("blobs/{layer}")).await;
        run.check("end-10: DELETE of a blob", &answer, answer.status == 202);
        let answer = run.get(&format!("blobs/{layer}")).await;
        run.check("end-10: the blob is gone", &answer, refuses(&answer, 404, "BLOB_UNKNOWN"));
        let answer = run.delete(&format!("blobs/{layer}")).await;
        run.check("end-10: DELETE of what is not there", &answer, refuses(&answer, 404, "BLOB_UNKNOWN"));
    });
}

//! Real clients: each logs in with a robot's credential, pushes, pulls, compares digests, and does what only it does.
//!
//! Each runs against three registries: on plain HTTP, with TLS by an authority that it is told to trust, and on a bucket.
//! What it does is a shell script, as a person would type it.

use serde_json::Value;

use crate::harness::{Answer, Bucket, Command, Image, Login, Remote, Server, local_test};

/// What each script begins with. Of two commands that fail, `same` does not take the nothing that they print for the
/// same.
const PRELUDE: &str = r#"cd "$HOME"
same() { [ "$1" = "$2" ] || { echo "'$1' is not '$2'"; exit 1; } }
set -v"#;

/// A client in front of a registry, with a home folder of its own.
struct Client {
    remote: Remote,
    robot: Login,
    image: Image,
    /// What scripts are given.
    variables: Vec<(String, String)>,
}

/// Takes a client through its steps on HTTP, on HTTPS, and on HTTP with images in a bucket, to which it is sent for blobs
/// if it follows.
fn on_http_and_https(steps: impl AsyncFn(Client)) {
    local_test(async || {
        let bucket = Bucket::start_local().await;
        let (plain, tls, remote) = (Server::start().await, Server::start_tls().await, Server::start_on(&bucket).await);
        futures::join!(steps(Client::of(&plain)), steps(Client::of(&tls)), steps(Client::of(&remote)));
    });
}

impl Client {
    fn of(server: &Server) -> Self {
        let (remote, robot) = (server.remote(), server.login("demo", "ci"));
        let home = remote.folder.join("home");
        std::fs::create_dir_all(&home).expect("the folder can be written");
        let image = Image::build(&remote.folder, "client", 300_000);
        let home = home.display().to_string();
        let variable = |name: &str, value: String| (name.to_owned(), value);
        let mut variables = vec![
            variable("HOME", home.clone()),
            variable("XDG_RUNTIME_DIR", home.clone()),
            variable("DOCKER_CONFIG", format!("{home}/.docker")),
            variable("REGISTRY_AUTH_FILE", format!("{home}/auth.json")),
            variable("HOST", remote.host.clone()),
            variable("URL", format!("{}://{}", remote.scheme, remote.host)),
            variable("ROBOT", robot.username.clone()),
            variable("PASSWORD", server.credential("demo", "ci").join("password").display().to_string()),
            variable("LAYOUT", image.layout.display().to_string()),
            variable("DIGEST", image.digest.clone()),
        ];
        if let Some(folder) = &remote.certificates {
            variables.push(variable("TRUST", folder.display().to_string()));
        }
        Self { remote, robot, image, variables }
    }

    /// Gives scripts one variable more, which depends on the transport.
    fn with(mut self, name: &str, http: &str, https: &str) -> Self {
        let value = match &self.remote.certificates {
            None => http.to_owned(),
            Some(folder) => https.replace("TRUST", &folder.display().to_string()),
        };
        self.variables.push((name.to_owned(), value));
        self
    }

    /// Runs a script in the home folder, up to the first command that fails. Gives what it printed.
    async fn run(&self, script: &str) -> String {
        self.command(script).run().await
    }

    /// Runs a script that has to fail, and gives what it said.
    async fn refused(&self, script: &str) -> String {
        self.command(script).result().await.expect_err("this is refused")
    }

    fn command(&self, script: &str) -> Command {
        // A file, because standard input belongs to the commands in it. The shell shows each line as it stands there, so
        // a failure says where, and a secret stays in its file.
        let path = self.remote.folder.join(format!("{}.sh", uuid::Uuid::new_v4().simple()));
        std::fs::write(&path, format!("{PRELUDE}\n{script}\n")).expect("the folder can be written");
        let command = Command::new("sh").arg("-eu").arg(path);
        self.variables.iter().fold(command, |command, (name, value)| command.env(name, value))
    }

    async fn manifest(&self, path: &str) -> Answer {
        let answer = self.remote.request("GET", &format!("/v2/{path}"), Some(&self.robot)).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer
    }

    /// The digest of a tag's manifest, as the registry says.
    async fn digest(&self, repository: &str, tag: &str) -> String {
        let answer = self.manifest(&format!("{repository}/manifests/{tag}")).await;
        answer.header("docker-content-digest").expect("a manifest's answer has its digest").to_owned()
    }

    fn is_tls(&self) -> bool {
        self.remote.certificates.is_some()
    }
}

/// The media types of a manifest's layers, or of an index's manifests.
fn media_types(manifest: &Answer, of: &str) -> Vec<String> {
    let manifest: Value = serde_json::from_slice(&manifest.body).expect("a manifest is JSON");
    let listed = manifest[of].as_array().into_iter().flatten();
    listed.map(|descriptor| descriptor["mediaType"].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn skopeo() {
    on_http_and_https(async |client: Client| {
        let client = client
            .with("TLS", "--tls-verify=false", "--cert-dir=TRUST")
            .with("FROM", "--src-tls-verify=false", "--src-cert-dir=TRUST")
            .with("TO", "--dest-tls-verify=false", "--dest-cert-dir=TRUST");
        client
            .run(
                "skopeo login $TLS --username $ROBOT --password-stdin $HOST < $PASSWORD
                skopeo copy -q $TO --preserve-digests oci:$LAYOUT docker://$HOST/demo/skopeo:v1
                same $(skopeo inspect $TLS --format '{{.Digest}}' docker://$HOST/demo/skopeo:v1) $DIGEST
                skopeo copy -q $FROM --preserve-digests docker://$HOST/demo/skopeo:v1 dir:pulled
                same sha256:$(sha256sum pulled/manifest.json | cut -d' ' -f1) $DIGEST",
            )
            .await;

        // Docker schema 2: the bytes that were pushed are the bytes that are served.
        client
            .run(
                "skopeo copy -q --format v2s2 oci:$LAYOUT dir:v2s2
                skopeo copy -q $TO --preserve-digests dir:v2s2 docker://$HOST/demo/skopeo:v2s2
                skopeo inspect $TLS --raw docker://$HOST/demo/skopeo:v2s2 | cmp - v2s2/manifest.json",
            )
            .await;
        let docker = client.manifest("demo/skopeo/manifests/v2s2").await;
        assert_eq!(docker.header("content-type"), Some("application/vnd.docker.distribution.manifest.v2+json"));

        client
            .run(
                "skopeo list-tags $TLS docker://$HOST/demo/skopeo | tr -d ' \\n' | grep -F '[\"v1\",\"v2s2\"]'
                skopeo copy -q $FROM $TO docker://$HOST/demo/skopeo:v1 docker://$HOST/demo/skopeo-copy:v1
                skopeo delete $TLS docker://$HOST/demo/skopeo:v1",
            )
            .await;
        let deleted = client.refused("skopeo inspect $TLS docker://$HOST/demo/skopeo:v1").await;
        assert!(deleted.contains("manifest unknown") || deleted.contains("manifest is not known"), "{deleted}");
        client.run("skopeo logout $HOST").await;
        let nobody = client.refused("skopeo inspect $TLS docker://$HOST/demo/skopeo-copy:v1").await;
        assert!(nobody.contains("authentication required") || nobody.contains("unauthorized"), "{nobody}");
    });
}

#[test]
fn buildah_pushes_images_of_many_architectures() {
    on_http_and_https(async |client: Client| {
        let client = client.with("TLS", "--tls-verify=false", "--cert-dir=TRUST");
        client
            .run(
                "buildah() { command buildah --storage-driver vfs --root $HOME/root --runroot $HOME/run \"$@\"; }
                buildah login $TLS --username $ROBOT --password-stdin $HOST < $PASSWORD
                buildah manifest create many
                for arch in amd64 arm64; do
                    container=$(buildah from --arch $arch scratch)
                    buildah copy -q $container /bin/busybox /bin/$arch
                    buildah commit -q --rm $container app:$arch
                    buildah manifest add many localhost/app:$arch
                done
                buildah manifest push -q --all $TLS --digestfile digest many docker://$HOST/demo/buildah:oci
                buildah manifest push -q --all $TLS --format v2s2 --digestfile digest-list many docker://$HOST/demo/buildah:list
                buildah rmi --all --force
                buildah pull -q $TLS --arch arm64 docker://$HOST/demo/buildah:oci
                same $(buildah inspect --type image --format '{{.OCIv1.Architecture}}' $HOST/demo/buildah:oci) arm64",
            )
            .await;
        for (tag, pushed, index, manifest) in [
            ("oci", "digest", "application/vnd.oci.image.index.v1+json", "application/vnd.oci.image.manifest.v1+json"),
            (
                "list",
                "digest-list",
                "application/vnd.docker.distribution.manifest.list.v2+json",
                "application/vnd.docker.distribution.manifest.v2+json",
            ),
        ] {
            let answer = client.manifest(&format!("demo/buildah/manifests/{tag}")).await;
            assert_eq!(answer.header("content-type"), Some(index));
            assert_eq!(media_types(&answer, "manifests"), [manifest, manifest]);
            assert_eq!(client.digest("demo/buildah", tag).await, client.run(&format!("cat {pushed}")).await.trim());
        }
    });
}

#[test]
fn podman_pushes_layers_of_zstd() {
    on_http_and_https(async |client: Client| {
        let client = client.with("TLS", "--tls-verify=false", "--cert-dir=TRUST");
        let podman = "podman() {
            command podman --storage-driver vfs --root $HOME/root --runroot $HOME/run --tmpdir $HOME/tmp --events-backend none \"$@\"
        }";
        client
            .run(&format!(
                "{podman}
                podman login $TLS --username $ROBOT --password-stdin $HOST < $PASSWORD
                tar -cf layer.tar -C /bin busybox
                podman import -q layer.tar app:v1
                podman push -q $TLS --compression-format zstd --digestfile zstd app:v1 $HOST/demo/podman:zstd
                podman push -q $TLS --digestfile copied app:v1 $HOST/demo/podman-copy:v1
                podman rmi --all --force
                podman pull -q $TLS $HOST/demo/podman:zstd
                same $(podman image inspect --format '{{{{.Digest}}}}' $HOST/demo/podman:zstd) $(cat zstd)
                podman rmi --all --force
                podman pull -q $TLS $HOST/demo/podman-copy@$(cat copied)
                same $(podman image inspect --format '{{{{.Digest}}}}' $HOST/demo/podman-copy@$(cat copied)) $(cat copied)",
            ))
            .await;
        let zstd = client.manifest("demo/podman/manifests/zstd").await;
        assert_eq!(media_types(&zstd, "layers"), ["application/vnd.oci.image.layer.v1.tar+zstd"]);
        let script = format!("{podman}\npodman logout $HOST\npodman pull $TLS $HOST/demo/podman:zstd");
        let nobody = client.refused(&script).await;
        assert!(nobody.contains("authentication required") || nobody.contains("unauthorized"), "{nobody}");
    });
}

#[test]
fn containerd() {
    on_http_and_https(async |client: Client| {
        let remote = &client.remote;
        remote.push(&client.image, "demo/ctr:v1", Some(&client.robot)).await.unwrap();
        let authority = match &remote.certificates {
            Some(folder) => format!("ca = \"{}/ca.crt\"", folder.display()),
            None => String::new(),
        };
        // Its own daemon: that of the machine, or of the cluster, is none of this test's.
        let script = "
mkdir -p certs.d/$HOST
cat > certs.d/$HOST/hosts.toml <<end
server = \"$URL\"
[host.\"$URL\"]
AUTHORITY
end
cat > config.toml <<end
version = 2
root = \"$HOME/root\"
state = \"$HOME/state\"
disabled_plugins = [\"io.containerd.grpc.v1.cri\"]
[grpc]
address = \"$HOME/socket\"
[ttrpc]
address = \"$HOME/ttrpc\"
end
containerd --config config.toml > containerd.log 2>&1 &
containerd=$!
trap 'kill $containerd; wait $containerd || cat containerd.log' EXIT
ctr() { command ctr --address $HOME/socket images \"$@\"; }
login() { command=$1; shift; ctr $command --hosts-dir certs.d --user \"$ROBOT:$(cat $PASSWORD)\" \"$@\"; }
until ctr ls > images 2>&1; do kill -0 $containerd; sleep 0.1; done
login pull --snapshotter native $HOST/demo/ctr:v1 > /dev/null
ctr ls | grep \"^$HOST/demo/ctr:v1 .* $DIGEST \"
login push $HOST/demo/ctr-pushed:v1 $HOST/demo/ctr:v1 > /dev/null
if ctr pull --hosts-dir certs.d $HOST/demo/ctr:v1 > nobody 2>&1; then exit 1; fi
cat nobody
grep -E '401|authorization failed' nobody
";
        client.run(&script.replace("AUTHORITY", &authority)).await;
        assert_eq!(client.digest("demo/ctr-pushed", "v1").await, client.image.digest);
    });
}

#[test]
fn helm_keeps_charts() {
    on_http_and_https(async |client: Client| {
        let client = client.with("TLS", "--plain-http", "--ca-file=TRUST/ca.crt");
        let chart = crate::harness::environment::repository().join("charts/landfast");
        client
            .run(&format!(
                "helm registry login $TLS --username $ROBOT --password-stdin $HOST < $PASSWORD
                helm package {} --version 1.2.3+build --destination packaged
                helm push $TLS packaged/*.tgz oci://$HOST/demo/charts
                mkdir pulled
                helm pull $TLS oci://$HOST/demo/charts/landfast --version 1.2.3+build --destination pulled
                cmp packaged/*.tgz pulled/*.tgz
                helm show chart $TLS oci://$HOST/demo/charts/landfast --version '~1.2' | grep -F 'version: 1.2.3+build'
                helm template $TLS release oci://$HOST/demo/charts/landfast > rendered.yaml",
                chart.display()
            ))
            .await;
        let chart = client.manifest("demo/charts/landfast/manifests/1.2.3_build").await;
        assert!(
            media_types(&chart, "layers").contains(&"application/vnd.cncf.helm.chart.content.v1.tar+gzip".to_owned())
        );
        client.run("helm registry logout $HOST").await;
        client.refused("helm pull $TLS oci://$HOST/demo/charts/landfast --version 1.2.3+build").await;
    });
}

#[test]
fn crane() {
    on_http_and_https(async |client: Client| {
        // It has no option for an authority.
        let client = client.with("SSL_CERT_FILE", "/dev/null", "TRUST/ca.crt");
        client
            .run(
                "crane auth login $HOST --username $ROBOT --password-stdin < $PASSWORD
                crane push $LAYOUT $HOST/demo/crane:v1
                same $(crane digest $HOST/demo/crane:v1) $DIGEST
                crane validate --fast --remote $HOST/demo/crane:v1
                crane pull --format oci $HOST/demo/crane@$DIGEST pulled
                grep -F $DIGEST pulled/index.json
                crane copy $HOST/demo/crane:v1 $HOST/demo/crane-copy:v1
                crane tag $HOST/demo/crane-copy:v1 latest
                same \"$(crane ls $HOST/demo/crane-copy | tr '\\n' ' ')\" 'latest v1 '
                tar -czf layer.tar.gz -C /bin busybox
                crane append --new_layer layer.tar.gz --new_tag $HOST/demo/crane:appended
                crane mutate $HOST/demo/crane:appended --label a=b --tag $HOST/demo/crane:mutated
                crane index append --manifest $HOST/demo/crane:appended --manifest $HOST/demo/crane:mutated --tag $HOST/demo/crane:index
                crane validate --remote $HOST/demo/crane:index
                crane export $HOST/demo/crane:v1 - | tar -tf - | grep -F bin/busybox
                crane catalog $HOST | grep -x demo/crane-copy
                crane delete $HOST/demo/crane-copy@$DIGEST
                test -z \"$(crane ls $HOST/demo/crane-copy)\"
                crane auth logout $HOST",
            )
            .await;
        let nobody = client.refused("crane manifest $HOST/demo/crane:v1").await;
        assert!(nobody.contains("UNAUTHORIZED"), "{nobody}");
    });
}

#[test]
fn regctl_uploads_in_chunks_and_by_sha512() {
    on_http_and_https(async |client: Client| {
        let setting = if client.is_tls() { "--cacert \"$(cat $TRUST/ca.crt)\"" } else { "--tls disabled" };
        client
            .run(&format!(
                "regctl registry set $HOST {setting} --skip-check --blob-chunk 100000 --blob-max 100000
                regctl registry login $HOST --user $ROBOT --pass-stdin < $PASSWORD
                regctl image copy ocidir://$LAYOUT@$DIGEST $HOST/demo/regctl:v1
                same $(regctl image digest $HOST/demo/regctl:v1) $DIGEST
                regctl image export $HOST/demo/regctl:v1 exported.tar
                tar -tf exported.tar | grep -F blobs/sha256/${{DIGEST#*:}}"
            ))
            .await;

        client
            .run(
                "regctl image mod ocidir://$LAYOUT@$DIGEST --create ocidir://other:v1 --digest-algo sha512
                digest=$(regctl image digest ocidir://other:v1)
                expr $digest : sha512:
                regctl image copy ocidir://other@$digest $HOST/demo/regctl@$digest
                same $(regctl image digest $HOST/demo/regctl@$digest) $digest
                regctl image copy $HOST/demo/regctl@$digest ocidir://back@$digest
                cmp other/blobs/sha512/${digest#*:} back/blobs/sha512/${digest#*:}",
            )
            .await;

        client
            .run(
                "echo bill | regctl artifact put --artifact-type application/vnd.test.bill --subject $HOST/demo/regctl:v1
                echo proof | regctl artifact put --artifact-type application/vnd.test.proof --subject $HOST/demo/regctl:v1
                list() { regctl artifact list --format '{{ len .Descriptors }}' \"$@\"; }
                same $(list $HOST/demo/regctl:v1) 2
                same $(list --filter-artifact-type application/vnd.test.bill $HOST/demo/regctl:v1) 1
                same $(regctl artifact get --subject $HOST/demo/regctl:v1 --filter-artifact-type application/vnd.test.proof) proof
                regctl image copy --referrers $HOST/demo/regctl:v1 $HOST/demo/regctl-copy:v1
                same $(list $HOST/demo/regctl-copy:v1) 2
                regctl tag delete $HOST/demo/regctl-copy:v1
                same $(regctl image digest $HOST/demo/regctl-copy@$DIGEST) $DIGEST
                regctl manifest delete $HOST/demo/regctl-copy@$DIGEST",
            )
            .await;
        let tags = client.manifest("demo/regctl-copy/tags/list").await.text();
        assert_eq!(serde_json::from_str::<Value>(&tags).unwrap()["tags"], serde_json::json!([]), "{tags}");
    });
}

#[test]
fn cosign_signs_and_verifies() {
    on_http_and_https(async |client: Client| {
        let client = client.with("TLS", "--allow-http-registry", "--registry-cacert=TRUST/ca.crt");
        client.remote.push(&client.image, "demo/cosign:v1", Some(&client.robot)).await.unwrap();
        // Without a transparency log, and without asking anybody on the internet for keys.
        let verify = "cosign verify $TLS --key cosign.pub --insecure-ignore-tlog --trusted-root root.json";
        let attestation = verify.replace("verify", "verify-attestation --type https://landfast.test/checked");
        client
            .run(&format!(
                "export COSIGN_PASSWORD=
                cosign login $HOST --username $ROBOT --password-stdin < $PASSWORD
                cosign generate-key-pair
                cosign signing-config create --out signing.json
                cosign trusted-root create --out root.json
                cosign sign $TLS --yes --key cosign.key --signing-config signing.json --trusted-root root.json $HOST/demo/cosign@$DIGEST
                {verify} $HOST/demo/cosign:v1 | grep -F $DIGEST
                echo '{{\"passed\": true}}' > predicate.json
                cosign attest $TLS --yes --key cosign.key --signing-config signing.json --trusted-root root.json \
                    --predicate predicate.json --type https://landfast.test/checked $HOST/demo/cosign@$DIGEST
                {attestation} $HOST/demo/cosign:v1 > /dev/null
                cosign generate-key-pair --output-key-prefix other"
            ))
            .await;
        let wrong =
            client.refused(&format!("{} $HOST/demo/cosign:v1", verify.replace("cosign.pub", "other.pub"))).await;
        assert!(wrong.contains("no matching signatures") || wrong.contains("signature"), "{wrong}");
    });
}

#[test]
fn programs_built_on_go_containerregistry() {
    on_http_and_https(async |client: Client| client.remote.go_containerregistry("demo", &client.robot).await);
}

#[test]
fn programs_built_on_oras() {
    on_http_and_https(async |client: Client| client.remote.oras_go("demo", &client.robot).await);
}

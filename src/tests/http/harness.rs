//! A registry in memory with a policy, and requests to it.
//!
//! | Project | visibility | members |
//! |---|---|---|
//! | `team` | Private | `dev` (Developer), `guest` (Guest) |
//! | `base` | Private | `dev` has no role here, `librarian` (Developer) has |
//! | `shared` | Internal | none |
//! | `public` | Public | `publisher` (Developer) |

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use k8s_openapi::jiff::Timestamp;
use landfast::config::{Layers, Limits, Proxies};
use landfast::oci::Digest;
use landfast::policy::{
    CredentialClaims, CredentialSubject, Grant, KeySet, ProjectEntry, RegistryFacts, RobotGrant, Role, Scope,
    SigningKey, Snapshot, Users, Visibility,
};
use landfast::registry::auth::{Issuers, Live, TokenReviewer};
use landfast::registry::content::Content;
use landfast::registry::http::{App, Bounds, Connection, HttpMetrics, router};
use landfast::registry::storage::memory::MemoryStore;
use landfast::registry::storage::{MeteredStore, ObjectStore, SignedUrls};
use landfast::telemetry::{Metrics, Traces};
use serde_json::{Value, json};
use tower::ServiceExt as _;

pub const HOST: &str = "registry.example:5000";
pub const NOW: i64 = 1_800_000_000;
pub const TOKEN_TTL: i64 = 300;

pub struct Registry {
    pub router: axum::Router,
    pub live: Arc<Live>,
    pub keys: Arc<KeySet>,
    pub metrics: Metrics,
    pub bounds: Bounds,
    pub issuers: Arc<Issuers>,
    clock: Arc<AtomicI64>,
    /// What its storage needs to be there.
    _place: Option<Place>,
}

pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Reply {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    /// Status and first error code.
    pub fn refusal(&self) -> (u16, String) {
        (self.status.as_u16(), self.json()["errors"][0]["code"].as_str().unwrap_or_default().to_owned())
    }

    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{:?} {:?}", self.headers, self.body);
        self
    }
}

pub fn keys(seed: u8) -> Arc<KeySet> {
    Arc::new(KeySet::new(SigningKey::from_seed(&[seed; 32]).unwrap(), vec![]))
}

pub fn snapshot() -> Snapshot {
    let project = |path: &str, visibility| (path.to_owned(), ProjectEntry::new(path, visibility));
    let robot = |name: &str, project: &str, role| {
        let grant = Grant::new(Scope::Project(project.to_owned()), role);
        (format!("uid-{name}"), RobotGrant { grant, robots: vec![name.to_owned()], generation: 0 })
    };
    Snapshot {
        projects: HashMap::from([
            project("team", Visibility::Private),
            project("base", Visibility::Private),
            project("shared", Visibility::Internal),
            project("public", Visibility::Public),
        ]),
        robots: HashMap::from([
            robot("dev", "team", Role::Developer),
            robot("guest", "team", Role::Guest),
            robot("librarian", "base", Role::Developer),
            robot("publisher", "public", Role::Developer),
        ]),
        ..Snapshot::new(RegistryFacts::new("registry-uid", "ns/main"))
    }
}

#[cfg(feature = "s3")]
type Place = crate::s3_server::S3Server;
#[cfg(not(feature = "s3"))]
type Place = ();

/// In memory, or with `TEST_STORAGE=s3` in a bucket: every test runs over both.
fn storage() -> (Arc<dyn ObjectStore>, Option<Place>) {
    match std::env::var("TEST_STORAGE").as_deref() {
        #[cfg(feature = "s3")]
        Ok("s3") => {
            let server = Place::start();
            (Arc::new(connect(&server.settings())), Some(server))
        }
        Ok(other) => panic!("TEST_STORAGE={other} is not known"),
        Err(_) => (Arc::new(MemoryStore::new()), None),
    }
}

/// From wherever it is called.
#[cfg(feature = "s3")]
pub fn connect(settings: &landfast::config::S3Storage) -> landfast::registry::storage::s3::S3Store {
    use landfast::registry::storage::s3::{Purpose, S3Store};
    std::thread::scope(|scope| {
        let connect = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(S3Store::connect(settings, Purpose::Write)).unwrap()
        };
        scope.spawn(connect).join().unwrap()
    })
}

pub fn subject(robot: &str) -> CredentialSubject {
    let (namespace, name) = ("ns".to_owned(), robot.to_owned());
    CredentialSubject::Robot { member: format!("uid-{robot}"), namespace, name, generation: 0 }
}

impl Registry {
    /// With the policy above in force.
    pub fn new() -> Self {
        Self::behind(&[])
    }

    /// Behind proxies with these addresses.
    pub fn behind(proxies: &[&str]) -> Self {
        let trusted = proxies.iter().map(|range| range.parse().unwrap()).collect();
        let registry = Self::build(Proxies { trusted, ..Proxies::default() }, Traces::default(), Limits::default());
        registry.publish(snapshot());
        registry
    }

    pub fn without_policy() -> Self {
        Self::build(Proxies::default(), Traces::default(), Limits::default())
    }

    /// With the policy above, and with limits as they are configured: in YAML's flow style.
    pub fn with_limits(limits: &str) -> Self {
        Self::with_limits_behind(&[], limits)
    }

    /// The same, behind proxies with these addresses.
    pub fn with_limits_behind(proxies: &[&str], limits: &str) -> Self {
        let mut layers = Layers::default();
        let needed = ["storage.filesystem.root=/", "policy.kube={namespace: n, registry: r}"];
        for assignment in needed.map(str::to_owned).into_iter().chain([format!("limits={{{limits}}}")]) {
            layers.set(&assignment).unwrap();
        }
        let trusted = proxies.iter().map(|range| range.parse().unwrap()).collect();
        let proxies = Proxies { trusted, ..Proxies::default() };
        let registry = Self::build(proxies, Traces::default(), layers.finish().unwrap().limits);
        registry.publish(snapshot());
        registry
    }

    /// Whose requests have spans.
    pub fn tracing(traces: Traces) -> Self {
        let registry = Self::build(Proxies::default(), traces, Limits::default());
        registry.publish(snapshot());
        registry
    }

    /// One of several processes that serve the same storage, with the policy above.
    pub fn over(store: Arc<dyn ObjectStore>, redirect: Option<Arc<dyn SignedUrls>>) -> Self {
        let registry = Self::build_over(store, redirect, Proxies::default(), Traces::default(), Limits::default());
        registry.publish(snapshot());
        registry
    }

    /// With the policy above, in a cluster that is asked about tokens.
    pub fn asking(reviewer: Arc<dyn TokenReviewer>) -> Self {
        let (store, place) = storage();
        let built =
            Self::build_with(store, None, Proxies::default(), Traces::default(), Limits::default(), Some(reviewer));
        let registry = Self { _place: place, ..built };
        registry.publish(snapshot());
        registry
    }

    fn build(proxies: Proxies, traces: Traces, limits: Limits) -> Self {
        let (store, place) = storage();
        Self { _place: place, ..Self::build_over(store, None, proxies, traces, limits) }
    }

    fn build_over(
        store: Arc<dyn ObjectStore>,
        redirect: Option<Arc<dyn SignedUrls>>,
        proxies: Proxies,
        traces: Traces,
        limits: Limits,
    ) -> Self {
        Self::build_with(store, redirect, proxies, traces, limits, None)
    }

    fn build_with(
        store: Arc<dyn ObjectStore>,
        redirect: Option<Arc<dyn SignedUrls>>,
        proxies: Proxies,
        traces: Traces,
        limits: Limits,
        reviewer: Option<Arc<dyn TokenReviewer>>,
    ) -> Self {
        // As `main` does. Already installed by another test: the same one.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let (live, clock, metrics) = (Arc::new(Live::new()), Arc::new(AtomicI64::new(NOW)), Metrics::new());
        let store = MeteredStore::new(store, "memory", &metrics);
        let content = Content::new(Arc::new(store)).with_redirect(redirect);
        let mut app = App::new(content, Arc::clone(&live), HttpMetrics::register(&metrics));
        app.proxies = proxies;
        app.traces = traces;
        let time = Arc::clone(&clock);
        app.clock = Arc::new(move || Timestamp::from_second(time.load(Ordering::Relaxed)).unwrap());
        app.limits = Arc::new(limits);
        app.reviewer = reviewer;
        let (bounds, issuers) = (Bounds::of(&app), Arc::clone(&app.issuers));
        Self { router: router(app), bounds, live, keys: keys(1), metrics, issuers, clock, _place: None }
    }

    pub fn publish(&self, snapshot: Snapshot) {
        self.live.publish(Arc::new(snapshot), Arc::clone(&self.keys));
    }

    /// Puts users with passwords in place of those before.
    pub fn publish_users(&self, users: &[(&str, &str)]) {
        let line = |(name, password): &(&str, &str)| format!("{name}:{}\n", bcrypt::hash(password, 4).unwrap());
        let file: String = users.iter().map(line).collect();
        self.live.publish_users(Arc::new(Users::parse(file.as_bytes()).unwrap()));
    }

    pub fn pass_time(&self, seconds: i64) {
        self.clock.fetch_add(seconds, Ordering::Relaxed);
    }

    pub fn password(&self, robot: &str) -> String {
        let claims = CredentialClaims {
            aud: "registry-uid".to_owned(),
            subject: subject(robot),
            iat: NOW,
            exp: Some(NOW + 86_400),
        };
        claims.sign(&self.keys).unwrap()
    }

    pub fn basic(&self, robot: &str) -> String {
        format!("Basic {}", STANDARD.encode(format!("robot/ns/{robot}:{}", self.password(robot))))
    }

    /// What a counter whose labels contain this shows.
    pub fn count(&self, name: &str, label: &str) -> u64 {
        let text = self.metrics.encode().unwrap();
        let prefix = format!("landfast_{name}_total{{");
        let line = text.lines().find(|line| line.starts_with(&prefix) && line.contains(&format!("\"{label}\"")));
        line.map_or(0, |line| line.rsplit_once(' ').unwrap().1.parse().unwrap())
    }

    /// An unauthenticated request.
    pub fn request(&self, method: &str, target: &str) -> Call<'_> {
        let mut request = Request::builder().method(method).uri(target);
        request = request.header("host", HOST);
        Call { registry: self, request, body: Body::empty() }
    }

    /// A request by a robot, with its password.
    pub fn by(&self, robot: &str, method: &str, target: &str) -> Call<'_> {
        self.request(method, target).header("authorization", &self.basic(robot))
    }

    /// A token for the scopes, by a robot or by nobody.
    pub async fn token(&self, robot: Option<&str>, scopes: &[&str]) -> String {
        let query: Vec<_> = scopes.iter().map(|scope| format!("scope={scope}")).collect();
        let target = format!("/token?service={HOST}&{}", query.join("&"));
        let call = match robot {
            Some(robot) => self.by(robot, "GET", &target),
            None => self.request("GET", &target),
        };
        call.send().await.expect(200).json()["token"].as_str().unwrap().to_owned()
    }

    pub async fn push_blob(&self, robot: &str, repository: &str, content: &[u8]) -> Digest {
        let digest = Digest::sha256(content);
        let target = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
        self.by(robot, "POST", &target).body(content.to_vec()).send().await.expect(201);
        digest
    }

    /// Pushes an image of two blobs under a tag; returns its manifest.
    pub async fn push_image(&self, robot: &str, repository: &str, tag: &str, layer: &[u8]) -> Vec<u8> {
        let config = self.push_blob(robot, repository, b"{}").await;
        let digest = self.push_blob(robot, repository, layer).await;
        let manifest = image(OCI_MANIFEST, &config, 2, &digest, layer.len());
        self.put_manifest(robot, repository, tag, OCI_MANIFEST, &manifest).await.expect(201);
        manifest
    }

    pub async fn put_manifest(
        &self,
        robot: &str,
        repository: &str,
        reference: &str,
        media_type: &str,
        manifest: &[u8],
    ) -> Reply {
        let call = self.by(robot, "PUT", &format!("/v2/{repository}/manifests/{reference}"));
        call.header("content-type", media_type).body(manifest.to_vec()).send().await
    }
}

pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// Spaced as no serialiser would: what comes back must be what was sent.
pub fn image(media_type: &str, config: &Digest, config_size: usize, layer: &Digest, layer_size: usize) -> Vec<u8> {
    let layers = json!([{"mediaType": "application/octet-stream", "digest": layer, "size": layer_size}]);
    let config = json!({"mediaType": "application/octet-stream", "digest": config, "size": config_size});
    format!("{{ \"schemaVersion\":2,\n\t\"mediaType\":\"{media_type}\", \"config\":{config},\"layers\" : {layers} }}\n")
        .into_bytes()
}

pub struct Call<'a> {
    registry: &'a Registry,
    request: http::request::Builder,
    body: Body,
}

impl Call<'_> {
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.request = self.request.header(name, value);
        self
    }

    /// Asks for another host.
    pub fn host(mut self, host: &str) -> Self {
        self.request.headers_mut().unwrap().insert("host", host.parse().unwrap());
        self
    }

    /// Over a connection from this address.
    pub fn from(mut self, address: &str) -> Self {
        let peer = std::net::SocketAddr::new(address.parse().unwrap(), 4711);
        self.request = self.request.extension(Connection::plain(peer));
        self
    }

    pub fn bearer(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    /// A body of known length, announced as a client does.
    pub fn body(mut self, content: impl Into<Bytes>) -> Self {
        let content = content.into();
        self.request = self.request.header("content-length", content.len());
        self.body = Body::from(content);
        self
    }

    /// A body of unknown length.
    pub fn stream(mut self, body: Body) -> Self {
        self.body = body;
        self
    }

    pub async fn send(self) -> Reply {
        let request = self.request.body(self.body).unwrap();
        let (parts, body) = self.registry.router.clone().oneshot(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Reply { status: parts.status, headers: parts.headers, body }
    }
}

//! What is recorded of who did what, and under which address and name of the request.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Once};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::Algorithm;
use landfast::oci::Digest;
use landfast::policy::{FailureLimits, Glob, ImmutableTags, OidcIssuer, PolicyRule, Providers, Role};
use landfast::registry::content::keys;
use landfast::registry::storage::memory::MemoryStore;
use landfast::registry::storage::{Condition, ObjectStore};
use landfast::telemetry::UNVERIFIED;
use serde_json::json;
use tracing::field::{Field, Visit};
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt as _};

use crate::harness::{NOW, OCI_MANIFEST, Registry, Reply, image, snapshot};
use crate::issuer::{Issuer, Key};

pub type Line = BTreeMap<&'static str, String>;

thread_local! {
    /// What has been logged on this thread.
    static LOGGED: RefCell<Vec<(&'static Metadata<'static>, Line)>> = const { RefCell::new(Vec::new()) };
}

/// Collects lines, each for the test on whose thread it was logged. There is one for all tests: with one for each, what
/// `tracing` remembers of who listens would depend on which test comes first.
struct Collector;

/// The lines of one log target, on this thread, from now on.
pub struct Lines(&'static str);

struct Fields(Line);

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

impl<S: Subscriber> Layer<S> for Collector {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields(Line::new());
        event.record(&mut fields);
        LOGGED.with_borrow_mut(|logged| logged.push((event.metadata(), fields.0)));
    }
}

impl Lines {
    pub fn of(target: &'static str) -> Self {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            tracing::subscriber::set_global_default(tracing_subscriber::registry().with(Collector)).unwrap();
        });
        LOGGED.take();
        Self(target)
    }

    pub fn take(&self) -> Vec<Line> {
        self.events().map(|(_, line)| line).collect()
    }

    /// The names of the events since the last look.
    fn names(&self) -> Vec<&'static str> {
        self.events().map(|(metadata, _)| metadata.name()).collect()
    }

    fn events(&self) -> impl Iterator<Item = (&'static Metadata<'static>, Line)> {
        LOGGED.take().into_iter().filter(|(metadata, _)| metadata.target() == self.0)
    }

    /// The only line since the last look.
    #[track_caller]
    fn one(&self) -> Line {
        let lines = self.take();
        assert_eq!(lines.len(), 1, "{lines:?}");
        lines.into_iter().next().unwrap()
    }
}

const CLIENT: &str = "203.0.113.7";

/// A record with these fields, of the request that was answered so.
fn record(reply: &Reply, fields: &[(&'static str, &str)]) -> Line {
    let mut line: Line = fields.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    line.insert("remote", CLIENT.to_owned());
    line.insert("request_id", reply.header("x-request-id").to_owned());
    line
}

fn by_dev(event: &'static str, method: &'static str) -> Vec<(&'static str, &'static str)> {
    vec![
        ("event", event),
        ("result", "done"),
        ("identity", "robot/ns/dev"),
        ("method", method),
        ("repository", "team/app"),
    ]
}

#[tokio::test]
async fn each_change_is_recorded_once() {
    let registry = Registry::new();
    let lines = Lines::of("audit");
    let call = |method: &str, target: &str| registry.by("dev", method, target).from(CLIENT);

    let digest = Digest::sha256(b"{}");
    let monolithic = call("POST", &format!("/v2/team/app/blobs/uploads/?digest={digest}")).body("{}");
    let reply = monolithic.send().await.expect(201);
    let upload =
        |method, digest: &Digest| [by_dev("upload", method), vec![("digest", digest.to_string().leak())]].concat();
    assert_eq!(lines.one(), record(&reply, &upload("POST", &digest)));

    let start = call("POST", "/v2/team/app/blobs/uploads/").send().await.expect(202);
    assert_eq!(lines.take(), []);
    let layer = Digest::sha256(b"layer");
    let target = format!("{}?digest={layer}", start.header("location"));
    let reply = call("PUT", &target).body("layer").send().await.expect(201);
    assert_eq!(lines.one(), record(&reply, &upload("PUT", &layer)));

    let mount = format!("/v2/team/other/blobs/uploads/?mount={layer}&from=team/app");
    let reply = call("POST", &mount).send().await.expect(201);
    let layer_text = layer.to_string();
    let mounted = [
        ("event", "mount"),
        ("result", "done"),
        ("identity", "robot/ns/dev"),
        ("method", "POST"),
        ("repository", "team/other"),
        ("from", "team/app"),
        ("digest", &layer_text),
    ];
    assert_eq!(lines.one(), record(&reply, &mounted));

    let manifest = image(OCI_MANIFEST, &digest, 2, &layer, 5);
    let pushed = Digest::sha256(&manifest).to_string();
    let put = call("PUT", "/v2/team/app/manifests/v1").header("content-type", OCI_MANIFEST).body(manifest);
    let reply = put.send().await.expect(201);
    let push = [by_dev("push", "PUT"), vec![("reference", "v1"), ("digest", pushed.clone().leak())]].concat();
    assert_eq!(lines.one(), record(&reply, &push));

    for (event, reference) in [("delete-tag", "v1"), ("delete-manifest", &pushed)] {
        let reply = call("DELETE", &format!("/v2/team/app/manifests/{reference}")).send().await.expect(202);
        let delete = [by_dev(event, "DELETE"), vec![("reference", reference.to_owned().leak())]].concat();
        assert_eq!(lines.one(), record(&reply, &delete));
    }
    let reply = call("DELETE", &format!("/v2/team/app/blobs/{layer}")).send().await.expect(202);
    let delete = [by_dev("delete-blob", "DELETE"), vec![("digest", layer.to_string().leak())]].concat();
    assert_eq!(lines.one(), record(&reply, &delete));

    let start = call("POST", "/v2/team/app/blobs/uploads/").send().await.expect(202);
    let upload = start.header("location").rsplit('/').next().unwrap().to_owned();
    let reply = call("DELETE", start.header("location")).send().await.expect(204);
    let mut cancelled = lines.one();
    // However an upload is named: the record names it.
    assert!(cancelled.remove("reference").is_some_and(|reference| upload.starts_with(&reference)), "{upload}");
    assert_eq!(cancelled, record(&reply, &by_dev("cancel-upload", "DELETE")));
}

#[tokio::test]
async fn reading_is_not_recorded() {
    let registry = Registry::new();
    registry.push_image("dev", "team/app", "v1", b"layer").await;
    let lines = Lines::of("audit");
    registry.by("dev", "GET", "/v2/team/app/manifests/v1").send().await.expect(200);
    registry.by("dev", "GET", "/v2/team/app/tags/list").send().await.expect(200);
    registry.request("GET", "/v2/").send().await.expect(401);
    assert_eq!(lines.take(), []);
}

#[tokio::test]
async fn a_login_and_its_token_are_recorded() {
    let registry = Registry::new();
    let lines = Lines::of("audit");
    let target = "/token?scope=repository:team/app:pull,push&scope=repository:base/app:pull";
    let reply = registry.by("dev", "GET", target).from(CLIENT).send().await.expect(200);
    let line = |event, more: &[(&'static str, &str)]| {
        let fields = [("event", event), ("result", "done"), ("identity", "robot/ns/dev"), ("method", "GET")];
        record(&reply, &[&fields, more].concat())
    };
    let token = line("token", &[("scope", "repository:team/app:pull,push")]);
    assert_eq!(lines.take(), [line("login", &[]), token]);

    registry.request("GET", "/token").from(CLIENT).send().await.expect(200);
    let anonymous = lines.one();
    assert_eq!((anonymous["event"].as_str(), anonymous["identity"].as_str()), ("token", "anonymous"));
}

#[tokio::test]
async fn a_failed_login_names_who_was_tried_and_never_the_password() {
    let registry = Registry::new();
    let lines = Lines::of("audit");
    let reason = "user name or password is wrong, or the password has expired";
    let expected = |reply: &Reply, method, user: &str| {
        let fields = [
            ("event", "login"),
            ("result", "refused"),
            ("identity", "-"),
            ("user", user),
            ("method", method),
            ("reason", reason),
        ];
        record(reply, &fields)
    };
    let evil = format!("root\u{1b}\n{}", "x".repeat(100));
    let shown = format!("root\\u{{1b}}\\n{}…", "x".repeat(58));
    for (user, shown) in [("robot/ns/dev", "robot/ns/dev"), (evil.as_str(), shown.as_str())] {
        let basic = format!("Basic {}", STANDARD.encode(format!("{user}:hunter2")));
        for target in ["/token", "/v2/"] {
            let call = registry.request("GET", target).header("authorization", &basic).from(CLIENT);
            let reply = call.send().await.expect(401);
            assert_eq!(lines.one(), expected(&reply, "GET", shown));
        }
    }
    let form = "grant_type=password&username=robot%2Fns%2Fdev&password=hunter2";
    let call = registry.request("POST", "/token").header("content-type", "application/x-www-form-urlencoded");
    let reply = call.body(form).from(CLIENT).send().await.expect(401);
    assert_eq!(lines.one(), expected(&reply, "POST", "robot/ns/dev"));
}

#[tokio::test]
async fn a_login_that_is_kept_waiting_is_recorded_in_every_way() {
    let registry = Registry::new();
    let mut policy = snapshot();
    policy.registry.failures = FailureLimits { per_minute: 1, burst: 1 };
    registry.publish(policy);
    let lines = Lines::of("audit");
    let basic = format!("Basic {}", STANDARD.encode("alice:hunter2"));
    let get = || registry.request("GET", "/token").header("authorization", &basic).from(CLIENT);
    let form = "grant_type=password&username=alice&password=hunter2";
    let post = || {
        let call = registry.request("POST", "/token").header("content-type", "application/x-www-form-urlencoded");
        call.body(form).from(CLIENT)
    };
    get().send().await.expect(401);
    lines.one();
    for (method, call) in [("GET", get()), ("POST", post())] {
        let reply = call.send().await.expect(429);
        let fields = [
            ("event", "login"),
            ("result", "refused"),
            ("identity", "-"),
            ("user", "alice"),
            ("method", method),
            ("reason", "too many failed logins; try again in 60 seconds"),
        ];
        assert_eq!(lines.one(), record(&reply, &fields));
    }
    let counted = ["password", "limited"].map(|reason| registry.count("authentication_failures", reason));
    assert_eq!(counted, [1, 2]);
}

#[tokio::test]
async fn a_login_by_form_is_recorded_under_the_users_name() {
    let registry = Registry::new();
    registry.publish_users(&[("alice", "secret")]);
    let lines = Lines::of("audit");
    let call = registry.request("POST", "/token").header("content-type", "application/x-www-form-urlencoded");
    let reply = call.body("grant_type=password&username=alice&password=secret").from(CLIENT).send().await.expect(200);
    let line = |event, more: &[(&'static str, &str)]| {
        let fields = [("event", event), ("result", "done"), ("identity", "htpasswd:alice"), ("method", "POST")];
        record(&reply, &[&fields, more].concat())
    };
    assert_eq!(lines.take(), [line("login", &[]), line("token", &[("scope", "")])]);
}

/// A form logs somebody in whoever the header may name.
#[tokio::test]
async fn a_login_by_form_beside_another_is_recorded_under_the_forms_name() {
    let registry = Registry::new();
    registry.publish_users(&[("alice", "secret")]);
    let form = |credentials: &str| {
        let call = registry.by("dev", "POST", "/token").header("content-type", "application/x-www-form-urlencoded");
        call.body(format!("grant_type={credentials}")).from(CLIENT).send()
    };
    let lines = Lines::of("audit");
    form("password&username=alice&password=secret").await.expect(200);
    let identities: Vec<_> = lines.take().into_iter().map(|mut line| line.remove("identity").unwrap()).collect();
    assert_eq!(identities, ["htpasswd:alice"; 2]);
    form("password&username=alice&password=wrong").await.expect(401);
    let line = lines.one();
    assert_eq!((&*line["event"], &*line["identity"], &*line["user"]), ("login", "-", "alice"));
    form("refresh_token&refresh_token=forged").await.expect(401);
    let line = lines.one();
    assert_eq!((&*line["identity"], line.get("user")), ("-", None));
}

#[tokio::test]
async fn the_access_line_of_a_login_by_form_names_who_logged_in() {
    let registry = Registry::new();
    registry.publish_users(&[("alice", "secret")]);
    let lines = Lines::of("access");
    for call in [registry.request("POST", "/token"), registry.by("dev", "POST", "/token")] {
        let call = call.header("content-type", "application/x-www-form-urlencoded");
        let form = "grant_type=password&username=alice&password=secret&access_type=offline";
        let reply = call.body(form).send().await.expect(200).json();
        assert_eq!(lines.one()["identity"], "htpasswd:alice");
        let form = |token: &str| format!("grant_type=refresh_token&refresh_token={token}");
        let call = || registry.by("dev", "POST", "/token").header("content-type", "application/x-www-form-urlencoded");
        call().body(form(reply["refresh_token"].as_str().unwrap())).send().await.expect(200);
        assert_eq!(lines.one()["identity"], "htpasswd:alice");
        call().body(form("forged")).send().await.expect(401);
        assert_eq!(lines.one()["identity"], "-");
    }
}

/// Anybody can cause them, so nobody waits for them.
#[tokio::test]
async fn records_without_a_credential_behind_them_are_told_from_the_others() {
    let registry = Registry::new();
    let lines = Lines::of("audit");
    let wrong = format!("Basic {}", STANDARD.encode("alice:wrong"));
    let get = |target| registry.request("GET", target);
    for (call, name) in [
        (get("/token"), UNVERIFIED),
        (get("/v2/").header("authorization", &wrong), UNVERIFIED),
        (get("/v2/").bearer("forged"), UNVERIFIED),
        (registry.by("dev", "GET", "/token"), "verified"),
        (registry.by("guest", "PUT", "/v2/team/app/manifests/v1"), "verified"),
    ] {
        call.send().await;
        let names = lines.names();
        assert!(!names.is_empty() && names.iter().all(|seen| *seen == name), "{names:?}");
    }
}

#[tokio::test]
async fn a_denial_names_what_was_asked_for() {
    let registry = Registry::new();
    let lines = Lines::of("audit");
    let call = registry.by("guest", "PUT", "/v2/team/app/manifests/v1").from(CLIENT);
    let reply = call.body("{}").send().await.expect(403);
    let expected = [
        ("event", "denied"),
        ("result", "refused"),
        ("identity", "robot/ns/guest"),
        ("user", "robot/ns/guest"),
        ("method", "PUT"),
        ("repository", "team/app"),
        ("reference", "v1"),
        ("reason", "robot/ns/guest may not push team/app"),
    ];
    assert_eq!(lines.one(), record(&reply, &expected));

    let forged = registry.request("GET", "/v2/team/app/tags/list").bearer("forged").from(CLIENT);
    forged.send().await.expect(401);
    assert_eq!((lines.one()["event"].as_str(), registry.count("authentication_failures", "token")), ("denied", 1));
}

#[tokio::test]
async fn a_push_to_an_immutable_tag_is_recorded_as_denied() {
    let mut snapshot = snapshot();
    snapshot.projects.get_mut("team").unwrap().policies = vec![PolicyRule {
        immutable_tags: Some(ImmutableTags::new(["*"])),
        ..PolicyRule::new("all", vec![Glob::new("**")])
    }];
    let registry = Registry::new();
    registry.publish(snapshot);
    let digest = Digest::sha256(&registry.push_image("dev", "team/app", "v1", b"layer").await);
    let lines = Lines::of("audit");
    let reply = registry.by("dev", "DELETE", "/v2/team/app/manifests/v1").from(CLIENT).send().await.expect(403);
    let reason = format!(
        "tag v1 is immutable and points to {digest}: use another tag, or have spec.immutableTags of the RepositoryPolicy changed first"
    );
    let expected = [
        ("event", "denied"),
        ("result", "refused"),
        ("identity", "robot/ns/dev"),
        ("user", "robot/ns/dev"),
        ("method", "DELETE"),
        ("repository", "team/app"),
        ("reference", "v1"),
        ("reason", &reason),
    ];
    assert_eq!(lines.one(), record(&reply, &expected));
}

const PROXY: &str = "10.0.0.1";

#[tokio::test]
async fn only_a_trusted_proxy_says_who_the_client_is() {
    for (trusted, remote, id, realm) in [
        (&[PROXY][..], "198.51.100.1", Some("from-proxy"), "https://images.example/token"),
        (&[], PROXY, None, "http://registry.example:5000/token"),
    ] {
        let registry = Registry::behind(trusted);
        let lines = Lines::of("access");
        let call = registry.request("GET", "/v2/").from(PROXY);
        let call = call.header("x-forwarded-for", "192.0.2.9, 198.51.100.1").header("x-forwarded-proto", "https");
        let call = call.header("x-forwarded-host", "images.example").header("x-request-id", "from-proxy");
        let reply = call.header("forwarded", "for=192.0.2.1;proto=https;host=evil.example").send().await.expect(401);
        let line = lines.one();
        assert_eq!(line["remote"], remote);
        assert_eq!(line["request_id"], reply.header("x-request-id"));
        assert_eq!(reply.header("x-request-id") == "from-proxy", id.is_some());
        assert!(reply.header("www-authenticate").contains(&format!("realm=\"{realm}\"")), "{:?}", reply.headers);
    }
}

#[tokio::test]
async fn a_malformed_request_id_is_replaced() {
    let registry = Registry::behind(&[PROXY]);
    let too_long = "x".repeat(65);
    for given in ["", "a b", "\"", &too_long] {
        let reply = registry.request("GET", "/v2/").from(PROXY).header("x-request-id", given).send().await;
        assert_eq!(reply.header("x-request-id").len(), 36, "{given:?}");
    }
}

#[tokio::test]
async fn the_deletion_of_a_repository_is_recorded_as_what_it_is() {
    let registry = Registry::new();
    let mut policy = snapshot();
    policy.robots.get_mut("uid-dev").unwrap().grant.role = Role::Admin;
    registry.publish(policy);
    registry.push_image("dev", "team/app", "v1", b"layer").await;
    let lines = Lines::of("audit");
    let target = "/api/v1/repositories/team/app";
    let reply = registry.by("dev", "DELETE", target).from(CLIENT).send().await.expect(202);
    assert_eq!(lines.one(), record(&reply, &by_dev("delete-repository", "DELETE")));
    registry.by("dev", "DELETE", target).from(CLIENT).send().await.expect(404);
    assert_eq!(lines.take(), [], "nothing was done");

    let reply = registry.by("guest", "DELETE", target).from(CLIENT).send().await.expect(403);
    let denied = lines.one();
    assert_eq!(
        (&*denied["event"], &*denied["identity"], &*denied["repository"]),
        ("denied", "robot/ns/guest", "team/app")
    );
    assert_eq!(denied["request_id"], reply.header("x-request-id"));
    // What is answered as if it weren't there was refused all the same.
    registry.by("librarian", "GET", target).from(CLIENT).send().await.expect(404);
    let hidden = lines.one();
    assert_eq!(
        (&*hidden["event"], &*hidden["identity"], &*hidden["repository"]),
        ("denied", "robot/ns/librarian", "team/app")
    );
}

/// A registry where `dev` is an Admin, with an image, and what it is stored in.
async fn stored_image() -> (Registry, Arc<MemoryStore>) {
    let store = Arc::new(MemoryStore::new());
    let registry = Registry::over(store.clone(), None);
    let mut policy = snapshot();
    policy.robots.get_mut("uid-dev").unwrap().grant.role = Role::Admin;
    registry.publish(policy);
    registry.push_image("dev", "team/app", "v1", b"layer").await;
    (registry, store)
}

#[tokio::test]
async fn the_deletion_of_a_repository_is_recorded_though_the_client_goes_away() {
    let (registry, store) = stored_image().await;
    let lines = Lines::of("audit");
    let target = "/api/v1/repositories/team/app";
    let tag = keys::tag(&"team/app".parse().unwrap(), &"v1".parse().unwrap());
    let mut call = Box::pin(registry.by("dev", "DELETE", target).from(CLIENT).send());
    while store.head(&tag).await.is_ok() {
        assert!(futures::poll!(&mut call).is_pending());
        tokio::task::yield_now().await;
    }
    drop(call);
    let recorded = async {
        loop {
            let recorded = lines.take();
            if !recorded.is_empty() {
                break recorded;
            }
            tokio::task::yield_now().await;
        }
    };
    let mut recorded = tokio::time::timeout(Duration::from_secs(10), recorded).await.expect("a record");
    let mut expected: Line =
        by_dev("delete-repository", "DELETE").into_iter().map(|(k, v)| (k, v.to_owned())).collect();
    expected.insert("remote", CLIENT.to_owned());
    assert!(recorded[0].remove("request_id").is_some());
    assert_eq!(recorded, [expected]);
    registry.by("dev", "GET", target).send().await.expect(404);
}

#[tokio::test]
async fn the_deletion_of_a_repository_that_fails_half_way_is_recorded() {
    let (registry, store) = stored_image().await;
    let damaged = keys::manifest(&"team/app".parse().unwrap(), &Digest::sha256(b"damaged"));
    store.put(&damaged, "{".into(), Condition::Always).await.unwrap();
    let lines = Lines::of("audit");
    let reply = registry.by("dev", "DELETE", "/api/v1/repositories/team/app").from(CLIENT).send().await.expect(500);
    let mut line = lines.one();
    let reason = line.remove("reason").unwrap();
    assert!(reason.contains("damaged"), "{reason}");
    let fields = by_dev("delete-repository", "DELETE");
    let fields =
        fields.into_iter().map(|(name, value)| if name == "result" { (name, "failed") } else { (name, value) });
    assert_eq!(line, record(&reply, &fields.collect::<Vec<_>>()));
    registry.by("dev", "GET", "/v2/team/app/manifests/v1").send().await.expect(404);
}

/// He is named once his token has been verified, and not before.
#[tokio::test]
async fn a_login_by_a_token_of_somebody_else_names_him_and_never_holds_the_token() {
    let (key, forger) = (Key::new("one", Algorithm::ES256), Key::new("one", Algorithm::ES256));
    let issuer = Issuer::start("127.0.0.1", &[&key]).await;
    let registry = Registry::new();
    let mut policy = snapshot();
    let definition = OidcIssuer {
        name: "corp".to_owned(),
        url: issuer.url.clone(),
        discovery_url: None,
        certificate_authority: Some(issuer.authority.clone()),
        audiences: vec!["registry".to_owned()],
        username_claim: "sub".to_owned(),
        groups_claim: None,
        conditions: vec![],
    };
    policy.registry.providers = Providers::new(vec![definition], None, None);
    registry.publish(policy);
    let claims = json!({"iss": issuer.url, "aud": "registry", "sub": "alice", "exp": NOW + 60});
    let lines = Lines::of("audit");
    for (key, names) in [(key, ["verified", "verified"].as_slice()), (forger, &[UNVERIFIED])] {
        let token = key.sign(&claims);
        let header = format!("Basic {}", STANDARD.encode(format!("ci:{token}")));
        registry.request("GET", "/token").header("authorization", &header).from(CLIENT).send().await;
        let logged = LOGGED.take();
        let held = |line: &Line| line.values().any(|value| value.contains(&token) || value.contains(&header));
        assert!(!logged.iter().any(|(_, line)| held(line)), "{logged:?}");
        LOGGED.set(logged);
        let audited: Vec<_> = lines.events().collect();
        assert_eq!(audited.iter().map(|(metadata, _)| metadata.name()).collect::<Vec<_>>(), names);
        let identity = if names.len() == 2 { "oidc:corp:alice" } else { "-" };
        assert!(audited.iter().all(|(_, line)| line["identity"] == identity), "{audited:?}");
        if names.len() == 1 {
            let (_, line) = &audited[0];
            assert_eq!((&*line["event"], &*line["user"], &*line["result"]), ("login", "ci", "refused"));
            assert_eq!(line["reason"], "the token's signature is wrong");
        }
    }
}

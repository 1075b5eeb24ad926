//! The policy of a Registry from the API server.
//!
//! # Flow
//! The Registry and its keys are followed by name, and the rest where Projects may come from: in the Registry's own
//! namespace, or everywhere. Namespaces are followed where Projects or ServiceAccounts are chosen by them. Each change wakes one task, which waits a moment for more, compiles, and publishes.
//!
//! # Guarantees
//! - Nothing is published before everything has been read once.
//! - While the API server is away the last policy stays in force.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use ::kube::api::PartialObjectMeta;
use ::kube::runtime::reflector::{Store, store};
use ::kube::runtime::watcher;
use ::kube::{Api, Client, ResourceExt as _};
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::api::v1alpha1::{Member, NamespacesFrom, Project, Registry, RepositoryPolicy};
use crate::policy::{Inputs, KeySet, Problem, compile};
use crate::registry::auth::Live;
use crate::watch::{Change, Unreadable, follow, follow_metadata};

/// One change often comes with others; a revocation must not wait long.
const DEBOUNCE: Duration = Duration::from_millis(20);

/// Keeps the policy of the Registry in force until `shutdown`.
pub async fn run(client: Client, namespace: String, registry: String, live: Arc<Live>, shutdown: CancellationToken) {
    let source = Source { client, namespace, registry, live, changed: Arc::new(Notify::new()) };
    let _ = shutdown.run_until_cancelled(source.run()).await;
}

struct Source {
    client: Client,
    namespace: String,
    registry: String,
    live: Arc<Live>,
    changed: Arc<Notify>,
}

/// How far the Registry reaches: what is followed for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Reach {
    /// Projects from other namespaces than its own.
    everywhere: bool,
    namespaces: bool,
}

impl Reach {
    fn of(registry: &Registry) -> Self {
        let everywhere = registry.spec.project_namespaces.from != NamespacesFrom::Same;
        Self { everywhere, namespaces: everywhere || registry.spec.authentication.selects_service_accounts() }
    }
}

/// What a policy is compiled from, as far as it depends on the reach.
struct Objects {
    projects: Store<Project>,
    policies: Store<RepositoryPolicy>,
    members: Store<Member>,
    /// Only where they may be read, because something is chosen by them.
    namespaces: Option<Store<PartialObjectMeta<Namespace>>>,
}

impl Objects {
    /// Waits until everything has been read once. The writers live as long as their followers.
    async fn ready(&self) {
        let Self { projects, policies, members, namespaces } = self;
        let _ = tokio::join!(projects.wait_until_ready(), policies.wait_until_ready(), members.wait_until_ready());
        if let Some(namespaces) = namespaces {
            let _ = namespaces.wait_until_ready().await;
        }
    }
}

impl Source {
    async fn run(&self) {
        let (registries, registry_writer) = store();
        let (secrets, secret_writer) = store();
        let registry_api = Api::namespaced(self.client.clone(), &self.namespace);
        let secret_api = Api::namespaced(self.client.clone(), &self.namespace);
        let named = |name: &str| watcher::Config::default().fields(&format!("metadata.name={name}"));
        let followers = async {
            tokio::join!(
                follow(registry_api, named(&self.registry), registry_writer, Unreadable::Keep, self.teller()),
                follow(
                    secret_api,
                    named(&format!("{}-keys", self.registry)),
                    secret_writer,
                    Unreadable::Keep,
                    self.teller()
                ),
            )
        };
        tokio::select! {
            _ = followers => {}
            () = self.publish_for_ever(&registries, &secrets) => {}
        }
    }

    /// Follows other objects when the Registry changes how far it reaches. Until they have been read the old ones stay
    /// followed: a revocation there counts all the while.
    async fn publish_for_ever(&self, registries: &Store<Registry>, secrets: &Store<Secret>) {
        // The writers live as long as this future.
        let _ = tokio::join!(registries.wait_until_ready(), secrets.wait_until_ready());
        let first = self.first_registry(registries).await;
        let mut reach = Reach::of(&first);
        let (mut objects, followers) = self.objects(reach);
        let mut followers: BoxFuture<'_, ()> = Box::pin(followers);
        loop {
            let wanted = tokio::select! {
                () = &mut followers => return,
                wanted = self.publish_while(reach, registries, secrets, &objects) => wanted,
            };
            let (next, next_followers) = self.objects(wanted);
            let mut next_followers: BoxFuture<'_, ()> = Box::pin(next_followers);
            let read = tokio::select! {
                () = &mut followers => return,
                () = &mut next_followers => return,
                () = next.ready() => true,
                _ = self.publish_while(wanted, registries, secrets, &objects) => false,
            };
            if read {
                (reach, objects, followers) = (wanted, next, next_followers);
            }
        }
    }

    async fn first_registry(&self, registries: &Store<Registry>) -> Arc<Registry> {
        loop {
            let changed = self.changed.notified();
            if let Some(registry) = registries.state().into_iter().next() {
                return registry;
            }
            tracing::warn!(registry = self.registry, "Registry is not there (yet)");
            changed.await;
        }
    }

    fn objects(&self, reach: Reach) -> (Objects, impl Future<Output = ()>) {
        let (projects, project_writer) = store();
        let (policies, policy_writer) = store();
        let (members, member_writer) = store();
        let (namespaces, namespace_writer) = store();
        let every = watcher::Config::default;
        let client = || self.client.clone();
        macro_rules! api {
            () => {
                if reach.everywhere { Api::all(client()) } else { Api::namespaced(client(), &self.namespace) }
            };
        }
        let followers = {
            let namespace_follower = follow_metadata(Api::all(client()), every(), namespace_writer, self.teller());
            let others = (
                follow(api!(), every(), project_writer, Unreadable::Keep, self.teller()),
                follow(api!(), every(), policy_writer, Unreadable::Keep, self.teller()),
                // What gives rights gives none while it can't be read.
                follow(api!(), every(), member_writer, Unreadable::Forget, self.teller()),
            );
            async move {
                let namespaces = async {
                    if reach.namespaces {
                        namespace_follower.await;
                    } else {
                        std::future::pending::<()>().await;
                    }
                };
                tokio::join!(others.0, others.1, others.2, namespaces);
            }
        };
        let namespaces = reach.namespaces.then_some(namespaces);
        (Objects { projects, policies, members, namespaces }, followers)
    }

    /// Publishes after each change, until the Registry reaches farther than `reach`, or less far: how far.
    async fn publish_while(
        &self,
        reach: Reach,
        registries: &Store<Registry>,
        secrets: &Store<Secret>,
        objects: &Objects,
    ) -> Reach {
        objects.ready().await;
        let mut keys: Option<(Option<String>, Arc<KeySet>)> = None;
        loop {
            // Registered before the state is read, so that no change falls between.
            let changed = self.changed.notified();
            if let Some(registry) = registries.state().into_iter().next() {
                let wanted = Reach::of(&registry);
                if wanted != reach {
                    return wanted;
                }
                keys = self.read_keys(secrets, keys);
                match &keys {
                    Some((_, keys)) => self.publish(registry, objects, Arc::clone(keys)),
                    None => tracing::warn!(registry = self.registry, "there are no signing keys (yet)"),
                }
            }
            changed.await;
            tokio::time::sleep(DEBOUNCE).await;
        }
    }

    /// The same `Arc` as long as the Secret is the same. Keys that can't be read leave the ones before in force.
    fn read_keys(
        &self,
        secrets: &Store<Secret>,
        known: Option<(Option<String>, Arc<KeySet>)>,
    ) -> Option<(Option<String>, Arc<KeySet>)> {
        let Some(secret) = secrets.state().into_iter().next() else { return known };
        let version = secret.resource_version();
        if known.as_ref().is_some_and(|(known, _)| *known == version) {
            return known;
        }
        let files = secret.data.iter().flatten().map(|(name, content)| (name.as_str(), content.0.as_slice()));
        match KeySet::from_files(files) {
            Ok(keys) => Some((version, Arc::new(keys))),
            Err(error) => {
                tracing::error!(%error, secret = secret.name_any(), "signing keys can't be used");
                known
            }
        }
    }

    fn publish(&self, registry: Arc<Registry>, objects: &Objects, keys: Arc<KeySet>) {
        let labels = |namespace: &Arc<PartialObjectMeta<Namespace>>| (namespace.name_any(), namespace.labels().clone());
        let namespaces =
            objects.namespaces.as_ref().map(|store| store.state().iter().map(labels).collect::<BTreeMap<_, _>>());
        let inputs = Inputs {
            registry,
            projects: objects.projects.state(),
            policies: objects.policies.state(),
            members: objects.members.state(),
            namespaces,
        };
        let (snapshot, problems) = compile(&inputs);
        report(&problems);
        self.live.note_problems(problems.len());
        let same = |published: &Arc<crate::registry::auth::Published>| {
            *published.snapshot == snapshot && Arc::ptr_eq(&published.keys, &keys)
        };
        if self.live.current().as_ref().is_some_and(same) {
            return;
        }
        let (projects, robots) = (snapshot.projects.len(), snapshot.robots.len());
        tracing::info!(projects, robots, problems = problems.len(), "policy in force");
        self.live.publish(Arc::new(snapshot), keys);
    }

    /// What a follower calls on each change.
    fn teller<K>(&self) -> impl FnMut(Change<'_, K>) + Send + use<K> {
        let changed = Arc::clone(&self.changed);
        move |change| {
            if let Change::Unreadable(invalid) = change {
                let (namespace, name) = (invalid.metadata.namespace.as_deref(), invalid.metadata.name.as_deref());
                tracing::warn!(namespace, name, error = %invalid.error, "object can't be read and is left out");
            }
            changed.notify_one();
        }
    }
}

/// The operator tells those who wrote the objects; here it is for whoever reads the logs.
pub(super) fn report(problems: &[Problem]) {
    for Problem { object, reason, message } in problems {
        tracing::debug!(
            kind = object.kind,
            namespace = object.namespace,
            name = object.name,
            reason = reason.as_str(),
            message,
            "object is left out"
        );
    }
}

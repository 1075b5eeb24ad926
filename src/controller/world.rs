//! Everything that the operator has to know, followed and kept in memory, and who is to be woken by which change.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{ClusterRoleBinding, Role, RoleBinding};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PartialObjectMeta;
use kube::runtime::reflector::{ObjectRef, Store, store};
use kube::runtime::watcher;
use kube::{Api, Client, Resource, ResourceExt as _};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;

use super::apply::{MANAGED_BY, Owner};
use super::registry::build::names;
use crate::api::v1alpha1::{Member, Project, Registry, RepositoryPolicy};
use crate::policy::compile::{belongs_to, claims, paths_touch};
use crate::policy::{Inputs, ObjectKey, Problem, Snapshot, compile};
use crate::watch::{self, Change, Unreadable};

/// What the operator knows.
pub(super) struct World {
    pub registries: Store<Registry>,
    pub projects: Store<Project>,
    pub policies: Store<RepositoryPolicy>,
    pub members: Store<Member>,
    pub namespaces: Store<PartialObjectMeta<Namespace>>,
    /// All of them, not only ours: pull secrets go into those that Projects name.
    pub all_service_accounts: Store<PartialObjectMeta<ServiceAccount>>,
    /// Of the registries: what keeps one from starting is told by no other object.
    pub pods: Store<Pod>,
    pub children: Children,
    /// Counts the changes that can change a compiled policy.
    version: AtomicU64,
    compiled: Mutex<CompiledByRegistry>,
}

/// With the count of changes that each was compiled at.
type CompiledByRegistry = HashMap<ObjectRef<Registry>, (u64, Arc<Compiled>)>;

/// The objects that we made: metadata only, where nothing else is read.
pub(super) struct Children {
    pub secrets: Store<PartialObjectMeta<Secret>>,
    pub services: Store<Service>,
    pub config_maps: Store<PartialObjectMeta<ConfigMap>>,
    pub claims: Store<PersistentVolumeClaim>,
    pub deployments: Store<Deployment>,
    pub disruption_budgets: Store<PartialObjectMeta<PodDisruptionBudget>>,
    /// Without their status, which changes whenever the load is measured.
    pub autoscalers: Store<HorizontalPodAutoscaler>,
    pub roles: Store<PartialObjectMeta<Role>>,
    pub role_bindings: Store<PartialObjectMeta<RoleBinding>>,
    pub cluster_role_bindings: Store<PartialObjectMeta<ClusterRoleBinding>>,
}

/// The compiled policy of one Registry.
pub(super) struct Compiled {
    pub snapshot: Snapshot,
    /// By kind, namespace and name.
    problems: HashMap<(String, String, String), Problem>,
}

impl Compiled {
    /// What is wrong with this object, if anything.
    pub fn problem<K: Resource<DynamicType = ()>>(&self, object: &K) -> Option<&Problem> {
        let namespace = object.meta().namespace.clone().unwrap_or_default();
        let name = object.meta().name.clone().unwrap_or_default();
        self.problems.get(&(K::kind(&()).into_owned(), namespace, name))
    }
}

/// Where the queues get their work from.
pub(super) struct Queues {
    pub registries: UnboundedReceiver<ObjectRef<Registry>>,
    pub projects: UnboundedReceiver<ObjectRef<Project>>,
    pub policies: UnboundedReceiver<ObjectRef<RepositoryPolicy>>,
    pub members: UnboundedReceiver<ObjectRef<Member>>,
}

/// Enqueues objects, once there are queues: whoever only stands by has none, and what is to be done is found in the stores
/// when he takes over.
#[derive(Clone, Default)]
pub(super) struct Wake {
    registries: Line<Registry>,
    projects: Line<Project>,
    policies: Line<RepositoryPolicy>,
    members: Line<Member>,
}

struct Line<K: Resource<DynamicType = ()>>(Arc<OnceLock<UnboundedSender<ObjectRef<K>>>>);

impl<K: Resource<DynamicType = ()>> Line<K> {
    /// A send fails only when the operator is stopping.
    fn send(&self, object: ObjectRef<K>) {
        if let Some(queue) = self.0.get() {
            let _ = queue.send(object);
        }
    }

    fn open(&self) -> UnboundedReceiver<ObjectRef<K>> {
        let (sender, receiver) = unbounded_channel();
        let opened = self.0.set(sender);
        debug_assert!(opened.is_ok(), "queues are opened once");
        receiver
    }
}

impl<K: Resource<DynamicType = ()>> Clone for Line<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K: Resource<DynamicType = ()>> Default for Line<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl Wake {
    /// Opens the queues. A change that the stores show later than this call is in them; one that they show already is
    /// not, so the stores have to be read afterwards.
    pub fn open(&self) -> Queues {
        let Self { registries, projects, policies, members } = self;
        Queues {
            registries: registries.open(),
            projects: projects.open(),
            policies: policies.open(),
            members: members.open(),
        }
    }
}

impl World {
    /// Starts following. What comes back last stops it when it is dropped.
    pub fn follow(client: &Client) -> (Arc<Self>, Wake, JoinSet<()>) {
        let (registries, registry_writer) = store();
        let (projects, project_writer) = store();
        let (policies, policy_writer) = store();
        let (members, member_writer) = store();
        let (namespaces, namespace_writer) = store();
        let (all_service_accounts, service_account_writer) = store();
        let (secrets, secret_writer) = store();
        let (services, service_writer) = store();
        let (config_maps, config_map_writer) = store();
        let (claims, claim_writer) = store();
        let (deployments, deployment_writer) = store();
        let (disruption_budgets, disruption_budget_writer) = store();
        let (autoscalers, autoscaler_writer) = store();
        let (pods, pod_writer) = store();
        let (roles, role_writer) = store();
        let (role_bindings, role_binding_writer) = store();
        let (cluster_role_bindings, cluster_role_binding_writer) = store();
        let world = Arc::new(Self {
            registries,
            projects,
            policies,
            members,
            namespaces,
            all_service_accounts,
            pods,
            children: Children {
                secrets,
                services,
                config_maps,
                claims,
                deployments,
                disruption_budgets,
                autoscalers,
                roles,
                role_bindings,
                cluster_role_bindings,
            },
            version: AtomicU64::new(0),
            compiled: Mutex::default(),
        });
        let wake = Wake::default();
        let mut tasks = JoinSet::new();
        // One line per kind: where it is read, where it is kept, what a change of it means.
        macro_rules! follow {
            ($writer:expr, follow, $config:expr, |$world:ident, $wake:ident, $change:ident| $react:expr) => {{
                let ($world, $wake) = (Arc::clone(&world), wake.clone());
                let keep = Unreadable::Keep;
                tasks.spawn(watch::follow(Api::all(client.clone()), $config, $writer, keep, move |$change| $react));
            }};
            ($writer:expr, follow_metadata, $config:expr, |$world:ident, $wake:ident, $change:ident| $react:expr) => {{
                let ($world, $wake) = (Arc::clone(&world), wake.clone());
                tasks.spawn(watch::follow_metadata(Api::all(client.clone()), $config, $writer, move |$change| $react));
            }};
        }
        let ours = || watcher::Config::default().labels(&format!("{MANAGED_BY}=landfast"));
        let every = watcher::Config::default;
        follow!(registry_writer, follow, every(), |w, q, change| w.registry_changed(&q, change));
        follow!(project_writer, follow, every(), |w, q, change| w.project_changed(&q, change));
        follow!(policy_writer, follow, every(), |w, q, change| w.policy_changed(&q, change));
        follow!(member_writer, follow, every(), |w, q, change| w.member_changed(&q, change));
        follow!(namespace_writer, follow_metadata, every(), |w, q, change| w.namespace_changed(&q, change));
        follow!(service_account_writer, follow_metadata, every(), |w, q, change| w.service_account_changed(&q, change));
        follow!(secret_writer, follow_metadata, ours(), |w, q, change| w.child_changed(&q, change));
        follow!(service_writer, follow, ours(), |w, q, change| w.child_changed(&q, change));
        follow!(config_map_writer, follow_metadata, ours(), |w, q, change| w.child_changed(&q, change));
        follow!(claim_writer, follow, ours(), |w, q, change| w.child_changed(&q, change));
        follow!(deployment_writer, follow, ours(), |w, q, change| w.child_changed(&q, change));
        follow!(disruption_budget_writer, follow_metadata, ours(), |w, q, change| w.child_changed(&q, change));
        let (w, q) = (Arc::clone(&world), wake.clone());
        let without_status = |autoscaler: &mut HorizontalPodAutoscaler| autoscaler.status = None;
        tasks.spawn(watch::follow_spec(
            Api::all(client.clone()),
            ours(),
            autoscaler_writer,
            without_status,
            move |change| w.child_changed(&q, change),
        ));
        follow!(pod_writer, follow, ours(), |w, q, change| w.pod_changed(&q, change));
        follow!(role_writer, follow_metadata, ours(), |w, q, change| w.child_changed(&q, change));
        follow!(role_binding_writer, follow_metadata, ours(), |w, q, change| w.child_changed(&q, change));
        follow!(cluster_role_binding_writer, follow_metadata, ours(), |w, q, change| w.child_changed(&q, change));
        (world, wake, tasks)
    }

    /// Waits until everything has been read once. Before that, "it is not there" can't be told from "not seen yet".
    pub async fn ready(&self) {
        let Children {
            secrets,
            services,
            config_maps,
            claims,
            deployments,
            disruption_budgets,
            autoscalers,
            roles,
            role_bindings,
            cluster_role_bindings,
        } = &self.children;
        // A writer is dropped only when the operator stops, and then nobody waits any more.
        let _ = tokio::join!(
            self.registries.wait_until_ready(),
            self.projects.wait_until_ready(),
            self.policies.wait_until_ready(),
            self.members.wait_until_ready(),
            self.namespaces.wait_until_ready(),
            self.all_service_accounts.wait_until_ready(),
            secrets.wait_until_ready(),
            services.wait_until_ready(),
            config_maps.wait_until_ready(),
            claims.wait_until_ready(),
            deployments.wait_until_ready(),
            disruption_budgets.wait_until_ready(),
            autoscalers.wait_until_ready(),
            self.pods.wait_until_ready(),
            roles.wait_until_ready(),
            role_bindings.wait_until_ready(),
            cluster_role_bindings.wait_until_ready(),
        );
    }

    /// The Registry that a Project names.
    pub fn registry_of(&self, project: &Project) -> Option<Arc<Registry>> {
        let reference = &project.spec.registry_ref;
        let namespace = reference.namespace.clone().or_else(|| project.namespace()).unwrap_or_default();
        self.registries.get(&ObjectRef::new(&reference.name).within(&namespace))
    }

    /// What the keys of a Registry may have signed credentials for.
    pub fn signed_for(&self, registry: &Registry) -> (Vec<Arc<Project>>, Vec<Arc<Member>>) {
        claims::signed_for(registry, self.projects.state(), self.members.state())
    }

    pub fn project(&self, namespace: &str, name: &str) -> Option<Arc<Project>> {
        self.projects.get(&ObjectRef::new(name).within(namespace))
    }

    /// The policy of a Registry as of now. Computed once per change, however many objects ask.
    pub fn compiled(&self, registry: &Arc<Registry>) -> Arc<Compiled> {
        let key = ObjectRef::from_obj(&**registry);
        let version = self.version.load(Ordering::Acquire);
        let cached = |compiled: &CompiledByRegistry| {
            compiled.get(&key).filter(|(known, _)| *known == version).map(|(_, compiled)| Arc::clone(compiled))
        };
        if let Some(compiled) = cached(&self.compiled.lock().unwrap_or_else(PoisonError::into_inner)) {
            return compiled;
        }
        // As it is now, not as the caller has it: what is cached under this version must not be older.
        let current = self.registries.get(&key).unwrap_or_else(|| Arc::clone(registry));
        let inputs = Inputs {
            registry: current,
            projects: self.projects.state(),
            policies: self.policies.state(),
            members: self.members.state(),
            namespaces: Some(self.labels_of_namespaces()),
        };
        let (snapshot, problems) = compile(&inputs);
        let key_of = |ObjectKey { kind, namespace, name }: ObjectKey| (kind.to_owned(), namespace, name);
        let problems = problems.into_iter().map(|problem| (key_of(problem.object.clone()), problem)).collect();
        let compiled = Arc::new(Compiled { snapshot, problems });
        let mut all = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(key, (version, Arc::clone(&compiled)));
        compiled
    }

    /// Labels of all namespaces, by name.
    pub fn labels_of_namespaces(&self) -> BTreeMap<String, BTreeMap<String, String>> {
        self.namespaces.state().iter().map(|namespace| (namespace.name_any(), namespace.labels().clone())).collect()
    }

    /// Labels of the namespaces that can take objects now, by name.
    pub fn live_namespaces(&self) -> BTreeMap<String, BTreeMap<String, String>> {
        let live = |namespace: &Arc<PartialObjectMeta<Namespace>>| {
            namespace.metadata.deletion_timestamp.is_none().then(|| (namespace.name_any(), namespace.labels().clone()))
        };
        self.namespaces.state().iter().filter_map(live).collect()
    }

    /// Whether the namespace is on its way out: it takes no new objects.
    pub fn is_terminating(&self, namespace: &str) -> bool {
        let known = self.namespaces.get(&ObjectRef::new(namespace));
        known.is_some_and(|namespace| namespace.metadata.deletion_timestamp.is_some())
    }

    /// The pods of a Registry, those aside that are going.
    pub fn pods_of(&self, registry: &Registry) -> Vec<Arc<Pod>> {
        let key = ObjectRef::from_obj(registry);
        let mut pods = self.pods.state();
        pods.retain(|pod| pod.metadata.deletion_timestamp.is_none() && registry_of_pod(pod).as_ref() == Some(&key));
        pods
    }

    /// Another one whenever something is known that can change a policy.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    fn policy_may_have_changed(&self) {
        self.version.fetch_add(1, Ordering::AcqRel);
    }

    fn registry_changed(&self, wake: &Wake, change: Change<'_, Registry>) {
        let Some(registry) = meant(change, "Registry") else { return };
        self.policy_may_have_changed();
        if registry.metadata.deletion_timestamp.is_some()
            || self.registries.get(&ObjectRef::from_obj(registry)).is_none()
        {
            let key = ObjectRef::from_obj(registry);
            self.compiled.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
        }
        wake.registries.send(ObjectRef::from_obj(registry));
        self.wake_dependents(wake, registry);
    }

    /// What belongs to a Registry looks at its addresses, its keys and what it allows.
    fn wake_dependents(&self, wake: &Wake, registry: &Registry) {
        for project in self.projects.state().iter().filter(|project| belongs_to(project, registry)) {
            wake.projects.send(ObjectRef::from_obj(&**project));
            self.wake_members_and_policies(wake, project);
        }
        for member in self.members.state().iter().filter(|member| {
            member.namespace() == registry.namespace()
                && member.spec.registry_ref.as_ref().is_some_and(|reference| reference.name == registry.name_any())
        }) {
            wake.members.send(ObjectRef::from_obj(&**member));
        }
    }

    fn wake_members_and_policies(&self, wake: &Wake, project: &Project) {
        let (namespace, name) = (project.namespace(), project.name_any());
        for member in self.members.state() {
            let named = member.spec.project_ref.as_ref().is_some_and(|reference| reference.name == name);
            if named && member.namespace() == namespace {
                wake.members.send(ObjectRef::from_obj(&*member));
            }
        }
        for policy in self.policies.state() {
            if policy.spec.project_ref.name == name && policy.namespace() == namespace {
                wake.policies.send(ObjectRef::from_obj(&*policy));
            }
        }
    }

    fn project_changed(&self, wake: &Wake, change: Change<'_, Project>) {
        let Some(project) = meant(change, "Project") else { return };
        self.policy_may_have_changed();
        wake.projects.send(ObjectRef::from_obj(project));
        if let Some(registry) = self.registry_of(project) {
            wake.registries.send(ObjectRef::from_obj(&*registry));
        }
        // A path that became free goes to the next one who wants it.
        for rival in self.projects.state().iter().filter(|other| paths_touch(other.path(), project.path())) {
            wake.projects.send(ObjectRef::from_obj(&**rival));
            self.wake_members_and_policies(wake, rival);
        }
        self.wake_members_and_policies(wake, project);
    }

    fn policy_changed(&self, wake: &Wake, change: Change<'_, RepositoryPolicy>) {
        let Some(policy) = meant(change, "RepositoryPolicy") else { return };
        self.policy_may_have_changed();
        wake.policies.send(ObjectRef::from_obj(policy));
    }

    fn member_changed(&self, wake: &Wake, change: Change<'_, Member>) {
        let Some(member) = meant(change, "Member") else { return };
        self.policy_may_have_changed();
        wake.members.send(ObjectRef::from_obj(member));
    }

    fn namespace_changed(&self, wake: &Wake, change: Change<'_, PartialObjectMeta<Namespace>>) {
        let relevant = match &change {
            Change::Present { object, before } => before.as_ref().is_none_or(|before| {
                before.labels() != object.labels()
                    || before.metadata.deletion_timestamp != object.metadata.deletion_timestamp
            }),
            Change::Gone(_) => true,
            Change::Unreadable(_) => false,
        };
        if !relevant {
            return;
        }
        self.policy_may_have_changed();
        for project in self.projects.state() {
            wake.projects.send(ObjectRef::from_obj(&*project));
        }
        for member in self.members.state() {
            wake.members.send(ObjectRef::from_obj(&*member));
        }
        for policy in self.policies.state() {
            wake.policies.send(ObjectRef::from_obj(&*policy));
        }
        for registry in self.registries.state() {
            wake.registries.send(ObjectRef::from_obj(&*registry));
        }
    }

    /// Wakes the Projects that have a pull secret in the namespace of this ServiceAccount, and the Registry whose
    /// pods use it.
    fn service_account_changed(&self, wake: &Wake, change: Change<'_, PartialObjectMeta<ServiceAccount>>) {
        let (Change::Present { object, .. } | Change::Gone(object)) = &change else { return };
        for secret in self.children.secrets.state().iter().filter(|secret| secret.namespace() == object.namespace()) {
            if let Some(Owner::Project(project)) = Owner::of(&secret.metadata) {
                wake.projects.send(project);
            }
        }
        self.child_changed(wake, change);
    }

    /// Pods carry no annotation of ours, because a ReplicaSet makes them.
    fn pod_changed(&self, wake: &Wake, change: Change<'_, Pod>) {
        let (Change::Present { object, .. } | Change::Gone(object)) = change else { return };
        if let Some(registry) = registry_of_pod(object) {
            wake.registries.send(registry);
        }
    }

    fn child_changed<K: Resource<DynamicType = ()>>(&self, wake: &Wake, change: Change<'_, K>) {
        let (Change::Present { object, .. } | Change::Gone(object)) = change else { return };
        match Owner::of(object.meta()) {
            None => {}
            // The annotation can be written by anybody: what is not where a Registry's or a Member's objects are is not
            // one.
            Some(Owner::Registry(registry)) if is_elsewhere(object.meta(), &registry) => {}
            Some(Owner::Member(member)) if is_elsewhere(object.meta(), &member) => {}
            Some(Owner::Registry(registry)) => {
                // New keys mean new credentials.
                if K::kind(&()) == "Secret"
                    && object.meta().name.as_deref() == Some(&format!("{}-keys", registry.name))
                    && let Some(registry) = self.registries.get(&registry)
                {
                    self.wake_dependents(wake, &registry);
                }
                wake.registries.send(registry);
            }
            Some(Owner::Project(project)) => wake.projects.send(project),
            Some(Owner::Member(member)) => wake.members.send(member),
        }
    }
}

/// The Registry that a pod's label names, in the pod's namespace.
fn registry_of_pod(pod: &Pod) -> Option<ObjectRef<Registry>> {
    let name = pod.labels().get(names::REGISTRY)?;
    Some(ObjectRef::new(name).within(pod.metadata.namespace.as_deref()?))
}

fn is_elsewhere<K: Resource<DynamicType = ()>>(metadata: &ObjectMeta, owner: &ObjectRef<K>) -> bool {
    metadata.namespace.is_some() && metadata.namespace != owner.namespace
}

/// The object, if the change is one that a reconcile could answer: our own status writes are not.
fn meant<'a, K: Resource>(change: Change<'a, K>, kind: &'static str) -> Option<&'a K> {
    let essence = |meta: &ObjectMeta| {
        (meta.uid.clone(), meta.generation, meta.finalizers.clone(), meta.deletion_timestamp.clone())
    };
    match change {
        Change::Gone(object) => Some(object),
        Change::Present { object, before } => {
            let changed = before.is_none_or(|before| {
                essence(before.meta()) != essence(object.meta())
                    || before.meta().labels != object.meta().labels
                    || before.meta().annotations != object.meta().annotations
            });
            changed.then_some(object)
        }
        Change::Unreadable(invalid) => {
            let (namespace, name) = (invalid.metadata.namespace.as_deref(), invalid.metadata.name.as_deref());
            tracing::warn!(kind, namespace, name, error = %invalid.error, "object can't be read and is left as it was: apply it again in the form of the current CRD");
            None
        }
    }
}

/// A kind of object that we make. Says what the world knows of one.
pub(super) trait Child: Resource<DynamicType = ()> {
    fn observed(world: &World, namespace: Option<&str>, name: &str) -> Option<ObjectMeta>;
}

macro_rules! child {
    ($kind:ty, |$world:ident| $store:expr) => {
        impl Child for $kind {
            fn observed($world: &World, namespace: Option<&str>, name: &str) -> Option<ObjectMeta> {
                let key = ObjectRef::new(name);
                let key = if let Some(namespace) = namespace { key.within(namespace) } else { key };
                $store.get(&key).map(|object| object.metadata.clone())
            }
        }
    };
}
child!(Secret, |world| world.children.secrets);
child!(Service, |world| world.children.services);
child!(ConfigMap, |world| world.children.config_maps);
child!(PersistentVolumeClaim, |world| world.children.claims);
child!(Deployment, |world| world.children.deployments);
child!(PodDisruptionBudget, |world| world.children.disruption_budgets);
child!(HorizontalPodAutoscaler, |world| world.children.autoscalers);
child!(Role, |world| world.children.roles);
child!(RoleBinding, |world| world.children.role_bindings);
child!(ClusterRoleBinding, |world| world.children.cluster_role_bindings);
child!(ServiceAccount, |world| world.all_service_accounts);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_stands_by_collects_no_work() {
        let wake = Wake::default();
        let project = |name: &str| ObjectRef::<Project>::new(name).within("n");
        // As the followers have it.
        let follower = wake.clone();
        follower.projects.send(project("before"));
        let mut queues = wake.open();
        follower.projects.send(project("after"));
        assert_eq!(queues.projects.try_recv().unwrap(), project("after"));
        assert!(queues.projects.try_recv().is_err());
    }
}

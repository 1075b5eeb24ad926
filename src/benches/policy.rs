//! What a decision, a compilation and an explanation cost, and how much memory a policy takes: `make bench`.
//!
//! Targets: a decision below 5 µs, a policy of 2,000 Projects and 10,000 Members compiled well within the second in which
//! a change has to be in force, and one changed Member compared well below 50 ms, for a webhook that warns of it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use k8s_openapi::jiff::Timestamp;
use landfast::api::v1alpha1::{NamespacesFrom, Role};
use landfast::policy::access::{diff, explain, summarize, who_can};
use landfast::policy::{
    Action, CredentialClaims, CredentialSubject, Decision, Group, Identity, Inputs, KeySet, Operation, SigningKey,
    authorize, compile,
};
use serde::de::DeserializeOwned;

const PROJECTS: usize = 2_000;
const MEMBERS: usize = 10_000;

/// Counts the bytes that are in use.
struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is the system allocator's work; here bytes are only counted.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        IN_USE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn object<K: DeserializeOwned>(kind: &str, name: &str, spec: &str) -> Arc<K> {
    let yaml = format!(
        "{{apiVersion: landfast.dev/v1alpha1, kind: {kind}, metadata: {{name: {name}, namespace: ns, uid: {kind}-{name}}}, spec: {spec}}}"
    );
    Arc::new(serde_saphyr::from_str(&yaml).unwrap_or_else(|error| panic!("{yaml}: {error}")))
}

/// The Members of a Project in turn: a robot, three users, a group, ServiceAccounts, and all of them on some
/// repositories for some time. One of a hundred is of the whole Registry.
fn member(i: usize) -> String {
    let scope = match i % 100 {
        99 => "registryRef: {name: main}".to_owned(),
        _ => format!("projectRef: {{name: p{}}}", i % PROJECTS),
    };
    let user = |n: usize| format!("{{kind: User, name: 'oidc:corp:user{}@example.com'}}", n % 5_000);
    let group = |n: usize| format!("{{kind: Group, name: 'oidc:corp:group{}'}}", n % 500);
    let account = |n: usize| format!("{{kind: ServiceAccount, name: builder{}, namespace: ns{}}}", n % 3, n % 1_000);
    let robot = "{kind: Robot, name: ci}".to_owned();
    let (subjects, rest) = match i / PROJECTS % 5 {
        0 => (vec![robot], ""),
        1 => (vec![user(i), user(i * 7), user(i * 13)], ""),
        2 => (vec![group(i)], ""),
        3 => (vec![account(i), account(i * 3)], ", repositories: ['**']"),
        _ => (
            vec![robot, user(i), group(i * 3), account(i)],
            ", repositories: ['app-*', 'lib/**', web], expiresAt: '2100-01-01T00:00:00Z'",
        ),
    };
    let role = ["Guest", "Developer", "Admin"][i % 3];
    format!("{{{scope}, role: {role}, subjects: [{}]{rest}}}", subjects.join(", "))
}

fn inputs() -> Inputs {
    let visibility = |i: usize| ["Private", "Internal", "Public"][i % 3];
    let project = |i: usize| {
        object("Project", &format!("p{i}"), &format!("{{registryRef: {{name: main}}, visibility: {}}}", visibility(i)))
    };
    let policy = |i: usize| {
        let (project, visibility) = (i % PROJECTS, visibility(i + 1));
        let spec = format!(
            "{{projectRef: {{name: p{project}}}, repositories: ['open-{i}-*', 'drafts/**'], visibility: {visibility}, immutableTags: ['v*']}}"
        );
        object("RepositoryPolicy", &format!("r{i}"), &spec)
    };
    Inputs {
        registry: object("Registry", "main", "{storage: {emptyDir: {}}}"),
        projects: (0..PROJECTS).map(project).collect(),
        policies: (0..2 * PROJECTS).map(policy).collect(),
        members: (0..MEMBERS).map(|i| object("Member", &format!("m{i}"), &member(i))).collect(),
        namespaces: None,
    }
}

/// The same with 100 Members of the whole Registry that have patterns and many subjects; and once the Registry, which took
/// Projects from all namespaces, takes them from its own alone.
fn registry_wide_patterns(inputs: &Inputs) -> (Inputs, Inputs) {
    let member = |i: usize| {
        let all = |one: &dyn Fn(usize) -> String| (0..64).map(one).collect::<Vec<_>>().join(", ");
        let patterns = all(&|n| format!("'p{}/app-{n}/**'", i * 64 + n));
        let subjects = all(&|n| format!("{{kind: User, name: 'oidc:corp:wide{i}-{n}'}}"));
        let spec =
            format!("{{registryRef: {{name: main}}, role: Guest, repositories: [{patterns}], subjects: [{subjects}]}}");
        object("Member", &format!("wide{i}"), &spec)
    };
    let mut of_all = inputs.clone();
    for project in &mut of_all.projects {
        let project = Arc::make_mut(project);
        project.metadata.namespace = Some("team".to_owned());
        project.spec.registry_ref.namespace = Some("ns".to_owned());
    }
    of_all.members.extend((0..100).map(member));
    let mut of_same = of_all.clone();
    Arc::make_mut(&mut of_all.registry).spec.project_namespaces.from = NamespacesFrom::All;
    Arc::make_mut(&mut of_same.registry).spec.project_namespaces.from = NamespacesFrom::Same;
    (of_all, of_same)
}

/// Prints the time of one run of `work`, the median of several batches.
fn measure<T>(what: &str, per_batch: u32, mut work: impl FnMut() -> T) {
    let mut times: Vec<_> = (0..15)
        .map(|_| {
            let start = Instant::now();
            for _ in 0..per_batch {
                black_box(work());
            }
            start.elapsed() / per_batch
        })
        .collect();
    times.sort();
    println!("{what:<55} {:>12.2?} (fastest {:.2?})", times[times.len() / 2], times[0]);
}

fn user(number: usize, groups: usize) -> Identity {
    let group = |n: usize| -> Group { format!("oidc:corp:group{}", n * 11).parse().expect("a group") };
    let user = format!("oidc:corp:user{number}@example.com").parse().expect("a user");
    Identity::of(user, (0..groups).map(group).collect())
}

fn main() {
    let inputs = inputs();
    let before = IN_USE.load(Ordering::Relaxed);
    let (snapshot, problems) = compile(&inputs);
    let taken = IN_USE.load(Ordering::Relaxed) - before;
    assert!(problems.is_empty() && snapshot.projects.len() == PROJECTS, "what is measured must be right: {problems:?}");
    let (robots, users, groups) = (snapshot.robots.len(), snapshot.users.len(), snapshot.groups.len());
    println!("{robots} Members with robots, {users} users and ServiceAccounts, {groups} groups");
    println!("{:<55} {:>9.1} MiB", "memory of the snapshot", taken as f64 / 1_048_576.0);

    let subject = CredentialSubject::Robot {
        member: "Member-m7".to_owned(),
        namespace: "ns".to_owned(),
        name: "ci".to_owned(),
        generation: 0,
    };
    let robot = Identity::Credential(subject.clone());
    let push = |repository: &str| Operation { action: Action::Push, repository: repository.parse().expect("a name") };
    let (of_robot, of_user) = (push("p7/some/repository"), push("p6/some/repository"));
    let keys = KeySet::new(SigningKey::from_seed(&[1; 32]).expect("a key"), vec![]);
    let claims = CredentialClaims { aud: "r".to_owned(), subject, iat: 0, exp: None };
    let credential = claims.sign(&keys).expect("a credential");
    let now = Timestamp::UNIX_EPOCH;
    let (alone, in_groups) = (user(2_006, 0), user(2_006, 20));
    let may = |identity: &Identity, operation: &Operation| {
        let allowed = authorize(&snapshot, identity, operation, now) == Decision::Allow;
        if allowed { "yes" } else { "no" }
    };
    measure(&format!("authorize a robot ({})", may(&robot, &of_robot)), 10_000, || {
        authorize(&snapshot, &robot, &of_robot, now)
    });
    measure(&format!("authorize a user ({})", may(&alone, &of_user)), 10_000, || {
        authorize(&snapshot, &alone, &of_user, now)
    });
    measure(&format!("authorize a user with 20 groups ({})", may(&in_groups, &of_user)), 10_000, || {
        authorize(&snapshot, &in_groups, &of_user, now)
    });
    measure("verify a credential", 1_000, || CredentialClaims::verify(&credential, &keys, "r", now));
    measure("sign a credential", 1_000, || claims.sign(&keys));
    measure("explain a user with 20 groups", 1_000, || explain(&snapshot, &in_groups, &of_user, now));
    let listed = who_can(&snapshot, Action::Push, &of_user.repository, now).len();
    measure(&format!("who can push ({listed} listed)"), 10, || {
        who_can(&snapshot, Action::Push, &of_user.repository, now)
    });
    measure("compile 2,000 Projects, 10,000 Members, 4,000 policies", 3, || compile(&inputs));

    let mut changed = inputs.clone();
    Arc::make_mut(&mut changed.members[8_008]).spec.role = Role::Guest;
    compare("diff, nothing changed", &inputs, &inputs);
    compare("diff, one Member changed", &inputs, &changed);
    let mut changed = inputs.clone();
    Arc::make_mut(&mut changed.projects[7]).spec.visibility = landfast::api::v1alpha1::Visibility::Private;
    compare("diff, one Project changed", &inputs, &changed);
    changed.projects.truncate(PROJECTS / 2);
    changed.members.truncate(MEMBERS / 2);
    compare("diff, half of everything gone", &inputs, &changed);
    let (of_all, of_same) = registry_wide_patterns(&inputs);
    compare("diff, Projects of Same, 100 Registry-wide patterns", &of_all, &of_same);
}

fn compare(what: &str, before: &Inputs, after: &Inputs) {
    let ((before, _), (after, _)) = (compile(before), compile(after));
    let difference = diff(&before, &after, Timestamp::UNIX_EPOCH);
    let changes = difference.changes.len();
    assert_eq!(changes == 0, before == after, "what is measured must be right");
    measure(&format!("{what} ({changes} changes)"), 2, || diff(&before, &after, Timestamp::UNIX_EPOCH));
    for sentence in summarize(&difference) {
        println!("    {sentence}");
    }
}

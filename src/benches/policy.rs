//! What a decision and a compilation cost: `make bench`.
//!
//! Targets: a decision below 5 µs, a policy of 2,000 Projects and 10,000 Members compiled well within the second in which
//! a change has to be in force.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use k8s_openapi::jiff::Timestamp;
use landfast::policy::{
    Action, CredentialClaims, CredentialSubject, Identity, Inputs, KeySet, Operation, SigningKey, authorize, compile,
};
use serde::de::DeserializeOwned;

const PROJECTS: usize = 2_000;
const MEMBERS: usize = 10_000;

fn object<K: DeserializeOwned>(kind: &str, name: &str, spec: &str) -> Arc<K> {
    let yaml = format!(
        "{{apiVersion: landfast.dev/v1alpha1, kind: {kind}, metadata: {{name: {name}, namespace: ns, uid: {kind}-{name}}}, spec: {spec}}}"
    );
    Arc::new(serde_saphyr::from_str(&yaml).unwrap_or_else(|error| panic!("{yaml}: {error}")))
}

fn inputs() -> Inputs {
    let project = |i| object("Project", &format!("p{i}"), "{registryRef: {name: main}}");
    let member = |i| {
        let spec = format!(
            "{{projectRef: {{name: p{}}}, role: Developer, subjects: [{{kind: Robot, name: ci}}]}}",
            i % PROJECTS
        );
        object("Member", &format!("m{i}"), &spec)
    };
    Inputs {
        registry: object("Registry", "main", "{storage: {emptyDir: {}}}"),
        projects: (0..PROJECTS).map(project).collect(),
        policies: vec![],
        members: (0..MEMBERS).map(member).collect(),
        namespaces: None,
    }
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

fn main() {
    let inputs = inputs();
    let (snapshot, problems) = compile(&inputs);
    assert!(problems.is_empty() && snapshot.robots.len() == MEMBERS, "what is measured must be right");
    let subject = CredentialSubject::Robot {
        member: "Member-m7".to_owned(),
        namespace: "ns".to_owned(),
        name: "ci".to_owned(),
        generation: 0,
    };
    let identity = Identity::Credential(subject.clone());
    let push = Operation { action: Action::Push, repository: "p7/some/repository".parse().expect("a valid name") };
    let keys = KeySet::new(SigningKey::from_seed(&[1; 32]).expect("a key"), vec![]);
    let claims = CredentialClaims { aud: "r".to_owned(), subject, iat: 0, exp: None };
    let credential = claims.sign(&keys).expect("a credential");
    let now = Timestamp::UNIX_EPOCH;

    measure("authorize a push", 10_000, || authorize(&snapshot, &identity, &push, now));
    measure("verify a credential", 1_000, || CredentialClaims::verify(&credential, &keys, "r", now));
    measure("sign a credential", 1_000, || claims.sign(&keys));
    measure("compile 2,000 Projects and 10,000 Members", 3, || compile(&inputs));
}

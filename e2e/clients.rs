//! Clients on a cluster's Registry, with nothing but a robot's Secret and the authority that the status publishes. What
//! each client does is tested without a cluster, in `standalone::clients`.

use crate::harness::{Cluster, test};

#[test]
#[ignore = "needs a node to reach the registry from"]
fn programs_work_with_the_secret_and_the_published_authority() {
    test(async |cluster: &Cluster| {
        let namespace = cluster.namespace("clients").await;
        let remote = cluster.registry(&namespace, "main", "{storage: {emptyDir: {}}}").await;
        cluster.project(&namespace, "team", "{registryRef: {name: main}, path: company/team}").await;
        let robot = cluster.robot(&namespace, "developer", "team", "Developer", &remote).await;
        remote.go_containerregistry("company/team", &robot).await;
        remote.oras_go("company/team", &robot).await;
    });
}

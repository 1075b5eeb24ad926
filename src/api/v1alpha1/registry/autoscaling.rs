//! Pods that come and go with the load.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// Between which numbers of pods, and by what load. Kubernetes' HorizontalPodAutoscaler does it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    validation = Rule::new("self.minReplicas <= self.maxReplicas")
        .message("maxReplicas must be at least minReplicas")
)]
#[serde(rename_all = "camelCase")]
pub struct Autoscaling {
    /// Fewest pods.
    #[serde(default = "two")]
    #[schemars(range(min = 1, max = 100))]
    pub min_replicas: i32,
    /// Most pods.
    #[schemars(range(min = 1, max = 100))]
    pub max_replicas: i32,
    /// Share of the CPU that the pods ask for (`pod.resources.requests.cpu`) that they are to use on average, in percent.
    /// Above it there will be more pods, below it fewer.
    #[serde(default = "eighty", rename = "targetCPUUtilizationPercentage")]
    #[schemars(range(min = 1, max = 1000))]
    pub target_cpu_utilization_percentage: i32,
}

fn two() -> i32 {
    2
}

fn eighty() -> i32 {
    80
}

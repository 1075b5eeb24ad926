//! `landfast access` against a cluster: it answers what the registry does, from the objects that are there.

use std::path::Path;

use serde_json::Value;

use crate::harness::{Cluster, Command, Output, environment, object, test};

const REGISTRY: &str = "{storage: {emptyDir: {}}}";
const PROJECT: &str = "{registryRef: {name: main}}";
const MEMBER: &str = "{projectRef: {name: team}, role: Developer, subjects: [{kind: Robot, name: builder}]}";

async fn access(namespace: &str, arguments: &[&str]) -> Output {
    let registry = format!("{namespace}/main");
    let command = Command::new(environment::landfast()).arg("access").args(arguments);
    command.args(["--registry", &registry, "-o", "json"]).output().await
}

fn answer(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", output.stderr))
}

/// A folder with a Member of the role, as somebody would apply it.
fn folder(root: &Path, namespace: &str, role: &str) -> String {
    let folder = root.join(namespace).join(role);
    std::fs::create_dir_all(&folder).expect("a temporary folder can be written");
    let spec = MEMBER.replace("Developer", role);
    let manifest = format!(
        "apiVersion: landfast.dev/v1alpha1\nkind: Member\nmetadata: {{name: ci, namespace: {namespace}}}\nspec: {spec}\n"
    );
    std::fs::write(folder.join("member.yaml"), manifest).expect("a temporary folder can be written");
    folder.display().to_string()
}

#[test]
fn the_cluster_says_who_may_and_what_a_change_would_change() {
    test(async |cluster: &Cluster| {
        let namespace = cluster.namespace("preview").await;
        for (head, spec) in [("Registry main", REGISTRY), ("Project team", PROJECT), ("Member ci", MEMBER)] {
            cluster.create(&namespace, object(head, spec)).await;
        }
        let robot = format!("robot:{namespace}/ci/builder");
        let yes = access(&namespace, &["can-i", "push", "team/app", "--as", &robot]).await;
        assert!(yes.success && answer(&yes)["allowed"] == true, "{}", yes.stderr);
        let because = answer(&yes)["because"].to_string();
        assert!(because.contains(&format!("Member {namespace}/ci: role Developer on team/**")), "{because}");
        let no = access(&namespace, &["can-i", "delete-repository", "team/app", "--as", &robot]).await;
        assert!(!no.success && answer(&no)["allowed"] == false, "{}", no.stderr);

        let holders = access(&namespace, &["who-can", "push", "team/app"]).await;
        let who: Vec<_> = answer(&holders).as_array().unwrap().iter().map(|holder| holder["who"].clone()).collect();
        assert_eq!(who, [format!("robot {namespace}/ci/builder")]);

        let root = cluster.folder.path();
        let same = folder(root, &namespace, "Developer");
        let same = access(&namespace, &["diff", "--against-cluster", &same]).await;
        assert!(same.success && answer(&same)["changes"] == serde_json::json!([]), "{}", same.stderr);
        let less = folder(root, &namespace, "Guest");
        let less = access(&namespace, &["diff", "--against-cluster", &less]).await;
        let changes = &answer(&less)["changes"];
        assert!(!less.success && changes.as_array().is_some_and(|changes| changes.len() == 1), "{changes}");
        assert_eq!((&changes[0]["change"], &changes[0]["pattern"]), (&"loses".into(), &"team/**".into()));
        assert!(changes[0]["actions"].as_array().unwrap().contains(&"push".into()), "{changes}");
    });
}

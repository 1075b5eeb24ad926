//! Whole repositories: listed for builds, deleted, and gone after a crash too.

use serde_json::Value;

use super::{promised, pushed};
use crate::harness::{PROMISED, Server, local_test, within};

const ADMIN: &str = "
apiVersion: landfast.dev/v1alpha1
kind: Member
metadata: {name: admin, namespace: default}
spec: {projectRef: {name: demo}, role: Admin, subjects: [{kind: Robot, name: boss}]}
---
apiVersion: landfast.dev/v1alpha1
kind: RepositoryPolicy
metadata: {name: builds, namespace: default}
spec: {projectRef: {name: demo}, repositories: [tools], imageType: Build, description: To build with}
";

#[test]
fn a_repository_is_listed_and_deleted() {
    local_test(async || {
        let mut server = Server::start().await;
        let (remote, robot) = (server.remote(), server.login("demo", "ci"));
        std::fs::write(server.manifests.join("admin.yaml"), ADMIN).unwrap();
        let boss = within(PROMISED, "the Admin has a credential", async || match server.has_login("admin", "boss") {
            true => Ok(server.login("admin", "boss")),
            false => Err("none".to_owned()),
        })
        .await;
        pushed(&server, "demo/app:v1", &robot, 10_000).await;
        let tools = pushed(&server, "demo/tools:v1", &robot, 10_000).await;
        let list = "/api/v1/repositories?imageType=Build";
        let listed = remote.request("GET", list, Some(&robot)).await;
        let repositories: Value = serde_json::from_slice(&listed.body).unwrap();
        let [only] = repositories["repositories"].as_array().unwrap().as_slice() else { panic!("{repositories}") };
        assert_eq!((&only["name"], &only["description"]), (&"demo/tools".into(), &"To build with".into()));
        let address = only["address"].as_str().unwrap().strip_prefix(&format!("{}/", remote.host)).unwrap();
        assert_eq!(remote.pull(&format!("{address}:v1"), Some(&robot)).await.unwrap().0, tools.digest);

        let app = "/api/v1/repositories/demo/app";
        let denied = remote.request("DELETE", app, Some(&robot)).await;
        assert_eq!((denied.status, denied.oci_error().as_deref()), (403, Some("DENIED")), "{}", denied.text());
        promised("the Admin may delete it", &remote, app, Some(&boss), 200).await;
        assert_eq!(remote.request("DELETE", app, Some(&boss)).await.status, 202);
        server.kill();
        server.restart().await;
        assert_eq!(remote.request("GET", app, Some(&boss)).await.status, 404);
        assert!(remote.pull("demo/app:v1", Some(&robot)).await.is_err());
        let anew = pushed(&server, "demo/app:v2", &robot, 10_000).await;
        assert_eq!(remote.pull("demo/app:v2", Some(&robot)).await.unwrap().0, anew.digest);
        assert_eq!(remote.pull("demo/tools:v1", Some(&robot)).await.unwrap().0, tools.digest);
    });
}

//! What people may do to our objects in the cluster: impersonated users with Kubernetes' own roles, and the webhook between
//! them and the API server.

use serde_json::json;

use crate::harness::{Cluster, Command, Output, object, test};

/// A namespace with a Registry `main` and a Project `team`, and people who have the role `edit` in it: `dev` is a Developer
/// of the Project, `lead` an Admin, `guest` a Guest, and who is in the group `ops` an Admin too. `steward` has the role `admin`
/// and is in no Member.
struct Stage<'a> {
    cluster: &'a Cluster,
    namespace: String,
}

impl<'a> Stage<'a> {
    async fn set(cluster: &'a Cluster) -> Self {
        let namespace = cluster.namespace("permissions").await;
        let stage = Self { cluster, namespace };
        let namespace = &stage.namespace;
        registry(cluster, namespace, "").await;
        cluster.project(namespace, "team", "{registryRef: {name: main}}").await;
        for (role, who) in [("edit", "dev"), ("edit", "lead"), ("edit", "guest"), ("admin", "steward")] {
            stage.bind(role, &format!("--user={}", stage.full(who))).await;
        }
        stage.bind("edit", &format!("--group={}", stage.full("ops"))).await;
        for (role, kind, who) in [
            ("Developer", "User", "dev"),
            ("Admin", "User", "lead"),
            ("Guest", "User", "guest"),
            ("Admin", "Group", "ops"),
        ] {
            let subject = format!("{{kind: {kind}, name: 'kubernetes:{}'}}", stage.full(who));
            let spec = format!("{{projectRef: {{name: team}}, role: {role}, subjects: [{subject}]}}");
            cluster.create(namespace, object(&format!("Member {who}"), &spec)).await;
            cluster.condition("Member", namespace, who, "Accepted", "True").await;
        }
        stage
    }

    /// Names of people are the whole cluster's.
    fn full(&self, who: &str) -> String {
        format!("{who}-{}", self.cluster.unique)
    }

    async fn bind(&self, role: &str, subject: &str) {
        let name = subject.trim_start_matches("--").replace('=', "-");
        let bind = ["create", "rolebinding", &name, "--clusterrole", role, subject, "--namespace", &self.namespace];
        Command::new("kubectl").args(bind.map(str::to_owned)).run().await;
    }

    /// `kubectl` as one of them: `lead`, or `somebody of ops`.
    fn kubectl(&self, who: &str, arguments: &[&str]) -> Command {
        let (who, group) = who.split_once(" of ").map_or((who, None), |(who, group)| (who, Some(group)));
        let command = Command::new("kubectl").arg("--namespace").arg(&self.namespace);
        let command = if who == "root" { command } else { command.arg("--as").arg(self.full(who)) };
        let command = match group {
            Some(group) => command.arg("--as-group").arg(self.full(group)).arg("--as-group=system:authenticated"),
            None => command,
        };
        command.args(arguments.iter().copied())
    }

    async fn apply(&self, who: &str, head: &str, spec: &str, more: &[&str]) -> Output {
        let apply = self.kubectl(who, &[&["apply", "--server-side", "--force-conflicts", "-f", "-"], more].concat());
        apply.input(object(head, spec).to_string()).output().await
    }
}

/// One that nobody pulls from: it is all about the objects.
async fn registry(cluster: &Cluster, namespace: &str, more: &str) {
    let spec = format!("{{storage: {{emptyDir: {{}}}}, replicas: 0, {more}}}");
    cluster.create(namespace, object("Registry main", &spec)).await;
    cluster.condition("Registry", namespace, "main", "Accepted", "True").await;
}

const POLICY: &str = "RepositoryPolicy apps";

#[test]
fn people_change_what_their_role_lets_them() {
    test(async |cluster: &Cluster| {
        let stage = Stage::set(cluster).await;
        let policy = |more: &str| format!("{{projectRef: {{name: team}}, repositories: ['apps/**'], {more}}}");
        let member = |role: &str| {
            format!("{{projectRef: {{name: team}}, role: {role}, subjects: [{{kind: User, name: 'oidc:corp:bob'}}]}}")
        };
        let project = |more: &str| format!("{{registryRef: {{name: main}}, {more}}}");
        let (typed, described) = (policy("imageType: Build"), policy("imageType: Build, description: Tools."));
        let open = policy("imageType: Build, description: Tools., visibility: Public");
        // In this order: each finds what the ones before have left. Nothing said: it is allowed.
        let rows = [
            ("guest", POLICY, &*typed, "that needs the role Developer in Project"),
            ("dev", POLICY, &typed, ""),
            ("dev", POLICY, &described, ""),
            ("dev", POLICY, &open, "may not change visibility: that needs the role Admin in Project"),
            ("lead", POLICY, &open, ""),
            ("dev", POLICY, &described, "may not change visibility"),
            ("dev", "Member bob", &member("Guest"), "may not create a Member: that needs the role Admin"),
            ("lead", "Member bob", &member("Guest"), ""),
            ("dev", "Member bob", &member("Admin"), "may not change a Member: that needs the role Admin"),
            ("somebody of ops", "Member bob", &member("Developer"), ""),
            ("somebody", "Member bob", &member("Guest"), "is forbidden"),
            ("lead", "Project team", &project("visibility: Public"), "is forbidden"),
            ("steward", "Project team", &project("visibility: Internal"), ""),
            ("steward", "Project more", &project("path: more"), ""),
            ("steward", "Project again", &project("path: team"), "of the older Project"),
            (
                "steward",
                "Project platform",
                &project("official: true"),
                "that is for those who may administer Registry",
            ),
            ("root", "Project platform", &project("official: true"), ""),
            (
                "steward",
                "Member platform",
                "{registryRef: {name: main}, role: Guest, subjects: [{kind: Robot, name: ci}]}",
                "in Registry",
            ),
            (
                "root",
                "Member platform",
                "{registryRef: {name: main}, role: Guest, subjects: [{kind: Robot, name: ci}]}",
                "",
            ),
        ];
        for (who, head, spec, expected) in rows {
            let output = stage.apply(who, head, spec, &[]).await;
            match expected {
                "" => assert!(output.success, "{who} applies {head} {spec}: {}", output.stderr),
                text => assert!(
                    !output.success && output.stderr.contains(text),
                    "{who} applies {head} {spec}: {}",
                    output.stderr
                ),
            }
        }
        // Kubernetes deletes what is owned by nothing that is there.
        let owner = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "gone", "uid": "gone"});
        let orphaned = json!({"metadata": {"ownerReferences": [owner]}}).to_string();
        let patch = ["patch", "member", "lead", "--type=merge", "--patch", &orphaned];
        let output = stage.kubectl("dev", &patch).output().await;
        assert!(!output.success && output.stderr.contains("may not delete a Member"), "{}", output.stderr);
        for (who, kind, name, expected) in [
            ("dev", "repositorypolicy", "apps", "may not change visibility"),
            ("dev", "member", "bob", "may not delete a Member"),
            ("lead", "member", "bob", ""),
            ("lead", "repositorypolicy", "apps", ""),
            ("lead", "project", "more", "is forbidden"),
            ("steward", "project", "more", ""),
        ] {
            let output = stage.kubectl(who, &["delete", kind, name, "--wait=false"]).output().await;
            let as_expected =
                if expected.is_empty() { output.success } else { !output.success && output.stderr.contains(expected) };
            assert!(as_expected, "{who} deletes {kind} {name}: {}", output.stderr);
        }
    });
}

/// The columns of the permission matrix that are about objects, as its text has them: who may change what of a repository.
/// `registry lead` and `registry dev` have their role in the whole Registry, the others in the Project.
#[test]
fn every_cell_of_the_matrix_holds_for_people_of_the_cluster() {
    const PEOPLE: [&str; 6] = ["nobody", "guest", "dev", "lead", "registry-dev", "registry-lead"];
    const TEAMS: [(&str, [&str; 6]); 3] = [
        //                        nobody, guest, dev,  lead,  registry-dev, registry-lead
        ("visibility: Internal", ["no", "no", "no", "yes", "no", "yes"]),
        ("imageType: Build", ["no", "no", "yes", "yes", "yes", "yes"]),
        ("description: x", ["no", "no", "yes", "yes", "yes", "yes"]),
    ];
    const OFFICIAL: [(&str, [&str; 6]); 3] = [
        ("visibility: Internal", ["no", "no", "no", "no", "no", "yes"]),
        ("imageType: Build", ["no", "no", "no", "no", "yes", "yes"]),
        ("description: x", ["no", "no", "no", "no", "yes", "yes"]),
    ];
    test(async |cluster: &Cluster| {
        let namespace = cluster.namespace("matrix").await;
        let stage = Stage { cluster, namespace };
        let namespace = &stage.namespace;
        registry(cluster, namespace, "").await;
        for who in PEOPLE {
            stage.bind("edit", &format!("--user={}", stage.full(who))).await;
        }
        let kinds = [
            ("private", "visibility: Private", TEAMS),
            ("internal", "visibility: Internal", TEAMS),
            ("public", "visibility: Public", TEAMS),
            ("official", "official: true", OFFICIAL),
        ];
        let member = async |name: &str, reference: &str, role: &str, who: &str| {
            let subject = format!("{{kind: User, name: 'kubernetes:{}'}}", stage.full(who));
            let spec = format!("{{{reference}, role: {role}, subjects: [{subject}]}}");
            cluster.create(namespace, object(&format!("Member {name}"), &spec)).await;
            cluster.condition("Member", namespace, name, "Accepted", "True").await;
        };
        for (role, who) in [("Developer", "registry-dev"), ("Admin", "registry-lead")] {
            member(who, "registryRef: {name: main}", role, who).await;
        }
        for (project, spec, _) in kinds {
            cluster
                .create(
                    namespace,
                    object(&format!("Project {project}"), &format!("{{registryRef: {{name: main}}, {spec}}}")),
                )
                .await;
            for (role, who) in [("Guest", "guest"), ("Developer", "dev"), ("Admin", "lead")] {
                member(&format!("{project}-{who}"), &format!("projectRef: {{name: {project}}}"), role, who).await;
            }
        }
        let mut wrong = Vec::new();
        for (project, _, table) in kinds {
            for (change, row) in table {
                for (who, expected) in PEOPLE.into_iter().zip(row) {
                    let spec = format!("{{projectRef: {{name: {project}}}, repositories: ['**'], {change}}}");
                    let output = stage.apply(who, "RepositoryPolicy cell", &spec, &["--dry-run=server"]).await;
                    let told = output.success || output.stderr.contains("that needs the role");
                    if output.success != (expected == "yes") || !told {
                        wrong.push(format!("{who}, {change} in {project}: {}", output.stderr));
                    }
                }
            }
        }
        assert_eq!(wrong, Vec::<String>::new());
    });
}

#[test]
fn a_tenant_takes_nothing_of_another_one() {
    test(async |cluster: &Cluster| {
        let hub = cluster.namespace("hub").await;
        let (first, second) = (cluster.namespace("first").await, cluster.namespace("second").await);
        let selector = format!(
            "{{from: Selector, selector: {{matchExpressions: [{{key: kubernetes.io/metadata.name, operator: In, values: [{first}, {hub}]}}]}}}}"
        );
        registry(cluster, &hub, &format!("projectNamespaces: {selector}, hostnames: ['{hub}.example']")).await;
        let project = |path: &str| {
            object("Project app", &format!("{{registryRef: {{name: main, namespace: {hub}}}, path: {path}}}"))
        };
        cluster.create(&first, project("shared/app")).await;
        cluster.condition("Project", &first, "app", "Accepted", "True").await;
        let refused = async |namespace: &str, object: serde_json::Value, expected: &str| {
            let error = cluster.try_create(namespace, object, true).await.expect_err(expected);
            assert!(error.contains(expected), "{error}");
        };
        refused(&second, project("second"), "takes no Projects from namespace").await;
        for path in ["shared/app", "shared", "shared/app/inner"] {
            refused(&hub, project(path), "of the older Project").await;
        }
        let own = object("Registry own", &format!("{{storage: {{emptyDir: {{}}}}, hostnames: ['{hub}.example']}}"));
        refused(&second, own, "is in use by Registry").await;
        // A Member of the Project's name in another namespace is about a Project there.
        let member = object(
            "Member m",
            "{projectRef: {name: app}, role: Admin, subjects: [{kind: User, name: 'kubernetes:eve'}]}",
        );
        cluster.create(&second, member).await;
        cluster.condition("Member", &second, "m", "Accepted", "False").await;
    });
}

#[test]
fn a_dry_run_tells_who_loses_what() {
    test(async |cluster: &Cluster| {
        let stage = Stage::set(cluster).await;
        let dry = &["--dry-run=server"];
        let spec = format!(
            "{{projectRef: {{name: team}}, role: Guest, subjects: [{{kind: User, name: 'kubernetes:{}'}}]}}",
            stage.full("dev")
        );
        let output = stage.apply("lead", "Member dev", &spec, dry).await;
        assert!(output.success, "{}", output.stderr);
        let warning = output.stderr.lines().find(|line| line.starts_with("Warning: ")).unwrap_or_default();
        assert!(warning.contains("push") && warning.contains(&stage.full("dev")), "{}", output.stderr);
        let output =
            stage.apply("steward", "Project team", "{registryRef: {name: main}, visibility: Public}", dry).await;
        assert!(output.stderr.contains("Warning: ") && output.stderr.contains("anyone"), "{}", output.stderr);
        let member = cluster.get("Member", &stage.namespace, "dev").await;
        assert_eq!(member["spec"]["role"], json!("Developer"), "a dry run changes nothing");
    });
}

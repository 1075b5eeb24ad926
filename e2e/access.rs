//! Who may push and pull, on a Registry in the cluster; and that a change of it is in force at once, in running pods.

use serde_json::json;

use crate::harness::{Cluster, Image, Login, PATIENCE, PROMISED, Remote, eventually, test, within};

const REGISTRY: &str = "{storage: {emptyDir: {}}}";
const PROJECT: &str = "{registryRef: {name: main}, path: company/team}";
const MANIFEST: &str = "/v2/company/team/app/manifests/v1";
const UPLOADS: &str = "/v2/company/team/app/blobs/uploads/";

/// A Registry `main` with a private Project `team`, whose Developer has pushed an image.
struct Stage {
    namespace: String,
    remote: Remote,
    developer: Login,
}

async fn stage(cluster: &Cluster) -> Stage {
    let namespace = cluster.namespace("access").await;
    let remote = cluster.registry(&namespace, "main", REGISTRY).await;
    cluster.project(&namespace, "team", PROJECT).await;
    let developer = cluster.robot(&namespace, "developer", "team", "Developer", &remote).await;
    let image = Image::build(cluster.folder.path(), &cluster.unique, 100_000);
    remote.push(&image, "company/team/app:v1", Some(&developer)).await.unwrap();
    Stage { namespace, remote, developer }
}

/// Waits, as long as is promised, until a request has one of these statuses.
async fn promised(what: &str, remote: &Remote, path: &str, login: Option<&Login>, statuses: &[u16]) {
    within(PROMISED, what, async || {
        let answer = remote.request("GET", path, login).await;
        if statuses.contains(&answer.status) { Ok(()) } else { Err(format!("{}: {}", answer.status, answer.text())) }
    })
    .await;
}

#[test]
#[ignore = "needs a node to reach the registry from"]
fn an_image_comes_out_with_the_digests_it_went_in_with() {
    test(async |cluster: &Cluster| {
        let Stage { remote, developer, .. } = stage(cluster).await;
        let image = Image::build(cluster.folder.path(), &format!("{}-large", cluster.unique), 20_000_000);
        remote.push(&image, "company/team/deep/er/app:large", Some(&developer)).await.unwrap();
        let expected = (image.digest.clone(), image.layers.clone());
        assert_eq!(remote.pull("company/team/deep/er/app:large", Some(&developer)).await.unwrap(), expected);
        let by_digest = format!("company/team/deep/er/app@{}", image.digest);
        assert_eq!(remote.pull(&by_digest, Some(&developer)).await.unwrap(), expected);
    });
}

#[test]
#[ignore = "needs a node to reach the registry from"]
fn who_may_not_is_told_so_in_the_words_of_oci() {
    test(async |cluster: &Cluster| {
        let Stage { namespace, remote, developer } = stage(cluster).await;
        let guest = cluster.robot(&namespace, "guest", "team", "Guest", &remote).await;

        let read = remote.request("GET", MANIFEST, Some(&guest)).await;
        assert_eq!(read.status, 200, "a Guest pulls: {}", read.text());
        let push = remote.request("POST", UPLOADS, Some(&guest)).await;
        assert_eq!(
            (push.status, push.oci_error().as_deref()),
            (403, Some("DENIED")),
            "a Guest pushes: {}",
            push.text()
        );

        let wrong = developer.with_password("wrong", &remote.host);
        let answer = remote.request("GET", MANIFEST, Some(&wrong)).await;
        assert_eq!(answer.status, 401, "a wrong password: {}", answer.text());
        assert!(remote.pull("company/team/app:v1", Some(&wrong)).await.is_err());
        // The password of somebody else is a wrong one too.
        let borrowed = developer.with_password(&guest.password, &remote.host);
        let push = remote.request("POST", UPLOADS, Some(&borrowed)).await;
        assert!(matches!(push.status, 401 | 403), "a Developer's name with a Guest's password: {}", push.status);

        let anonymous = remote.request("GET", MANIFEST, None).await;
        assert_eq!(anonymous.status, 401, "nobody pulls: {}", anonymous.text());
        let plain = remote.send("GET", MANIFEST, &[]).await;
        assert_eq!((plain.status, plain.oci_error().as_deref()), (401, Some("UNAUTHORIZED")), "{}", plain.text());

        let nowhere = remote.request("POST", "/v2/nowhere/app/blobs/uploads/", Some(&developer)).await;
        assert_eq!((nowhere.status, nowhere.oci_error().as_deref()), (403, Some("DENIED")), "{}", nowhere.text());
    });
}

#[test]
#[ignore = "needs a node to reach the registry from"]
fn deleting_a_member_revokes_its_credential_while_pods_run_on() {
    test(async |cluster: &Cluster| {
        let Stage { namespace, remote, developer } = stage(cluster).await;
        let (_, before) = cluster.registry_pods(&namespace, "main").await;
        let challenge = remote.send("GET", MANIFEST, &[]).await;
        let challenge = challenge.header("www-authenticate").expect("a challenge").to_owned();
        let token = crate::harness::bearer(&remote.token(&challenge, Some(&developer)).await);
        assert_eq!(remote.send("GET", MANIFEST, &[("Authorization", &token)]).await.status, 200);

        cluster.start_deletion("Member", &namespace, "developer").await;
        promised("the credential is refused", &remote, MANIFEST, Some(&developer), &[401, 403]).await;
        let answer = remote.send("GET", MANIFEST, &[("Authorization", &token)]).await;
        assert!(matches!(answer.status, 401 | 403), "a token from before is refused too: {}", answer.status);
        let push = remote.request("POST", UPLOADS, Some(&developer)).await;
        assert!(matches!(push.status, 401 | 403), "{}", push.status);

        assert_eq!(cluster.registry_pods(&namespace, "main").await.1, before, "no pod was restarted");
        cluster.gone("Secret", &namespace, "developer-ci").await;
    });
}

#[test]
#[ignore = "needs a node to reach the registry from"]
fn a_higher_credential_generation_revokes_the_old_and_issues_a_new_credential() {
    test(async |cluster: &Cluster| {
        let Stage { namespace, remote, developer } = stage(cluster).await;
        let raised = json!({"spec": {"credentialGeneration": 1}});
        cluster.patch("Member", &namespace, "developer", raised).await;
        promised("the old credential is refused", &remote, MANIFEST, Some(&developer), &[401, 403]).await;
        let renewed = eventually("the Secret holds another credential", async || {
            let login = cluster.login(&namespace, "developer-ci", &remote.host).await;
            if login.password == developer.password { Err("the old one".to_owned()) } else { Ok(login) }
        })
        .await;
        promised("the new credential is taken", &remote, MANIFEST, Some(&renewed), &[200]).await;
    });
}

#[test]
#[ignore = "needs a node to reach the registry from"]
fn a_member_that_expires_loses_its_access() {
    test(async |cluster: &Cluster| {
        let Stage { namespace, remote, developer } = stage(cluster).await;
        let now = k8s_openapi::jiff::Timestamp::now();
        let soon = k8s_openapi::jiff::Timestamp::from_second(now.as_second() + 4).expect("a time");
        cluster.patch("Member", &namespace, "developer", json!({"spec": {"expiresAt": soon.to_string()}})).await;
        within(PATIENCE, "the expired credential is refused", async || {
            let answer = remote.request("GET", MANIFEST, Some(&developer)).await;
            if matches!(answer.status, 401 | 403) { Ok(()) } else { Err(answer.status.to_string()) }
        })
        .await;
        cluster.condition("Member", &namespace, "developer", "Ready", "False").await;
    });
}

#[test]
#[ignore = "needs a node to reach the registry from"]
fn a_project_made_public_is_pulled_by_anybody_and_made_private_by_nobody() {
    test(async |cluster: &Cluster| {
        let Stage { namespace, remote, .. } = stage(cluster).await;
        let visibility = async |visibility: &str| {
            let patch = json!({"spec": {"visibility": visibility}});
            cluster.patch("Project", &namespace, "team", patch).await;
        };
        assert_eq!(remote.request("GET", MANIFEST, None).await.status, 401);
        visibility("Public").await;
        promised("anybody pulls", &remote, MANIFEST, None, &[200]).await;
        remote.pull("company/team/app:v1", None).await.expect("skopeo pulls without a login");
        let push = remote.request("POST", UPLOADS, None).await;
        assert_eq!(push.status, 401, "nobody pushes without a login: {}", push.text());
        visibility("Private").await;
        promised("nobody pulls", &remote, MANIFEST, None, &[401]).await;
    });
}

#[test]
#[ignore = "needs a node to reach the registry from"]
fn the_catalogue_shows_what_the_caller_may_see() {
    test(async |cluster: &Cluster| {
        let Stage { namespace, remote, developer } = stage(cluster).await;
        cluster.project(&namespace, "other", "{registryRef: {name: main}}").await;
        let stranger = cluster.robot(&namespace, "stranger", "other", "Admin", &remote).await;
        let catalogue = async |login: &Login| remote.request("GET", "/v2/_catalog", Some(login)).await;
        let seen = catalogue(&developer).await;
        assert!(seen.status == 200 && seen.text().contains("company/team/app"), "{}: {}", seen.status, seen.text());
        let seen = catalogue(&stranger).await;
        assert!(seen.status == 200 && !seen.text().contains("company/team"), "{}: {}", seen.status, seen.text());
        assert_ne!(remote.request("GET", MANIFEST, Some(&stranger)).await.status, 200, "nor may it be pulled");
    });
}

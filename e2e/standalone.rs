//! Without a cluster: `landfast serve --manifests`, as `make run` starts it.

mod adoption;
mod client_certificates;
mod clients;
mod conformance;
mod id_tokens;
mod replicas;
mod repositories;
mod transfers;

use crate::harness::{Command, Gate, Image, Login, PROMISED, Remote, Server, local_test, within};

const MANIFEST: &str = "/v2/demo/app/manifests/v1";

/// A robot that pulls and does not push.
const GUEST: &str = "
apiVersion: landfast.dev/v1alpha1
kind: Member
metadata: {name: guest, namespace: default}
spec: {projectRef: {name: demo}, role: Guest, subjects: [{kind: Robot, name: reader}]}
";

async fn pushed(server: &Server, to: &str, login: &Login, size: usize) -> Image {
    let image = Image::build(&server.remote().folder, &to.replace(['/', ':'], "-"), size);
    server.remote().push(&image, to, Some(login)).await.unwrap();
    image
}

/// Waits, as long as is promised, for a status.
async fn promised(what: &str, remote: &Remote, path: &str, login: Option<&Login>, status: u16) {
    within(PROMISED, what, async || {
        let answer = remote.request("GET", path, login).await;
        if answer.status == status { Ok(()) } else { Err(format!("{}: {}", answer.status, answer.text())) }
    })
    .await;
}

/// The same, for a status that comes another way.
async fn promised_by(what: &str, ask: impl AsyncFn() -> (u16, String), status: u16) {
    within(PROMISED, what, async || {
        let (actual, text) = ask().await;
        if actual == status { Ok(()) } else { Err(format!("{actual}: {text}")) }
    })
    .await;
}

#[test]
fn an_image_comes_out_with_the_digests_it_went_in_with() {
    local_test(async || {
        let server = Server::start().await;
        let robot = server.login("demo", "ci");
        let image = pushed(&server, "demo/app:v1", &robot, 20_000_000).await;
        let expected = (image.digest.clone(), image.layers.clone());
        assert_eq!(server.remote().pull("demo/app:v1", Some(&robot)).await.unwrap(), expected);
        let by_digest = format!("demo/app@{}", image.digest);
        assert_eq!(server.remote().pull(&by_digest, Some(&robot)).await.unwrap(), expected);
    });
}

/// What stands in front of it has time to send clients elsewhere.
#[test]
fn a_server_that_is_about_to_end_says_so_and_serves_on() {
    local_test(async || {
        let mut server = Server::start().await;
        server.stop();
        server.settings = vec!["drainDelaySeconds=3600".to_owned()];
        server.restart().await;
        let before = server.remote().send("GET", "/v2/", &[]).await;
        assert_eq!((before.status, before.header("connection")), (401, None));
        server.ask_to_stop();
        within(PROMISED, "it is not ready any more", async || match server.readiness().await {
            503 => Ok(()),
            status => Err(status.to_string()),
        })
        .await;
        let meanwhile = server.remote().send("GET", "/v2/", &[]).await;
        assert_eq!((meanwhile.status, meanwhile.header("connection")), (401, Some("close")));
        server.kill();

        server.settings = vec!["drainDelaySeconds=1".to_owned()];
        server.restart().await;
        server.stop();
    });
}

#[test]
fn the_commands_that_it_prints_work() {
    local_test(async || {
        let server = Server::start().await;
        let folder = server.remote().folder;
        let image = Image::build(&folder, "printed", 1_000);
        let output = server.output();
        let printed: Vec<_> = output.lines().map(str::trim).filter(|line| line.starts_with("skopeo copy ")).collect();
        assert_eq!(printed.len(), 2, "one to push and one to pull: {output}");
        for (line, directory) in printed.iter().zip([image.layout, folder.join("pulled")]) {
            let line = line.replace("oci:FOLDER", &format!("oci:{}", directory.display()));
            Command::new("sh").args(["-c", &line]).run().await;
        }
        assert!(folder.join("pulled/index.json").exists(), "the second one has pulled");
        for line in output.lines().filter(|line| line.trim().starts_with("docker login ")) {
            let (_, password) = line.split_once("--password-stdin").expect("passwords are not typed");
            let (_, path) = password.split_once("< ").expect("the password comes from a file");
            let password = std::fs::read_to_string(path.trim()).expect("the file is there");
            assert!(password.trim_end() == server.login("demo", "ci").password, "{line}");
        }
    });
}

#[test]
fn who_may_not_is_told_so_in_the_words_of_oci() {
    local_test(async || {
        let server = Server::start().await;
        let (remote, robot) = (server.remote(), server.login("demo", "ci"));
        pushed(&server, "demo/app:v1", &robot, 1_000).await;
        let wrong = robot.with_password("wrong", &remote.host);
        let answer = remote.request("GET", MANIFEST, Some(&wrong)).await;
        assert_eq!(answer.status, 401, "a wrong password: {}", answer.text());
        assert!(remote.pull("demo/app:v1", Some(&wrong)).await.is_err());
        let anonymous = remote.request("GET", MANIFEST, None).await;
        assert_eq!((anonymous.status, anonymous.oci_error().as_deref()), (401, Some("UNAUTHORIZED")), "nobody pulls");

        std::fs::write(server.manifests.join("guest.yaml"), GUEST).unwrap();
        let guest = within(PROMISED, "the new robot has a credential", async || {
            if server.has_login("guest", "reader") { Ok(server.login("guest", "reader")) } else { Err("none".into()) }
        })
        .await;
        promised("the new robot pulls", &remote, MANIFEST, Some(&guest), 200).await;
        let push = remote.request("POST", "/v2/demo/app/blobs/uploads/", Some(&guest)).await;
        assert_eq!(
            (push.status, push.oci_error().as_deref()),
            (403, Some("DENIED")),
            "a Guest pushes: {}",
            push.text()
        );
    });
}

/// With the sample's policy for `open/released/**`.
#[test]
fn a_client_shows_why_an_immutable_tag_does_not_move() {
    local_test(async || {
        let server = Server::start().await;
        let (remote, robot) = (server.remote(), server.login("open", "ci"));
        let first = pushed(&server, "open/released/app:v1", &robot, 1_000).await;
        remote.push(&first, "open/released/app:v1", Some(&robot)).await.unwrap();
        let second = Image::build(&remote.folder, "second", 1_000);
        let refused = remote.push(&second, "open/released/app:v1", Some(&robot)).await.unwrap_err();
        let expected = format!("tag v1 is immutable and points to {}", first.digest);
        assert!(refused.contains(&expected), "{refused}");
        assert_eq!(remote.pull("open/released/app:v1", Some(&robot)).await.unwrap().0, first.digest);
    });
}

#[test]
fn users_come_and_go_with_the_password_file() {
    local_test(async || {
        let server = Server::start().await;
        let remote = server.remote();
        let alice = Login::new("alice", "secret", &remote.host);
        assert_eq!(remote.request("GET", "/v2/", Some(&alice)).await.status, 401, "nobody is there yet");
        let member = GUEST.replace("name: guest", "name: people").replace("role: Guest", "role: Developer");
        let member = member.replace("{kind: Robot, name: reader}", "{kind: User, name: 'htpasswd:alice'}");
        std::fs::write(server.manifests.join("people.yaml"), member).unwrap();
        let line = format!("alice:{}\n", bcrypt::hash("secret", 5).unwrap());
        std::fs::write(&server.users, &line).unwrap();
        promised("alice logs in", &remote, "/v2/", Some(&alice), 200).await;
        promised("alice is a member", &remote, MANIFEST, Some(&alice), 404).await;
        let image = pushed(&server, "demo/app:v1", &alice, 1_000).await;
        assert_eq!(remote.pull("demo/app:v1", Some(&alice)).await.unwrap().0, image.digest);
        let challenged = remote.send("GET", "/v2/", &[]).await;
        let challenge = challenged.header("www-authenticate").expect("a challenge").to_owned();
        let token = crate::harness::bearer(&remote.token(&challenge, Some(&alice)).await);

        std::fs::write(&server.users, "alice:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n").unwrap();
        within(PROMISED, "the log says what is wrong", async || {
            let output = server.output();
            if output.contains("line 1: the password is stored as SHA-1") { Ok(()) } else { Err(output) }
        })
        .await;
        assert_eq!(remote.request("GET", "/v2/", Some(&alice)).await.status, 200, "a broken file changes nothing");

        std::fs::write(&server.users, line.replace("alice", "bob")).unwrap();
        promised("alice is refused", &remote, "/v2/", Some(&alice), 401).await;
        let answer = remote.send("GET", "/v2/", &[("Authorization", &token)]).await;
        assert_eq!(answer.status, 401, "a token from before is refused too: {}", answer.text());
    });
}

#[test]
fn anybody_pulls_what_is_public_or_official() {
    local_test(async || {
        let server = Server::start().await;
        let remote = server.remote();
        for (to, login) in
            [("open/app:v1", server.login("open", "ci")), ("library/app:v1", server.login("librarian", "librarian"))]
        {
            let image = pushed(&server, to, &login, 1_000).await;
            assert_eq!(remote.pull(to, None).await.unwrap().0, image.digest);
        }
        pushed(&server, "open/drafts/app:v1", &server.login("open", "ci"), 1_000).await;
        let draft = remote.request("GET", "/v2/open/drafts/app/manifests/v1", None).await;
        assert_eq!(draft.status, 401, "a policy keeps a part of it private: {}", draft.text());
        let push = remote.request("POST", "/v2/open/app/blobs/uploads/", None).await;
        assert_eq!(push.status, 401, "nobody pushes without a login: {}", push.text());
    });
}

#[test]
fn a_changed_manifest_takes_effect_while_it_runs() {
    local_test(async || {
        let server = Server::start().await;
        let (remote, robot) = (server.remote(), server.login("demo", "ci"));
        pushed(&server, "demo/app:v1", &robot, 1_000).await;
        let path = server.manifests.join("demo.yaml");
        let text = std::fs::read_to_string(&path).unwrap();

        std::fs::write(&path, text.replace("visibility: Private", "visibility: Public")).unwrap();
        promised("anybody pulls", &remote, MANIFEST, None, 200).await;
        let (project, _member) = text.split_once("\n---\n").expect("the Project and its Member");
        std::fs::write(&path, project).unwrap();
        promised("nobody pulls", &remote, MANIFEST, None, 401).await;
        promised("the robot is refused", &remote, MANIFEST, Some(&robot), 401).await;

        // An editor's half-written file must change nothing.
        std::fs::write(&path, "spec: [").unwrap();
        std::fs::write(server.manifests.join("guest.yaml"), GUEST).unwrap();
        let open = remote.request("GET", "/v2/", Some(&server.login("open", "ci"))).await;
        assert_eq!(open.status, 200, "other robots go on: {}", open.text());
        std::fs::write(&path, &text).unwrap();
        promised("the robot is back", &remote, MANIFEST, Some(&robot), 200).await;
    });
}

#[test]
fn started_again_it_has_everything() {
    local_test(async || {
        let mut server = Server::start().await;
        let robot = server.login("demo", "ci");
        let image = pushed(&server, "demo/app:v1", &robot, 1_000_000).await;
        server.stop();
        server.restart().await;
        assert!(server.login("demo", "ci").password == robot.password, "the credential is the same");
        let expected = (image.digest.clone(), image.layers.clone());
        assert_eq!(server.remote().pull("demo/app:v1", Some(&robot)).await.unwrap(), expected);
    });
}

#[test]
fn killed_during_a_push_it_loses_nothing_that_it_acknowledged() {
    local_test(async || {
        let mut server = Server::start().await;
        let (remote, robot) = (server.remote(), server.login("demo", "ci"));
        let early = pushed(&server, "demo/app:early", &robot, 1_000_000).await;
        let blob = remote.upload_blob("demo/app", b"acknowledged", &robot).await;

        let large = Image::build(&remote.folder, "large", 64_000_000);
        let gate = Gate::plain(server.listen, 24_000_000).await;
        let through = Remote { host: gate.address.to_string(), ..remote.clone() };
        let same_robot = robot.with_password(&robot.password, &through.host);
        let push = through.push(&large, "demo/app:large", Some(&same_robot));
        let kill = async {
            server.kill();
            server.restart().await;
        };
        let interrupted = gate.interrupt(push, kill).await;
        println!("the interrupted push: {interrupted:?}");

        assert_eq!(remote.pull("demo/app:early", Some(&robot)).await.unwrap().0, early.digest);
        let kept = remote.request("HEAD", &format!("/v2/demo/app/blobs/{blob}"), Some(&robot)).await;
        assert_eq!(kept.status, 200, "an acknowledged blob is there without a manifest that needs it");
        remote.push(&large, "demo/app:large", Some(&robot)).await.expect("the client's retry succeeds");
        let expected = (large.digest.clone(), large.layers.clone());
        assert_eq!(remote.pull("demo/app:large", Some(&robot)).await.unwrap(), expected);
    });
}

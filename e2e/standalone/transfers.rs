//! Transfers as clients make them that want to be fast, or whose connection breaks.

use crate::harness::{Gate, Login, Remote, Server, digest, eventually, local_test, noise, with_parameter};

const UPLOADS: &str = "/v2/demo/app/blobs/uploads/";

async fn authorized(remote: &Remote, robot: &Login) -> String {
    remote.authorization(&["repository:demo/app:pull,push,delete"], robot).await
}

/// Begins an upload, and gives its location.
async fn begun(remote: &Remote, token: &str) -> String {
    let started = remote.send("POST", UPLOADS, &[("Authorization", token)]).await;
    assert_eq!(started.status, 202, "{}", started.text());
    started.header("location").expect("an upload has a location").to_owned()
}

/// containerd, and snapshotters that fetch a file of a layer when it is read, ask for many parts at the same time.
#[test]
fn parts_that_are_pulled_side_by_side_make_the_whole() {
    local_test(async || {
        for server in [Server::start().await, Server::start_tls().await] {
            let (remote, robot) = (server.remote(), server.login("demo", "ci"));
            let content = noise("parts", 3_000_001);
            let digest = remote.upload_blob("demo/app", &content, &robot).await;
            let path = format!("/v2/demo/app/blobs/{digest}");
            let token = authorized(&remote, &robot).await;
            let part = async |first: usize| {
                let last = (first + 299_999).min(content.len() - 1);
                let range = format!("bytes={first}-{last}");
                let answer = remote.send("GET", &path, &[("Authorization", &token), ("Range", &range)]).await;
                assert_eq!(answer.status, 206, "{}", answer.text());
                let expected = format!("bytes {first}-{last}/{}", content.len());
                assert_eq!(answer.header("content-range"), Some(expected.as_str()));
                answer.body
            };
            let parts = futures::future::join_all((0..content.len()).step_by(300_000).map(part)).await;
            assert!(parts.concat() == content, "the parts are those of the blob");

            // Where a snapshotter looks first: the table of contents is at the end of a layer.
            let end = remote.send("GET", &path, &[("Authorization", &token), ("Range", "bytes=-1000")]).await;
            assert!(end.status == 206 && end.body == content[content.len() - 1000..]);
            let beyond = [("Authorization", token.as_str()), ("Range", "bytes=3000001-")];
            let beyond = remote.send("GET", &path, &beyond).await;
            assert_eq!((beyond.status, beyond.header("content-range")), (416, Some("bytes */3000001")));
        }
    });
}

#[test]
fn an_upload_whose_connection_broke_goes_on_where_it_was() {
    local_test(async || {
        let server = Server::start().await;
        let (remote, robot) = (server.remote(), server.login("demo", "ci"));
        let content = noise("resumed", 4_000_000);
        let token = authorized(&remote, &robot).await;
        let location = begun(&remote, &token).await;

        let gate = Gate::plain(server.listen, 1_500_000).await;
        let through = Remote { host: gate.address.to_string(), ..remote.clone() };
        let path = &location[location.find("/v2/").expect("it is one of an upload")..];
        let range = [("Authorization", token.as_str()), ("Content-Range", "0-3999999")];
        let broken = gate.break_off(through.try_send_body("PATCH", path, &range, &content)).await;
        assert!(broken.is_err(), "the client gets no answer: {broken:?}");

        // Until the registry has felt the break it may still be writing: then it refuses, and says again how far it is.
        let mut offsets = Vec::new();
        let rest = eventually("the upload goes on", async || {
            let status = remote.send("GET", &location, &[("Authorization", &token)]).await;
            let range = status.header("range").unwrap_or_default();
            let last: usize = range.strip_prefix("0-").and_then(|last| last.parse().ok()).ok_or("no range")?;
            offsets.push(last + 1);
            let range = format!("{}-{}", last + 1, content.len() - 1);
            let headers = [("Authorization", token.as_str()), ("Content-Range", &range)];
            let rest = remote.send_body("PATCH", &location, &headers, &content[last + 1..]).await;
            if rest.status == 202 { Ok(rest) } else { Err(format!("{}: {}", rest.status, rest.text())) }
        })
        .await;
        assert!(
            offsets.iter().any(|offset| (2..content.len()).contains(offset)),
            "it broke in the middle: {offsets:?}"
        );

        let digest = digest(&content);
        let location = rest.header("location").expect("an upload has a location");
        let end = with_parameter(location, "digest", &digest);
        let end = remote.send_body("PUT", &end, &[("Authorization", &token)], b"").await;
        assert_eq!(end.status, 201, "{}", end.text());
        let path = format!("/v2/demo/app/blobs/{digest}");
        assert!(remote.request("GET", &path, Some(&robot)).await.body == content, "nothing is lost and nothing twice");
    });
}

//! Manifests, by tag and by digest.

use super::*;

over_each_store! {
    async fn a_manifest_is_read_as_it_was_put(fixture) {
        let (content, app) = (&fixture.content, repository("app"));
        let config = push_blob(content, &app, b"config").await;
        let new = image("one", &config, None, Some("v1"));
        let digest = content.put_manifest(&app, new.clone()).await.unwrap();
        assert_eq!(digest, digest_of(&new));
        for reference in [Reference::Tag(tag("v1")), Reference::Digest(digest.clone())] {
            let stored = content.get_manifest(&app, &reference).await.unwrap();
            assert_eq!((&stored.digest, &stored.bytes), (&digest, &new.bytes));
            assert_eq!(stored.media_type.as_str(), MediaType::OCI_MANIFEST);
        }
    }

    async fn what_was_not_pushed_is_unknown(fixture) {
        let (content, app, other) = (&fixture.content, repository("app"), repository("other"));
        let digest = push_image(content, &app, "one", Some("v1")).await;
        let unknown = [
            (&app, Reference::Tag(tag("v2"))),
            (&app, Reference::Tag(tag("V1"))),
            (&app, Reference::Digest(Digest::sha256(b"other"))),
            (&other, Reference::Tag(tag("v1"))),
            (&other, Reference::Digest(digest)),
        ];
        for (repository, reference) in unknown {
            assert_error!(content.get_manifest(repository, &reference).await, ContentError::ManifestUnknown);
        }
    }

    async fn a_blob_is_no_manifest(fixture) {
        let (content, app) = (&fixture.content, repository("app"));
        let blob = push_blob(content, &app, b"{}").await;
        assert_error!(content.get_manifest(&app, &Reference::Digest(blob)).await, ContentError::ManifestUnknown);
    }

    async fn a_manifest_with_missing_blobs_is_refused_and_all_are_named(fixture) {
        let (content, app, other) = (&fixture.content, repository("app"), repository("other"));
        let config = push_blob(content, &other, b"config").await;
        let layer = Digest::sha256(b"layer");
        let json = serde_json::json!({
            "schemaVersion": 2,
            "config": {"mediaType": "a/b", "digest": config, "size": 6},
            "layers": [{"mediaType": "a/b", "digest": layer, "size": 5}, {"mediaType": "a/b", "digest": layer, "size": 5}],
        });
        let new = new_manifest(MediaType::OCI_MANIFEST, &json, Some("v1"));
        match content.put_manifest(&app, new.clone()).await {
            Err(ContentError::ManifestBlobUnknown(missing)) => assert_eq!(missing, [config, layer]),
            other => panic!("{other:?}"),
        }
        assert_error!(content.get_manifest(&app, &Reference::Digest(digest_of(&new))).await, ContentError::ManifestUnknown);
        assert_error!(content.list_tags(&app, None, ALL).await, ContentError::RepositoryUnknown);
    }

    async fn an_index_with_a_missing_child_is_refused(fixture) {
        let (content, app) = (&fixture.content, repository("app"));
        let child = push_image(content, &app, "child", None).await;
        let missing = Digest::sha256(b"missing");
        match content.put_manifest(&app, index(&[&child, &missing])).await {
            Err(ContentError::ManifestBlobUnknown(named)) => assert_eq!(named, [missing]),
            other => panic!("{other:?}"),
        }
        content.put_manifest(&app, index(&[&child])).await.unwrap();
    }

    async fn an_index_may_list_blobs_as_buildkits_cache_does(fixture) {
        let (content, app) = (&fixture.content, repository("app"));
        let layer = push_blob(content, &app, b"layer").await;
        let index = |digest: &Digest| {
            let child = serde_json::json!({"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": digest, "size": 5});
            new_manifest(MediaType::OCI_INDEX, &serde_json::json!({"schemaVersion": 2, "manifests": [child]}), None)
        };
        content.put_manifest(&app, index(&layer)).await.unwrap();
        let absent = content.put_manifest(&app, index(&Digest::sha256(b"absent"))).await;
        assert!(matches!(absent, Err(ContentError::ManifestBlobUnknown(_))), "{absent:?}");
    }

    async fn a_manifest_under_a_wrong_digest_is_refused(fixture) {
        let (content, app) = (&fixture.content, repository("app"));
        let config = push_blob(content, &app, b"config").await;
        let new = NewManifest { reference: Reference::Digest(Digest::sha256(b"other")), ..image("one", &config, None, None) };
        assert_error!(content.put_manifest(&app, new).await, ContentError::DigestMismatch { .. });
    }

    async fn a_large_manifest_is_stored_as_it_is(fixture) {
        let (content, app) = (&fixture.content, repository("app"));
        let config = push_blob(content, &app, b"config").await;
        let large = image(&"x".repeat(4 << 20), &config, None, Some("v1"));
        content.put_manifest(&app, large.clone()).await.unwrap();
        let stored = content.get_manifest(&app, &Reference::Tag(tag("v1"))).await.unwrap();
        assert!(stored.bytes == large.bytes);
    }

    /// As a crash in the middle of a push may leave it.
    async fn a_link_without_content_stands_for_nothing(fixture) {
        let (content, app) = (&fixture.content, repository("app"));
        let config = push_blob(content, &app, b"config").await;
        content.remove(&keys::blob(&config)).await.unwrap();
        let error = content.put_manifest(&app, image("one", &config, None, Some("v1"))).await;
        assert_error!(error, ContentError::ManifestBlobUnknown(_));
        assert!(!content.mount_blob(&app, &repository("other"), &config).await.unwrap());
    }

    async fn who_pushed_first_stays_known(fixture) {
        let (content, app) = (&fixture.content, repository("app"));
        let digest = push_image(content, &app, "one", None).await;
        let config = push_blob(content, &app, b"config").await;
        let again = NewManifest { pusher: "bob".to_owned(), ..image("one", &config, None, None) };
        assert_eq!(content.put_manifest(&app, again).await.unwrap(), digest);
        let record = content.read_small(&keys::manifest(&app, &digest)).await.unwrap().unwrap();
        let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
        assert_eq!(record["pushedBy"], "alice");
    }

    async fn a_tag_moves(fixture) {
        let (content, app) = (&fixture.content, repository("app"));
        let current = async || content.get_manifest(&app, &Reference::Tag(tag("v1"))).await.unwrap().digest.clone();
        let old = push_image(content, &app, "old", Some("v1")).await;
        assert_eq!(current().await, old);
        let new = push_image(content, &app, "new", Some("v1")).await;
        assert_eq!(current().await, new);
        content.get_manifest(&app, &Reference::Digest(old)).await.unwrap();
    }

    async fn a_deleted_tag_leaves_the_manifest(fixture) {
        let (content, app) = (&fixture.content, repository("app"));
        let digest = push_image(content, &app, "one", Some("v1")).await;
        content.get_manifest(&app, &Reference::Tag(tag("v1"))).await.unwrap();
        content.delete_tag(&app, &tag("v1"), &none()).await.unwrap();
        assert_error!(content.get_manifest(&app, &Reference::Tag(tag("v1"))).await, ContentError::ManifestUnknown);
        assert_error!(content.delete_tag(&app, &tag("v1"), &none()).await, ContentError::ManifestUnknown);
        assert_eq!(content.list_tags(&app, None, ALL).await.unwrap(), (vec![], false));
        content.get_manifest(&app, &Reference::Digest(digest)).await.unwrap();
    }

    async fn a_deleted_manifest_takes_its_tags_along(fixture) {
        let (content, app) = (&fixture.content, repository("app"));
        let gone = push_image(content, &app, "gone", Some("a")).await;
        push_image(content, &app, "gone", Some("b")).await;
        let stays = push_image(content, &app, "stays", Some("c")).await;
        for reference in [Reference::Tag(tag("b")), Reference::Digest(gone.clone())] {
            content.get_manifest(&app, &reference).await.unwrap();
        }
        content.delete_manifest(&app, &gone, &none()).await.unwrap();
        assert_error!(content.get_manifest(&app, &Reference::Tag(tag("b"))).await, ContentError::ManifestUnknown);
        assert_error!(content.delete_manifest(&app, &gone, &none()).await, ContentError::ManifestUnknown);
        assert_error!(content.get_manifest(&app, &Reference::Digest(gone)).await, ContentError::ManifestUnknown);
        assert_eq!(content.list_tags(&app, None, ALL).await.unwrap(), (vec![tag("c")], false));
        assert_eq!(content.get_manifest(&app, &Reference::Tag(tag("c"))).await.unwrap().digest, stays);
    }

    /// What the first deletion has learned must be right for the next ones.
    async fn later_deletions_know_of_tags_that_have_come_moved_and_gone(fixture) {
        let (content, app) = (&fixture.content, repository("app"));
        let tags = async || content.list_tags(&app, None, ALL).await.unwrap().0.iter().map(ToString::to_string).collect::<Vec<_>>();
        let first = push_image(content, &app, "first", Some("first")).await;
        let second = push_image(content, &app, "second", Some("a")).await;
        let third = push_image(content, &app, "third", Some("b")).await;
        content.delete_manifest(&app, &first, &none()).await.unwrap();
        push_image(content, &app, "second", Some("b")).await;
        push_image(content, &app, "second", Some("C")).await;
        push_image(content, &app, "third", Some("a")).await;
        push_image(content, &app, "third", Some("d")).await;
        content.delete_tag(&app, &tag("d"), &none()).await.unwrap();
        push_image(content, &app, "second", Some("d")).await;
        content.delete_manifest(&app, &second, &none()).await.unwrap();
        assert_eq!(tags().await, ["a"]);
        content.delete_manifest(&app, &third, &none()).await.unwrap();
        assert_eq!(tags().await, [""; 0]);
        push_image(content, &app, "third", Some("a")).await;
        content.delete_manifest(&app, &third, &none()).await.unwrap();
        assert_eq!(tags().await, [""; 0]);
    }

    async fn a_deleted_manifest_stays_in_other_repositories(fixture) {
        let (content, app, other) = (&fixture.content, repository("app"), repository("other"));
        let digest = push_image(content, &app, "one", Some("v1")).await;
        push_image(content, &other, "one", Some("v1")).await;
        content.delete_manifest(&app, &digest, &none()).await.unwrap();
        content.get_manifest(&other, &Reference::Tag(tag("v1"))).await.unwrap();
    }

    async fn it_is_recorded_who_pushed_and_when(fixture) {
        let (content, app) = (&fixture.content, repository("app"));
        let digest = push_image(content, &app, "one", Some("v1")).await;
        for key in [keys::manifest(&app, &digest), keys::tag(&app, &tag("v1"))] {
            let record: serde_json::Value = content.read_record(&key).await.unwrap().unwrap();
            assert_eq!((&record["pushedBy"], &record["pushedAt"]), (&"alice".into(), &1_700_000_000.into()));
        }
    }
}

/// Where nobody else changes the store: else all of them have to be read.
#[tokio::test]
async fn a_deletion_reads_only_the_tags_in_question() {
    for fixture in [Fixture::in_memory(), Fixture::in_a_folder()] {
        let (content, app) = (&fixture.content, repository("app"));
        let one = push_image(content, &app, "one", Some("a")).await;
        let two = push_image(content, &app, "two", Some("b")).await;
        content.delete_manifest(&app, &one, &none()).await.unwrap();
        // Unreadable to whoever reads it.
        fixture.store.put(&keys::tag(&app, &tag("z")), Bytes::from_static(b"{"), Condition::Always).await.unwrap();
        content.delete_manifest(&app, &two, &none()).await.unwrap();
        assert_eq!(content.list_tags(&app, None, ALL).await.unwrap().0, [tag("z")]);
    }
}

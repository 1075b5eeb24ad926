//! Tags, referrers and the catalogue.

use super::*;

fn names(listed: (Vec<RepositoryName>, bool)) -> (Vec<String>, bool) {
    (listed.0.iter().map(ToString::to_string).collect(), listed.1)
}

async fn all_repositories(content: &Content) -> Vec<String> {
    names(content.list_repositories(None, 100).await.unwrap()).0
}

over_each_store! {
    async fn tags_are_in_order_without_case(fixture) {
        let (content, app) = (&fixture.content, repository("app"));
        for name in ["b", "Latest", "a", "A", "latest", "C", "1.0", "a-1", "a.1", "_x", "LATEST"] {
            push_image(content, &app, "one", Some(name)).await;
        }
        let (tags, more) = content.list_tags(&app, None, None).await.unwrap();
        let lower: Vec<_> = tags.iter().map(|tag| tag.as_str().to_lowercase()).collect();
        assert_eq!(lower, ["1.0", "_x", "a", "a", "a-1", "a.1", "b", "c", "latest", "latest", "latest"]);
        assert!(!more && tags.contains(&tag("Latest")) && tags.contains(&tag("LATEST")));
    }

    async fn pages_of_tags_add_up(fixture) {
        let (content, app) = (&fixture.content, repository("app"));
        for name in ["b", "A", "a", "B-1", "c"] {
            push_image(content, &app, "one", Some(name)).await;
        }
        let whole = content.list_tags(&app, None, None).await.unwrap().0;
        let (first, more) = content.list_tags(&app, None, Some(2)).await.unwrap();
        assert_eq!((&first[..], more), (&whole[..2], true));
        let (second, more) = content.list_tags(&app, first.last(), Some(3)).await.unwrap();
        assert_eq!((&second[..], more), (&whole[2..], false));
        assert_eq!(content.list_tags(&app, first.last(), None).await.unwrap(), (whole[2..].to_vec(), false));
        assert_eq!(content.list_tags(&app, Some(&tag("zzz")), Some(3)).await.unwrap(), (vec![], false));
        assert_eq!(content.list_tags(&app, None, Some(0)).await.unwrap(), (vec![], false));
        assert_eq!(content.list_tags(&app, None, Some(usize::MAX)).await.unwrap(), (whole, false));
    }

    async fn tags_of_nothing_are_unknown(fixture) {
        let (content, app) = (&fixture.content, repository("app"));
        push_image(content, &repository("app/inner"), "one", Some("v1")).await;
        assert_error!(content.list_tags(&app, None, None).await, ContentError::RepositoryUnknown);
        assert_error!(content.list_tags(&app, None, Some(0)).await, ContentError::RepositoryUnknown);
        push_image(content, &app, "one", None).await;
        assert_eq!(content.list_tags(&app, None, None).await.unwrap(), (vec![], false));
    }

    async fn referrers_are_listed_with_what_describes_them(fixture) {
        let (content, app) = (&fixture.content, repository("app"));
        let config = push_blob(content, &app, b"config").await;
        let subject = push_image(content, &app, "subject", None).await;
        let by_config = image("signature", &config, Some(&subject), None);
        let mut json: serde_json::Value = serde_json::from_slice(&by_config.bytes).unwrap();
        json["artifactType"] = "application/vnd.test.sbom".into();
        let by_type = new_manifest(MediaType::OCI_MANIFEST, &json, None);
        content.put_manifest(&app, by_config.clone()).await.unwrap();
        content.put_manifest(&app, by_type.clone()).await.unwrap();
        let describe = |new: &NewManifest, artifact_type: &str| ReferrerDescriptor {
            media_type: MediaType::OCI_MANIFEST.to_owned(),
            digest: digest_of(new),
            size: new.bytes.len() as u64,
            artifact_type: Some(artifact_type.to_owned()),
            annotations: new.manifest.annotations.clone(),
        };
        let mut expected =
            vec![describe(&by_config, "application/vnd.test.config"), describe(&by_type, "application/vnd.test.sbom")];
        expected.sort_by(|a, b| a.digest.cmp(&b.digest));
        assert_eq!(content.list_referrers(&app, &subject).await.unwrap(), expected);
        assert_eq!(content.list_referrers(&repository("other"), &subject).await.unwrap(), []);
    }

    async fn a_subject_need_not_exist(fixture) {
        let (content, app) = (&fixture.content, repository("app"));
        let config = push_blob(content, &app, b"config").await;
        let subject = Digest::sha256(b"not yet pushed");
        assert_eq!(content.list_referrers(&app, &subject).await.unwrap(), []);
        content.put_manifest(&app, image("one", &config, Some(&subject), None)).await.unwrap();
        assert_eq!(content.list_referrers(&app, &subject).await.unwrap().len(), 1);
    }

    async fn a_deleted_referrer_is_not_listed(fixture) {
        let (content, app) = (&fixture.content, repository("app"));
        let config = push_blob(content, &app, b"config").await;
        let subject = Digest::sha256(b"subject");
        let new = image("one", &config, Some(&subject), None);
        content.put_manifest(&app, new.clone()).await.unwrap();
        content.delete_manifest(&app, &digest_of(&new)).await.unwrap();
        assert_eq!(content.list_referrers(&app, &subject).await.unwrap(), []);
    }

    async fn the_catalogue_is_in_order_and_in_pages(fixture) {
        let content = &fixture.content;
        let mut sorted = ["a", "a/b", "a-b", "a.b", "a0", "a_b", "ab", "b", "a/b/c"];
        for name in sorted {
            push_image(content, &repository(name), "one", None).await;
        }
        sorted.sort();
        assert_eq!(all_repositories(content).await, sorted);
        let (first, more) = content.list_repositories(None, 4).await.unwrap();
        assert_eq!(names((first.clone(), more)), (sorted[..4].iter().map(ToString::to_string).collect(), true));
        let rest = content.list_repositories(first.last(), 5).await.unwrap();
        assert_eq!(names(rest), (sorted[4..].iter().map(ToString::to_string).collect(), false));
    }

    async fn the_catalogue_lists_repositories_with_a_manifest(fixture) {
        let (content, app) = (&fixture.content, repository("app"));
        push_blob(content, &app, b"blob").await;
        assert_eq!(all_repositories(content).await, [""; 0]);
        let one = push_image(content, &app, "one", Some("v1")).await;
        let two = push_image(content, &app, "two", None).await;
        content.delete_manifest(&app, &one).await.unwrap();
        assert_eq!(all_repositories(content).await, ["app"]);
        content.delete_manifest(&app, &two).await.unwrap();
        assert_eq!(all_repositories(content).await, [""; 0]);
        push_image(content, &app, "two", None).await;
        assert_eq!(all_repositories(content).await, ["app"]);
    }
}

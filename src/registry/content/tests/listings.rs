//! Tags, referrers and the catalogue.

use super::*;

fn names(listed: (Vec<RepositoryName>, bool)) -> (Vec<String>, bool) {
    (listed.0.iter().map(ToString::to_string).collect(), listed.1)
}

async fn all_repositories(content: &Content) -> Vec<String> {
    names(content.list_repositories(None, 100).await.unwrap()).0
}

async fn all_referrers(content: &Content, of: &RepositoryName, subject: &Digest) -> Vec<ReferrerDescriptor> {
    let page = content.list_referrers(of, subject, None, None, ALL).await.unwrap();
    assert_eq!(page.next, None);
    page.manifests
}

/// A referrer with an artifact type and an annotation of so many bytes.
fn referrer(name: &str, config: &Digest, subject: &Digest, artifact_type: &str, bytes: usize) -> NewManifest {
    let mut json: serde_json::Value = serde_json::from_slice(&image(name, config, Some(subject), None).bytes).unwrap();
    json["artifactType"] = artifact_type.into();
    json["annotations"]["filler"] = "x".repeat(bytes).into();
    new_manifest(MediaType::OCI_MANIFEST, &json, None)
}

/// The digests of all pages, how long they were, and the length of the longest as JSON.
async fn pages_of_referrers(
    content: &Content,
    app: &RepositoryName,
    subject: &Digest,
    artifact_type: Option<&str>,
    limit: usize,
) -> (Vec<Digest>, Vec<usize>, usize) {
    let (mut digests, mut lengths, mut longest, mut after) = (Vec::new(), Vec::new(), 0, None);
    loop {
        let page = content.list_referrers(app, subject, after.as_ref(), artifact_type, limit).await.unwrap();
        lengths.push(page.manifests.len());
        longest = longest.max(serde_json::to_vec(&page.manifests).unwrap().len());
        digests.extend(page.manifests.into_iter().map(|manifest| manifest.digest));
        match page.next {
            Some(next) => after = Some(next),
            None => return (digests, lengths, longest),
        }
    }
}

over_each_store! {
    async fn tags_are_in_order_without_case(fixture) {
        let (content, app) = (&fixture.content, repository("app"));
        for name in ["b", "Latest", "a", "A", "latest", "C", "1.0", "a-1", "a.1", "_x", "LATEST"] {
            push_image(content, &app, "one", Some(name)).await;
        }
        let (tags, more) = content.list_tags(&app, None, ALL).await.unwrap();
        let lower: Vec<_> = tags.iter().map(|tag| tag.as_str().to_lowercase()).collect();
        assert_eq!(lower, ["1.0", "_x", "a", "a", "a-1", "a.1", "b", "c", "latest", "latest", "latest"]);
        assert!(!more && tags.contains(&tag("Latest")) && tags.contains(&tag("LATEST")));
    }

    async fn pages_of_tags_add_up(fixture) {
        let (content, app) = (&fixture.content, repository("app"));
        for name in ["b", "A", "a", "B-1", "c"] {
            push_image(content, &app, "one", Some(name)).await;
        }
        let whole = content.list_tags(&app, None, ALL).await.unwrap().0;
        let (first, more) = content.list_tags(&app, None, 2).await.unwrap();
        assert_eq!((&first[..], more), (&whole[..2], true));
        let (second, more) = content.list_tags(&app, first.last(), 3).await.unwrap();
        assert_eq!((&second[..], more), (&whole[2..], false));
        assert_eq!(content.list_tags(&app, first.last(), ALL).await.unwrap(), (whole[2..].to_vec(), false));
        assert_eq!(content.list_tags(&app, Some(&tag("zzz")), 3).await.unwrap(), (vec![], false));
        assert_eq!(content.list_tags(&app, None, 0).await.unwrap(), (vec![], false));
        assert_eq!(content.list_tags(&app, None, usize::MAX).await.unwrap(), (whole, false));
    }

    async fn tags_of_nothing_are_unknown(fixture) {
        let (content, app) = (&fixture.content, repository("app"));
        push_image(content, &repository("app/inner"), "one", Some("v1")).await;
        assert_error!(content.list_tags(&app, None, ALL).await, ContentError::RepositoryUnknown);
        assert_error!(content.list_tags(&app, None, 0).await, ContentError::RepositoryUnknown);
        push_image(content, &app, "one", None).await;
        assert_eq!(content.list_tags(&app, None, ALL).await.unwrap(), (vec![], false));
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
        assert_eq!(all_referrers(content, &app, &subject).await, expected);
        assert_eq!(all_referrers(content, &repository("other"), &subject).await, []);
    }

    async fn pages_of_referrers_add_up_with_and_without_a_filter(fixture) {
        let (content, app, subject) = (&fixture.content, repository("app"), Digest::sha256(b"subject"));
        let config = push_blob(content, &app, b"config").await;
        let mut digests = Vec::new();
        for n in 0..7 {
            let artifact_type = if n % 3 == 0 { "a/third" } else { "a/other" };
            let new = referrer(&n.to_string(), &config, &subject, artifact_type, 1);
            digests.push((digest_of(&new), artifact_type));
            content.put_manifest(&app, new).await.unwrap();
        }
        digests.sort();
        let whole: Vec<_> = digests.iter().map(|(digest, _)| digest.clone()).collect();
        let thirds: Vec<_> = digests.iter().filter(|of| of.1 == "a/third").map(|of| of.0.clone()).collect();
        let pages = |artifact_type, limit| pages_of_referrers(content, &app, &subject, artifact_type, limit);
        assert_eq!(pages(None, 3).await.0, whole);
        assert_eq!(pages(None, 3).await.1, [3, 3, 1]);
        assert_eq!(pages(None, 7).await.1, [7]);
        assert_eq!((pages(Some("a/third"), 2).await.0, pages(Some("a/third"), 2).await.1), (thirds.clone(), vec![2, 1]));
        assert_eq!(pages(Some("a/third"), 3).await.1, [3]);
        assert_eq!(pages(Some("a/none"), 2).await.1, [0]);
        assert_eq!(pages(None, 0).await.1, [0]);
    }

    async fn a_page_of_referrers_fits_into_an_index(fixture) {
        let (content, app, subject) = (&fixture.content, repository("app"), Digest::sha256(b"subject"));
        let config = push_blob(content, &app, b"config").await;
        for n in 0..70 {
            content.put_manifest(&app, referrer(&n.to_string(), &config, &subject, "a/b", 65_000)).await.unwrap();
        }
        let (digests, lengths, longest) = pages_of_referrers(content, &app, &subject, None, ALL).await;
        assert_eq!((digests.len(), lengths.len()), (70, 2));
        assert!(longest > 3 << 20 && longest < 4 << 20, "{longest}");
    }

    /// Some clients keep an index of their own under a tag (distribution-spec, "Referrers Tag Schema").
    async fn referrers_that_a_client_lists_itself_are_listed_once(fixture) {
        let (content, app) = (&fixture.content, repository("app"));
        let config = push_blob(content, &app, b"config").await;
        let subject = Digest::sha256(b"pushed later, or never");
        let signature = referrer("signature", &config, &subject, "a/signature", 1);
        let unrelated = push_image(content, &app, "unrelated", None).await;
        content.put_manifest(&app, signature.clone()).await.unwrap();
        let fallback = NewManifest {
            reference: Reference::Tag(tag(&subject.as_str().replace(':', "-"))),
            ..index(&[&digest_of(&signature), &unrelated])
        };
        content.put_manifest(&app, fallback).await.unwrap();
        let listed: Vec<_> = all_referrers(content, &app, &subject).await.into_iter().map(|of| of.digest).collect();
        assert_eq!(listed, [digest_of(&signature)]);
    }

    async fn a_subject_need_not_exist(fixture) {
        let (content, app) = (&fixture.content, repository("app"));
        let config = push_blob(content, &app, b"config").await;
        let subject = Digest::sha256(b"not yet pushed");
        assert_eq!(all_referrers(content, &app, &subject).await, []);
        content.put_manifest(&app, image("one", &config, Some(&subject), None)).await.unwrap();
        assert_eq!(all_referrers(content, &app, &subject).await.len(), 1);
    }

    async fn a_deleted_referrer_is_not_listed(fixture) {
        let (content, app) = (&fixture.content, repository("app"));
        let config = push_blob(content, &app, b"config").await;
        let subject = Digest::sha256(b"subject");
        let new = image("one", &config, Some(&subject), None);
        content.put_manifest(&app, new.clone()).await.unwrap();
        content.delete_manifest(&app, &digest_of(&new), &none()).await.unwrap();
        assert_eq!(all_referrers(content, &app, &subject).await, []);
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
        content.delete_manifest(&app, &one, &none()).await.unwrap();
        assert_eq!(all_repositories(content).await, ["app"]);
        content.delete_manifest(&app, &two, &none()).await.unwrap();
        assert_eq!(all_repositories(content).await, [""; 0]);
        push_image(content, &app, "two", None).await;
        assert_eq!(all_repositories(content).await, ["app"]);
    }
}

//! What a requester may do by Kubernetes' own rights: the API server is asked each time, so that a right that is taken
//! away counts at once.

use async_trait::async_trait;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::{Api, Client, Resource as _};

use super::{Privileges, Requester};
use crate::api::v1alpha1::Registry;

pub(super) struct SubjectAccessReviews {
    reviews: Api<SubjectAccessReview>,
}

impl SubjectAccessReviews {
    pub fn new(client: Client) -> Self {
        Self { reviews: Api::all(client) }
    }
}

#[async_trait]
impl Privileges for SubjectAccessReviews {
    async fn may(
        &self,
        requester: &Requester,
        verb: &str,
        resource: &str,
        namespace: &str,
        name: Option<&str>,
    ) -> Result<bool, kube::Error> {
        let review = review(requester, verb, resource, namespace, name);
        let status = self.reviews.create(&PostParams::default(), &review).await?.status.unwrap_or_default();
        Ok(status.allowed && !status.denied.unwrap_or(false))
    }
}

fn review(
    Requester { name: user, uid, groups, extra }: &Requester,
    verb: &str,
    resource: &str,
    namespace: &str,
    name: Option<&str>,
) -> SubjectAccessReview {
    let attributes = ResourceAttributes {
        group: Some(Registry::group(&()).into_owned()),
        version: Some(Registry::version(&()).into_owned()),
        resource: Some(resource.to_owned()),
        verb: Some(verb.to_owned()),
        namespace: Some(namespace.to_owned()),
        name: name.map(str::to_owned),
        ..ResourceAttributes::default()
    };
    let spec = SubjectAccessReviewSpec {
        resource_attributes: Some(attributes),
        non_resource_attributes: None,
        user: Some(user.clone()),
        uid: Some(uid.clone()).filter(|uid| !uid.is_empty()),
        groups: Some(groups.clone()),
        extra: Some(extra.clone()).filter(|extra| !extra.is_empty()),
    };
    SubjectAccessReview { metadata: ObjectMeta::default(), spec, status: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_review_names_the_requester_whole() {
        let requester = Requester {
            name: "ann".to_owned(),
            uid: "7".to_owned(),
            groups: vec!["team".to_owned()],
            extra: [("scopes".to_owned(), vec!["a".to_owned()])].into(),
        };
        let spec =
            serde_json::to_value(review(&requester, "administer", "projects", "n", None)).unwrap()["spec"].take();
        let attributes = json!({
            "group": "landfast.dev", "version": "v1alpha1", "resource": "projects", "verb": "administer",
            "namespace": "n",
        });
        let expected = json!({
            "resourceAttributes": attributes, "user": "ann", "uid": "7", "groups": ["team"],
            "extra": { "scopes": ["a"] },
        });
        assert_eq!(spec, expected);
    }
}

//! All objects of a cluster, read once.

use std::sync::Arc;

use ::kube::api::{ApiResource, DynamicObject, ListParams, PartialObjectMeta};
use ::kube::{Api, Client, Resource, ResourceExt as _};
use k8s_openapi::api::core::v1::Namespace;
use serde::de::DeserializeOwned;

use super::Objects;
use crate::policy::compile::Namespaces;

/// Objects in one answer of the API server.
const PAGE: u32 = 500;

/// Why objects can't be listed.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    #[error(
        "may not list {0}: ask for the role landfast-view in all namespaces, or give a folder of manifests with --manifests"
    )]
    Forbidden(String),
    #[error("can't list {plural}: {source}")]
    Api { plural: String, source: Box<::kube::Error> },
}

/// Reads the four kinds, and the labels of namespaces if that is allowed. Also says which objects can't be read: they are
/// left out, as a registry leaves them out.
pub async fn list(client: &Client) -> Result<(Objects, Vec<String>), ListError> {
    let mut unreadable = Vec::new();
    let objects = Objects {
        registries: list_kind(client, &mut unreadable).await?,
        projects: list_kind(client, &mut unreadable).await?,
        policies: list_kind(client, &mut unreadable).await?,
        members: list_kind(client, &mut unreadable).await?,
        namespaces: list_namespaces(client).await?,
    };
    Ok((objects, unreadable))
}

async fn list_kind<K>(client: &Client, unreadable: &mut Vec<String>) -> Result<Vec<Arc<K>>, ListError>
where
    K: Resource<DynamicType = ()> + DeserializeOwned,
{
    let resource = ApiResource::erase::<K>(&());
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    let mut objects = Vec::new();
    let mut parameters = ListParams::default().limit(PAGE);
    loop {
        let page = api.list(&parameters).await.map_err(|error| list_error(&resource.plural, error))?;
        for object in page.items {
            let name = format!("{} {}/{}", resource.kind, object.namespace().unwrap_or_default(), object.name_any());
            match serde_json::to_value(object).and_then(serde_json::from_value) {
                Ok(object) => objects.push(Arc::new(object)),
                Err(error) => unreadable.push(format!("{name}: {error}")),
            }
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => parameters = parameters.continue_token(&token),
            None => return Ok(objects),
        }
    }
}

/// `None` if they may not be read.
async fn list_namespaces(client: &Client) -> Result<Option<Namespaces>, ListError> {
    let api: Api<Namespace> = Api::all(client.clone());
    let mut namespaces = Namespaces::new();
    let mut parameters = ListParams::default().limit(PAGE);
    loop {
        let page = match api.list_metadata(&parameters).await.map_err(|error| list_error("namespaces", error)) {
            Ok(page) => page,
            Err(ListError::Forbidden(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let labels = |namespace: &PartialObjectMeta<Namespace>| (namespace.name_any(), namespace.labels().clone());
        namespaces.extend(page.items.iter().map(labels));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => parameters = parameters.continue_token(&token),
            None => return Ok(Some(namespaces)),
        }
    }
}

fn list_error(plural: &str, error: ::kube::Error) -> ListError {
    match error {
        ::kube::Error::Api(status) if status.code == 403 => ListError::Forbidden(plural.to_owned()),
        error => ListError::Api { plural: plural.to_owned(), source: Box::new(error) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::kube::client::Body;
    use http::{Request, Response};
    use serde_json::{Value, json};

    fn answer(path: &str, query: &str, namespaces_are_allowed: bool) -> (u16, Value) {
        let member = |name: &str, role: &str| {
            let spec = json!({"projectRef": {"name": "p"}, "role": role, "subjects": []});
            json!({"metadata": {"name": name, "namespace": "n"}, "spec": spec})
        };
        let (items, token) = match path.rsplit('/').next() {
            Some("members") if query.contains("continue=next") => {
                (vec![member("b", "Emperor"), member("c", "Guest")], "")
            }
            Some("members") => (vec![member("a", "Guest")], "next"),
            Some("namespaces") if namespaces_are_allowed => {
                (vec![json!({"metadata": {"name": "n", "labels": {"team": "a"}}})], "")
            }
            Some("namespaces") => {
                return (
                    403,
                    json!({"kind": "Status", "status": "Failure", "reason": "Forbidden", "code": 403, "message": ""}),
                );
            }
            _ => (vec![], ""),
        };
        assert!(query.contains("limit=500"), "{path}?{query}");
        (200, json!({"apiVersion": "v1", "kind": "List", "metadata": {"continue": token}, "items": items}))
    }

    fn client(namespaces_are_allowed: bool) -> Client {
        let service = tower::service_fn(move |request: Request<Body>| async move {
            let uri = request.uri();
            let (status, body) = answer(uri.path(), uri.query().unwrap_or_default(), namespaces_are_allowed);
            let response = Response::builder().status(status).body(Body::from(body.to_string().into_bytes()));
            Ok::<_, std::convert::Infallible>(response.unwrap())
        });
        Client::new(service, "default")
    }

    #[tokio::test]
    async fn every_page_is_read_and_what_cannot_be_read_is_told() {
        let (objects, unreadable) = list(&client(true)).await.unwrap();
        let names: Vec<_> = objects.members.iter().map(|member| member.name_any()).collect();
        assert_eq!(names, ["a", "c"]);
        assert!(unreadable.len() == 1 && unreadable[0].starts_with("Member n/b: "), "{unreadable:?}");
        assert_eq!(objects.namespaces.unwrap()["n"]["team"], "a");
    }

    #[tokio::test]
    async fn namespaces_that_may_not_be_listed_are_not_known() {
        let (objects, _) = list(&client(false)).await.unwrap();
        assert_eq!((objects.members.len(), objects.namespaces), (2, None));
    }
}

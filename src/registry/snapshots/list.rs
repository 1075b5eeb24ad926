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

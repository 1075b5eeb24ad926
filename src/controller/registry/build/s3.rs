//! What pods need for a bucket: its part of the configuration, the access key and the authorities of the service.

use std::path::Path;

use k8s_openapi::api::core::v1::{
    ConfigMapProjection, KeyToPath, ProjectedVolumeSource, SecretProjection, Volume, VolumeProjection,
};

use super::{S3_AUTHORITY_DIRECTORY, S3_AUTHORITY_FILE, S3_CREDENTIALS_DIRECTORY};
use crate::api::v1alpha1::{
    CertificateEntry, S3CertificateAuthority, S3CredentialsKeys, S3CredentialsSecret, S3Redirect, S3Storage,
};
use crate::config;

/// The part of the configuration. Which Secret or ConfigMap a file comes from is the volume's affair: another one needs
/// no other configuration.
pub(super) fn config(storage: &S3Storage, side_by_side: bool) -> config::S3Storage {
    let S3Storage {
        bucket,
        region,
        endpoint,
        prefix,
        force_path_style,
        credentials_secret_ref,
        certificate_authority,
        redirect,
    } = storage.clone();
    let directory = Path::new(S3_AUTHORITY_DIRECTORY);
    config::S3Storage {
        bucket,
        region,
        endpoint,
        prefix: prefix.unwrap_or_default(),
        force_path_style,
        credentials: credentials_secret_ref.map(|_| S3_CREDENTIALS_DIRECTORY.into()),
        certificate_authority: certificate_authority.map(|_| directory.join(S3_AUTHORITY_FILE)),
        require_conditional_writes: side_by_side,
        redirect: redirect.map(redirection).unwrap_or_default(),
    }
}

fn redirection(redirect: S3Redirect) -> config::S3Redirect {
    let S3Redirect { enabled, endpoint, expiry } = redirect;
    config::S3Redirect { enabled, endpoint, expiry_seconds: expiry.as_secs() }
}

/// Each volume with the folder that it is mounted at.
pub(super) fn volumes(storage: &S3Storage, mode: i32) -> Vec<(Volume, &'static str)> {
    let volume = |name: &str, sources| Volume {
        name: name.to_owned(),
        projected: Some(ProjectedVolumeSource { default_mode: Some(mode), sources: Some(sources) }),
        ..Volume::default()
    };
    let credentials = storage.credentials_secret_ref.as_ref().map(credentials);
    let authority = storage.certificate_authority.as_ref().map(authority);
    let credentials = credentials.map(|sources| (volume("s3-credentials", sources), S3_CREDENTIALS_DIRECTORY));
    let authority = authority.map(|source| (volume("s3-authority", vec![source]), S3_AUTHORITY_DIRECTORY));
    credentials.into_iter().chain(authority).collect()
}

/// The same Secret twice: Kubernetes starts no pod without the key, but does without a session token.
fn credentials(reference: &S3CredentialsSecret) -> Vec<VolumeProjection> {
    let S3CredentialsSecret { name, keys } = reference;
    let S3CredentialsKeys { access_key_id, secret_access_key, session_token } = keys;
    let source = |items, optional| VolumeProjection {
        secret: Some(SecretProjection { name: name.clone(), items: Some(items), optional: Some(optional) }),
        ..VolumeProjection::default()
    };
    vec![
        source(vec![item(access_key_id, "accessKeyId"), item(secret_access_key, "secretAccessKey")], false),
        source(vec![item(session_token, "sessionToken")], true),
    ]
}

fn authority(authority: &S3CertificateAuthority) -> VolumeProjection {
    let S3CertificateAuthority { secret_ref, config_map_ref } = authority;
    let secret = secret_ref.as_ref().map(|CertificateEntry { name, key }| SecretProjection {
        name: name.clone(),
        items: Some(vec![item(key, S3_AUTHORITY_FILE)]),
        optional: Some(false),
    });
    let config_map = config_map_ref.as_ref().map(|CertificateEntry { name, key }| ConfigMapProjection {
        name: name.clone(),
        items: Some(vec![item(key, S3_AUTHORITY_FILE)]),
        optional: Some(false),
    });
    VolumeProjection { secret, config_map, ..VolumeProjection::default() }
}

fn item(key: &str, path: &str) -> KeyToPath {
    KeyToPath { key: key.to_owned(), path: path.to_owned(), mode: None }
}

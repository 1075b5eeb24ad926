//! The `.dockerconfigjson` form of a credential (Kubernetes documentation, "Pull an Image from a Private Registry").

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

#[derive(Serialize)]
struct DockerConfig<'a> {
    auths: BTreeMap<&'a str, Login<'a>>,
}

#[derive(Clone, Serialize)]
struct Login<'a> {
    username: &'a str,
    password: &'a str,
    auth: String,
}

/// One login for all `hosts`, each with its port if it is not the default one. Deterministic: hosts are sorted.
pub fn docker_config_json<'a>(hosts: impl IntoIterator<Item = &'a str>, username: &str, password: &str) -> String {
    let login = Login { username, password, auth: STANDARD.encode(format!("{username}:{password}")) };
    let config = DockerConfig { auths: hosts.into_iter().map(|host| (host, login.clone())).collect() };
    serde_json::to_string(&config).unwrap_or_else(|error| unreachable!("maps of strings are JSON: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_the_form_that_the_kubelet_reads() {
        let expected = r#"{"auths":{"a":{"username":"u","password":"p","auth":"dTpw"},"b:5000":{"username":"u","password":"p","auth":"dTpw"}}}"#;
        assert_eq!(docker_config_json(["b:5000", "a"], "u", "p"), expected);
    }
}

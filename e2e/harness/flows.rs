//! Programs that are built on a library for registries, where each step is a call of it: `e2e/tools/clients/flows`.

use super::{Command, Login, Remote};

impl Remote {
    /// Goes through all that a library can do, below a project's path.
    ///
    /// # Panics
    /// At the first thing that is not as it should be, or when steps were left out.
    async fn flow(&self, library: &str, project: &str, login: &Login, steps: usize) {
        let folder = tempfile::TempDir::new_in(&self.folder).expect("a temporary folder");
        std::fs::write(folder.path().join("config.json"), &login.docker_config).expect("the folder can be written");
        let command = Command::prefixed(&self.prefix, "flows").args([library, &self.host, project]);
        let command = command.env("DOCKER_CONFIG", folder.path().display().to_string());
        let command = match &self.certificates {
            Some(folder) => command.env("SSL_CERT_FILE", folder.join("ca.crt").display().to_string()),
            None => command.arg("plain"),
        };
        let output = command.run().await;
        assert!(output.ends_with(&format!("done: {steps} steps\n")), "{output}");
    }

    /// go-containerregistry, which crane, cosign, ko and others are built on.
    pub async fn go_containerregistry(&self, project: &str, login: &Login) {
        self.flow("ggcr", project, login, 14).await;
    }

    /// oras-go, which oras, helm and others are built on.
    pub async fn oras_go(&self, project: &str, login: &Login) {
        self.flow("oras", project, login, 11).await;
    }
}

//! A registry as its clients see it: skopeo for whole images, curl for single requests.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::image::digest;
use super::{Command, Gate, Image, eventually};

/// How clients reach a registry.
#[derive(Clone)]
pub struct Remote {
    /// `http` or `https`.
    pub scheme: &'static str,
    /// Host with its port, if that is not the default one: the beginning of image references.
    pub host: String,
    /// What runs a command where the host's name resolves.
    pub prefix: Vec<String>,
    /// Folder with the `ca.crt` to trust.
    pub certificates: Option<PathBuf>,
    /// For files.
    pub folder: PathBuf,
}

/// A user name and a password.
#[derive(Clone)]
pub struct Login {
    pub username: String,
    pub password: String,
    /// The same in the form that clients read, as the product made it.
    pub docker_config: String,
}

/// An HTTP response.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Login {
    /// The credential of a docker configuration (`auths`) for a host.
    pub fn from_docker_config(text: &str, host: &str) -> Self {
        let config: Value = serde_json::from_str(text).expect("a docker configuration is JSON");
        let login = &config["auths"][host];
        let field = |name: &str| match login[name].as_str() {
            Some(value) => value.to_owned(),
            None => panic!("no {name} for {host} in the docker configuration"),
        };
        Self { username: field("username"), password: field("password"), docker_config: text.to_owned() }
    }

    /// A user for one host.
    pub fn new(username: &str, password: &str, host: &str) -> Self {
        let auth = STANDARD.encode(format!("{username}:{password}"));
        let login = serde_json::json!({"username": username, "password": password, "auth": auth});
        let docker_config = serde_json::json!({"auths": {host: login}}).to_string();
        Self { username: username.to_owned(), password: password.to_owned(), docker_config }
    }

    /// The same user with another password, for one host.
    pub fn with_password(&self, password: &str, host: &str) -> Self {
        Self::new(&self.username, password, host)
    }
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The code of the first error in an OCI error body (OCI distribution specification, "Error Codes").
    pub fn oci_error(&self) -> Option<String> {
        let body: Value = serde_json::from_slice(&self.body).ok()?;
        body["errors"][0]["code"].as_str().map(str::to_owned)
    }

    fn parse(output: &[u8]) -> Option<Self> {
        let end = output.windows(4).position(|window| window == b"\r\n\r\n")?;
        let head = std::str::from_utf8(&output[..end]).ok()?;
        let mut lines = head.lines();
        let status: u16 = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        if (100..200).contains(&status) {
            return Self::parse(&output[end + 4..]);
        }
        let pair = |line: &str| line.split_once(':').map(|(key, value)| (key.to_owned(), value.trim().to_owned()));
        Some(Self { status, headers: lines.filter_map(pair).collect(), body: output[end + 4..].to_vec() })
    }
}

impl Remote {
    /// Waits until it answers: the node learns of a new Service a moment after its name resolves.
    pub async fn reachable(&self) {
        eventually(&format!("{} answers", self.host), async || {
            let answer = self.try_get("/v2/").await?;
            if answer.status == 401 { Ok(()) } else { Err(format!("{answer:?}")) }
        })
        .await;
    }

    /// Pushes an image, with its digest as it is.
    pub async fn push(&self, image: &Image, to: &str, login: Option<&Login>) -> Result<(), String> {
        self.skopeo_push(image, to, login).result().await.map(drop)
    }

    /// Pushes through a gate that is a proxy.
    pub async fn push_through(&self, gate: &Gate, image: &Image, to: &str, login: &Login) -> Result<(), String> {
        let proxy = format!("http://{}", gate.address);
        self.skopeo_push(image, to, Some(login)).env("HTTPS_PROXY", proxy).result().await.map(drop)
    }

    fn skopeo_push(&self, image: &Image, to: &str, login: Option<&Login>) -> Command {
        self.skopeo("dest", login)
            .arg(format!("oci:{}", image.layout.display()))
            .arg(format!("docker://{}/{to}", self.host))
    }

    /// Pulls an image, checks each of its blobs, and gives the digests of the manifest and of the layers.
    pub async fn pull(&self, from: &str, login: Option<&Login>) -> Result<(String, Vec<String>), String> {
        let folder = tempfile::TempDir::new_in(&self.folder).expect("a temporary folder");
        let command = self.skopeo("src", login).arg(format!("docker://{}/{from}", self.host));
        command.arg(format!("dir:{}", folder.path().display())).result().await?;
        let read = |name: &str| std::fs::read(folder.path().join(name)).expect("skopeo writes what the manifest lists");
        let manifest = read("manifest.json");
        let parsed: Value = serde_json::from_slice(&manifest).expect("a manifest is JSON");
        let layers: Vec<String> = parsed["layers"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|layer| layer["digest"].as_str().map(str::to_owned))
            .collect();
        for layer in &layers {
            let content = read(layer.trim_start_matches("sha256:"));
            assert_eq!(&digest(&content), layer, "a layer has the content that its digest says");
        }
        Ok((digest(&manifest), layers))
    }

    fn skopeo(&self, side: &str, login: Option<&Login>) -> Command {
        let mut command = Command::prefixed(&self.prefix, "skopeo").args(["copy", "--quiet", "--preserve-digests"]);
        command = match &self.certificates {
            Some(folder) => command.arg(format!("--{side}-cert-dir")).arg(folder),
            None => command.arg(format!("--{side}-tls-verify=false")),
        };
        match login {
            Some(login) => {
                let file = self.file("auth.json", login.docker_config.as_bytes());
                command.arg(format!("--{side}-authfile")).arg(file)
            }
            None => command.arg(format!("--{side}-no-creds")),
        }
    }

    /// Does one request the way a client does: without credentials, then as the challenge says.
    pub async fn request(&self, method: &str, path: &str, login: Option<&Login>) -> Answer {
        self.try_request(method, path, login).await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// As [`Remote::request`], where it may be that nobody answers.
    pub async fn try_request(&self, method: &str, path: &str, login: Option<&Login>) -> Result<Answer, String> {
        let challenged = self.exchange(method, path, &[]).await?;
        let Some(challenge) = challenged.header("www-authenticate").filter(|_| challenged.status == 401) else {
            return Ok(challenged);
        };
        let answer = self.try_token(challenge, login).await?;
        match answer.status {
            200 => self.exchange(method, path, &[("Authorization", &bearer(&answer))]).await,
            _ => Ok(answer),
        }
    }

    /// Gets a token as a challenge says (Docker's token authentication specification).
    pub async fn token(&self, challenge: &str, login: Option<&Login>) -> Answer {
        self.try_token(challenge, login).await.unwrap_or_else(|error| panic!("{error}"))
    }

    async fn try_token(&self, challenge: &str, login: Option<&Login>) -> Result<Answer, String> {
        let parameter = |name: &str| {
            let (_, rest) = challenge.split_once(&format!("{name}=\""))?;
            rest.split_once('"').map(|(value, _)| value.to_owned())
        };
        let realm = parameter("realm").unwrap_or_else(|| panic!("no realm in {challenge}"));
        let query: Vec<_> = ["service", "scope"]
            .into_iter()
            .filter_map(|name| parameter(name).map(|value| format!("{name}={}", value.replace(' ', "%20"))))
            .collect();
        let user = login.map(|login| format!("{}:{}", login.username, login.password));
        self.curl("GET", &format!("{realm}?{}", query.join("&")), &[], user.as_deref(), None).await
    }

    /// Sends one request as it is.
    pub async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.exchange(method, path, headers).await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Sends one request with a body. `target` is a path, or a URL as a `Location` may be one.
    pub async fn send_body(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.try_send_body(method, target, headers, body).await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// As [`Remote::send_body`], where the connection may break.
    pub async fn try_send_body(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Answer, String> {
        let file = self.file("body", body);
        self.curl(method, &self.url(target), headers, None, Some(&file)).await
    }

    /// The header for requests within scopes, for a login that has them all.
    pub async fn authorization(&self, scopes: &[&str], login: &Login) -> String {
        let challenged = self.send("GET", "/v2/", &[]).await;
        let challenge = challenged.header("www-authenticate").expect("the registry wants a login");
        bearer(&self.token(&format!("{challenge},scope=\"{}\"", scopes.join(" ")), Some(login)).await)
    }

    /// Sends one request that may find nobody.
    pub async fn try_get(&self, path: &str) -> Result<Answer, String> {
        self.exchange("GET", path, &[]).await
    }

    async fn exchange(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Result<Answer, String> {
        self.curl(method, &self.url(path), headers, None, None).await
    }

    fn url(&self, target: &str) -> String {
        let base = if target.starts_with('/') { format!("{}://{}", self.scheme, self.host) } else { String::new() };
        base + target
    }

    /// Uploads a blob in one piece. Gives its digest once the registry has said that it has it.
    pub async fn upload_blob(&self, repository: &str, content: &[u8], login: &Login) -> String {
        let done = self.try_upload_blob(repository, content, login).await;
        done.unwrap_or_else(|refused| panic!("{}: {}", refused.status, refused.text()))
    }

    /// As [`Remote::upload_blob`], where the registry may refuse it.
    pub async fn try_upload_blob(&self, repository: &str, content: &[u8], login: &Login) -> Result<String, Answer> {
        let path = format!("/v2/{repository}/blobs/uploads/");
        let challenged = self.send("POST", &path, &[]).await;
        let challenge = challenged.header("www-authenticate").expect("an upload needs a login").to_owned();
        let token = bearer(&self.token(&challenge, Some(login)).await);
        let started = self.send("POST", &path, &[("Authorization", &token)]).await;
        if started.status != 202 {
            return Err(started);
        }
        let location = started.header("location").expect("an upload has a location");
        let digest = digest(content);
        let target = with_parameter(location, "digest", &digest);
        let headers = [("Authorization", token.as_str()), ("Content-Type", "application/octet-stream")];
        let done = self.send_body("PUT", &target, &headers, content).await;
        if done.status == 201 { Ok(digest) } else { Err(done) }
    }

    async fn curl(
        &self,
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
        user: Option<&str>,
        body: Option<&Path>,
    ) -> Result<Answer, String> {
        // Credentials go by the standard input: arguments are shown.
        let mut config = format!("silent\nshow-error\ninclude\nmax-time = 30\nurl = \"{url}\"\n");
        config += &if method == "HEAD" { "head\n".to_owned() } else { format!("request = {method}\n") };
        config += "header = \"Expect:\"\n";
        headers.iter().for_each(|(name, value)| config += &format!("header = \"{name}: {value}\"\n"));
        user.iter().for_each(|user| config += &format!("user = \"{user}\"\n"));
        body.iter().for_each(|file| config += &format!("data-binary = \"@{}\"\n", file.display()));
        if let Some(folder) = &self.certificates {
            config += &format!("cacert = \"{}/ca.crt\"\n", folder.display());
        }
        let command = Command::prefixed(&self.prefix, "curl").args(["--config", "-"]).input(config);
        let output = command.output().await;
        match Answer::parse(&output.stdout) {
            Some(answer) if output.success => Ok(answer),
            _ => Err(format!("{method} {url}: {}", output.stderr)),
        }
    }

    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let unique = uuid::Uuid::new_v4().simple();
        let path = self.folder.join(format!("{unique}-{name}"));
        std::fs::write(&path, content).expect("the folder can be written");
        path
    }
}

/// A `Location` with one more parameter: it may have some already.
pub fn with_parameter(location: &str, name: &str, value: &str) -> String {
    let separator = if location.contains('?') { '&' } else { '?' };
    format!("{location}{separator}{name}={value}")
}

/// The header that uses a token.
pub fn bearer(answer: &Answer) -> String {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let token = body["token"].as_str().or(body["access_token"].as_str());
    let token = token.unwrap_or_else(|| panic!("status {} of the token service: no token", answer.status));
    format!("Bearer {token}")
}

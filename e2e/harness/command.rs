//! Running clients: output captured, shown when one fails, an end to those that hang.

use std::ffi::OsString;
use std::io::Write as _;
use std::process::Stdio;

/// A command line. Secrets belong into files or into the input: arguments are shown.
pub struct Command {
    arguments: Vec<OsString>,
    environment: Vec<(String, String)>,
    input: Vec<u8>,
    seconds: u32,
}

/// How a command ended.
pub struct Output {
    pub success: bool,
    pub stdout: Vec<u8>,
    pub stderr: String,
    shown: String,
}

impl Command {
    pub fn new(program: impl Into<OsString>) -> Self {
        Self { arguments: vec![program.into()], environment: Vec::new(), input: Vec::new(), seconds: 180 }
    }

    /// A program with its arguments, which `prefix` runs.
    pub fn prefixed(prefix: &[String], program: &str) -> Self {
        let mut arguments: Vec<OsString> = prefix.iter().map(OsString::from).collect();
        arguments.push(program.into());
        Self { arguments, ..Self::new("") }
    }

    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    pub fn args<A: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    pub fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = input.into();
        self
    }

    /// Runs it to its end.
    pub async fn output(self) -> Output {
        tokio::task::spawn_blocking(move || self.blocking()).await.expect("running a command does not panic")
    }

    /// Runs it and gives its standard output, or a text with everything that it said.
    pub async fn result(self) -> Result<String, String> {
        let output = self.output().await;
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.success { Ok(stdout) } else { Err(format!("{}\n{}{stdout}", output.shown, output.stderr)) }
    }

    /// Runs it and gives its standard output.
    ///
    /// # Panics
    /// When it fails.
    pub async fn run(self) -> String {
        self.result().await.unwrap_or_else(|error| panic!("{error}"))
    }

    fn blocking(self) -> Output {
        let words = self.arguments.iter().map(|word| word.to_string_lossy());
        let shown = format!("$ {}", words.collect::<Vec<_>>().join(" "));
        // A program that hangs would keep the test from saying where.
        let mut child = std::process::Command::new("timeout")
            .arg("--kill-after=5")
            .arg(self.seconds.to_string())
            .args(&self.arguments)
            .envs(self.environment)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{shown}: {error}"));
        // Inputs are smaller than a pipe. A program that ends without reading says why on its own.
        let _ = child.stdin.take().expect("it is piped").write_all(&self.input);
        let output = child.wait_with_output().unwrap_or_else(|error| panic!("{shown}: {error}"));
        Output {
            success: output.status.success(),
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            shown,
        }
    }
}

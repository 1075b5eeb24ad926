//! nginx with the same bytes as static files: what a registry could reach at best when it is read from.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;

use super::{Mode, Place};
use crate::content::{APP, Content, MANIFEST_TYPE, TAG};

pub const PROGRAM: &str = "nginx";

/// Puts the files where a registry's URLs are.
pub fn seed(place: &Place, content: &Content) -> anyhow::Result<()> {
    let repository = place.data().join("v2").join(APP);
    let (blobs, manifests) = (repository.join("blobs"), repository.join("manifests"));
    fs::create_dir_all(&blobs)?;
    fs::create_dir_all(&manifests)?;
    fs::write(place.data().join("v2/index.html"), "{}")?;
    for blob in content.small.iter().chain([&content.large, &content.config]) {
        fs::write(blobs.join(&blob.digest), &blob.bytes)?;
    }
    fs::write(manifests.join(TAG), &content.manifest.bytes)?;
    Ok(())
}

/// Debian's configuration but for folders and addresses, and room for 1,000 connections in one worker.
pub fn command(binary: &Path, place: &Place, mode: Mode) -> anyhow::Result<Command> {
    let folder = &place.folder;
    let temporary = |name: &str| format!("{name}_temp_path {}/{name};\n", folder.display());
    let temporaries: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(temporary).concat();
    let (data, address, folder) = (place.data(), place.address, folder.display());
    let tls = match mode {
        Mode::Tls => {
            let (certificate, key) = (place.trust.certificate.display(), place.trust.key.display());
            format!("listen {address} ssl http2; ssl_certificate {certificate}; ssl_certificate_key {key};")
        }
        Mode::Plain => format!("listen {address};"),
        Mode::Htpasswd => anyhow::bail!("not compared"),
    };
    let user = if fs::metadata("/proc/self")?.uid() == 0 { "user root;" } else { "" };
    let configuration = format!(
        "{user} worker_processes auto; pid {folder}/pid; error_log {folder}/error.log; daemon off;\n\
         events {{ worker_connections 2048; }}\n\
         http {{\n{temporaries}\
         sendfile on; tcp_nopush on; types_hash_max_size 2048; default_type {MANIFEST_TYPE};\n\
         ssl_protocols TLSv1 TLSv1.1 TLSv1.2 TLSv1.3; ssl_prefer_server_ciphers on;\n\
         access_log {folder}/access.log; gzip on;\n\
         server {{ {tls} root {}; location = /v2/ {{ index index.html; }} }}\n}}\n",
        data.display()
    );
    let path = place.folder.join("nginx.conf");
    fs::write(&path, configuration)?;
    let mut command = Command::new(binary);
    command.arg("-c").arg(path).arg("-e").arg(place.folder.join("error.log"));
    Ok(command)
}

//! Distribution as Debian ships it: its configuration but for the folder, the address and the passwords.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{Mode, Place};

pub const PROGRAM: &str = "docker-registry";

pub fn command(binary: &Path, place: &Place, mode: Mode) -> anyhow::Result<Command> {
    let configuration = place.folder.join("config.yml");
    fs::write(&configuration, configured(place, mode)?)?;
    let mut command = Command::new(binary);
    command.arg("serve").arg(configuration);
    Ok(command)
}

fn configured(place: &Place, mode: Mode) -> anyhow::Result<String> {
    let (data, address) = (place.data().display().to_string(), place.address);
    let (certificate, key) = (place.trust.certificate.display(), place.trust.key.display());
    let (tls, auth) = match mode {
        Mode::Plain => (String::new(), String::new()),
        Mode::Tls => (format!("  tls:\n    certificate: {certificate}\n    key: {key}\n"), String::new()),
        Mode::Htpasswd => {
            let passwords = place.htpasswd()?;
            (String::new(), format!("auth:\n  htpasswd:\n    realm: bench\n    path: {}\n", passwords.display()))
        }
    };
    Ok(format!(
        "version: 0.1\n\
         log:\n  fields:\n    service: registry\n\
         storage:\n  cache:\n    blobdescriptor: inmemory\n  filesystem:\n    rootdirectory: {data}\n\
         \x20 delete:\n    enabled: true\n\
         http:\n  addr: {address}\n  headers:\n    X-Content-Type-Options: [nosniff]\n{tls}\
         {auth}\
         health:\n  storagedriver:\n    enabled: true\n    interval: 10s\n    threshold: 3\n"
    ))
}

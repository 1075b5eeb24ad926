//! A registry whose disk is full, really full: a small file system of its own.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::harness::{Command, Image, Server, environment, local_test};

/// A file system in memory, of so many MiB. It is unmounted with this value.
struct Disk {
    folder: TempDir,
}

impl Disk {
    async fn mount(size: u32) -> Self {
        let disk = Self { folder: TempDir::new().expect("a temporary folder") };
        Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size}m"), "tmpfs", disk.path()]).run().await;
        disk
    }

    async fn resize(&self, size: u32) {
        Command::new("mount").args(["-o", &format!("remount,size={size}m"), self.path()]).run().await;
    }

    fn path(&self) -> &str {
        self.folder.path().to_str().expect("temporary folders have plain names")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // The server may be about to end only.
        let unmounted = std::process::Command::new("umount").arg("--lazy").arg(self.folder.path()).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            println!("{} is still mounted", self.path());
        }
    }
}

/// Content that is like no other.
fn content(number: u32, size: usize) -> Vec<u8> {
    (0..size as u32 / 4).flat_map(|word| (word ^ (number << 24)).to_le_bytes()).collect()
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    entries.map(|entry| entry.expect("the folder can be read").path()).collect()
}

#[test]
fn it_says_so_goes_on_and_recovers() {
    local_test(async || {
        let disk = Disk::mount(24).await;
        let data = disk.folder.path().join("data");
        let server = Server::start_in(Some(data.clone())).await;
        let (remote, robot) = (server.remote(), server.login("demo", "ci"));
        let early = Image::build(&remote.folder, "early", 1_000_000);
        remote.push(&early, "demo/app:early", Some(&robot)).await.unwrap();

        // Large ones, then small ones into the room that is left.
        let (mut taken, mut refused) = (Vec::new(), Vec::new());
        for size in [3_000_000, 100_000] {
            let full = loop {
                let blob = content(taken.len() as u32, size);
                match remote.try_upload_blob("demo/app", &blob, &robot).await {
                    Ok(digest) => taken.push(digest),
                    Err(answer) => break (blob, answer),
                }
                assert!(taken.len() < 100, "the disk is never full");
            };
            assert_eq!(full.1.status, 507, "{}", full.1.text());
            refused.push(full.0);
        }
        for _ in 0..5 {
            let again = remote.try_upload_blob("demo/app", &refused[0], &robot).await;
            assert_eq!(again.map_err(|answer| answer.status), Err(507), "the same again");
        }
        assert!(taken.len() > 5, "there was room for some");
        let storage = data.join("registry");
        for half_done in ["stages", "tmp", "objects/uploads"] {
            assert_eq!(files_in(&storage.join(half_done)), Vec::<PathBuf>::new(), "nothing half-done takes up room");
        }

        assert_eq!(server.readiness().await, 200, "it is healthy");
        assert_eq!(remote.pull("demo/app:early", Some(&robot)).await.unwrap().0, early.digest);
        for digest in &taken {
            let there = remote.request("HEAD", &format!("/v2/demo/app/blobs/{digest}"), Some(&robot)).await;
            assert_eq!(there.status, 200, "what was acknowledged is there");
        }

        disk.resize(64).await;
        for blob in &refused {
            remote.upload_blob("demo/app", blob, &robot).await;
        }
        let late = Image::build(&remote.folder, "late", 1_000_000);
        remote.push(&late, "demo/app:late", Some(&robot)).await.unwrap();
        assert_eq!(remote.pull("demo/app:late", Some(&robot)).await.unwrap().0, late.digest);
        Command::new(environment::landfast()).args(["fsck", "--data", data.to_str().unwrap()]).run().await;
    });
}

//! Looks at everything in a store, says what is wrong with it, and repairs what can be repaired.
//!
//! # Flow
//! A *pass* goes through the keys, area by area, in pages; each object is examined by itself (`examine`), several at a
//! time. When others write meanwhile, what looks wrong is examined again after a pause, some times over, and only what
//! stays wrong is reported. A repair (`repair`) is made at once; because it may bring something else to light, passes
//! are repeated until one has nothing to repair.
//!
//! # Guarantees
//! - Memory does not depend on what is stored.
//! - Without a repair nothing is changed. A repair deletes no content: what is damaged is set aside.
//!
//! # Assumptions
//! - Who repairs is the only one who has the store open.

mod examine;
mod finding;
mod repair;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;

pub use self::finding::{Finding, Problem};
use super::{CONCURRENT_READS, Content, ContentError, PAGE, keys};
use crate::oci::RepositoryName;
use crate::registry::storage::{Entry, Key, Prefix, Quarantine};

/// Passes that repair. Each brings to light what depends on what the one before took away: index, image, blob.
const MAX_REPAIRS: usize = 8;

/// How to go about it.
#[derive(Clone)]
pub enum FsckMode {
    /// Others may be writing: what looks wrong is looked at again, three times, with this pause before each.
    Report { pause: Duration },
    /// Nobody else has the store open. What is damaged goes here.
    Repair { quarantine: Arc<dyn Quarantine> },
}

/// Tells what happens while it happens.
pub trait FsckObserver: Send {
    fn found(&mut self, finding: &Finding);
    fn repaired(&mut self, finding: &Finding);
    /// So much has been examined.
    fn progress(&mut self, summary: &FsckSummary);
}

/// What came out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FsckSummary {
    /// Objects examined, each pass counted.
    pub objects: u64,
    /// Bytes of blobs that were hashed.
    pub bytes: u64,
    /// What is wrong, and stays so.
    pub findings: u64,
    pub repaired: u64,
}

impl Content {
    /// Examines the whole store.
    ///
    /// Errors: only if the store can't be listed; what can't be read is a finding.
    pub async fn fsck(&self, mode: FsckMode, observer: &mut dyn FsckObserver) -> Result<FsckSummary, ContentError> {
        let mut check =
            Check { content: self, mode, observer, summary: FsckSummary::default(), not_in_catalogue: HashSet::new() };
        check.run().await?;
        Ok(check.summary)
    }
}

struct Check<'a> {
    content: &'a Content,
    mode: FsckMode,
    observer: &'a mut dyn FsckObserver,
    summary: FsckSummary,
    /// Repositories of which it has been said: each of their manifests would say it again.
    not_in_catalogue: HashSet<RepositoryName>,
}

/// What a pass is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pass {
    Report,
    Repair,
}

impl Check<'_> {
    async fn run(&mut self) -> Result<(), ContentError> {
        if matches!(self.mode, FsckMode::Repair { .. }) {
            // Blobs depend on nothing, and hashing them is nearly all of the work: once is enough.
            self.area(keys::BLOBS, Pass::Repair, true).await?;
            for _ in 0..MAX_REPAIRS {
                let before = self.summary.repaired;
                self.all_but_blobs(Pass::Repair).await?;
                if self.summary.repaired == before {
                    break;
                }
            }
        } else {
            self.area(keys::BLOBS, Pass::Report, true).await?;
        }
        self.all_but_blobs(Pass::Report).await
    }

    /// The catalogue last: it depends on the manifests.
    async fn all_but_blobs(&mut self, pass: Pass) -> Result<(), ContentError> {
        let mut after: Option<String> = None;
        loop {
            let page = self.content.store.list(&Prefix::all(), after.as_deref(), PAGE, true).await?;
            for entry in &page.entries {
                match entry {
                    Entry::Prefix(area) if [keys::BLOBS, keys::CATALOGUE].contains(&area.as_str()) => {}
                    Entry::Prefix(area) => self.area(area.as_str(), pass, pass == Pass::Report).await?,
                    Entry::Object(key) => self.page(vec![key.clone()], pass, pass == Pass::Report).await?,
                }
            }
            match page.entries.last() {
                Some(last) if page.more => after = Some(last.as_str().to_owned()),
                _ => break,
            }
        }
        self.area(keys::CATALOGUE, pass, pass == Pass::Report).await
    }

    async fn area(&mut self, area: &str, pass: Pass, report: bool) -> Result<(), ContentError> {
        let Ok(area) = Prefix::new(area) else { return Ok(()) };
        let mut after: Option<String> = None;
        loop {
            let page = self.content.store.list(&area, after.as_deref(), PAGE, false).await?;
            after = page.entries.last().map(|last| last.as_str().to_owned());
            let object = |entry| match entry {
                Entry::Object(key) => Some(key),
                Entry::Prefix(_) => None,
            };
            self.page(page.entries.into_iter().filter_map(object).collect(), pass, report).await?;
            if !page.more {
                return Ok(());
            }
        }
    }

    /// `report` says whether to report what is not repaired.
    async fn page(&mut self, page: Vec<Key>, pass: Pass, report: bool) -> Result<(), ContentError> {
        let mut findings = Vec::new();
        let content = self.content;
        let mut examined = futures::stream::iter(page)
            .map(|key| async move { content.examine(&key).await })
            .buffered(CONCURRENT_READS);
        while let Some(examined) = examined.next().await {
            self.summary.objects += 1;
            self.summary.bytes += examined.hashed;
            self.observer.progress(&self.summary);
            findings.extend(examined.findings);
        }
        drop(examined);
        let quarantine = match &self.mode {
            FsckMode::Repair { quarantine } => quarantine.clone(),
            FsckMode::Report { pause } => {
                let confirmed = content.confirm(findings, *pause).await;
                confirmed.iter().for_each(|finding| self.report(finding));
                return Ok(());
            }
        };
        for finding in &findings {
            if pass == Pass::Repair && content.repair(finding, &*quarantine).await? {
                self.summary.repaired += 1;
                self.observer.repaired(finding);
            } else if report {
                self.report(finding);
            }
        }
        Ok(())
    }

    fn report(&mut self, finding: &Finding) {
        if let Problem::NotInCatalogue { repository } = &finding.problem
            && !self.not_in_catalogue.insert(repository.clone())
        {
            return;
        }
        self.summary.findings += 1;
        self.observer.found(finding);
    }
}

impl Content {
    /// Those of the findings that are not explained by somebody who was writing at the time.
    async fn confirm(&self, mut findings: Vec<Finding>, pause: Duration) -> Vec<Finding> {
        for _ in 0..3 {
            if findings.is_empty() {
                break;
            }
            tokio::time::sleep(pause).await;
            let mut again = futures::stream::iter(findings)
                .map(|finding| async move {
                    let still = self.examine(&finding.key).await.findings.contains(&finding);
                    still.then_some(finding)
                })
                .buffered(CONCURRENT_READS);
            let mut confirmed = Vec::new();
            while let Some(finding) = again.next().await {
                confirmed.extend(finding);
            }
            findings = confirmed;
        }
        findings
    }
}

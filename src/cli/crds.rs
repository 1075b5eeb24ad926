//! `landfast crds`: prints the CRDs. `crds/` is its output, checked in.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use landfast::api::v1alpha1::custom_resource_definitions;

#[derive(clap::Args)]
pub struct Arguments {
    /// Write one file per kind into this folder instead of printing
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    for crd in custom_resource_definitions() {
        let yaml = serde_saphyr::to_string(&crd)?;
        match &arguments.output {
            None => writeln!(stdout, "---\n{}", yaml.trim_end())?,
            Some(folder) => {
                std::fs::create_dir_all(folder).with_context(|| format!("can't make folder {}", folder.display()))?;
                let path = folder.join(format!("{}.yaml", crd.metadata.name.as_deref().unwrap_or_default()));
                std::fs::write(&path, yaml).with_context(|| format!("can't write {}", path.display()))?;
            }
        }
    }
    Ok(())
}

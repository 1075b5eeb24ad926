//! `landfast access`: who may what, and why; and what a change of manifests changes.

mod can_i;
mod diff;
mod print;
mod question;
mod source;
mod who_can;

use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};

use self::source::{Cluster, Source};

const HELP: &str = "\
The answer is what a registry decides, from the same objects: those of the cluster that the kubeconfig names, or of a
folder of manifests with --manifests (sub-folders and other kinds may be in it).

ACTION is one of view, select-in-builds, pull, view-dockerfile, push, delete, delete-repository, change-visibility,
change-image-type and change-description.";

const CAN_I_HELP: &str = "\
IDENTITY is one of
  anonymous                                no login
  htpasswd:alice                           a user of the password file
  oidc:corp:alice                          a user of the issuer corp; name his groups with --group oidc:corp:developers
  certificate:alice                        a client certificate's common name; --group certificate:developers
  serviceaccount:team/builder              a ServiceAccount, in the groups that each is in
  kubernetes:alice                         whom the API server calls so, for what he may do to objects
  robot:team/ci/builder                    the robot builder of the Member ci in namespace team
  pull-secret:team/app@prod                the pull secret of the Project app in namespace team, in namespace prod

Examples:
  landfast access can-i push team/app --as robot:team/ci/builder
  landfast access can-i pull registry.example.com/team/app:v1 --as serviceaccount:prod/web --manifests deploy/
  landfast access can-i change-visibility team/app --as oidc:corp:alice --group oidc:corp:leads -o json

A name that begins with a host has to begin with one of the Registry's; a port may be left out.

Exit status: 0 yes, 1 no, 2 if it could not be found out.";

const WHO_CAN_HELP: &str = "\
Examples:
  landfast access who-can push team/app
  landfast access who-can pull team/app --registry images/main --manifests deploy/ -o json

Exit status: 0 if it could be found out, 2 if not.";

const DIFF_HELP: &str = "\
What a pattern stands for: team/** is every repository of team that no other pattern of policies and Members speaks of,
** the same of the whole Registry. Of users only what they have themselves is compared: the groups that they are in are
told by name.

Examples:
  landfast access diff old/ new/                        two folders, such as a pull request's base and head
  landfast access diff --against-cluster new/           what applying the folder would change; what is not in it stays
  landfast access diff --against-cluster -n team new/   the same as for kubectl apply -n team
  landfast access diff old/ new/ --fail-on loss -o json

Exit status: 0 nothing that --fail-on names changes, 1 something does, 2 if it could not be found out, or an object of the
new ones would not be accepted for a reason that the old ones don't have.";

#[derive(Args)]
#[command(after_help = HELP)]
pub struct Arguments {
    #[command(flatten)]
    cluster: Cluster,
    #[command(subcommand)]
    question: Question,
}

#[derive(Subcommand)]
enum Question {
    /// May somebody do something, and why, or why not
    #[command(after_help = CAN_I_HELP)]
    CanI(can_i::Arguments),
    /// Everybody who may do something, and why
    #[command(after_help = WHO_CAN_HELP)]
    WhoCan(who_can::Arguments),
    /// Who gains and loses access by a change of manifests
    #[command(after_help = DIFF_HELP)]
    Diff(diff::Arguments),
}

/// Where the objects are, and which Registry is meant.
#[derive(Args)]
struct Where {
    /// Folder of manifests, instead of the cluster that the kubeconfig names
    #[arg(long, value_name = "DIR")]
    manifests: Option<std::path::PathBuf>,
    /// The Registry, where there are several
    #[arg(long, value_name = "[NAMESPACE/]NAME")]
    registry: Option<String>,
    /// Form of the answer
    #[arg(long, short, value_name = "FORM", value_enum, default_value_t = Form::Text)]
    output: Form,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    Text,
    Json,
}

/// Prints the answer to stdout, and everything else to stderr.
pub async fn run(arguments: &Arguments) -> ExitCode {
    let cluster = &arguments.cluster;
    let answered = match &arguments.question {
        Question::CanI(arguments) => can_i::run(arguments, cluster).await,
        Question::WhoCan(arguments) => who_can::run(arguments, cluster).await,
        Question::Diff(arguments) => diff::run(arguments, cluster).await,
    };
    match answered {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("landfast access: {error:#}");
            ExitCode::from(2)
        }
    }
}

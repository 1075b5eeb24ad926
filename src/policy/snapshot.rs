//! The compiled policy of one Registry: immutable, shared by every request, replaced whole.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;

use super::matrix::Kind;
use super::providers::Providers;
use super::{CredentialSubject, Glob, Group, Identity, ObjectKey, User};
use crate::oci::{RepositoryName, Tag};

/// What a member may do; a greater role includes the smaller ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    Guest,
    Developer,
    Admin,
}

impl Role {
    /// What it is called in a Member.
    pub const fn name(self) -> &'static str {
        match self {
            Role::Guest => "Guest",
            Role::Developer => "Developer",
            Role::Admin => "Admin",
        }
    }
}

/// Who may pull besides the members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visibility {
    Private,
    Internal,
    Public,
}

/// What an image is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ImageType {
    /// To be built on, by those who know it.
    #[default]
    Base,
    /// Offered for selection where images are built.
    Build,
}

/// What the data plane needs to know of its Registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryFacts {
    /// UID of the Registry: the audience of its credentials and tokens.
    pub uid: String,
    /// `namespace/name`, for logs.
    pub name: String,
    /// Life of a token, in seconds.
    pub token_ttl: u64,
    pub failures: FailureLimits,
    /// Who vouches for users, besides the password file.
    pub providers: Providers,
    /// What the last component of a repository's name ends with if its image is a base image; `None`: names say nothing.
    pub base_suffix: Option<String>,
}

/// Seconds that a token lives where the Registry doesn't say.
pub const DEFAULT_TOKEN_TTL: u64 = 300;

impl RegistryFacts {
    /// A Registry that says nothing else about itself.
    pub fn new(uid: &str, name: &str) -> Self {
        Self {
            uid: uid.to_owned(),
            name: name.to_owned(),
            token_ttl: DEFAULT_TOKEN_TTL,
            failures: FailureLimits::default(),
            providers: Providers::default(),
            base_suffix: None,
        }
    }
}

/// How many failed logins are borne.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailureLimits {
    /// In the long run.
    pub per_minute: u32,
    /// At once.
    pub burst: u32,
}

impl Default for FailureLimits {
    fn default() -> Self {
        Self { per_minute: 10, burst: 20 }
    }
}

/// Where a grant holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// In the Project with this path.
    Project(String),
    /// In the whole Registry.
    Registry,
}

/// A role, somewhere, perhaps for some repositories only and for some time only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    pub scope: Scope,
    pub role: Role,
    /// Empty: all repositories. In a Project they are relative to its path.
    pub repositories: Vec<Glob>,
    pub expires_at: Option<Timestamp>,
    /// Who says so: a Member, or a Project of its pull secrets.
    pub source: Arc<ObjectKey>,
}

impl Grant {
    /// A role in all repositories of the scope, without an end.
    pub fn new(scope: Scope, role: Role) -> Self {
        Self { scope, role, repositories: Vec::new(), expires_at: None, source: Arc::default() }
    }

    /// Whether it has not expired.
    pub fn holds(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|end| end > now)
    }
}

/// A Member's grant to its robots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RobotGrant {
    pub grant: Grant,
    /// Names of the robots.
    pub robots: Vec<String>,
    /// Credentials of a lower generation are revoked.
    pub generation: u32,
}

/// A Project's grant to its pull secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PullGrant {
    pub grant: Grant,
    /// Namespaces whose pull secrets count; `None`: that could not be decided, all do.
    pub namespaces: Option<BTreeSet<String>>,
    pub generation: u32,
}

/// What a RepositoryPolicy sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyRule {
    pub name: String,
    pub repositories: Vec<Glob>,
    pub visibility: Option<Visibility>,
    /// Some of no patterns: no tag, whatever a wider policy says.
    pub immutable_tags: Option<ImmutableTags>,
    pub image_type: Option<ImageType>,
    pub description: Option<String>,
}

impl PolicyRule {
    /// A policy that sets nothing.
    pub fn new(name: &str, repositories: Vec<Glob>) -> Self {
        let name = name.to_owned();
        Self { name, repositories, visibility: None, immutable_tags: None, image_type: None, description: None }
    }
}

/// Which tags of a repository, once they are there, neither move to another manifest nor go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImmutableTags(Arc<[Glob]>);

impl ImmutableTags {
    /// Of patterns in which `*` stands for any text.
    pub fn new<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Self {
        Self(patterns.into_iter().map(Glob::new).collect())
    }

    /// Whether no tag is immutable.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn contains(&self, tag: &Tag) -> bool {
        self.0.iter().any(|pattern| pattern.matches(tag.as_str()))
    }
}

/// A Project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProjectEntry {
    pub path: String,
    pub official: bool,
    pub visibility: Visibility,
    /// By name. The most specific pattern wins.
    pub policies: Vec<PolicyRule>,
    /// The Project that says so.
    pub source: ObjectKey,
}

impl ProjectEntry {
    /// A Project without policies.
    pub fn new(path: &str, visibility: Visibility) -> Self {
        let source = ObjectKey::default();
        Self { path: path.to_owned(), official: false, visibility, policies: Vec::new(), source }
    }

    /// The row of the permission matrix that its repositories are in of which no policy says another.
    pub fn kind(&self) -> Kind {
        if self.official { Kind::Official } else { self.visibility.into() }
    }

    /// The row of the permission matrix that this repository is in.
    pub fn kind_of(&self, repository: &RepositoryName) -> Kind {
        self.row_of(repository).0
    }

    /// The row of the permission matrix that this repository is in, and the policy that puts it there; `None`: the Project
    /// itself does.
    pub fn row_of(&self, repository: &RepositoryName) -> (Kind, Option<&PolicyRule>) {
        match self.most_specific(repository, |policy| policy.visibility) {
            Some((policy, visibility)) if !self.official => (visibility.into(), Some(policy)),
            _ => (self.kind(), None),
        }
    }

    /// What the repository is for, if somebody has said it.
    pub fn description_of(&self, repository: &RepositoryName) -> Option<&str> {
        self.most_specific(repository, |policy| policy.description.as_deref()).map(|(_, set)| set)
    }

    /// What the policy says that matches the repository most narrowly among those that say anything of this, and which
    /// policy that is. Among equally narrow ones it is the first by name.
    pub fn most_specific<'a, T>(
        &'a self,
        repository: &RepositoryName,
        setting: impl Fn(&'a PolicyRule) -> Option<T>,
    ) -> Option<(&'a PolicyRule, T)> {
        let relative = relative_to(repository, &self.path);
        let rules = self.policies.iter().filter_map(|policy| {
            let setting = setting(policy)?;
            let matching = policy.repositories.iter().filter(|glob| glob.matches(relative));
            let specificity = matching.map(Glob::specificity).max()?;
            Some((specificity, policy, setting))
        });
        rules
            .max_by_key(|(specificity, policy, _)| (*specificity, std::cmp::Reverse(&policy.name)))
            .map(|(_, policy, setting)| (policy, setting))
    }
}

/// The name of the repository below its Project.
pub(super) fn relative_to<'a>(repository: &'a RepositoryName, path: &str) -> &'a str {
    repository.as_str().strip_prefix(path).and_then(|rest| rest.strip_prefix('/')).unwrap_or_default()
}

/// The policy of one Registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    pub registry: RegistryFacts,
    /// By path.
    pub projects: HashMap<String, ProjectEntry>,
    /// By UID of the Member.
    pub robots: HashMap<String, RobotGrant>,
    /// By UID of the Project.
    pub pull_secrets: HashMap<String, PullGrant>,
    /// What Members grant to users. Whether there is such a user is another question.
    pub users: HashMap<User, Vec<Grant>>,
    /// What Members grant to groups.
    pub groups: HashMap<Group, Vec<Grant>>,
}

impl Snapshot {
    /// A Registry without Projects and Members.
    pub fn new(registry: RegistryFacts) -> Self {
        Self {
            registry,
            projects: HashMap::new(),
            robots: HashMap::new(),
            pull_secrets: HashMap::new(),
            users: HashMap::new(),
            groups: HashMap::new(),
        }
    }

    /// The Project that a repository belongs to: the one with the longest path that is a proper prefix.
    pub fn project_of(&self, repository: &RepositoryName) -> Option<&ProjectEntry> {
        repository.parents().find_map(|parent| self.projects.get(parent))
    }

    /// The tags of the repository that neither move nor go. Nobody is exempt: whoever may change the policy does that
    /// first, and it is seen.
    pub fn immutable_tags(&self, repository: &RepositoryName) -> ImmutableTags {
        let project = self.project_of(repository);
        let set =
            project.and_then(|project| project.most_specific(repository, |policy| policy.immutable_tags.as_ref()));
        set.map(|(_, set)| set.clone()).unwrap_or_default()
    }

    /// What the image is for: what a policy says that names this very repository, else what its name says, else what a
    /// policy says whose pattern matches it.
    pub fn image_type(&self, repository: &RepositoryName) -> ImageType {
        let Some(project) = self.project_of(repository) else { return ImageType::default() };
        let said = project.most_specific(repository, |policy| policy.image_type);
        let relative = relative_to(repository, &project.path);
        let is_named = |policy: &PolicyRule| policy.repositories.iter().any(|glob| glob.is_literally(relative));
        match said {
            Some((policy, set)) if is_named(policy) => set,
            _ if self.is_base_by_name(repository) => ImageType::Base,
            said => said.map(|(_, set)| set).unwrap_or_default(),
        }
    }

    fn is_base_by_name(&self, repository: &RepositoryName) -> bool {
        let suffix = self.registry.base_suffix.as_deref().filter(|suffix| !suffix.is_empty());
        suffix.is_some_and(|suffix| repository.as_str().ends_with(suffix))
    }

    /// What this identity has been granted, or `None` if it is no longer valid: its Member or Project is gone, has
    /// expired, or has revoked it.
    ///
    /// An anonymous client is valid and has no grant. So is a user as far as the policy goes: whether his provider
    /// still knows him has to be asked there. Of a user's grants some may have expired.
    pub fn grants_of<'a>(
        &'a self,
        identity: &'a Identity,
        now: Timestamp,
    ) -> Option<impl Iterator<Item = &'a Grant> + Clone> {
        let own = match identity {
            Identity::Anonymous => &[],
            Identity::User(user) | Identity::GroupMember { user, .. } => {
                self.users.get(user).map(Vec::as_slice).unwrap_or_default()
            }
            Identity::Credential(subject) => std::slice::from_ref(self.grant_of_credential(subject, now)?),
        };
        let of_group = |group| self.groups.get(group).into_iter().flatten();
        Some(own.iter().chain(identity.groups().iter().flat_map(of_group)))
    }

    fn grant_of_credential(&self, subject: &CredentialSubject, now: Timestamp) -> Option<&Grant> {
        let (grant, generation) = match subject {
            CredentialSubject::Robot { member, name, .. } => {
                let robot = self.robots.get(member)?;
                robot.robots.contains(name).then_some((&robot.grant, robot.generation))?
            }
            CredentialSubject::PullSecret { project, namespace, .. } => {
                let pull = self.pull_secrets.get(project)?;
                let entitled = pull.namespaces.as_ref().is_none_or(|entitled| entitled.contains(namespace));
                entitled.then_some((&pull.grant, pull.generation))?
            }
        };
        (subject.generation() >= generation && grant.holds(now)).then_some(grant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn rule(name: &str, repositories: &str, tags: Option<&[&str]>) -> PolicyRule {
        PolicyRule {
            visibility: Some(Visibility::Public),
            immutable_tags: tags.map(|tags| ImmutableTags::new(tags.iter().copied())),
            ..PolicyRule::new(name, vec![Glob::new(repositories)])
        }
    }

    fn snapshot() -> Snapshot {
        let policies = vec![
            rule("wide", "**", Some(&["v*", "release"])),
            rule("silent", "app", None),
            rule("free", "scratch/**", Some(&[])),
            rule("b-tie", "tie", Some(&["b"])),
            rule("a-tie", "tie", Some(&["a"])),
        ];
        let project = |path: &str, policies| {
            (path.to_owned(), ProjectEntry { policies, ..ProjectEntry::new(path, Visibility::Private) })
        };
        let projects = HashMap::from([project("team", policies), project("other", vec![])]);
        Snapshot { projects, ..Snapshot::new(RegistryFacts::new("r", "ns/main")) }
    }

    #[rstest]
    #[case::pattern("team/any", "v1", true)]
    #[case::star_may_be_empty("team/any", "v", true)]
    #[case::star_takes_dots_and_hyphens("team/any", "v1.2-rc.3", true)]
    #[case::literal("team/any", "release", true)]
    #[case::not_matching("team/any", "latest", false)]
    #[case::whole_tag("team/any", "releases", false)]
    #[case::case_matters("team/any", "V1", false)]
    #[case::nested_repository("team/a/b", "v1", true)]
    #[case::policy_that_does_not_say("team/app", "v1", true)]
    #[case::none_in_the_narrower_policy("team/scratch/x", "v1", false)]
    #[case::among_equals_the_first_name("team/tie", "a", true)]
    #[case::among_equals_not_the_second("team/tie", "b", false)]
    #[case::other_project("other/any", "v1", false)]
    #[case::no_project("nowhere/any", "v1", false)]
    fn the_most_specific_policy_says_which_tags_stay(
        #[case] repository: &str,
        #[case] tag: &str,
        #[case] expected: bool,
    ) {
        let immutable = snapshot().immutable_tags(&repository.parse().unwrap());
        assert_eq!(immutable.contains(&tag.parse().unwrap()), expected);
    }

    #[rstest]
    #[case::default("team/any", ImageType::Base)]
    #[case::by_a_pattern("team/tools/go", ImageType::Build)]
    #[case::a_name_says_more_than_a_pattern("team/tools/go_ownbase", ImageType::Base)]
    #[case::a_policy_that_names_it_says_more_than_the_name("team/tools/c_ownbase", ImageType::Build)]
    #[case::not_at_the_end("team/tools/a_ownbase_b", ImageType::Build)]
    #[case::no_project("nowhere/any", ImageType::Base)]
    fn policy_and_name_say_what_an_image_is_for(#[case] repository: &str, #[case] expected: ImageType) {
        let mut snapshot = snapshot();
        let build = |name: &str, glob: &str| PolicyRule {
            image_type: Some(ImageType::Build),
            ..PolicyRule::new(name, vec![Glob::new(glob)])
        };
        let policies = &mut snapshot.projects.get_mut("team").unwrap().policies;
        policies.extend([build("tools", "tools/*"), build("one", "tools/c_ownbase")]);
        snapshot.registry.base_suffix = Some("_ownbase".to_owned());
        assert_eq!(snapshot.image_type(&repository.parse().unwrap()), expected);
    }

    #[test]
    fn without_a_suffix_names_say_nothing() {
        let mut snapshot = snapshot();
        let policy = PolicyRule { image_type: Some(ImageType::Build), ..PolicyRule::new("all", vec![Glob::new("**")]) };
        snapshot.projects.get_mut("team").unwrap().policies.push(policy);
        for suffix in [None, Some(String::new())] {
            snapshot.registry.base_suffix = suffix;
            assert_eq!(snapshot.image_type(&"team/go_ownbase".parse().unwrap()), ImageType::Build);
        }
    }

    proptest::proptest! {
        #[test]
        fn a_tag_is_its_own_pattern_and_every_tag_matches_a_star(tag in "[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,40}") {
            let parsed = tag.parse().unwrap();
            for pattern in [tag.as_str(), "*", &format!("{tag}*"), &format!("*{tag}")] {
                proptest::prop_assert!(ImmutableTags::new([pattern]).contains(&parsed));
            }
            proptest::prop_assert!(!ImmutableTags::default().contains(&parsed));
        }
    }
}

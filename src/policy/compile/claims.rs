//! What the credentials of robots and pull secrets say.
//!
//! Every time in the claims is derived from the object, so that the same object gives the same credential until its
//! rotation period is over: a period starts at a whole number of periods after the object was created, and what is made
//! in one works to the end of the next.

use std::collections::HashSet;
use std::sync::Arc;

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::{Metadata, belongs_to, generation, name, namespace, uid};
use crate::api::v1alpha1::{Duration, Member, Project, Registry, Subject};
use crate::policy::{CredentialClaims, CredentialSubject};

const PULL_SECRET_ROTATION: u64 = 30 * 86_400;

/// An hour and a century, in seconds.
const SHORTEST: i64 = 3_600;
const LONGEST: i64 = 100 * 365 * 86_400;

/// Claims, and when they should be replaced by new ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    pub claims: CredentialClaims,
    pub renew_at: Option<Timestamp>,
}

/// The claims of a robot of a Member. `None` once the Member has expired.
pub fn robot(registry: &Registry, member: &Member, robot: &Subject, now: Timestamp) -> Option<Issued> {
    let end = member.spec.expires_at.as_ref().map(|time| time.0);
    if end.is_some_and(|end| end <= now) {
        return None;
    }
    let subject = CredentialSubject::Robot {
        member: uid(&member.metadata),
        namespace: namespace(&member.metadata).to_owned(),
        name: robot.name.clone(),
        generation: generation(member.spec.credential_generation),
    };
    let rotation = member.spec.rotation.as_ref().map(Duration::as_secs);
    Some(issue(registry, &member.metadata, subject, rotation, end, now))
}

/// The claims of a Project's pull secret in one namespace.
pub fn pull_secret(registry: &Registry, project: &Project, target: &str, now: Timestamp) -> Issued {
    let settings = project.spec.pull_secrets.clone().unwrap_or_default();
    let subject = CredentialSubject::PullSecret {
        project: uid(&project.metadata),
        namespace: target.to_owned(),
        name: project.metadata.name.clone().unwrap_or_default(),
        generation: generation(settings.credential_generation),
    };
    let rotation = settings.rotation.as_ref().map_or(PULL_SECRET_ROTATION, Duration::as_secs);
    issue(registry, &project.metadata, subject, Some(rotation), None, now)
}

/// Longer than a token or a refresh token lives, replicas that lag behind counted in.
const TOKENS: SignedDuration = SignedDuration::from_hours(48);
/// How far the clocks of those who sign may be apart.
const SKEW: SignedDuration = SignedDuration::from_hours(1);

/// What a key of this Registry may have signed credentials for: the Projects that name it, accepted or not, and the Members of
/// it and of them. A Member whose Project is not there is one too: a Project that is made anew is its Project again, and
/// whose it was is told nowhere.
pub fn signed_for(
    registry: &Registry,
    mut projects: Vec<Arc<Project>>,
    mut members: Vec<Arc<Member>>,
) -> (Vec<Arc<Project>>, Vec<Arc<Member>>) {
    let key = |metadata: &Metadata| (namespace(metadata).to_owned(), name(metadata).to_owned());
    let elsewhere: HashSet<_> = projects
        .iter()
        .filter(|project| !belongs_to(project, registry))
        .map(|project| key(&project.metadata))
        .collect();
    projects.retain(|project| belongs_to(project, registry));
    members.retain(|member| match (&member.spec.registry_ref, &member.spec.project_ref) {
        (Some(reference), _) => {
            key(&registry.metadata) == (namespace(&member.metadata).to_owned(), reference.name.clone())
        }
        (None, Some(reference)) => {
            !elsewhere.contains(&(namespace(&member.metadata).to_owned(), reference.name.clone()))
        }
        (None, None) => false,
    });
    (projects, members)
}

/// When the last credential or token ends that a key which stopped signing at `stopped` can have signed for these objects
/// of one Registry. `None`: never, because some robot's credential has no end.
///
/// What an object says now counts for all that was signed for it: a `rotation` that a Member got later ends the
/// credentials from before it too, with the key.
pub fn key_needed_until<'a>(
    projects: impl Iterator<Item = &'a Project>,
    members: impl Iterator<Item = &'a Member>,
    stopped: Timestamp,
) -> Option<Timestamp> {
    let plus = |span: SignedDuration| stopped.checked_add(span).unwrap_or(Timestamp::MAX);
    // Of what was made later it has signed nothing.
    let is_older =
        |metadata: &Metadata| metadata.creation_timestamp.as_ref().is_none_or(|created| created.0 <= plus(SKEW));
    let ends_after = |rotation: u64| plus(period(rotation).saturating_mul(2).saturating_add(SKEW));
    let mut last = plus(TOKENS);
    for project in projects.filter(|project| is_older(&project.metadata)) {
        let rotation = project.spec.pull_secrets.as_ref().and_then(|settings| settings.rotation.as_ref());
        last = last.max(ends_after(rotation.map_or(PULL_SECRET_ROTATION, Duration::as_secs)));
    }
    for member in members.filter(|member| is_older(&member.metadata) && member.robots().next().is_some()) {
        let by_rotation = member.spec.rotation.as_ref().map(|rotation| ends_after(rotation.as_secs()));
        let by_end = member.spec.expires_at.as_ref().map(|end| end.0);
        last = last.max([by_rotation, by_end].into_iter().flatten().min()?);
    }
    Some(last)
}

/// The API server holds it to the same bounds; a shorter one would have its Secret written again and again.
fn period(seconds: u64) -> SignedDuration {
    SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX).clamp(SHORTEST, LONGEST))
}

fn issue(
    registry: &Registry,
    metadata: &Metadata,
    subject: CredentialSubject,
    rotation: Option<u64>,
    end: Option<Timestamp>,
    now: Timestamp,
) -> Issued {
    let created = metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    let period = rotation.map(period);
    // A clock that runs behind the API server's must not issue for a time before the object was there.
    let periods = period.map_or(0, |period| (now.duration_since(created).as_secs() / period.as_secs()).max(0));
    let plus = |count: i64| period.and_then(|period| created.checked_add(period.checked_mul(count as i32)?).ok());
    let issued = plus(periods).unwrap_or(created);
    let expiry = [plus(periods + 2), end].into_iter().flatten().min();
    Issued {
        claims: CredentialClaims {
            aud: uid(&registry.metadata),
            subject,
            iat: issued.as_second(),
            exp: expiry.map(Timestamp::as_second),
        },
        renew_at: [plus(periods + 1), end].into_iter().flatten().min(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;

    fn object<K: serde::de::DeserializeOwned>(kind: &str, spec: &str) -> K {
        let metadata = "{name: ci, namespace: ns, uid: u, creationTimestamp: 1970-01-11T00:00:00Z}";
        serde_saphyr::from_str(&format!(
            "apiVersion: landfast.dev/v1alpha1\nkind: {kind}\nmetadata: {metadata}\nspec: {spec}"
        ))
        .unwrap()
    }

    fn registry() -> Registry {
        object("Registry", "{storage: {emptyDir: {}}}")
    }

    fn at(days: i64) -> Timestamp {
        Timestamp::from_second(days * DAY).unwrap()
    }

    fn issue_robot(spec: &str, day: i64) -> Option<Issued> {
        let member: Member = object("Member", spec);
        robot(&registry(), &member, &member.spec.subjects[0], at(day))
    }

    #[test]
    fn without_rotation_a_robot_has_one_credential_for_ever() {
        let spec = "{projectRef: {name: p}, role: Guest, subjects: [{kind: Robot, name: ci}]}";
        let first = issue_robot(spec, 10).unwrap();
        assert_eq!(issue_robot(spec, 10_000).unwrap(), first);
        assert_eq!((first.claims.iat, first.claims.exp, first.renew_at), (10 * DAY, None, None));
    }

    #[test]
    fn a_rotated_credential_outlives_its_period_by_one() {
        let spec = "{projectRef: {name: p}, role: Guest, rotation: 7d, subjects: [{kind: Robot, name: ci}]}";
        let first = issue_robot(spec, 12).unwrap();
        assert_eq!(issue_robot(spec, 16).unwrap(), first, "the same period gives the same credential");
        assert_eq!((first.claims.exp, first.renew_at), (Some(24 * DAY), Some(at(17))));
        let second = issue_robot(spec, 17).unwrap();
        assert_eq!((second.claims.iat, second.claims.exp), (17 * DAY, Some(31 * DAY)));
    }

    #[test]
    fn a_member_that_expires_ends_its_credentials() {
        let spec = "{projectRef: {name: p}, role: Guest, expiresAt: 1970-01-13T00:00:00Z, subjects: [{kind: Robot, name: ci}]}";
        assert_eq!(issue_robot(spec, 11).unwrap().claims.exp, Some(12 * DAY));
        assert_eq!(issue_robot(spec, 12), None);
    }

    #[test]
    fn a_clock_behind_the_api_server_issues_the_first_credential() {
        let spec = "{projectRef: {name: p}, role: Guest, rotation: 7d, subjects: [{kind: Robot, name: ci}]}";
        assert_eq!(issue_robot(spec, 2).unwrap().claims.iat, 10 * DAY);
    }

    #[test]
    fn a_key_is_needed_as_long_as_what_it_has_signed() {
        let project = |spec: &str| object::<Project>("Project", spec);
        let member =
            |spec: &str| object::<Member>("Member", &format!("{{projectRef: {{name: p}}, role: Guest, {spec}}}"));
        let needed = |projects: &[Project], members: &[Member], stopped: i64| {
            let until = key_needed_until(projects.iter(), members.iter(), at(stopped));
            until.map(|until| (until.as_second() - stopped * DAY) / DAY)
        };
        let robot = "subjects: [{kind: Robot, name: ci}]";
        assert_eq!(needed(&[], &[], 20), Some(2), "tokens");
        assert_eq!(needed(&[project("{registryRef: {name: main}}")], &[], 20), Some(60), "pull secrets");
        assert_eq!(needed(&[], &[member(&format!("rotation: 100d, {robot}"))], 20), Some(200));
        assert_eq!(needed(&[], &[member(&format!("expiresAt: 1970-02-20T00:00:00Z, {robot}"))], 20), Some(30));
        assert_eq!(needed(&[], &[member(robot)], 20), None, "a robot without an end");
        assert_eq!(needed(&[], &[member(robot)], 9), Some(2), "which was made later");
        assert_eq!(needed(&[], &[member("subjects: [{kind: User, name: 'htpasswd:a'}]")], 20), Some(2));
    }

    #[test]
    fn a_member_needs_its_key_while_its_project_is_made_anew() {
        let named = |name: &str| -> Arc<Project> {
            let mut project: Project = object("Project", "{registryRef: {name: main}}");
            project.metadata.name = Some(name.to_owned());
            Arc::new(project)
        };
        let member = |reference: &str| -> Arc<Member> {
            let robot = "role: Guest, subjects: [{kind: Robot, name: ci}]";
            Arc::new(object("Member", &format!("{{{reference}, {robot}}}")))
        };
        let in_registry = |name: &str, projects: &[Arc<Project>], member: &Arc<Member>| {
            let mut registry = registry();
            registry.metadata.name = Some(name.to_owned());
            let (_, members) = signed_for(&registry, projects.to_vec(), vec![Arc::clone(member)]);
            !members.is_empty()
        };
        let (team, of_team) = ([named("team")], member("projectRef: {name: team}"));
        assert!(in_registry("main", &team, &of_team) && !in_registry("other", &team, &of_team));
        for projects in [&[][..], &[named("apps")]] {
            assert!(in_registry("main", projects, &of_team), "the Project is gone");
            assert!(in_registry("other", projects, &of_team), "and may have been anybody's");
        }
        let of_main = member("registryRef: {name: main}");
        assert!(in_registry("main", &[], &of_main) && !in_registry("other", &[], &of_main));
    }

    /// The bound holds for what is really issued.
    #[test]
    fn nothing_issued_outlives_the_bound() {
        let spec = "{projectRef: {name: p}, role: Guest, rotation: 7d, subjects: [{kind: Robot, name: ci}]}";
        let member: Member = object("Member", spec);
        for stopped in 10..60 {
            let end = issue_robot(spec, stopped).unwrap().claims.exp.unwrap();
            let until = key_needed_until([].iter(), [&member].into_iter(), at(stopped)).unwrap();
            assert!(until.as_second() >= end, "{stopped}");
        }
    }

    #[test]
    fn pull_secrets_rotate_by_default() {
        let project: Project = object("Project", "{registryRef: {name: main}}");
        let issued = pull_secret(&registry(), &project, "other", at(10));
        assert_eq!((issued.claims.exp, issued.renew_at), (Some(70 * DAY), Some(at(40))));
    }
}

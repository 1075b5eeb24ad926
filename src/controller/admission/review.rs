//! From the API server's review to what is judged, and from the judgement to its answer.

use k8s_openapi::api::authentication::v1::UserInfo;
use kube::core::admission::{AdmissionRequest, AdmissionResponse, AdmissionReview, Operation};
use kube::core::{DynamicObject, Resource, Status};
use serde::de::DeserializeOwned;

use super::{Change, Judgement, Privileges, Request, Requester, Versions};
use crate::api::v1alpha1::Registry;

pub(super) type Asked = AdmissionRequest<DynamicObject>;
pub(super) type Review = AdmissionReview<DynamicObject>;

/// Longest warning that every client shows, in bytes.
const WARNING_LENGTH: usize = 256;
const MOST_WARNINGS: usize = 16;
/// All warnings together stay below this, or the API server drops some.
const WARNINGS_LENGTH: usize = 4096;

/// What there is to judge.
#[derive(Debug)]
pub enum Question {
    /// A change of an object of ours.
    Change(Box<Request>),
    /// An object that can't be read is to go, to be let go of, or to be mended.
    Release(Release),
}

/// Somebody wants to be rid of an object that can't be read, or to mend it.
#[derive(Debug)]
pub struct Release {
    requester: Requester,
    resource: &'static str,
    namespace: String,
    problem: String,
}

impl Release {
    /// What the object meant can't be known, so only those may who are free in its namespace.
    pub async fn judge(&self, privileges: &dyn Privileges) -> Result<Judgement, kube::Error> {
        let Self { requester, resource, namespace, problem } = self;
        if privileges.may(requester, "administer", resource, namespace, None).await? {
            return Ok(Judgement { warnings: vec![problem.clone()], ..Judgement::default() });
        }
        let denial = format!(
            "{problem}; whoever may `administer` {resource} in namespace {namespace} can delete it, or mend it"
        );
        Ok(Judgement { denial: Some(denial), ..Judgement::default() })
    }
}

/// Reads what the API server asks about. An error says what is wrong, for the person who sent the object.
pub fn read(asked: Asked) -> Result<Question, String> {
    let is_ours = asked.kind.group == Registry::group(&()) && asked.kind.version == Registry::version(&());
    let kind = if is_ours && asked.sub_resource.is_none() { asked.kind.kind.as_str() } else { "" };
    match kind {
        "Registry" => question(asked, "registries", Change::Registry),
        "Project" => question(asked, "projects", Change::Project),
        "RepositoryPolicy" => question(asked, "projects", Change::RepositoryPolicy),
        "Member" => question(asked, "projects", Change::Member),
        _ => Err(format!(
            "landfast's webhook judges its own four kinds, and was asked about {}/{}: correct the rules of its ValidatingWebhookConfiguration",
            asked.resource.group, asked.resource.resource
        )),
    }
}

fn question<K: DeserializeOwned + Resource>(
    asked: Asked,
    resource: &'static str,
    change: fn(Versions<K>) -> Change,
) -> Result<Question, String> {
    let Asked { kind, name, namespace, operation, user_info, object, old_object, .. } = asked;
    let namespace = namespace.unwrap_or_default();
    let is_going = operation == Operation::Delete
        || object.as_ref().is_some_and(|object| object.metadata.deletion_timestamp.is_some());
    // What can't be read may still be in force as it last could.
    let is_mended = operation == Operation::Update
        && parse::<K>(old_object.clone(), &namespace).is_err()
        && parse::<K>(object.clone(), &namespace).is_ok();
    let requester = requester(user_info);
    match versions(operation, object, old_object, &namespace) {
        Ok(versions) => Ok(Question::Change(Box::new(Request { requester, change: change(versions) }))),
        Err(problem) => {
            let problem = format!("{} {namespace}/{name} can't be read: {problem}", kind.kind);
            match is_going || is_mended {
                true => Ok(Question::Release(Release { requester, resource, namespace, problem })),
                false => Err(problem),
            }
        }
    }
}

fn requester(UserInfo { username, uid, groups, extra }: UserInfo) -> Requester {
    Requester {
        name: username.unwrap_or_default(),
        uid: uid.unwrap_or_default(),
        groups: groups.unwrap_or_default(),
        extra: extra.unwrap_or_default(),
    }
}

fn versions<K: DeserializeOwned + Resource>(
    operation: Operation,
    object: Option<DynamicObject>,
    old_object: Option<DynamicObject>,
    namespace: &str,
) -> Result<Versions<K>, String> {
    match operation {
        Operation::Create => Ok(Versions::Created(parse(object, namespace)?)),
        Operation::Update => {
            let (before, after) = (parse(old_object, namespace), parse(object, namespace)?);
            Ok(Versions::Updated { before: before?, after })
        }
        Operation::Delete => Ok(Versions::Deleted(parse(old_object, namespace)?)),
        Operation::Connect => Err("it can't be connected to".to_owned()),
    }
}

fn parse<K: DeserializeOwned + Resource>(object: Option<DynamicObject>, namespace: &str) -> Result<K, String> {
    let object = object.ok_or("the API server did not send it")?;
    let object = serde_json::to_value(object).map_err(|error| error.to_string())?;
    // Its text says where in the object the error is.
    let mut object: K = serde_path_to_error::deserialize(object).map_err(|error| error.to_string())?;
    object.meta_mut().namespace.get_or_insert_with(|| namespace.to_owned());
    Ok(object)
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Judged(Judgement),
    /// The object can't be read.
    Invalid(String),
    /// It could not be judged: the code, its reason, and what to do about it.
    Unjudged(u16, &'static str, String),
}

impl Answer {
    /// For the metrics.
    pub fn verdict(&self) -> &'static str {
        match self {
            Answer::Judged(Judgement { denial: None, .. }) => "allowed",
            Answer::Judged(_) => "denied",
            Answer::Invalid(_) => "invalid",
            Answer::Unjudged(..) => "error",
        }
    }

    /// The answer to this request.
    pub fn respond(self, asked: &Asked) -> Review {
        let mut response = AdmissionResponse::from(asked);
        let (status, given) = match self {
            Answer::Judged(Judgement { denial: None, warnings }) => (None, warnings),
            Answer::Judged(Judgement { denial: Some(denial), warnings }) => {
                (Some(Status::failure(&denial, "Forbidden").with_code(403)), warnings)
            }
            Answer::Invalid(problem) => (Some(Status::failure(&problem, "Invalid").with_code(422)), vec![]),
            Answer::Unjudged(code, reason, problem) => {
                (Some(Status::failure(&problem, reason).with_code(code)), vec![])
            }
        };
        if let Some(status) = status {
            response.allowed = false;
            response.result = status;
        }
        response.warnings = (!given.is_empty()).then(|| warnings(given));
        response.into_review()
    }
}

/// Warnings as every client shows them: few, short, and in one line each.
fn warnings(given: Vec<String>) -> Vec<String> {
    let count = given.len();
    let mut shown: Vec<String> = given.iter().take(MOST_WARNINGS).map(|text| line(text)).collect();
    let mut length: usize = shown.iter().map(String::len).sum();
    while shown.len() < count || length >= WARNINGS_LENGTH {
        // The last place is for how many more there are.
        length -= shown.pop().map_or(0, |last| last.len());
        let more = format!("and {} more", count - shown.len());
        if length + more.len() < WARNINGS_LENGTH {
            shown.push(more);
            break;
        }
    }
    shown
}

/// One line that is cut where a character ends. A warning travels in a header, which has no control characters.
fn line(text: &str) -> String {
    let mut line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    line.truncate(line.floor_char_boundary(WARNING_LENGTH));
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;
    use serde_json::{Value, json};

    /// What the API server sends about a Member.
    fn asked(operation: &str, object: Value, old_object: Value) -> Asked {
        let kind = json!({ "group": "landfast.dev", "version": "v1alpha1", "kind": "Member" });
        let resource = json!({ "group": "landfast.dev", "version": "v1alpha1", "resource": "members" });
        let user = json!({
            "username": "ann", "uid": "7", "groups": ["team"], "extra": { "scopes.example.com": ["a", "b"] }
        });
        serde_json::from_value(json!({
            "uid": "u", "kind": kind, "resource": resource, "name": "m", "namespace": "n", "operation": operation,
            "userInfo": user, "object": object, "oldObject": old_object, "dryRun": true, "options": null,
        }))
        .unwrap()
    }

    fn member(role: Value) -> Value {
        json!({
            "apiVersion": "landfast.dev/v1alpha1", "kind": "Member", "metadata": { "name": "m" },
            "spec": { "projectRef": { "name": "p" }, "role": role, "subjects": [{ "kind": "User", "name": "bob" }] },
        })
    }

    fn going(role: Value) -> Value {
        let mut member = member(role);
        member["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        member
    }

    /// In words: what is asked.
    fn shape(question: Result<Question, String>) -> String {
        match question {
            Ok(Question::Change(request)) => match request.change {
                Change::Member(Versions::Created(_)) => "created".to_owned(),
                Change::Member(Versions::Updated { .. }) => "updated".to_owned(),
                Change::Member(Versions::Deleted(_)) => "deleted".to_owned(),
                other => format!("{other:?}"),
            },
            Ok(Question::Release(release)) => format!("release of {}", release.resource),
            Err(problem) => problem,
        }
    }

    const UNREADABLE: &str = "Member n/m can't be read: spec.role: ";

    #[rstest]
    #[case::create("CREATE", member(json!("Guest")), Value::Null, "created")]
    #[case::update("UPDATE", member(json!("Guest")), member(json!("Admin")), "updated")]
    #[case::delete("DELETE", Value::Null, member(json!("Guest")), "deleted")]
    #[case::unreadable_new("CREATE", member(json!(5)), Value::Null, UNREADABLE)]
    #[case::unreadable_change("UPDATE", member(json!(5)), member(json!("Guest")), UNREADABLE)]
    #[case::mended("UPDATE", member(json!("Guest")), member(json!(5)), "release of projects")]
    #[case::unreadable_deleted("DELETE", Value::Null, member(json!(5)), "release of projects")]
    #[case::unreadable_let_go("UPDATE", going(json!(5)), going(json!(5)), "release of projects")]
    #[case::nothing_sent("CREATE", Value::Null, Value::Null, "Member n/m can't be read: the API server did not")]
    #[case::connect("CONNECT", member(json!("Guest")), Value::Null, "Member n/m can't be read: it can't be")]
    fn a_request_is_read(#[case] operation: &str, #[case] object: Value, #[case] old: Value, #[case] expected: &str) {
        let shape = shape(read(asked(operation, object, old)));
        assert!(shape.starts_with(expected), "{shape}");
    }

    #[test]
    fn the_requester_is_passed_on_whole_and_the_object_has_its_namespace() {
        let Ok(Question::Change(request)) = read(asked("CREATE", member(json!("Guest")), Value::Null)) else {
            panic!("it can be read")
        };
        let Requester { name, uid, groups, extra } = request.requester;
        assert_eq!((name.as_str(), uid.as_str(), groups), ("ann", "7", vec!["team".to_owned()]));
        assert_eq!(extra["scopes.example.com"], ["a", "b"]);
        let Change::Member(Versions::Created(member)) = request.change else { panic!("a Member is made") };
        assert_eq!(member.metadata.namespace.as_deref(), Some("n"));
    }

    #[test]
    fn other_kinds_and_subresources_are_refused() {
        let mut other = asked("CREATE", member(json!("Guest")), Value::Null);
        other.kind.group = "apps".to_owned();
        let mut status = asked("UPDATE", member(json!("Guest")), member(json!("Guest")));
        status.sub_resource = Some("status".to_owned());
        for asked in [other, status] {
            let problem = shape(read(asked));
            assert!(problem.contains("correct the rules"), "{problem}");
        }
    }

    fn answer(answer: Answer) -> Value {
        let asked = asked("CREATE", Value::Null, Value::Null);
        serde_json::to_value(answer.respond(&asked)).unwrap()["response"].take()
    }

    #[test]
    fn answers_say_what_kubectl_shows() {
        let judged = |denial: Option<&str>| {
            Answer::Judged(Judgement { denial: denial.map(str::to_owned), warnings: vec!["w".to_owned()] })
        };
        let allowed = answer(judged(None));
        assert_eq!(
            (&allowed["uid"], &allowed["allowed"], &allowed["warnings"]),
            (&json!("u"), &json!(true), &json!(["w"]))
        );
        let denied = answer(judged(Some("no")));
        let status = json!({ "status": "Failure", "code": 403, "reason": "Forbidden", "message": "no" });
        assert_eq!(
            (&denied["allowed"], &denied["status"], &denied["warnings"]),
            (&json!(false), &status, &json!(["w"]))
        );
        assert_eq!(answer(Answer::Invalid("odd".to_owned()))["status"]["code"], 422);
        let failed = answer(Answer::Unjudged(500, "InternalError", "later".to_owned()));
        assert_eq!((&failed["allowed"], &failed["status"]["code"]), (&json!(false), &json!(500)));
    }

    #[test]
    fn warnings_that_are_left_out_are_counted() {
        let shown = warnings(vec!["w".to_owned(); 20]);
        assert_eq!((shown.len(), shown.last().unwrap().as_str()), (16, "and 5 more"));
        let shown = warnings(vec!["w".repeat(300); 16]);
        assert_eq!((shown.len(), shown.last().unwrap().as_str()), (16, "and 1 more"));
        assert_eq!(warnings(vec!["a\r\nb".to_owned()]), ["a  b"]);
    }

    proptest! {
        #[test]
        fn warnings_keep_within_their_bounds(given in proptest::collection::vec(".{0,400}", 0..40)) {
            let shown = warnings(given);
            prop_assert!(shown.len() <= MOST_WARNINGS);
            prop_assert!(shown.iter().all(|warning| warning.len() <= WARNING_LENGTH));
            prop_assert!(shown.iter().map(String::len).sum::<usize>() < WARNINGS_LENGTH);
            prop_assert!(shown.iter().flat_map(|warning| warning.chars()).all(|c| !c.is_control()));
        }
    }
}

//! Why a pod doesn't start, in one line: what Kubernetes says of it, or the last that the process itself has said.

use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod, PodStatus};
use kube::ResourceExt as _;

/// Longest text of a process that is passed on, in characters.
const MOST: usize = 500;
/// What a process ends with whose `main` has failed.
const FAILED: i32 = 1;
/// And one whose `main` has panicked.
const PANICKED: i32 = 101;

/// What is wrong with a pod, if anything is. It says the same for as long as the cause is the same.
pub(super) fn trouble(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let containers = status.container_statuses.iter().flatten();
    let text = containers.filter_map(of_container).next().or_else(|| of_scheduling(status))?;
    Some(format!("pod {}: {text}", pod.name_any()))
}

fn of_container(status: &ContainerStatus) -> Option<String> {
    if status.ready {
        return None;
    }
    let (now, before) = (status.state.as_ref(), status.last_state.as_ref());
    let ended = [now, before].into_iter().flatten().find_map(|state| state.terminated.as_ref());
    if let Some(ended) = ended.filter(|ended| ended.exit_code != 0) {
        return Some(last_words(ended));
    }
    let waiting = now?.waiting.as_ref()?;
    let reason = waiting.reason.as_deref().unwrap_or_default();
    if matches!(reason, "" | "ContainerCreating" | "PodInitializing") {
        return None;
    }
    Some(joined(reason, shortened(waiting.message.as_deref().unwrap_or_default())))
}

fn of_scheduling(status: &PodStatus) -> Option<String> {
    let mut conditions = status.conditions.iter().flatten();
    let refused = conditions.find(|condition| condition.type_ == "PodScheduled" && condition.status == "False")?;
    let reason = refused.reason.as_deref().unwrap_or("Unschedulable");
    Some(joined(reason, shortened(refused.message.as_deref().unwrap_or_default())))
}

/// The error or panic that the process ended with, or how it was ended.
///
/// Where the process has left no message, Kubernetes takes the last lines of its log. They tell of clients, and the
/// Registry's status is read by others than the log: nothing else of them is passed on.
fn last_words(ended: &ContainerStateTerminated) -> String {
    let said = ended.message.as_deref().unwrap_or_default();
    let of_itself = ended.reason.as_deref() != Some("OOMKilled");
    let text = match ended.exit_code {
        FAILED if of_itself => error(said),
        PANICKED if of_itself => panic(said),
        _ => None,
    };
    let text = text.map(|text| shortened(&text)).filter(|text| !text.is_empty());
    text.unwrap_or_else(|| format!("{}, exit code {}", ended.reason.as_deref().unwrap_or("Error"), ended.exit_code))
}

/// What `main` prints when it fails.
fn error(said: &str) -> Option<String> {
    let start = said.rfind("\nError: ").map(|start| start + 1).or(said.starts_with("Error: ").then_some(0))?;
    Some(chain(&said[start + "Error: ".len()..]))
}

/// Where it was. What it says besides may contain anything.
fn panic(said: &str) -> Option<String> {
    let line = said.lines().rfind(|line| line.contains("panicked at ") && !is_of_log(line))?;
    Some(line.to_owned())
}

/// A line of the log is a JSON object.
fn is_of_log(line: &str) -> bool {
    line.starts_with('{')
}

/// An error and its causes, which are printed one on each line, numbered where there are several. Some errors name their
/// cause themselves: it is said once.
fn chain(text: &str) -> String {
    let lines = text.lines().map(str::trim).take_while(|line| !is_of_log(line));
    let lines = lines.filter(|line| !line.is_empty() && *line != "Caused by:");
    let unnumbered = lines.map(|line| match line.split_once(": ") {
        Some((number, rest)) if number.bytes().all(|byte| byte.is_ascii_digit()) => rest,
        _ => line,
    });
    unnumbered.fold(String::new(), |said, cause| match said.as_str() {
        "" => cause.to_owned(),
        said if said.contains(cause) => said.to_owned(),
        said => format!("{said}: {cause}"),
    })
}

fn joined(reason: &str, message: String) -> String {
    if message.is_empty() { reason.to_owned() } else { format!("{reason}: {message}") }
}

/// One line without control characters, and no longer than what is read.
fn shortened(text: &str) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let clean = clean.trim();
    match clean.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &clean[..end]),
        None => clean.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn pod(status: &str) -> Pod {
        serde_saphyr::from_str(&format!("metadata: {{name: main-1}}\nstatus: {status}")).unwrap()
    }

    const LOG: &str =
        r#"{level: INFO}\n{level: WARN}\nError: bucket images\n\nCaused by:\n    0: access denied\n    1: 403"#;

    #[rstest]
    #[case::serves("{state: {running: {}}, ready: true, lastState: {terminated: {exitCode: 1}}}", None)]
    #[case::starts("{state: {running: {}}}", None)]
    #[case::is_made("{state: {waiting: {reason: ContainerCreating}}}", None)]
    #[case::ended_well("{state: {terminated: {exitCode: 0}}}", None)]
    #[case::image(
        "{state: {waiting: {reason: ErrImagePull, message: not found}}}",
        Some("pod main-1: ErrImagePull: not found")
    )]
    #[case::error(
        &format!("{{state: {{terminated: {{exitCode: 1, message: \"{LOG}\"}}}}}}"),
        Some("pod main-1: bucket images: access denied: 403")
    )]
    #[case::cause_in_the_error(
        "{state: {terminated: {exitCode: 1, message: \"Error: no bucket: denied; make it\\n\\nCaused by:\\n    denied\"}}}",
        Some("pod main-1: no bucket: denied; make it")
    )]
    #[case::error_alone(
        "{state: {terminated: {exitCode: 1, message: \"Error: no conditional writes\"}}}",
        Some("pod main-1: no conditional writes")
    )]
    #[case::backs_off(
        "{state: {waiting: {reason: CrashLoopBackOff}}, lastState: {terminated: {exitCode: 1, message: \"Error: gone\\n\"}}}",
        Some("pod main-1: gone")
    )]
    #[case::starts_again(
        "{state: {running: {}}, lastState: {terminated: {exitCode: 1, message: \"Error: gone\"}}}",
        Some("pod main-1: gone")
    )]
    #[case::panicked(
        "{state: {terminated: {exitCode: 101, message: \"thread main\\npanicked at x\\n\\n\"}}}",
        Some("pod main-1: panicked at x")
    )]
    #[case::log_after_the_error(
        r#"{state: {terminated: {exitCode: 1, message: "Error: gone\n{client: 192.0.2.1}"}}}"#,
        Some("pod main-1: gone")
    )]
    #[case::no_error_but_a_log(
        r#"{state: {terminated: {exitCode: 1, reason: Error, message: "{client: 192.0.2.1, repository: team/app}\n"}}}"#,
        Some("pod main-1: Error, exit code 1")
    )]
    #[case::panicked_with_a_log(
        r#"{state: {terminated: {exitCode: 101, reason: Error, message: "{path: panicked at x}\n{client: 192.0.2.1}"}}}"#,
        Some("pod main-1: Error, exit code 101")
    )]
    #[case::killed_with_a_log(
        r#"{state: {terminated: {exitCode: 137, reason: OOMKilled, message: "Error: {client: 192.0.2.1}"}}}"#,
        Some("pod main-1: OOMKilled, exit code 137")
    )]
    #[case::out_of_memory(
        r#"{state: {terminated: {exitCode: 1, reason: OOMKilled, message: "Error: {client: 192.0.2.1}"}}}"#,
        Some("pod main-1: OOMKilled, exit code 1")
    )]
    #[case::killed(
        "{state: {terminated: {exitCode: 137, reason: OOMKilled}}}",
        Some("pod main-1: OOMKilled, exit code 137")
    )]
    fn a_container_says(#[case] status: &str, #[case] expected: Option<&str>) {
        let defaults = "name: registry, image: i, imageID: i, restartCount: 0";
        let ready = if status.contains("ready:") { "" } else { "ready: false, " };
        let status = status.replacen('{', &format!("{{{defaults}, {ready}"), 1);
        assert_eq!(trouble(&pod(&format!("{{containerStatuses: [{status}]}}"))).as_deref(), expected);
    }

    #[test]
    fn a_pod_without_a_node_says_why() {
        let status =
            "{conditions: [{type: PodScheduled, status: 'False', reason: Unschedulable, message: no node has room}]}";
        assert_eq!(trouble(&pod(status)).as_deref(), Some("pod main-1: Unschedulable: no node has room"));
        assert_eq!(trouble(&pod("{}")), None);
    }

    #[test]
    fn what_is_passed_on_is_one_short_line() {
        let ended = ContainerStateTerminated {
            exit_code: 1,
            message: Some(format!("Error: \u{1b}[31m{}", "é".repeat(5_000))),
            ..ContainerStateTerminated::default()
        };
        let text = last_words(&ended);
        assert!(text.chars().count() <= MOST + 1 && !text.contains('\u{1b}'), "{text}");
    }
}

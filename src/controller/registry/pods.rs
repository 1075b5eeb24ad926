//! Why a pod doesn't start, in one line: what Kubernetes says of it, or the last that the process itself has said.

use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod, PodStatus};
use kube::ResourceExt as _;

/// Longest text of a process that is passed on, in characters.
const MOST: usize = 500;

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

/// The error that the process ended with, or its last line, or how it was ended.
fn last_words(ended: &ContainerStateTerminated) -> String {
    let message = ended.message.as_deref().unwrap_or_default();
    let error = message.rfind("\nError: ").map(|start| start + 1).or(message.starts_with("Error: ").then_some(0));
    let text = match error {
        Some(start) => chain(&message[start + "Error: ".len()..]),
        None => message.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default().to_owned(),
    };
    let text = shortened(&text);
    if text.is_empty() {
        let reason = ended.reason.as_deref().unwrap_or("Error");
        return format!("{reason}, exit code {}", ended.exit_code);
    }
    text
}

/// An error and its causes, which are printed one on each line, numbered where there are several. Some errors name their
/// cause themselves: it is said once.
fn chain(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && *line != "Caused by:");
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

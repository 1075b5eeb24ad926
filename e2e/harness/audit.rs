//! The API server's audit log: who wrote what, also where the object stayed as it was.

use serde_json::Value;

use super::{environment, operator};

/// The operator's writes after the first `offset` bytes of the log, leader election and events aside; and the length of
/// the log. `None` where the cluster has no log for us.
pub fn writes_since(offset: usize) -> Option<(Vec<String>, usize)> {
    let path = environment::audit_log()?;
    let log = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let user = format!("system:serviceaccount:{}:landfast-operator", operator::NAMESPACE);
    // A line that is being written is not JSON yet; the next look finds it.
    let whole = log.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let lines = log[offset..whole].split(|byte| *byte == b'\n');
    let events = lines.filter_map(|line| serde_json::from_slice::<Value>(line).ok());
    let ours = events.filter(|event| event["user"]["username"] == user.as_str());
    let writes = ours.filter(|event| !matches!(event["objectRef"]["resource"].as_str(), Some("leases" | "events")));
    let shown = writes.map(|event| format!("{} {}", event["verb"], event["requestURI"]));
    Some((shown.collect(), whole))
}

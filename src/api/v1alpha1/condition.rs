//! Conditions of the standard shape (Kubernetes API conventions, "Typical status properties").

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

/// The condition types in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConditionType {
    /// The object is valid together with those that it refers to, and is part of what the registry enforces.
    Accepted,
    /// All that the object asks for is in place.
    Ready,
    /// The operator is still working towards the spec.
    Progressing,
}

impl ConditionType {
    pub const fn as_str(self) -> &'static str {
        match self {
            ConditionType::Accepted => "Accepted",
            ConditionType::Ready => "Ready",
            ConditionType::Progressing => "Progressing",
        }
    }
}

/// Makes a condition. `previous` are the conditions that the object has now: as long as the status of a condition
/// stays the same its transition time does too, otherwise each reconcile would write.
pub fn condition(
    previous: &[Condition],
    type_: ConditionType,
    status: bool,
    reason: &str,
    message: impl Into<String>,
    generation: Option<i64>,
    now: Timestamp,
) -> Condition {
    let status = if status { "True" } else { "False" };
    let unchanged = previous.iter().find(|old| old.type_ == type_.as_str() && old.status == status);
    Condition {
        type_: type_.as_str().to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: message.into(),
        observed_generation: generation,
        last_transition_time: unchanged.map_or(Time(now), |old| old.last_transition_time.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_transition_time_while_the_status_stays() {
        let (then, now) = (Timestamp::UNIX_EPOCH, Timestamp::from_second(1_000).unwrap());
        let make = |previous: &[Condition], status, time| {
            condition(previous, ConditionType::Ready, status, "Reason", "", Some(1), time)
        };
        let first = make(&[], true, then);
        assert_eq!(make(std::slice::from_ref(&first), true, now).last_transition_time, Time(then));
        assert_eq!(make(std::slice::from_ref(&first), false, now).last_transition_time, Time(now));
    }
}

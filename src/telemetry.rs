//! Logs, metrics and health: what both modes tell their operators.

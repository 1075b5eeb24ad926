//! serve mode's configuration

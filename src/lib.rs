//! landfast: container registries on Kubernetes, operator and OCI registry in one binary.
//!
//! # Modules
//! A pure core and two shells. `src/tests/imports.rs` holds the sources against this table.
//!
//! | module | what it is | may import |
//! |---|---|---|
//! | [`oci`] | digests, names, manifests: parse and print | nothing of ours |
//! | [`telemetry`] | logs, metrics, traces, health | nothing of ours |
//! | [`watch`] | following objects of the API server | nothing of ours |
//! | [`config`] | configuration of `serve` | `oci` |
//! | [`api`] | the four kinds | `oci` |
//! | [`policy`] | who may do what: pure decisions | `oci`; only `policy::compile` sees `api` |
//! | [`registry`] | the data plane | `oci`, `policy`, `config`, `telemetry`; only `registry::snapshots` sees `api`, `watch` and kube |
//! | [`controller`] | the operator | `oci`, `api`, `policy`, `config`, `telemetry`, `watch`; never `registry` |
//! | `cli` | the modes: wiring only | all |
//!
//! # One push
//! A client's first request gets a 401 whose challenge names `/token` ([`registry::auth`]). There it shows its
//! credential, a signed token that names a Member by UID ([`policy::CredentialClaims`]), or the password of a user
//! ([`policy::Users`]), and gets a short token for the part
//! of the scopes asked for that [`policy::authorize`] allows. From then on each request is parsed once into a
//! [`registry::http::Route`], its operation is authorized against the [`policy::Snapshot`] in force (the token is
//! only an upper bound), and a handler runs. A blob streams into a staged object while it is hashed, is published
//! under its digest, and is linked into its repository. The manifest comes last: what it refers to must be there; it is
//! stored, then what refers to it, and at the very end its tag ([`registry::content`]). Each of these is durable before
//! the client hears of it.
//!
//! # One pull by a pod
//! The kubelet takes the pod's `imagePullSecrets`, among them the Secret that the operator put into the namespace and into
//! its ServiceAccount, and does the same dance with it. The credential in it names a Project by UID.
//!
//! # One reconcile
//! A change arrives in `controller::world`, which updates its store and then enqueues what the change concerns. The
//! queue runs the kind's reconcile: it gathers from the world, compiles the policy with the very code that the
//! registry runs ([`policy::compile`]), builds objects (pure), applies them server-side where they differ, and
//! writes a status that says what came out.
//!
//! # One change of an object
//! Before the API server stores what somebody does to an object of ours, it asks a replica of the operator, any of them
//! ([`controller::admission`]). The review is parsed once, judged against the policy as it is and as it would be, and
//! answered: yes, no and why, and what one should know. Then the reconcile above begins.
//!
//! # One policy change
//! `serve --kube` follows the same objects ([`registry::snapshots`]), compiles them, and swaps the snapshot. Nothing restarts.
//!
//! # One question
//! `landfast access` compiles the same objects and asks [`policy::access`] who may what, and what another policy would
//! change. It decides nothing: it tells what [`policy::authorize`] decides with.

pub mod api;
pub mod config;
pub mod controller;
pub mod oci;
pub mod policy;
pub mod registry;
pub mod telemetry;
pub mod watch;

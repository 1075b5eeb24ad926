//! The distribution specification over HTTP: from a request to [`Content`] and back.
//!
//! # Flow
//! [`server`] accepts connections; [`dispatch`] takes each request through the same steps: parse it once into a
//! [`Route`], find out who is asking, decide on the route's operation, and only then hand it to one of the handlers.
//! A handler parses no URL and decides about no permission (but for the source of a mount, where a refusal is no
//! error). Whatever goes wrong becomes a response in [`error`], and nowhere else.
//!
//! [`forwarded`], [`range`] and [`route`] parse what strangers write; they are public for the fuzz targets in `src/fuzz`.

mod activity;
mod audit;
mod blobs;
mod body;
mod catalog;
mod catalog_cursor;
mod dispatch;
mod error;
mod farewell;
pub mod forwarded;
mod guarded;
mod manifests;
mod metrics;
mod origin;
mod pace;
mod percent;
pub mod range;
mod record;
mod redirect;
mod referrers;
mod repositories;
mod respond;
pub mod route;
pub mod server;
mod tags;
pub mod tls;
mod tokens;
mod upload_ids;
mod uploads;

use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;

pub use self::dispatch::router;
pub use self::farewell::Farewell;
pub use self::metrics::HttpMetrics;
pub use self::origin::{Connection, Scheme};
pub use self::route::Route;
pub use self::server::{Bounds, serve};
pub use self::tls::{CertificateFiles, TlsError};
use super::auth::{Issuers, Live, TokenReviewer};
use super::content::Content;
use crate::config::{Limits, Proxies};
use crate::telemetry::Traces;

/// Tells the time.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// What the registry's HTTP side is made of.
#[derive(Clone)]
pub struct App {
    pub content: Content,
    pub live: Arc<Live>,
    pub metrics: HttpMetrics,
    pub clock: Clock,
    /// Who may say where a request came from.
    pub proxies: Proxies,
    pub limits: Arc<Limits>,
    /// Where requests get their spans from.
    pub traces: Traces,
    /// OpenID Connect issuers, with their keys.
    pub issuers: Arc<Issuers>,
    /// Who is asked about tokens of ServiceAccounts. Without one none can log in.
    pub reviewer: Option<Arc<dyn TokenReviewer>>,
}

impl App {
    /// With the system's clock and the default limits, without proxies, traces and a cluster.
    pub fn new(content: Content, live: Arc<Live>, metrics: HttpMetrics) -> Self {
        let (clock, proxies, traces) = (Arc::new(Timestamp::now), Proxies::default(), Traces::default());
        let (limits, issuers, reviewer) = (Arc::default(), Arc::default(), None);
        Self { content, live, metrics, clock, proxies, limits, traces, issuers, reviewer }
    }
}

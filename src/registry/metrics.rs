//! What is looked up when somebody reads the metrics: the policy in force, the password file, the keys of issuers, and the
//! certificate.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use super::auth::{Issuers, Live};
use super::http::CertificateFiles;
use crate::telemetry::Metrics;

#[derive(Debug)]
struct Observed {
    live: Arc<Live>,
    issuers: Arc<Issuers>,
    certificate: Option<Arc<CertificateFiles>>,
}

/// Has the policy, and the password file, issuers and the certificate if there are any, shown with the other metrics.
pub fn observe(metrics: &Metrics, live: Arc<Live>, issuers: Arc<Issuers>, certificate: Option<Arc<CertificateFiles>>) {
    let observed = Observed { live, issuers, certificate };
    metrics.register(|registry| registry.register_collector(Box::new(observed)));
}

impl Collector for Observed {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let mut show = |name, help, value: i64| {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
        };
        show("policy_revision", "How often a policy has been put in force.", self.live.revision().cast_signed())?;
        show(
            "policy_problems",
            "Objects that the policy leaves out because of a mistake in them.",
            self.live.problems(),
        )?;
        if let Some(time) = self.live.published_at() {
            let help = "When the policy was last put in force, in seconds since the epoch.";
            show("policy_change_timestamp_seconds", help, time)?;
        }
        if let Some(is_usable) = self.live.password_file() {
            let help = "Whether the password file is in force: 0 while it is missing, or while its users stay as they were because of a mistake in it.";
            show("password_file_usable", help, is_usable.into())?;
        }
        if let Some(time) = self.certificate.as_ref().and_then(|certificate| certificate.not_after()) {
            let help = "When the certificate that is served ends, in seconds since the epoch.";
            show("certificate_expiry_timestamp_seconds", help, time)?;
        }
        self.show_issuers(encoder)
    }
}

impl Observed {
    fn show_issuers(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(published) = self.live.current() else { return Ok(()) };
        let issuers = published.snapshot.registry.providers.issuers().iter();
        let tried = issuers.filter_map(|issuer| Some((&issuer.name, self.issuers.is_usable(issuer)?)));
        let mut tried = tried.peekable();
        if tried.peek().is_none() {
            return Ok(());
        }
        let help = "Whether the keys of an OpenID Connect issuer could be fetched the last time: while it is 0, tokens by keys that are known are taken for an hour at most.";
        let mut family = encoder.encode_descriptor("oidc_issuer_usable", help, None, MetricType::Gauge)?;
        for (name, is_usable) in tried {
            let gauge = ConstGauge::new(i64::from(is_usable));
            gauge.encode(family.encode_family(&[("issuer", name.as_str())])?)?;
        }
        Ok(())
    }
}

//! Client certificates: which authorities count, and whom a certificate stands for.
//!
//! # Flow
//! Where the policy names authorities, the handshake asks for a certificate and demands none
//! ([`Authorities::handshake_verifier`]). It makes sure that the client holds the key, and lets the connection be: whom the
//! certificate stands for is decided for each request that shows no other credential, by the policy and the time of that
//! moment. So there is one place that judges, whoever is refused reads why, and that a certificate was once good is worth
//! nothing: neither on a connection that is kept, nor in a TLS session that is resumed.
//!
//! # Guarantees
//! - A certificate stands for somebody only if an authority in force has signed it, it is within its time, says that it is
//!   for client authentication, and names exactly one user.
//! - What is remembered of a verdict ends with the authorities that it was made by, and after a minute.
//! - A chain that is kept has at most 16 KiB and [`MAX_INTERMEDIATES`] intermediates; with a longer one there is no
//!   connection. Which path leads to an authority is sought among all orders of the intermediates, so each more would
//!   multiply the work that anybody can cause.
//! - Of one connection one verdict is computed at a time.
//! - A connection whose certificate has been refused ends with the request, so that its client may come with another one.

use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::jiff::Timestamp;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};
use tokio_util::sync::CancellationToken;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::external::useful;
use super::{AuthError, Caller, Published};
use crate::policy::{Group, Identity, Provider, Providers, User, UserError, trust_anchors};

/// Bytes of a chain. It is kept as long as its connection, and anybody can show one.
const MAX_CHAIN: usize = 16 * 1024;
/// Certificates between a client's own and the authority.
const MAX_INTERMEDIATES: usize = 4;
/// Seconds after which a certificate is verified again: what has signed it may have expired.
const VERDICT_LIFE: i64 = 60;

/// Why a certificate stands for nobody. The texts are for the client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateRefusal {
    #[error("the registry takes none at present")]
    NotTaken,
    #[error("it is not signed by an authority that the registry trusts for logins")]
    Untrusted,
    #[error("it has expired, or an authority's between it and the trusted one has")]
    Expired,
    #[error("it is not valid yet")]
    NotYetValid,
    #[error("its extended key usage does not name client authentication")]
    Usage,
    #[error("it can't be read")]
    Malformed,
    #[error("its subject has {count} common names; it must have exactly one, the name of the user")]
    CommonNames { count: usize },
    #[error("its common name, or an organization, is no text")]
    NoText,
    #[error("its subject can't be used: {0}")]
    Name(#[from] UserError),
}

/// The authorities that a policy names.
#[derive(Debug)]
pub struct Authorities {
    /// Stands for them ([`Providers::stamp`]).
    stamp: String,
    /// Nothing if they can't be read: then nobody gets in by a certificate.
    verifier: Option<Arc<dyn ClientCertVerifier>>,
}

impl Authorities {
    /// Those of a policy. They are taken over from the policy before as long as they are the same.
    pub(super) fn of(providers: &Providers, before: Option<&Arc<Self>>) -> Option<Arc<Self>> {
        let certificates = providers.client_certificates()?;
        let stamp = providers.stamp(&Provider::Certificate)?;
        if let Some(same) = before.filter(|before| before.stamp == stamp) {
            return Some(Arc::clone(same));
        }
        let verifier = verifier(&certificates.certificate_authority)
            .inspect_err(|error| {
                tracing::error!(
                    error,
                    "authentication.clientCertificates.certificateAuthority can't be used; nobody can log in with a certificate"
                );
            })
            .ok();
        Some(Arc::new(Self { stamp: stamp.to_owned(), verifier }))
    }

    /// What asks for certificates in a handshake. Nothing if there are no authorities whose certificates a client could
    /// look for.
    pub fn handshake_verifier(&self) -> Option<Arc<dyn ClientCertVerifier>> {
        let verifier = Arc::clone(self.verifier.as_ref()?);
        Some(Arc::new(HoldsTheKey(verifier)))
    }

    fn judge(&self, chain: &[CertificateDer<'_>], now: Timestamp) -> Result<Holder, CertificateRefusal> {
        let verifier = self.verifier.as_ref().ok_or(CertificateRefusal::NotTaken)?;
        let (own, intermediates) = chain.split_first().ok_or(CertificateRefusal::Malformed)?;
        let time = std::time::Duration::from_secs(u64::try_from(now.as_second()).unwrap_or(0));
        verifier.verify_client_cert(own, intermediates, UnixTime::since_unix_epoch(time)).map_err(refusal)?;
        Holder::read(own)
    }
}

fn verifier(pem: &str) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let anchors = trust_anchors(pem).map_err(|error| error.to_string())?;
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(anchors), Arc::new(default_provider()));
    builder.allow_unauthenticated().build().map(|verifier| verifier as _).map_err(|error| error.to_string())
}

fn refusal(error: rustls::Error) -> CertificateRefusal {
    let rustls::Error::InvalidCertificate(error) = error else { return CertificateRefusal::Untrusted };
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => CertificateRefusal::Expired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => CertificateRefusal::NotYetValid,
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => CertificateRefusal::Usage,
        CertificateError::BadEncoding => CertificateRefusal::Malformed,
        _ => CertificateRefusal::Untrusted,
    }
}

/// In a handshake: takes any certificate whose key the client holds, and tells which authorities' it should be.
#[derive(Debug)]
struct HoldsTheKey(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for HoldsTheKey {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    /// It is judged when something is asked for with it ([`ClientCertificate::caller`]).
    fn verify_client_cert(
        &self,
        own: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let length = intermediates.iter().fold(own.len(), |sum, certificate| sum.saturating_add(certificate.len()));
        if length > MAX_CHAIN || intermediates.len() > MAX_INTERMEDIATES {
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// Whom a certificate stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Holder {
    user: User,
    groups: Vec<Group>,
    /// The last second in which the certificate is valid, since the epoch.
    not_after: i64,
}

impl Holder {
    fn read(certificate: &CertificateDer<'_>) -> Result<Self, CertificateRefusal> {
        let malformed = |_| CertificateRefusal::Malformed;
        let (_, parsed) = X509Certificate::from_der(certificate).map_err(malformed)?;
        // What has verified the chain lets a certificate pass that says nothing of its use.
        let usage = parsed.extended_key_usage().map_err(|_| CertificateRefusal::Malformed)?;
        if !usage.is_some_and(|usage| usage.value.client_auth) {
            return Err(CertificateRefusal::Usage);
        }
        let subject = parsed.subject();
        let text = |attribute: &x509_parser::x509::AttributeTypeAndValue<'_>| {
            attribute.as_str().map(str::to_owned).map_err(|_| CertificateRefusal::NoText)
        };
        let names = subject.iter_common_name().map(text).collect::<Result<Vec<_>, _>>()?;
        let [name] = &names[..] else { return Err(CertificateRefusal::CommonNames { count: names.len() }) };
        let mut groups: Vec<Group> = Vec::new();
        for organization in subject.iter_organization() {
            let group = Group::of(Provider::Certificate, &text(organization)?)?;
            if !groups.contains(&group) {
                groups.push(group);
            }
        }
        let user = User::of(Provider::Certificate, name)?;
        Ok(Self { user, groups, not_after: parsed.validity().not_after.timestamp() })
    }
}

/// The certificate that a client has shown on one connection, for whose key it has shown that it holds it.
#[derive(Debug)]
pub struct ClientCertificate {
    /// Its own first.
    chain: Vec<CertificateDer<'static>>,
    judged: Mutex<Option<Arc<Judged>>>,
    ending: CancellationToken,
}

#[derive(Debug)]
struct Judged {
    stamp: String,
    at: i64,
    verdict: Result<Holder, CertificateRefusal>,
}

impl ClientCertificate {
    /// `ending` is cancelled once the connection is to end.
    pub fn new(chain: &[CertificateDer<'_>], ending: CancellationToken) -> Self {
        let chain = chain.iter().map(|certificate| certificate.clone().into_owned()).collect();
        Self { chain, judged: Mutex::default(), ending }
    }

    /// Whom it stands for now. Of the groups only those that are named in the policy.
    ///
    /// Errors: [`AuthError::Certificate`], with which the connection is to end.
    pub fn caller(&self, published: &Published, now: Timestamp) -> Result<Caller, AuthError> {
        self.known(published, now).map_err(|refusal| {
            self.ending.cancel();
            AuthError::Certificate(refusal)
        })
    }

    fn known(&self, published: &Published, now: Timestamp) -> Result<Caller, CertificateRefusal> {
        let authorities = published.authorities().ok_or(CertificateRefusal::NotTaken)?;
        let judged = self.judged(authorities, now);
        let Holder { user, groups, not_after } = judged.verdict.as_ref().map_err(Clone::clone)?;
        if now.as_second() > *not_after {
            return Err(CertificateRefusal::Expired);
        }
        let told = groups.iter().map(|group| group.name.as_str());
        let known = useful(&Provider::Certificate, told, |group| published.snapshot.groups.contains_key(group));
        let identity = Identity::of(user.clone(), known);
        Ok(Caller::Known { identity, expires: Some(*not_after), stamp: Some(authorities.stamp.clone()) })
    }

    fn judged(&self, authorities: &Authorities, now: Timestamp) -> Arc<Judged> {
        let at = now.as_second();
        let holds = |judged: &Arc<Judged>| {
            judged.stamp == authorities.stamp && (judged.at..judged.at + VERDICT_LIFE).contains(&at)
        };
        // Held during the work: other requests on the connection need the same verdict.
        let mut known = self.judged.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(judged) = known.as_ref().filter(|judged| holds(judged)) {
            return Arc::clone(judged);
        }
        let verdict = authorities.judge(&self.chain, now);
        let judged = Arc::new(Judged { stamp: authorities.stamp.clone(), at, verdict });
        *known = Some(Arc::clone(&judged));
        judged
    }

    /// What it calls itself, whether that is true or not: for audits of refused logins.
    pub fn claimed_name(&self) -> Option<String> {
        let (_, parsed) = X509Certificate::from_der(self.chain.first()?).ok()?;
        parsed.subject().iter_common_name().next()?.as_str().ok().map(str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Counts what it is asked.
    #[derive(Debug, Default)]
    struct Counting(AtomicUsize);

    impl ClientCertVerifier for Counting {
        fn root_hint_subjects(&self) -> &[DistinguishedName] {
            &[]
        }

        fn verify_client_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: UnixTime,
        ) -> Result<ClientCertVerified, rustls::Error> {
            self.0.fetch_add(1, Ordering::Relaxed);
            // Others have time to come.
            (0..1000).for_each(|_| std::thread::yield_now());
            Err(CertificateError::UnknownIssuer.into())
        }

        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            Err(rustls::Error::HandshakeNotComplete)
        }

        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            Err(rustls::Error::HandshakeNotComplete)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            Vec::new()
        }
    }

    #[test]
    fn of_many_requests_on_a_connection_one_computes_the_verdict() {
        let counting = Arc::new(Counting::default());
        let authorities = Authorities { stamp: "s".to_owned(), verifier: Some(Arc::clone(&counting) as _) };
        let certificate = ClientCertificate::new(&[CertificateDer::from(vec![0])], CancellationToken::new());
        let start = Barrier::new(8);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    start.wait();
                    let judged = certificate.judged(&authorities, Timestamp::UNIX_EPOCH);
                    assert_eq!(judged.verdict, Err(CertificateRefusal::Untrusted));
                });
            }
        });
        assert_eq!(counting.0.load(Ordering::Relaxed), 1);
    }
}

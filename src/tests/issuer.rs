//! An OpenID Connect issuer over TLS, which publishes a configuration and keys and does whatever a test wants.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer as Signer, KeyPair};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

const CONFIGURATION: &str = "/.well-known/openid-configuration";
const KEYS: &str = "/keys";

/// A key that tokens are signed with.
#[derive(Clone)]
pub struct Key {
    pub id: String,
    pub algorithm: Algorithm,
    encoding: EncodingKey,
    /// The public half, in two forms.
    pub pem: String,
    pub jwk: Value,
}

impl Key {
    pub fn new(id: &str, algorithm: Algorithm) -> Self {
        let pair = match algorithm {
            Algorithm::ES256 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
            Algorithm::ES384 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384),
            Algorithm::EdDSA => KeyPair::generate_for(&rcgen::PKCS_ED25519),
            _ => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048),
        }
        .unwrap();
        let pem = pair.serialize_pem();
        let encoding = match algorithm {
            Algorithm::ES256 | Algorithm::ES384 => EncodingKey::from_ec_pem(pem.as_bytes()),
            Algorithm::EdDSA => EncodingKey::from_ed_pem(pem.as_bytes()),
            _ => EncodingKey::from_rsa_pem(pem.as_bytes()),
        }
        .unwrap();
        let mut jwk = match algorithm {
            Algorithm::EdDSA => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode(pair.public_key_raw())})
            }
            _ => serde_json::to_value(Jwk::from_encoding_key(&encoding, algorithm).unwrap()).unwrap(),
        };
        jwk["kid"] = json!(id);
        jwk["use"] = json!("sig");
        Self { id: id.to_owned(), algorithm, encoding, pem: pair.public_key_pem(), jwk }
    }

    pub fn sign(&self, claims: &Value) -> String {
        self.sign_with(|_| {}, claims)
    }

    /// With another header than is usual.
    pub fn sign_with(&self, change: impl FnOnce(&mut Header), claims: &Value) -> String {
        let mut header = Header::new(self.algorithm);
        header.kid = Some(self.id.clone());
        change(&mut header);
        jsonwebtoken::encode(&header, claims, &self.encoding).unwrap()
    }
}

/// A server that is an issuer. It ends with this value.
pub struct Issuer {
    pub url: String,
    /// Who has signed its certificate, in PEM.
    pub authority: String,
    address: SocketAddr,
    acceptor: TlsAcceptor,
    pages: Arc<Pages>,
    running: Mutex<Option<JoinHandle<()>>>,
}

struct Pages {
    /// By their paths.
    pages: Mutex<HashMap<String, Page>>,
    fetched: AtomicUsize,
}

#[derive(Clone)]
struct Page {
    status: u16,
    location: Option<String>,
    content: Vec<u8>,
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Issuer {
    /// Starts one that publishes these keys, on a free port of this address.
    pub async fn start(address: &str, keys: &[&Key]) -> Self {
        // Already installed by another test: the same one.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let listener = TcpListener::bind((address, 0)).await.unwrap();
        let bound = listener.local_addr().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority_key = KeyPair::generate().unwrap();
        let authority = params.self_signed(&authority_key).unwrap().pem();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![address.to_owned()])
            .unwrap()
            .signed_by(&key, &Signer::from_params(&params, &authority_key))
            .unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let issuer = Self {
            url: format!("https://{bound}"),
            authority,
            address: bound,
            acceptor: TlsAcceptor::from(Arc::new(config)),
            pages: Arc::new(Pages { pages: Mutex::default(), fetched: AtomicUsize::new(0) }),
            running: Mutex::default(),
        };
        issuer.publish(keys);
        let configuration = json!({"issuer": issuer.url, "jwks_uri": format!("{}{KEYS}", issuer.url)});
        issuer.answer(CONFIGURATION, 200, configuration.to_string());
        issuer.serve(listener);
        issuer
    }

    /// Replaces its keys.
    pub fn publish(&self, keys: &[&Key]) {
        let keys: Vec<_> = keys.iter().map(|key| &key.jwk).collect();
        self.answer(KEYS, 200, json!({"keys": keys}).to_string());
    }

    /// Publishes anything as its keys.
    pub fn publish_content(&self, content: impl Into<Vec<u8>>) {
        self.answer(KEYS, 200, content);
    }

    /// Replaces its configuration.
    pub fn configure(&self, configuration: &Value) {
        self.answer(CONFIGURATION, 200, configuration.to_string());
    }

    /// Sends those who want its keys elsewhere.
    pub fn redirect_keys(&self, location: &str) {
        let page = Page { status: 302, location: Some(location.to_owned()), content: Vec::new() };
        self.pages.pages.lock().unwrap().insert(KEYS.to_owned(), page);
    }

    pub fn answer(&self, path: &str, status: u16, content: impl Into<Vec<u8>>) {
        let page = Page { status, location: None, content: content.into() };
        self.pages.pages.lock().unwrap().insert(path.to_owned(), page);
    }

    /// How often somebody has fetched its keys.
    pub fn fetched(&self) -> usize {
        self.pages.fetched.load(Ordering::Relaxed)
    }

    /// Nobody reaches it any more.
    pub fn stop(&self) {
        if let Some(running) = self.running.lock().unwrap().take() {
            running.abort();
        }
    }

    /// Comes back after [`Issuer::stop`].
    pub async fn resume(&self) {
        // The listener goes with its task, which ends a moment later.
        let listener = loop {
            match TcpListener::bind(self.address).await {
                Ok(listener) => break listener,
                Err(_) => tokio::task::yield_now().await,
            }
        };
        self.serve(listener);
    }

    fn serve(&self, listener: TcpListener) {
        let (acceptor, pages) = (self.acceptor.clone(), Arc::clone(&self.pages));
        let accept = async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                let (acceptor, pages) = (acceptor.clone(), Arc::clone(&pages));
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = service_fn(|request| {
                        let response = pages.respond(&request);
                        async move { Ok::<_, Infallible>(response) }
                    });
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        };
        *self.running.lock().unwrap() = Some(tokio::spawn(accept));
    }
}

impl Pages {
    fn respond<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        let path = request.uri().path();
        self.fetched.fetch_add(usize::from(path == KEYS), Ordering::Relaxed);
        let page = self.pages.lock().unwrap().get(path).cloned();
        let missing = Page { status: 404, location: None, content: Vec::new() };
        let Page { mut status, location, content } = page.unwrap_or(missing);
        // As Kubernetes' API server does.
        let accepted = request.headers().get("accept").is_some_and(|types| types == "*/*");
        if path == KEYS && !accepted {
            status = 406;
        }
        let mut response = Response::builder().status(status);
        if let Some(location) = location {
            response = response.header("location", location);
        }
        response.body(Full::new(content.into())).unwrap()
    }
}

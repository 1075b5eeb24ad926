//! Tests of the plans. Clients are played by rustls' own verifier, with the clock moved by hand.

use std::sync::Arc;

use rstest::rstest;
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::pair::Certificate;
use super::*;
use crate::api::v1alpha1::Registry;

const DAY: SignedDuration = SignedDuration::from_hours(24);

fn start() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn after(days: i32) -> Timestamp {
    start() + DAY * days
}

fn registry() -> Registry {
    serde_saphyr::from_str(
        "{metadata: {name: main, namespace: team}, spec: {hostnames: ['registry.example.com:8443', '192.0.2.7:5000'], storage: {emptyDir: {}}}}",
    )
    .unwrap()
}

fn names() -> Names {
    wanted_names(&registry(), Some("10.96.0.9"))
}

fn authority(existing: Option<&SecretData>, now: Timestamp) -> Planned<Authority> {
    Authority::plan("team/main", existing, now).unwrap()
}

fn serving(existing: Option<&SecretData>, authority: &Authority, now: Timestamp) -> Planned<Serving> {
    Serving::plan(existing, authority, &names(), now).unwrap()
}

/// Whether a client that trusts `bundle` accepts what is served under `host`.
fn accepts(bundle: &[u8], served: &SecretData, host: &str, now: Timestamp) -> Result<(), rustls::Error> {
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(bundle) {
        roots.add(root.unwrap())?;
    }
    let provider = Arc::new(default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&served["tls.crt"].0).map(Result::unwrap).collect();
    let now = UnixTime::since_unix_epoch(Duration::from_secs(now.as_second().try_into().unwrap()));
    let host = ServerName::try_from(host).unwrap();
    verifier.verify_server_cert(&chain[0], &chain[1..], &host, &[], now).map(drop)
}

#[test]
fn a_fresh_certificate_is_valid_under_every_name() {
    let authority = authority(None, start());
    let served = serving(None, &authority.value, start());
    assert!(authority.changed && served.changed && authority.notes.is_empty() && served.notes.is_empty());
    assert_eq!(served.value.issued, Some(Reason::Missing));
    let data = served.value.data();
    let slow_clock = start() - SignedDuration::from_mins(59);
    for host in [
        "registry.example.com",
        "192.0.2.7",
        "main.team",
        "main.team.svc",
        "main.team.svc.cluster.local",
        "localhost",
        "127.0.0.1",
        "10.96.0.9",
    ] {
        for now in [slow_clock, start(), after(89)] {
            accepts(&data["ca.crt"].0, &data, host, now).unwrap_or_else(|error| panic!("{host}: {error}"));
        }
    }
    assert!(accepts(&data["ca.crt"].0, &data, "example.com", start()).is_err());
    assert!(accepts(&data["ca.crt"].0, &data, "localhost", after(91)).is_err());
    assert!(inspect(&data).is_ok());
}

#[test]
fn nothing_due_writes_nothing() {
    let first = authority(None, start()).value;
    let served = serving(None, &first, start()).value;
    let again = authority(Some(&first.data()), after(59));
    let served_again = serving(Some(&served.data()), &again.value, after(59));
    assert!(!again.changed && !served_again.changed);
    assert_eq!((again.value.data(), served_again.value.data()), (first.data(), served.data()));
    assert_eq!(served_again.value.issued, None);
}

#[test]
fn foreign_keys_of_a_secret_are_left_alone() {
    let first = authority(None, start()).value;
    let mut data = first.data();
    data.insert("note".to_owned(), bytes("somebody else's"));
    assert!(!authority(Some(&data), start()).changed);
}

#[test]
fn a_serving_certificate_is_renewed_when_two_thirds_are_over() {
    let authority = authority(None, start()).value;
    let first = serving(None, &authority, start()).value;
    assert_eq!((first.renew_at(), first.not_after()), (after(60), after(90)));
    let before = serving(Some(&first.data()), &authority, after(60) - SignedDuration::from_secs(1));
    assert!(!before.changed);
    let renewed = serving(Some(&first.data()), &authority, after(60));
    assert_eq!((renewed.value.issued, renewed.value.not_after()), (Some(Reason::Due), after(150)));
    assert_ne!(renewed.value.data()["tls.key"], first.data()["tls.key"], "a new key each time");
}

#[test]
fn other_names_need_another_certificate() {
    let authority = authority(None, start()).value;
    let first = serving(None, &authority, start()).value;
    let moved = wanted_names(&registry(), Some("10.96.0.10"));
    let plan = Serving::plan(Some(&first.data()), &authority, &moved, start()).unwrap();
    assert_eq!((plan.value.issued, plan.changed), (Some(Reason::Names), true));
    let headless = wanted_names(&registry(), Some("None"));
    assert_eq!(headless, wanted_names(&registry(), None));
}

#[test]
fn a_name_that_fits_no_certificate_is_an_error() {
    let authority = authority(None, start()).value;
    let names = Names { dns: ["bücher".to_owned()].into(), ..Names::default() };
    let error = Serving::plan(None, &authority, &names, start()).unwrap_err();
    assert!(error.to_string().contains("bücher"), "{error}");
}

#[test]
fn another_authority_needs_another_certificate() {
    let (mine, other) = (authority(None, start()).value, authority(None, start()).value);
    let served = serving(None, &other, start()).value;
    assert_eq!(serving(Some(&served.data()), &mine, start()).value.issued, Some(Reason::Authority));
}

#[rstest]
#[case::empty("tls.crt", Some(""))]
#[case::text("tls.crt", Some("hello"))]
#[case::not_der("tls.crt", Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))]
#[case::no_certificate("tls.crt", None)]
#[case::bad_key("tls.key", Some("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"))]
#[case::no_key("tls.key", None)]
fn what_is_corrupt_is_made_anew_and_said(#[case] key: &str, #[case] value: Option<&str>) {
    let first = authority(None, start()).value;
    let served = serving(None, &first, start()).value;
    let spoil = |mut data: SecretData| {
        match value {
            Some(value) => drop(data.insert(key.to_owned(), bytes(value))),
            None => drop(data.remove(key)),
        }
        data
    };
    let healed = serving(Some(&spoil(served.data())), &first, start());
    assert_eq!((healed.value.issued, healed.notes.len()), (Some(Reason::Unreadable), 1));
    let healed = authority(Some(&spoil(first.data())), start());
    assert!(healed.changed && healed.notes.len() == 1, "{:?}", healed.notes);
    let steady = authority(Some(&healed.value.data()), start());
    assert!(!steady.changed && steady.notes.is_empty());
}

#[test]
fn a_key_of_another_certificate_is_noticed() {
    let (mine, other) = (authority(None, start()).value, authority(None, start()).value);
    let mut data = mine.data();
    data.insert("tls.key".to_owned(), other.data()["tls.key"].clone());
    let healed = authority(Some(&data), start());
    assert!(healed.notes[0].contains("belong together"), "{:?}", healed.notes);
    let served = serving(None, &mine, start()).value.data();
    let bundle = healed.value.bundle();
    accepts(bundle.as_bytes(), &served, "localhost", start()).expect("what is still served stays trusted");
}

#[test]
fn a_serving_certificate_is_no_authority() {
    let first = authority(None, start()).value;
    let healed = authority(Some(&serving(None, &first, start()).value.data()), start());
    assert!(healed.notes[0].contains("not one of an authority"), "{:?}", healed.notes);
}

#[test]
fn a_corrupt_authority_is_replaced_by_the_next_one() {
    let old = authority(Some(&authority(None, start()).value.data()), after(7 * 365)).value;
    let mut data = old.data();
    data.insert("tls.key".to_owned(), bytes("gone"));
    let healed = authority(Some(&data), after(7 * 365)).value;
    assert_eq!(healed.data()["tls.crt"], old.data()["next.crt"]);
    let served = serving(None, &healed, after(7 * 365)).value.data();
    accepts(old.bundle().as_bytes(), &served, "localhost", after(7 * 365)).unwrap();
}

#[test]
fn an_authority_that_was_never_published_does_not_sign_at_once() {
    let old = authority(None, start()).value;
    let late = after(9 * 365);
    let woken = authority(Some(&old.data()), late).value;
    assert_eq!(woken.data()["tls.crt"], old.data()["tls.crt"]);
    assert_eq!(woken.due_at(), late + PUBLICATION);
    let taken = authority(Some(&woken.data()), woken.due_at()).value;
    assert_eq!(taken.data()["tls.crt"], woken.data()["next.crt"]);
}

#[test]
fn names_of_authorities_differ_and_are_not_too_long() {
    let common_name = format!("{}/{}", "n".repeat(63), "r".repeat(50));
    let issue = || Authority::plan(&common_name, None, start()).unwrap().value;
    let (first, second) = (issue(), issue());
    let served = serving(None, &first, start()).value.data();
    accepts(first.bundle().as_bytes(), &served, "localhost", start()).unwrap();
    assert!(!Certificate::from_pem(&served["tls.crt"]).unwrap().is_signed_by(second.certificate()));
}

#[test]
fn who_read_the_bundle_a_step_ago_trusts_what_is_served_now() {
    let (mut stored, mut served) = (None::<SecretData>, None::<SecretData>);
    let (mut bundle_before, mut authorities) = (None::<ByteString>, vec![]);
    for month in 0..(25 * 12) {
        let now = after(30 * month);
        let plan = authority(stored.as_ref(), now);
        assert!(plan.value.due_at() > now, "month {month}");
        let leaf = serving(served.as_ref(), &plan.value, now).value.data();
        if let Some(bundle) = &bundle_before {
            accepts(&bundle.0, &leaf, "main.team.svc", now).unwrap_or_else(|error| panic!("month {month}: {error}"));
            // Pods that haven't taken up the new certificate yet, and clients that have read the new bundle.
            let old = served.as_ref().unwrap();
            accepts(&leaf["ca.crt"].0, old, "main.team.svc", now).unwrap_or_else(|error| panic!("{month}: {error}"));
        }
        let current = plan.value.data()["tls.crt"].clone();
        if authorities.last().is_none_or(|(_, last)| *last != current) {
            authorities.push((month, current));
        }
        bundle_before = Some(leaf["ca.crt"].clone());
        (stored, served) = (Some(plan.value.data()), Some(leaf));
    }
    let months: Vec<i32> = authorities.iter().map(|(month, _)| *month).collect();
    // Each next one is born in the month after 2/3 of 3650 days and takes over in the one after 5/6.
    assert_eq!(months, [0, 102, 184, 266]);
    assert!(!stored.unwrap().contains_key("previous.crt"), "an expired authority is dropped");
}

#[test]
fn private_keys_never_show_in_debug_output() {
    let first = authority(None, start()).value;
    let served = serving(None, &first, start()).value;
    let debug = format!("{first:?} {served:?}");
    assert!(!debug.contains("PRIVATE") && debug.contains("main.team.svc"), "{debug}");
}

#[rstest]
#[case::no_certificate("tls.crt", None, CertificateProblem::Missing { key: "tls.crt" })]
#[case::empty_key("tls.key", Some(""), CertificateProblem::Missing { key: "tls.key" })]
#[case::text("tls.crt", Some("hello"), CertificateProblem::Certificate)]
#[case::not_der(
    "tls.crt",
    Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
    CertificateProblem::Certificate
)]
#[case::bad_key(
    "tls.key",
    Some("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"),
    CertificateProblem::Key
)]
#[case::bad_bundle("ca.crt", Some("hello"), CertificateProblem::Bundle)]
fn a_provided_certificate_that_cannot_work_is_refused(
    #[case] key: &str,
    #[case] value: Option<&str>,
    #[case] expected: CertificateProblem,
) {
    let first = authority(None, start()).value;
    let mut data = serving(None, &first, start()).value.data();
    match value {
        Some(value) => drop(data.insert(key.to_owned(), bytes(value))),
        None => drop(data.remove(key)),
    }
    assert_eq!(inspect(&data), Err(expected));
}

#[test]
fn a_provided_certificate_must_fit_its_key() {
    let first = authority(None, start()).value;
    let mut data = serving(None, &first, start()).value.data();
    let provided = inspect(&data).unwrap();
    assert_eq!((provided.not_after, provided.ca_bundle), (after(90), Some(first.bundle())));
    data.remove("ca.crt");
    assert_eq!(inspect(&data).unwrap().ca_bundle, None);
    data.insert("tls.key".to_owned(), serving(None, &first, start()).value.data()["tls.key"].clone());
    assert_eq!(inspect(&data), Err(CertificateProblem::Mismatch));
}

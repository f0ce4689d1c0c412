//! Certificates that libpq accepts and webpki doesn't look at: those that PostgreSQL's own documentation makes.
//!
//! - `openssl req -x509` marks its certificate as an authority's, and people use it for the server and as the root file:
//!   it is trusted when the root file holds just this certificate.
//! - `openssl x509 -req` makes certificates of version 1, without extensions: one is trusted when a root of the file has signed it.

use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, UnixTime};
use x509_cert::Certificate;
use x509_cert::certificate::Version;
use x509_cert::der::asn1::AnyRef;
use x509_cert::der::{Decode, Encode, Reader, SliceReader};
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage};

/// Whether a root file vouches for a certificate in one of these ways.
pub(super) fn is_trusted(
    certificate: &CertificateDer<'_>,
    roots: &[CertificateDer<'_>],
    now: UnixTime,
    algorithms: &WebPkiSupportedAlgorithms,
) -> bool {
    let Ok(parsed) = Certificate::from_der(certificate) else {
        return false;
    };
    if !is_valid_at(&parsed, now) {
        return false;
    }
    if roots.iter().any(|root| root.as_ref() == certificate.as_ref()) {
        return true;
    }
    parsed.tbs_certificate.version == Version::V1
        && roots
            .iter()
            .filter_map(|root| Certificate::from_der(root).ok())
            .any(|root| {
                root.tbs_certificate.subject == parsed.tbs_certificate.issuer
                    && is_authority(&root)
                    && is_valid_at(&root, now)
                    && has_signed(&root, certificate, &parsed, algorithms).is_some()
            })
}

fn is_valid_at(certificate: &Certificate, now: UnixTime) -> bool {
    let validity = &certificate.tbs_certificate.validity;
    let (from, to) = (
        validity.not_before.to_unix_duration(),
        validity.not_after.to_unix_duration(),
    );
    (from.as_secs()..=to.as_secs()).contains(&now.as_secs())
}

/// What is older than extensions may sign; else it must say so.
fn is_authority(root: &Certificate) -> bool {
    let tbs = &root.tbs_certificate;
    if tbs.version == Version::V1 {
        return true;
    }
    let is_ca = matches!(tbs.get::<BasicConstraints>(), Ok(Some((_, constraints))) if constraints.ca);
    let may_sign = match tbs.get::<KeyUsage>() {
        Ok(Some((_, usage))) => usage.key_cert_sign(),
        Ok(None) => true,
        Err(_) => false,
    };
    is_ca && may_sign
}

fn has_signed(
    root: &Certificate,
    certificate: &CertificateDer<'_>,
    parsed: &Certificate,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Option<()> {
    // the bytes that were signed, as they came
    let whole = AnyRef::from_der(certificate).ok()?;
    let signed = SliceReader::new(whole.value()).ok()?.tlv_bytes().ok()?;
    let key = &root.tbs_certificate.subject_public_key_info;
    let signature_id = contents(&parsed.signature_algorithm.to_der().ok()?)?;
    let key_id = contents(&key.algorithm.to_der().ok()?)?;
    let signature = parsed.signature.as_bytes()?;
    let key = key.subject_public_key.as_bytes()?;
    let fitting = algorithms
        .all
        .iter()
        .filter(|a| a.signature_alg_id().as_ref() == signature_id && a.public_key_alg_id().as_ref() == key_id);
    fitting
        .map(|a| a.verify_signature(key, signed, signature))
        .find_map(Result::ok)
}

/// Without its tag and length.
fn contents(der: &[u8]) -> Option<Vec<u8>> {
    Some(AnyRef::from_der(der).ok()?.value().to_vec())
}

//! Is this the right server? As strictly as the settings ask for.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
    verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme};
use x509_cert::Certificate;
use x509_cert::der::{Decode, Encode};

use super::legacy;
use super::names::Names;

/// How strict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Checks {
    /// Encryption only.
    Nothing,
    /// A root has signed the certificate.
    Chain,
    /// ... and it is this host's.
    ChainAndName,
}

#[derive(Debug)]
pub(super) struct Verifier {
    checks: Checks,
    roots: Vec<CertificateDer<'static>>,
    /// `None` where none of the roots can sign.
    chains: Option<Arc<WebPkiServerVerifier>>,
    has_revocations: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    pub(super) fn new(
        provider: &Arc<CryptoProvider>,
        roots: Vec<CertificateDer<'static>>,
        checks: Checks,
        revocations: Vec<CertificateRevocationListDer<'static>>,
    ) -> Result<Verifier, String> {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(roots.iter().cloned());
        let has_revocations = !revocations.is_empty();
        let chains = match store.is_empty() {
            true => None,
            false => {
                let mut builder = WebPkiServerVerifier::builder_with_provider(Arc::new(store), Arc::clone(provider));
                if has_revocations {
                    // OpenSSL wants a list of each authority in the chain that is not out of date, too
                    builder = builder.with_crls(revocations).enforce_revocation_expiration();
                }
                let built = builder.build();
                Some(built.map_err(|error| {
                    format!(
                        "the certificate revocation list (sslcrl) cannot be used; it must be one of version 2: {error}"
                    )
                })?)
            }
        };
        Ok(Verifier {
            checks,
            roots,
            chains,
            has_revocations,
            algorithms: provider.signature_verification_algorithms,
        })
    }

    /// Whether a root vouches for the certificate, whosever it is.
    fn chain(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), Error> {
        let result = match &self.chains {
            Some(chains) => chains
                .verify_server_cert(certificate, intermediates, name, &[], now)
                .map(|_| ()),
            None => Err(CertificateError::UnknownIssuer.into()),
        };
        match result {
            // the name is looked at when the chain is right
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(()),
            Err(error)
                if self.has_revocations || !legacy::is_trusted(certificate, &self.roots, now, &self.algorithms) =>
            {
                Err(error)
            }
            _ => Ok(()),
        }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.checks >= Checks::Chain {
            self.chain(certificate, intermediates, name, now)
                .map_err(|error| match error {
                    Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
                        refusal("no certificate of the root file (sslrootcert) has signed the server's certificate")
                    }
                    other => other,
                })?;
        }
        if self.checks >= Checks::ChainAndName {
            let names = Certificate::from_der(certificate).map(|parsed| Names::of(&parsed));
            let names = names.map_err(|_| Error::from(CertificateError::BadEncoding))?;
            let host = name.to_str();
            if !names.cover(&host) {
                let for_whom = names.listed();
                return Err(refusal(&format!(
                    "the server's certificate is for {for_whom}, not for {host}"
                )));
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match verify_tls13_signature(message, certificate, signature, &self.algorithms) {
            // webpki reads no certificates of version 1, but their keys are like all others
            Err(Error::InvalidCertificate(_)) => {
                let parsed = Certificate::from_der(certificate);
                let parsed = parsed.map_err(|_| Error::from(CertificateError::BadEncoding))?;
                let key = parsed.tbs_certificate.subject_public_key_info.to_der();
                let key = SubjectPublicKeyInfoDer::from(key.map_err(|_| Error::from(CertificateError::BadEncoding))?);
                verify_tls13_signature_with_raw_key(message, &key, signature, &self.algorithms)
            }
            result => result,
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Why a certificate is not the right one.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Refusal(String);

fn refusal(why: &str) -> Error {
    CertificateError::Other(OtherError(Arc::new(Refusal(why.into())))).into()
}

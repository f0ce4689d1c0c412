//! TLS as libpq does it, by rustls.

mod files;
mod legacy;
mod names;
mod verifier;

use std::io;
use std::sync::Arc;

use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{CertificateError, ClientConfig, InconsistentKeys, SupportedProtocolVersion};
use tokio::net::TcpStream;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::settings::{Roots, SslMode, SslNegotiation, TlsSettings, TlsVersion};
use verifier::{Checks, Refusal, Verifier};

/// An encrypted connection.
pub(super) type Stream = <MakeRustlsConnect as MakeTlsConnect<TcpStream>>::Stream;

/// What PostgreSQL is called in the handshake, where nothing else tells a server which protocol follows.
const ALPN: &[u8] = b"postgresql";

/// Makes encrypted connections.
#[derive(Clone)]
pub(super) struct Tls(MakeRustlsConnect);

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

impl Tls {
    /// Reads certificates and keys.
    ///
    /// # Errors
    /// Which file is missing, open to others, or can't be read.
    pub(super) fn load(settings: &TlsSettings) -> Result<Tls, String> {
        let provider = Arc::new(ring::default_provider());
        let versions: Vec<&'static SupportedProtocolVersion> = [
            (TlsVersion::Tls12, &rustls::version::TLS12),
            (TlsVersion::Tls13, &rustls::version::TLS13),
        ]
        .into_iter()
        .filter(|(version, _)| (settings.min..=settings.max).contains(version))
        .map(|(_, version)| version)
        .collect();
        let verifier = Verifier::new(&provider, roots(&settings.roots)?, checks(settings), crls(settings)?)?;
        let verifier: Arc<dyn ServerCertVerifier> = Arc::new(verifier);
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&versions)
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match &settings.certificate {
            None => config.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = files::certificates(certificate)?;
                let private = files::key(key)?;
                let signer = ring::sign::any_supported_type(&private)
                    .map_err(|error| format!("the private key {} cannot be used: {error}", key.display()))?;
                let identity = CertifiedKey::new(chain, signer);
                if let Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) = identity.keys_match() {
                    let (key, certificate) = (key.display(), certificate.display());
                    return Err(format!(
                        "the private key {key} is not that of the certificate {certificate}"
                    ));
                }
                // in this way a certificate of version 1 goes as well, which rustls can't read
                config.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity)))
            }
        };
        config.enable_sni = settings.has_sni;
        if settings.negotiation == SslNegotiation::Direct {
            config.alpn_protocols = vec![ALPN.to_vec()];
        }
        Ok(Tls(MakeRustlsConnect::new(config)))
    }

    /// The handshake. Certificates are compared with `name`.
    ///
    /// # Errors
    /// Why the two did not agree.
    pub(super) async fn handshake(&self, stream: TcpStream, name: &str) -> Result<Stream, String> {
        let Ok(connect) = MakeTlsConnect::<TcpStream>::make_tls_connect(&mut self.0.clone(), name);
        connect.connect(stream).await.map_err(|error| explain(&error))
    }
}

/// Without a root file libpq checks nothing below verify-ca; with one it checks the chain in every mode.
fn checks(settings: &TlsSettings) -> Checks {
    match (settings.mode, &settings.roots) {
        (SslMode::VerifyFull, _) => Checks::ChainAndName,
        (SslMode::VerifyCa, _) | (_, Roots::File(_)) => Checks::Chain,
        _ => Checks::Nothing,
    }
}

fn roots(roots: &Roots) -> Result<Vec<CertificateDer<'static>>, String> {
    match roots {
        Roots::Missing => Ok(Vec::new()),
        Roots::File(path) => files::certificates(path),
        Roots::System => {
            let found = rustls_native_certs::load_native_certs();
            match found.certs.is_empty() {
                false => Ok(found.certs),
                true => Err("the system has no root certificates (Debian: install ca-certificates)".into()),
            }
        }
    }
}

fn crls(settings: &TlsSettings) -> Result<Vec<rustls::pki_types::CertificateRevocationListDer<'static>>, String> {
    settings.crl.as_deref().map_or(Ok(Vec::new()), files::revocations)
}

fn in_words(why: &CertificateError) -> String {
    let words = match why {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "it has expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => "it is not valid yet",
        CertificateError::Revoked => "it was revoked",
        CertificateError::UnknownRevocationStatus => "the revocation list (sslcrl) says nothing of its authority",
        CertificateError::ExpiredRevocationList | CertificateError::ExpiredRevocationListContext { .. } => {
            "the revocation list (sslcrl) is out of date"
        }
        other => return other.to_string(),
    };
    words.into()
}

/// What rustls has to say of a failure, without its wrappings.
fn explain(error: &io::Error) -> String {
    let inner = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(CertificateError::Other(other))) => {
            match other.0.downcast_ref::<Refusal>() {
                Some(refusal) => refusal.to_string(),
                None => format!("the server's certificate is not accepted: {}", other.0),
            }
        }
        Some(rustls::Error::InvalidCertificate(why)) => {
            format!("the server's certificate is not accepted: {}", in_words(why))
        }
        Some(other) => other.to_string(),
        None if error.kind() == io::ErrorKind::UnexpectedEof => "the server closed the connection".into(),
        None => error.to_string(),
    }
}

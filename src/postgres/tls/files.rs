//! Certificates, keys and revocation lists in PEM files.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

/// All certificates of a file, of which there is at least one.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    all(path, "certificate")
}

pub(super) fn revocations(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, String> {
    all(path, "certificate revocation list")
}

fn all<T: PemObject>(path: &Path, what: &str) -> Result<Vec<T>, String> {
    let text = read(path)?;
    let found: Result<Vec<T>, _> = T::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if found.is_empty() => Err(format!("there is no {what} in {} (expected PEM)", path.display())),
        Ok(found) => Ok(found),
        Err(error) => Err(format!("{} is no {what} in PEM: {error}", path.display())),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

/// A private key, which must be private as libpq understands it (`initialize_SSL` in fe-secure-openssl.c).
pub(super) fn key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let meta =
        fs::metadata(path).map_err(|error| format!("cannot read the private key {}: {error}", path.display()))?;
    if !meta.is_file() {
        return Err(format!("the private key {} is not a plain file", path.display()));
    }
    if is_open(meta.permissions().mode(), meta.uid()) {
        return Err(format!(
            "the private key {} can be read by others; make it private with chmod 600 (640 if root owns it)",
            path.display()
        ));
    }
    let text = read(path)?;
    if is_encrypted(&text) {
        return Err(format!(
            "the private key {} has a passphrase, which db-race cannot use; store it without one \
             (openssl pkey -in KEY -out NEW) in a file that only you can read",
            path.display()
        ));
    }
    PrivateKeyDer::from_pem_slice(&text)
        .map_err(|error| format!("{} is no private key in PEM: {error}", path.display()))
}

/// A group may read what root owns: that is how systems share keys.
fn is_open(mode: u32, owner: u32) -> bool {
    mode & (if owner == 0 { 0o037 } else { 0o077 }) != 0
}

fn is_encrypted(pem: &[u8]) -> bool {
    let text = String::from_utf8_lossy(pem);
    text.contains("BEGIN ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_for_its_owner_only() {
        assert!(!is_open(0o100_600, 1000));
        assert!(!is_open(0o100_400, 0));
        assert!(!is_open(0o100_640, 0));
        assert!(is_open(0o100_640, 1000));
        assert!(is_open(0o100_660, 0));
        assert!(is_open(0o100_604, 0));
    }

    #[test]
    fn what_is_wrong_with_a_file_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        assert!(certificates(&path).unwrap_err().starts_with("cannot read "));
        fs::write(&path, "nothing").unwrap();
        assert!(
            certificates(&path)
                .unwrap_err()
                .starts_with("there is no certificate in ")
        );
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(key(&path).unwrap_err().contains("is no private key in PEM"));
        fs::write(&path, "-----BEGIN ENCRYPTED PRIVATE KEY-----").unwrap();
        assert!(key(&path).unwrap_err().contains("has a passphrase"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(key(&path).unwrap_err().contains("can be read by others"));
    }
}

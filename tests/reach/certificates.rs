//! Certificates, made by `openssl` as people make them.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A certificate and its key.
pub(crate) struct Pair {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Pair {
    fn at(dir: &Path, name: &str) -> Pair {
        Pair {
            certificate: dir.join(format!("{name}.crt")),
            key: dir.join(format!("{name}.key")),
        }
    }

    pub(crate) fn certificate(&self) -> &str {
        self.certificate.to_str().unwrap()
    }

    pub(crate) fn key(&self) -> &str {
        self.key.to_str().unwrap()
    }
}

#[track_caller]
pub(crate) fn openssl(dir: &Path, words: &str) {
    let mut command = Command::new("openssl");
    command.args(words.split_whitespace()).current_dir(dir);
    let output = command.output().expect("openssl is needed by these tests: install it");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {words}\n{said}");
}

/// Quicker to make than RSA's.
const NEW_KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";

/// A certificate that has signed itself. openssl marks these as an authority's.
pub(crate) fn self_signed(dir: &Path, name: &str, subject: &str) -> Pair {
    openssl(
        dir,
        &format!("req -x509 {NEW_KEY} -days 3 -subj /CN={subject} -keyout {name}.key -out {name}.crt"),
    );
    Pair::at(dir, name)
}

/// A certificate signed by another. `extensions` is a line of an openssl configuration; without one the certificate is of version 1.
pub(crate) fn signed_by(authority: &Pair, dir: &Path, name: &str, subject: &str, extensions: Option<&str>) -> Pair {
    signed_for(authority, dir, name, subject, extensions, "3")
}

pub(crate) fn signed_for(
    authority: &Pair,
    dir: &Path,
    name: &str,
    subject: &str,
    extensions: Option<&str>,
    days: &str,
) -> Pair {
    openssl(
        dir,
        &format!("req -new {NEW_KEY} -subj /CN={subject} -keyout {name}.key -out {name}.csr"),
    );
    let extensions = match extensions {
        None => String::new(),
        Some(line) => {
            std::fs::write(dir.join(format!("{name}.ext")), line).unwrap();
            format!("-extfile {name}.ext")
        }
    };
    let (certificate, key) = (authority.certificate(), authority.key());
    openssl(
        dir,
        &format!(
            "x509 -req -in {name}.csr -CA {certificate} -CAkey {key} -CAcreateserial -days {days} {extensions} -out {name}.crt"
        ),
    );
    Pair::at(dir, name)
}

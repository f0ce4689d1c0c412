//! Whom a certificate is for (`pgtls_verify_peer_name_matches_certificate_guts` in fe-secure-openssl.c).

use std::net::IpAddr;

use x509_cert::Certificate;
use x509_cert::der::Tag;
use x509_cert::der::asn1::{Ia5StringRef, OctetString, PrintableStringRef, TeletexStringRef, Utf8StringRef};
use x509_cert::der::oid::db::rfc4519::CN;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

/// The names of a certificate.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Names {
    dns: Vec<String>,
    addresses: Vec<IpAddr>,
    /// Counts only where there are no others.
    common: Option<String>,
}

impl Names {
    pub(super) fn of(certificate: &Certificate) -> Names {
        let mut names = Names::default();
        let alternative = certificate.tbs_certificate.get::<SubjectAltName>();
        if let Ok(Some((_, SubjectAltName(list)))) = alternative {
            for name in list {
                match name {
                    GeneralName::DnsName(name) => names.dns.push(name.to_string()),
                    GeneralName::IpAddress(bytes) => names.addresses.extend(address(&bytes)),
                    _ => {}
                }
            }
        }
        if names.dns.is_empty() && names.addresses.is_empty() {
            names.common = common_name(certificate);
        }
        names
    }

    /// Whether a host is one of them.
    pub(super) fn cover(&self, host: &str) -> bool {
        let address: Option<IpAddr> = host.parse().ok();
        if address.is_some_and(|address| self.addresses.contains(&address)) {
            return true;
        }
        self.dns.iter().chain(&self.common).any(|name| match address {
            // a pattern stands for no number
            Some(_) => name == host,
            None => matches(name, host),
        })
    }

    /// For messages.
    pub(super) fn listed(&self) -> String {
        let mut all: Vec<String> = self.dns.iter().chain(&self.common).cloned().collect();
        all.extend(self.addresses.iter().map(ToString::to_string));
        match all.is_empty() {
            true => "nobody".into(),
            false => all.join(", "),
        }
    }
}

fn address(bytes: &OctetString) -> Option<IpAddr> {
    let bytes = bytes.as_bytes();
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

fn common_name(certificate: &Certificate) -> Option<String> {
    let subject = certificate.tbs_certificate.subject.0.iter();
    let found = subject.flat_map(|part| part.0.iter()).find(|part| part.oid == CN)?;
    let value = &found.value;
    use x509_cert::der::Tagged;
    let text = match value.tag() {
        Tag::Utf8String => Utf8StringRef::try_from(value).ok()?.to_string(),
        Tag::PrintableString => PrintableStringRef::try_from(value).ok()?.to_string(),
        Tag::Ia5String => Ia5StringRef::try_from(value).ok()?.to_string(),
        Tag::TeletexString => TeletexStringRef::try_from(value).ok()?.to_string(),
        _ => return None,
    };
    // a name that ends early for whoever reads C strings
    (!text.contains('\0')).then_some(text)
}

/// A leading `*.` stands for one label (`wildcard_certificate_match`).
fn matches(pattern: &str, host: &str) -> bool {
    if pattern.eq_ignore_ascii_case(host) {
        return true;
    }
    let Some(suffix) = pattern.strip_prefix('*').filter(|suffix| suffix.starts_with('.')) else {
        return false;
    };
    match host.find('.') {
        Some(dot) if dot > 0 => host[dot..].eq_ignore_ascii_case(suffix),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_as_libpq_does() {
        for (pattern, host, expected) in [
            ("db.example.com", "DB.example.com", true),
            ("db.example.com", "example.com", false),
            ("*.example.com", "db.example.com", true),
            ("*.example.com", "a.db.example.com", false),
            ("*.example.com", ".example.com", false),
            ("*.example.com", "example.com", false),
            ("d*.example.com", "db.example.com", false),
            ("*", "db", false),
            ("db.*.com", "db.example.com", false),
        ] {
            assert_eq!(matches(pattern, host), expected, "{pattern} {host}");
        }
    }

    #[test]
    fn an_address_is_no_name_with_dots() {
        let names = Names {
            dns: vec!["*.0.0.1".into(), "10.0.0.2".into()],
            addresses: vec!["10.0.0.1".parse().unwrap(), "::1".parse().unwrap()],
            common: None,
        };
        for (host, expected) in [
            ("10.0.0.1", true),
            ("10.0.0.2", true),
            ("127.0.0.1", false),
            ("0:0::1", true),
        ] {
            assert_eq!(names.cover(host), expected, "{host}");
        }
        assert_eq!(Names::default().listed(), "nobody");
    }
}

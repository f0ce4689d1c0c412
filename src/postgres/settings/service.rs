//! Service files: named sets of parameters (`parseServiceInfo` in fe-connect.c).

use super::{parameter, parameter::Parameter};

/// A parameter, its value and its line.
type Entry = (&'static Parameter, String, usize);

/// The parameters of a service, `None` when the file doesn't have it, or what is wrong in which line.
///
/// Values are taken as they stand, without quotes or escapes. The first of two services of the same name counts.
pub(super) fn find(text: &str, service: &str) -> Result<Option<Vec<Entry>>, (usize, String)> {
    let mut found: Option<Vec<_>> = None;
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(name) = line.strip_prefix('[') {
            if found.is_some() {
                break;
            }
            if name.strip_suffix(']') == Some(service) {
                found = Some(Vec::new());
            }
            continue;
        }
        let Some(parameters) = &mut found else { continue };
        if line.starts_with("ldap://") {
            return Err((number, "db-race has no LDAP".into()));
        }
        let Some((name, value)) = line.split_once('=') else {
            return Err((number, "there is no `=` in it".into()));
        };
        match parameter::find(name) {
            Some(p) if ["service", "servicefile"].contains(&p.name) => {
                return Err((number, "a service cannot name another one".into()));
            }
            Some(p) => parameters.push((p, value.to_string(), number)),
            None => return Err((number, parameter::unknown(name))),
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# all of ours\nhost=before-any-group\n\n[prod]\nhost=db.example.com\n  port=5433\n\
                        # password=old\npassword= it's=1 \r\n[test]\nhost=/tmp\n[prod]\nuser=late\n[bad]\nhost\n\
                        [nested]\nservice=prod\n[typo]\nhots=secret\n[ldap]\nldap://x\n";

    #[test]
    fn the_first_group_of_that_name_counts() {
        let of = |service| {
            let found = find(FILE, service).unwrap()?;
            Some(
                found
                    .into_iter()
                    .map(|(p, value, line)| (p.name, value, line))
                    .collect::<Vec<_>>(),
            )
        };
        let prod = vec![
            ("host", "db.example.com".to_string(), 5),
            ("port", "5433".into(), 6),
            ("password", " it's=1".into(), 8),
        ];
        assert_eq!(of("prod"), Some(prod));
        assert_eq!(of("test"), Some(vec![("host", "/tmp".into(), 10)]));
        assert_eq!(of("pro"), None);
    }

    #[test]
    fn the_line_is_told() {
        for (service, line, expected) in [
            ("bad", 14, "there is no `=` in it"),
            ("nested", 16, "a service cannot name another one"),
            ("typo", 18, "there is no such parameter; did you mean `host`?"),
            ("ldap", 20, "db-race has no LDAP"),
        ] {
            assert_eq!(find(FILE, service).unwrap_err(), (line, expected.to_string()));
        }
    }
}

//! Connection URIs: `postgresql://user:password@host:port,host:port/dbname?name=value`
//! (`conninfo_uri_parse_options` in fe-connect.c).

use super::{parameter, parameter::Parameter};

/// What a URI begins with.
const SCHEMES: [&str; 2] = ["postgresql://", "postgres://"];

/// Whether it is meant to be a URI.
pub(super) fn is_uri(text: &str) -> bool {
    SCHEMES.iter().any(|scheme| text.starts_with(scheme))
}

/// The parameters, or what is wrong. Nothing of the URI is repeated in that: it may hold a password.
pub(super) fn parse(text: &str) -> Result<Vec<(&'static Parameter, String)>, String> {
    let rest = SCHEMES.iter().find_map(|scheme| text.strip_prefix(scheme));
    let mut rest = rest.ok_or("it begins with neither postgresql:// nor postgres://")?;
    let mut found = Found::default();
    // an @ or a / in a user's name or password is written %40 or %2F
    if let Some(at) = rest.find(['@', '/'])
        && rest[at..].starts_with('@')
    {
        let (user, password) = rest[..at].split_once(':').unwrap_or((&rest[..at], ""));
        found.unless_empty("user", user)?;
        found.unless_empty("password", password)?;
        rest = &rest[at + 1..];
    }
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (hosts, ports) = hosts(&rest[..end])?;
    found.unless_empty("host", &hosts)?;
    found.unless_empty("port", &ports)?;
    rest = &rest[end..];
    if let Some(path) = rest.strip_prefix('/') {
        let end = path.find('?').unwrap_or(path.len());
        found.unless_empty("dbname", &path[..end])?;
        rest = &path[end..];
    }
    if let Some(query) = rest.strip_prefix('?') {
        for (number, pair) in query.split('&').filter(|pair| !pair.is_empty()).enumerate() {
            found
                .query(pair)
                .map_err(|why| format!("parameter {} behind the `?`: {why}", number + 1))?;
        }
    }
    Ok(found.0)
}

#[derive(Default)]
struct Found(Vec<(&'static Parameter, String)>);

impl Found {
    fn unless_empty(&mut self, name: &str, value: &str) -> Result<(), String> {
        match parameter::find(name) {
            Some(parameter) if !value.is_empty() => {
                let value = decode(value).map_err(|why| format!("{name}: {why}"))?;
                self.0.push((parameter, value));
            }
            _ => {}
        }
        Ok(())
    }

    fn query(&mut self, pair: &str) -> Result<(), String> {
        let (name, value) = match pair.split_once('=') {
            Some((_, value)) if value.contains('=') => {
                return Err("it has two `=`; one in a value is written %3D".into());
            }
            Some((name, value)) => (decode(name)?, decode(value)?),
            None => return Err("it has no `=`".into()),
        };
        // JDBC's word for it
        let (name, value) = match (&*name, &*value) {
            ("ssl", "true") => ("sslmode".into(), "require".into()),
            _ => (name, value),
        };
        let parameter = parameter::find(&name).ok_or_else(|| parameter::unknown(&name))?;
        self.0.push((parameter, value));
        Ok(())
    }
}

/// `a:1,[::1]:2` as `a,::1` and `1,2`; the lists stay encoded.
fn hosts(text: &str) -> Result<(String, String), String> {
    let mut hosts = Vec::new();
    let mut ports = Vec::new();
    for part in text.split(',') {
        let (host, rest) = match part.strip_prefix('[') {
            Some(address) => {
                let (address, rest) = address.split_once(']').ok_or("an IPv6 address has no `]`")?;
                if address.is_empty() {
                    return Err("an IPv6 address is empty".into());
                }
                (address, rest)
            }
            None => part.split_at(part.find(':').unwrap_or(part.len())),
        };
        let port = match rest.strip_prefix(':') {
            Some(port) => port,
            None if rest.is_empty() => "",
            None => return Err("behind the `]` of an IPv6 address comes something else than a port".into()),
        };
        hosts.push(host);
        ports.push(port);
    }
    let list = |parts: Vec<&str>| match parts.iter().all(|part| part.is_empty()) {
        true => String::new(),
        false => parts.join(","),
    };
    Ok((list(hosts), list(ports)))
}

fn decode(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digit = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16));
                match (digit(rest.next()), digit(rest.next())) {
                    (Some(0), Some(0)) => return Err("%00 is not allowed".into()),
                    (Some(high), Some(low)) => (high * 16 + low) as u8,
                    _ => return Err("behind a `%` come two hexadecimal digits; a `%` itself is written %25".into()),
                }
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).map_err(|_| "it is not UTF-8".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<(&str, String)>, String> {
        Ok(parse(text)?.into_iter().map(|(p, value)| (p.name, value)).collect())
    }

    /// From libpq's own table of tests (src/interfaces/libpq/t/001_uri.pl tells what it understands; written anew).
    #[test]
    fn uris_are_read_as_libpq_does() {
        for (text, expected) in [
            ("postgresql://", ""),
            ("postgres://host", "host=host"),
            ("postgresql://u:p@h:1/d", "user=u password=p host=h port=1 dbname=d"),
            ("postgresql://u@h/d?", "user=u host=h dbname=d"),
            ("postgresql://u:@h", "user=u host=h"),
            ("postgresql://:p@h", "password=p host=h"),
            ("postgresql://@h", "host=h"),
            ("postgresql:///d?host=/tmp&port=5433", "dbname=d host=/tmp port=5433"),
            ("postgresql://%2Fvar%2Frun/d", "host=/var/run dbname=d"),
            ("postgresql://%40abstract/d", "host=@abstract dbname=d"),
            ("postgresql://u%40x:p%2F%3A@h", "user=u@x password=p/: host=h"),
            ("postgresql://a:1,b:2,c/d", "host=a,b,c port=1,2, dbname=d"),
            ("postgresql://a,b/d", "host=a,b dbname=d"),
            ("postgresql://[::1]:5433/d", "host=::1 port=5433 dbname=d"),
            ("postgresql://[::1],[fe80::1]", "host=::1,fe80::1"),
            ("postgresql://:5433", "port=5433"),
            (
                "postgresql://h?sslmode=require&application_name=a%20b",
                "host=h sslmode=require application_name=a b",
            ),
            ("postgresql://h?ssl=true", "host=h sslmode=require"),
            ("postgresql://h/?dbname=d&dbname=e", "host=h dbname=d dbname=e"),
            (
                "postgresql:///d?options=-c%20geqo%3Doff",
                "dbname=d options=-c geqo=off",
            ),
            ("postgresql://h/a/b", "host=h dbname=a/b"),
        ] {
            let found = read(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            let found: Vec<String> = found.iter().map(|(name, value)| format!("{name}={value}")).collect();
            assert_eq!(found.join(" "), expected, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_without_a_word_of_it() {
        for (text, expected) in [
            ("postgresql://u:secret%zz@h", "password: behind a `%`"),
            ("postgresql://u:secret%00@h", "password: %00"),
            ("postgresql://u:secret%ff@h", "password: it is not UTF-8"),
            ("postgresql://[::1", "an IPv6 address has no `]`"),
            ("postgresql://[]", "an IPv6 address is empty"),
            ("postgresql://[::1]secret", "behind the `]`"),
            ("postgresql://h?secret", "parameter 1 behind the `?`: it has no `=`"),
            (
                "postgresql://h?user=a&secret=b=c",
                "parameter 2 behind the `?`: it has two `=`",
            ),
            (
                "postgresql://h?secret=x",
                "parameter 1 behind the `?`: there is no such parameter",
            ),
            ("http://secret", "it begins with neither"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.starts_with(expected), "{text}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}

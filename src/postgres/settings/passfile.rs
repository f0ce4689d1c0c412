//! Password files: `host:port:database:user:password` (`passwordFromFile` in fe-connect.c).

/// Whose password is looked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    /// `localhost` for the default socket directory.
    pub host: &'a str,
    pub port: &'a str,
    pub dbname: &'a str,
    pub user: &'a str,
}

/// The password of the first line that matches, and the line's number.
///
/// `*` stands for anything, a backslash takes the next character as it is, and `#` begins a comment line.
pub(super) fn find(text: &str, wanted: Wanted<'_>) -> Option<(String, usize)> {
    for (number, line) in (1..).zip(text.split('\n')) {
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let fields = [wanted.host, wanted.port, wanted.dbname, wanted.user];
        let password = fields.iter().try_fold(line, |rest, value| matched(rest, value));
        if let Some(password) = password {
            return Some((unescaped(password), number));
        }
    }
    None
}

/// What comes behind a field that matches.
fn matched<'a>(line: &'a str, value: &str) -> Option<&'a str> {
    if let Some(rest) = line.strip_prefix("*:") {
        return Some(rest);
    }
    let mut wanted = value.chars();
    let mut chars = line.char_indices();
    while let Some((i, c)) = chars.next() {
        let c = match c {
            ':' => return wanted.next().is_none().then_some(&line[i + 1..]),
            '\\' => chars.next()?.1,
            c => c,
        };
        if wanted.next() != Some(c) {
            return None;
        }
    }
    None
}

fn unescaped(text: &str) -> String {
    let mut value = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        value.push(match c {
            // one at the very end stands for itself
            '\\' => chars.next().unwrap_or('\\'),
            c => c,
        });
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_that_matches_counts() {
        let file = "# host:5432:db:user:comment\n\
                    \n\
                    host:5432:db:user:first\n\
                    host:5432:db:user:second\r\n\
                    *:5433:*:*:any host\n\
                    h\\:ost:*:d\\\\b:*:es\\:ca\\\\ped\\\n\
                    localhost:*:*:*:with: colons \r\n\
                    prefix:5432\n\
                    *:*:star*:*:literal";
        for (host, port, dbname, user, expected) in [
            ("host", "5432", "db", "user", Some(("first", 3))),
            ("host", "5433", "db", "user", Some(("any host", 5))),
            ("h:ost", "1", "d\\b", "u", Some(("es:ca\\ped\\", 6))),
            ("localhost", "5432", "x", "y", Some(("with: colons ", 7))),
            ("hos", "5432", "db", "user", None),
            ("host2", "5432", "db", "user", None),
            ("prefix", "5432", "db", "user", None),
            ("other", "1", "star*", "u", Some(("literal", 9))),
            ("other", "1", "stars", "u", None),
        ] {
            let wanted = Wanted {
                host,
                port,
                dbname,
                user,
            };
            let expected = expected.map(|(password, line)| (password.to_string(), line));
            assert_eq!(find(file, wanted), expected, "{wanted:?}");
        }
    }
}

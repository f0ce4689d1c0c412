//! Connection strings of the form `host=localhost dbname='my db'` (`conninfo_parse` in fe-connect.c).

use super::{parameter, parameter::Parameter};

/// The parameters in their order, or what is wrong. Nothing of the string is repeated in that: it may hold a password.
pub(super) fn parse(text: &str) -> Result<Vec<(&'static Parameter, String)>, String> {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let at = text[..text.len() - rest.len()].chars().count() + 1;
        let end = rest.find(|c: char| c == '=' || c.is_whitespace()).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        let Some(after) = after.trim_start().strip_prefix('=') else {
            return Err(format!(
                "the word at character {at} has no `=` behind it (a value with spaces stands in single quotes)"
            ));
        };
        let parameter = parameter::find(name).ok_or_else(|| format!("character {at}: {}", parameter::unknown(name)))?;
        let value;
        (value, rest) = self::value(after.trim_start())
            .ok_or_else(|| format!("the quote of `{}` at character {at} has no end", parameter.name))?;
        found.push((parameter, value));
        rest = rest.trim_start();
    }
    Ok(found)
}

/// A value, and what comes behind it. A backslash takes the next character as it is.
fn value(text: &str) -> Option<(String, &str)> {
    let (is_quoted, text) = match text.strip_prefix('\'') {
        Some(text) => (true, text),
        None => (false, text),
    };
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((i, c)) = chars.next() {
        match c {
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            '\'' if is_quoted => return Some((value, &text[i + 1..])),
            c if c.is_whitespace() && !is_quoted => return Some((value, &text[i..])),
            c => value.push(c),
        }
    }
    (!is_quoted).then_some((value, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<(&str, String)>, String> {
        Ok(parse(text)?.into_iter().map(|(p, value)| (p.name, value)).collect())
    }

    #[test]
    fn quotes_backslashes_and_spaces_are_read_as_libpq_does() {
        for (text, expected) in [
            ("", vec![]),
            ("host=a", vec![("host", "a")]),
            ("  host = a\n dbname=b ", vec![("host", "a"), ("dbname", "b")]),
            (r"password='it\'s \\ all'", vec![("password", r"it's \ all")]),
            (r"password=a\ b'c", vec![("password", "a b'c")]),
            ("host='' port=5432", vec![("host", ""), ("port", "5432")]),
            ("user=a user=b", vec![("user", "a"), ("user", "b")]),
            ("host= dbname=x", vec![("host", "dbname=x")]),
            ("host='a'port=1", vec![("host", "a"), ("port", "1")]),
            ("host=ä", vec![("host", "ä")]),
        ] {
            let expected: Vec<_> = expected.into_iter().map(|(n, v)| (n, v.to_string())).collect();
            assert_eq!(read(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_without_a_word_of_it() {
        for (text, expected) in [
            ("password=my secret", "the word at character 13 has no `=`"),
            ("host=a secret=b", "character 8: there is no such parameter"),
            ("password='secret", "the quote of `password` at character 1 has no end"),
            ("secret", "the word at character 1 has no `=`"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.starts_with(expected), "{text}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}

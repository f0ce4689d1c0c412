//! As much of SQL's grammar as it takes not to look inside quotes and comments.

/// The words of a statement, comments left out; up to the first character that is no letter.
pub(crate) fn leading_words(text: &str) -> impl Iterator<Item = &str> {
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let rest = &text[at..];
            let next = rest.chars().next()?;
            if next.is_whitespace() {
                at += next.len_utf8();
            } else if rest.starts_with("--") || rest.starts_with("/*") {
                at = opaque(text, at)?;
            } else {
                let len = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
                at += len;
                return (len > 0).then(|| &rest[..len]);
            }
        }
    })
}

/// The end of a quoted or commented stretch that starts at `at`, if one does.
pub(crate) fn opaque(text: &str, at: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let rest = &bytes[at..];
    let end = match rest[0] {
        b'\'' => {
            let escapes = at > 0 && matches!(bytes[at - 1], b'e' | b'E') && !(at > 1 && is_name_byte(bytes[at - 2]));
            quoted(rest, b'\'', escapes)
        }
        b'"' => quoted(rest, b'"', false),
        b'-' if rest.starts_with(b"--") => rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len()),
        b'/' if rest.starts_with(b"/*") => block_comment(rest),
        b'$' if at == 0 || !is_name_byte(bytes[at - 1]) => dollar_quoted(&text[at..])?,
        _ => return None,
    };
    Some(at + end)
}

fn quoted(rest: &[u8], quote: u8, escapes: bool) -> usize {
    let mut i = 1;
    while i < rest.len() {
        let doubled = rest[i] == quote && rest.get(i + 1) == Some(&quote);
        if doubled || escapes && rest[i] == b'\\' {
            i += 2;
        } else if rest[i] == quote {
            return i + 1;
        } else {
            i += 1;
        }
    }
    rest.len()
}

/// Block comments nest in PostgreSQL.
fn block_comment(rest: &[u8]) -> usize {
    let mut depth = 0;
    let mut i = 0;
    while i < rest.len() {
        if rest[i..].starts_with(b"/*") {
            depth += 1;
            i += 2;
        } else if rest[i..].starts_with(b"*/") {
            depth -= 1;
            i += 2;
            if depth == 0 {
                return i;
            }
        } else {
            i += 1;
        }
    }
    rest.len()
}

fn dollar_quoted(rest: &str) -> Option<usize> {
    let tag_len = rest[1..].find('$')?;
    let tag = &rest[..tag_len + 2];
    let inner = &tag[1..tag.len() - 1];
    let valid = inner.bytes().all(is_name_byte) && !inner.starts_with(|c: char| c.is_ascii_digit());
    if !valid {
        return None;
    }
    Some(rest[tag.len()..].find(tag).map_or(rest.len(), |i| tag.len() * 2 + i))
}

pub(crate) fn is_name_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_' || b >= 0x80
}

/// The text up to the end of its last statement, without the semicolon and the comments behind it: offsets stay as they were.
pub(crate) fn without_end(text: &str) -> &str {
    let mut end = 0;
    for (from, to) in pieces(text) {
        if is_content(&text[from..to]) {
            end = to;
        }
    }
    &text[..end]
}

/// How many statements the text has.
pub(crate) fn count_statements(text: &str) -> usize {
    let (mut count, mut inside) = (0, false);
    for (from, to) in pieces(text) {
        match &text[from..to] {
            ";" => inside = false,
            piece if is_content(piece) && !inside => {
                count += 1;
                inside = true;
            }
            _ => {}
        }
    }
    count
}

/// The words outside of quotes and comments, in lower case.
pub(crate) fn words(text: &str) -> impl Iterator<Item = String> {
    let plain: String = pieces(text)
        .map(|(from, to)| match to - from {
            1 => &text[from..to],
            // quoted, a comment, or no ASCII: no word of SQL's own
            _ => " ",
        })
        .collect();
    let words: Vec<String> = plain
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| !word.is_empty())
        .map(str::to_ascii_lowercase)
        .collect();
    words.into_iter()
}

/// Quoted and commented stretches whole, all else by character.
fn pieces(text: &str) -> impl Iterator<Item = (usize, usize)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let next = text[at..].chars().next()?;
        let from = at;
        at = opaque(text, at).unwrap_or(at + next.len_utf8());
        Some((from, at))
    })
}

fn is_content(piece: &str) -> bool {
    !piece.trim().is_empty() && piece != ";" && !piece.starts_with("--") && !piece.starts_with("/*")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_behind_comments() {
        let words = |text| leading_words(text).collect::<Vec<_>>();
        assert_eq!(
            words("-- a note\n /* and /* another */ */ Prepare transaction 'x'"),
            ["Prepare", "transaction"]
        );
        assert_eq!(words("select(1)"), ["select"]);
        assert!(words("").is_empty() && words("-- only").is_empty());
    }

    #[test]
    fn the_end_is_cut_outside_of_quotes_and_comments_only() {
        for (text, cut) in [
            ("select 1", "select 1"),
            ("select 1;\n-- done;\n", "select 1"),
            ("select ';--'", "select ';--'"),
            ("select 1 -- a; -- b", "select 1"),
            ("select $$;$$ ; /* ; */ ;", "select $$;$$"),
            ("-- nothing\n", ""),
            ("select 'é';", "select 'é'"),
        ] {
            assert_eq!(without_end(text), cut);
        }
        for (text, count) in [("", 0), ("-- a;\n;", 0), ("select ';';", 1), ("select 1; select 2;", 2)] {
            assert_eq!(count_statements(text), count, "{text}");
        }
        let found: Vec<String> = words("select 'order by' -- by\n ORDER\tby é").collect();
        assert_eq!(found, ["select", "order", "by"]);
    }
}

//! Patterns in which `*` stands for anything.

/// Whether the text is what the pattern says, `*` standing for anything.
pub fn like(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let Some(last) = parts.next_back() else {
        return rest.is_empty();
    };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, text, is) in [
            ("no rooms*", "no rooms left", true),
            ("no rooms", "no rooms left", false),
            ("*left", "no rooms left", true),
            ("no*ro*left", "no rooms left", true),
            ("*", "", true),
            ("", "", true),
            ("a*a", "a", false),
            ("a*b*c", "a c", false),
        ] {
            assert_eq!(like(pattern, text), is, "{pattern} {text}");
        }
    }
}

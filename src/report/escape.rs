//! Values of strangers, made harmless: what a report shows may hold anything that a column can hold.

use std::borrow::Cow;

/// Characters of a value that people get to see; the JSON form has all.
pub(super) const SHOWN_MAX: usize = 300;

/// Without control characters, which move cursors and begin lines, and without those that turn the direction of writing.
/// They are shown as Rust and C write them.
pub(super) fn visible(text: &str) -> Cow<'_, str> {
    if !text.contains(is_invisible) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '\n' => shown.push_str("\\n"),
            '\r' => shown.push_str("\\r"),
            '\t' => shown.push_str("\\t"),
            c if is_invisible(c) => shown.push_str(&format!("\\u{{{:x}}}", u32::from(c))),
            c => shown.push(c),
        }
    }
    Cow::Owned(shown)
}

fn is_invisible(c: char) -> bool {
    // line separators, marks and overrides of direction, the byte order mark, what is no character
    c.is_control()
        || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

/// A value as people see it: in one line, and not longer than [`SHOWN_MAX`].
pub(super) fn value(value: Option<&str>) -> String {
    cut(&visible(value.unwrap_or("NULL")), SHOWN_MAX)
}

/// The first characters, and how many more there were.
pub(super) fn cut(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        None => text.to_string(),
        Some((end, _)) => format!("{}… ({} more)", &text[..end], text[end..].chars().count()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_moves_the_cursor_or_begins_a_line() {
        assert_eq!(visible("plain ünïcode 🏨"), "plain ünïcode 🏨");
        assert_eq!(
            visible("a\nb\r\t\x1b[31m\0\u{85}"),
            "a\\nb\\r\\t\\u{1b}[31m\\u{0}\\u{85}"
        );
        assert_eq!(visible("\u{202e}evil\u{2028}"), "\\u{202e}evil\\u{2028}");
    }

    #[test]
    fn long_values_say_how_much_is_missing() {
        assert_eq!(cut("äöü", 3), "äöü");
        assert_eq!(cut("äöüß", 2), "äö… (2 more)");
        assert_eq!(value(None), "NULL");
    }
}

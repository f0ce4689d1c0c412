//! The fenced TOML block at the top of a `.sql` file.
//!
//! ```sql
//! -- /// db-race check
//! -- id = "hotel.orphan_holds"
//! -- ///
//! select ...
//! ```
//!
//! It stands in comments, so that the file stays runnable by `psql -f`.

use super::{Diagnostic, Source};

/// The block of the given kind (`check`, `bug`), as a text of the same length as the file in which
/// all else is blank: offsets in it are offsets in the file.
///
/// # Errors
/// When there is no such block, or it is not closed, or a line of it is no comment.
pub fn fenced(source: &Source, kind: &str) -> Result<String, Diagnostic> {
    let open = format!("-- /// db-race {kind}");
    let mut blank = String::with_capacity(source.text.len());
    let mut state = State::Before;
    let mut at = 0;
    for line in source.text.split_inclusive('\n') {
        let content = line.trim_end();
        let span = at..at + content.len();
        at += line.len();
        match state {
            State::Before if content == open => state = State::Inside(span),
            State::Inside(_) if content == "-- ///" => state = State::After,
            State::Inside(_) => {
                let Some(toml) = content.strip_prefix("--") else {
                    return Err(source
                        .error(span, "the db-race block is not closed")
                        .label("expected a comment line, or `-- ///`"));
                };
                blank.push_str("  ");
                blank.push_str(toml);
                blank.push_str(&line[content.len()..]);
                continue;
            }
            State::Before | State::After => {}
        }
        blank.extend(std::iter::repeat_n(' ', content.len()));
        blank.push_str(&line[content.len()..]);
    }
    match state {
        State::After => Ok(blank),
        State::Inside(span) => Err(source
            .error(span, "the db-race block is not closed")
            .help("end it by a line `-- ///`")),
        State::Before => Err(source
            .error(0..0, format!("this file has no `{open}` block"))
            .help(format!("begin it with `{open}`, then TOML in comments, then `-- ///`"))),
    }
}

enum State {
    Before,
    Inside(std::ops::Range<usize>),
    After,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_those_of_the_file() {
        let source = Source::new(
            "é.sql",
            "-- é\r\n-- /// db-race check\r\n-- id = 1\r\n-- ///\r\nselect 1",
        );
        let block = fenced(&source, "check").unwrap();
        assert_eq!(block.len(), source.text.len());
        assert_eq!(block.find("id"), source.text.find("id"));
        assert_eq!(block.trim(), "id = 1");
    }

    #[test]
    fn missing_and_open_blocks_are_errors() {
        for text in [
            "",
            "select 1",
            "-- /// db-race bug\n-- ///\n",
            "-- /// db-race check\n-- id",
            "-- /// db-race check\nselect 1",
        ] {
            assert!(fenced(&Source::new("f", text), "check").is_err(), "{text}");
        }
    }
}

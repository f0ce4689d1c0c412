//! Text files that people write, and errors that point into them.

mod fence;
mod like;
mod sql;

use std::fmt;
use std::io::Read;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use serde::de::DeserializeOwned;

pub use fence::fenced;
pub use like::like;
pub(crate) use sql::{count_statements, is_name_byte, leading_words, opaque, without_end, words};

/// Nobody writes larger files by hand; what is given by mistake must not fill the memory.
const BYTES_MAX: u64 = 4 << 20;

/// A file's text, and what to call it in messages.
#[derive(Clone, Debug)]
pub struct Source {
    /// The path as the user knows it; `hotel/last-room.toml (bundled)` for a bundled file.
    pub name: Arc<str>,
    /// The whole text.
    pub text: Arc<str>,
}

impl Source {
    /// A source from its parts.
    pub fn new(name: impl Into<Arc<str>>, text: impl Into<Arc<str>>) -> Source {
        Source {
            name: name.into(),
            text: text.into(),
        }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// [`FileError::Read`] when the file can't be read, isn't UTF-8 or is larger than 4 MiB.
    pub fn read(path: &Path) -> Result<Source, FileError> {
        let name = path.display().to_string();
        let mut bytes = Vec::new();
        let read = std::fs::File::open(path).and_then(|file| file.take(BYTES_MAX + 1).read_to_end(&mut bytes));
        match read.map(|_| bytes) {
            Ok(bytes) if bytes.len() as u64 > BYTES_MAX => Err(FileError::Read {
                path: name,
                why: format!("it is larger than {} MiB", BYTES_MAX >> 20),
            }),
            Ok(bytes) => match String::from_utf8(bytes) {
                Ok(text) => Ok(Source::new(name, text)),
                Err(_) => Err(FileError::Read {
                    path: name,
                    why: "it is not UTF-8 text".into(),
                }),
            },
            Err(error) => Err(FileError::Read {
                path: name,
                why: error.to_string(),
            }),
        }
    }

    /// An error at a place in this file.
    pub fn error(&self, span: Range<usize>, message: impl Into<String>) -> Diagnostic {
        Diagnostic {
            source: self.clone(),
            span: clamp(&self.text, span),
            message: message.into(),
            label: String::new(),
            help: None,
        }
    }

    /// The 1-based line of a byte offset.
    pub fn line(&self, offset: usize) -> usize {
        let end = clamp(&self.text, offset..offset).start;
        self.text[..end].matches('\n').count() + 1
    }

    /// Parses the text, or a stand-in of the same length (see [`fenced`]), as TOML.
    ///
    /// # Errors
    /// A [`Diagnostic`] with the place, and the nearest valid name for an unknown one.
    pub fn toml<T: DeserializeOwned>(&self, text: &str) -> Result<T, Diagnostic> {
        toml::from_str(text).map_err(|error| {
            let span = error.span().unwrap_or(0..0);
            let message = error.message().trim();
            let mut diagnostic = self.error(span, first_line(message));
            if let Some((unknown, valid)) = unknown_name(message) {
                diagnostic.message = unknown.to_string();
                diagnostic.label = match valid.as_slice() {
                    [one] => format!("expected `{one}`"),
                    many => format!("expected one of {}", quoted(many)),
                };
                let name = unknown.split('`').nth(1).unwrap_or_default();
                diagnostic.help = nearest(name, valid.iter().copied());
            }
            diagnostic
        })
    }
}

/// What went wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It could not be read.
    #[error("cannot read {path}: {why}")]
    Read {
        /// The path as given.
        path: String,
        /// The system's reason.
        why: String,
    },
    /// Its content is wrong.
    #[error("{0}")]
    Content(Box<Diagnostic>),
}

impl From<Diagnostic> for FileError {
    fn from(diagnostic: Diagnostic) -> Self {
        FileError::Content(Box::new(diagnostic))
    }
}

/// An error at a place in a file: what happened, what was expected, what to do.
#[derive(Clone, Debug)]
pub struct Diagnostic {
    source: Source,
    span: Range<usize>,
    message: String,
    label: String,
    help: Option<String>,
}

impl Diagnostic {
    /// Adds what was expected, shown at the place itself.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// Adds what to do.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Adds "did you mean" when one of the valid names is near.
    #[must_use]
    pub fn suggest<'a>(mut self, name: &str, valid: impl IntoIterator<Item = &'a str>) -> Self {
        if let Some(help) = nearest(name, valid) {
            self.help = Some(help);
        }
        self
    }
}

impl std::error::Error for Diagnostic {}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = AnnotationKind::Primary
            .span(self.span.clone())
            .label(self.label.as_str());
        let snippet = Snippet::source(&*self.source.text)
            .path(&*self.source.name)
            .annotation(place);
        let mut group = Level::ERROR
            .no_name()
            .primary_title(self.message.as_str())
            .element(snippet);
        if let Some(help) = &self.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        let text = Renderer::plain().render(&[group]);
        // the caller writes its own "error: " before the message
        f.write_str(text.trim_start_matches(": "))
    }
}

/// The byte offset of a character position in a text, 1-based as PostgreSQL counts in its errors.
pub fn offset_of(text: &str, position: u32) -> usize {
    text.char_indices()
        .nth(position.saturating_sub(1) as usize)
        .map_or(text.len(), |(offset, _)| offset)
}

/// "did you mean `x`?" for the nearest of the valid names, when one is near enough to be a slip.
pub fn nearest<'a>(name: &str, valid: impl IntoIterator<Item = &'a str>) -> Option<String> {
    valid
        .into_iter()
        .map(|v| (strsim::damerau_levenshtein(name, v), v))
        .filter(|(distance, v)| *distance <= 1 + v.len().min(name.len()) / 3)
        .min()
        .map(|(_, v)| format!("did you mean `{v}`?"))
}

/// Names in backticks, joined by commas.
pub fn quoted<S: AsRef<str>>(names: &[S]) -> String {
    names
        .iter()
        .map(|n| format!("`{}`", n.as_ref()))
        .collect::<Vec<_>>()
        .join(", ")
}

/// Takes serde's "unknown field `x`, expected one of `a`, `b`" apart.
fn unknown_name(message: &str) -> Option<(&str, Vec<&str>)> {
    let (unknown, rest) = message.split_once(", expected ")?;
    unknown.starts_with("unknown ").then_some(())?;
    let valid: Vec<&str> = rest.split('`').skip(1).step_by(2).collect();
    (!valid.is_empty()).then_some((unknown, valid))
}

fn first_line(message: &str) -> &str {
    message.lines().next().unwrap_or(message)
}

/// A span that is inside the text and on character boundaries.
fn clamp(text: &str, span: Range<usize>) -> Range<usize> {
    let floor = |mut at: usize| {
        at = at.min(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let start = floor(span.start);
    start..floor(span.end).max(start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        #[expect(dead_code)]
        sessions: u32,
    }

    #[test]
    fn unknown_field_shows_line_and_nearest_name() {
        let source = Source::new("a.toml", "# x\nsesions = 3\n");
        let shown = source.toml::<File>(&source.text).unwrap_err().to_string();
        assert!(shown.contains("a.toml:2:1"), "{shown}");
        assert!(shown.contains("unknown field `sesions`"), "{shown}");
        assert!(shown.contains("did you mean `sessions`?"), "{shown}");
    }

    #[test]
    fn nothing_is_suggested_for_a_name_that_is_far_away() {
        assert_eq!(nearest("colour", ["sessions", "rounds"]), None);
        assert_eq!(
            nearest("last-rom", ["last-room", "double-click"]).as_deref(),
            Some("did you mean `last-room`?")
        );
    }

    #[test]
    fn positions_count_characters() {
        assert_eq!(
            [0, 1, 2, 3, 99].map(|position| offset_of("éa", position)),
            [0, 0, 2, 3, 3]
        );
    }

    #[test]
    fn a_span_outside_the_text_does_not_panic() {
        let source = Source::new("a", "é");
        assert!(source.error(1..99, "x").to_string().contains('x'));
    }
}

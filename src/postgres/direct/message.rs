//! The messages that a server answers with.

use super::TextRow;

/// A tag and a length.
const HEADER: usize = 5;

/// The first message, if it is there whole: its tag, its body, and what follows it.
pub(super) fn message(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = bytes.split_first()?;
    let length = u32::from_be_bytes(*rest.first_chunk()?) as usize;
    // the length counts itself; less would be no message of PostgreSQL's
    let (whole, rest) = bytes.split_at_checked(1 + length.max(4))?;
    Some((*tag, &whole[HEADER..], rest))
}

/// The values of a `DataRow`.
pub(super) fn row(body: &[u8]) -> Option<TextRow> {
    let (count, mut rest) = body.split_first_chunk::<2>()?;
    let mut values = Vec::with_capacity(usize::from(u16::from_be_bytes(*count)));
    for _ in 0..u16::from_be_bytes(*count) {
        let (length, after) = rest.split_first_chunk::<4>()?;
        // -1: NULL
        values.push(match usize::try_from(i32::from_be_bytes(*length)) {
            Ok(length) => {
                let (value, after) = after.split_at_checked(length)?;
                rest = after;
                Some(String::from_utf8_lossy(value).into_owned())
            }
            Err(_) => {
                rest = after;
                None
            }
        });
    }
    Some(values)
}

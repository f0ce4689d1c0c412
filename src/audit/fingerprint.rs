//! What a check asks, in a few letters: so that a change of the question isn't taken for a change of the data.

use crate::verify::Check;

/// The fingerprint of the check's statement and what it reads, not of its title, its severity or the like.
pub fn fingerprint(check: &Check) -> String {
    let (statement, file_begins) = check.statement();
    let header: usize = check
        .source
        .text
        .lines()
        .take(check.statement_line() - 1)
        .map(|l| l.len() + 1)
        .sum();
    let words = |text: &str| text.split_whitespace().map(String::from).collect::<Vec<_>>().join(" ");
    let map = statement.get(..file_begins).unwrap_or_default();
    let body = check.source.text.get(header..).unwrap_or(&statement);
    let mut parts = vec![words(map), words(body)];
    parts.extend(check.params.iter().map(|(name, value)| format!("{name}={value}")));
    format!("{:016x}", fnv1a(parts.join("\0").as_bytes()))
}

/// FNV-1a, 64 bits: the same on every machine and with every version of Rust, and nobody is to be kept from forging it.
pub(super) fn fnv1a(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Source;

    fn of(header: &str, sql: &str) -> String {
        let text = format!("-- /// db-race check\n-- id = 'a'\n-- title = 't'\n{header}-- ///\n{sql}");
        fingerprint(&Check::parse(Source::new("a.sql", text)).unwrap())
    }

    #[test]
    fn only_the_question_counts() {
        let plain = of("", "select 1 as id");
        assert_eq!(
            plain,
            of("-- severity = 'warn'\n-- owner = 'me'\n", "\nselect  1\n  as id")
        );
        assert_ne!(plain, of("", "select 2 as id"));
        assert_ne!(plain, of("-- params = { ttl = '1m' }\n", "select 1 as id"));
        // the published test vector
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }
}

//! How a server in a directory is written down: as a URL, and as a shell command.

use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::{DATABASE, USER};

pub(super) fn url(socket_dir: &Path, port: u16) -> String {
    let mut url = format!("postgresql://{USER}@/{DATABASE}?host=");
    for &byte in socket_dir.as_os_str().as_bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                url.push(char::from(byte));
            }
            _ => {
                let _ = write!(url, "%{byte:02X}");
            }
        }
    }
    // Said even though it is the default: PGPORT in the environment must not change it.
    let _ = write!(url, "&port={port}");
    url
}

/// The `psql` that came with the server when there is one, else the one in PATH.
pub(super) fn psql(bin_dir: &Path, url: &str) -> String {
    let own = bin_dir.join("psql");
    let program = if own.is_file() {
        own.to_string_lossy().into_owned()
    } else {
        "psql".to_owned()
    };
    format!("{} {}", shell_word(&program), shell_word(url))
}

fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._/@%+=:,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use tokio_postgres::config::Host;

    use super::*;

    #[test]
    fn url_is_understood_by_the_client() {
        for dir in ["/tmp/db-race-1-abc", "/tmp/with space & 100%/é/x"] {
            let config: tokio_postgres::Config = url(Path::new(dir), 5433).parse().unwrap();
            assert_eq!(config.get_hosts(), [Host::Unix(dir.into())]);
            assert_eq!(config.get_user(), Some(USER));
            assert_eq!(config.get_dbname(), Some(DATABASE));
            assert_eq!(config.get_ports(), [5433]);
        }
    }

    #[test]
    fn url_stays_readable() {
        assert_eq!(
            url(Path::new("/tmp/db-race-1-abc"), 5432),
            "postgresql://postgres@/postgres?host=/tmp/db-race-1-abc&port=5432"
        );
    }

    #[test]
    fn psql_is_one_shell_command() {
        assert_eq!(
            psql(Path::new("/nowhere"), "postgresql://x?y&z"),
            "psql 'postgresql://x?y&z'"
        );
        assert_eq!(shell_word("it's"), r"'it'\''s'");
    }
}

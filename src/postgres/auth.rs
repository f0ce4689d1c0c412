//! Which ways of authentication a server may ask for (`require_auth`).
//!
//! tokio-postgres answers whatever it is asked, so a false server could ask for the password itself. The questions are
//! read before it sees them.

use std::io;

/// A message's type and length.
const HEADER: usize = 5;
/// What an authentication request asks for, behind the header.
const CODE: usize = 4;

/// Reads what a server says until it has let the client in.
#[derive(Debug)]
pub(super) struct Guard {
    /// Those allowed, or with a `!` those refused.
    methods: Vec<String>,
    /// The message that is being read: its header and code.
    head: Vec<u8>,
    /// Bytes of it that are of no interest.
    skip: usize,
    was_asked: bool,
    is_done: bool,
}

impl Guard {
    /// `None` where everything is allowed.
    pub(super) fn of(methods: &[String]) -> Option<Guard> {
        (!methods.is_empty()).then(|| Guard {
            methods: methods.to_vec(),
            head: Vec::new(),
            skip: 0,
            was_asked: false,
            is_done: false,
        })
    }

    pub(super) fn is_done(&self) -> bool {
        self.is_done
    }

    /// Reads on.
    ///
    /// # Errors
    /// When the server asks for what it must not.
    pub(super) fn hear(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() && !self.is_done {
            if self.skip > 0 {
                let n = self.skip.min(bytes.len());
                self.skip -= n;
                bytes = &bytes[n..];
                continue;
            }
            self.head.push(bytes[0]);
            bytes = &bytes[1..];
            let Some(&[a, b, c, d]) = self.head.get(1..HEADER) else {
                continue;
            };
            let length = u32::from_be_bytes([a, b, c, d]) as usize;
            let is_request = self.head[0] == b'R';
            if is_request && self.head.len() < HEADER + CODE {
                continue;
            }
            if is_request {
                let code = <[u8; CODE]>::try_from(&self.head[HEADER..]).map_or(0, u32::from_be_bytes);
                self.asked(code)?;
            } else if self.head[0] == b'E' {
                self.is_done = true;
            }
            // the length counts itself, but not the type
            self.skip = (length + 1).saturating_sub(self.head.len());
            self.head.clear();
        }
        Ok(())
    }

    fn asked(&mut self, code: u32) -> io::Result<()> {
        let method = match code {
            // let in: only now it is sure that nothing was asked
            0 => {
                self.is_done = true;
                if self.was_asked {
                    return Ok(());
                }
                "none"
            }
            3 => "password",
            5 => "md5",
            7 => "gss",
            9 => "sspi",
            10 => "scram-sha-256",
            // the exchange goes on
            _ => return Ok(()),
        };
        self.was_asked = true;
        let is_named = |m: &String| m.strip_prefix('!').unwrap_or(m) == method;
        let named = self.methods.iter().any(is_named);
        let refuses = self.methods[0].starts_with('!');
        if named == refuses {
            let why = match method {
                "none" => "the server let the client in without authentication, which require_auth forbids".to_string(),
                method => format!("the server asks for {method} authentication, which require_auth forbids"),
            };
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = (body.len() as u32 + 4).to_be_bytes();
        [&[kind][..], &length, body].concat()
    }

    fn request(code: u32, rest: &[u8]) -> Vec<u8> {
        message(b'R', &[&code.to_be_bytes(), rest].concat())
    }

    /// Hears byte by byte, and all at once: both must agree.
    fn hear(methods: &[&str], said: &[Vec<u8>]) -> Result<bool, String> {
        let methods: Vec<String> = methods.iter().map(ToString::to_string).collect();
        let bytes = said.concat();
        let of = |size: usize| {
            let mut guard = Guard::of(&methods).unwrap();
            for part in bytes.chunks(size) {
                guard.hear(part).map_err(|e| e.to_string())?;
            }
            Ok(guard.is_done())
        };
        let result = of(1);
        assert_eq!(result, of(bytes.len()));
        result
    }

    #[test]
    fn only_what_is_allowed_reaches_the_client() {
        let scram = [
            request(10, b"SCRAM-SHA-256\0\0"),
            request(11, b"r="),
            request(12, b"v="),
            request(0, b""),
        ];
        let notice = message(b'N', b"hello");
        let password = [notice, request(3, b""), request(0, b"")];
        let trust = [request(0, b"")];
        assert_eq!(hear(&["scram-sha-256"], &scram), Ok(true));
        assert_eq!(hear(&["md5", "scram-sha-256"], &scram), Ok(true));
        assert_eq!(hear(&["!password", "!md5"], &scram), Ok(true));
        assert_eq!(hear(&["!password"], &trust), Ok(true));
        assert_eq!(hear(&["none"], &trust), Ok(true));
        for (methods, said, expected) in [
            (&["scram-sha-256"][..], &password[..], "asks for password"),
            (&["!password"], &password, "asks for password"),
            (&["scram-sha-256"], &trust, "without authentication"),
            (&["!none"], &trust, "without authentication"),
            (&["none"], &scram, "asks for scram-sha-256"),
        ] {
            let error = hear(methods, said).unwrap_err();
            assert!(error.contains(expected), "{methods:?}: {error}");
        }
    }
}

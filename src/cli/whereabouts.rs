//! Which server a command goes to.
//!
//! Two questions, told apart on purpose. *Which settings* has libpq's answer (`postgres::Asked`). *Whether to go to a server of the
//! user's at all* is asked first: what is bundled installs tables and needs a flag; a variable in a shell aims none of that
//! at production.

use std::path::PathBuf;

use clap::Args;

use super::exit::{self, Failure};
use super::output;
use crate::postgres::{self, Asked, Target};

/// Which server, for all commands that need one.
#[derive(Args, Default)]
#[command(next_help_heading = "Server")]
pub(super) struct Where {
    /// Connection string: postgresql://user@host:5432/database, libpq's key=value form, or service=NAME
    #[arg(long, value_name = "URL")]
    url: Vec<String>,
    /// Host, or the directory of a socket; several separated by commas
    #[arg(long, short = 'h', value_name = "HOST")]
    host: Option<String>,
    /// Port
    #[arg(long, short, value_name = "PORT")]
    port: Option<String>,
    /// Role to connect as
    #[arg(long, short = 'U', value_name = "NAME")]
    username: Option<String>,
    /// Database, or a connection string
    #[arg(long, short, value_name = "NAME")]
    dbname: Option<String>,
    /// Directory of the PostgreSQL server's binaries, for the throwaway server
    #[arg(long, value_name = "DIR", env = "DB_RACE_PG_BIN")]
    pg_bin: Option<PathBuf>,
}

impl std::fmt::Debug for Where {
    // connection strings may hold passwords
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Where").finish_non_exhaustive()
    }
}

impl Where {
    /// Whether it may be a server of the user's.
    pub(super) fn is_users_server(&self) -> bool {
        self.is_flagged() || environment_names_a_place()
    }

    /// Whether a flag says where. `-U` says only as whom.
    fn is_flagged(&self) -> bool {
        !self.url.is_empty() || self.host.is_some() || self.port.is_some() || self.dbname.is_some()
    }

    pub(super) fn server_options(&self) -> postgres::server::Options {
        postgres::server::Options {
            bin_dir: self.pg_bin.clone(),
            ..Default::default()
        }
    }

    /// The one server that flags, `DATABASE_URL`, a service or `PG*` variables name; `None` when they name none.
    pub(super) fn target(&self) -> Result<Option<Target>, Failure> {
        if self.url.len() > 1 {
            return Err(Failure::new(exit::USAGE, "this command takes one --url"));
        }
        Ok(self.targets()?.pop())
    }

    /// All servers that are named: `--url` may be given more than once.
    pub(super) fn targets(&self) -> Result<Vec<Target>, Failure> {
        if !self.is_flagged() && !environment_names_a_place() {
            return match &self.username {
                Some(_) => Err(self.nowhere()),
                None => Ok(Vec::new()),
            };
        }
        let mut strings: Vec<_> = self.url.iter().map(|url| Some(("--url", url.clone()))).collect();
        if strings.is_empty() {
            // a flag that names a place means another one than DATABASE_URL
            let url = database_url().filter(|_| !self.is_flagged());
            strings.push(url.map(|url| ("DATABASE_URL", url)));
        }
        let target = |string| {
            let target = Target::asked(&Asked {
                string,
                host: self.host.clone(),
                port: self.port.clone(),
                user: self.username.clone(),
                dbname: self.dbname.clone(),
            })?;
            for warning in target.warnings() {
                output::note(&format!("warning: {warning}"));
            }
            Ok(target)
        };
        strings.into_iter().map(target).collect()
    }

    /// The server that flags name, for what must not go where the environment happens to point.
    pub(super) fn flagged_target(&self) -> Result<Option<Target>, Failure> {
        match (self.is_flagged(), &self.username) {
            (true, _) => self.target(),
            (false, Some(_)) => Err(self.nowhere()),
            (false, None) => Ok(None),
        }
    }

    fn nowhere(&self) -> Failure {
        Failure::new(
            exit::USAGE,
            "-U says as whom to connect, but nothing says where to: give --url, -h, -p or -d, too",
        )
    }

    /// The same flags again; a connection string may hold a password, so it is left out.
    pub(super) fn command_line(&self) -> Vec<String> {
        let mut words = Vec::new();
        let mut flag = |name: &str, value: Option<&str>| {
            if let Some(value) = value {
                words.extend([name.to_string(), value.to_string()]);
            }
        };
        self.url.iter().for_each(|_| flag("--url", Some("URL")));
        flag("--host", self.host.as_deref());
        flag("--port", self.port.as_deref());
        flag("--username", self.username.as_deref());
        let dbname = self.dbname.as_deref();
        flag(
            "--dbname",
            dbname.map(|name| {
                if postgres::is_connection_string(name) {
                    "URL"
                } else {
                    name
                }
            }),
        );
        words
    }
}

/// DATABASE_URL, for what has no system of its own to run on.
fn database_url() -> Option<String> {
    std::env::var("DATABASE_URL").ok().filter(|url| !url.is_empty())
}

fn environment_names_a_place() -> bool {
    database_url().is_some() || postgres::variable_naming_a_place().is_some()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    #[command(disable_help_flag = true)]
    struct Line {
        #[command(flatten)]
        place: Where,
    }

    #[test]
    fn connection_strings_are_not_repeated() {
        let line = |words: &str| {
            let words = ["db-race"].into_iter().chain(words.split(' '));
            Line::try_parse_from(words).unwrap_or_else(|e| panic!("{e}")).place
        };
        let place = line("--url postgresql://u:secret@h/d --url host=h -h a,b -p 1 -U me -d password=secret");
        assert_eq!(
            place.command_line().join(" "),
            "--url URL --url URL --host a,b --port 1 --username me --dbname URL"
        );
        assert!(!format!("{place:?}").contains("secret"));
        assert_eq!(line("-d shop").command_line(), ["--dbname", "shop"]);
        assert!(!line("-U me").is_flagged());
    }
}

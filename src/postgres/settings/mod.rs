//! How a server is reached, told as libpq is told: flags, connection strings, services, `PG*` variables, a password file.
//!
//! A value given nearer to the command line wins: `-d` with a connection string, the other flags, `--url` or
//! `DATABASE_URL`, the service, the environment, defaults. Passwords that are still missing are looked for in the password file.
//!
//! No message repeats a value: where a quote is missing, half a password may be taken for something else.

mod finish;
mod hosts;
mod keyword;
mod parameter;
mod passfile;
mod secret;
mod service;
mod uri;
mod world;

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

pub(super) use finish::{ChannelBinding, SessionAttributes, Settings};
pub(super) use finish::{Roots, SslMode, SslNegotiation, TlsSettings, TlsVersion};
pub(super) use hosts::{Host, Place};
use parameter::{Parameter, Treatment};
pub(super) use secret::Secret;
use world::World;
pub(super) use world::socket_name;

/// What the command line says of a server; the environment says the rest.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Asked {
    /// A URI or a `key=value` string, and where it is from: `--url`, `DATABASE_URL`.
    pub string: Option<(&'static str, String)>,
    /// `--host`
    pub host: Option<String>,
    /// `--port`
    pub port: Option<String>,
    /// `--username`
    pub user: Option<String>,
    /// `--dbname`: a name, a URI or a `key=value` string.
    pub dbname: Option<String>,
}

impl fmt::Debug for Asked {
    // a string may hold a password
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asked").finish_non_exhaustive()
    }
}

/// Variables that say which database is meant. `PGUSER` says only who asks.
const PLACES: [&str; 5] = ["PGSERVICE", "PGHOST", "PGHOSTADDR", "PGPORT", "PGDATABASE"];

/// The first of libpq's variables that says which database is meant, if one does.
pub fn variable_naming_a_place() -> Option<&'static str> {
    let is_set = |name: &&str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    PLACES.into_iter().find(is_set)
}

/// Whether a database's name is a connection string instead.
pub fn is_connection_string(dbname: &str) -> bool {
    uri::is_uri(dbname) || dbname.contains('=')
}

impl Asked {
    /// The settings, completed from the environment.
    pub(super) fn settings(&self) -> Result<Settings, String> {
        self.settings_in(&World::of_process())
    }

    fn settings_in(&self, world: &World) -> Result<Settings, String> {
        let mut given = Given::default();
        if let Some(dbname) = &self.dbname {
            match is_connection_string(dbname) {
                true => given.string("--dbname", dbname)?,
                false => given.give("dbname", dbname, &Origin::Flag("--dbname"))?,
            }
        }
        let flags = [
            ("host", "--host", &self.host),
            ("port", "--port", &self.port),
            ("user", "--username", &self.user),
        ];
        for (name, flag, value) in flags {
            if let Some(value) = value {
                given.give(name, value, &Origin::Flag(flag))?;
            }
        }
        if let Some((name, text)) = &self.string {
            given.string(name, text)?;
        }
        given.service(world)?;
        given.environment(world)?;
        finish::settings(&given, world)
    }
}

/// Where a value is from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Origin {
    Flag(&'static str),
    /// In a connection string.
    String(&'static str),
    Service {
        file: PathBuf,
        line: usize,
    },
    Variable(&'static str),
}

impl Origin {
    /// `PGSSLMODE`, `--url: sslmode`, `/etc/pg_service.conf:7: sslmode`
    fn of(&self, name: &str) -> String {
        match self {
            Origin::Flag(flag) => flag.to_string(),
            Origin::String(string) => format!("{string}: {name}"),
            Origin::Service { file, line } => format!("{}:{line}: {name}", file.display()),
            Origin::Variable(variable) => variable.to_string(),
        }
    }
}

/// Values by parameter, the nearest of each.
#[derive(Default)]
struct Given(HashMap<&'static str, (String, Origin)>);

impl Given {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|(value, _)| value.as_str())
    }

    /// What isn't empty: most parameters take that for the default.
    fn meant(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|value| !value.is_empty())
    }

    /// Where a value is from, for messages.
    fn origin(&self, name: &str) -> String {
        self.0
            .get(name)
            .map_or_else(|| name.to_string(), |(_, from)| from.of(name))
    }

    fn give(&mut self, name: &str, value: &str, from: &Origin) -> Result<(), String> {
        match parameter::find(name) {
            Some(parameter) => self.take(parameter, value, from),
            None => Ok(()),
        }
    }

    /// A value that counts unless there is a nearer one.
    fn take(&mut self, parameter: &'static Parameter, value: &str, from: &Origin) -> Result<(), String> {
        if self.0.contains_key(parameter.name) {
            return Ok(());
        }
        match parameter.treatment {
            Treatment::Used => {
                let value = (value.to_string(), from.clone());
                self.0.insert(parameter.name, value);
            }
            Treatment::Ignored => {}
            Treatment::Only(allowed, why) => {
                let is_one = |word: &&str| word.eq_ignore_ascii_case(value);
                if !value.is_empty() && !allowed.iter().any(is_one) {
                    return Err(format!("{} cannot be had here: {why}", from.of(parameter.name)));
                }
            }
        }
        Ok(())
    }

    /// A connection string: of a parameter that stands in it twice, the last counts.
    fn string(&mut self, source: &'static str, text: &str) -> Result<(), String> {
        let found = match uri::is_uri(text) {
            true => uri::parse(text),
            false => keyword::parse(text),
        };
        let found = found.map_err(|why| {
            format!(
                "{source}: {why}; expected like postgresql://user@host:5432/database, \
                 or `host=... dbname=...`, or `service=...`"
            )
        })?;
        for (parameter, value) in found.into_iter().rev() {
            self.take(parameter, &value, &Origin::String(source))?;
        }
        Ok(())
    }

    fn environment(&mut self, world: &World) -> Result<(), String> {
        for parameter in parameter::all() {
            if let Some(variable) = parameter.variable
                && let Some(value) = world.variable(variable)
            {
                self.take(parameter, value, &Origin::Variable(variable))?;
            }
        }
        // before there was PGSSLMODE
        if world
            .variable("PGREQUIRESSL")
            .is_some_and(|value| value.starts_with('1'))
        {
            self.give("sslmode", "require", &Origin::Variable("PGREQUIRESSL"))?;
        }
        Ok(())
    }

    /// The user's file is looked into first, then the system's.
    fn service(&mut self, world: &World) -> Result<(), String> {
        let asked = match self.get("service") {
            Some(service) => Some((service.to_string(), self.origin("service"))),
            None => world
                .variable("PGSERVICE")
                .map(|service| (service.to_string(), "PGSERVICE".to_string())),
        };
        let Some((service, origin)) = asked.filter(|(service, _)| !service.is_empty()) else {
            return Ok(());
        };
        let mut looked = Vec::new();
        let named = self.get("servicefile").or_else(|| world.variable("PGSERVICEFILE"));
        match named.map(PathBuf::from) {
            Some(file) if !file.exists() => {
                return Err(format!("{origin}: the service file {} does not exist", file.display()));
            }
            Some(file) => looked.push(file),
            None => looked.extend(world.at_home(".pg_service.conf")),
        }
        looked.extend(world.system_directories.iter().map(|dir| dir.join("pg_service.conf")));
        looked.retain(|file| file.exists());
        for file in &looked {
            if self.service_in(file, &service)? {
                return Ok(());
            }
        }
        let looked: Vec<String> = looked.iter().map(|file| file.display().to_string()).collect();
        Err(match looked.is_empty() {
            true => format!("{origin}: there is no service file; services stand in ~/.pg_service.conf"),
            false => format!("{origin}: there is no service of that name in {}", looked.join(" or ")),
        })
    }

    fn service_in(&mut self, file: &Path, service: &str) -> Result<bool, String> {
        let text = world::read(file)?;
        let found = service::find(&text, service);
        let found = found.map_err(|(line, why)| format!("{}:{line}: {why}", file.display()))?;
        let Some(found) = found else { return Ok(false) };
        for (parameter, value, line) in found {
            let from = Origin::Service {
                file: file.to_path_buf(),
                line,
            };
            self.take(parameter, &value, &from)?;
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests;

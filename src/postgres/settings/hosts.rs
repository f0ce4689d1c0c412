//! The servers that a connection is tried with.

use std::net::IpAddr;
use std::path::PathBuf;

use super::passfile::{self, Wanted};
use super::world::{self, World};
use super::{Given, Secret};

/// PostgreSQL's.
pub(super) const PORT: u16 = 5432;

/// A server, and the password for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::postgres) struct Host {
    pub place: Place,
    pub port: u16,
    pub password: Option<Secret>,
    /// The password file and the line that it is from.
    pub password_from: Option<String>,
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::postgres) enum Place {
    /// The directory of its socket; behind an `@` in Linux' abstract namespace.
    Socket(PathBuf),
    /// A name that is looked up. Certificates are compared with it.
    Name(String),
    /// An address, and the name that certificates are compared with.
    Address(IpAddr, Option<String>),
}

impl Place {
    /// As it is named in messages.
    pub(in crate::postgres) fn name(&self) -> String {
        match self {
            Place::Socket(dir) => dir.display().to_string(),
            Place::Name(name) | Place::Address(_, Some(name)) => name.clone(),
            Place::Address(address, None) => address.to_string(),
        }
    }
}

/// All hosts, in their order.
pub(super) fn hosts(
    given: &Given,
    world: &World,
    user: &str,
    dbname: &str,
    warnings: &mut Vec<String>,
) -> Result<Vec<Host>, String> {
    let list = |name| {
        given
            .meant(name)
            .map(|list| list.split(',').map(str::trim).collect::<Vec<_>>())
    };
    let (names, addresses) = (list("host"), list("hostaddr"));
    let count = match (&names, &addresses) {
        (Some(names), Some(addresses)) if names.len() != addresses.len() => {
            return Err(format!(
                "{}: there are {} addresses for {} hosts",
                given.origin("hostaddr"),
                addresses.len(),
                names.len()
            ));
        }
        (Some(list), _) | (None, Some(list)) => list.len(),
        (None, None) => 1,
    };
    let ports = ports(given, count)?;
    let file = PasswordFile::of(given, world);
    let mut hosts = Vec::new();
    for (i, port) in ports.into_iter().enumerate() {
        let nth = |list: &Option<Vec<&str>>| list.as_ref().map_or(String::new(), |list| list[i].to_string());
        let (name, address) = (nth(&names), nth(&addresses));
        let is_socket = name.starts_with(['/', '@']);
        let place = match (&*name, &*address) {
            (_, address) if !address.is_empty() => match address.parse() {
                Ok(_) if is_socket => return Err(format!("{}: a socket has no address", given.origin("hostaddr"))),
                Ok(address) => Place::Address(address, Some(name).filter(|name| !name.is_empty())),
                Err(_) => {
                    return Err(format!(
                        "{}: entry {} is no IP address",
                        given.origin("hostaddr"),
                        i + 1
                    ));
                }
            },
            ("", _) => match world.socket_directory(port) {
                Some(dir) => Place::Socket(dir),
                None => Place::Name("localhost".into()),
            },
            (name, _) if is_socket => Place::Socket(name.into()),
            (name, _) => Place::Name(name.into()),
        };
        let mut host = Host {
            place,
            port,
            password: given.meant("password").map(Secret::new),
            password_from: None,
        };
        if host.password.is_none() {
            file.fill(&mut host, world, user, dbname, warnings);
        }
        hosts.push(host);
    }
    Ok(hosts)
}

/// One for all hosts, or one each; an empty one is the default.
fn ports(given: &Given, count: usize) -> Result<Vec<u16>, String> {
    let Some(list) = given.meant("port") else {
        return Ok(vec![PORT; count]);
    };
    let origin = || given.origin("port");
    let parse = |(i, port): (usize, &str)| match port.trim() {
        "" => Ok(PORT),
        port => match port.parse() {
            Ok(port) if port > 0 => Ok(port),
            _ => Err(format!("{}: entry {} is no port; expected 1 to 65535", origin(), i + 1)),
        },
    };
    let ports = list
        .split(',')
        .enumerate()
        .map(parse)
        .collect::<Result<Vec<u16>, String>>()?;
    match ports[..] {
        [port] => Ok(vec![port; count]),
        _ if ports.len() == count => Ok(ports),
        _ => Err(format!(
            "{}: there are {} ports for {count} hosts",
            origin(),
            ports.len()
        )),
    }
}

/// The password file; it is read when it is needed.
struct PasswordFile {
    path: Option<PathBuf>,
}

impl PasswordFile {
    fn of(given: &Given, world: &World) -> PasswordFile {
        let named = given.meant("passfile").map(PathBuf::from);
        PasswordFile {
            path: named.or_else(|| world.at_home(".pgpass")),
        }
    }

    /// A file that others may read is no secret, and is left out with a warning as libpq does.
    fn fill(&self, host: &mut Host, world: &World, user: &str, dbname: &str, warnings: &mut Vec<String>) {
        use std::os::unix::fs::PermissionsExt;
        let Some(path) = &self.path else { return };
        let Ok(meta) = path.metadata() else { return };
        let why = match meta.permissions().mode() {
            _ if !meta.is_file() => Some("it is not a plain file"),
            mode if mode & 0o077 != 0 => Some("others may read it; make it private with chmod 600"),
            _ => None,
        };
        let text = match why {
            None => world::read(path),
            Some(why) => Err(format!("the password file {} is not used: {why}", path.display())),
        };
        let text = match text {
            Ok(text) => text,
            Err(warning) => {
                if !warnings.contains(&warning) {
                    warnings.push(warning);
                }
                return;
            }
        };
        let name = match &host.place {
            Place::Socket(dir) if world.socket_directories.contains(dir) => "localhost".to_string(),
            place => place.name(),
        };
        let port = host.port.to_string();
        let wanted = Wanted {
            host: &name,
            port: &port,
            dbname,
            user,
        };
        if let Some((password, line)) = passfile::find(&text, wanted) {
            host.password = Some(Secret::new(password));
            host.password_from = Some(format!("{}:{line}", path.display()));
        }
    }
}

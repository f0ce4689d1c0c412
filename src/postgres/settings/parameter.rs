//! Connection parameters by name, as libpq knows them (`PQconninfoOptions` in fe-connect.c).

/// A connection parameter.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parameter {
    /// As written in connection strings and services.
    pub name: &'static str,
    /// The environment variable of the same meaning.
    pub variable: Option<&'static str>,
    pub treatment: Treatment,
}

/// What becomes of a parameter that was given.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Treatment {
    Used,
    /// Nothing that db-race does depends on it.
    Ignored,
    /// Only these values can be had, which is why it must not be ignored.
    Only(&'static [&'static str], &'static str),
}

use Treatment::{Ignored, Only, Used};

const GSS: &str = "db-race has no GSSAPI";
const PROTOCOL: &str = "db-race speaks version 3.0 of the protocol";

#[rustfmt::skip]
static PARAMETERS: &[Parameter] = &[
    parameter("service", Some("PGSERVICE"), Used),
    parameter("servicefile", Some("PGSERVICEFILE"), Used),
    parameter("user", Some("PGUSER"), Used),
    parameter("password", Some("PGPASSWORD"), Used),
    parameter("passfile", Some("PGPASSFILE"), Used),
    parameter("dbname", Some("PGDATABASE"), Used),
    parameter("host", Some("PGHOST"), Used),
    parameter("hostaddr", Some("PGHOSTADDR"), Used),
    parameter("port", Some("PGPORT"), Used),
    parameter("options", Some("PGOPTIONS"), Used),
    parameter("connect_timeout", Some("PGCONNECT_TIMEOUT"), Used),
    parameter("keepalives", None, Used),
    parameter("keepalives_idle", None, Used),
    parameter("keepalives_interval", None, Used),
    parameter("keepalives_count", None, Used),
    parameter("tcp_user_timeout", None, Used),
    parameter("sslmode", Some("PGSSLMODE"), Used),
    parameter("sslnegotiation", Some("PGSSLNEGOTIATION"), Used),
    parameter("sslrootcert", Some("PGSSLROOTCERT"), Used),
    parameter("sslcrl", Some("PGSSLCRL"), Used),
    parameter("sslcert", Some("PGSSLCERT"), Used),
    parameter("sslkey", Some("PGSSLKEY"), Used),
    parameter("sslcertmode", Some("PGSSLCERTMODE"), Used),
    parameter("sslsni", Some("PGSSLSNI"), Used),
    parameter("ssl_min_protocol_version", Some("PGSSLMINPROTOCOLVERSION"), Used),
    parameter("ssl_max_protocol_version", Some("PGSSLMAXPROTOCOLVERSION"), Used),
    parameter("channel_binding", Some("PGCHANNELBINDING"), Used),
    parameter("require_auth", Some("PGREQUIREAUTH"), Used),
    parameter("requirepeer", Some("PGREQUIREPEER"), Used),
    parameter("target_session_attrs", Some("PGTARGETSESSIONATTRS"), Used),
    parameter("load_balance_hosts", Some("PGLOADBALANCEHOSTS"), Used),
    // told as settings of the session
    parameter("datestyle", Some("PGDATESTYLE"), Used),
    parameter("timezone", Some("PGTZ"), Used),
    parameter("geqo", Some("PGGEQO"), Used),

    // its sessions are told apart by names of its own
    parameter("application_name", Some("PGAPPNAME"), Ignored),
    parameter("fallback_application_name", None, Ignored),
    // not done by any server that is still around
    parameter("sslcompression", Some("PGSSLCOMPRESSION"), Ignored),
    // only matter together with what is refused below
    parameter("sslpassword", None, Ignored),
    parameter("krbsrvname", Some("PGKRBSRVNAME"), Ignored),
    parameter("gsslib", Some("PGGSSLIB"), Ignored),
    parameter("gssdelegation", Some("PGGSSDELEGATION"), Ignored),

    parameter("gssencmode", Some("PGGSSENCMODE"), Only(&["disable", "prefer"], GSS)),
    parameter("client_encoding", Some("PGCLIENTENCODING"), Only(&["UTF8", "UTF-8", "UNICODE", "auto"], "db-race speaks UTF8 to the server")),
    parameter("replication", None, Only(&["false", "off", "no", "0"], "db-race makes no replication connections")),
    parameter("sslcrldir", Some("PGSSLCRLDIR"), Only(&[], "only a single file can be read: give it as sslcrl")),
    parameter("min_protocol_version", Some("PGMINPROTOCOLVERSION"), Only(&["3.0"], PROTOCOL)),
    parameter("max_protocol_version", Some("PGMAXPROTOCOLVERSION"), Only(&["3.0", "3.2", "latest"], PROTOCOL)),
    parameter("sslkeylogfile", None, Only(&[], "db-race writes no TLS secrets")),
    parameter("scram_client_key", None, Only(&[], "give the password instead")),
    parameter("scram_server_key", None, Only(&[], "give the password instead")),
    parameter("oauth_issuer", None, Only(&[], "db-race has no OAuth")),
    parameter("oauth_client_id", None, Only(&[], "db-race has no OAuth")),
    parameter("oauth_client_secret", None, Only(&[], "db-race has no OAuth")),
    parameter("oauth_scope", None, Only(&[], "db-race has no OAuth")),
];

const fn parameter(name: &'static str, variable: Option<&'static str>, treatment: Treatment) -> Parameter {
    Parameter {
        name,
        variable,
        treatment,
    }
}

pub(super) fn all() -> impl Iterator<Item = &'static Parameter> {
    PARAMETERS.iter()
}

pub(super) fn find(name: &str) -> Option<&'static Parameter> {
    PARAMETERS.iter().find(|p| p.name == name)
}

/// What to say of a name that nothing has. It isn't repeated: where quotes are missing it may be half a password.
pub(super) fn unknown(name: &str) -> String {
    let near = PARAMETERS
        .iter()
        .map(|p| (strsim::damerau_levenshtein(p.name, name), p.name))
        .min();
    match near {
        Some((distance, near)) if distance <= 2 => format!("there is no such parameter; did you mean `{near}`?"),
        _ => "there is no such parameter".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_variables_are_there_once() {
        let mut names: Vec<&str> = all().flat_map(|p| [Some(p.name), p.variable]).flatten().collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn an_unknown_name_is_not_repeated() {
        assert_eq!(unknown("sslmod"), "there is no such parameter; did you mean `sslmode`?");
        assert_eq!(unknown("hunter2"), "there is no such parameter");
    }
}

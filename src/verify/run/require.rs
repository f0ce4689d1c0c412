//! Whether a check is to be run here.

use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error};

use crate::verify::{Check, Requires, RunOn};

/// Why a check isn't for a server of this kind.
pub(super) fn unfit(check: &Check, version: u32, standby: bool) -> Option<String> {
    match (check.run_on, standby) {
        (RunOn::Primary, true) => return Some("it runs on a primary, and this is a standby".into()),
        (RunOn::Standby, false) => return Some("it runs on a standby, and this is a primary".into()),
        _ => {}
    }
    let Requires {
        version_min,
        version_max,
        ..
    } = check.requires;
    let wanted = match (version_min, version_max) {
        (Some(min), _) if version < min => format!("{min} or newer"),
        (_, Some(max)) if version > max => format!("{max} or older"),
        _ => return None,
    };
    Some(format!("it needs PostgreSQL {wanted}, and this is {version}"))
}

/// Whether the database has to be asked.
pub(super) fn is_wanted(check: &Check) -> bool {
    let requires = &check.requires;
    !requires.relations.is_empty() || !requires.extensions.is_empty() || requires.predicate.is_some()
}

/// What of it the database doesn't have.
pub(super) async fn missing(client: &Client, requires: &Requires) -> Result<Option<String>, Error> {
    if !requires.relations.is_empty() || !requires.extensions.is_empty() {
        let sql =
            "SELECT 'there is no relation ' || name FROM unnest($1::text[]) AS name WHERE to_regclass(name) IS NULL
                   UNION ALL
                   SELECT 'the extension ' || name || ' is not installed' FROM unnest($2::text[]) AS name
                   WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_extension WHERE extname = name)";
        let (relations, extensions) = (&requires.relations, &requires.extensions);
        let kind = Type::TEXT_ARRAY;
        let rows = client
            .query_typed(sql, &[(relations, kind.clone()), (extensions, kind)])
            .await?;
        if let Some(row) = rows.first() {
            return row.try_get(0);
        }
    }
    let Some(predicate) = &requires.predicate else {
        return Ok(None);
    };
    let row = client
        .query_typed_one(&format!("SELECT (\n{predicate}\n)::bool"), &[])
        .await?;
    let is_true = row.try_get::<_, Option<bool>>(0)? == Some(true);
    Ok((!is_true).then(|| format!("`{}` is not true here", predicate.trim())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Source;

    #[test]
    fn versions_and_kinds_of_servers() {
        let check = |header: &str| {
            let text = format!("-- /// db-race check\n-- id = 'a'\n-- title = 't'\n-- {header}\n-- ///\nselect 1");
            Check::parse(Source::new("a.sql", text)).unwrap()
        };
        for (header, version, standby, why) in [
            ("run_on = 'any'", 13, true, None),
            ("run_on = 'primary'", 13, true, Some("this is a standby")),
            ("run_on = 'standby'", 13, false, Some("this is a primary")),
            (
                "requires = { pg = '>= 14' }",
                13,
                false,
                Some("14 or newer, and this is 13"),
            ),
            ("requires = { pg = '< 18' }", 18, false, Some("17 or older")),
            ("requires = { pg = '>= 14, < 18' }", 15, false, None),
        ] {
            let unfit = unfit(&check(header), version, standby);
            match why {
                Some(why) => assert!(unfit.unwrap().contains(why), "{header}"),
                None => assert_eq!(unfit, None, "{header}"),
            }
        }
    }
}

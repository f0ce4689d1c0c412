//! The map file: TOML that gives a pack's names to the user's tables.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use toml::Spanned;

use super::Pack;
use crate::bundled::Folder;
use crate::source::{Diagnostic, FileError, Source, nearest};
use crate::verify::check::{Expression, Map, MappedRelation};
use crate::verify::{Check, Grace};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MapFile {
    pack: Spanned<String>,
    id: Option<Spanned<String>>,
    #[serde(default)]
    map: BTreeMap<Spanned<String>, BTreeMap<Spanned<String>, Spanned<String>>>,
    #[serde(default)]
    params: BTreeMap<Spanned<String>, String>,
    #[serde(default)]
    grace: BTreeMap<Spanned<String>, Spanned<String>>,
    #[serde(default)]
    skip: Vec<Spanned<String>>,
}

/// A relation that the file maps.
struct Mapped {
    from: Expression,
    filter: Option<Expression>,
    columns: BTreeMap<String, Expression>,
}

/// The checks of the pack that a map file names, with its map, and defaults of the `suite.toml`s around it. A check that can't be run
/// with it says in `missing` what to add.
///
/// # Errors
/// [`FileError`] when the file is wrong: no such pack, relation, column, parameter or check.
pub fn checks(source: &Source, suites: &[Source]) -> Result<Vec<Check>, FileError> {
    let file: MapFile = source.toml(&source.text)?;
    let pack = pack(source, &file.pack)?;
    let mut checks = pack.checks(suites)?;
    if let Some(id) = file.id.as_ref().filter(|id| !is_id(id.get_ref())) {
        return Err(source
            .error(id.span(), "this can't be read")
            .label("expected letters, digits, `_` and `-`: the first part of the checks' ids")
            .into());
    }
    let map = relations(source, &pack, file.map)?;
    params(source, &file.params, &mut checks)?;
    graces(source, &file.grace, &mut checks)?;
    for check in &mut checks {
        give(source, &pack, &map, check)?;
    }
    for name in &file.skip {
        let check = by_name(source, &mut checks, name)?;
        check.missing = Some(format!("left out by `skip` in {}", source.name));
    }
    for check in &mut checks {
        check.map_file = Some(source.name.clone());
        if let Some(id) = &file.id {
            check.id = format!("{}.{}", id.get_ref(), short(&check.id));
        }
    }
    Ok(checks)
}

/// Whether a TOML file is a map: it has a line `pack = ...`. One that is otherwise broken still is, and is told so.
pub(in crate::verify) fn is_map(source: &Source) -> bool {
    let is_pack = |line: &str| {
        line.strip_prefix("pack")
            .is_some_and(|rest| rest.trim_start().starts_with('='))
    };
    source.text.lines().any(is_pack)
}

/// A folder with a `pack.toml`, by its path from the map file, or a bundled name. A path wins.
fn pack(source: &Source, name: &Spanned<String>) -> Result<Pack, FileError> {
    let base = Path::new(&*source.name).parent().unwrap_or(Path::new(""));
    let path = base.join(name.get_ref());
    if path.is_dir()
        && let Some(pack) = Pack::read(Folder::Disk(path))?
    {
        return Ok(pack);
    }
    let wanted = name.get_ref();
    let wanted = wanted.strip_prefix("checks/").unwrap_or(wanted);
    let wanted = wanted.strip_prefix("packs/").unwrap_or(wanted);
    let mut packs = Pack::bundled()?;
    if let Some(at) = packs.iter().position(|p| p.name == wanted) {
        return Ok(packs.swap_remove(at));
    }
    let names: Vec<&str> = packs.iter().map(|p| p.name.as_str()).collect();
    let error = source
        .error(name.span(), format!("there is no pack `{wanted}`"))
        .label("expected a bundled pack, or a folder with a pack.toml");
    let help = nearest(wanted, names.iter().copied()).unwrap_or_else(|| format!("bundled are {}", names.join(", ")));
    Err(error.help(help).into())
}

type Relations = BTreeMap<String, Mapped>;

fn relations(
    source: &Source,
    pack: &Pack,
    map: BTreeMap<Spanned<String>, BTreeMap<Spanned<String>, Spanned<String>>>,
) -> Result<Relations, Diagnostic> {
    let mut relations = Relations::new();
    for (name, entries) in map {
        let Some(relation) = pack.relation(name.get_ref()) else {
            return Err(unknown(
                source,
                &name,
                &format!("relation of the pack `{}`", pack.name),
                pack.relations.iter().map(|r| &*r.name),
            ));
        };
        let (mut from, mut filter, mut columns) = (None, None, BTreeMap::new());
        for (column, sql) in entries {
            let expression = Expression {
                span: sql.span(),
                sql: sql.into_inner(),
            };
            if expression.sql.trim().is_empty() {
                let error = source.error(expression.span, "this is empty");
                return Err(error.help("leave the line out, if you have nothing for it"));
            }
            match column.get_ref().as_str() {
                "from" => from = Some(expression),
                "where" => filter = Some(expression),
                known if relation.column(known).is_some() => {
                    columns.insert(known.to_string(), expression);
                }
                _ => {
                    let valid = ["from", "where"]
                        .into_iter()
                        .chain(relation.columns.iter().map(|c| &*c.name));
                    return Err(unknown(
                        source,
                        &column,
                        &format!("column of `{}`", relation.name),
                        valid,
                    ));
                }
            }
        }
        let Some(from) = from else {
            return Err(source
                .error(name.span(), format!("[map.{}] has no `from`", relation.name))
                .help("add the table: `from = \"public.my_table\"`"));
        };
        relations.insert(name.into_inner(), Mapped { from, filter, columns });
    }
    Ok(relations)
}

fn unknown<'a>(
    source: &Source,
    name: &Spanned<String>,
    what: &str,
    valid: impl Iterator<Item = &'a str>,
) -> Diagnostic {
    let valid: Vec<&str> = valid.collect();
    let help =
        nearest(name.get_ref(), valid.iter().copied()).unwrap_or_else(|| format!("there are {}", valid.join(", ")));
    source
        .error(name.span(), format!("`{}` is no {what}", name.get_ref()))
        .help(help)
}

fn params(source: &Source, params: &BTreeMap<Spanned<String>, String>, checks: &mut [Check]) -> Result<(), Diagnostic> {
    for (name, value) in params {
        let mut is_known = false;
        for check in checks.iter_mut() {
            if let Some(param) = check.params.get_mut(name.get_ref()) {
                *param = value.clone();
                is_known = true;
            }
        }
        if !is_known {
            let mut valid: Vec<&str> = checks.iter().flat_map(|c| c.params.keys().map(|p| &**p)).collect();
            valid.sort_unstable();
            valid.dedup();
            return Err(unknown(
                source,
                name,
                "parameter of the pack's checks",
                valid.into_iter(),
            ));
        }
    }
    Ok(())
}

fn graces(
    source: &Source,
    graces: &BTreeMap<Spanned<String>, Spanned<String>>,
    checks: &mut [Check],
) -> Result<(), Diagnostic> {
    for (name, time) in graces {
        let Ok(time_new) = humantime::parse_duration(time.get_ref()) else {
            return Err(source
                .error(time.span(), "this can't be read")
                .label("expected a length of time like `30s`, `15m` or `2h`"));
        };
        let check = by_name(source, checks, name)?;
        let Some(grace) = &check.grace else {
            let error = source.error(name.span(), format!("`{}` has no grace", name.get_ref()));
            return Err(error.help("its rows have no time to measure it by"));
        };
        let column = grace.column.clone();
        // no grace: what is young is a finding, too
        check.grace = (!time_new.is_zero()).then_some(Grace { column, time: time_new });
    }
    Ok(())
}

/// A check of the pack by the second part of its id, or all of it.
fn by_name<'a>(source: &Source, checks: &'a mut [Check], name: &Spanned<String>) -> Result<&'a mut Check, Diagnostic> {
    let wanted = name.get_ref();
    match checks.iter().position(|c| c.id == *wanted || short(&c.id) == wanted) {
        Some(at) => Ok(&mut checks[at]),
        None => {
            let names = checks.iter().map(|c| short(&c.id));
            Err(unknown(source, name, "check of the pack", names))
        }
    }
}

/// An id without the pack's name.
fn short(id: &str) -> &str {
    id.rsplit('.').next().unwrap_or(id)
}

fn is_id(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}

/// Gives a check what it needs of the map, or says what of it is missing.
fn give(source: &Source, pack: &Pack, map: &Relations, check: &mut Check) -> Result<(), FileError> {
    let mut relations = Vec::new();
    let mut missing = Vec::new();
    // in the order of pack.toml, as a reader knows them
    for relation in pack.relations.iter().filter(|r| check.needs.contains_key(&r.name)) {
        let wanted = &check.needs[&relation.name];
        let Some(mapped) = map.get(&relation.name) else {
            missing.push(format!("[map.{}] with {}", relation.name, wanted.join(", ")));
            continue;
        };
        let columns: Vec<_> = wanted
            .iter()
            .filter_map(|column| Some((column.as_str(), mapped.columns.get(column)?)))
            .collect();
        let lacking: Vec<&str> = wanted
            .iter()
            .filter(|c| !mapped.columns.contains_key(*c))
            .map(|c| &**c)
            .collect();
        if !lacking.is_empty() {
            missing.push(format!("{} in [map.{}]", lacking.join(", "), relation.name));
        }
        relations.push(MappedRelation {
            name: &relation.name,
            from: &mapped.from,
            filter: mapped.filter.as_ref(),
            columns,
        });
    }
    // a pack from disk may say anything
    if let Some(wrong) = check.needs.keys().find(|name| pack.relation(name).is_none()) {
        let known = pack.source()?.map_or_else(|| pack.name.clone(), |s| s.name.to_string());
        let path = check.source.name.to_string();
        let why = format!("it needs `{wrong}`, which {known} doesn't have");
        return Err(FileError::Read { path, why });
    }
    if missing.is_empty() {
        check.map = (!relations.is_empty()).then(|| Map::new(source, &relations));
    } else {
        check.missing = Some(format!("{} lacks {}", source.name, missing.join("; ")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(map: &str) -> Result<Vec<Check>, FileError> {
        checks(&Source::new("m.toml", format!("pack = \"booking\"\n{map}")), &[])
    }

    fn of<'a>(checks: &'a [Check], id: &str) -> &'a Check {
        checks.iter().find(|c| c.id == id).unwrap()
    }

    const SLOTS: &str = "[map.slot]\nfrom = 's'\nresource_id = 'room'\nstarts_at = 'day'\ncapacity = 'n'\n";

    #[test]
    fn a_check_gets_the_columns_it_needs_under_their_names() {
        let checks = read(&format!("{SLOTS}taken = '''\na\n + b -- both'''\nwhere = 'not test'")).unwrap();
        let check = of(&checks, "booking.slot_overbooked");
        assert_eq!(check.missing, None);
        let (sql, begin) = check.statement();
        assert_eq!(
            &sql[..begin],
            "with\ndb_race_slot as not materialized (\nselect\n(room\n) as resource_id,\n(day\n) as starts_at,\n(n\n) as capacity,\n\
             (a\n + b -- both\n) as taken\nfrom s\nwhere (not test\n)\n),\n\
             slot as not materialized (select * from db_race_slot)\nselect * from (\n"
        );
        assert!(sql[begin..].starts_with("-- /// db-race check") && sql.ends_with("\n) as db_race_check"));
        let place = |words: &str| check.place_of(sql.find(words).unwrap());
        assert_eq!(place("room\n"), "m.toml line 4, in the map of slot.resource_id");
        assert_eq!(place("b -- both"), "m.toml line 9, in the map of slot.taken");
        assert_eq!(place("not test"), "m.toml line 10, in the map of slot.where");
        let line = check.source.line(check.source.text.find("where taken").unwrap());
        assert_eq!(place("where taken"), format!("line {line}"));
    }

    #[test]
    fn what_is_missing_is_said() {
        let checks = read(SLOTS).unwrap();
        let missing = |id: &str| of(&checks, id).missing.clone().unwrap_or_default();
        assert_eq!(missing("booking.slot_overbooked"), "m.toml lacks taken in [map.slot]");
        assert_eq!(
            missing("booking.slot_counter_differs"),
            "m.toml lacks [map.booking] with resource_id, starts_at, party, is_active; taken in [map.slot]"
        );
    }

    #[test]
    fn options_change_the_checks() {
        let checks = read("skip = ['overlap']\n[params]\nsweep_within = '5s'").unwrap();
        assert_eq!(of(&checks, "booking.expired_hold_blocks").params["sweep_within"], "5s");
        let skipped = of(&checks, "booking.overlap").missing.as_deref();
        assert_eq!(skipped, Some("left out by `skip` in m.toml"));
        let ledger = |grace: &str| {
            let text = format!("pack = 'ledger'\n[grace]\nclearing_not_zero = '{grace}'");
            let checks = super::checks(&Source::new("m.toml", text), &[]).unwrap();
            of(&checks, "ledger.clearing_not_zero").grace.clone()
        };
        assert_eq!(ledger("2h").unwrap().time.as_secs(), 7_200);
        assert_eq!(ledger("0s"), None);
    }

    #[test]
    fn two_maps_of_a_pack_have_ids_of_their_own() {
        let boats = read("id = 'boats'\nskip = ['overlap']").unwrap();
        assert!(of(&boats, "boats.overlap").missing.is_some());
        let rooms = read("").unwrap();
        let all = || rooms.iter().chain(&boats).cloned().collect();
        assert_eq!(
            crate::verify::Selection::default().of(all()).unwrap().len(),
            2 * rooms.len()
        );
        let mut twice = rooms.clone();
        twice[0].map_file = Some("other.toml".into());
        let error = crate::verify::Selection::default()
            .of([rooms, twice].concat())
            .unwrap_err();
        assert!(
            error.to_string().contains("m.toml") && error.to_string().contains("other.toml"),
            "{error}"
        );
    }

    #[test]
    fn what_is_wrong_is_shown_at_its_line() {
        for (map, line, shown) in [
            ("[map.boking]\nfrom = 'b'", 2, "did you mean `booking`?"),
            (
                "[map.booking]\nfrom = 'b'\nstart_at = 's'",
                4,
                "did you mean `starts_at`?",
            ),
            ("[map.booking]\nbooking_id = 'id'", 2, "has no `from`"),
            ("[map.booking]\nfrom = ''", 3, "this is empty"),
            ("[map.booking]\nfrom = 'b'\nis_active = true", 4, "expected a string"),
            ("[params]\nsweep = '1s'", 3, "there are sweep_within"),
            ("skip = ['overlaps']", 2, "did you mean `overlap`?"),
            ("[grace]\noverlap = '1s'", 3, "has no grace"),
            ("mapp = 1", 2, "did you mean `map`?"),
            ("id = 'my boats'", 2, "can't be read"),
        ] {
            let error = read(map).unwrap_err().to_string();
            assert!(
                error.contains(shown) && error.contains(&format!("m.toml:{line}:")),
                "{map}: {error}"
            );
        }
        let error = checks(&Source::new("m.toml", "pack = 'bookin'"), &[]).unwrap_err();
        assert!(error.to_string().contains("did you mean `booking`?"), "{error}");
    }

    #[test]
    fn other_toml_files_are_no_maps() {
        for (text, is) in [
            ("# map\npack = 'booking'", true),
            ("pack=", true),
            ("packs = 1", false),
            ("title = 'pack = 1'", false),
        ] {
            assert_eq!(is_map(&Source::new("m.toml", text)), is, "{text}");
        }
    }
}

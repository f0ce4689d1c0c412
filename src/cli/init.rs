//! `db-race init`

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use super::exit::{self, Failure};
use super::{Where, output};
use crate::postgres::explain;
use crate::source::nearest;
use crate::verify::Check;
use crate::verify::pack::{self, Catalog, Guess, Pack};

#[derive(Args, Debug)]
pub(super) struct Init {
    /// The pack to make a map for (`db-race list`)
    #[arg(long, value_name = "NAME")]
    pack: String,
    /// The file to write [default: PACK.toml]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Overwrite the file
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    place: Where,
}

impl Init {
    pub(super) async fn run(self) -> Result<u8, Failure> {
        let pack = by_name(&self.pack)?;
        let checks = pack.checks(&[])?;
        let path = self
            .output
            .clone()
            .unwrap_or_else(|| PathBuf::from(format!("{}.toml", pack.name)));
        // told before there is anything to wait for
        if path.exists() && !self.force {
            return Err(exists(&path));
        }
        let Some(target) = self.place.target()? else {
            return Err(Failure::new(
                exit::USAGE,
                "the map is guessed from your database's catalog: say where it is by --url, -h, -p or -d, or DATABASE_URL",
            ));
        };
        let client = target.connect("init").await?;
        let catalog = Catalog::read(&client).await.map_err(|error| {
            let why = format!("cannot read the catalog of {}: {}", target.address(), explain(&error));
            Failure::new(exit::UNREACHABLE, why)
        })?;
        let guess = pack::guess(&pack, &catalog);
        let text = pack::draft(&pack, &checks, &guess, &target.address());
        write(&path, &text, self.force)?;
        let mut next = vec!["db-race".to_string(), "verify".into(), path.display().to_string()];
        next.extend(self.place.command_line());
        output::print(&summary(&pack, &checks, &guess, &next))?;
        Ok(exit::HELD)
    }
}

fn by_name(name: &str) -> Result<Pack, Failure> {
    let wanted = name.strip_prefix("packs/").unwrap_or(name);
    let mut packs = Pack::bundled()?;
    if let Some(at) = packs.iter().position(|p| p.name == wanted) {
        return Ok(packs.swap_remove(at));
    }
    let names: Vec<&str> = packs.iter().map(|p| p.name.as_str()).collect();
    let hint = nearest(wanted, names.iter().copied()).unwrap_or_else(|| format!("there are {}", names.join(", ")));
    Err(Failure::new(
        exit::USAGE,
        format!("there is no pack `{name}` that takes a map; {hint}"),
    ))
}

fn exists(path: &std::path::Path) -> Failure {
    let why = format!(
        "{} is there already: take another name with -o, or overwrite it with --force",
        path.display()
    );
    Failure::new(exit::USAGE, why)
}

fn write(path: &std::path::Path, text: &str, force: bool) -> Result<(), Failure> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true);
    match force {
        true => options.create(true).truncate(true),
        // fails when somebody else has made it since
        false => options.create_new(true),
    };
    let written = options.open(path).and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => exists(path),
        _ => Failure::new(exit::USAGE, format!("cannot write {}: {error}", path.display())),
    })
}

/// What was found, as a table, and what to do next.
fn summary(pack: &Pack, checks: &[Check], guess: &Guess, next: &[String]) -> String {
    let mut rows: Vec<[String; 4]> = Vec::new();
    for relation in &guess.relations {
        let Some(from) = &relation.from else {
            rows.push(["-".into(), relation.name.clone(), String::new(), "not found".into()]);
            continue;
        };
        let columns = relation
            .columns
            .iter()
            .map(|(name, sql)| (format!("  {name}"), sql.as_ref()));
        for (name, sql) in [(relation.name.clone(), Some(from))].into_iter().chain(columns) {
            rows.push(match sql {
                Some(sql) => {
                    let mark = if sql.is_doubtful { "?" } else { "" };
                    // what is put together is long, and stands in the file
                    let shown = if sql.sql.contains('\n') { "(...)" } else { &sql.sql };
                    [mark.into(), name, shown.into(), sql.why.clone()]
                }
                None => ["-".into(), name, String::new(), "not found".into()],
            });
        }
    }
    let width = |i: usize| rows.iter().map(|row| row[i].chars().count()).max().unwrap_or(0);
    let (names, sqls) = (width(1), width(2));
    let mut lines: Vec<String> = rows
        .iter()
        .map(|[mark, name, sql, why]| {
            format!("{mark:1} {name:names$}  {sql:sqls$}  {why}")
                .trim_end()
                .to_string()
        })
        .collect();
    let runs = checks.iter().filter(|check| guess.runs(check)).count();
    lines.push(String::new());
    lines.push(format!(
        "{runs} of the {} checks of `{}` can run; the others are skipped until their lines are there",
        checks.len(),
        pack.name
    ));
    lines.push(match guess.relations.iter().any(|r| r.from.is_some()) {
        true => "look at the lines marked `?`, and fill in what wasn't found; then".into(),
        false => "nothing in this database is called like its tables: fill in the file by hand; then".into(),
    });
    let next: Vec<String> = next.iter().map(|word| output::shell_word(word)).collect();
    lines.push(format!("  {}", next.join(" ")));
    lines.join("\n")
}

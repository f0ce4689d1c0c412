//! `db-race check`

mod lint;
mod show;
mod test;

use clap::{Args, Subcommand};

use super::exit::{self, Failure};
use super::output;
use crate::bundled::Shelf;

#[derive(Args, Debug)]
pub(super) struct Check {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Read check files and say all that is wrong with them; with a database, ask it, too
    Lint(lint::Lint),
    /// Try checks on their fixtures: each must find exactly what was planted
    Test(test::Test),
    /// Print the statement of a check, ready for psql
    Show(show::Show),
    /// Print the SQL that makes a role which may only read, for psql
    Role,
}

impl Check {
    pub(super) async fn run(self) -> Result<u8, Failure> {
        match self.command {
            Command::Lint(command) => command.run().await,
            Command::Test(command) => command.run().await,
            Command::Show(command) => command.run(),
            Command::Role => role(),
        }
    }
}

fn role() -> Result<u8, Failure> {
    let Some(source) = Shelf::Sql.file("roles/db_race_check.sql") else {
        return Err(Failure::new(
            exit::USAGE,
            "sql/roles/db_race_check.sql is not in this binary",
        ));
    };
    output::print(source.text.trim_end())?;
    Ok(exit::HELD)
}

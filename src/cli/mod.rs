//! The command line: the only place that knows flags, the terminal and signals.

mod audit;
mod check;
mod checks;
mod contend;
mod destinations;
pub mod exit;
mod github;
mod init;
mod list;
mod output;
mod progress;
mod save;
mod server;
mod signals;
mod sweep;
mod verify;
mod whereabouts;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use whereabouts::Where;

/// Finds concurrency bugs in PostgreSQL stored procedures, and proves that the data is still right afterwards
#[derive(Debug, Parser)]
#[command(name = "db-race", version, disable_help_flag = true, after_help = exit::TABLE)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Print help
    #[arg(long, global = true, action = clap::ArgAction::HelpLong)]
    help: Option<bool>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Race a scenario: who won, why the others lost, and is the data still right?
    Contend(contend::Contend),
    /// Run checks: SQL that returns the rows that break an invariant
    Verify(verify::Verify),
    /// Run checks with a memory: what is new, still open, fixed? Made for cron
    Audit(Box<audit::Audit>),
    /// Write checks: lint them, try them on their fixtures, print what is sent
    Check(check::Check),
    /// Race a scenario at several sizes of its pool, or of its sessions: which size is enough?
    Sweep(sweep::Sweep),
    /// Keep a throwaway PostgreSQL running, to look inside with psql
    Server(server::Server),
    /// Guess the map of a pack of checks from your database's catalog
    Init(init::Init),
    /// Show the bundled scenarios, bugs and checks
    List(list::List),
}

/// How the report is written.
#[derive(Args, Clone, Debug)]
struct Output {
    /// The form of the report on stdout; by default the text
    #[arg(long, value_enum)]
    format: Option<destinations::Format>,
    /// Another report beside it, in a form of --format: junit=report.xml, or sarif=- for stdout; may be given several times
    #[arg(long, value_name = "KIND=PATH")]
    report: Vec<destinations::Beside>,
    /// When to use colour
    #[arg(long, value_enum, default_value_t = output::Color::Auto)]
    color: output::Color,
    /// Say nothing on stderr but errors
    #[arg(long, short)]
    quiet: bool,
}

/// Parses the command line and runs the command.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // help and version are no errors, and go to stdout
            let code = if error.use_stderr() { exit::USAGE } else { exit::HELD };
            let said = error.render().to_string();
            match output::without_passwords(&said) == said {
                true => drop(error.print()),
                false => output::note(said.trim_end()),
            }
            return ExitCode::from(code);
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(async {
            match cli.command {
                Command::Contend(command) => output::told(command.output.clone(), "contend", command.run()).await,
                Command::Verify(command) => output::told(command.output.clone(), "verify", command.run()).await,
                Command::Audit(command) => output::told(command.output.clone(), "audit", command.run()).await,
                Command::Check(command) => command.run().await,
                Command::Sweep(command) => command.run().await,
                Command::Server(command) => command.run().await,
                Command::Init(command) => command.run().await,
                Command::List(command) => command.run(),
            }
        }),
        Err(error) => Err(exit::Failure::new(exit::UNREACHABLE, error)),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            if !failure.is_silent() {
                output::note(&format!("error: {failure}"));
            }
            ExitCode::from(failure.code)
        }
    }
}

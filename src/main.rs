//! `db-race`

fn main() -> std::process::ExitCode {
    db_race::cli::main()
}

//! `db-race server`

use std::path::Path;

use clap::Args;

use super::exit::{self, Failure};
use super::{output, signals};
use crate::place::{Place, PlaceError};
use crate::postgres::server;
use crate::stop::Stop;
use crate::system::{Bug, System};

#[derive(Args, Debug)]
pub(super) struct Server {
    /// Install this system first: a bundled name, or a folder with a schema.sql
    system: Option<String>,
    /// Install this broken twin of a procedure too
    #[arg(long, value_name = "NAME", requires = "system")]
    bug: Option<String>,
    /// Directory of the PostgreSQL server's binaries
    #[arg(long, value_name = "DIR", env = "DB_RACE_PG_BIN")]
    pg_bin: Option<std::path::PathBuf>,
}

impl Server {
    pub(super) async fn run(self) -> Result<u8, Failure> {
        let stop = signals::listen(false);
        let system = self
            .system
            .as_ref()
            .map(|name| System::find(name, Path::new("")))
            .transpose()?;
        let bug = match (&system, &self.bug) {
            (Some(system), Some(name)) => Some(system.bug(name)?),
            _ => None,
        };
        let options = server::Options {
            bin_dir: self.pg_bin.clone(),
            ..server::Options::default()
        };
        let place = match start(&options, system.as_ref(), bug.as_ref(), &stop).await {
            // it was to run until then
            Err(_) if stop.is_requested() => return Ok(exit::HELD),
            place => place?,
        };
        let ran = serve(&place, &stop).await;
        if let Err(problem) = place.leave().await {
            output::note(&format!("warning: {problem}"));
        }
        ran.map(|()| exit::HELD)
    }
}

async fn start(
    options: &server::Options,
    system: Option<&System>,
    bug: Option<&Bug>,
    stop: &Stop,
) -> Result<Place, PlaceError> {
    let place = Place::throwaway(options, stop).await?;
    match system {
        Some(system) => place.with(system, bug, stop).await,
        None => Ok(place),
    }
}

async fn serve(place: &Place, stop: &Stop) -> Result<(), Failure> {
    if let Some(server) = place.server() {
        output::print(&format!("{}\n{}", server.url(), server.psql()))?;
    }
    output::note("running until Ctrl-C; then the server and its data are gone");
    stop.requested().await;
    Ok(())
}

//! Which report goes where.

use std::path::PathBuf;

use clap::ValueEnum;
use clap::builder::{TypedValueParser, ValueParserFactory};

use super::Output;
use super::exit::{self, Failure};

/// The form of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people
    Text,
    /// One document with everything in it
    Json,
    /// For the test reports of CI services
    Junit,
    /// Test Anything Protocol, version 14
    Tap,
    /// For code scanning
    Sarif,
    /// For a comment on a pull request
    Markdown,
    /// Annotations for GitHub Actions, and its step summary; there by themselves, unless DB_RACE_NO_GITHUB=1
    Github,
    /// Metrics, for node_exporter's textfile collector as well as OpenMetrics
    #[value(alias = "openmetrics")]
    Prometheus,
}

impl Format {
    /// As it is written on the command line.
    pub(super) fn name(self) -> String {
        self.to_possible_value()
            .map_or_else(String::new, |v| v.get_name().to_string())
    }
}

/// A report beside the one on the terminal: `junit=report.xml`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Beside {
    format: Format,
    /// None: stdout.
    path: Option<PathBuf>,
}

impl ValueParserFactory for Beside {
    type Parser = clap::builder::ValueParser;

    fn value_parser() -> Self::Parser {
        clap::builder::ValueParser::new(clap::builder::NonEmptyStringValueParser::new().try_map(|text| beside(&text)))
    }
}

fn beside(text: &str) -> Result<Beside, String> {
    let (kind, path) = match text.split_once('=') {
        Some((kind, path)) => (kind, Some(path)),
        None => (text, None),
    };
    let format = Format::from_str(kind, false).map_err(|_| {
        let names: Vec<String> = Format::value_variants().iter().map(|f| f.name()).collect();
        format!("there is no kind `{kind}`; there are {}", names.join(", "))
    })?;
    match (format, path) {
        (Format::Github, None | Some("-")) => Ok(Beside { format, path: None }),
        (Format::Github, Some(_)) => {
            Err("`github` writes to stdout and to $GITHUB_STEP_SUMMARY; it has no path".into())
        }
        (_, None | Some("")) => Err(format!("where to? `{kind}=PATH`, or `{kind}=-` for stdout")),
        (_, Some("-")) => Ok(Beside { format, path: None }),
        (_, Some(path)) => Ok(Beside {
            format,
            path: Some(path.into()),
        }),
    }
}

/// What goes where.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// The report on stdout.
    pub(super) stdout: Format,
    /// The text, which has lost its place to a `--report ...=-`.
    pub(super) text_on_stderr: bool,
    /// Whether there are annotations, and a step summary.
    pub(super) github: bool,
    /// The others.
    pub(super) files: Vec<(Format, PathBuf)>,
}

impl Plan {
    /// Brings the flags together.
    ///
    /// # Errors
    /// [`exit::USAGE`] when two reports want stdout.
    pub(super) fn of(output: &Output, is_on_github: bool) -> Result<Plan, Failure> {
        let usage = |message: String| Failure::new(exit::USAGE, message);
        let beside = |format| output.report.iter().any(|b: &Beside| b.format == format);
        let mut on_stdout = output
            .report
            .iter()
            .filter(|b| b.path.is_none() && b.format != Format::Github);
        let taken = on_stdout.next();
        if let Some(second) = on_stdout.next() {
            let second = second.format.name();
            return Err(usage(format!(
                "only one report can go to stdout: give `{second}` a path"
            )));
        }
        if let (Some(taken), Some(format)) = (taken, output.format) {
            let (taken, format) = (taken.format.name(), format.name());
            return Err(usage(format!(
                "only one report can go to stdout: `--format {format}` and `--report {taken}=-` both do"
            )));
        }
        let stdout = taken.map(|b| b.format).or(output.format).unwrap_or(Format::Text);
        let files = output.report.iter().filter_map(|b| Some((b.format, b.path.clone()?)));
        Ok(Plan {
            stdout,
            text_on_stderr: taken.is_some_and(|b| b.format != Format::Text) && !output.quiet,
            github: is_on_github || beside(Format::Github) || stdout == Format::Github,
            files: files.collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(format: Option<Format>, reports: &[&str]) -> Output {
        Output {
            format,
            report: reports.iter().map(|r| beside(r).unwrap()).collect(),
            color: super::super::output::Color::Never,
            quiet: false,
        }
    }

    #[test]
    fn stdout_has_one_report() {
        let plan = |format, reports| Plan::of(&output(format, reports), false);
        assert_eq!(plan(None, &[]).unwrap().stdout, Format::Text);
        let beside = plan(None, &["junit=-", "json=a/b.json"]).unwrap();
        assert_eq!((beside.stdout, beside.text_on_stderr), (Format::Junit, true));
        assert_eq!(beside.files, [(Format::Json, PathBuf::from("a/b.json"))]);
        assert!(!plan(Some(Format::Json), &["junit=x"]).unwrap().text_on_stderr);
        assert!(plan(None, &["junit=-", "tap=-"]).is_err());
        assert!(plan(Some(Format::Text), &["tap=-"]).is_err());
    }

    #[test]
    fn github_is_detected_or_asked_for_and_shares_stdout() {
        let plan = |reports, here| Plan::of(&output(None, reports), here).unwrap();
        assert!(plan(&[], true).github && !plan(&[], false).github);
        let asked = plan(&["github"], false);
        assert_eq!((asked.github, asked.stdout), (true, Format::Text));
        assert_eq!(plan(&["github", "json=-"], false).stdout, Format::Json);
    }

    #[test]
    fn a_report_is_a_kind_and_a_path() {
        assert_eq!(beside("openmetrics=a=b").unwrap().path, Some("a=b".into()));
        for (text, part) in [
            ("junti=x", "there is no kind `junti`; there are text, json, junit"),
            ("junit", "`junit=PATH`"),
            ("junit=", "`junit=PATH`"),
            ("github=x", "it has no path"),
        ] {
            assert!(beside(text).unwrap_err().contains(part), "{text}");
        }
    }
}

//! `cargo xtask test`: all normal tests.

use std::time::Instant;

use anyhow::Result;
use clap::Args;

use crate::figures::duration;
use crate::process;
use crate::toolchain;
use crate::wasm;
use crate::workspace::{self, Workspace};

/// Runs all tests: builds the plugins, then `cargo test --workspace`.
///
/// The plugins are built first, because tests run them in the real host. Stops at the first stage that fails.
#[derive(Args, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    toolchain: toolchain::Selection,

    /// Arguments of cargo test: `-p paperclip-kit`, `--lib`, a part of a test's name
    #[arg(allow_hyphen_values = true)]
    arguments: Vec<String>,

    /// Arguments of the test programs: `--nocapture`, `--test-threads 1`
    #[arg(last = true)]
    test_arguments: Vec<String>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let start = Instant::now();
    let workspace = Workspace::find()?;
    let (_, plugins) = process::stage("plugins", || wasm::build_all(&workspace, options.toolchain))?;
    let (_, tests) = process::stage("tests", || {
        let mut cargo = workspace::cargo();
        cargo.current_dir(&workspace.root).arg("test");
        process::run(cargo.args(options.for_cargo()))
    })?;
    process::summary(&format!(
        "test: all passed in {} (plugins {}, tests {})",
        duration(start.elapsed()),
        duration(plugins),
        duration(tests),
    ));
    Ok(())
}

impl Options {
    /// Returns the arguments that follow `cargo test`.
    fn for_cargo(&self) -> Vec<&str> {
        let workspace = (!selects_packages(&self.arguments)).then_some("--workspace");
        // clap consumes a separator that comes first; one that follows other arguments is among them.
        let separator = (!self.test_arguments.is_empty()).then_some("--");
        let given = self.arguments.iter().map(String::as_str);
        workspace
            .into_iter()
            .chain(given)
            .chain(separator)
            .chain(self.test_arguments.iter().map(String::as_str))
            .collect()
    }
}

/// Whether the arguments name packages: with `--workspace` cargo would test every package all the same.
fn selects_packages(arguments: &[String]) -> bool {
    let mut for_cargo = arguments.iter().take_while(|argument| *argument != "--");
    for_cargo.any(|argument| {
        argument.starts_with("-p") || argument == "--package" || argument.starts_with("--package=")
    })
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, FromArgMatches};

    use super::*;

    #[test]
    fn arguments_are_passed_to_cargo_unchanged() {
        for (line, passed_on) in [
            ("", "--workspace"),
            ("grace", "--workspace grace"),
            ("-p paperclip-kit --lib grace -- --exact", "-p paperclip-kit --lib grace -- --exact"),
            ("-- --nocapture", "--workspace -- --nocapture"),
            ("--toolchain system --no-fail-fast", "--workspace --no-fail-fast"),
        ] {
            let command = Options::augment_args(clap::Command::new("test"));
            let matches = command.get_matches_from(format!("test {line}").split_whitespace());
            let options = Options::from_arg_matches(&matches).unwrap();
            assert_eq!(options.for_cargo().join(" "), passed_on, "{line}");
        }
    }

    #[test]
    fn workspace_is_tested_unless_packages_are_named() {
        let selects =
            |line: &str| selects_packages(&line.split(' ').map(ToOwned::to_owned).collect::<Vec<_>>());
        assert!(selects("-p paperclip-kit"));
        assert!(selects("--lib -ppaperclip-kit"));
        assert!(selects("--package=paperclip-kit"));
        assert!(!selects("grace -- -p"));
        assert!(!selects("--profile release"));
    }
}

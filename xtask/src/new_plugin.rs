//! `cargo xtask new-plugin`: a crate of its own for another agent type, outside this workspace.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::dist::{HOST, Profile, build_host};
use crate::figures::duration;
use crate::process;
use crate::toolchain;
use crate::wasm;
use crate::workspace::{self, Workspace};

/// Makes a crate for another agent type: a plugin with two recorded cases, and a test that judges them with its component.
///
/// The crate is outside this workspace and depends on the kit alone. Afterwards `cargo test` there builds the component and judges the
/// cases; docs/writing-a-plugin.md explains each file.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// The folder of the crate, which must not exist yet
    dir: PathBuf,

    /// The agent type, such as acme_k8s: a-z, 0-9 and _
    #[arg(long = "type", value_name = "NAME")]
    agent_type: String,

    /// The kit: a checkout of this repository, or its git URL. Default: this checkout
    #[arg(long, value_name = "PATH|GIT")]
    kit: Option<String>,

    /// The host that judges the cases. Default: it is built from this checkout
    #[arg(long, value_name = "FILE")]
    host: Option<PathBuf>,

    /// Run the crate's test at once
    #[arg(long)]
    test: bool,

    #[command(flatten)]
    toolchain: toolchain::Selection,
}

/// A file of the crate that is made: its name, and the text of the agent type `example_k8s`.
type Template = (&'static str, &'static str);

macro_rules! template {
    ($name:literal) => {
        ($name, include_str!(concat!("../../tests/example/", $name)))
    };
    ($name:literal from $from:literal) => {
        ($name, include_str!(concat!("../../tests/example/", $from)))
    };
}

const TEMPLATES: [Template; 17] = [
    template!("Cargo.toml" from "outside/Cargo.toml"),
    template!("README.md" from "outside/README.md"),
    template!("tests/wasm.rs" from "outside/wasm.rs"),
    template!("clippy.toml"),
    template!("src/lib.rs"),
    template!("src/exports.rs"),
    template!("src/agent.rs"),
    template!("src/agent_configuration.md"),
    template!("src/stream.rs"),
    template!("src/rules.rs"),
    template!("src/transcript.rs"),
    template!("fixtures/config.json"),
    template!("fixtures/expected.txt"),
    template!("fixtures/success.ndjson"),
    template!("fixtures/success.exit"),
    template!("fixtures/refused_key.ndjson"),
    template!("fixtures/refused_key.exit"),
];

/// The end of an agent type's name that says where it runs.
const SUFFIX: &str = "_k8s";
const JOB_PREFIX_CHARS: usize = 20;

pub(crate) fn run(options: &Options) -> Result<()> {
    let names = Names::of(&options.agent_type)?;
    if options.dir.exists() {
        bail!("{} exists: name a folder that does not", options.dir.display());
    }
    let workspace = Workspace::find()?;
    let [kit, build] = ["plugin/kit", "plugin/build"]
        .map(|package| dependency(options.kit.as_deref(), &workspace.root, package));
    let (kit, build) = (kit?, build?);
    toolchain::prepare(options.toolchain)?;
    let host = match &options.host {
        Some(host) => fs::canonicalize(host).with_context(|| format!("there is no {}", host.display()))?,
        None => host_of(&workspace, options.toolchain)?,
    };
    for (name, text) in TEMPLATES {
        let text = text.replace("{ KIT", &format!("{{ {kit}")).replace("{ BUILD", &format!("{{ {build}"));
        write(&options.dir.join(name), &names.put_into(&text))?;
    }
    // The versions with which the kit is tested; cargo leaves out what this crate does not use.
    let lock = fs::read(workspace.root.join("Cargo.lock")).context("cannot read Cargo.lock")?;
    fs::write(options.dir.join("Cargo.lock"), lock).context("cannot write Cargo.lock")?;
    write(&options.dir.join(".gitignore"), "/target\n/.cargo\n")?;
    let config = format!("[env]\nPAPERCLIP_HOST = {:?}\n", host.display().to_string());
    write(&options.dir.join(".cargo/config.toml"), &config)?;
    process::note(&format!("{}: a crate for {}", options.dir.display(), options.agent_type));
    if options.test {
        let start = Instant::now();
        process::run(workspace::cargo().current_dir(&options.dir).args(["test", "--quiet"]))?;
        process::note(&format!("its component is tested in {}", duration(start.elapsed())));
    } else {
        process::note("`cargo test` there builds its component and judges its recorded cases");
    }
    Ok(())
}

/// Makes a crate in a folder, in place of the one that was there, and runs its test.
pub(crate) fn try_out(dir: &Path, toolchain: toolchain::Selection) -> Result<()> {
    if dir.exists() {
        fs::remove_dir_all(dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    }
    let agent_type = "acme_k8s".to_owned();
    run(&Options { dir: dir.to_owned(), agent_type, kit: None, host: None, test: true, toolchain })
}

/// Builds the host as `cargo xtask demo` does. It needs no plugin of its own here, but shares what was built.
fn host_of(workspace: &Workspace, toolchain: toolchain::Selection) -> Result<PathBuf> {
    let built = workspace.target.join("debug").join(HOST);
    if built.is_file() {
        return Ok(built);
    }
    process::stage("plugins", || wasm::build(workspace, toolchain))?;
    let (host, _) = process::stage("host", || build_host(workspace, Profile::Dev))?;
    Ok(host)
}

fn write(file: &Path, text: &str) -> Result<()> {
    let write = |file: &Path| {
        fs::create_dir_all(file.parent().unwrap_or(file))?;
        fs::write(file, text)
    };
    write(file).with_context(|| format!("cannot write {}", file.display()))
}

/// Returns how a `Cargo.toml` names a package of the kit's repository.
fn dependency(kit: Option<&str>, root: &Path, package: &str) -> Result<String> {
    let path = match kit {
        Some(url) if url.contains("://") || url.starts_with("git@") => return Ok(format!("git = {url:?}")),
        Some(path) => Path::new(path),
        None => root,
    };
    let path = fs::canonicalize(path.join(package))
        .with_context(|| format!("there is no {package} in {}", path.display()))?;
    Ok(format!("path = {:?}", path.display().to_string()))
}

/// The names of an agent type, in every spelling.
#[derive(Debug, PartialEq, Eq)]
struct Names {
    /// `acme_k8s`
    agent_type: String,
    /// `acme`
    program: String,
    /// `Acme`
    label: String,
}

impl Names {
    fn of(agent_type: &str) -> Result<Names> {
        let is_name = agent_type.starts_with(|first: char| first.is_ascii_lowercase())
            && agent_type.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        if !is_name {
            bail!("{agent_type:?} is no agent type: a-z first, then a-z, 0-9 and _, such as acme_k8s");
        }
        let base = agent_type.strip_suffix(SUFFIX).unwrap_or(agent_type).trim_matches('_');
        let words = base.split('_').filter(|word| !word.is_empty());
        let label = words.map(|word| word[..1].to_uppercase() + &word[1..]).collect();
        Ok(Names { agent_type: agent_type.to_owned(), program: base.replace('_', "-"), label })
    }

    /// Puts the names in place of those of `example_k8s`.
    fn put_into(&self, text: &str) -> String {
        let prefix: String = self.program.chars().filter(char::is_ascii_alphanumeric).collect();
        let prefix = &prefix[..prefix.len().min(JOB_PREFIX_CHARS)];
        let variable = self.program.replace('-', "_");
        text.replace("example_k8s", &self.agent_type)
            .replace("example-k8s", &self.agent_type.replace('_', "-"))
            .replace("job_name_prefix: \"example\"", &format!("job_name_prefix: {prefix:?}"))
            .replace("agent_codes!(\"example\")", &format!("agent_codes!({variable:?})"))
            .replace("example_auth_required", &format!("{variable}_auth_required"))
            .replace("EXAMPLE_API_KEY", &format!("{}_API_KEY", variable.to_uppercase()))
            .replace("Example", &self.label)
            .replace("example", &self.program)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_the_example_is_replaced() {
        let names = Names::of("acme_two_k8s").unwrap();
        assert_eq!((names.program.as_str(), names.label.as_str()), ("acme-two", "AcmeTwo"));
        for (name, text) in TEMPLATES {
            let put = names.put_into(text);
            assert!(!put.to_lowercase().contains("example"), "{name}: {put}");
        }
        let put = names.put_into(r#"job_name_prefix: "example", "example_k8s" Example "example""#);
        assert_eq!(put, r#"job_name_prefix: "acmetwo", "acme_two_k8s" AcmeTwo "acme-two""#);
    }

    /// The blocks of Rust in a Markdown text.
    fn code_blocks(text: &str) -> impl Iterator<Item = &str> {
        text.split("```rust\n").skip(1).filter_map(|rest| Some(rest.split_once("```")?.0))
    }

    #[test]
    fn the_code_of_the_tutorial_is_that_of_the_example() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let tutorial = fs::read_to_string(root.join("docs/writing-a-plugin.md")).unwrap();
        assert!(code_blocks(&tutorial).count() >= 6);
        for block in code_blocks(&tutorial) {
            assert!(TEMPLATES.iter().any(|(_, text)| text.contains(block)), "not in tests/example:\n{block}");
        }
    }

    #[test]
    fn a_name_that_is_no_agent_type_is_refused() {
        for name in ["", "Acme", "acme-k8s", "9_k8s", "_k8s"] {
            assert!(Names::of(name).is_err(), "{name}");
        }
    }

    #[test]
    fn the_kit_is_a_checkout_or_a_repository() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        assert!(dependency(None, root, "plugin/kit").unwrap().starts_with("path = \"/"));
        assert_eq!(dependency(Some("https://h/r"), root, "plugin/kit").unwrap(), "git = \"https://h/r\"");
        assert!(
            dependency(Some("/nowhere"), root, "plugin/kit").unwrap_err().to_string().contains("/nowhere")
        );
    }
}

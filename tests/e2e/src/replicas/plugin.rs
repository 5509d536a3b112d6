//! Plugins that every replica takes from a ConfigMap while runs are live.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use serde_json::{Value, json};

use super::replica::{Endpoint, Service};
use crate::kubectl::Kubectl;

/// The agent type of the runs.
const ADAPTER_TYPE: &str = "claude_k8s";
/// An empty component: it exports nothing.
const NOT_A_PLUGIN: &str = "AGFzbQ0AAQA=";
/// Pause between the requests for what a replica uses.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// What a ConfigMap holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Build {
    /// The built-in plugin with another digest.
    Good,
    /// A component that is no plugin.
    Broken,
}

/// Puts a plugin into the cluster and waits until every replica uses it, or reports why it does not. Returns how long that took.
///
/// # Errors
/// A replica uses another one, or has not said anything by the deadline.
pub(super) fn swap(
    build: Build,
    (program, folder): (&Path, &Path),
    kubectl: &Kubectl,
    service: &Service,
    deadline: Instant,
) -> Result<String> {
    let endpoints = service.all();
    let mut before = Vec::new();
    for endpoint in &endpoints {
        // It compiles all built-in plugins before its first answer.
        before.push(ask_until(endpoint, deadline, |listed| Ok(Some(listed.in_use)))?);
    }
    let manifest = config_map(build, program, folder)?;
    kubectl.run(&format!("apply --server-side --force-conflicts -f {}", manifest.display()))?;
    let start = Instant::now();
    let mut in_use = Vec::new();
    for (endpoint, before) in endpoints.iter().zip(&before) {
        in_use.push(wait(build, endpoint, before.as_deref(), deadline)?);
    }
    if in_use.windows(2).any(|pair| pair[0] != pair[1]) {
        bail!("replicas use different plugins: {in_use:?}");
    }
    let what = match build {
        Build::Good => "in use",
        Build::Broken => "rejected",
    };
    Ok(format!(
        "a plugin is {what} at {} replicas {} ms after it was applied",
        in_use.len(),
        start.elapsed().as_millis()
    ))
}

/// Waits until a replica has taken or rejected the plugin, and returns the digest that it uses then.
fn wait(
    build: Build,
    endpoint: &Endpoint,
    before: Option<&str>,
    deadline: Instant,
) -> Result<Option<String>> {
    ask_until(endpoint, deadline, |Listed { in_use, is_rejected }| {
        let is_same = in_use.as_deref() == before;
        match build {
            Build::Good => Ok((!is_same && in_use.is_some()).then_some(in_use)),
            Build::Broken if !is_same => bail!("replica {} uses {in_use:?}", endpoint.replica),
            Build::Broken => Ok(is_rejected.then_some(in_use)),
        }
    })
}

/// Asks a replica what it says about plugins until that is an answer.
fn ask_until<T>(
    endpoint: &Endpoint,
    deadline: Instant,
    answer: impl Fn(Listed) -> Result<Option<T>>,
) -> Result<T> {
    loop {
        if let Some(listed) = Listed::of(endpoint)
            && let Some(answer) = answer(listed)?
        {
            return Ok(answer);
        }
        if Instant::now() > deadline {
            bail!("replica {} does not say in time which plugins it uses", endpoint.replica);
        }
        std::thread::sleep(ASK_EVERY);
    }
}

/// What a replica says about plugins of the agent type.
#[derive(Debug)]
struct Listed {
    /// The digest of the one in use.
    in_use: Option<String>,
    is_rejected: bool,
}

impl Listed {
    fn of(endpoint: &Endpoint) -> Option<Listed> {
        let answer = endpoint.send("GET", "/v1/plugins", None);
        let list: Value = serde_json::from_str(&answer.text).ok().filter(|_| answer.status == 200)?;
        let of_type = |items: &Value| {
            items.as_array()?.iter().find(|item| item["adapterType"] == ADAPTER_TYPE).cloned()
        };
        let in_use = of_type(&list["plugins"]).and_then(|plugin| Some(plugin["digest"].as_str()?.to_owned()));
        Some(Listed { in_use, is_rejected: of_type(&list["rejected"]).is_some() })
    }
}

/// Writes the manifest of a ConfigMap with a plugin.
fn config_map(build: Build, program: &Path, folder: &Path) -> Result<PathBuf> {
    let built =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dist/plugins").join(format!("{ADAPTER_TYPE}.wasm"));
    let mut component = fs::read(&built).with_context(|| format!("cannot read {}", built.display()))?;
    // A custom section named `e2e`, without content: another digest, the same conduct.
    component.extend_from_slice(&[0, 4, 3, b'e', b'2', b'e']);
    let file = folder.join(format!("{ADAPTER_TYPE}.wasm"));
    fs::write(&file, component)?;
    let printed = Command::new(program).args(["plugins", "config-map"]).arg(&file).output()?;
    if !printed.status.success() {
        bail!("plugins config-map: {}", String::from_utf8_lossy(&printed.stderr));
    }
    let mut manifest: Value = serde_json::from_slice(&printed.stdout)?;
    if build == Build::Broken {
        manifest["binaryData"] = json!({format!("{ADAPTER_TYPE}.wasm"): NOT_A_PLUGIN});
    }
    let path = folder.join("plugin.json");
    fs::write(&path, manifest.to_string())?;
    Ok(path)
}

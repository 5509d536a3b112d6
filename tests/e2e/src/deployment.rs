//! The host as operators install it: the Deployment of `deploy/base`, inside the cluster.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::daemon::Client;
use crate::kubectl::Kubectl;
use crate::own_cluster::OwnCluster;

const NAME: &str = "paperclip-host";
const IMAGE: &str = "localhost/paperclip-host:1";
const PORT: u16 = 7411;
/// The bearer token of its API. Agents must not see it.
const TOKEN: &str = "canary-host-7d793037a0760186574b0282";

/// The names of the replicas that are ready.
#[derive(Debug)]
pub(crate) struct Deployment {
    replicas: Vec<Client>,
}

impl Deployment {
    /// Installs this program into kubectl's namespace.
    pub(crate) fn install(
        program: &Path,
        cluster: &OwnCluster,
        kubectl: &Kubectl,
        folder: &Path,
        replicas: usize,
        deadline: Instant,
    ) -> Result<Deployment> {
        let files = folder.join("host-image");
        lay_out_image(program, &files)?;
        cluster.import(IMAGE, &files, "/usr/local/bin/paperclip-host")?;
        kubectl.run(&format!("create secret generic {NAME} --from-literal=token={TOKEN}"))?;
        let manifests = kubectl.run(&format!("kustomize {}", crate::rights::manifests().display()))?;
        kubectl.apply(&with_image(&manifests, replicas)?)?;
        let selector = format!("-l app.kubernetes.io/name={NAME}");
        let ready = format!("get deployment {NAME} -o jsonpath={{.status.readyReplicas}}");
        kubectl.until(&ready, &replicas.to_string(), deadline).with_context(|| {
            kubectl.run(&format!("logs --tail=20 {selector}")).unwrap_or_else(|error| error.to_string())
        })?;
        let addresses =
            kubectl.run(&format!("get pods {selector} -o jsonpath={{.items[*].status.podIP}}"))?;
        let clients = addresses
            .split_whitespace()
            .map(|address| Client::new(format!("http://{address}:{PORT}"), TOKEN, folder));
        Ok(Deployment { replicas: clients.collect::<Result<_>>()? })
    }

    /// Returns a replica by its number, from 1 on.
    pub(crate) fn replica(&self, number: usize) -> Result<&Client> {
        let found = number.checked_sub(1).and_then(|index| self.replicas.get(index));
        found.with_context(|| format!("there is no replica {number}"))
    }
}

fn lay_out_image(program: &Path, files: &Path) -> Result<()> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("host/image.sh");
    let output = Command::new(&script).arg(files).arg(program).output();
    let output = output.with_context(|| format!("cannot start {}", script.display()))?;
    if !output.status.success() {
        bail!("{}: {}", script.display(), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// Returns the manifests with the image of this cluster's node, a number of replicas and the URL of a Paperclip.
fn with_image(manifests: &str, replicas: usize) -> Result<String> {
    let mut objects = Vec::new();
    for mut object in serde_saphyr::from_multiple::<Value>(manifests)? {
        if object["kind"] == "Deployment" {
            object["spec"]["replicas"] = replicas.into();
            let container = &mut object["spec"]["template"]["spec"]["containers"][0];
            container["image"] = IMAGE.into();
            // Nothing listens there: a run whose cancellation cannot be polled continues.
            let url = json!({"name": "PAPERCLIP_API_URL", "value": "http://127.0.0.1:9"});
            container["env"].as_array_mut().context("the host has an environment")?.push(url);
        }
        objects.push(object);
    }
    Ok(json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string())
}

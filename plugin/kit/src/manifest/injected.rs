//! Variables of Paperclip's pod that admission webhooks injected: they refer to files that an agent's pod does not have.

use std::collections::BTreeSet;

use super::paperclip_pod::{PaperclipPod, PodValue};

const TOKEN_FILE: &str = "AWS_WEB_IDENTITY_TOKEN_FILE";
/// Useless, or wrong, without the token of [`TOKEN_FILE`].
const TOKEN_ROLE: &str = "AWS_ROLE_ARN";
const LD_PRELOAD: &str = "LD_PRELOAD";
const NODE_OPTIONS: &str = "NODE_OPTIONS";
/// Options of Node.js that load a module at start.
const NODE_PRELOADS: [&str; 4] = ["--require", "-r", "--import", "--loader"];
const TELEMETRY_PREFIX: &str = "OTEL_";

/// Returns the names of injected variables, sorted. Agents do not inherit them:
/// - a path below a mount that agents do not get, as far as the plugin sees the value;
/// - `NODE_OPTIONS` that load a module from such a path, or of an instrumented pod;
/// - `LD_PRELOAD`;
/// - the token file of AWS with its role, if agents have a service account of their own or do not get the token;
/// - `OTEL_*` of an instrumented pod.
pub fn names(pod: &PaperclipPod, has_service_account: bool) -> BTreeSet<&str> {
    let has_token = !has_service_account && has_identity_token(pod);
    let is_injected = |name: &str, value: &PodValue| match name {
        LD_PRELOAD => true,
        TOKEN_FILE | TOKEN_ROLE => pod.variable(TOKEN_FILE).is_some() && !has_token,
        NODE_OPTIONS => loads_missing_module(pod, value),
        _ if name.starts_with(TELEMETRY_PREFIX) => pod.is_instrumented,
        _ => match value {
            PodValue::Shown(path) => pod.is_missing_path(path),
            PodValue::Hidden | PodValue::Reference(_) => false,
        },
    };
    let variables = pod.variables.iter().filter(|variable| is_injected(&variable.name, &variable.value));
    variables.map(|variable| variable.name.as_str()).collect()
}

/// Whether agents get the file of the token, without which the role is useless.
fn has_identity_token(pod: &PaperclipPod) -> bool {
    match pod.variable(TOKEN_FILE) {
        Some(PodValue::Shown(path)) => !pod.is_missing_path(path),
        // A token of the service account is in a projected volume, which agents do not get.
        Some(PodValue::Hidden | PodValue::Reference(_)) => !pod.has_projected_token,
        None => false,
    }
}

fn loads_missing_module(pod: &PaperclipPod, value: &PodValue) -> bool {
    let PodValue::Shown(options) = value else { return pod.is_instrumented };
    let mut words = options.split_whitespace().peekable();
    while let Some(word) = words.next() {
        let (option, module) = match word.split_once('=') {
            Some((option, module)) => (option, Some(module)),
            None => (word, words.peek().copied()),
        };
        let module = module.filter(|_| NODE_PRELOADS.contains(&option));
        if module.is_some_and(|module| pod.is_missing_path(module.trim_start_matches("file://"))) {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A pod with a data volume, a mounted Secret, and a volume that agents do not get.
    fn pod(env: &Value, change: impl FnOnce(&mut Value)) -> PaperclipPod {
        let mut pod = json!({
            "metadata": {"namespace": "paperclip"},
            "spec": {
                "containers": [{
                    "name": "paperclip",
                    "env": env,
                    "volumeMounts": [
                        {"name": "data", "mountPath": "/paperclip"},
                        {"name": "keys", "mountPath": "/keys"},
                        {"name": "injected", "mountPath": "/injected"},
                    ],
                }],
                "volumes": [
                    {"name": "data", "persistentVolumeClaim": {"claimName": "data"}},
                    {"name": "keys", "secret": {"secretName": "keys"}},
                    {"name": "injected", "emptyDir": {}},
                ],
            },
        });
        change(&mut pod);
        PaperclipPod::read(&pod).expect("a pod of one container")
    }

    fn injected(env: &Value, has_service_account: bool, change: impl FnOnce(&mut Value)) -> Vec<String> {
        let pod = pod(env, change);
        names(&pod, has_service_account).into_iter().map(str::to_owned).collect()
    }

    #[test]
    fn a_path_is_injected_if_agents_do_not_get_its_mount() {
        for (value, is_injected) in [
            ("/injected/ca.pem", true),
            ("/injected", true),
            ("/injected-not/ca.pem", false),
            ("/paperclip/ca.pem", false),
            ("/keys/ca.pem", false),
            ("/etc/ssl/ca.pem", false),
            ("/injected/bin:/usr/bin", false),
            ("injected/ca.pem", false),
            ("", false),
        ] {
            let env = json!([{"name": "SSL_CERT_FILE", "value": value}, {"name": "KEY"}]);
            assert_eq!(!injected(&env, false, |_| {}).is_empty(), is_injected, "{value}");
        }
    }

    #[test]
    fn node_options_are_injected_if_they_load_a_missing_module() {
        for (options, is_injected) in [
            ("--require /injected/register.js", true),
            ("--max-old-space-size=4096 --require=/injected/register.js", true),
            ("--import file:///injected/register.mjs", true),
            ("-r /injected/register.js", true),
            ("--require /paperclip/register.js", false),
            ("--max-old-space-size=4096", false),
            ("--require", false),
        ] {
            let env = json!([{"name": "NODE_OPTIONS", "value": options}]);
            assert_eq!(!injected(&env, false, |_| {}).is_empty(), is_injected, "{options}");
        }
    }

    #[test]
    fn preloaded_libraries_are_injected() {
        assert_eq!(
            injected(&json!([{"name": "LD_PRELOAD"}, {"name": "LD_X"}]), false, |_| {}),
            ["LD_PRELOAD"]
        );
    }

    #[test]
    fn the_token_of_aws_is_injected_with_its_role() {
        let project = |pod: &mut Value| {
            pod["spec"]["volumes"][2] = json!({"name": "injected", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}});
        };
        let hidden = json!([{"name": "AWS_ROLE_ARN"}, {"name": "AWS_WEB_IDENTITY_TOKEN_FILE"}, {"name": "AWS_REGION"}]);
        let both = ["AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE"];
        assert_eq!(injected(&hidden, false, project), both);
        assert_eq!(
            injected(&hidden, false, |_| {}),
            [] as [&str; 0],
            "the token is in a volume that agents get"
        );
        assert_eq!(
            injected(&hidden, true, |_| {}),
            both,
            "the agent's service account has a role of its own"
        );
        let shown = |path: &str| json!([{"name": "AWS_ROLE_ARN"}, {"name": "AWS_WEB_IDENTITY_TOKEN_FILE", "value": path}]);
        assert_eq!(injected(&shown("/injected/token"), false, |_| {}), both);
        assert_eq!(injected(&shown("/keys/token"), false, project), [] as [&str; 0]);
        let role = json!([{"name": "AWS_ROLE_ARN"}]);
        assert_eq!(
            injected(&role, true, project),
            [] as [&str; 0],
            "a role without a token file is configured"
        );
    }

    #[test]
    fn telemetry_is_injected_into_an_instrumented_pod() {
        let env = json!([{"name": "OTEL_SERVICE_NAME"}, {"name": "NODE_OPTIONS"}, {"name": "OTELIER"}]);
        let none: [&str; 0] = [];
        assert_eq!(injected(&env, false, |_| {}), none);
        let both = ["NODE_OPTIONS", "OTEL_SERVICE_NAME"];
        let annotate = |value: &'static str| {
            move |pod: &mut Value| {
                pod["metadata"]["annotations"] =
                    json!({"instrumentation.opentelemetry.io/inject-nodejs": value});
            }
        };
        assert_eq!(injected(&env, false, annotate("true")), both);
        assert_eq!(injected(&env, false, annotate("false")), none);
        let init = |pod: &mut Value| {
            pod["spec"]["initContainers"] = json!([{"name": "opentelemetry-auto-instrumentation-nodejs"}]);
        };
        assert_eq!(injected(&env, false, init), both);
    }
}

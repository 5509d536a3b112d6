//! Variables with which Paperclip's server describes its own machine to the agents that it starts there.

use std::borrow::Cow;

use serde_json::Value;

/// Folders and settings of the server's machine. Nobody configures them for an agent.
const OF_SERVER: [&str; 9] = [
    "PAPERCLIP_TMPDIR",
    "PAPERCLIP_SCRATCH_DIR",
    "PAPERCLIP_RUN_SCRATCH_DIR",
    "PAPERCLIP_TASK_SCRATCH_DIR",
    "PAPERCLIP_GITHUB_HOST_HOME",
    "PAPERCLIP_GITHUB_AUTH_MODE",
    "PAPERCLIP_GIT_METADATA_ROOTS",
    "PAPERCLIP_RUNNER_NETWORK_ROOTS",
    "PAPERCLIP_RUNNER_NETWORK_ACCESS",
];
/// The same, under names that an agent's config may use as well.
const MAYBE_OF_SERVER: [&str; 4] = ["TMPDIR", "TEMP", "TMP", "GH_CONFIG_DIR"];

/// Returns an execution context without the variables of `config.env` that describe the server's machine, which agents do not run on.
pub(crate) fn without(context: &Value) -> Cow<'_, Value> {
    let is_dropped = |name: &String| is_of_server(name, &context["agent"]);
    if !context["config"]["env"].as_object().is_some_and(|env| env.keys().any(is_dropped)) {
        return Cow::Borrowed(context);
    }
    let mut without = context.clone();
    if let Some(env) = without["config"]["env"].as_object_mut() {
        env.retain(|name, _| !is_dropped(name));
    }
    Cow::Owned(without)
}

/// Returns whether a variable of `config.env` describes the server's machine. `agent` is the agent in the execution context: what its
/// `adapterConfig` sets belongs to the agent. Without an `adapterConfig` a common name belongs to it, too.
fn is_of_server(name: &str, agent: &Value) -> bool {
    let config = &agent["adapterConfig"];
    if !config["env"][name].is_null() {
        return false;
    }
    OF_SERVER.contains(&name) || config.is_object() && MAYBE_OF_SERVER.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn variables_of_the_servers_machine_are_those_that_the_agent_does_not_configure() {
        let agent = json!({"adapterConfig": {"env": {"TMPDIR": {"type": "plain", "value": "/w"}}}});
        for (name, agent, expected) in [
            ("PAPERCLIP_SCRATCH_DIR", &agent, true),
            ("TEMP", &agent, true),
            ("TMPDIR", &agent, false),
            ("MY_DIR", &agent, false),
            ("TEMP", &json!({}), false),
            ("PAPERCLIP_GITHUB_HOST_HOME", &json!({}), true),
        ] {
            assert_eq!(is_of_server(name, agent), expected, "{name} {agent}");
        }
    }

    #[test]
    fn they_are_removed_from_the_config_and_nothing_else_is() {
        let context = json!({"runId": "r", "agent": {"adapterConfig": {}}, "config": {"env": {"TMP": "/s", "MINE": "m"}}});
        assert_eq!(without(&context)["config"]["env"], json!({"MINE": "m"}));
        let plain = json!({"runId": "r", "config": {"env": {"MINE": "m"}}});
        assert!(matches!(without(&plain), Cow::Borrowed(_)));
        assert!(matches!(without(&json!({})), Cow::Borrowed(_)));
    }
}

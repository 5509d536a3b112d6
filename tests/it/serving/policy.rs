//! The built-in plugin under the default grant.

use std::fs;

use paperclip_contract::types::{Action, Command, NewObject};
use paperclip_engine::intake::{self, IntakeFacts};
use paperclip_engine::policy::{Grant, Policy, Rule};
use paperclip_guest::{Plugin, Runtime, RuntimeOptions, Tools};
use serde_json::{Value, json};

use crate::host::{fixture, plugin};

#[test]
fn every_job_of_the_built_in_plugin_is_within_the_default_grant() {
    let runtime = Runtime::new(&RuntimeOptions { max_instances: 4, ..RuntimeOptions::default() }).unwrap();
    let plugin = Plugin::load_file(&runtime, &plugin()).unwrap();
    let revealed = Grant::default().reveal(&plugin.descriptor().revealed_env);
    assert_eq!(revealed, plugin.descriptor().revealed_env);
    let tools = Tools::new(plugin);
    let cases = fs::read_to_string(fixture("cases/manifest.ndjson")).unwrap();
    for case in cases.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
        let facts = IntakeFacts {
            paperclip_pod: Some(&case["pod"]),
            revealed_env: &revealed,
            ..IntakeFacts::bare(Some("default"))
        };
        let (request, _) = intake::split(&case["context"], "claude_k8s", facts).unwrap();
        let plan: Value = serde_json::from_str(&tools.manifest(&request).unwrap().unwrap()).unwrap();
        let create = Action::CreateJob(NewObject { manifest_json: plan["job"].to_string() });
        let commands = [Command { id: 1, action: create }];
        // What an agent's config names has to be granted, and so do the Secrets of Paperclip's pod, which the host leaves out otherwise.
        let account = case["context"]["config"]["serviceAccountName"].as_str().unwrap_or_default();
        let secrets: Grant = serde_json::from_value(json!({"secrets": ["*"]})).unwrap();
        let granted = Policy::new(secrets.with_service_account(account), &request);
        assert_eq!(granted.check(&commands), Ok(()), "{}", case["name"]);
        let mounts_secrets = case["pod"]["spec"]["volumes"]
            .as_array()
            .is_some_and(|volumes| volumes.iter().any(|volume| volume["secret"].is_object()));
        let mut expected = Vec::new();
        expected.extend(mounts_secrets.then_some(Rule::Secret));
        expected.extend((!account.is_empty()).then_some(Rule::ServiceAccount));
        let refused = Policy::new(Grant::default(), &request).check(&commands).err();
        match refused {
            Some(refused) => assert!(expected.contains(&refused.rule), "{}: {refused}", case["name"]),
            None => assert_eq!(expected, [], "{}", case["name"]),
        }
    }
}

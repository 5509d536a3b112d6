//! The variables of the agent's container: inherited, configured, and the run's own.

use super::*;

#[test]
fn secrets_of_the_server_are_not_inherited() {
    let paperclip = paperclip_pod(
        json!([
            {"name": "DATABASE_URL"}, {"name": "KEY"}, {"name": "STRIPE_KEY"},
            {"name": "PGPASSWORD", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
        ]),
        json!([{"secretRef": {"name": "all"}}]),
    );
    let with = |mode: &str| {
        let mut request = request(json!({"inheritEnv": mode}), json!({}));
        request.paperclip_pod = Some(paperclip.clone());
        request.host.denied_env = vec!["STRIPE_*".into(), "LICENCE".into()];
        request.config_env = vec![EnvName { name: "REDIS_URL".into(), value: None }];
        planned(&request)
    };
    let filtered = with("filtered");
    for name in ["DATABASE_URL", "BETTER_AUTH_SECRET", "PGPASSWORD", "PAPERCLIP_AGENT_JWT_SECRET"] {
        assert_eq!(variable(&filtered, name), Some(&json!({"name": name, "value": ""})), "{name}");
    }
    assert_eq!(variable(&filtered, "STRIPE_KEY"), None);
    assert_eq!(filtered.secrets[0].entries["KEY"], Source::PaperclipPodEnv("KEY".into()));
    assert_eq!(filtered.secrets[0].entries["REDIS_URL"], Source::ConfigEnv("REDIS_URL".into()));

    let all = with("all");
    assert_eq!(all.secrets[0].entries["DATABASE_URL"], Source::PaperclipPodEnv("DATABASE_URL".into()));
    assert!(variable(&all, "PGPASSWORD").unwrap()["valueFrom"].is_object());
    assert_eq!(variable(&all, "BETTER_AUTH_SECRET"), None);
    // What the operator denies stays denied.
    assert_eq!(variable(&all, "STRIPE_KEY"), None);
    assert_eq!(variable(&all, "LICENCE"), Some(&json!({"name": "LICENCE", "value": ""})));

    let none = with("none");
    assert_eq!(variable(&none, "KEY"), None);
    assert_eq!(container(&none)["envFrom"], Value::Null);
    assert_eq!(none.secrets[0].entries.keys().collect::<Vec<_>>(), ["REDIS_URL", "prompt.txt"]);
}

#[test]
fn a_config_cannot_override_the_runs_variables() {
    let mut request = request(json!({"image": "a:1"}), json!({}));
    request.config_env =
        ["PAPERCLIP_API_KEY", "PAPERCLIP_RUN_ID", "HOME", "MINE", "PAPERCLIP_API_URL", "TMPDIR"]
            .map(|name| EnvName { name: name.into(), value: None })
            .to_vec();
    let without_token = planned(&request);
    let configured_key = Source::ConfigEnv("PAPERCLIP_API_KEY".into());
    assert_eq!(without_token.secrets[0].entries["PAPERCLIP_API_KEY"], configured_key);
    request.has_auth_token = true;
    let plan = planned(&request);
    assert_eq!(plan.secrets[0].entries["PAPERCLIP_API_KEY"], Source::AuthToken);
    assert_eq!(variable(&plan, "PAPERCLIP_RUN_ID").unwrap()["value"], "run-1");
    assert_eq!(variable(&plan, "HOME").unwrap()["value"], "/paperclip");
    assert_eq!(plan.secrets[0].entries["MINE"], Source::ConfigEnv("MINE".into()));
    assert_eq!(variable(&plan, "PAPERCLIP_API_URL").unwrap()["value"], "http://localhost:3100");
    assert_eq!(
        plan.secrets[0].entries["TMPDIR"],
        Source::ConfigEnv("TMPDIR".into()),
        "a folder of the agent's own"
    );
    assert_eq!(plan.warnings.len(), 4);
    assert!(plan.warnings[3].contains("paperclip_api_url"), "{:?}", plan.warnings);
}

#[test]
fn the_api_url_comes_from_paperclips_pod_or_else_the_host() {
    let mut request = request(json!({"image": "a:1"}), json!({}));
    let api_url = |request: &Request| variable(&planned(request), API_URL).cloned();
    const API_URL: &str = "PAPERCLIP_API_URL";
    assert_eq!(api_url(&request), Some(json!({"name": API_URL, "value": "http://localhost:3100"})));
    request.host.api_url = Some("http://host:1".into());
    assert_eq!(api_url(&request), Some(json!({"name": API_URL, "value": "http://host:1"})));
    let from = json!({"configMapKeyRef": {"name": "c", "key": "k"}});
    request.paperclip_pod = Some(paperclip_pod(json!([{"name": API_URL, "valueFrom": from}]), json!([])));
    assert_eq!(api_url(&request), Some(json!({"name": API_URL, "valueFrom": from})));
    request.paperclip_pod =
        Some(paperclip_pod(json!([{"name": API_URL, "value": "http://own:1"}]), json!([])));
    request.config.insert("inheritEnv".into(), json!("none"));
    assert_eq!(api_url(&request), Some(json!({"name": API_URL, "value": "http://own:1"})));
    request.paperclip_pod = Some(paperclip_pod(json!([{"name": API_URL, "value": ""}]), json!([])));
    assert_eq!(
        api_url(&request),
        Some(json!({"name": API_URL, "value": "http://host:1"})),
        "an empty value is ignored"
    );
}

#[test]
fn inherits_literals_that_are_not_empty() {
    let mut request = request(json!({}), json!({}));
    let env = json!([{"name": "TZ", "value": "Europe/Berlin"}, {"name": "EMPTY", "value": ""}]);
    request.paperclip_pod = Some(paperclip_pod(env, json!([])));
    let plan = planned(&request);
    assert_eq!(variable(&plan, "TZ"), Some(&json!({"name": "TZ", "value": "Europe/Berlin"})));
    assert_eq!(variable(&plan, "EMPTY"), None);
}

#[test]
fn files_of_the_server_are_not_inherited_by_an_agent_with_a_home_of_its_own() {
    let server = |request: &mut Request| {
        let env = json!([
            {"name": "CONFIG", "value": "/paperclip/instances/default/config.json"},
            {"name": "CACHE", "value": "/paperclip/.cache"},
            {"name": "MINE", "value": "/paperclip/.mine"},
            {"name": "PAPERCLIP_INSTANCE_ROOT", "value": "/paperclip/instances/default"},
            {"name": "WORKSPACE", "value": "/paperclip/instances/default/workspaces/agent-1"},
            {"name": "DATA", "value": "/paperclip"},
            {"name": "HOME", "value": "/paperclip/server"},
            {"name": "PATH", "value": "/paperclip/bin:/usr/bin:/bin"},
        ]);
        let mut pod = paperclip_pod(env, json!([]));
        pod["spec"]["volumes"] = json!([{"name": "data", "persistentVolumeClaim": {"claimName": "c"}}]);
        pod["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "data", "mountPath": "/paperclip"}]);
        request.paperclip_pod = Some(pod);
        request.config_env = vec![EnvName { name: "MINE".into(), value: None }];
    };
    let context = json!({"paperclipWorkspace": {"cwd": "/paperclip/instances/default/workspaces/agent-1"}});
    let with = |mount: &str| {
        let mut request = request(json!({"dataMount": mount}), context.clone());
        server(&mut request);
        planned(&request)
    };
    let value = |plan: &Plan, name: &str| variable(plan, name).map(|variable| variable["value"].clone());

    let isolated = with("isolated");
    assert_eq!((value(&isolated, "CONFIG"), value(&isolated, "CACHE")), (None, None));
    for (name, expected) in [
        ("WORKSPACE", "/paperclip/instances/default/workspaces/agent-1"),
        ("DATA", "/paperclip"),
        ("HOME", "/paperclip"),
        ("PATH", "/usr/bin:/bin"),
    ] {
        assert_eq!(value(&isolated, name), Some(json!(expected)), "{name}");
    }
    assert_eq!(isolated.secrets[0].entries["MINE"], Source::ConfigEnv("MINE".into()));
    let warned: Vec<_> =
        isolated.warnings.iter().filter(|warning| warning.contains("files of the server")).collect();
    assert!(matches!(warned[..], [only] if only.contains(": CACHE, CONFIG, PATH;")), "{warned:?}");

    let shared = with("shared");
    assert_eq!(value(&shared, "CACHE"), Some(json!("/paperclip/.cache")));
    assert_eq!(value(&shared, "PATH"), Some(json!("/paperclip/bin:/usr/bin:/bin")));
    assert!(!shared.warnings.iter().any(|warning| warning.contains("files of the server")));
}

#[test]
fn a_shown_value_is_that_of_the_container() {
    let mut request = request(json!({}), json!({}));
    let env = json!([{"name": "TZ", "value": "Europe/Berlin"}, {"name": "STRIPE_KEY", "value": "s"}, {"name": "KEY"}]);
    request.paperclip_pod = Some(paperclip_pod(env, json!([])));
    request.host.denied_env = vec!["STRIPE_*".into()];
    let shown = |request: &Request, name| {
        [InheritEnv::Filtered, InheritEnv::All, InheritEnv::None]
            .map(|inherit| crate::manifest::environment::shown_value(request, inherit, name))
    };
    let berlin = || Some("Europe/Berlin".to_owned());
    assert_eq!(shown(&request, "TZ"), [berlin(), berlin(), None]);
    assert_eq!(shown(&request, "STRIPE_KEY"), [None, None, None], "the operator denies it");
    assert_eq!(shown(&request, "KEY"), [None, None, None], "the host keeps it");
    assert_eq!(shown(&request, "NONE"), [None, None, None]);
    let configured = |value: Option<&str>| EnvName { name: "TZ".into(), value: value.map(str::to_owned) };
    request.config_env = vec![configured(Some("UTC")), configured(None)];
    assert_eq!(shown(&request, "TZ"), [None, None, None], "the last entry of a name wins");
    request.config_env.reverse();
    assert_eq!(shown(&request, "TZ"), [(); 3].map(|()| Some("UTC".to_owned())));
}

#[test]
fn a_variable_can_be_as_long_as_linux_allows() {
    const NAME: &str = "PAPERCLIP_COMPANY_ID";
    let mut request = request(json!({"image": "a:1"}), json!({}));
    let free = VARIABLE_MAX_BYTES - NAME.len() - 2;
    request.agent.company_id = "x".repeat(free);
    assert!(variable(&planned(&request), NAME).is_some());
    request.agent.company_id.push('x');
    let plan = planned(&request);
    assert_eq!(variable(&plan, NAME), None);
    assert!(plan.warnings[0].contains("it would be 131073 bytes"), "{:?}", plan.warnings);
}

#[test]
fn adapts_or_leaves_out_references_of_paperclips_pod() {
    let mut request = request(json!({}), json!({}));
    request.paperclip_pod = Some(paperclip_pod(
        json!([
            {"name": "CPUS", "valueFrom": {"resourceFieldRef": {"containerName": "paperclip", "resource": "limits.cpu"}}},
            {"name": "FILE", "valueFrom": {"fileKeyRef": {"volumeName": "v", "path": "p", "key": "k"}}},
        ]),
        json!([]),
    ));
    let plan = planned(&request);
    assert_eq!(
        variable(&plan, "CPUS").unwrap()["valueFrom"],
        json!({"resourceFieldRef": {"resource": "limits.cpu"}})
    );
    assert_eq!(variable(&plan, "FILE"), None);
    assert!(plan.warnings[0].starts_with("FILE is left out"), "{:?}", plan.warnings);
}

#[test]
fn the_context_becomes_variables() {
    let plan = planned(&request(
        json!({"image": "a:1"}),
        json!({
            "commentId": " c2 ",
            "paperclipWake": {"z": 1.0, "a": [null]},
            "paperclipWorkspace": {
                "cwd": "/w", "source": "s", "strategy": "worktree", "workspaceId": "w1", "repoUrl": "u", "repoRef": "r",
                "branchName": "b", "worktreePath": "/t", "agentHome": "/h",
            },
            "issueIds": [" a ", "", "b"],
            "paperclipWorkspaces": [{"id": 1}, "x", null, []],
            "paperclipRuntimeServiceIntents": ["x"],
            "paperclipRuntimeServices": [{"url": "$(HOME)/$$"}],
            "paperclipRuntimePrimaryUrl": "http://s",
        }),
    ));
    let values: Vec<_> = container(&plan)["env"]
        .as_array()
        .unwrap()
        .iter()
        .skip(4 + 7)
        .map(|variable| (variable["name"].as_str().unwrap(), variable["value"].as_str().unwrap()))
        .collect();
    assert_eq!(
        values,
        [
            ("PAPERCLIP_WAKE_COMMENT_ID", "c2"),
            ("PAPERCLIP_WAKE_PAYLOAD_JSON", "{\"z\":1,\"a\":[null]}"),
            ("PAPERCLIP_WORKSPACE_CWD", "/w"),
            ("PAPERCLIP_WORKSPACE_SOURCE", "s"),
            ("PAPERCLIP_WORKSPACE_STRATEGY", "worktree"),
            ("PAPERCLIP_WORKSPACE_ID", "w1"),
            ("PAPERCLIP_WORKSPACE_REPO_URL", "u"),
            ("PAPERCLIP_WORKSPACE_REPO_REF", "r"),
            ("PAPERCLIP_WORKSPACE_BRANCH", "b"),
            ("PAPERCLIP_WORKSPACE_WORKTREE_PATH", "/t"),
            ("AGENT_HOME", "/h"),
            ("PAPERCLIP_LINKED_ISSUE_IDS", " a ,b"),
            ("PAPERCLIP_WORKSPACES_JSON", "[{\"id\":1},[]]"),
            // Escaped for the kubelet, which turns it back into `$(HOME)/$$`.
            ("PAPERCLIP_RUNTIME_SERVICES_JSON", "[{\"url\":\"$$(HOME)/$$$$\"}]"),
            ("PAPERCLIP_RUNTIME_PRIMARY_URL", "http://s"),
            ("HOME", "/paperclip"),
        ]
    );
    assert_eq!(container(&plan)["workingDir"], "/w");
}

#[test]
fn temporary_files_have_a_folder_of_the_pod() {
    let plan = planned(&request(json!({"image": "a:1"}), json!({})));
    for name in ["TMPDIR", "PAPERCLIP_SCRATCH_DIR", "PAPERCLIP_RUN_SCRATCH_DIR"] {
        assert_eq!(variable(&plan, name).unwrap()["value"], "/tmp/paperclip-scratch", "{name}");
    }
    let pod = &plan.job["spec"]["template"]["spec"];
    assert!(pod["volumes"].as_array().unwrap().contains(&json!({"name": "scratch", "emptyDir": {}})));
    let mount = json!({"name": "scratch", "mountPath": "/tmp/paperclip-scratch"});
    assert!(container(&plan)["volumeMounts"].as_array().unwrap().contains(&mount));
}

#[test]
fn the_agent_knows_the_work_mode_of_its_task() {
    let mode = |context: Value| {
        variable(&planned(&request(json!({"image": "a:1"}), context)), "PAPERCLIP_ISSUE_WORK_MODE").cloned()
    };
    let planning = Some(json!({"name": "PAPERCLIP_ISSUE_WORK_MODE", "value": "planning"}));
    assert_eq!(
        mode(
            json!({"paperclipIssue": {"workMode": " planning "}, "paperclipWake": {"issue": {"workMode": "ask"}}})
        ),
        planning
    );
    assert_eq!(
        mode(
            json!({"paperclipIssue": {"workMode": ""}, "paperclipWake": {"issue": {"workMode": "planning"}}})
        ),
        planning
    );
    assert_eq!(mode(json!({})), None);
}

#[test]
fn leaves_out_or_refuses_values_that_no_program_could_be_started_with() {
    let payload = "x".repeat(VARIABLE_MAX_BYTES);
    let plan_of = |config: Value, context: Value| plan(&request(config, context), Attempt::FIRST, &Plain);
    let large = plan_of(json!({"image": "a:1"}), json!({"paperclipWake": {"reason": payload}})).unwrap();
    assert_eq!(variable(&large, "PAPERCLIP_WAKE_PAYLOAD_JSON"), None);
    let file = "/tmp/bundle/context/PAPERCLIP_WAKE_PAYLOAD_JSON.json";
    assert_eq!(variable(&large, "PAPERCLIP_WAKE_PAYLOAD_JSON_FILE").unwrap()["value"], file);
    assert!(large.prompt.contains(file), "the prompt names the file");
    assert!(large.context_files[0].text.starts_with("{\"reason\":\"xxx"));
    assert_eq!(
        large.prompt_of(&large.secrets[1].entries["context.txt"]),
        Some(large.context_files[0].text.as_str())
    );
    assert_eq!(large.warnings, Vec::<String>::new());
    let nul = plan_of(json!({"image": "a:1"}), json!({"wakeReason": "a\0b"})).unwrap();
    assert_eq!(variable(&nul, "PAPERCLIP_WAKE_REASON"), None);
    let args = plan_of(json!({"image": "a:1", "extraArgs": [payload]}), json!({})).unwrap_err();
    assert_eq!(args.field, "extraArgs");
    let cwd = plan_of(json!({"image": "a:1"}), json!({"paperclipWorkspace": {"cwd": "repo"}})).unwrap_err();
    assert_eq!(cwd.field, "context.paperclipWorkspace.cwd");
}

#[test]
fn a_warning_is_reported_once() {
    struct WithModel;
    impl AgentType for WithModel {
        fn adapter_type(&self) -> &'static str {
            Plain.adapter_type()
        }
        fn job_name_prefix(&self) -> &'static str {
            Plain.job_name_prefix()
        }
        fn container_name(&self) -> &'static str {
            Plain.container_name()
        }
        fn program(&self) -> &'static str {
            Plain.program()
        }
        fn forced_env(&self) -> &'static [(&'static str, &'static str)] {
            Plain.forced_env()
        }
        fn arguments(&self, _: &Call<'_>, config: &mut Fields<'_>) -> Result<Vec<String>, Refusal> {
            Ok(config.text("model")?.into_iter().map(str::to_owned).collect())
        }
    }
    let request = request(json!({"image": "a:1", "model": 3}), json!({}));
    assert_eq!(plan(&request, Attempt::FIRST, &WithModel).unwrap().warnings.len(), 1);
}

#[test]
fn refuses_an_illegal_variable_name() {
    let mut request = request(json!({"image": "a:1"}), json!({}));
    request.config_env = vec![EnvName { name: "MY KEY".into(), value: None }];
    let refusal = plan(&request, Attempt::FIRST, &Plain).unwrap_err();
    assert_eq!(refusal.field, "env.MY KEY");
}

#[test]
fn warns_once_of_injected_variables_that_are_not_inherited() {
    let env = json!([
        {"name": "LD_PRELOAD"}, {"name": "SSL_CERT_FILE", "value": "/injected/ca.pem"}, {"name": "DATABASE_URL"}, {"name": "KEY"},
    ]);
    let mut paperclip = paperclip_pod(env, json!([]));
    paperclip["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "ca", "mountPath": "/injected"}]);
    paperclip["spec"]["volumes"] = json!([{"name": "ca", "configMap": {"name": "ca"}}]);
    let with = |mode: &str| {
        let mut request = request(json!({"inheritEnv": mode}), json!({}));
        request.paperclip_pod = Some(paperclip.clone());
        planned(&request)
    };
    let warning = "not inherited from Paperclip's pod, where an admission webhook injected them: LD_PRELOAD, SSL_CERT_FILE";
    for mode in ["filtered", "all"] {
        let plan = with(mode);
        assert_eq!(plan.warnings, [warning], "{mode}");
        assert_eq!((variable(&plan, "LD_PRELOAD"), variable(&plan, "SSL_CERT_FILE")), (None, None), "{mode}");
        assert!(variable(&plan, "KEY").is_some(), "{mode}");
    }
    assert_eq!(with("none").warnings, Vec::<String>::new());
}

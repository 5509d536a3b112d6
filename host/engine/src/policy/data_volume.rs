//! The rules for Paperclip's data volume: which of its folders a Job may mount.

use paperclip_kubernetes::data_volume::{home, is_plain_path, own_workspace, parents};
use paperclip_kubernetes::paperclip_pod::{DATA_DIR, container};
use serde_json::Value;

use super::pod::{containers, items};
use super::{Grant, Refused, Rule, matches};

/// Paperclip's data volume, as one agent may mount it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DataVolume {
    /// The name of its claim.
    pub(super) claim: String,
    /// The folder of the volume that Paperclip's pod itself mounts, without a slash at its end; empty: all of it.
    root: String,
    company_id: String,
    agent_id: String,
}

impl DataVolume {
    /// Returns the volume that Paperclip's container mounts as its data volume.
    pub(super) fn of(paperclip_pod: &Value, company_id: &str, agent_id: &str) -> Option<DataVolume> {
        let is_data = |mount: &&Value| {
            mount["mountPath"].as_str().is_some_and(|path| path.trim_end_matches('/') == DATA_DIR)
        };
        let mount = items(&container(paperclip_pod).ok()?["volumeMounts"]).find(is_data)?;
        let volume =
            items(&paperclip_pod["spec"]["volumes"]).find(|volume| volume["name"] == mount["name"])?;
        Some(DataVolume {
            claim: volume["persistentVolumeClaim"]["claimName"].as_str()?.to_owned(),
            root: mount["subPath"].as_str().unwrap_or_default().trim_end_matches('/').to_owned(),
            company_id: company_id.to_owned(),
            agent_id: agent_id.to_owned(),
        })
    }

    /// Checks every mount of the volume: an agent gets its home, workspaces of its own or of its company, and what the grant names.
    pub(super) fn check(&self, what: &str, spec: &Value, grant: &Grant) -> Result<(), Refused> {
        if grant.shared_data_volume {
            return Ok(());
        }
        let is_data = |volume: &&Value| volume["persistentVolumeClaim"]["claimName"] == self.claim.as_str();
        let names: Vec<&Value> =
            items(&spec["volumes"]).filter(is_data).map(|volume| &volume["name"]).collect();
        let refused = |found: String, hint: &str| {
            let what = format!("{what} mounts {found} of the data volume {}", self.claim);
            Err(Refused::new(Rule::DataVolume, what, hint))
        };
        for container in containers(spec) {
            if items(&container["volumeDevices"]).any(|device| names.contains(&&device["name"])) {
                return refused("the device".to_owned(), "mount folders of it");
            }
            for mount in items(&container["volumeMounts"]).filter(|mount| names.contains(&&mount["name"])) {
                if !mount["subPathExpr"].is_null() {
                    return refused("a subPathExpr".to_owned(), "name the folder in subPath");
                }
                let sub_path = mount["subPath"].as_str().unwrap_or_default();
                match self.folder(sub_path) {
                    None | Some("") => {
                        let hint = "set dataMount to isolated and use a plugin that knows it, or let the operator set `shared_data_volume` in the grant";
                        return refused("all".to_owned(), hint);
                    }
                    Some(folder) if self.is_own(folder) || is_granted(grant, folder) => {}
                    Some(folder) => {
                        let hint = "it is neither the agent's home, nor its workspace, nor a project of its company: add it to `workspaces` of the grant";
                        return refused(format!("folder {folder:?}"), hint);
                    }
                }
            }
        }
        Ok(())
    }

    /// Returns a `subPath` relative to what Paperclip's pod mounts; `None` if it is not below that.
    fn folder<'p>(&self, sub_path: &'p str) -> Option<&'p str> {
        let rest = sub_path.strip_prefix(self.root.as_str())?;
        if self.root.is_empty() { Some(rest) } else { rest.strip_prefix('/') }
    }

    fn is_own(&self, folder: &str) -> bool {
        folder == home(&self.company_id, &self.agent_id)
            || own_workspace(folder, &self.company_id, &self.agent_id) == Some(folder)
    }
}

/// Whether a grant names a folder. What is below a granted folder is not: an agent that mounts that one could put a symbolic link there.
fn is_granted(grant: &Grant, folder: &str) -> bool {
    is_plain_path(folder) && parents(folder).find(|parent| matches(&grant.workspaces, parent)) == Some(folder)
}

#[cfg(test)]
mod tests {
    use paperclip_contract::types::{Action, Command, NewObject};
    use serde_json::{Value, json};

    use super::super::tests::{grant, job, request};
    use super::super::{Grant, Policy, Refused, Rule};

    /// Returns the refusal of a Job that mounts `subPath` of the data volume, of which Paperclip's pod mounts `root`.
    fn refused(grant: Grant, root: &str, mount: &Value) -> Option<Refused> {
        let mut request = request();
        let mut pod: Value = serde_json::from_str(request.paperclip_pod_json.as_deref().unwrap()).unwrap();
        pod["spec"]["containers"][0]["volumeMounts"] =
            json!([{"name": "data", "mountPath": "/paperclip/", "subPath": root}]);
        request.paperclip_pod_json = Some(pod.to_string());
        let mut job = job();
        let mut whole = json!({"name": "data", "mountPath": "/paperclip"});
        whole.as_object_mut().unwrap().extend(mount.as_object().unwrap().clone());
        job["spec"]["template"]["spec"]["containers"][0]["volumeMounts"] = json!([whole]);
        let action = Action::CreateJob(NewObject { manifest_json: job.to_string() });
        Policy::new(grant, &request).check(&[Command { id: 1, action }]).err()
    }

    #[test]
    fn a_job_mounts_folders_of_its_agent_and_company_and_no_other() {
        for (folder, is_allowed) in [
            ("agent-homes/acme/nova", true),
            ("instances/default/workspaces/nova", true),
            ("instances/default/projects/acme/p1", true),
            ("", false),
            (".", false),
            ("/", false),
            ("agent-homes", false),
            ("agent-homes/acme", false),
            ("agent-homes/acme/other", false),
            ("agent-homes/other/nova", false),
            ("agent-homes/acme/nova/sub", false),
            ("agent-homes/acme/nova/../other", false),
            ("instances/default", false),
            ("instances/default/db", false),
            ("instances/default/secrets", false),
            ("instances/default/workspaces", false),
            ("instances/default/workspaces/other", false),
            ("instances/default/workspaces/nova/link", false),
            ("instances/default/projects/acme", false),
            ("instances/default/projects/other/p1", false),
            ("instances/default/projects/acme/p1/link", false),
            ("instances/default/projects/acme/..", false),
        ] {
            for root in ["", "home", "home/"] {
                let sub_path = if root.is_empty() { folder.to_owned() } else { format!("home/{folder}") };
                let refused = refused(Grant::default(), root, &json!({"subPath": sub_path}));
                let rule = refused.as_ref().map(|refused| refused.rule);
                assert_eq!(rule, (!is_allowed).then_some(Rule::DataVolume), "{sub_path}: {refused:?}");
            }
        }
        let outside = refused(Grant::default(), "home", &json!({"subPath": "agent-homes/acme/nova"}));
        assert_eq!(
            outside.map(|refused| refused.rule),
            Some(Rule::DataVolume),
            "beside what Paperclip mounts"
        );
    }

    #[test]
    fn an_operator_grants_workspaces_and_the_whole_volume() {
        let workspaces = |folder: &str| {
            let grant = grant(json!({"workspaces": ["repos/*", "one"]}));
            refused(grant, "", &json!({"subPath": folder})).map(|refused| refused.rule)
        };
        assert_eq!((workspaces("repos/a"), workspaces("one")), (None, None));
        for folder in ["repos", "repos/a/b", "repos/../db", "one/b", "two", ""] {
            assert_eq!(workspaces(folder), Some(Rule::DataVolume), "{folder}");
        }
        let shared = grant(json!({"shared_data_volume": true}));
        assert_eq!(refused(shared, "", &json!({})), None);
        // A claim of the operator's choice is not the data volume, whatever the pattern says.
        let claims = grant(json!({"volume_claims": ["*"]}));
        assert_eq!(refused(claims, "", &json!({})).map(|refused| refused.rule), Some(Rule::DataVolume));
    }

    #[test]
    fn a_folder_is_named_literally() {
        let expression = json!({"subPath": "agent-homes/acme/nova", "subPathExpr": "$(A)"});
        let refused = refused(Grant::default(), "", &expression).expect("refused");
        assert_eq!(refused.rule, Rule::DataVolume);
        assert!(refused.what.contains("subPathExpr"), "{refused}");
    }

    #[test]
    fn init_containers_and_devices_are_checked_too() {
        for (field, value) in [
            (
                "initContainers",
                json!([{"name": "i", "volumeMounts": [{"name": "data", "mountPath": "/all"}]}]),
            ),
            (
                "ephemeralContainers",
                json!([{"name": "e", "volumeMounts": [{"name": "data", "mountPath": "/all"}]}]),
            ),
            (
                "containers",
                json!([{"name": "c", "volumeDevices": [{"name": "data", "devicePath": "/dev/x"}]}]),
            ),
        ] {
            let data = super::DataVolume {
                claim: "data".into(),
                root: String::new(),
                company_id: "acme".into(),
                agent_id: "nova".into(),
            };
            let spec = json!({
                field: value,
                "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
            });
            let refused = data.check("Job j", &spec, &Grant::default()).expect_err("refused");
            assert_eq!(refused.rule, Rule::DataVolume, "{field}");
        }
    }
}

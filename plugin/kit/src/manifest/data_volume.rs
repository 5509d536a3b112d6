//! The folders of Paperclip's data volume that an agent's container mounts. The host checks that it may have them.

use paperclip_kubernetes::data_volume::{home, own_workspace};
use serde_json::Value;

use super::paperclip_pod::DATA_DIR;
use crate::config::DataMount;
use crate::request::Request;

/// Returns the folders, relative to the volume's root. Each is mounted where it is below [`DATA_DIR`], but for the first, which is
/// mounted there: it is the agent's home, or, if the volume is shared, the volume itself.
pub fn folders(request: &Request, data_mount: DataMount, working_dir: &str) -> Vec<String> {
    if data_mount == DataMount::Shared {
        return vec![String::new()];
    }
    let (company_id, agent_id) = (&request.agent.company_id, &request.agent.id);
    let mut folders = vec![home(company_id, agent_id)];
    let workspace = request.context.get("paperclipWorkspace").unwrap_or(&Value::Null);
    let cwd = workspace["cwd"].as_str();
    for path in [Some(working_dir), workspace["agentHome"].as_str()].into_iter().flatten() {
        let Some(folder) = path.strip_prefix(DATA_DIR).and_then(|path| path.strip_prefix('/')) else {
            continue;
        };
        let folder = folder.trim_end_matches('/');
        // Another workspace that Paperclip names is mounted if the operator grants it. Other paths are in the agent's home.
        let other = Some(folder).filter(|folder| !folder.is_empty() && cwd == Some(path));
        if let Some(folder) = own_workspace(folder, company_id, agent_id).or(other)
            && !folders.iter().any(|known| known == folder)
        {
            folders.push(folder.to_owned());
        }
    }
    folders
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn folders_of(workspace: &Value, config_cwd: Option<&str>) -> Vec<String> {
        let mut request = Request::default();
        (request.agent.company_id, request.agent.id) = ("acme".into(), "nova".into());
        request.context.insert("paperclipWorkspace".into(), workspace.clone());
        let cwd = workspace["cwd"].as_str().or(config_cwd).unwrap_or(DATA_DIR);
        folders(&request, DataMount::Isolated, cwd)
    }

    #[test]
    fn an_agent_gets_its_home_and_the_workspace_that_the_context_names() {
        const HOME: &str = "agent-homes/acme/nova";
        const OWN: &str = "instances/default/workspaces/nova";
        const PROJECT: &str = "instances/default/projects/acme/p1";
        let below = |folder: &str| format!("/paperclip/{folder}");
        for (workspace, config_cwd, expected) in [
            (json!(null), None, vec![HOME]),
            (json!({"cwd": "/work"}), None, vec![HOME]),
            (json!({"cwd": "/paperclip/"}), None, vec![HOME]),
            (json!({"cwd": "/paperclips/a"}), None, vec![HOME]),
            (json!({"cwd": below(OWN), "agentHome": below(OWN)}), None, vec![HOME, OWN]),
            (
                json!({"cwd": format!("{}/repo/src", below(PROJECT)), "agentHome": below(OWN)}),
                None,
                vec![HOME, PROJECT, OWN],
            ),
            (json!({"cwd": "/paperclip/repos/a/"}), None, vec![HOME, "repos/a"]),
            (json!({"agentHome": "/paperclip/repos/a"}), None, vec![HOME]),
            (json!(null), Some("/paperclip/repos/a"), vec![HOME]),
            (json!(null), Some("/paperclip/instances/default/workspaces/nova/a"), vec![HOME, OWN]),
        ] {
            assert_eq!(folders_of(&workspace, config_cwd), expected, "{workspace} {config_cwd:?}");
        }
    }

    #[test]
    fn a_shared_volume_is_mounted_whole() {
        assert_eq!(folders(&Request::default(), DataMount::Shared, "/paperclip/x"), [""]);
    }
}

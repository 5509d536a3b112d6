//! The folders of Paperclip's data volume that an agent gets: its home, and workspaces.
//!
//! The layout of workspaces is that of Paperclip's server (`server/src/home-paths.ts`): `instances/<instance>/workspaces/<agent>` and
//! `instances/<instance>/projects/<company>/<project>/<repository>`.

use crate::shared::hex;

/// The folder with the homes of all agents. Paperclip's server has no folder of this name.
const HOMES: &str = "agent-homes";
/// A longer id would not fit into the name of a folder.
const ID_MAX_BYTES: usize = 128;

/// Returns the folder of an agent's home, relative to the volume's root. It is the same for all runs of the agent, and no two agents
/// have the same.
///
/// ```
/// use paperclip_kubernetes::data_volume::home;
///
/// assert_eq!(home("acme", "nova"), "agent-homes/acme/nova");
/// assert_ne!(home("acme", "a/b"), home("acme/a", "b"));
/// ```
pub fn home(company_id: &str, agent_id: &str) -> String {
    [HOMES, &folder_name(company_id), &folder_name(agent_id)].join("/")
}

/// Returns an id as the name of a folder. One that could not be such a name is replaced by its digest, after a dot, which no other has.
fn folder_name(id: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if (1..=ID_MAX_BYTES).contains(&id.len()) && id.bytes().all(is_plain) {
        return id.to_owned();
    }
    ["id", &hex(id)].join(".")
}

/// Returns the folder that an agent mounts to work at a path, relative to the volume's root, if that is in a workspace of the agent
/// itself or in a project of its company; `None` if it is neither.
///
/// It is not the path itself but the part of it that no agent can write to from above: below a folder that an agent mounts, a symbolic
/// link of its own could lead to any folder of the volume, since Kubernetes resolves the links in a `subPath`.
///
/// ```
/// use paperclip_kubernetes::data_volume::own_workspace;
///
/// let path = "instances/default/projects/acme/p1/repo/src";
/// assert_eq!(own_workspace(path, "acme", "nova"), Some("instances/default/projects/acme/p1"));
/// assert_eq!(own_workspace(path, "other", "nova"), None);
/// ```
pub fn own_workspace<'p>(path: &'p str, company_id: &str, agent_id: &str) -> Option<&'p str> {
    if !is_plain_path(path) {
        return None;
    }
    let (instance, rest) = path.strip_prefix("instances/")?.split_once('/')?;
    let (kind, rest) = rest.split_once('/')?;
    let (owner, rest) = rest.split_once('/').unwrap_or((rest, ""));
    let start = "instances/".len() + instance.len() + 1 + kind.len() + 1 + owner.len();
    match kind {
        "workspaces" if owner == agent_id => Some(&path[..start]),
        "projects" if owner == company_id && !rest.is_empty() => {
            let project = rest.find('/').unwrap_or(rest.len());
            Some(&path[..start + 1 + project])
        }
        _ => None,
    }
}

/// Returns whether a path is relative and leads to one folder only, whatever folders exist.
pub fn is_plain_path(path: &str) -> bool {
    path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

/// Returns the folders on the way to a path, from the volume's root, the path itself included.
pub fn parents(path: &str) -> impl Iterator<Item = &str> {
    let ends = path.match_indices('/').map(|(end, _)| end).chain([path.len()]);
    ends.map(|end| &path[..end])
}

/// Returns the `subPath` of a folder on a claim of which Paperclip's pod itself mounts a `subPath`; `None` for the whole claim.
///
/// ```
/// use paperclip_kubernetes::data_volume::sub_path;
///
/// assert_eq!(sub_path(Some("home/"), "agent-homes/a").as_deref(), Some("home/agent-homes/a"));
/// assert_eq!(sub_path(None, ""), None);
/// ```
pub fn sub_path(of_paperclip: Option<&str>, folder: &str) -> Option<String> {
    let mut path = of_paperclip.unwrap_or_default().trim_end_matches('/').to_owned();
    if !path.is_empty() && !folder.is_empty() {
        path.push('/');
    }
    path.push_str(folder);
    (!path.is_empty()).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_agent_works_in_its_own_workspace_and_in_projects_of_its_company() {
        for (path, root) in [
            ("instances/default/workspaces/nova", Some("instances/default/workspaces/nova")),
            ("instances/default/workspaces/nova/a/b", Some("instances/default/workspaces/nova")),
            ("instances/x/projects/acme/p1", Some("instances/x/projects/acme/p1")),
            (
                "instances/x/projects/acme/p1/repo/.paperclip/worktrees/w",
                Some("instances/x/projects/acme/p1"),
            ),
            ("instances/default/workspaces/other", None),
            ("instances/default/workspaces", None),
            ("instances/default/projects/acme", None),
            ("instances/default/projects/other/p1", None),
            ("instances/default/db", None),
            ("instances/default/secrets/master.key", None),
            ("instances/default/workspaces/nova/../other", None),
            ("instances/../workspaces/nova", None),
            ("instances//workspaces/nova", None),
            ("other/default/workspaces/nova", None),
            ("agent-homes/acme/other", None),
            ("", None),
        ] {
            assert_eq!(own_workspace(path, "acme", "nova"), root, "{path}");
        }
        assert_eq!(own_workspace("instances/default/workspaces/", "", ""), None);
    }

    #[test]
    fn a_path_has_its_folders_as_parents() {
        assert_eq!(parents("a/b/c").collect::<Vec<_>>(), ["a", "a/b", "a/b/c"]);
    }

    proptest! {
        #[test]
        fn no_two_agents_have_one_home(
            one in ("[a-z.%/ é-]{0,4}", "[a-z.%/ é-]{0,4}"),
            other in ("[a-z.%/ é-]{0,4}", "[a-z.%/ é-]{0,4}"),
        ) {
            let (first, second) = (home(&one.0, &one.1), home(&other.0, &other.1));
            prop_assert_eq!(first == second, one == other);
            prop_assert!(is_plain_path(&first) && first.split('/').count() == 3);
        }

        #[test]
        fn what_is_mounted_contains_the_path(path in "(instances|x)/(d|\\.\\.)/(projects|workspaces)/(acme|nova|b)(/[a-c.]{0,2}){0,3}") {
            if let Some(root) = own_workspace(&path, "acme", "nova") {
                prop_assert!(path == root || path.starts_with(&[root, "/"].concat()));
                prop_assert!(root.contains("/acme/") || root.ends_with("/nova"));
                prop_assert_eq!(own_workspace(root, "acme", "nova"), Some(root));
            }
        }
    }
}

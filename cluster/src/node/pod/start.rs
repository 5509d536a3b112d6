//! Resolves what to start for a container: its specification with everything that it refers to.

use k8s_openapi::api::core::v1::{Container, Pod};

use paperclip_kubernetes::environment::expand;

use crate::node::env::{self, Environment};
use crate::node::objects::Objects;
use crate::node::process::Command;
use crate::node::volumes::{PathMap, PodVolumes};

/// Why a container can't be started, in the kubelet's terms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// `CreateContainerConfigError`: something that it refers to is not there.
    Config(String),
    /// `CreateContainerError`: it can't be made as it is.
    Create(String),
    /// `StartError`: it was made and did not run.
    Start(String),
}

/// The command of a container instance named `id`.
///
/// # Errors
/// Why a container cannot start.
pub(super) fn command(
    container: &Container,
    pod: &Pod,
    volumes: &PodVolumes,
    objects: &Objects,
    id: String,
) -> Result<Command, Obstacle> {
    let declared = env::declared(container, pod, objects).map_err(Obstacle::Config)?;
    let paths = volumes.mounts(container).map_err(Obstacle::Config)?;
    if container.command.as_deref().unwrap_or_default().is_empty() {
        return Err(Obstacle::Create(format!(
            "no command specified: the local cluster does not read images, so container {} needs spec.command",
            container.name
        )));
    }
    let words = words(container, &declared, &paths);
    let mut environment = env::inherited(pod);
    environment.extend(declared.into_iter().map(|(name, value)| (name, paths.apply(&value))));
    let working_dir = working_dir(container, volumes, &paths)?;
    Ok(Command { words, env: environment.into_iter().collect(), working_dir, id })
}

/// Command and arguments: first `$(NAME)` is expanded, then mount paths are replaced.
fn words(container: &Container, declared: &Environment, paths: &PathMap) -> Vec<String> {
    let all = container.command.iter().flatten().chain(container.args.iter().flatten());
    all.map(|word| paths.apply(&expand(word, |name| declared.get(name).map(String::as_str)))).collect()
}

fn working_dir(
    container: &Container,
    volumes: &PodVolumes,
    paths: &PathMap,
) -> Result<std::path::PathBuf, Obstacle> {
    let failed =
        |error: std::io::Error| Obstacle::Start(format!("the working directory can't be made: {error}"));
    let Some(configured) = container.working_dir.as_deref().filter(|dir| !dir.is_empty()) else {
        return volumes.root_folder(&container.name).map_err(failed);
    };
    let (folder, is_mounted) = paths.resolve(configured);
    if is_mounted {
        std::fs::create_dir_all(&folder).map_err(failed)?;
    }
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::node::volumes::Folders;
    use crate::resource::Resource;
    use crate::store::{Store, StoreOptions};

    struct Bench {
        folder: tempfile::TempDir,
        folders: Folders,
        objects: Objects,
    }

    impl Bench {
        fn new() -> Bench {
            let folder = tempfile::tempdir().unwrap();
            let folders = Folders::prepare(folder.path()).unwrap();
            let store = Store::new(StoreOptions::default()).unwrap();
            let secret =
                json!({"metadata": {"name": "s", "namespace": "n"}, "data": {"where": "L2RhdGEveA=="}});
            store.create(Resource::Secrets, secret).unwrap();
            Bench { folder, folders, objects: Objects::new(store, "n") }
        }

        #[expect(clippy::needless_pass_by_value, reason = "literals read better")]
        fn command(&self, container: Value) -> Result<Command, Obstacle> {
            let pod: Pod = serde_json::from_value(json!({
                "metadata": {"name": "p", "namespace": "n", "uid": "u"},
                "spec": {"containers": [container], "volumes": [{"name": "v", "emptyDir": {}}]},
            }))
            .unwrap();
            let volumes = PodVolumes::mount(&pod, &self.folders, &self.objects).unwrap();
            command(&pod.spec.as_ref().unwrap().containers[0], &pod, &volumes, &self.objects, "id".to_owned())
        }
    }

    impl Drop for Bench {
        fn drop(&mut self) {
            std::fs::remove_dir_all(self.folders.memory()).unwrap();
        }
    }

    #[test]
    fn references_and_paths_are_put_in() {
        let bench = Bench::new();
        let made = bench
            .command(json!({
                "name": "c",
                "command": ["sh", "-c", "cat /data/$(NAME) > /dev/termination-log"],
                "args": ["$(WHERE)", "$$(NAME)"],
                "workingDir": "/data/deep/er",
                "env": [
                    {"name": "NAME", "value": "file"},
                    {"name": "WHERE", "valueFrom": {"secretKeyRef": {"name": "s", "key": "where"}}},
                    {"name": "PATH", "value": "/data/bin:/usr/bin"},
                ],
                "volumeMounts": [{"name": "v", "mountPath": "/data"}],
            }))
            .unwrap();
        let data = bench.folder.path().canonicalize().unwrap().join("pods/u/volumes/v");
        let data = data.to_str().unwrap();
        let message = bench.folders.memory().join("u/containers/c/termination-log");
        assert_eq!(made.words[2], format!("cat {data}/file > {}", message.display()));
        assert_eq!(made.words[3..], [format!("{data}/x"), "$(NAME)".to_owned()]);
        assert!(made.working_dir.ends_with("pods/u/volumes/v/deep/er") && made.working_dir.is_dir());
        let value = |name: &str| made.env.iter().find(|(key, _)| key == name).unwrap().1.clone();
        assert_eq!(value("WHERE"), format!("{data}/x"));
        assert_eq!(value("PATH"), format!("{data}/bin:/usr/bin"));
        assert_eq!(value("HOSTNAME"), "p");
    }

    #[test]
    fn folders_that_a_container_would_have_of_its_own_are_made() {
        let bench = Bench::new();
        let command = bench
            .command(json!({
                "name": "c", "command": ["cat", "/no/where/x", "/no/home/y"], "workingDir": "/no/where",
                "env": [{"name": "HOME", "value": "/no/home"}],
            }))
            .unwrap();
        assert!(command.working_dir.is_dir());
        assert_eq!(command.words[1], command.working_dir.join("x").to_str().unwrap());
        assert!(std::path::Path::new(&command.words[2]).parent().is_some_and(std::path::Path::is_dir));
    }

    #[test]
    fn obstacles_are_named() {
        let bench = Bench::new();
        let no_command = bench.command(json!({"name": "c", "args": ["x"]})).unwrap_err();
        assert!(
            matches!(no_command, Obstacle::Create(message) if message.starts_with("no command specified"))
        );
        let no_secret = bench
            .command(json!({"name": "c", "command": ["x"], "env": [
                {"name": "A", "valueFrom": {"secretKeyRef": {"name": "none", "key": "k"}}},
            ]}))
            .unwrap_err();
        assert_eq!(no_secret, Obstacle::Config("secret \"none\" not found".to_owned()));
        let escape = bench
            .command(json!({"name": "c", "command": ["x"], "volumeMounts": [
                {"name": "v", "mountPath": "/data", "subPath": "../other"},
            ]}))
            .unwrap_err();
        assert!(matches!(escape, Obstacle::Config(message) if message.contains("inside the volume")));
    }
}

//! `cluster`: serves the local cluster by itself.

use std::io::Write as _;
use std::path::Path;

use paperclip_cluster::{LocalCluster, Options};
use paperclip_diagnostic::Diagnostic;
use tokio::signal::unix::{SignalKind, signal};

use crate::args::ClusterArgs;
use crate::exit::{CommandError, Exit, failed, usage};

pub(crate) async fn cluster(args: ClusterArgs) -> Result<Exit, CommandError> {
    if !args.listen.ip().is_loopback() {
        eprintln!(
            "warning: other machines reach {}: whoever has the token of its kubeconfig runs any program on this machine",
            args.listen
        );
    }
    let options = Options {
        listen: args.listen,
        persist: args.state.is_some(),
        state_dir: args.state,
        ..Options::default()
    };
    let local = LocalCluster::start(options).await.map_err(|error| {
        usage(
            Diagnostic::new("local_cluster_failed", format!("{error:#}"))
                .with_hint("name a free address with --listen, or another folder with --state"),
        )
    })?;
    println!("local cluster at {}", local.url());
    match &args.kubeconfig_out {
        Some(path) => {
            write_private(path, &local.kubeconfig())?;
            println!("kubectl --kubeconfig {} get jobs", path.display());
        }
        None => println!("write a kubeconfig with --kubeconfig-out FILE to use it with kubectl"),
    }
    println!("containers are processes of this machine; Ctrl-C ends the cluster");
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
    local.shutdown().await;
    Ok(Exit::Succeeded)
}

/// Writes a file that only its owner may read: it holds a token.
fn write_private(path: &Path, text: &str) -> Result<(), CommandError> {
    use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
    std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| {
            // A file that exists keeps its mode otherwise.
            file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
            file.write_all(text.as_bytes())
        })
        .map_err(|error| {
            failed(
                Diagnostic::new("kubeconfig_unwritable", format!("kubeconfig {}: {error}", path.display()))
                    .with_hint("name a file that this user may write"),
            )
        })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_kubeconfig_is_for_its_user_also_if_the_file_exists() {
        let path = std::env::temp_dir().join(format!("paperclip-kubeconfig-{}", std::process::id()));
        std::fs::write(&path, "longer than what is written").expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("set");
        write_private(&path, "text").expect("written");
        let mode = path.metadata().expect("a file").permissions().mode() & 0o777;
        let text = std::fs::read_to_string(&path).expect("text");
        std::fs::remove_file(&path).expect("removed");
        assert_eq!((mode, text.as_str()), (0o600, "text"));
    }
}

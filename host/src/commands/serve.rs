//! `serve`: the daemon.

use std::collections::BTreeMap;
use std::sync::Arc;

use paperclip_diagnostic::Diagnostic;
use paperclip_guest::{Catalogue, CatalogueOptions};
use paperclip_shell::{Cluster, PaperclipApi};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::access;
use crate::args::{AccessArgs, ServeArgs};
use crate::config::Config;
use crate::documents;
use crate::exit::{Exit, diagnostic_of, usage};
use crate::plugins;
use crate::serve::{Authority, Door, router, serve as serve_http, watch_plugins};
use crate::state;
use crate::supervisor::{Supervisor, Surroundings};
use crate::traces::Traces;

/// Instances beside those of runs: tools, trials of new plugins.
const SPARE_INSTANCES: u32 = 32;

pub(crate) async fn serve(args: ServeArgs) -> anyhow::Result<Exit> {
    let config = Config::load(&args)?;
    let authority = Authority::read(config.token_file.as_deref())?;
    if args.check_config {
        println!("good: listens on {}", config.listen);
        return Ok(Exit::Succeeded);
    }
    if args.print_config {
        print!("{}", config.print()?);
        return Ok(Exit::Succeeded);
    }
    crate::start_logging(config.log.level.into(), config.log.format);
    raise_file_limit();

    let state = state::folder(config.state.clone()).ok_or_else(|| {
        usage(
            Diagnostic::new("no_state_folder", "no folder for the state: there is no home folder")
                .with_hint("name one with state (--state)"),
        )
    })?;
    state::make_folder(&state)?;
    let catalogue = Arc::new(open_catalogue(&config)?);
    let access = AccessArgs {
        cluster: config.cluster.kind,
        kubeconfig: config.cluster.kubeconfig.clone(),
        context_name: config.cluster.context.clone(),
    };
    let volumes = state.join("local-cluster");
    let connected = access::connect(&access, Some(&volumes)).await?;
    let own_pod = match &config.self_pod {
        Some(path) => Some(documents::read_self_pod(path)?),
        None => access::own_pod(&connected.cluster, &config.own_files()).await?,
    };
    let api_url = config.paperclip_api_url.clone().or_else(|| documents::own_api_url(own_pod.as_ref()?));
    let paperclip = api_url.map(|url| PaperclipApi::new(&url)).transpose().map_err(usage)?;
    let host_id = state::host_id(Some(&state));
    let endpoint = config.traces.endpoint.as_deref();
    let traces = endpoint.map(|endpoint| Traces::to(endpoint, host_id.clone())).transpose().map_err(usage)?;
    let door = Door::open(&config.listen).await?;
    let supervisor = Supervisor::new(Surroundings {
        host_id,
        clusters: named_clusters(&config).await?,
        cluster: connected.cluster,
        place: connected.place,
        catalogue,
        own_pod,
        paperclip,
        traces: traces.clone(),
        state,
        config,
    });
    tracing::info!(address = door.address(), place = supervisor.around().place, "serves");
    supervisor.resume();
    supervisor.adopt();
    run(&supervisor, authority, &door).await?;
    if let Some(traces) = traces {
        traces.flush().await;
    }
    if let Some(local) = connected.local {
        local.shutdown().await;
    }
    Ok(Exit::Succeeded)
}

/// Serves until a signal comes, then lets go of all runs.
async fn run(supervisor: &Supervisor, authority: Authority, door: &Door) -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let sweeper = supervisor.clone();
    let sweeping = tokio::spawn(async move { sweeper.sweep().await });
    let watching = supervisor.around().config.plugins.clone().map(|folder| {
        let supervisor = supervisor.clone();
        tokio::spawn(async move { watch_plugins(supervisor, &folder).await })
    });
    let (close, closing) = watch::channel(false);
    let router = router(supervisor.clone(), authority, closing);
    let stopped = async {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        // New runs are refused from here on; the last events of the others still reach who follows them.
        let left = supervisor.stop().await;
        if left > 0 {
            tracing::warn!(
                left,
                "runs were not let go in time: they are free when their leases have expired"
            );
        }
        close.send_replace(true);
    };
    serve_http(door, router, stopped).await;
    sweeping.abort();
    if let Some(watching) = watching {
        watching.abort();
    }
    Ok(())
}

fn open_catalogue(config: &Config) -> anyhow::Result<Catalogue> {
    let runtime = plugins::runtime_for(config.limits.runs.saturating_add(SPARE_INSTANCES))?;
    let options = CatalogueOptions {
        builtins: plugins::BUILTIN,
        folder: config.plugins.clone(),
        max_traps: config.limits.plugin_traps as usize,
    };
    let catalogue = Catalogue::open(runtime, options).map_err(usage)?;
    for rejected in catalogue.show().rejected {
        tracing::warn!(
            adapter = rejected.adapter_type,
            error = rejected.error,
            hint = rejected.hint,
            "plugin is rejected"
        );
    }
    Ok(catalogue)
}

async fn named_clusters(config: &Config) -> anyhow::Result<BTreeMap<String, Cluster>> {
    let mut clusters = BTreeMap::new();
    for (name, named) in &config.clusters {
        let connected = access::open(&named.access(), None).await;
        let connected =
            connected.map_err(|error| usage(diagnostic_of(&error).on(format_args!("clusters.{name}"))))?;
        clusters.insert(name.clone(), connected.cluster);
    }
    Ok(clusters)
}

/// A run needs some files: journal, lock, log stream, followers. The soft limit is often 1,024.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::warn!(%error, soft = limit.current, "the limit of open files stays as it is");
    }
}

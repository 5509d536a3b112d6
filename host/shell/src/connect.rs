//! Access to a cluster: one client per process.
//!
//! Calls share one HTTP/2 connection where the server offers it. Requests that stay open, watches and logs, have HTTP/1.1
//! connections of their own: a server allows 100 streams on an HTTP/2 connection, so that a hundred followed logs would block every
//! call; and a slow reader stops its own socket instead of a shared window.

use std::path::PathBuf;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use http::HeaderValue;
use http::header::USER_AGENT;
use http::uri::Scheme;
use hyper_util::client::legacy::connect::Connect;
use kube::client::{Body, ConfigExt};
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use paperclip_contract::types::ApiError;
use tower::{BoxError, Service, ServiceBuilder};

use crate::calls::init::InitConfigMaps;
use crate::credential_plugin;
use crate::exchange;
use crate::hosts::Hosts;
use crate::read_ahead::ReadAheadConnector;
use crate::requests::RequestCounts;
use crate::tls;
use crate::token_file::TokenFile;
use crate::transport;
use crate::watches::Watches;

/// How to reach a cluster. Proxies are not used, neither a kubeconfig's, which is refused, nor the environment's.
#[derive(Clone, PartialEq, Eq)]
pub enum Access {
    /// A kubeconfig file. Without a path: the files of `$KUBECONFIG`, else `~/.kube/config`. Without a context: its current one.
    Kubeconfig { path: Option<PathBuf>, context: Option<String> },
    /// The service account of the Pod that this process runs in.
    InCluster,
    /// The text of a kubeconfig, such as that of a cluster in this process.
    Inline { kubeconfig: String },
}

/// Shows only the source: a kubeconfig's text has credentials.
impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Access").field(&place(self)).finish()
    }
}

/// Why a cluster cannot be used. The message names the file, context or server.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("kubeconfig {place}: {cause}")]
    Kubeconfig { place: String, cause: String, hint: &'static str },
    #[error("no service account of a Pod: {0}")]
    InCluster(String),
    #[error("{place}: {server} cannot be used: {cause}")]
    Client { place: String, server: String, cause: String },
    #[error("{server} ({place}) does not answer: {cause}")]
    Unreachable { place: String, server: String, cause: String },
}

/// A cluster that this process uses. Cheap to clone; all clones share connections, watches and counters.
#[derive(Clone)]
pub struct Cluster {
    calls: Client,
    streams: Client,
    watches: Watches,
    hosts: Hosts,
    init_config_maps: InitConfigMaps,
    requests: Arc<RequestCounts>,
    server: Arc<str>,
    place: Arc<str>,
    default_namespace: Arc<str>,
    /// This process runs in a Pod of the cluster.
    runs_in_pod: bool,
}

impl Cluster {
    /// Reads the access and prepares the client. Opens no connection yet: see [`Cluster::version`].
    ///
    /// # Errors
    /// The kubeconfig or the service account cannot be read or used.
    pub async fn connect(access: &Access) -> Result<Cluster, ConnectError> {
        let place = place(access);
        let mut config = config(access, &place).await?;
        let server = config.cluster_url.to_string();
        let requests = Arc::new(RequestCounts::default());
        let failed = |error: &kube::Error| ConnectError::Client {
            place: place.clone(),
            server: server.clone(),
            cause: transport::explain(error),
        };
        let clients = match credential_plugin::prepare(&mut config.auth_info) {
            None => clients(&config, &requests),
            Some(program) => {
                let (config, requests) = (config.clone(), Arc::clone(&requests));
                credential_plugin::in_time(&program, move || clients(&config, &requests)).await.map_err(
                    |cause| ConnectError::Client { place: place.clone(), server: server.clone(), cause },
                )?
            }
        };
        let (calls, streams) = clients.map_err(|error| failed(&error))?;
        Ok(Cluster {
            watches: Watches::new(streams.clone()),
            hosts: Hosts::default(),
            init_config_maps: InitConfigMaps::default(),
            calls,
            streams,
            requests,
            server: server.trim_end_matches('/').into(),
            place: place.into(),
            default_namespace: config.default_namespace.as_str().into(),
            runs_in_pod: *access == Access::InCluster,
        })
    }

    /// Returns a cluster behind an existing client. Its requests are not counted.
    pub fn from_client(client: Client) -> Cluster {
        Cluster {
            watches: Watches::new(client.clone()),
            hosts: Hosts::default(),
            init_config_maps: InitConfigMaps::default(),
            streams: client.clone(),
            requests: Arc::default(),
            server: "the given client's server".into(),
            place: "given client".into(),
            default_namespace: client.default_namespace().into(),
            runs_in_pod: false,
            calls: client,
        }
    }

    /// Returns the server's version, such as `v1.37.2`: the cheapest proof that the server answers and that its certificate is valid.
    ///
    /// # Errors
    /// The server does not answer, or not with a version.
    pub async fn version(&self) -> Result<String, ConnectError> {
        let unreachable = |cause: String| ConnectError::Unreachable {
            place: self.place.to_string(),
            server: self.server.to_string(),
            cause,
        };
        let request = http::Request::get("/version").body(Vec::new());
        let request = request.map_err(|error| unreachable(error.to_string()))?;
        let answer = exchange::exchange(&self.calls, request, ASK_DEADLINE).await;
        let answer = answer.map_err(|ApiError { message, .. }| unreachable(message))?;
        let info: k8s_openapi::apimachinery::pkg::version::Info =
            answer.json().map_err(|ApiError { message, .. }| unreachable(message))?;
        Ok(info.git_version)
    }

    /// Sends a request outside any run, and reads its response as JSON.
    ///
    /// # Errors
    /// Any status but 2xx, or no response within 10 s.
    pub async fn ask(&self, request: http::Request<Vec<u8>>) -> Result<serde_json::Value, ApiError> {
        exchange::exchange(&self.calls, request, ASK_DEADLINE).await?.json()
    }

    /// Returns the client for calls that are answered at once.
    pub fn client(&self) -> &Client {
        &self.calls
    }

    /// Returns the namespace of the kubeconfig's context or of this process's Pod, otherwise `default`.
    pub fn default_namespace(&self) -> &str {
        &self.default_namespace
    }

    /// Returns whether this process runs in a Pod of the cluster.
    pub fn runs_in_pod(&self) -> bool {
        self.runs_in_pod
    }

    /// Returns the server's URL.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// Returns the source of the access, for messages: file and context, or `service account`.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Returns the watches that all runs share.
    pub fn watches(&self) -> &Watches {
        &self.watches
    }

    /// Returns this process's part in the ownership of runs.
    pub fn hosts(&self) -> &Hosts {
        &self.hosts
    }

    /// Returns in which namespaces this process has seen the ConfigMap with the init program.
    pub(crate) fn init_config_maps(&self) -> &InitConfigMaps {
        &self.init_config_maps
    }

    /// Returns the counters of sent requests.
    pub fn requests(&self) -> &RequestCounts {
        &self.requests
    }

    /// Returns the client for responses that stay open.
    pub(crate) fn streams(&self) -> &Client {
        &self.streams
    }
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster")
            .field("server", &self.server)
            .field("place", &self.place)
            .field("default_namespace", &self.default_namespace)
            .finish_non_exhaustive()
    }
}

/// How long the server may take to answer a request outside any run.
const ASK_DEADLINE: Duration = Duration::from_secs(10);
/// The user agent, as the API server's audit log records it.
const AGENT: &str = concat!("paperclip-host/", env!("CARGO_PKG_VERSION"));

fn place(access: &Access) -> String {
    match access {
        Access::Kubeconfig { path, context } => {
            let file = match path {
                Some(path) => path.display().to_string(),
                None => "$KUBECONFIG or ~/.kube/config".to_owned(),
            };
            match context {
                Some(context) => format!("{file}, context {context}"),
                None => file,
            }
        }
        Access::InCluster => "service account".to_owned(),
        Access::Inline { .. } => "given kubeconfig".to_owned(),
    }
}

async fn config(access: &Access, place: &str) -> Result<Config, ConnectError> {
    let failed = |error: KubeconfigError| ConnectError::Kubeconfig {
        place: place.to_owned(),
        hint: hint(&error),
        cause: transport::explain(&error),
    };
    let (kubeconfig, context) = match access {
        Access::InCluster => {
            return Config::incluster().map_err(|error| ConnectError::InCluster(transport::explain(&error)));
        }
        Access::Kubeconfig { path: Some(path), context } => (Kubeconfig::read_from(path), context.clone()),
        Access::Kubeconfig { path: None, context } => (Kubeconfig::read(), context.clone()),
        Access::Inline { kubeconfig } => (Kubeconfig::from_yaml(kubeconfig), None),
    };
    let kubeconfig = kubeconfig.map_err(failed)?;
    if let Some(cluster) = kubeconfig.clusters.iter().find(|named| has_proxy(named)) {
        return Err(ConnectError::Kubeconfig {
            place: place.to_owned(),
            cause: format!("cluster {} has a proxy-url", cluster.name),
            hint: "proxies are not supported: give the server an address that can be reached directly",
        });
    }
    let options = KubeConfigOptions { context, ..KubeConfigOptions::default() };
    Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(failed)
}

fn has_proxy(named: &kube::config::NamedCluster) -> bool {
    let proxy = named.cluster.as_ref().and_then(|cluster| cluster.proxy_url.as_deref());
    proxy.is_some_and(|proxy| !proxy.is_empty())
}

fn hint(error: &KubeconfigError) -> &'static str {
    match error {
        KubeconfigError::CurrentContextNotSet => "set current-context or name a context",
        KubeconfigError::LoadContext(_) => "name a context that it has: kubectl config get-contexts",
        KubeconfigError::LoadClusterOfContext(_) => "give the context a cluster that it has",
        KubeconfigError::FindPath | KubeconfigError::ReadConfig(..) => "name a file that can be read",
        KubeconfigError::MissingClusterUrl | KubeconfigError::ParseClusterUrl(_) => {
            "give the cluster a server, such as https://host:6443"
        }
        KubeconfigError::LoadCertificateAuthority(_) | KubeconfigError::ParseCertificates(_) => {
            "fix the cluster's certificate-authority"
        }
        KubeconfigError::LoadClientCertificate(_) | KubeconfigError::LoadClientKey(_) => {
            "fix the user's client-certificate and client-key"
        }
        KubeconfigError::KindMismatch
        | KubeconfigError::ApiVersionMismatch
        | KubeconfigError::Parse(_)
        | KubeconfigError::ParseProxyUrl(_) => "fix the file: kubectl config view shows what is read",
    }
}

/// Returns the two clients: for calls, and for requests that stay open.
fn clients(config: &Config, requests: &Arc<RequestCounts>) -> Result<(Client, Client), kube::Error> {
    if config.cluster_url.scheme() == Some(&Scheme::HTTP) {
        let client = client(config, transport::tcp(), requests)?;
        return Ok((client.clone(), client));
    }
    // kube's own connector knows HTTP/1.1 only; a fixed server name is set there alone.
    if config.tls_server_name.is_some() {
        let connector = config.rustls_https_connector_with_connector(transport::tcp())?;
        let client = client(config, connector, requests)?;
        return Ok((client.clone(), client));
    }
    let tls = tls::client_config(config)?;
    let https = |tls| hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
    let streams = https(tls.clone()).enable_http1().wrap_connector(ReadAheadConnector(transport::tcp()));
    let calls = https(tls).enable_all_versions().wrap_connector(transport::tcp());
    Ok((client(config, calls, requests)?, client(config, streams, requests)?))
}

/// kube's stack without its retries, which would repeat a create for minutes behind the engine's back.
fn client<C>(config: &Config, connector: C, requests: &Arc<RequestCounts>) -> Result<Client, kube::Error>
where
    C: Connect + Clone + Send + Sync + 'static,
{
    let requests = Arc::clone(requests);
    let mut config = config.clone();
    // A token in the kubeconfig itself precedes that of a file.
    let token_file = config.auth_info.token_file.take_if(|_| config.auth_info.token.is_none());
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .option_layer(token_file.map(|path| TokenFile::new(path.into())))
        .layer(config.extra_headers_layer()?)
        .map_request(|mut request: http::Request<Body>| {
            request.headers_mut().insert(USER_AGENT, HeaderValue::from_static(AGENT));
            request
        })
        .layer_fn(|service| Counted { service, requests: Arc::clone(&requests) })
        .map_err(BoxError::from)
        .service(transport::http().build::<_, Body>(connector));
    Ok(Client::new(service, config.default_namespace.clone()))
}

/// Counts requests by their answers.
#[derive(Clone)]
struct Counted<S> {
    service: S,
    requests: Arc<RequestCounts>,
}

impl<S, A> Service<http::Request<Body>> for Counted<S>
where
    S: Service<http::Request<Body>, Response = http::Response<A>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let asked = RequestCounts::asked(&request);
        let requests = Arc::clone(&self.requests);
        let answer = self.service.call(request);
        Box::pin(async move {
            let answer = answer.await;
            requests.count(asked, answer.as_ref().ok().map(http::Response::status));
            answer
        })
    }
}

//! Addresses, certificates, tokens and the state folder.

use http_body_util::{BodyExt as _, Empty};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::rt::TokioExecutor;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use paperclip_cluster::{LocalCluster, Options};

use crate::world::{CONFIG_MAPS, client_of, config_map, world};

#[tokio::test]
async fn a_kubeconfig_leads_to_the_cluster_over_tls() {
    let world = world().await;
    let yaml = world.cluster.kubeconfig();
    let parsed = Kubeconfig::from_yaml(&yaml).unwrap();
    assert!(
        parsed.clusters[0]
            .cluster
            .as_ref()
            .unwrap()
            .server
            .as_ref()
            .unwrap()
            .starts_with("https://127.0.0.1:")
    );
    let config = Config::from_custom_kubeconfig(parsed, &KubeConfigOptions::default()).await.unwrap();
    assert_eq!(config.default_namespace, "default");
    let client = Client::try_from(config).unwrap();
    assert_eq!(client.apiserver_version().await.unwrap().minor, "37");
    world.cluster.shutdown().await;
}

#[tokio::test]
async fn http2_is_spoken_without_an_upgrade() {
    let cluster = LocalCluster::start(Options { anonymous: true, ..Options::default() }).await.unwrap();
    let client: HttpClient<_, Empty<bytes::Bytes>> =
        HttpClient::builder(TokioExecutor::new()).http2_only(true).build_http();
    let response = client.get(format!("{}/api/v1/pods", cluster.url()).parse().unwrap()).await.unwrap();
    assert_eq!((response.version(), response.status().as_u16()), (http::Version::HTTP_2, 200));
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert!(body.starts_with(b"{"));
    drop(client);
    cluster.shutdown().await;
}

#[tokio::test]
async fn port_in_use_is_reported_with_a_hint() {
    let world = world().await;
    let address = world.cluster.url().trim_start_matches("http://").parse().unwrap();
    let second = LocalCluster::start(Options { listen: address, ..Options::default() }).await.unwrap_err();
    let line = format!("{second:#}");
    assert!(line.starts_with(&format!("{address} is in use")) && line.contains("port 0"), "{line}");
    world.cluster.shutdown().await;
}

#[tokio::test]
async fn a_persistent_cluster_comes_back_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let options =
        || Options { state_dir: Some(folder.path().join("state")), persist: true, ..Options::default() };
    let first = LocalCluster::start(options()).await.unwrap();
    let token = first.token().to_owned();
    let maps: Api<ConfigMap> = Api::default_namespaced(client_of(&first));
    let kept = maps
        .create(&kube::api::PostParams::default(), &serde_json::from_value(config_map("kept")).unwrap())
        .await
        .unwrap();
    let refused = LocalCluster::start(options()).await.unwrap_err();
    assert!(format!("{refused:#}").contains("is in use by another cluster"));
    first.shutdown().await;

    let second = LocalCluster::start(options()).await.unwrap();
    assert_eq!(second.token(), token);
    let maps: Api<ConfigMap> = Api::default_namespaced(client_of(&second));
    assert_eq!(maps.get("kept").await.unwrap(), kept);
    // A watch from before the restart has to list again.
    let old = kept.metadata.resource_version.unwrap();
    let path = format!("{CONFIG_MAPS}?watch=true&resourceVersion={old}");
    let request = http::Request::get(path).body(Vec::new()).unwrap();
    let text = client_of(&second).request_text(request).await.unwrap();
    assert!(text.contains("\"code\":410"), "{text}");
    second.shutdown().await;
}

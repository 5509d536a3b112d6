//! Access to a cluster, and what is said when there is none.

use paperclip_diagnostic::Diagnose as _;
use paperclip_engine::api::ApiCall;
use paperclip_engine::intake::Secrets;
use paperclip_shell::requests::RequestCount;
use paperclip_shell::{Access, Cluster, calls};
use serde_json::json;

use crate::server::{Server, json, kubeconfig, not_found};

async fn refused(kubeconfig: &str) -> String {
    let access = Access::Inline { kubeconfig: kubeconfig.to_owned() };
    Cluster::connect(&access).await.expect_err("refused").diagnostic().to_string()
}

#[tokio::test]
async fn reads_the_version_of_a_cluster_and_counts_requests() {
    let server = Server::new(|seen| match seen.path.as_str() {
        "/version" => json(200, &json!({
            "major": "1", "minor": "37", "gitVersion": "v1.37.2", "gitCommit": "", "gitTreeState": "", "buildDate": "",
            "goVersion": "", "compiler": "", "platform": "",
        })),
        _ => not_found(),
    })
    .listen()
    .await;
    let cluster = server.cluster().await;
    assert_eq!((cluster.server(), cluster.default_namespace()), (server.url.as_str(), "n"));
    assert_eq!(cluster.version().await.unwrap(), "v1.37.2");
    let get = ApiCall::GetJob { namespace: "n".into(), name: "j".into() };
    calls::call(&cluster, &Secrets::default(), get).await.unwrap();
    let seen = server.server.seen();
    assert_eq!(seen[0].headers["authorization"], "Bearer cluster-token");
    assert_eq!(
        cluster.requests().read(),
        [
            RequestCount { verb: "get", resource: "jobs", code: "4xx", count: 1 },
            RequestCount { verb: "get", resource: "other", code: "2xx", count: 1 },
        ]
    );
}

#[tokio::test]
async fn names_an_unreachable_server() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{free}");
    let cluster = Cluster::connect(&Access::Inline { kubeconfig: kubeconfig(&url) }).await.unwrap();
    let error = cluster.version().await.unwrap_err().diagnostic().to_string();
    assert!(error.contains(&url) && error.contains("refused") && error.contains("check that"), "{error}");
    let get = ApiCall::GetJob { namespace: "n".into(), name: "j".into() };
    let error = calls::call(&cluster, &Secrets::default(), get).await.unwrap_err();
    assert_eq!(error.status, None);
    assert!(error.message.starts_with(&format!("{url}: ")) && error.message.contains("refused"), "{error:?}");
}

#[tokio::test]
async fn names_an_unusable_kubeconfig_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("absent.yaml");
    let access = Access::Kubeconfig { path: Some(path.clone()), context: None };
    let error = Cluster::connect(&access).await.expect_err("absent").diagnostic().to_string();
    assert!(error.contains(&path.display().to_string()) && error.contains("name a file"), "{error}");

    std::fs::write(&path, kubeconfig("http://h:1")).unwrap();
    let access = Access::Kubeconfig { path: Some(path.clone()), context: Some("other".into()) };
    let error = Cluster::connect(&access).await.expect_err("no such context").diagnostic().to_string();
    assert!(error.contains("context other") && error.contains("get-contexts"), "{error}");

    let error = refused("clusters: [").await;
    assert!(error.contains("fix the file"), "{error}");
    let error = refused(&kubeconfig("not a url")).await;
    assert!(error.contains("give the cluster a server"), "{error}");
    let proxied = kubeconfig("https://h:1").replace(r#""server":"#, r#""proxy-url":"http://p:1","server":"#);
    let error = refused(&proxied).await;
    assert!(error.contains("cluster k has a proxy-url"), "{error}");
}

#[test]
fn an_access_shows_no_credential() {
    let access = Access::Inline { kubeconfig: kubeconfig("http://h:1") };
    assert!(!format!("{access:?}").contains("cluster-token"));
}

/// A kubeconfig whose user is this JSON.
fn kubeconfig_of(url: &str, user: &serde_json::Value) -> String {
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "k", "cluster": {"server": url}}],
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u", "namespace": "n"}}],
        "users": [{"name": "u", "user": user}],
    })
    .to_string()
}

#[tokio::test]
async fn a_token_file_is_read_again_after_a_401() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "old\n").unwrap();
    let server = Server::new(|seen| match seen.headers["authorization"].to_str().unwrap() {
        "Bearer new" => not_found(),
        _ => json(401, &json!({"kind": "Status", "status": "Failure", "reason": "Unauthorized", "message": "Unauthorized"})),
    })
    .listen()
    .await;
    let kubeconfig = kubeconfig_of(&server.url, &json!({"tokenFile": file}));
    let cluster = Cluster::connect(&Access::Inline { kubeconfig }).await.unwrap();
    let secrets = Secrets::default();
    let get = || calls::call(&cluster, &secrets, ApiCall::GetJob { namespace: "n".into(), name: "j".into() });
    assert_eq!(get().await.unwrap_err().status, Some(401));
    assert_eq!(get().await.unwrap_err().status, Some(401), "the file has still the old one");
    std::fs::write(&file, "new\n").unwrap();
    assert!(get().await.is_ok());
    std::fs::remove_file(&file).unwrap();
    assert!(get().await.is_ok(), "a file that was removed is not needed");
    let sent: Vec<_> =
        server.server.seen().iter().map(|seen| seen.headers["authorization"].clone()).collect();
    assert_eq!(sent, ["Bearer old", "Bearer old", "Bearer new", "Bearer new"]);
}

#[tokio::test]
async fn what_a_failing_credential_plugin_writes_is_not_shown() {
    for script in ["echo s3cr3t-of-the-plugin >&2; exit 3", "echo 'token: [s3cr3t-of-the-plugin'"] {
        let exec = json!({
            "apiVersion": "client.authentication.k8s.io/v1", "interactiveMode": "Never", "command": "sh",
            "args": ["-c", script], "env": [{"name": "K", "value": "s3cr3t-of-the-plugin"}],
        });
        let error = refused(&kubeconfig_of("http://127.0.0.1:9", &json!({"exec": exec}))).await;
        assert!(error.contains("credential plugin") && !error.contains("s3cr3t"), "{error}");
    }
}

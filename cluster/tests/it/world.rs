//! A cluster to test, and requests to it.

use http::{Method, Request, header};
use kube::client::Body;
use kube::{Client, Config};
use paperclip_cluster::{LocalCluster, Options};
use serde_json::{Value, json};

/// A running cluster and a client that knows its token.
pub(crate) struct World {
    pub(crate) cluster: LocalCluster,
    pub(crate) client: Client,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).expect("a JSON body")
    }
}

pub(crate) async fn world() -> World {
    world_with(Options::default()).await
}

pub(crate) async fn world_with(options: Options) -> World {
    let cluster = LocalCluster::start(options).await.unwrap();
    let client = client_of(&cluster);
    World { cluster, client }
}

pub(crate) fn client_of(cluster: &LocalCluster) -> Client {
    let mut config = Config::new(cluster.url().parse().unwrap());
    config.auth_info.token = Some(cluster.token().to_owned().into());
    // Refusals are to be seen as they are.
    config.default_retry = false;
    Client::try_from(config).unwrap()
}

impl World {
    pub(crate) async fn send(&self, request: Request<Vec<u8>>) -> Answer {
        let response = self.client.send(request.map(Body::from)).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect_bytes().await.unwrap();
        Answer {
            code: parts.status.as_u16(),
            headers: parts.headers,
            text: String::from_utf8(bytes.to_vec()).unwrap(),
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Request::get(path).body(Vec::new()).unwrap()).await
    }

    pub(crate) async fn get_as(&self, path: &str, accept: &str) -> Answer {
        self.send(Request::get(path).header(header::ACCEPT, accept).body(Vec::new()).unwrap()).await
    }

    pub(crate) async fn write(&self, method: Method, path: &str, body: &Value) -> Answer {
        self.write_as(method, path, "application/json", body.to_string().into_bytes()).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.write(Method::POST, path, body).await
    }

    pub(crate) async fn write_as(
        &self,
        method: Method,
        path: &str,
        media_type: &str,
        body: Vec<u8>,
    ) -> Answer {
        let request = Request::builder().method(method).uri(path).header(header::CONTENT_TYPE, media_type);
        self.send(request.body(body).unwrap()).await
    }
}

pub(crate) const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
pub(crate) const JOBS: &str = "/apis/batch/v1/namespaces/default/jobs";

pub(crate) fn config_map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "1"}})
}

/// A Job whose container runs a shell script.
pub(crate) fn job(name: &str, script: &str) -> Value {
    json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {
            "backoffLimit": 0,
            "template": {"spec": {
                "restartPolicy": "Never",
                "containers": [{"name": "main", "image": "none", "command": ["/bin/sh", "-c", script]}],
            }},
        },
    })
}

/// A Job that makes no Pod.
pub(crate) fn suspended_job(name: &str) -> Value {
    let mut job = job(name, "true");
    job["spec"]["suspend"] = json!(true);
    job
}

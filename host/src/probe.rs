//! The questions of an environment check, put to the cluster. What the answers mean is the plugin's to say.

use futures::future::join_all;
use paperclip_shell::Cluster;
use serde_json::{Map, Value, json};

/// A question as the plugin planned it: `{"id","kind",…}`.
pub(crate) type Probe = Map<String, Value>;

/// What the cluster said.
enum Said {
    Yes(Option<Value>),
    No,
    /// It could not be found out.
    Nothing(String),
}

/// All answers, in the order of the questions: each is its question with `ok`, and `error` or `object`.
pub(crate) async fn answer_all(cluster: &Cluster, probes: Vec<Probe>) -> Vec<Value> {
    join_all(probes.into_iter().map(|probe| async {
        let said = ask(cluster, &probe).await;
        answered(probe, said)
    }))
    .await
}

fn answered(mut probe: Probe, said: Said) -> Value {
    let (ok, error, object) = match said {
        Said::Yes(object) => (true, None, object),
        Said::No => (false, None, None),
        Said::Nothing(error) => (false, Some(error), None),
    };
    probe.insert("ok".to_owned(), ok.into());
    probe.insert("error".to_owned(), error.into());
    probe.insert("object".to_owned(), object.into());
    Value::Object(probe)
}

async fn ask(cluster: &Cluster, probe: &Probe) -> Said {
    let text = |key: &str| probe.get(key).and_then(Value::as_str).unwrap_or_default();
    let namespace = text("namespace");
    match text("kind") {
        "api" => get(cluster, "/version").await,
        "namespace" => get(cluster, &format!("/api/v1/namespaces/{namespace}")).await,
        "secret" => {
            let path = format!("/api/v1/namespaces/{namespace}/secrets/{}", text("name"));
            // That it is there is all that is asked: its values stay here.
            match get(cluster, &path).await {
                Said::Yes(_) => Said::Yes(None),
                other => other,
            }
        }
        "pvc" if probe.get("name").is_none_or(Value::is_null) => Said::No,
        "pvc" => {
            get(cluster, &format!("/api/v1/namespaces/{namespace}/persistentvolumeclaims/{}", text("name")))
                .await
        }
        "access" => {
            let attributes = json!({
                "namespace": namespace, "group": text("group"), "resource": text("resource"),
                "subresource": text("subresource"), "verb": text("verb"),
            });
            may(cluster, &attributes).await
        }
        unknown => Said::Nothing(format!("this host cannot ask for {unknown:?}")),
    }
}

async fn get(cluster: &Cluster, path: &str) -> Said {
    let request = http::Request::get(path).body(Vec::new());
    match send(cluster, request).await {
        Ok(object) => Said::Yes(Some(object)),
        Err(Failure::NotFound) => Said::No,
        Err(Failure::Other(error)) => Said::Nothing(error),
    }
}

/// SelfSubjectAccessReview: whether this host's own account may.
async fn may(cluster: &Cluster, attributes: &Value) -> Said {
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    });
    let request = http::Request::post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews")
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(review.to_string().into_bytes());
    match send(cluster, request).await {
        Ok(review) if review["status"]["allowed"] == true => Said::Yes(None),
        Ok(_) => Said::No,
        Err(Failure::NotFound) => Said::Nothing("the server has no SelfSubjectAccessReview".to_owned()),
        Err(Failure::Other(error)) => Said::Nothing(error),
    }
}

enum Failure {
    NotFound,
    Other(String),
}

async fn send(cluster: &Cluster, request: http::Result<http::Request<Vec<u8>>>) -> Result<Value, Failure> {
    let request = request.map_err(|error| Failure::Other(error.to_string()))?;
    cluster.ask(request).await.map_err(|error| match error.status {
        Some(404) => Failure::NotFound,
        _ => Failure::Other(error.message),
    })
}

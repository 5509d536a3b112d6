//! The documents of the API, as they cross the wire.

use http::Request;
use insta::assert_json_snapshot;
use serde_json::{Value, json};

use crate::world::{CONFIG_MAPS, JOBS, config_map, suspended_job, world};

const AGGREGATED: &str =
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

#[tokio::test]
async fn discovery_by_group() {
    let world = world().await;
    for (name, path) in [
        ("api", "/api"),
        ("apis", "/apis"),
        ("core", "/api/v1"),
        ("batch", "/apis/batch/v1"),
        ("batch_group", "/apis/batch"),
        ("authorization", "/apis/authorization.k8s.io/v1"),
    ] {
        let answer = world.get(path).await;
        assert_eq!(answer.code, 200, "{path}");
        insta::with_settings!({sort_maps => true}, { assert_json_snapshot!(name, answer.json()) });
    }
    assert_eq!(world.get("/version").await.json()["minor"], "37");
    assert_eq!(world.get("/apis/apps/v1").await.code, 404);
    world.cluster.shutdown().await;
}

#[tokio::test]
async fn discovery_is_not_aggregated() {
    let world = world().await;
    for (path, kind) in [("/api", "APIVersions"), ("/apis", "APIGroupList")] {
        let answer = world.get_as(path, AGGREGATED).await;
        assert_eq!(answer.headers["content-type"], "application/json");
        assert_eq!(answer.json()["kind"], kind);
    }
    world.cluster.shutdown().await;
}

#[tokio::test]
async fn openapi_has_what_kubectl_looks_for() {
    let world = world().await;
    let index = world.get("/openapi/v3").await.json();
    for (path, entry) in index["paths"].as_object().unwrap() {
        let document = world.get(entry["serverRelativeURL"].as_str().unwrap()).await.json();
        assert!(document["components"]["schemas"].as_object().is_some_and(|s| !s.is_empty()), "{path}");
    }
    let batch = world.get("/openapi/v3/apis/batch/v1").await.json();
    let patch = &batch["paths"]["/apis/batch/v1/namespaces/{namespace}/jobs/{name}"]["patch"];
    assert_eq!(
        patch["x-kubernetes-group-version-kind"],
        json!({"group": "batch", "version": "v1", "kind": "Job"})
    );
    let parameters: Vec<&Value> =
        patch["parameters"].as_array().unwrap().iter().map(|p| &p["name"]).collect();
    assert!(parameters.contains(&&json!("fieldValidation")));
    let containers = &batch["components"]["schemas"]["PodSpec"]["properties"]["containers"];
    assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
    assert_eq!(world.get("/openapi/v2").await.code, 404);
    world.cluster.shutdown().await;
}

#[tokio::test]
async fn tables_have_the_columns_of_kubectl() {
    let world = world().await;
    assert_eq!(world.post(CONFIG_MAPS, &config_map("c")).await.code, 201);
    assert_eq!(world.post(JOBS, &suspended_job("j")).await.code, 201);
    let mut tables = Vec::new();
    for path in [
        "/api/v1/namespaces",
        "/api/v1/pods",
        "/api/v1/secrets",
        CONFIG_MAPS,
        "/api/v1/events",
        "/api/v1/persistentvolumeclaims",
        "/api/v1/serviceaccounts",
        "/api/v1/nodes",
        "/apis/batch/v1/namespaces/default/jobs/j",
        "/apis/coordination.k8s.io/v1/leases",
    ] {
        let table = world.get_as(path, TABLE).await.json();
        assert_eq!(table["kind"], "Table", "{path}");
        let columns = table["columnDefinitions"].as_array().unwrap().iter();
        let columns: Vec<String> =
            columns.map(|c| format!("{}/{}", c["name"].as_str().unwrap(), c["priority"])).collect();
        tables.push(format!("{path}\n    {}", columns.join(", ")));
    }
    insta::assert_snapshot!("table_columns", tables.join("\n"));
    let row = &world.get_as(CONFIG_MAPS, TABLE).await.json()["rows"][0];
    assert_eq!((&row["cells"][0], &row["cells"][1]), (&json!("c"), &json!(1)));
    assert_eq!(row["object"]["kind"], "PartialObjectMetadata");
    let bare = world.get_as(&format!("{CONFIG_MAPS}?includeObject=None"), TABLE).await.json();
    assert!(bare["rows"][0].get("object").is_none());
    world.cluster.shutdown().await;
}

#[tokio::test]
async fn metadata_alone() {
    let world = world().await;
    world.post(CONFIG_MAPS, &config_map("c")).await;
    let accept = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
    let list = world.get_as(CONFIG_MAPS, accept).await.json();
    assert_eq!(list["kind"], "PartialObjectMetadataList");
    assert_eq!(list["items"][0]["metadata"]["name"], "c");
    assert!(list["items"][0].get("data").is_none());
    world.cluster.shutdown().await;
}

#[tokio::test]
async fn a_permission_review_in_json_and_in_protobuf() {
    let world = world().await;
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let question = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {"verb": "create", "resource": "jobs", "group": "batch"}},
    });
    let answer = world.post(path, &question).await;
    assert_eq!((answer.code, &answer.json()["status"]["allowed"]), (201, &json!(true)));
    assert_eq!(answer.json()["spec"], question["spec"]);
    let protobuf = protobuf_review();
    let answer =
        world.write_as(http::Method::POST, path, "application/vnd.kubernetes.protobuf", protobuf).await;
    assert_eq!((answer.code, &answer.json()["status"]["allowed"]), (201, &json!(true)), "{}", answer.text);
    assert_eq!(answer.json()["spec"]["resourceAttributes"]["verb"], "create");
    let neither = json!({"spec": {}});
    assert_eq!(world.post(path, &neither).await.code, 422);
    world.cluster.shutdown().await;
}

/// `kubectl auth can-i create jobs`, as client-go writes it.
fn protobuf_review() -> Vec<u8> {
    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, u8::try_from(bytes.len()).unwrap()], bytes].concat()
    }
    let attributes =
        [field(1, b"default"), field(2, b"create"), field(3, b"batch"), field(5, b"jobs")].concat();
    let review = [field(1, b""), field(2, &field(1, &attributes)), field(3, &[8, 0])].concat();
    let kind = [field(1, b"authorization.k8s.io/v1"), field(2, b"SelfSubjectAccessReview")].concat();
    [b"k8s\0".to_vec(), field(1, &kind), field(2, &review)].concat()
}

#[tokio::test]
async fn health_and_the_token() {
    let world = world().await;
    let anonymous = |path: &str| {
        let request = Request::get(path).header("authorization", "Bearer wrong");
        request.body(Vec::new()).unwrap()
    };
    for path in ["/livez", "/readyz", "/healthz"] {
        assert_eq!(world.get(path).await.text, "ok");
    }
    let mut config = kube::Config::new(world.cluster.url().parse().unwrap());
    config.default_retry = false;
    let stranger = kube::Client::try_from(config).unwrap();
    let health = stranger.send(anonymous("/livez").map(kube::client::Body::from)).await.unwrap();
    assert_eq!(health.status(), 200);
    let refused = stranger.send(anonymous("/api/v1/pods").map(kube::client::Body::from)).await.unwrap();
    assert_eq!(refused.status(), 401);
    assert!(refused.headers().contains_key("www-authenticate"));
    let status: Value = serde_json::from_slice(&refused.into_body().collect_bytes().await.unwrap()).unwrap();
    assert_eq!(status["reason"], "Unauthorized");
    world.cluster.shutdown().await;
}

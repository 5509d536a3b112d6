//! Lists and watches, through `kube` and on the wire.

use futures::{AsyncBufReadExt as _, StreamExt as _, TryStreamExt as _};
use http::Request;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::watcher::{self, Event};
use paperclip_cluster::Options;
use serde_json::{Value, json};

use crate::world::{CONFIG_MAPS, World, config_map, world, world_with};

/// The events of a raw watch, one document each; the stream ends when the server ends it.
async fn watch(world: &World, query: &str) -> impl futures::Stream<Item = Value> + Unpin + use<> {
    let request = Request::get(format!("{CONFIG_MAPS}?watch=true&{query}")).body(Vec::new()).unwrap();
    let lines = world.client.request_stream(request).await.unwrap().lines();
    lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap()).boxed()
}

fn kind_and_name(event: &Value) -> String {
    format!(
        "{} {}",
        event["type"].as_str().unwrap(),
        event["object"]["metadata"]["name"].as_str().unwrap_or("-")
    )
}

async fn make(world: &World, name: &str) {
    assert_eq!(world.post(CONFIG_MAPS, &config_map(name)).await.code, 201);
}

async fn patch(world: &World, name: &str, body: Value) {
    let maps: Api<ConfigMap> = Api::default_namespaced(world.client.clone());
    maps.patch(name, &PatchParams::default(), &Patch::Merge(body)).await.unwrap();
}

#[tokio::test]
async fn kubes_watcher_sees_every_change() {
    for config in [watcher::Config::default(), watcher::Config::default().streaming_lists()] {
        let world = world().await;
        make(&world, "before").await;
        let maps: Api<ConfigMap> = Api::default_namespaced(world.client.clone());
        let mut events = watcher::watcher(maps.clone(), config).boxed();
        assert!(matches!(events.try_next().await.unwrap(), Some(Event::Init)));
        assert!(matches!(events.try_next().await.unwrap(), Some(Event::InitApply(_))));
        assert!(matches!(events.try_next().await.unwrap(), Some(Event::InitDone)));
        make(&world, "after").await;
        let Some(Event::Apply(added)) = events.try_next().await.unwrap() else { panic!("an added object") };
        assert_eq!(added.metadata.name.as_deref(), Some("after"));
        maps.delete("before", &DeleteParams::default()).await.unwrap();
        let Some(Event::Delete(deleted)) = events.try_next().await.unwrap() else {
            panic!("a deleted object")
        };
        assert_eq!(deleted.metadata.name.as_deref(), Some("before"));
        drop(events);
        world.cluster.shutdown().await;
    }
}

#[tokio::test]
async fn watch_starts_with_existing_objects_or_after_a_version() {
    let world = world().await;
    make(&world, "a").await;
    let version =
        world.get(CONFIG_MAPS).await.json()["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    make(&world, "b").await;
    for (query, expected) in [
        ("", vec!["ADDED a", "ADDED b"]),
        ("resourceVersion=0", vec!["ADDED a", "ADDED b"]),
        (&format!("resourceVersion={version}"), vec!["ADDED b"]),
        ("fieldSelector=metadata.name%3Da", vec!["ADDED a"]),
    ] {
        let events: Vec<Value> = watch(&world, query).await.take(expected.len()).collect().await;
        assert_eq!(events.iter().map(kind_and_name).collect::<Vec<_>>(), expected, "{query}");
    }
    world.cluster.shutdown().await;
}

#[tokio::test]
async fn what_leaves_the_selection_is_deleted_and_what_enters_it_is_added() {
    let world = world().await;
    make(&world, "a").await;
    let mut events = watch(&world, "labelSelector=on").await;
    patch(&world, "a", json!({"metadata": {"labels": {"on": "1"}}})).await;
    assert_eq!(kind_and_name(&events.next().await.unwrap()), "ADDED a");
    patch(&world, "a", json!({"data": {"a": "2"}})).await;
    assert_eq!(kind_and_name(&events.next().await.unwrap()), "MODIFIED a");
    patch(&world, "a", json!({"metadata": {"labels": {"on": null}}})).await;
    let left = events.next().await.unwrap();
    assert_eq!(kind_and_name(&left), "DELETED a");
    // The object as it was last seen, with the version at which it left.
    assert_eq!(left["object"]["metadata"]["labels"]["on"], "1");
    let now = world.get(&format!("{CONFIG_MAPS}/a")).await.json();
    assert_eq!(left["object"]["metadata"]["resourceVersion"], now["metadata"]["resourceVersion"]);
    drop(events);
    world.cluster.shutdown().await;
}

#[tokio::test]
async fn a_version_that_is_no_longer_known_expires_inside_the_stream() {
    let world = world_with(Options { watch_window_changes: 3, ..Options::default() }).await;
    make(&world, "a").await;
    let old = world.get(CONFIG_MAPS).await.json()["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let page = world.get(&format!("{CONFIG_MAPS}?limit=1")).await.json();
    assert!(page["metadata"].get("continue").is_none(), "one object fits on one page");
    make(&world, "b").await;
    let page = world.get(&format!("{CONFIG_MAPS}?limit=1")).await.json();
    for n in 0..4 {
        patch(&world, "a", json!({"data": {"n": n.to_string()}})).await;
    }
    let events: Vec<Value> = watch(&world, &format!("resourceVersion={old}")).await.collect().await;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["type"], "ERROR");
    let status = &events[0]["object"];
    assert_eq!((&status["code"], &status["reason"]), (&json!(410), &json!("Expired")));

    let token = page["metadata"]["continue"].as_str().unwrap();
    let expired = world.get(&format!("{CONFIG_MAPS}?limit=1&continue={token}")).await;
    assert_eq!((expired.code, expired.json()["reason"].as_str()), (410, Some("Expired")));
    let onward = expired.json()["metadata"]["continue"].as_str().unwrap().to_owned();
    let rest = world.get(&format!("{CONFIG_MAPS}?limit=1&continue={onward}")).await.json();
    assert_eq!(rest["items"][0]["metadata"]["name"], "b");

    let future: Vec<Value> = watch(&world, "resourceVersion=99999999999999").await.collect().await;
    assert_eq!(future[0]["object"]["code"], 504);
    world.cluster.shutdown().await;
}

#[tokio::test]
async fn kubes_watcher_survives_an_expired_version() {
    let world = world_with(Options { watch_window_changes: 2, ..Options::default() }).await;
    make(&world, "a").await;
    let maps: Api<ConfigMap> = Api::default_namespaced(world.client.clone());
    // A watch that ends at once is started again from a version that has expired meanwhile.
    let config = watcher::Config::default().timeout(1);
    let mut events = watcher::watcher(maps, config).boxed();
    while !matches!(events.try_next().await.unwrap(), Some(Event::InitDone)) {}
    for n in 0..8 {
        patch(&world, "a", json!({"data": {"n": n.to_string()}})).await;
    }
    loop {
        let seen = match events.next().await.unwrap() {
            Ok(Event::Apply(map) | Event::InitApply(map)) => map,
            Ok(_) | Err(watcher::Error::WatchError(_)) => continue,
            Err(other) => panic!("{other}"),
        };
        if seen.data.unwrap_or_default().get("n").is_some_and(|n| n == "7") {
            break;
        }
    }
    drop(events);
    world.cluster.shutdown().await;
}

#[tokio::test]
async fn bookmarks_mark_the_end_of_the_list_and_of_the_watch() {
    let world = world().await;
    make(&world, "a").await;
    let query =
        "allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&timeoutSeconds=1";
    let events: Vec<Value> = watch(&world, query).await.collect().await;
    assert_eq!(events.iter().map(kind_and_name).collect::<Vec<_>>(), ["ADDED a", "BOOKMARK -", "BOOKMARK -"]);
    assert_eq!(events[1]["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    let now = world.cluster.store().revision().to_string();
    assert_eq!(events[2]["object"]["metadata"]["resourceVersion"], *now);
    let refused = world.get(&format!("{CONFIG_MAPS}?watch=true&sendInitialEvents=true")).await;
    assert_eq!(refused.code, 422);
    world.cluster.shutdown().await;
}

#[tokio::test]
async fn a_watch_that_nobody_reads_holds_up_nobody() {
    let world = world_with(Options { watch_window_changes: 16, ..Options::default() }).await;
    let stuck = watch(&world, "").await;
    let maps: Api<ConfigMap> = Api::default_namespaced(world.client.clone());
    let large = "x".repeat(256 * 1024);
    let mut map: ConfigMap = serde_json::from_value(config_map("a")).unwrap();
    map.data = Some([("a".to_owned(), large.clone())].into());
    maps.create(&PostParams::default(), &map).await.unwrap();
    // Far more than the sockets between client and server hold.
    for n in 0..100 {
        patch(&world, "a", json!({"data": {"n": n.to_string()}})).await;
    }
    let events: Vec<Value> = stuck.collect().await;
    assert_eq!(events.last().unwrap()["object"]["code"], 410, "it fell behind");
    world.cluster.shutdown().await;
}

#[tokio::test]
async fn a_watch_as_a_table_names_its_columns_once() {
    let world = world().await;
    make(&world, "a").await;
    make(&world, "b").await;
    let request = Request::get(format!("{CONFIG_MAPS}?watch=true"))
        .header("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
        .body(Vec::new())
        .unwrap();
    let mut lines = world.client.request_stream(request).await.unwrap().lines();
    for has_columns in [true, false] {
        let event: Value = serde_json::from_str(&lines.next().await.unwrap().unwrap()).unwrap();
        assert_eq!(event["object"]["kind"], "Table");
        assert_eq!(!event["object"]["columnDefinitions"].as_array().unwrap().is_empty(), has_columns);
    }
    drop(lines);
    world.cluster.shutdown().await;
}

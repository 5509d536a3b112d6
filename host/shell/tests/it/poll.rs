//! Questions to Paperclip's API.

use paperclip_shell::PaperclipApi;
use paperclip_shell::poll::MAX_BODY_BYTES;

use crate::server::{Server, text};

#[tokio::test]
async fn a_poll_carries_token_and_run_and_the_answer_is_cut() {
    let server = Server::new(|_| text(200, &"x".repeat(3 * MAX_BODY_BYTES))).listen().await;
    let api = PaperclipApi::new(&format!("{}/base/", server.url)).unwrap();
    let (status, body) = api.get("/api/heartbeat-runs/r?x=1", Some("canary-token"), "r").await.unwrap();
    assert_eq!((status, body.len()), (200, MAX_BODY_BYTES));
    let seen = &server.server.seen()[0];
    assert_eq!((seen.path.as_str(), seen.query.as_str()), ("/base/api/heartbeat-runs/r", "x=1"));
    assert_eq!(seen.headers["authorization"], "Bearer canary-token");
    assert_eq!(seen.headers["x-paperclip-run-id"], "r");
}

#[tokio::test]
async fn an_error_status_and_a_redirect_are_answers() {
    let server = Server::new(|_| {
        let mut answer = text(302, "elsewhere");
        answer.headers_mut().insert("location", "http://127.0.0.1:1/".parse().unwrap());
        answer
    })
    .listen()
    .await;
    let api = PaperclipApi::new(&server.url).unwrap();
    assert_eq!(api.get("/api/x", None, "r").await, Ok((302, "elsewhere".to_owned())));
    assert!(!server.server.seen()[0].headers.contains_key("authorization"));
}

#[tokio::test]
async fn a_failure_names_the_url_and_never_the_token() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let api = PaperclipApi::new(&format!("http://{free}")).unwrap();
    let error = api.get("/api/x", Some("canary-token"), "r").await.unwrap_err();
    assert_eq!(error.status, None);
    assert!(error.message.contains(&free.to_string()) && error.message.contains("refused"), "{error:?}");
    let error = api.get("/api/x", Some("canary\n-token"), "r").await.unwrap_err();
    assert!(error.message.contains("authToken") && !format!("{error:?}").contains("canary"), "{error:?}");
}

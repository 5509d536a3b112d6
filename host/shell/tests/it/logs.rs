//! Log streams as they come over a real connection.

use std::time::Duration;

use paperclip_contract::types::ObjectRef;
use paperclip_engine::driver::LogPiece;
use paperclip_engine::log::{LogEnd, LogRequest};
use paperclip_shell::logs::{LogStream, PIECE_BYTES};
use paperclip_shell::{Access, Cluster};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::server::{Server, failure, kubeconfig, open, pieces, text};

const WHOLE: LogRequest = LogRequest { follow: true, since_s: None };

fn pod() -> ObjectRef {
    ObjectRef { namespace: "n".into(), name: "p".into(), uid: "u".into() }
}

fn stream(cluster: &Cluster) -> LogStream {
    LogStream::open(cluster, pod(), "agent".to_owned(), WHOLE)
}

async fn next(stream: &mut LogStream) -> LogPiece {
    std::future::poll_fn(|context| stream.poll_next(context)).await
}

/// All pieces, bytes joined.
async fn read_all(cluster: Cluster) -> (bool, Vec<u8>, LogEnd) {
    let mut stream = stream(&cluster);
    let (mut is_opened, mut all) = (false, Vec::new());
    loop {
        match next(&mut stream).await {
            LogPiece::Opened { .. } => is_opened = true,
            LogPiece::Bytes(bytes) => {
                assert!(is_opened && bytes.len() < 2 * PIECE_BYTES, "{}", bytes.len());
                all.extend(bytes);
            }
            LogPiece::Closed(end) => return (is_opened, all, end),
        }
    }
}

#[tokio::test]
async fn returns_bytes_unchanged_in_small_pieces_to_a_clean_end() {
    let printed: Vec<u8> = (0..300_000_u32).map(|at| u8::try_from(at % 251).unwrap()).collect();
    let sent = printed.clone();
    let server = Server::new(move |_| pieces(vec![Ok(sent.clone())])).listen().await;
    assert_eq!(read_all(server.cluster().await).await, (true, printed, LogEnd::Clean));
    let seen = &server.server.seen()[0];
    assert_eq!(seen.path, "/api/v1/namespaces/n/pods/p/log");
    for pair in ["container=agent", "follow=true", "timestamps=true"] {
        assert!(seen.asks(pair), "{seen:?}");
    }
}

#[tokio::test]
async fn a_body_that_is_cut_is_not_a_clean_end() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let serving = tokio::spawn(async move {
        let (mut connection, _) = listener.accept().await.unwrap();
        let mut request = [0; 4096];
        assert!(connection.read(&mut request).await.unwrap() > 0);
        let half = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n";
        connection.write_all(half).await.unwrap();
    });
    let access = Access::Inline { kubeconfig: kubeconfig(&url) };
    let (is_opened, bytes, end) = read_all(Cluster::connect(&access).await.unwrap()).await;
    serving.await.unwrap();
    assert!(is_opened && bytes == b"half", "{bytes:?}");
    assert!(matches!(end, LogEnd::Broken(_)), "{end:?}");
}

#[tokio::test]
async fn rule_10_a_log_that_does_not_exist_yet_is_refused() {
    let server =
        Server::new(|_| failure(400, "BadRequest", "container \"agent\" is waiting to start")).listen().await;
    let (is_opened, _, end) = read_all(server.cluster().await).await;
    let message = "container \"agent\" is waiting to start".to_owned();
    assert_eq!((is_opened, end), (false, LogEnd::Refused { status: 400, message }));

    let server = Server::new(|_| text(204, "")).listen().await;
    let (is_opened, _, end) = read_all(server.cluster().await).await;
    assert_eq!((is_opened, end), (false, LogEnd::Refused { status: 204, message: "204 No Content".into() }));
}

#[tokio::test]
async fn an_unreachable_server_is_a_broken_stream() {
    let server = Server::new(|_| text(200, "")).listen().await;
    let cluster = server.cluster().await;
    drop(server);
    assert!(matches!(next(&mut stream(&cluster)).await, LogPiece::Closed(LogEnd::Broken(_))));
}

#[tokio::test]
async fn a_dropped_reader_closes_its_connection_and_a_slow_one_stops_it() {
    // Counts the blocks that were read, and sends the count when the server drops the body.
    struct Counter(Option<mpsc::UnboundedSender<usize>>, usize);
    impl Drop for Counter {
        fn drop(&mut self) {
            let _ = self.0.take().unwrap().send(self.1);
        }
    }
    const BLOCK: usize = 64 << 10;
    const BLOCKS: usize = 4_096;
    let (sender, mut dropped) = mpsc::unbounded_channel();
    let server = Server::new(move |_| {
        let counter = Counter(Some(sender.clone()), 0);
        let blocks = futures::stream::unfold(counter, |mut counter| async move {
            counter.1 += 1;
            (counter.1 < BLOCKS).then(|| (Ok::<_, std::io::Error>(vec![b'x'; BLOCK]), counter))
        });
        http::Response::new(axum::body::Body::from_stream(blocks))
    })
    .listen()
    .await;
    let mut stream = stream(&server.cluster().await);
    assert_eq!(next(&mut stream).await, LogPiece::Opened { keeps_unread: false });
    assert!(matches!(next(&mut stream).await, LogPiece::Bytes(_)));
    // A quarter of a GiB would have been sent by the time the server notices, if nothing had held it back.
    assert!(timeout(Duration::from_millis(200), dropped.recv()).await.is_err());
    drop(stream);
    let taken =
        timeout(Duration::from_secs(10), dropped.recv()).await.expect("the connection is closed").unwrap();
    assert!(taken < BLOCKS, "{taken} blocks");
}

#[tokio::test]
async fn an_open_stream_returns_available_bytes() {
    let server = Server::new(|_| open("2026-01-02T03:04:05Z hello\n")).listen().await;
    let mut stream = stream(&server.cluster().await);
    assert_eq!(next(&mut stream).await, LogPiece::Opened { keeps_unread: false });
    assert_eq!(next(&mut stream).await, LogPiece::Bytes(b"2026-01-02T03:04:05Z hello\n".to_vec()));
}

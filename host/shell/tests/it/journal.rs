//! The journal on disk.

use std::path::Path;

use paperclip_shell::journal::{JOURNAL_FILE, Journal, JournalError};

fn read(folder: &Path) -> String {
    std::fs::read_to_string(folder.join(JOURNAL_FILE)).unwrap()
}

#[tokio::test]
async fn each_line_stands_behind_its_checksum_and_the_folder_is_private() {
    let state = tempfile::tempdir().unwrap();
    let mut journal = Journal::required(&state.path().join("new"), "run-1").unwrap();
    journal.append("{\"record\":\"start\"}\n").await.unwrap();
    journal.append("{\"record\":\"end\"}\n").await.unwrap();
    let folder = state.path().join("new/run-1");
    assert_eq!(journal.path(), Some(folder.join(JOURNAL_FILE).as_path()));
    assert_eq!(read(&folder), "");
    journal.sync().await.unwrap();
    let text = read(&folder);
    for line in text.lines() {
        let (crc, json) = line.split_once(' ').unwrap();
        assert_eq!(crc, format!("{:08x}", crc32fast::hash(json.as_bytes())));
    }
    assert_eq!(text.lines().count(), 2);
    assert!(text.ends_with(" {\"record\":\"end\"}\n"), "{text}");
    // The checksum is the one that zip and PNG use.
    assert_eq!(format!("{:08x}", crc32fast::hash(b"123456789")), "cbf43926");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&folder.join(JOURNAL_FILE))), (0o700, 0o600));
    }
}

#[tokio::test]
async fn a_run_that_is_driven_already_is_refused_until_it_is_let_go() {
    let state = tempfile::tempdir().unwrap();
    let held = Journal::required(state.path(), "run-1").unwrap();
    for again in [Journal::required(state.path(), "run-1"), Journal::best_effort(state.path(), "run-1")] {
        let error = again.expect_err("locked");
        assert!(matches!(error, JournalError::Locked { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains("run-1") && text.contains(&std::process::id().to_string()), "{text}");
        assert!(text.contains("wait until it has ended"), "{text}");
    }
    Journal::required(state.path(), "run-2").expect("another run");
    drop(held);
    Journal::required(state.path(), "run-1").expect("let go");
}

#[tokio::test]
async fn a_torn_line_is_cut_off_and_whole_ones_stay() {
    let state = tempfile::tempdir().unwrap();
    let mut journal = Journal::required(state.path(), "r").unwrap();
    journal.append("{\"n\":1}\n").await.unwrap();
    journal.flush().await.unwrap();
    drop(journal);
    let path = state.path().join("r").join(JOURNAL_FILE);
    let whole = std::fs::read_to_string(&path).unwrap();
    let torn = format!("{whole}0000abcd {{\"torn\":\"{}", "x".repeat(200_000));
    std::fs::write(&path, torn).unwrap();
    let mut journal = Journal::required(state.path(), "r").unwrap();
    journal.append("{\"n\":2}\n").await.unwrap();
    journal.sync().await.unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.starts_with(&whole) && text.lines().count() == 2, "{text:.200}");
    assert!(text.ends_with(" {\"n\":2}\n"), "{text:.200}");
}

#[tokio::test]
async fn without_a_place_a_required_journal_is_an_error_and_another_is_none() {
    let state = tempfile::NamedTempFile::new().unwrap();
    let error = Journal::required(state.path(), "r").expect_err("a file is no folder").to_string();
    assert!(error.contains("--state") && error.contains(&state.path().display().to_string()), "{error}");
    let mut journal = Journal::best_effort(state.path(), "r").unwrap();
    assert_eq!(journal.path(), None);
    journal.append("{}\n").await.unwrap();
    journal.sync().await.unwrap();
}

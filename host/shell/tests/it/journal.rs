//! The journal on disk.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use paperclip_diagnostic::Diagnose as _;
use paperclip_engine::journal::Entry;
use paperclip_engine::record::Level;
use paperclip_shell::Journal;
use paperclip_shell::journal::{
    Header, History, JournalError, Retention, RunFolder, keep_plugin, kept_plugin, prune, run_folder,
};

fn note(text: &str) -> String {
    Entry::Note { level: Level::Info, text: text.into() }.to_line()
}

fn header(run_id: &str, digest: &str) -> Header {
    Header {
        format: 1,
        run_id: run_id.into(),
        adapter_type: "a".into(),
        plugin_version: "1".into(),
        plugin_digest: digest.into(),
        contract: "0.1.0".into(),
        masked_env: None,
        pushes_cancel: false,
        unmasked_env: Vec::new(),
        generation: None,
        adopted: None,
    }
}

fn open(state: &Path, run_id: &str) -> Journal {
    Journal::new(RunFolder::open(state, run_id).unwrap(), true)
}

fn segment(state: &Path, run_id: &str, number: u64) -> PathBuf {
    run_folder(state, run_id).join(format!("journal-{number:06}.ndjson"))
}

/// What the journal of a run says, in short.
fn read(history: &History) -> Vec<String> {
    let entries = history.entries().map(|entry| match entry {
        Ok((depth, Entry::Note { text, .. })) => format!("{depth:?} {text}"),
        Ok((depth, entry)) => format!("{depth:?} {entry:?}"),
        Err(error) => format!("{error}; {}", error.hint().unwrap_or_default()),
    });
    entries.collect()
}

#[tokio::test]
async fn each_line_follows_its_checksum_and_the_folder_is_private() {
    let state = tempfile::tempdir().unwrap();
    let state = state.path().join("new");
    let mut journal = open(&state, "run-1");
    journal.append(&note("one")).await.unwrap();
    journal.append(&note("two")).await.unwrap();
    assert!(!segment(&state, "run-1", 1).exists());
    journal.sync().await.unwrap();
    let text = std::fs::read_to_string(segment(&state, "run-1", 1)).unwrap();
    for line in text.lines() {
        let (crc, json) = line.split_once(' ').unwrap();
        assert_eq!(crc, format!("{:08x}", crc32fast::hash(json.as_bytes())));
    }
    assert_eq!(text.lines().count(), 2);
    // The checksum is the one that zip and PNG use.
    assert_eq!(format!("{:08x}", crc32fast::hash(b"123456789")), "cbf43926");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&run_folder(&state, "run-1")), mode(&segment(&state, "run-1", 1))), (0o700, 0o600));
    }
}

#[tokio::test]
async fn refuses_a_run_that_another_process_holds_until_it_is_released() {
    let state = tempfile::tempdir().unwrap();
    let held = open(state.path(), "run-1");
    let error = RunFolder::open(state.path(), "run-1").expect_err("locked");
    assert!(matches!(error, JournalError::Locked { .. }), "{error}");
    let text = error.diagnostic().to_string();
    assert!(text.contains("run-1") && text.contains(&std::process::id().to_string()), "{text}");
    assert!(text.contains("wait until it has ended"), "{text}");
    RunFolder::open(state.path(), "run-2").expect("another run");
    drop(held);
    RunFolder::open(state.path(), "run-1").expect("unlocked");
}

#[tokio::test]
async fn truncates_a_torn_last_record_and_keeps_whole_ones() {
    let torn = format!("0000abcd {{\"torn\":\"{}", "x".repeat(200_000));
    for tail in [torn.as_str(), "0000abcd {\"its checksum is wrong\":1}\n", "\n", "garbage"] {
        let state = tempfile::tempdir().unwrap();
        let mut journal = open(state.path(), "r");
        journal.append(&note("one")).await.unwrap();
        journal.flush().await.unwrap();
        drop(journal);
        let path = segment(state.path(), "r", 1);
        let whole = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{whole}{tail}")).unwrap();
        // Whoever only reads leaves it alone.
        assert_eq!(read(&History::open(&run_folder(state.path(), "r")).unwrap()), ["Full one"]);
        let mut journal = open(state.path(), "r");
        journal.append(&note("two")).await.unwrap();
        journal.sync().await.unwrap();
        assert_eq!(read(&History::open(&path).unwrap()), ["Full one", "Full two"], "{tail:.40}");
    }
}

#[tokio::test]
async fn a_damaged_record_in_the_middle_refuses_the_journal_by_its_line() {
    let state = tempfile::tempdir().unwrap();
    let mut journal = open(state.path(), "r");
    for text in ["one", "two", "three"] {
        journal.append(&note(text)).await.unwrap();
    }
    journal.sync().await.unwrap();
    let path = segment(state.path(), "r", 1);
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("two", "too")).unwrap();
    let read = read(&History::open(&path).unwrap());
    assert_eq!(read.len(), 2, "{read:?}");
    assert!(read[1].contains("line 2") && read[1].contains("adopts its Job"), "{read:?}");
}

#[tokio::test]
async fn continues_from_the_last_segment_and_replays_records_from_the_first() {
    let state = tempfile::tempdir().unwrap();
    let mut journal = open(state.path(), "r");
    journal.append(&note("one")).await.unwrap();
    journal.start_segment(&note("two")).await.unwrap();
    journal.append(&note("three")).await.unwrap();
    journal.flush().await.unwrap();
    drop(journal);
    let folder = RunFolder::open(state.path(), "r").unwrap();
    assert_eq!(read(&folder.history()), ["Records one", "Full two", "Full three"]);
    drop(folder);
    // A host that died while it started a segment left one without a whole record.
    std::fs::write(segment(state.path(), "r", 3), "0000abcd {").unwrap();
    let folder = RunFolder::open(state.path(), "r").unwrap();
    assert_eq!(read(&folder.history()), ["Records one", "Full two", "Full three"]);
    assert!(!segment(state.path(), "r", 3).exists());
}

#[tokio::test]
async fn a_header_counts_once_the_run_has_started() {
    let state = tempfile::tempdir().unwrap();
    let mut folder = RunFolder::open(state.path(), "r").unwrap();
    folder.write_header(&header("r", "d")).unwrap();
    drop(folder);
    assert_eq!(RunFolder::open(state.path(), "r").unwrap().header(), None);
    let mut journal = open(state.path(), "r");
    journal.append(&note("one")).await.unwrap();
    journal.sync().await.unwrap();
    drop(journal);
    assert_eq!(RunFolder::open(state.path(), "r").unwrap().header(), Some(&header("r", "d")));
}

#[tokio::test]
async fn a_journal_that_is_not_required_ends_with_a_warning() {
    let state = tempfile::tempdir().unwrap();
    for is_required in [true, false] {
        let run_id = format!("r-{is_required}");
        let mut journal = Journal::new(RunFolder::open(state.path(), &run_id).unwrap(), is_required);
        // A folder has the path of the file.
        std::fs::create_dir(segment(state.path(), &run_id, 1)).unwrap();
        journal.append(&note("one")).await.unwrap();
        assert_eq!(journal.sync().await.is_err(), is_required);
        journal.append(&note("two")).await.unwrap();
        journal.sync().await.unwrap();
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    let error =
        RunFolder::open(file.path(), "r").expect_err("a file is not a folder").diagnostic().to_string();
    assert!(error.contains("--state") && error.contains(&file.path().display().to_string()), "{error}");
}

#[tokio::test]
async fn prunes_ended_runs_by_age_and_size_and_keeps_others() {
    let state = tempfile::tempdir().unwrap();
    let state = state.path();
    for (run_id, is_closed) in [("open", false), ("closed", true), ("held", true)] {
        keep_plugin(state, run_id, b"wasm").unwrap();
        let mut folder = RunFolder::open(state, run_id).unwrap();
        folder.write_header(&header(run_id, run_id)).unwrap();
        let mut journal = Journal::new(folder, true);
        journal.append(&note(&"x".repeat(1_000))).await.unwrap();
        if is_closed {
            journal.append(&Entry::Closed.to_line()).await.unwrap();
        }
        journal.sync().await.unwrap();
    }
    let held = RunFolder::open(state, "held").unwrap();
    let week = Retention::default();
    assert_eq!(prune(state, week, SystemTime::now()).unwrap(), 0);
    assert_eq!(prune(state, week, SystemTime::now() + Duration::from_secs(8 * 24 * 3_600)).unwrap(), 1);
    let stays = |run_id| run_folder(state, run_id).exists() && kept_plugin(state, run_id).exists();
    assert_eq!((stays("open"), stays("closed"), stays("held")), (true, false, true));
    drop(held);
    assert_eq!(prune(state, Retention { bytes: 500, ..week }, SystemTime::now()).unwrap(), 1);
    assert!(stays("open") && !stays("held"));
    let mut nothing = Journal::none();
    nothing.sync().await.unwrap();
    assert_eq!(nothing.folder(), None);
    assert!(History::default().entries().next().is_none());
}

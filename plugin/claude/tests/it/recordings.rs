//! What the real CLI printed.

/// A recording: its name, its text, and the exit code the CLI ended with, if it came to an end.
pub(crate) struct Recording {
    pub(crate) name: &'static str,
    pub(crate) text: &'static str,
    pub(crate) exit_code: Option<i32>,
}

macro_rules! recording {
    ($name:literal) => {
        include_str!(concat!("../../../../tests/fixtures/claude-cli-2.1.330/", $name, ".ndjson"))
    };
}

pub(crate) const RECORDINGS: [Recording; 4] = [
    Recording { name: "ok", text: recording!("ok"), exit_code: Some(0) },
    Recording { name: "tool", text: recording!("tool"), exit_code: Some(0) },
    Recording { name: "401", text: recording!("401"), exit_code: Some(1) },
    Recording { name: "killed", text: recording!("killed"), exit_code: None },
];

pub(crate) fn recording(name: &str) -> &'static Recording {
    RECORDINGS.iter().find(|recording| recording.name == name).expect("the recording is one of the four")
}

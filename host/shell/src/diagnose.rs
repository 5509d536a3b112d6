//! What a person can do about the shell's errors.

use std::borrow::Cow;

use paperclip_diagnostic::Diagnose;

use crate::connect::ConnectError;
use crate::driver::DriveError;
use crate::journal::JournalError;
use crate::poll::UrlError;

impl Diagnose for ConnectError {
    fn code(&self) -> &'static str {
        match self {
            ConnectError::Kubeconfig { .. } => "bad_kubeconfig",
            ConnectError::InCluster(_) => "no_service_account",
            ConnectError::Client { .. } => "cluster_unusable",
            ConnectError::Unreachable { .. } => "cluster_unreachable",
        }
    }

    fn hint(&self) -> Option<Cow<'_, str>> {
        let hint = match self {
            ConnectError::Kubeconfig { hint, .. } => hint,
            ConnectError::InCluster(_) => {
                "run inside a cluster with automountServiceAccountToken, or name a kubeconfig"
            }
            ConnectError::Client { .. } => "check the server's address, the CA and the credentials there",
            ConnectError::Unreachable { .. } => "check that the cluster runs and can be reached from here",
        };
        Some(hint.into())
    }
}

impl Diagnose for UrlError {
    fn code(&self) -> &'static str {
        "bad_paperclip_api_url"
    }

    fn hint(&self) -> Option<Cow<'_, str>> {
        let hint = match self {
            UrlError::Bad { .. } => "give a URL such as http://paperclip:3100",
            UrlError::Tls { .. } => "install the system's CA certificates",
        };
        Some(hint.into())
    }
}

impl Diagnose for JournalError {
    fn code(&self) -> &'static str {
        match self {
            JournalError::Locked { .. } => "journal_locked",
            JournalError::Io { .. } => "journal_unavailable",
            JournalError::Damaged { .. } => "journal_damaged",
        }
    }

    fn hint(&self) -> Option<Cow<'_, str>> {
        let hint = match self {
            JournalError::Locked { .. } => "wait until it has ended, or stop it",
            JournalError::Io { .. } => {
                "make the folder writable and its disk not full, or name another with --state"
            }
            JournalError::Damaged { .. } => {
                "move its folder away and start the run again, which then adopts its Job"
            }
        };
        Some(hint.into())
    }
}

impl Diagnose for DriveError {
    fn code(&self) -> &'static str {
        match self {
            DriveError::Journal(error) => error.code(),
            DriveError::Sink(_) => "output_unwritable",
            DriveError::Replay { .. } => "run_not_resumable",
        }
    }

    fn hint(&self) -> Option<Cow<'_, str>> {
        match self {
            DriveError::Journal(error) => error.hint(),
            DriveError::Sink(_) => {
                Some("the run continues in the cluster: start it again to read its output".into())
            }
            DriveError::Replay { folder, .. } => Some(
                format!(
                    "the run continues in the cluster: move {} away and start it again, which adopts its Job",
                    folder.display()
                )
                .into(),
            ),
        }
    }
}

//! The credential plugin of a kubeconfig: a program that prints a token, and may do so slowly, wrongly, or never.

use std::io::IsTerminal as _;
use std::time::Duration;

use kube::client::AuthError;
use kube::config::{AuthInfo, ExecInteractiveMode};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// After how long it is reported that the plugin is waited for.
const PROGRESS: Duration = Duration::from_secs(5);
/// How long the plugin may take after that. A person may have to log in.
const DEADLINE: Duration = Duration::from_secs(55);

/// Returns the plugin's program, and makes the plugin ask nobody where nobody could answer: its messages are then not written into
/// this process's log either.
pub(crate) fn prepare(user: &mut AuthInfo) -> Option<String> {
    let exec = user.exec.as_mut()?;
    let may_ask = exec.interactive_mode != Some(ExecInteractiveMode::Always);
    if may_ask && !std::io::stdin().is_terminal() {
        exec.interactive_mode = Some(ExecInteractiveMode::Never);
    }
    Some(exec.command.clone().unwrap_or_default())
}

/// Executes what runs the plugin, in a thread of its own: the runtime would wait for one of its threads when the process ends.
///
/// # Errors
/// It does not return in time.
pub(crate) async fn in_time<T: Send + 'static>(
    program: &str,
    run: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    let (sender, mut returned) = oneshot::channel();
    let runtime = Handle::current();
    std::thread::spawn(move || {
        let _context = runtime.enter();
        // Nobody waits for it any more if this fails.
        let _ = sender.send(run());
    });
    let outcome = match timeout(PROGRESS, &mut returned).await {
        Ok(outcome) => outcome,
        Err(_elapsed) => {
            tracing::warn!(program, "waiting for the credential plugin of the kubeconfig");
            let seconds = (PROGRESS + DEADLINE).as_secs();
            let late = format!("its credential plugin {program} has not ended within {seconds} s");
            timeout(DEADLINE, returned).await.map_err(|_elapsed| late)?
        }
    };
    outcome.map_err(|_| format!("its credential plugin {program} could not be run"))
}

/// Returns what is said of a plugin that failed. Neither its output nor its arguments are: they may have secrets.
pub(crate) fn failure(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    match error.downcast_ref::<AuthError>()? {
        AuthError::AuthExecRun { out, .. } => Some(format!(
            "its credential plugin failed ({}), and what it wrote is not shown, since it may have secrets: run the command under `exec` yourself",
            out.status
        )),
        AuthError::AuthExecParse(_) => {
            Some("the output of its credential plugin is not an ExecCredential".to_owned())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_plugin_that_hangs_is_named_after_a_minute() {
        let (release, hanging) = std::sync::mpsc::channel::<()>();
        let started = tokio::time::Instant::now();
        let error = in_time("aws", move || hanging.recv().is_ok()).await.expect_err("late");
        assert_eq!(error, "its credential plugin aws has not ended within 60 s");
        assert_eq!(started.elapsed(), PROGRESS + DEADLINE);
        drop(release);
    }

    #[tokio::test]
    async fn what_a_plugin_makes_is_returned() {
        assert_eq!(in_time("aws", || Handle::try_current().is_ok()).await, Ok(true));
        let error = in_time("aws", || -> u8 { panic!("a defect") }).await.expect_err("no result");
        assert_eq!(error, "its credential plugin aws could not be run");
    }
}

//! Bodies: JSON, of a limited size, complete within a deadline, and only so many at a time.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody as _, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::CONTENT_LENGTH;
use axum::http::{HeaderMap, Method};
use axum::middleware::Next;
use axum::response::Response;
use paperclip_engine::intake::{MAX_VALUES, count_values_of_text};
use paperclip_guest::MAX_PLUGIN_BYTES;
use tokio::sync::Semaphore;

use super::App;
use super::answer::too_large;
use super::peer::is_json;
use crate::memory::Reserved;
use crate::refusal::{Kind, Refusal};

/// How long a whole body may take to arrive.
const BODY_DEADLINE: Duration = Duration::from_secs(30);
/// How long a request waits for others to be taken in.
const INTAKE_PATIENCE: Duration = Duration::from_secs(20);
/// A body up to this size never waits: a cancellation is not delayed by others' runs.
const SMALL_BYTES: u64 = 64 << 10;
/// Most values of a body: those of a context's documents, and others beside them.
const MAX_BODY_VALUES: usize = 5 * MAX_VALUES;
/// Bytes of a permit.
const UNIT: u64 = 4 << 10;

/// The memory that the bodies of all requests may take together, while they arrive and while they are handled.
#[derive(Debug, Clone)]
pub(super) struct Intake {
    units: Arc<Semaphore>,
    all: u32,
}

impl Intake {
    pub(super) fn new(bytes: u64) -> Intake {
        let all = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).max(1);
        Intake { units: Arc::new(Semaphore::new(all as usize)), all }
    }

    /// Waits until a body of this size fits beside the others.
    async fn enter(&self, bytes: u64) -> Result<Reserved, Refusal> {
        if bytes <= SMALL_BYTES {
            return Ok(None);
        }
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).min(self.all);
        let entered =
            tokio::time::timeout(INTAKE_PATIENCE, Arc::clone(&self.units).acquire_many_owned(units));
        match entered.await {
            Ok(Ok(permit)) => Ok(Some(Arc::new(permit))),
            Ok(Err(_)) | Err(_) => Err(Refusal::new(
                Kind::MemoryPressure,
                "too many large requests at a time",
                "try again later, send smaller requests, or raise limits.intake_mib",
            )),
        }
    }
}

/// What the body of a request was promised, as an extension of the request.
#[derive(Debug, Clone)]
pub(super) struct Intaken(pub(super) Reserved);

/// Reads the body of a request before it is handled.
pub(super) async fn read(State(app): State<App>, request: Request, next: Next) -> Result<Response, Refusal> {
    if matches!(*request.method(), Method::GET | Method::HEAD) || request.body().is_end_stream() {
        return Ok(next.run(request).await);
    }
    let limit_bytes = u64::from(app.supervisor.host().config.limits.request_mib) << 20;
    let announced_bytes = announced_within(request.headers(), limit_bytes)?;
    if !is_json(request.headers()) {
        return Err(Refusal::new(
            Kind::UnsupportedMediaType,
            "the body is not declared as JSON",
            "send JSON with Content-Type: application/json",
        ));
    }
    Ok(next.run(take_in(&app, request, announced_bytes, limit_bytes).await?).await)
}

/// Reads the body of a request that puts a plugin into this host.
pub(super) async fn read_plugin(
    State(app): State<App>,
    request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    let announced_bytes = announced_within(request.headers(), MAX_PLUGIN_BYTES)?;
    Ok(next.run(take_in(&app, request, announced_bytes, MAX_PLUGIN_BYTES).await?).await)
}

/// Waits until a body of the announced size fits beside the others, and reads it whole.
async fn take_in(
    app: &App,
    request: Request,
    announced_bytes: u64,
    limit_bytes: u64,
) -> Result<Request, Refusal> {
    let reserved = app.intake.enter(announced_bytes).await?;
    let (mut head, body) = request.into_parts();
    let limit = usize::try_from(limit_bytes).unwrap_or(usize::MAX);
    let bytes = match tokio::time::timeout(BODY_DEADLINE, to_bytes(body, limit)).await {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(error)) if is_too_large(&error) => return Err(too_large()),
        Ok(Err(error)) => {
            return Err(Refusal::new(Kind::BadRequest, format!("the body: {error}"), "send the whole body"));
        }
        Err(_) => {
            return Err(Refusal::new(
                Kind::RequestTimeout,
                format!("the body did not arrive within {} seconds", BODY_DEADLINE.as_secs()),
                "send the body at once",
            ));
        }
    };
    head.extensions.insert(Intaken(reserved));
    Ok(Request::from_parts(head, Body::from(bytes)))
}

/// Refuses a body that would become a tree of too many values, before it is one.
pub(super) fn check_values(json: &[u8]) -> Result<(), Refusal> {
    let values = count_values_of_text(json);
    if values <= MAX_BODY_VALUES {
        return Ok(());
    }
    Err(Refusal::new(
        Kind::BadRequest,
        format!("the body consists of {values} values; at most {MAX_BODY_VALUES} are accepted"),
        "send fewer values",
    ))
}

/// The size of a body that its head names, else the largest that is read.
///
/// # Errors
/// It names a larger one.
fn announced_within(headers: &HeaderMap, limit_bytes: u64) -> Result<u64, Refusal> {
    let named = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let bytes = named.unwrap_or(limit_bytes);
    if bytes > limit_bytes { Err(too_large()) } else { Ok(bytes) }
}

fn is_too_large(error: &axum::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.is::<http_body_util::LengthLimitError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn bodies_wait_for_each_other_and_a_body_beyond_all_memory_takes_all_of_it() {
        let intake = Intake::new(1 << 20);
        let first = intake.enter(700 << 10).await.expect("fits");
        let small = intake.enter(100 << 10).await.expect("fits beside it");
        let refused = intake.enter(700 << 10).await.expect_err("does not fit");
        assert_eq!(refused.kind, Kind::MemoryPressure);
        drop((first, small));
        let _all = intake.enter(1 << 40).await.expect("alone");
        assert!(intake.enter(SMALL_BYTES + 1).await.is_err());
        assert!(intake.enter(SMALL_BYTES).await.is_ok(), "a small one does not wait");
    }
}

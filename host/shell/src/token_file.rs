//! The token of a file, such as that of a service account: it is replaced while this process runs.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use http::header::AUTHORIZATION;
use http::{HeaderValue, Request, Response, StatusCode};
use kube::client::Body;
use tower::{BoxError, Layer, Service};

/// How long a token is used before its file is read again.
const FRESH: Duration = Duration::from_secs(60);

/// Adds the token to each request. After a response 401 the next request reads the file again: the API server may have stopped accepting a
/// token before its minute has passed.
#[derive(Debug, Clone)]
pub(crate) struct TokenFile {
    path: PathBuf,
    known: Arc<Mutex<Option<Known>>>,
}

#[derive(Debug, Clone)]
struct Known {
    header: HeaderValue,
    read_at: Instant,
    /// A server refused it.
    is_refused: bool,
}

impl TokenFile {
    pub(crate) fn new(path: PathBuf) -> TokenFile {
        TokenFile { path, known: Arc::default() }
    }

    /// Returns the header. A token whose file can no longer be read is used on: a client may have removed the file on purpose.
    fn header(&self) -> Result<HeaderValue, BoxError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) =
            known.as_ref().filter(|known| !known.is_refused && known.read_at.elapsed() < FRESH)
        {
            return Ok(known.header.clone());
        }
        match (self.read(), known.as_ref()) {
            (Ok(header), _) => {
                *known = Some(Known { header: header.clone(), read_at: Instant::now(), is_refused: false });
                Ok(header)
            }
            (Err(_), Some(known)) => Ok(known.header.clone()),
            (Err(error), None) => Err(error),
        }
    }

    fn read(&self) -> Result<HeaderValue, BoxError> {
        let token = std::fs::read_to_string(&self.path)
            .map_err(|error| format!("the token file {} cannot be read: {error}", self.path.display()))?;
        let mut header = HeaderValue::try_from(format!("Bearer {}", token.trim()))
            .map_err(|_| format!("the token file {} has no token", self.path.display()))?;
        header.set_sensitive(true);
        Ok(header)
    }

    /// Notes that a server refused a token, unless another one was read meanwhile.
    fn refuse(&self, header: &HeaderValue) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.as_mut().filter(|known| known.header == *header) {
            known.is_refused = true;
        }
    }
}

impl<S> Layer<S> for TokenFile {
    type Service = Authorized<S>;

    fn layer(&self, service: S) -> Authorized<S> {
        Authorized { service, token: self.clone() }
    }
}

/// A service whose requests have the token.
#[derive(Debug, Clone)]
pub(crate) struct Authorized<S> {
    service: S,
    token: TokenFile,
}

impl<S, A> Service<Request<Body>> for Authorized<S>
where
    S: Service<Request<Body>, Response = Response<A>, Error = BoxError>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<S::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let header = match self.token.header() {
            Ok(header) => header,
            Err(error) => return Box::pin(async move { Err(error) }),
        };
        request.headers_mut().insert(AUTHORIZATION, header.clone());
        let token = self.token.clone();
        let answer = self.service.call(request);
        Box::pin(async move {
            let answer = answer.await;
            if answer.as_ref().is_ok_and(|answer| answer.status() == StatusCode::UNAUTHORIZED) {
                token.refuse(&header);
            }
            answer
        })
    }
}

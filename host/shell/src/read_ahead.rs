//! Reads more of a busy connection at once than its reader requests: TLS requests 4 KiB at a time, which would be a system call for every
//! four lines of an agent's output.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::Uri;
use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use tower::Service;

/// Most bytes that are read at once from a connection on which much arrives.
const READ_BYTES: usize = 64 << 10;

/// Most bytes that are read at once from a connection on which little arrives.
const DIRECT_BYTES: usize = 4 << 10;

/// Reads ahead on the connections of another connector.
#[derive(Debug, Clone)]
pub(crate) struct ReadAheadConnector<C>(pub(crate) C);

impl<C> Service<Uri> for ReadAheadConnector<C>
where
    C: Service<Uri>,
    C::Future: Send + 'static,
{
    type Response = ReadAhead<C::Response>;
    type Error = C::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        self.0.call(uri).map(|connected| connected.map(ReadAhead::new)).boxed()
    }
}

/// A connection. It has a buffer only while more arrives than its reader requests.
#[derive(Debug)]
pub(crate) struct ReadAhead<T> {
    connection: T,
    /// The last read filled what the reader offered: there is more.
    is_busy: bool,
    buffer: Vec<u8>,
    /// The start of what the reader has not received of the buffer.
    taken: usize,
}

impl<T> ReadAhead<T> {
    fn new(connection: T) -> Self {
        ReadAhead { connection, is_busy: false, buffer: Vec::new(), taken: 0 }
    }
}

impl<T: Read + Unpin> ReadAhead<T> {
    /// Reads as much as the reader requests.
    fn poll_direct(
        &mut self,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let mut bytes = [0; DIRECT_BYTES];
        let offered = buffer.remaining().min(DIRECT_BYTES);
        let mut read = ReadBuf::new(&mut bytes[..offered]);
        ready!(Pin::new(&mut self.connection).poll_read(context, read.unfilled()))?;
        buffer.put_slice(read.filled());
        self.is_busy = read.filled().len() == offered;
        Poll::Ready(Ok(()))
    }

    /// Fills the empty buffer; leaves it empty at the end of the connection.
    fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.taken = 0;
        self.buffer.resize(READ_BYTES, 0);
        let mut read = ReadBuf::new(&mut self.buffer);
        let outcome = Pin::new(&mut self.connection).poll_read(context, read.unfilled());
        let bytes = read.filled().len();
        self.buffer.truncate(bytes);
        if !matches!(outcome, Poll::Ready(Ok(()))) {
            self.buffer = Vec::new();
            self.is_busy = false;
        }
        outcome
    }
}

impl<T: Read + Unpin> Read for ReadAhead<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let offered = buffer.remaining();
        if this.taken == this.buffer.len() {
            if !this.is_busy {
                return this.poll_direct(context, buffer);
            }
            ready!(this.poll_fill(context))?;
        }
        let rest = &this.buffer[this.taken..];
        let bytes = &rest[..rest.len().min(offered)];
        buffer.put_slice(bytes);
        this.taken += bytes.len();
        Poll::Ready(Ok(()))
    }
}

impl<T: Write + Unpin> Write for ReadAhead<T> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().connection).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().connection).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().connection).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.connection.is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().connection).poll_write_vectored(context, parts)
    }
}

impl<T: Connection> Connection for ReadAhead<T> {
    fn connected(&self) -> Connected {
        self.connection.connected()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// Has these reads of a socket, and counts them. An empty one is not ready.
    struct Socket {
        arrived: VecDeque<u8>,
        reads: usize,
    }

    impl Read for Socket {
        fn poll_read(
            self: Pin<&mut Self>,
            _context: &mut Context<'_>,
            mut buffer: ReadBufCursor<'_>,
        ) -> Poll<io::Result<()>> {
            let this = self.get_mut();
            let bytes = this.arrived.len().min(buffer.remaining());
            if bytes == 0 {
                return Poll::Pending;
            }
            this.reads += 1;
            buffer.put_slice(&this.arrived.drain(..bytes).collect::<Vec<u8>>());
            Poll::Ready(Ok(()))
        }
    }

    /// Reads what has arrived in requests of 4 KiB.
    fn read_all(stream: &mut ReadAhead<Socket>) -> Vec<u8> {
        let mut context = Context::from_waker(std::task::Waker::noop());
        let mut all = Vec::new();
        loop {
            let mut bytes = [0; 4 << 10];
            let mut buffer = ReadBuf::new(&mut bytes);
            match Pin::new(&mut *stream).poll_read(&mut context, buffer.unfilled()) {
                Poll::Ready(Ok(())) => all.extend_from_slice(buffer.filled()),
                Poll::Ready(Err(error)) => panic!("{error}"),
                Poll::Pending => return all,
            }
        }
    }

    #[test]
    fn reads_much_at_once_where_much_arrives_and_keeps_no_buffer() {
        let mut stream = ReadAhead::new(Socket { arrived: VecDeque::new(), reads: 0 });
        for (arrives, reads) in [(100, 1), (4 << 10, 2), (100, 3), (1 << 20, 20), (5, 21)] {
            let arriving: Vec<u8> = (0..arrives).map(|at: u32| at.to_le_bytes()[1]).collect();
            stream.connection.arrived.extend(&arriving);
            assert_eq!(read_all(&mut stream), arriving);
            assert_eq!((stream.connection.reads, stream.buffer.capacity()), (reads, 0), "{arrives}");
        }
    }
}

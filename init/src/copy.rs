//! Copies the agent's output line by line, and counts it.

use std::fs::File;
use std::io::{self, PipeReader, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use paperclip_control_lines::{ControlLine, Count, End, MAX_LINES};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ioctl_fionread};

use crate::agent::EndOfAgent;

/// The longest time for which output is not counted by a control line, unless its last line is unterminated.
const MAX_DELAY: Duration = Duration::from_millis(200);
/// How often a file is measured: inotify's instances are limited for each user of a node, and agents share theirs.
const FILE_INTERVAL: Duration = Duration::from_millis(100);
const BUFFER_BYTES: usize = 64 << 10;

/// Where the agent's output is read from.
pub(crate) enum Source {
    Pipe(PipeReader),
    /// A file that grows.
    File(File),
    Nothing,
}

/// Writes the output of an agent that did not start.
pub(crate) fn copy(tag: &str, source: Source, exit_code: impl FnOnce() -> i32) {
    drop(source);
    let mut output = Output::start(tag);
    output.end(exit_code());
}

/// Copies until the agent has ended and what it printed is read. Processes that it left behind may print more: they end with this one.
pub(crate) fn copy_until(tag: &str, source: Source, end: &EndOfAgent, exit_code: impl FnOnce() -> i32) {
    let mut output = Output::start(tag);
    match source {
        Source::Pipe(pipe) => copy_pipe(&mut output, pipe, end),
        Source::File(file) => copy_file(&mut output, file, end),
        Source::Nothing => {}
    }
    output.end(exit_code());
}

fn copy_pipe(output: &mut Output, mut pipe: PipeReader, end: &EndOfAgent) {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut is_open = true;
    loop {
        let (is_readable, has_ended) = {
            let mut fds = [
                PollFd::from_borrowed_fd(end.as_fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::IN),
            ];
            let awaited = if is_open { &mut fds[..] } else { &mut fds[..1] };
            wait_for(awaited, output.due_in());
            (is_open && !fds[1].revents().is_empty(), !fds[0].revents().is_empty())
        };
        if has_ended {
            // Exactly what the pipe contains now: a process that the agent left behind may never stop printing.
            let mut left = ioctl_fionread(&pipe).unwrap_or(0);
            while left > 0 {
                let most = usize::try_from(left).unwrap_or(BUFFER_BYTES).min(BUFFER_BYTES);
                match pipe.read(&mut buffer[..most]) {
                    Ok(0) => break,
                    Ok(bytes) => {
                        output.write(&buffer[..bytes]);
                        left = left.saturating_sub(bytes as u64);
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(_) => break,
                }
            }
            return;
        }
        if is_readable {
            match pipe.read(&mut buffer) {
                Ok(0) => is_open = false,
                Ok(bytes) => output.write(&buffer[..bytes]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => is_open = false,
            }
        }
        output.count_if_due();
    }
}

fn copy_file(output: &mut Output, mut file: File, end: &EndOfAgent) {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut has_ended = false;
    loop {
        while let Ok(bytes) = file.read(&mut buffer)
            && bytes > 0
        {
            output.write(&buffer[..bytes]);
        }
        output.count_if_due();
        if has_ended {
            return;
        }
        let mut fds = [PollFd::from_borrowed_fd(end.as_fd(), PollFlags::IN)];
        wait_for(&mut fds, Some(FILE_INTERVAL));
        // What the agent wrote before its end is read again.
        has_ended = !fds[0].revents().is_empty();
    }
}

fn wait_for(fds: &mut [PollFd<'_>], at_most: Option<Duration>) {
    let timeout = at_most.and_then(|time| Timespec::try_from(time).ok());
    while let Err(Errno::INTR) = poll(fds, timeout.as_ref()) {}
}

/// The output of this program: the agent's, with control lines.
struct Output {
    tag: String,
    count: Count,
    /// The lines at the last control line.
    counted_lines: u64,
    /// When the first output after the last control line was written.
    uncounted_since: Option<Instant>,
    is_at_line_start: bool,
    buffer: Vec<u8>,
}

impl Output {
    /// The first control line shows a reader that there are more.
    fn start(tag: &str) -> Output {
        let mut output = Output {
            tag: tag.to_owned(),
            count: Count::default(),
            counted_lines: 0,
            uncounted_since: None,
            is_at_line_start: true,
            buffer: Vec::with_capacity(2 * BUFFER_BYTES),
        };
        output.add_control_line(None);
        output.flush();
        output
    }

    /// Writes output with a control line after every [`MAX_LINES`] lines.
    fn write(&mut self, bytes: &[u8]) {
        let mut from = 0;
        let mut lines = self.count.lines;
        for at in memchr::memchr_iter(b'\n', bytes) {
            lines += 1;
            if lines - self.counted_lines >= MAX_LINES {
                self.add(&bytes[from..=at]);
                from = at + 1;
                self.add_control_line(None);
            }
        }
        self.add(&bytes[from..]);
        self.flush();
    }

    fn add(&mut self, bytes: &[u8]) {
        let Some(last) = bytes.last() else { return };
        self.buffer.extend_from_slice(bytes);
        self.count.add(bytes);
        self.is_at_line_start = *last == b'\n';
        self.uncounted_since.get_or_insert_with(Instant::now);
    }

    /// Returns in what time a control line is due.
    fn due_in(&self) -> Option<Duration> {
        let since = self.uncounted_since.filter(|_| self.is_at_line_start)?;
        Some(MAX_DELAY.saturating_sub(since.elapsed()))
    }

    fn count_if_due(&mut self) {
        if self.due_in().is_some_and(|time| time.is_zero()) {
            self.add_control_line(None);
            self.flush();
        }
    }

    fn end(&mut self, exit_code: i32) {
        let is_terminated = self.is_at_line_start;
        if !is_terminated {
            self.add(b"\n");
        }
        self.add_control_line(Some(End { exit_code, is_terminated }));
        self.flush();
    }

    fn add_control_line(&mut self, end: Option<End>) {
        let line = ControlLine { count: self.count, end };
        self.buffer.extend_from_slice(line.text(&self.tag).as_bytes());
        self.buffer.push(b'\n');
        self.counted_lines = self.count.lines;
        self.uncounted_since = None;
    }

    /// Nobody reads the output any more if it cannot be written; the agent still works.
    fn flush(&mut self) {
        let mut stdout = io::stdout().lock();
        let _ = stdout.write_all(&self.buffer).and_then(|()| stdout.flush());
        self.buffer.clear();
    }
}

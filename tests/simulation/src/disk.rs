//! The disk under one run's journal: what was appended is lost in a crash until it was synced.

/// One run's journal, as lines. It outlives the processes that write it.
#[derive(Debug, Default, Clone)]
pub(crate) struct Disk {
    lines: Vec<String>,
    /// Lines that survive a crash.
    durable: usize,
    bytes: u64,
    /// A sync failed: what was not durable then is in doubt for ever, whatever a later sync says.
    is_doubtful: bool,
}

impl Disk {
    pub(crate) fn append(&mut self, line: String) {
        self.bytes += line.len() as u64;
        self.lines.push(line);
    }

    pub(crate) fn sync(&mut self) {
        if !self.is_doubtful {
            self.durable = self.lines.len();
        }
    }

    /// The device failed a sync. The kernel drops the dirty pages and reports it once: asking again is no help.
    pub(crate) fn fail_sync(&mut self) {
        self.is_doubtful = true;
    }

    /// Power is lost: of what was not synced, some whole lines survive, and of the next one perhaps a piece.
    pub(crate) fn crash(&mut self, surviving: usize) {
        let kept = (self.durable + surviving).min(self.lines.len());
        self.lines.truncate(kept);
        self.durable = kept;
        self.is_doubtful = false;
    }

    pub(crate) fn unsynced(&self) -> usize {
        self.lines.len() - self.durable
    }

    /// Lines that a crash at this moment leaves for certain.
    pub(crate) fn durable(&self) -> &[String] {
        &self.lines[..self.durable]
    }

    pub(crate) fn lines(&self) -> &[String] {
        &self.lines
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}

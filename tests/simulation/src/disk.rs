//! The disk under one run's journal: what was appended is lost in a crash until it was synced.

/// One run's journal, as lines. It outlives the processes that write it.
#[derive(Debug, Default, Clone)]
pub(crate) struct Disk {
    lines: Vec<String>,
    /// Lines that survive a crash.
    durable: usize,
    bytes: u64,
}

impl Disk {
    pub(crate) fn append(&mut self, line: String) {
        self.bytes += line.len() as u64;
        self.lines.push(line);
    }

    pub(crate) fn sync(&mut self) {
        self.durable = self.lines.len();
    }

    /// Power is lost: of what was not synced, some whole lines survive, and of the next one perhaps a piece.
    pub(crate) fn crash(&mut self, surviving: usize) {
        let kept = (self.durable + surviving).min(self.lines.len());
        self.lines.truncate(kept);
        self.durable = kept;
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

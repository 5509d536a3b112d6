//! The disk under one run's journal: what was appended is lost in a crash until it was synced.

/// One run's journal, as lines. It outlives the processes that write it.
#[derive(Debug, Default, Clone)]
pub(crate) struct Disk {
    lines: Vec<String>,
    /// Lines that survive a crash.
    durable: usize,
    /// First line of the newest segment.
    segment: usize,
    bytes: u64,
    /// A sync failed: what was not durable then is in doubt for ever, whatever a later sync says.
    is_doubtful: bool,
}

impl Disk {
    pub(crate) fn append(&mut self, line: String) {
        self.bytes += line.len() as u64;
        self.lines.push(line);
    }

    /// Begins a segment: what stands before it is not read again once its first line is durable.
    pub(crate) fn begin_segment(&mut self, line: String) {
        self.segment = self.lines.len();
        self.append(line);
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
        self.segment = self.segment.min(kept);
    }

    pub(crate) fn unsynced(&self) -> usize {
        self.lines.len() - self.durable
    }

    /// Lines that a crash at this moment leaves for certain.
    pub(crate) fn durable(&self) -> &[String] {
        &self.lines[..self.durable]
    }

    /// What a new process has to read: the newest segment whose beginning survived.
    pub(crate) fn to_replay(&self) -> &[String] {
        let from = if self.segment < self.lines.len() { self.segment } else { 0 };
        &self.lines[from..]
    }

    pub(crate) fn lines(&self) -> &[String] {
        &self.lines
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}

//! What a run produces: journal entries, records and segments.

use std::borrow::Cow;

use super::Run;
use super::state::{Phase, Segment};
use crate::guest::Guest;
use crate::journal::{Entry, FORMAT, encode_snapshot};
use crate::port::Effect;
use crate::record::{Level, Record, SequencedRecord};
use crate::result;

impl<G: Guest> Run<G> {
    /// Emits a status line of the host, which is also in the journal, so that a replay repeats it.
    pub(super) fn note(&mut self, level: Level, text: String) {
        let text = self.spec.redactor.mask(text);
        let line = Entry::Note { level, text: text.as_str().into() }.to_line();
        self.append(line);
        self.emit(Record::Status { level, text });
    }

    pub(super) fn append(&mut self, line: String) {
        self.segment.bytes += line.len() as u64;
        self.effects.push_back(Effect::Append(line));
    }

    pub(super) fn emit(&mut self, record: Record) {
        let record = self.ledger.sequencer.number(record);
        self.emit_sequenced(record);
    }

    /// Emits a record, with the run's own secrets masked in text of a plugin or a server. Lines are masked where they are read.
    pub(super) fn emit_sequenced(&mut self, sequenced: SequencedRecord) {
        let record = match sequenced.record {
            Record::Status { level, text } => Record::Status { level, text: self.spec.redactor.mask(text) },
            Record::Meta(meta) => Record::Meta(result::mask(meta, &self.spec.redactor)),
            record @ (Record::Log { .. } | Record::Gap { .. } | Record::Result(_)) => record,
        };
        self.effects.push_back(Effect::Emit(SequencedRecord { seq: sequenced.seq, record }));
    }

    pub(super) fn start_segment_if_due(&mut self) {
        let limits = self.spec.segments;
        let is_old = self.now.since(self.segment.since) >= limits.age;
        let is_due = self.segment.bytes >= limits.bytes || (is_old && self.segment.has_steps);
        if self.phase != Phase::Live || !is_due {
            return;
        }
        let guest = match self.guest.snapshot() {
            Ok(guest) => guest,
            Err(fault) => return self.end_with_fault(&fault),
        };
        let entry = Entry::Snapshot {
            format: FORMAT,
            seq: self.step,
            at: self.now,
            guest: encode_snapshot(&guest).into(),
            ledger: Cow::Borrowed(&self.ledger),
            request: Some(Box::new(Cow::Borrowed(&self.spec.request))),
        };
        let line = entry.to_line();
        self.segment = Segment { bytes: line.len() as u64, since: self.now, has_steps: false };
        self.effects.push_back(Effect::Segment(line));
    }
}

//! The operations of a simulated process: what they do to the world, and the faults that strike them.

use std::time::Duration;

use paperclip_engine::driver::{Operation, queued_bytes};
use paperclip_engine::record::{Record, SequencedRecord, Stream};
use paperclip_engine::time::millis;

use super::sources::Failed;
use super::{Blocked, Process, World, WorldEvent};
use crate::coverage_points::CoveragePoint;
use crate::fault::Fault;
use crate::mutant::Mutant;

impl World {
    /// Carries an operation out, or what a defect makes of it, and reports its completion.
    pub(super) fn perform(&mut self, process: usize, operation: Operation) {
        let has_completion = operation.has_completion();
        for operation in self.processes[process].saboteur.on_operation(operation) {
            let outcome = self.execute(process, operation);
            let this = &mut self.processes[process];
            if !this.is_alive {
                return;
            }
            if outcome.is_err() {
                this.blocked = None;
                return this.complete(outcome);
            }
        }
        let this = &mut self.processes[process];
        if has_completion && this.blocked.is_none() {
            this.complete(Ok(()));
        }
    }

    fn execute(&mut self, process: usize, operation: Operation) -> Result<(), Failed> {
        let run = self.processes[process].run;
        match operation {
            Operation::Append(line) => return self.append(process, line),
            Operation::Flush => self.runs[run].disk.flush(),
            Operation::Sync => return self.sync(process),
            Operation::StartSegment(line) => {
                self.sync(process)?;
                if self.processes[process].is_alive {
                    return self.append(process, line);
                }
            }
            Operation::CloseSink { within } => self.close_sink(process, within),
            Operation::Call { call, request } => {
                if self.mutant == Some(Mutant::AnswerLost) && self.is_first_event_after_replay(process) {
                    return Ok(());
                }
                if self.strikes(Fault::HostCrashEffect, run) {
                    self.crash(process);
                } else {
                    self.send(process, call, request);
                }
            }
            Operation::Join { namespace: _, guard } => self.join(process, guard),
            Operation::Follow(job) => self.follow(process, job),
            Operation::OpenLog { log, pod, container: _, request } => {
                self.ask_for_log(process, log, &pod, request);
            }
            Operation::CloseLog(log) => {
                let this = &mut self.processes[process];
                this.streams.retain(|stream| stream.log != log);
                this.sources.close_log(log);
            }
            Operation::Poll { poll, path: _ } => self.send_poll(process, poll),
            Operation::Show(records) => records.into_iter().for_each(|record| self.show(process, record)),
            Operation::AcknowledgeCancels => self.acknowledge_cancels(process),
            // The world's watches have no namespaces, a refused run's disk is not read again, and nobody observes the run.
            Operation::WatchNamespace(_)
            | Operation::DiscardJournal
            | Operation::ReportCaughtUp { .. }
            | Operation::ReportLag { .. } => {}
        }
        Ok(())
    }

    /// Whether the driver has taken one event since its history was replayed.
    fn is_first_event_after_replay(&self, process: usize) -> bool {
        let Process { run, events_taken, .. } = self.processes[process];
        events_taken == 1 && self.runs[run].next_host > 1
    }

    fn append(&mut self, process: usize, line: String) -> Result<(), Failed> {
        let run = self.processes[process].run;
        if self.strikes(Fault::HostCrashAppend, run) {
            self.crash(process);
            return Ok(());
        }
        if self.strikes(Fault::DiskFull, run) {
            return Err(Failed::Journal);
        }
        crate::invariants::no_secret(self, "the journal", &line);
        self.runs[run].disk.append(line);
        Ok(())
    }

    fn sync(&mut self, process: usize) -> Result<(), Failed> {
        let run = self.processes[process].run;
        if self.strikes(Fault::HostCrashSync, run) {
            self.crash(process);
            return Ok(());
        }
        if self.strikes(Fault::SyncFails, run) {
            self.lose_unsynced(run);
            if self.mutant != Some(Mutant::SyncRetried) {
                return Err(Failed::Journal);
            }
        }
        self.runs[run].disk.sync();
        if self.strikes(Fault::DiskSlow, run) {
            self.processes[process].blocked = Some(Blocked::ByDisk);
            let delay_ms = self.entropy.skewed(5, 5_000);
            self.after(delay_ms, WorldEvent::Unblock { process });
        }
        Ok(())
    }

    /// The senders of cancels learn that the run will end.
    pub(super) fn acknowledge_cancels(&mut self, process: usize) {
        let run = self.processes[process].run;
        crate::invariants::acknowledged_cancel_is_durable(self, run);
        self.runs[run].is_cancel_acknowledged = true;
    }

    // ------------------------------------------------------------------ the sink

    fn show(&mut self, process: usize, record: SequencedRecord) {
        let run = self.processes[process].run;
        let bytes = queued_bytes(&record.record);
        crate::invariants::shown_record_survives_the_process(self, run);
        self.check_record(process, record.record);
        if !self.processes[process].is_sink_stalled && self.strikes(Fault::SinkSlow, run) {
            self.processes[process].is_sink_stalled = true;
            let delay_ms = self.entropy.skewed(100, 60_000);
            self.after(delay_ms, WorldEvent::SinkResumes { process });
        }
        let this = &mut self.processes[process];
        if this.is_sink_stalled {
            this.untaken_bytes += bytes;
        }
        if !this.is_sink_stalled || self.mutant == Some(Mutant::CapacityIgnored) {
            this.sources.sink_progress_bytes += bytes;
        }
    }

    /// The sink takes everything that has waited for it.
    pub(in crate::world) fn resume_sink(&mut self, process: usize) {
        let this = &mut self.processes[process];
        this.is_sink_stalled = false;
        this.sources.sink_progress_bytes += std::mem::take(&mut this.untaken_bytes);
        if this.blocked == Some(Blocked::BySink) {
            return self.unblock(process, Blocked::BySink, Ok(()));
        }
        self.pump(process);
    }

    fn close_sink(&mut self, process: usize, within: Option<Duration>) {
        if self.processes[process].is_sink_stalled {
            self.processes[process].blocked = Some(Blocked::BySink);
            if let Some(within) = within {
                self.after(millis(within), WorldEvent::SinkTimesOut { process });
            }
        }
    }

    fn check_record(&mut self, process: usize, record: Record) {
        let run = self.processes[process].run;
        if self.trace.is_kept() {
            let text = crate::trace::record(&record);
            self.trace_line(run, "out", format_args!("{text}"));
        }
        match record {
            Record::Log { stream: Stream::Stdout, index, text } => {
                crate::invariants::emitted_line(self, process, index, &text);
            }
            Record::Log { stream: Stream::Stderr, index, text } => {
                crate::invariants::emitted_stderr(self, process, index, &text);
            }
            Record::Gap { index, lost_lines, .. } => {
                crate::invariants::emitted_gap(self, process, index, lost_lines);
            }
            Record::Status { text, .. } => {
                self.cover_status(&text);
                crate::invariants::no_secret(self, "a status line", &text);
            }
            Record::Meta(meta) => {
                let text = serde_json::Value::Object(meta).to_string();
                crate::invariants::no_secret(self, "the meta record", &text);
            }
            Record::Result(result) => crate::invariants::result(self, process, run, &result),
        }
    }

    /// Hits the coverage points that status lines show.
    fn cover_status(&mut self, text: &str) {
        for (words, point) in [
            ("Waiting for run", CoveragePoint::Waited),
            ("with a fresh session", CoveragePoint::Retried),
            ("Reattached to Job", CoveragePoint::Adopted),
        ] {
            if text.contains(words) {
                self.cover(point);
            }
        }
    }
}

//! Streams of container logs, from the node's files over the kubelet and the API server to a host.

use paperclip_contract::types::ObjectRef;
use paperclip_engine::driver::{DriverEvent, LogPiece};
use paperclip_engine::ids::LogId;
use paperclip_engine::log::{LogEnd, LogRequest};

use super::{LogStream, World, WorldEvent};
use crate::cluster::Stage;
use crate::coverage_points::CoveragePoint;
use crate::fault::Fault;

/// What the kubelet writes into a body whose header has said 200 (rule 9).
const KUBELET_TEXT: &str = "failed to create fsnotify watcher: too many open files";

impl World {
    pub(super) fn ask_for_log(&mut self, process: usize, log: LogId, pod: &ObjectRef, request: LogRequest) {
        crate::invariants::one_stream_a_container(self, process, &pod.uid);
        self.processes[process].shown.reads(&pod.uid);
        if request.since_s.is_some() {
            self.cover(CoveragePoint::LogReadAgain);
        }
        self.processes[process].streams.push(LogStream {
            log,
            pod_uid: pod.uid.clone(),
            request,
            reading: None,
            bytes: Vec::new(),
            is_under_way: false,
            is_silent: false,
            is_paused: false,
        });
        let delay_ms = self.entropy.skewed(1, 300);
        self.after(delay_ms, WorldEvent::LogOpen { process, log });
    }

    fn stream(&mut self, process: usize, log: LogId) -> Option<&mut LogStream> {
        self.processes[process].streams.iter_mut().find(|stream| stream.log == log)
    }

    pub(super) fn open_log(&mut self, process: usize, log: LogId) {
        let run = self.processes[process].run;
        let Some(stream) = self.stream(process, log) else { return };
        let (uid, since_s) = (stream.pod_uid.clone(), stream.request.since_s);
        if self.strikes(Fault::LogRefused, run) {
            let status = *self.entropy.choose(&[500, 503, 400, 429]);
            return self.end_log(
                process,
                log,
                refused(status, "the server is currently unable to handle the request"),
            );
        }
        let reading = match self.cluster.pods.get(&uid) {
            None => return self.end_log(process, log, refused(404, "pods \"unknown\" not found")),
            Some(pod) if pod.stage == Stage::Removed => {
                let text = format!("pods \"{}\" not found", pod.object.name);
                return self.end_log(process, log, refused(404, &text));
            }
            Some(pod) if pod.is_lost => {
                let text = "dial tcp 10.0.0.7:10250: connect: no route to host";
                return self.end_log(process, log, refused(500, text));
            }
            // Rule 10.
            Some(pod) if pod.stage < Stage::Running => {
                return self.end_log(
                    process,
                    log,
                    refused(400, "container is waiting to start: ContainerCreating"),
                );
            }
            Some(pod) => pod.log.open(since_s),
        };
        self.stream(process, log).expect("found above").reading = Some(reading);
        self.give(process, DriverEvent::Log { log, piece: LogPiece::Opened { keeps_unread: false } });
        self.plan_piece(process, log);
    }

    /// A container ended, and another one takes its place in the pod.
    pub(super) fn end_readings(&mut self, pod_uid: &str) {
        let Some(pod) = self.cluster.pods.get(pod_uid) else { return };
        let streams = self.processes.iter_mut().flat_map(|process| &mut process.streams);
        for reading in streams.filter(|s| s.pod_uid == pod_uid).filter_map(|s| s.reading.as_mut()) {
            pod.log.end_reading(reading);
        }
    }

    /// Whether anybody reads what a container prints next.
    pub(super) fn is_log_followed(&self, pod_uid: &str) -> bool {
        let mut streams = self.processes.iter().flat_map(|process| &process.streams);
        streams.any(|stream| stream.pod_uid == pod_uid && stream.reading.is_some())
    }

    /// A container printed something or ended: plans the next piece for each stream of its log.
    pub(super) fn wake_logs(&mut self, pod_uid: &str) {
        for process in 0..self.processes.len() {
            let streams = self.processes[process].streams.iter();
            let logs: Vec<LogId> =
                streams.filter(|stream| stream.pod_uid == pod_uid).map(|stream| stream.log).collect();
            for log in logs {
                self.plan_piece(process, log);
            }
        }
    }

    fn plan_piece(&mut self, process: usize, log: LogId) {
        let Some(stream) = self.stream(process, log) else { return };
        if stream.is_under_way || stream.is_silent || stream.reading.is_none() {
            return;
        }
        stream.is_under_way = true;
        let delay_ms = self.entropy.skewed(1, 60);
        self.after(delay_ms, WorldEvent::LogPiece { process, log });
    }

    pub(super) fn send_log(&mut self, process: usize, log: LogId) {
        let run = self.processes[process].run;
        let stamps_chunks = self.cluster.stamps_chunks;
        let is_full = self.processes[process].sources.is_log_full(log);
        let Some(stream) = self.processes[process].streams.iter_mut().find(|stream| stream.log == log) else {
            return;
        };
        stream.is_under_way = false;
        // Back-pressure, down to the kubelet: no further piece is read while nobody takes those before.
        if is_full {
            stream.is_paused = true;
            return;
        }
        let Some(pod) = self.cluster.pods.get(&stream.pod_uid) else { return };
        let is_lost = pod.is_lost;
        let (uid, unread) = (stream.pod_uid.clone(), stream.reading.map(|reading| pod.log.unread(reading)));
        if stream.request.follow
            && pod.log.is_counted()
            && pod.log.may_rotate(self.now_ms)
            && unread > Some(0)
            && self.strikes(Fault::LogSkipped, run)
        {
            let entries = 1 + self.entropy.below(unread.unwrap_or(1) as u64) as usize;
            let now_ms = self.now_ms;
            let stream = self.processes[process].streams.iter_mut().find(|stream| stream.log == log);
            if let (Some(pod), Some(reading)) =
                (self.cluster.pods.get_mut(&uid), stream.and_then(|stream| stream.reading.as_mut()))
            {
                pod.log.skip(reading, entries, now_ms);
            }
            self.cover(CoveragePoint::CountedLoss);
        }
        let Some(stream) = self.processes[process].streams.iter_mut().find(|stream| stream.log == log) else {
            return;
        };
        let Some(pod) = self.cluster.pods.get(&uid) else { return };
        // An open file can be read to its end even after its pod was removed.
        if let Some(reading) = &mut stream.reading
            && !is_lost
            && pod.log.has_more(*reading)
        {
            let bytes = pod.log.read(reading, stamps_chunks);
            stream.bytes.extend(bytes);
        }
        let follows = stream.request.follow;
        let is_over =
            pod.stage >= Stage::Ended || stream.reading.is_some_and(|reading| pod.log.is_at_end(reading));
        if is_lost || self.strikes(Fault::LogSilent, run) {
            self.stream(process, log).expect("found above").is_silent = true;
            return;
        }
        let has_kubelet_text = self.strikes(Fault::LogKubeletText, run);
        let end = if has_kubelet_text { Some(LogEnd::Clean) } else { self.draw_log_end(run) };
        let is_cut = matches!(end, Some(LogEnd::Broken(_))) || self.strikes(Fault::LogSplit, run);
        let stream =
            self.processes[process].streams.iter_mut().find(|stream| stream.log == log).expect("found above");
        let length = stream.bytes.len();
        let sent = if is_cut && length > 1 {
            1 + self.entropy.below((length as u64 - 1).min(65_536)) as usize
        } else {
            length
        };
        let rest = stream.bytes.split_off(sent.min(length));
        let mut bytes = std::mem::replace(&mut stream.bytes, rest);
        if has_kubelet_text {
            bytes.extend_from_slice(KUBELET_TEXT.as_bytes());
        }
        if !bytes.is_empty() {
            self.give(process, DriverEvent::Log { log, piece: LogPiece::Bytes(bytes) });
        }
        if let Some(end) = end {
            return self.end_log(process, log, end);
        }
        let Some(stream) = self.stream(process, log) else { return };
        if !stream.bytes.is_empty() {
            self.plan_piece(process, log);
        } else if !follows {
            self.end_log(process, log, LogEnd::Clean);
        } else if is_over {
            // Rule 13: a follow stays open for a while.
            stream.is_under_way = true;
            let delay_ms = self.entropy.skewed(200, 2_000);
            self.after(delay_ms, WorldEvent::LogClose { process, log });
        }
    }

    /// The process has taken a piece of a log: if its reading was paused, it continues.
    pub(super) fn resume_reading(&mut self, process: usize, log: LogId) {
        if self.stream(process, log).is_some_and(|stream| std::mem::take(&mut stream.is_paused)) {
            self.plan_piece(process, log);
        }
    }

    fn draw_log_end(&mut self, run: usize) -> Option<LogEnd> {
        if self.strikes(Fault::LogBroken, run) {
            return Some(LogEnd::Broken("connection reset by peer".to_owned()));
        }
        self.strikes(Fault::LogEndsEarly, run).then_some(LogEnd::Clean)
    }

    /// The end of a follow whose container is over.
    pub(super) fn close_log(&mut self, process: usize, log: LogId) {
        self.end_log(process, log, LogEnd::Clean);
    }

    fn end_log(&mut self, process: usize, log: LogId, end: LogEnd) {
        let before = self.processes[process].streams.len();
        self.processes[process].streams.retain(|stream| stream.log != log);
        if self.processes[process].streams.len() < before {
            self.give(process, DriverEvent::Log { log, piece: LogPiece::Closed(end) });
        }
    }
}

fn refused(status: u16, message: &str) -> LogEnd {
    LogEnd::Refused { status, message: message.to_owned() }
}

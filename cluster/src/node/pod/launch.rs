//! The worker's hands: starting, signalling and reporting the containers of its Pod.

use jiff::Timestamp;
use tokio::time::Instant;

use super::container::{End, State};
use super::dependencies::Dependencies;
use super::start::{Obstacle, command};
use super::termination;
use super::worker::Worker;
use crate::node::events::{Component, Event, Severity};
use crate::node::logs::{Instance, LogFile};
use crate::node::process::{Command, Process};
use crate::node::volumes::PodVolumes;

/// The exit code of a container that was made and did not run, as containerd has it.
const START_ERROR_CODE: i32 = 128;

impl Worker {
    pub(super) fn start(&mut self, index: usize) {
        let Some(volumes) = self.volumes.clone() else { return };
        self.announce(index);
        let instance = self.next_instance(index);
        // Before anything is read that may be missing.
        self.dependencies = Some(Dependencies::from_now(&self.context.store, &self.key.namespace));
        let launched = self
            .prepare(index, &volumes, &instance)
            .and_then(|(command, log)| self.launch(index, &instance, &command, &log));
        match launched {
            Ok(process) => self.run_to_end(index, instance, &volumes, process),
            Err(Obstacle::Config(message)) => self.block(index, "CreateContainerConfigError", message),
            Err(Obstacle::Create(message)) => self.block(index, "CreateContainerError", message),
            Err(Obstacle::Start(message)) => self.fail_to_start(index, &instance, message),
        }
    }

    fn next_instance(&self, index: usize) -> Instance {
        let container = &self.containers[index];
        Instance {
            namespace: self.key.namespace.clone(),
            pod: self.key.name.clone(),
            pod_uid: self.uid().to_owned(),
            container: container.spec.name.clone(),
            attempt: container.attempts,
        }
    }

    fn prepare(
        &self,
        index: usize,
        volumes: &PodVolumes,
        instance: &Instance,
    ) -> Result<(Command, LogFile), Obstacle> {
        let mark = format!("{}/{}/{}", instance.pod_uid, instance.container, instance.attempt);
        let command = command(&self.containers[index].spec, &self.pod, volumes, &self.objects, mark)?;
        let log =
            self.context.logs.create(instance).map_err(|error| {
                Obstacle::Create(format!("failed to create the container's log: {error}"))
            })?;
        Ok((command, log))
    }

    fn launch(
        &self,
        index: usize,
        instance: &Instance,
        command: &Command,
        log: &LogFile,
    ) -> Result<Process, Obstacle> {
        self.report(index, Severity::Normal, "Created", format!("Created container: {}", instance.container));
        self.context.launcher.start(command, log).map_err(|error| {
            self.context.logs.end(instance);
            Obstacle::Start(error.to_string())
        })
    }

    /// Records that the container runs, and has its end sent to the worker.
    fn run_to_end(&mut self, index: usize, instance: Instance, volumes: &PodVolumes, process: Process) {
        let started_at = Timestamp::now();
        self.groups.insert(index, process.group());
        self.containers[index].started(instance.id(), started_at, Instant::now());
        self.report(index, Severity::Normal, "Started", format!("Started container {}", instance.container));
        let spec = self.containers[index].spec.clone();
        let (logs, end_sender) = (self.context.logs.clone(), self.end_sender.clone());
        let message_file = volumes.termination_file(&instance.container);
        tokio::spawn(async move {
            let (exit_code, finished_at) = process.ended().await;
            let message = termination::message(&spec, &message_file, exit_code, &logs, &instance).await;
            logs.end(&instance);
            let reason = if exit_code == 0 { "Completed" } else { "Error" };
            let end = End { exit_code, reason, message, started_at, finished_at, id: Some(instance.id()) };
            // Nobody listens only if the worker was dropped with its node.
            let _worker_has_ended = end_sender.send((index, end)).await;
        });
    }

    /// Something outside has to change first.
    fn block(&mut self, index: usize, reason: &'static str, message: String) {
        let field = self.containers[index].field_path();
        self.complain("Failed", format!("Error: {message}"), Some(field));
        self.containers[index].state = State::Blocked { reason, message };
    }

    fn fail_to_start(&mut self, index: usize, instance: &Instance, message: String) {
        self.report(index, Severity::Warning, "Failed", format!("Error: {message}"));
        let end = End {
            exit_code: START_ERROR_CODE,
            reason: "StartError",
            message: Some(message),
            started_at: Timestamp::UNIX_EPOCH,
            finished_at: Timestamp::now(),
            id: Some(instance.id()),
        };
        self.containers[index].started(instance.id(), end.finished_at, Instant::now());
        self.has_ended(index, end);
    }

    pub(super) fn has_ended(&mut self, index: usize, end: End) {
        self.groups.remove(&index);
        let is_pod_ending = self.stop.is_some();
        self.containers[index].ended(end, Instant::now(), self.context.first_backoff, is_pod_ending);
        if let State::BackOff { wait, .. } = self.containers[index].state
            && !wait.is_zero()
        {
            let message = format!(
                "Back-off restarting failed container {} in pod {}_{}({})",
                self.containers[index].spec.name,
                self.key.name,
                self.key.namespace,
                self.uid()
            );
            self.report(index, Severity::Warning, "BackOff", message);
        }
    }

    pub(super) fn terminate(&mut self, index: usize) {
        if let (State::Running(running), Some(group)) =
            (&mut self.containers[index].state, self.groups.get(&index))
        {
            running.is_signalled = true;
            group.terminate();
        }
        self.report_killing(index);
    }

    pub(super) fn kill(&mut self, index: usize) {
        let mut was_signalled = true;
        if let (State::Running(running), Some(group)) =
            (&mut self.containers[index].state, self.groups.get(&index))
        {
            running.is_killed = true;
            was_signalled = running.is_signalled;
            group.kill();
        }
        if !was_signalled {
            self.report_killing(index);
        }
    }

    fn announce(&mut self, index: usize) {
        let container = &mut self.containers[index];
        if !std::mem::replace(&mut container.is_announced, true) {
            let image = container.spec.image.as_deref().unwrap_or_default();
            let message = format!("Container image \"{image}\" already present on machine");
            self.report(index, Severity::Normal, "Pulled", message);
        }
    }

    fn report_killing(&self, index: usize) {
        let message = format!("Stopping container {}", self.containers[index].spec.name);
        self.report(index, Severity::Normal, "Killing", message);
    }

    /// An event about a container.
    fn report(&self, index: usize, severity: Severity, reason: &'static str, message: String) {
        let field_path = Some(self.containers[index].field_path());
        self.record(Event { component: Component::Kubelet, severity, reason, message, field_path });
    }

    /// A warning, unless it is the same as the last one.
    pub(super) fn complain(&mut self, reason: &'static str, message: String, field_path: Option<String>) {
        if self.last_complaint.as_ref() != Some(&message) {
            self.last_complaint = Some(message.clone());
            let severity = Severity::Warning;
            self.record(Event { component: Component::Kubelet, severity, reason, message, field_path });
        }
    }

    pub(super) fn record(&self, event: Event) {
        self.context.recorder.record(&self.seen.borrow().object, event);
    }
}

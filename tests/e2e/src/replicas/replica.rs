//! A replica: a daemon outside the cluster, with a state folder of its own, and the endpoints at which clients find replicas.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::http::{self, Answer};
use super::random::Random;
use crate::proxy::Proxy;

/// How long a client waits for the head of an answer; a paused replica gives none.
const ANSWER_SEC: u64 = 5;
/// The key that replicas share.
const KEY: &str = "canary-key-of-replicas-45c48cce2e2d7fbd";

/// Where a client reaches a replica.
#[derive(Debug, Clone)]
pub(super) struct Endpoint {
    pub(super) replica: String,
    pub(super) url: String,
    /// curl's options: the token is in no list of processes.
    pub(super) options: PathBuf,
    /// It answers for its own runs only.
    pub(super) is_previous: bool,
}

impl Endpoint {
    pub(super) fn send(&self, method: &str, path: &str, body: Option<&Path>) -> Answer {
        http::send(&self.options, method, &format!("{}{path}", self.url), body, ANSWER_SEC)
    }
}

/// The replicas that clients may ask, as the endpoints of a Service.
#[derive(Debug, Default)]
pub(super) struct Service {
    endpoints: Mutex<Vec<Endpoint>>,
}

impl Service {
    pub(super) fn add(&self, endpoint: Endpoint) {
        self.lock().push(endpoint);
    }

    pub(super) fn remove(&self, replica: &str) {
        self.lock().retain(|one| one.replica != replica);
    }

    /// Returns a random replica; none while there is none.
    pub(super) fn pick(&self, random: &mut Random) -> Option<Endpoint> {
        let endpoints = self.lock();
        let index = random.below(endpoints.len() as u64) as usize;
        endpoints.get(index).cloned()
    }

    pub(super) fn all(&self) -> Vec<Endpoint> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Endpoint>> {
        self.endpoints.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a replica is started.
#[derive(Debug)]
pub(super) struct Setup<'a> {
    pub(super) program: &'a Path,
    pub(super) kubeconfig: &'a Path,
    pub(super) namespace: &'a str,
    pub(super) folder: &'a Path,
    pub(super) state: PathBuf,
    pub(super) is_previous: bool,
    /// Whether it takes plugins from ConfigMaps of the namespace.
    pub(super) watches_plugins: bool,
}

/// A daemon. Killed when it is dropped.
#[derive(Debug)]
pub(super) struct Replica {
    child: Child,
    pub(super) endpoint: Endpoint,
    /// Where other replicas reach it, which its Lease names.
    pub(super) advertised: String,
    proxy: Proxy,
}

impl Replica {
    /// Starts it and waits until it is ready.
    pub(super) fn start(name: &str, setup: &Setup<'_>, deadline: Instant) -> Result<Replica> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let listen = format!("127.0.0.1:{port}");
        let proxy = Proxy::start(listen.parse()?)?;
        let advertised = format!("http://127.0.0.1:{}", proxy.port);
        let key_file = setup.folder.join("peer-key");
        fs::write(&key_file, KEY)?;
        let log =
            fs::File::options().create(true).append(true).open(setup.folder.join(format!("{name}-log")))?;
        let mut command = Command::new(setup.program);
        command
            .args(["serve", "--listen", &listen, "--namespace", setup.namespace, "--log-format", "json"])
            .arg("--kubeconfig")
            .arg(setup.kubeconfig)
            .arg("--state")
            .arg(&setup.state)
            // Nothing listens there: a run whose cancellation cannot be polled continues.
            .env("PAPERCLIP_API_URL", "http://127.0.0.1:9")
            .stdin(Stdio::null())
            .stderr(log);
        if !setup.is_previous {
            command.args(["--advertise-url", &advertised]).arg("--peer-key-file").arg(&key_file);
        }
        if setup.watches_plugins {
            command.args(["--plugins-namespace", setup.namespace]);
        }
        let child = command.spawn().with_context(|| format!("cannot start {}", setup.program.display()))?;
        let options = setup.folder.join(format!("{name}-curl"));
        let endpoint = Endpoint {
            replica: name.to_owned(),
            url: format!("http://{listen}"),
            options,
            is_previous: setup.is_previous,
        };
        let mut replica = Replica { child, endpoint, advertised, proxy };
        replica.wait_until_ready(&setup.state, deadline).with_context(|| format!("replica {name}"))?;
        Ok(replica)
    }

    fn wait_until_ready(&mut self, state: &Path, deadline: Instant) -> Result<()> {
        loop {
            // The token is generated at the first start; older builds need none on loopback.
            let token = fs::read_to_string(state.join("token")).unwrap_or_default();
            fs::write(&self.endpoint.options, http::options(token.trim()))?;
            if self.endpoint.send("GET", "/readyz", None).status == 200 {
                return Ok(());
            }
            if let Some(code) = self.child.try_wait()? {
                bail!("it has ended with {code}");
            }
            if Instant::now() > deadline {
                bail!("it is not ready in time");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub(super) fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill_process(Pid::from_child(&self.child), signal)?)
    }

    /// SIGTERM. Returns once it has ended.
    pub(super) fn stop(&mut self) -> Result<()> {
        self.signal(Signal::TERM)?;
        let code = self.child.wait()?;
        if code.success() { Ok(()) } else { bail!("it has ended with {code}") }
    }

    /// Other replicas do not reach it any more.
    pub(super) fn cut(&self) {
        self.proxy.cut();
    }

    pub(super) fn restore(&self) {
        self.proxy.restore();
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

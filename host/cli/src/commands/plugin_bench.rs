//! `plugins bench`: measures a plugin.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use paperclip_cases::Case;
use paperclip_guest::{Plugin, Runtime, RuntimeOptions, Source, Tools};
use serde::Serialize;

use crate::exit::{CommandError, Exit, usage};

/// Instances that are made for the figure of one.
const INSTANCES: u32 = 200;
/// How long each kind of reading is repeated.
const READING: Duration = Duration::from_secs(1);

/// The figures of a plugin.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Figures {
    adapter_type: String,
    version: String,
    digest: String,
    /// The size of its file.
    bytes: u64,
    /// The time to verify and compile it, with its trial.
    compile_ms: f64,
    /// The mean time to make an instance.
    instance_us: f64,
    cases: usize,
    /// The size of the output of all cases.
    output_bytes: u64,
    /// Output that is judged in a second, in bytes.
    judged_bytes_per_sec: f64,
    /// Output that is shown as a transcript in a second, in bytes.
    shown_bytes_per_sec: f64,
}

pub(crate) fn bench(
    source: Source,
    bytes: &[u8],
    folder: &Path,
    is_json: bool,
) -> Result<Exit, CommandError> {
    let cases = paperclip_cases::read(folder).map_err(usage)?;
    // Without the cache of compiled plugins: the first start of a machine is measured.
    let runtime = Runtime::new(&RuntimeOptions { max_instances: 8, ..RuntimeOptions::default() })?;
    let start = Instant::now();
    let plugin = Plugin::load(&runtime, source, bytes).map_err(usage)?;
    let compile = start.elapsed();
    let figures = Figures {
        adapter_type: plugin.adapter_type().to_owned(),
        version: plugin.version().to_owned(),
        digest: plugin.digest().to_owned(),
        bytes: plugin.size_bytes(),
        compile_ms: compile.as_secs_f64() * 1e3,
        instance_us: time_of_instance(&plugin)?.as_secs_f64() * 1e6,
        cases: cases.len(),
        output_bytes: output_bytes(&cases),
        judged_bytes_per_sec: judged(&plugin, &cases)?,
        shown_bytes_per_sec: shown(&plugin, &cases)?,
    };
    if is_json {
        println!("{}", serde_json::to_string_pretty(&figures)?);
    } else {
        show(&figures);
    }
    Ok(Exit::Succeeded)
}

fn show(figures: &Figures) {
    let mb = |bytes: f64| bytes / 1e6;
    println!("{} {} (sha256:{:.12})", figures.adapter_type, figures.version, figures.digest);
    println!("size        {} bytes", figures.bytes);
    println!("compile     {:.0} ms", figures.compile_ms);
    println!("instance    {:.0} µs", figures.instance_us);
    println!("output      {} cases, {:.2} MB", figures.cases, mb(figures.output_bytes as f64));
    println!("judge       {:.1} MB/s", mb(figures.judged_bytes_per_sec));
    println!("transcript  {:.1} MB/s", mb(figures.shown_bytes_per_sec));
}

fn output_bytes(cases: &[Case]) -> u64 {
    cases.iter().map(|case| case.stdout().len() as u64).sum()
}

fn time_of_instance(plugin: &Arc<Plugin>) -> Result<Duration, CommandError> {
    let start = Instant::now();
    for _ in 0..INSTANCES {
        plugin.instantiate()?;
    }
    Ok(start.elapsed() / INSTANCES)
}

/// Returns how many bytes of output a second a plugin judges.
fn judged(plugin: &Arc<Plugin>, cases: &[Case]) -> Result<f64, CommandError> {
    let tools = Tools::new(Arc::clone(plugin));
    let documents: Vec<String> = cases.iter().map(|case| case.evidence.to_string()).collect();
    bytes_per_sec(output_bytes(cases), || {
        for document in &documents {
            // What a plugin says about wrong evidence is a matter of `plugins test`.
            let _ = tools.classify(0, document)?;
        }
        Ok(())
    })
}

/// Returns how many bytes of output a second a plugin shows.
fn shown(plugin: &Arc<Plugin>, cases: &[Case]) -> Result<f64, CommandError> {
    let tools = Tools::new(Arc::clone(plugin));
    let lines: Vec<Vec<String>> =
        cases.iter().map(|case| case.stdout().lines().map(str::to_owned).collect()).collect();
    bytes_per_sec(output_bytes(cases), || {
        for lines in &lines {
            tools.transcript(lines, "2026-01-01T00:00:00Z")?;
        }
        Ok(())
    })
}

fn bytes_per_sec(
    bytes: u64,
    mut read: impl FnMut() -> Result<(), CommandError>,
) -> Result<f64, CommandError> {
    let start = Instant::now();
    let mut rounds = 0;
    while rounds == 0 || start.elapsed() < READING {
        read()?;
        rounds += 1;
    }
    Ok((bytes * rounds) as f64 / start.elapsed().as_secs_f64())
}

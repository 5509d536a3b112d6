//! `plugins test`: judges recorded cases with a plugin.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use paperclip_cases::{Case, Difference, differences};
use paperclip_guest::{Plugin, Tools, judged};
use serde_json::{Map, Value, json};

use crate::exit::{CommandError, Exit, usage};
use crate::pretty::style::{DIM, ERROR, SUCCESS, WARNING};

pub(crate) fn test(plugin: &Arc<Plugin>, folder: &Path, accept: bool) -> Result<Exit, CommandError> {
    let cases = paperclip_cases::read(folder).map_err(usage)?;
    let tools = Tools::new(Arc::clone(plugin));
    let mut report = Report::of(&tools, &cases);
    if accept {
        report.accept(folder)?;
    }
    report.show();
    Ok(if report.is_good() { Exit::Succeeded } else { Exit::Failed })
}

/// How a plugin judges cases.
#[derive(Debug)]
pub(super) struct Report<'a> {
    outcomes: Vec<(&'a Case, Outcome)>,
}

#[derive(Debug)]
enum Outcome {
    AsExpected,
    Accepted,
    /// Nobody has said how the case is to be judged.
    Unknown(Map<String, Value>),
    Different(Map<String, Value>, Vec<Difference>),
    /// The plugin failed, or shows a line as something that is no transcript.
    Failed(String),
}

impl<'a> Report<'a> {
    pub(super) fn of(tools: &Tools, cases: &'a [Case]) -> Report<'a> {
        Report { outcomes: cases.iter().map(|case| (case, outcome(tools, case))).collect() }
    }

    pub(super) fn is_good(&self) -> bool {
        self.outcomes.iter().all(|(_, outcome)| matches!(outcome, Outcome::AsExpected | Outcome::Accepted))
    }

    /// Writes the results as the expected ones.
    fn accept(&mut self, folder: &Path) -> Result<(), CommandError> {
        for (case, outcome) in &mut self.outcomes {
            let (Outcome::Unknown(result) | Outcome::Different(result, _)) = &*outcome else { continue };
            let file = folder.join(format!("{}.json", case.name));
            let mut document = match fs::read(&file) {
                Ok(bytes) => serde_json::from_slice(&bytes)?,
                Err(_) => json!({}),
            };
            document["expected"] = Value::Object(result.clone());
            fs::write(&file, format!("{document:#}\n"))?;
            *outcome = Outcome::Accepted;
        }
        Ok(())
    }

    pub(super) fn show(&self) {
        for (case, outcome) in &self.outcomes {
            let name = &case.name;
            match outcome {
                Outcome::AsExpected => anstream::println!("{SUCCESS}as expected{SUCCESS:#}  {name}"),
                Outcome::Accepted => anstream::println!("{WARNING}accepted{WARNING:#}     {name}"),
                Outcome::Unknown(result) => {
                    anstream::println!("{ERROR}not expected{ERROR:#} {name}");
                    println!("               errorCode is {}", code_of(result));
                    anstream::println!(
                        "               {DIM}hint: --accept writes the result into {name}.json{DIM:#}"
                    );
                }
                Outcome::Different(_, differences) => {
                    anstream::println!("{ERROR}different{ERROR:#}    {name}");
                    for difference in differences {
                        println!("               {}", difference.field);
                        anstream::println!("               {ERROR}- {}{ERROR:#}", difference.expected);
                        anstream::println!("               {SUCCESS}+ {}{SUCCESS:#}", difference.found);
                    }
                }
                Outcome::Failed(why) => {
                    anstream::println!("{ERROR}failed{ERROR:#}       {name}");
                    println!("               {why}");
                }
            }
        }
        let good =
            |(_, outcome): &&(&Case, Outcome)| matches!(outcome, Outcome::AsExpected | Outcome::Accepted);
        println!(
            "{} of {} cases are judged as expected",
            self.outcomes.iter().filter(good).count(),
            self.outcomes.len()
        );
    }
}

fn outcome(tools: &Tools, case: &Case) -> Outcome {
    let result = match judged(tools, &case.evidence).and_then(|result| shown(tools, case).map(|()| result)) {
        Ok(result) => result,
        Err(why) => return Outcome::Failed(why),
    };
    let Some(expected) = &case.expected else { return Outcome::Unknown(result) };
    let differences = differences(&result, expected);
    if differences.is_empty() { Outcome::AsExpected } else { Outcome::Different(result, differences) }
}

/// Checks that the plugin shows each line of a case's output as entries of a transcript.
fn shown(tools: &Tools, case: &Case) -> Result<(), String> {
    let lines: Vec<String> = case.stdout().lines().map(str::to_owned).collect();
    let entries = tools.transcript(&lines, "2026-01-01T00:00:00Z").map_err(|fault| fault.to_string())?;
    if entries.len() != lines.len() {
        return Err(format!("transcript: {} answers for {} lines", entries.len(), lines.len()));
    }
    for (number, entries) in (1..).zip(&entries) {
        let parsed: Result<Vec<Map<String, Value>>, _> = serde_json::from_str(entries);
        parsed.map_err(|error| format!("transcript of line {number}: no array of entries: {error}"))?;
    }
    Ok(())
}

fn code_of(result: &Map<String, Value>) -> &Value {
    result.get("errorCode").unwrap_or(&Value::Null)
}

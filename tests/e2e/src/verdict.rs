//! Compares the output of a host with what a scenario expects. Pure.

use serde_json::Value;

use crate::records::text;
use crate::scenario::Expect;

/// Returns everything that is wrong with a host's records; empty if nothing is.
pub(crate) fn complaints(expect: &Expect, exit: Option<i32>, records: &[Value]) -> Vec<String> {
    let mut complaints = Vec::new();
    if exit != expect.exit {
        complaints.push(format!("exit code {exit:?} instead of {:?}", expect.exit));
    }
    if let Some(record) = records.iter().find(|record| !record.is_object()) {
        complaints.push(format!("a line of the output is not a record: {record}"));
    }
    complaints.extend(result_complaint(expect, records));
    complaints.extend(index_complaint(expect, records));
    complaints.extend(line_complaint(expect, records));
    let has_gap = records.iter().any(|record| record["type"] == "gap");
    if has_gap && !expect.may_have_gaps {
        complaints.push("there is a gap in the output".to_owned());
    }
    let mut statuses = records.iter().map(|record| text(record, "status"));
    for expected in &expect.statuses {
        if !statuses.any(|status| status.contains(expected)) {
            complaints.push(format!("no status, or not in this order, says {expected:?}"));
            break;
        }
    }
    complaints
}

fn result_complaint(expect: &Expect, records: &[Value]) -> Option<String> {
    let results = records.iter().filter(|record| record["type"] == "result").count();
    match &expect.result {
        None if results == 0 => None,
        None => Some("there is a result, and none was expected".to_owned()),
        Some(_) if results != 1 => Some(format!("there are {results} results instead of one")),
        Some(_) if records.last().is_none_or(|last| last["type"] != "result") => {
            Some("the result is not the last record".to_owned())
        }
        Some(expected) => {
            let result = records.last()?;
            let difference = difference(expected, result, "result")?;
            Some(difference)
        }
    }
}

/// Returns the first place at which a document lacks an expected field.
fn difference(expected: &Value, found: &Value, path: &str) -> Option<String> {
    match (expected, found) {
        (Value::Object(expected), Value::Object(found)) => expected.iter().find_map(|(key, expected)| {
            difference(expected, found.get(key).unwrap_or(&Value::Null), &format!("{path}.{key}"))
        }),
        (Value::String(part), Value::String(found)) if part.starts_with('~') => (!found.contains(&part[1..]))
            .then(|| format!("{path} does not contain {:?}: {found:?}", &part[1..])),
        (expected, found) => (expected != found).then(|| format!("{path} is {found} instead of {expected}")),
    }
}

/// Checks that indices of lines are in order and complete, except where there is a gap record between them.
fn index_complaint(expect: &Expect, records: &[Value]) -> Option<String> {
    let mut next = (!expect.continues).then_some(0);
    for record in records {
        match record["type"].as_str() {
            Some("log") => {
                let index = record["index"].as_u64()?;
                if next.is_some_and(|next| next != index) {
                    return Some(format!("line {index} came where {next:?} was next"));
                }
                next = Some(index + 1);
            }
            Some("gap") => next = None,
            _ => {}
        }
    }
    None
}

/// Checks the agent's own numbers, which show what the host's indices cannot: whether a line was lost or repeated on its way.
fn line_complaint(expect: &Expect, records: &[Value]) -> Option<String> {
    let expected = expect.lines?;
    let numbers: Vec<usize> = records.iter().filter_map(|record| number(text(record, "log"))).collect();
    if expect.may_have_gaps && records.iter().any(|record| record["type"] == "gap") {
        let is_rising = numbers.windows(2).all(|pair| pair[0] < pair[1]);
        return (!is_rising).then(|| "a line came twice or out of order".to_owned());
    }
    if numbers.iter().copied().eq(0..expected) {
        return None;
    }
    let wrong = numbers.iter().enumerate().find(|(index, number)| index != *number);
    Some(match wrong {
        Some((index, number)) => {
            let before = before_number(*number, records);
            format!("the agent's line {number} came where {index} was next, after {before:.500}")
        }
        None => format!("{} numbered lines came instead of {expected}", numbers.len()),
    })
}

/// Returns the record right before the agent's line of this number.
fn before_number(expected: usize, records: &[Value]) -> String {
    let at = records.iter().position(|record| number(text(record, "log")) == Some(expected));
    let before = at.and_then(|at| at.checked_sub(1)).map(|at| &records[at]);
    before.map_or("nothing".to_owned(), ToString::to_string)
}

/// The lines of a run too large to be kept, checked as they arrive.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Numbered lines.
    pub(crate) lines: u64,
    pub(crate) gaps: u64,
    /// The first few places that no gap explains.
    pub(crate) wrong: Vec<String>,
    /// The next expected number, unless a gap precedes it.
    next_index: Option<u64>,
    next_number: Option<usize>,
    least_number: usize,
    /// What is wrong with the last line, unless a gap follows: the start of one line and the end of another, where the kubelet skipped a
    /// file that started within a line.
    joined: Option<String>,
}

impl Tally {
    const WRONG: usize = 10;

    /// Adds the next record. Returns whether to keep it: everything except lines.
    pub(crate) fn take(&mut self, record: &Value) -> bool {
        let kind = record["type"].as_str();
        if let Some(joined) = self.joined.take()
            && kind != Some("gap")
        {
            self.complain(joined);
        }
        match kind {
            Some("log") => self.take_line(record),
            Some("gap") => {
                self.gaps += 1;
                (self.next_index, self.next_number) = (None, None);
                return true;
            }
            Some(_) | None => return true,
        }
        false
    }

    fn take_line(&mut self, record: &Value) {
        let index = record["index"].as_u64().unwrap_or(u64::MAX);
        if self.next_index.is_some_and(|next| next != index) {
            self.complain(format!("line {index} came where {:?} was next", self.next_index));
        }
        self.next_index = Some(index.saturating_add(1));
        let Some(number) = number(text(record, "log")) else { return };
        let is_wrong = match self.next_number {
            Some(next) => number != next,
            None => number < self.least_number,
        };
        if is_wrong {
            let next = self.next_number.unwrap_or(self.least_number);
            let complaint = format!("the agent's line {number} came where {next} was next, at index {index}");
            if number > next && is_of_two(text(record, "log")) {
                self.joined = Some(complaint);
            } else {
                self.complain(complaint);
            }
        }
        self.lines += 1;
        self.least_number = number + 1;
        self.next_number = Some(number + 1);
    }

    fn complain(&mut self, wrong: String) {
        if self.wrong.len() < Self::WRONG {
            self.wrong.push(wrong);
        }
    }
}

/// Whether an event starts within another one.
fn is_of_two(line: &str) -> bool {
    line.matches(r#"{"type":"assistant""#).count() > 1
}

/// N of an event whose text is `line N`.
pub(crate) fn number(line: &str) -> Option<usize> {
    let (_, rest) = line.split_once(r#""text":"line "#)?;
    rest.split_once('"')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn expect(json: Value) -> Expect {
        serde_json::from_value(json).unwrap()
    }

    fn line(index: usize, number: usize) -> Value {
        json!({"type": "log", "stream": "stdout", "index": index, "text": format!(r#"{{"text":"line {number}"}}"#)})
    }

    #[test]
    fn a_good_run_has_no_complaints() {
        let expected = expect(
            json!({"exit": 0, "lines": 2, "result": {"errorCode": null, "summary": "~on"}, "statuses": ["b"]}),
        );
        let status = json!({"type": "status", "text": "abc"});
        let result = json!({"type": "result", "errorCode": null, "summary": "done", "more": 1});
        assert_eq!(
            complaints(&expected, Some(0), &[status, line(0, 0), line(1, 1), result]),
            [] as [&str; 0]
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        let none = expect(json!({"exit": 0, "lines": 2}));
        for (records, complaint) in [
            (vec![line(0, 1)], "the agent's line 1 came where 0 was next, after nothing"),
            (vec![line(0, 0)], "1 numbered lines came instead of 2"),
            (vec![line(0, 0), line(2, 1)], "line 2 came where Some(1) was next"),
            (vec![line(0, 0), line(1, 1), json!({"type": "gap"})], "there is a gap in the output"),
            (
                vec![line(0, 0), line(1, 1), json!({"type": "result"})],
                "there is a result, and none was expected",
            ),
            (vec![line(0, 0), line(1, 1), json!("x")], "a line of the output is not a record: \"x\""),
        ] {
            assert_eq!(complaints(&none, Some(0), &records), [complaint]);
        }
        let result = expect(json!({"exit": 0, "result": {"errorMessage": "~OOM"}}));
        let found = [json!({"type": "result", "errorMessage": "cut"})];
        assert_eq!(
            complaints(&result, Some(1), &found),
            ["exit code Some(1) instead of Some(0)", "result.errorMessage does not contain \"OOM\": \"cut\""]
        );
    }

    #[test]
    fn tally_reports_what_no_gap_explains() {
        let gap = || json!({"type": "gap"});
        let joined = |index: usize, number: usize| {
            let text = format!(r#"{{"type":"assistant","mes{{"type":"assistant","text":"line {number}"}}"#);
            json!({"type": "log", "stream": "stdout", "index": index, "text": text})
        };
        for (records, lines, wrong) in [
            (vec![line(0, 0), line(1, 1)], 2, vec![]),
            (vec![line(0, 0), gap(), line(9, 7), line(10, 8)], 3, vec![]),
            (vec![line(0, 0), line(1, 2)], 2, vec!["the agent's line 2 came where 1 was next, at index 1"]),
            (vec![line(0, 0), joined(1, 7), gap(), line(2, 8)], 3, vec![]),
            (
                vec![line(0, 0), joined(1, 7), line(2, 8)],
                3,
                vec!["the agent's line 7 came where 1 was next, at index 1"],
            ),
            (vec![line(0, 0), line(2, 1)], 2, vec!["line 2 came where Some(1) was next"]),
            (
                vec![line(0, 5), gap(), line(9, 5)],
                2,
                vec!["the agent's line 5 came where 6 was next, at index 9"],
            ),
        ] {
            let mut tally = Tally::default();
            let kept = records.iter().filter(|record| tally.take(record)).count() as u64;
            assert_eq!((tally.lines, tally.gaps, kept), (lines, kept, kept), "{records:?}");
            assert_eq!(tally.wrong, wrong);
        }
    }

    #[test]
    fn after_a_gap_lines_may_be_missing_but_none_comes_twice() {
        let expected = expect(json!({"exit": 0, "lines": 9, "may-have-gaps": true}));
        let gap = json!({"type": "gap"});
        assert!(complaints(&expected, Some(0), &[line(0, 0), gap.clone(), line(5, 5)]).is_empty());
        assert_eq!(
            complaints(&expected, Some(0), &[line(0, 3), gap, line(5, 3)]),
            ["a line came twice or out of order"]
        );
    }
}

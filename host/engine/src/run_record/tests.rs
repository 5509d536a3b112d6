use std::collections::BTreeMap;
use std::time::Duration;

use paperclip_contract::types::ApiError;
use serde_json::{Value, json};

use super::*;
use crate::api::{ApiCall, ApiReply, HostLease};

fn record(run_id: &str) -> RunRecord {
    RunRecord {
        namespace: "n".into(),
        name: record_name(run_id),
        uid: String::new(),
        resource_version: String::new(),
        run_id: run_id.into(),
        facts: RunFacts::default(),
        host: String::new(),
        instance: String::new(),
        accepted_at: Timestamp::from_millis(5_000),
        cancel_requested: None,
        state: RecordState::Claimed { recovery: None },
    }
}

fn claimant(host: &str, tenure: Tenure) -> Claimant {
    Claimant { host: host.into(), instance: format!("paperclip-host-{host}"), tenure }
}

fn error(status: u16) -> ApiError {
    ApiError { status: Some(status), reason: None, message: "no".into(), retry_after_ms: None }
}

/// Records and Leases of living hosts, as an API server keeps them.
#[derive(Default)]
struct Server {
    record: Option<RunRecord>,
    live: Vec<&'static str>,
    version: u32,
    requests: Vec<String>,
}

impl Server {
    fn store(&mut self, record: &RunRecord) -> ApiReply {
        self.version += 1;
        let (uid, resource_version) = ("u".to_owned(), self.version.to_string());
        let stored = RunRecord { uid, resource_version, ..record.clone() };
        self.record = Some(stored.clone());
        ApiReply::RunRecord(Some(Box::new(stored)))
    }

    fn answer(&mut self, request: &ApiCall) -> Result<ApiReply, ApiError> {
        self.requests.push(request.describe());
        match request {
            ApiCall::CreateRunRecord(_) if self.record.is_some() => Err(error(409)),
            ApiCall::CreateRunRecord(record) => Ok(self.store(record)),
            ApiCall::UpdateRunRecord(record) => match &self.record {
                None => Err(error(404)),
                Some(known) if known.resource_version != record.resource_version => Err(error(409)),
                Some(_) => Ok(self.store(record)),
            },
            ApiCall::GetRunRecord { .. } => Ok(ApiReply::RunRecord(self.record.clone().map(Box::new))),
            ApiCall::GetHostLease { name, .. } => {
                let lives = self.live.iter().any(|live| name == &format!("paperclip-host-{live}"));
                Ok(ApiReply::HostLease(lives.then(|| HostLease {
                    namespace: "n".into(),
                    name: name.clone(),
                    uid: "u".into(),
                    resource_version: "1".into(),
                    host: name.trim_start_matches("paperclip-host-").into(),
                    address: None,
                    version: "1".into(),
                    renewed_at: Timestamp::EPOCH,
                })))
            }
            other => panic!("{other:?}"),
        }
    }

    fn claim(&mut self, host: &str, tenure: Tenure) -> Claimed {
        let (mut claim, mut request) = match tenure {
            Tenure::None => Claim::start(record("r"), claimant(host, tenure)),
            Tenure::Folder | Tenure::Guard => Claim::resume(record("r"), claimant(host, tenure)),
        };
        loop {
            let answer = self.answer(&request);
            match claim.on_answer(answer).expect("the server answers") {
                Step::Call(next) => request = next,
                Step::CallLater(..) => panic!("the server answers"),
                Step::Done(claimed) => return *claimed,
            }
        }
    }
}

#[test]
fn a_new_run_is_claimed_by_one_request() {
    let mut server = Server::default();
    let Claimed::Held { record, earlier } = server.claim("a", Tenure::None) else { panic!("nobody has it") };
    assert_eq!((record.host.as_str(), record.instance.as_str()), ("a", "paperclip-host-a"));
    assert_eq!((earlier, server.requests.len()), (None, 1));
}

#[test]
fn a_run_of_a_living_host_is_elsewhere_and_that_of_a_dead_one_is_taken() {
    let mut server = Server { live: vec!["a", "b"], ..Server::default() };
    server.claim("a", Tenure::None);
    let Claimed::Elsewhere { owner, .. } = server.claim("b", Tenure::None) else { panic!("a has it") };
    assert_eq!(owner.host, "a");
    server.live = vec!["b"];
    server.record.as_mut().expect("it is claimed").cancel_requested = Some("enough".into());
    let Claimed::Held { record, earlier } = server.claim("b", Tenure::None) else { panic!("a is dead") };
    assert_eq!(record.cancel_requested.as_deref(), Some("enough"), "b ends it");
    assert_eq!((record.host.as_str(), earlier.expect("of a").host.as_str()), ("b", "a"));
}

#[test]
fn of_two_hosts_that_take_a_run_at_once_one_gets_it() {
    let mut server = Server { live: vec!["b", "c"], ..Server::default() };
    server.claim("a", Tenure::None);
    let start = |host| Claim::start(record("r"), claimant(host, Tenure::None));
    let mut claims: Vec<(Claim, Option<ApiCall>)> =
        ["b", "c"].map(start).into_iter().map(|(claim, request)| (claim, Some(request))).collect();
    let mut held = 0;
    // Their requests alternate.
    while claims.iter().any(|(_, request)| request.is_some()) {
        for (claim, request) in &mut claims {
            let Some(sent) = request.take() else { continue };
            match claim.on_answer(server.answer(&sent)).expect("the server answers") {
                Step::Call(next) => *request = Some(next),
                Step::CallLater(..) => panic!("the server answers"),
                Step::Done(claimed) => held += u32::from(matches!(*claimed, Claimed::Held { .. })),
            }
        }
    }
    assert_eq!(held, 1);
}

#[test]
fn an_ended_run_is_not_claimed_whoever_has_what_of_it() {
    let mut server = Server::default();
    let Claimed::Held { record, .. } = server.claim("a", Tenure::None) else { panic!("nobody has it") };
    let result = json!({"summary": "done"}).as_object().cloned().expect("an object");
    server.store(&record.ended(Timestamp::from_millis(9), "succeeded", result));
    for tenure in [Tenure::None, Tenure::Folder, Tenure::Guard] {
        let Claimed::Ended { end, .. } = server.claim("a", tenure) else { panic!("it has ended") };
        assert_eq!((end.state.as_str(), &end.result["summary"]), ("succeeded", &json!("done")));
    }
}

#[test]
fn a_folder_decides_between_processes_of_a_host_and_a_guard_between_hosts() {
    let mut server = Server { live: vec!["a", "b"], ..Server::default() };
    let mut earlier = record("r");
    (earlier.host, earlier.instance) = ("a".into(), "paperclip-host-b".into());
    server.store(&earlier);
    assert!(matches!(server.claim("a", Tenure::None), Claimed::Elsewhere { .. }), "that process still runs");
    assert!(matches!(server.claim("a", Tenure::Folder), Claimed::Held { .. }), "it has left its folder");
    assert!(matches!(server.claim("b", Tenure::Folder), Claimed::Elsewhere { .. }), "another host's folder");
    assert!(matches!(server.claim("b", Tenure::Guard), Claimed::Held { .. }));
}

#[test]
fn a_creation_whose_answer_was_lost_is_recognised() {
    let mut server = Server { live: vec!["a"], ..Server::default() };
    let (mut claim, create) = Claim::start(record("r"), claimant("a", Tenure::None));
    server.answer(&create).expect("created");
    let lost = ApiError { status: None, ..error(500) };
    let Ok(Step::CallLater(_, again)) = claim.on_answer(Err(lost.clone())) else {
        panic!("it is sent again")
    };
    let Ok(Step::Call(read)) = claim.on_answer(server.answer(&again)) else { panic!("it exists") };
    let Ok(Step::Done(claimed)) = claim.on_answer(server.answer(&read)) else { panic!("it was read") };
    assert!(matches!(*claimed, Claimed::Held { .. }), "{claimed:?}");
    let (mut claim, _) = Claim::start(record("r"), claimant("a", Tenure::None));
    let failures = (0..9).map_while(|_| claim.on_answer(Err(lost.clone())).ok()).count();
    assert!(failures < 9, "whoever asked learns that the API does not answer");
}

#[test]
fn a_result_keeps_what_fits_and_names_the_rest() {
    let long = "x".repeat(RESULT_MAX_BYTES);
    let result = json!({"exitCode": 0, "resultJson": {"text": long}, "summary": "done", "usage": [1, 2]});
    let ended =
        record("r").ended(Timestamp::EPOCH, "failed", result.as_object().cloned().expect("an object"));
    let end = ended.end().expect("it ended");
    assert_eq!(Value::Object(end.result.clone()), json!({"exitCode": 0, "summary": "done", "usage": [1, 2]}));
    assert_eq!(end.omitted, ["resultJson"]);
    let half = json!({"a": "x".repeat(RESULT_MAX_BYTES / 2), "b": "x".repeat(RESULT_MAX_BYTES / 2)});
    let ended = record("r").ended(Timestamp::EPOCH, "failed", half.as_object().cloned().expect("an object"));
    let end = ended.end().expect("it ended");
    assert!(serde_json::to_vec(&end.result).expect("JSON").len() <= RESULT_MAX_BYTES);
    assert_eq!(end.omitted.len(), 1);
}

#[test]
fn recovery_data_of_a_long_context_fits_and_noise_does_not() {
    let text = json!({"description": "the same again ".repeat(100_000)}).to_string();
    let packed = pack(&text).expect("it compresses well");
    assert!(packed.len() < 64 << 10 && text.len() > 1 << 20);
    assert_eq!(unpack(&packed).expect("its own"), text);
    assert_eq!(unpack(b"no gzip"), None);
    let mut state = 1_u64;
    let noise: String = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        char::from(b' ' + (state >> 58) as u8)
    })
    .take(2 << 20)
    .collect();
    assert_eq!(pack(&noise), None);
}

#[test]
fn records_of_ended_runs_are_kept_for_a_while_and_not_too_many() {
    let summary = |index: usize, ended_s: Option<u64>| RecordSummary {
        name: format!("record-{index:05}"),
        uid: "u".into(),
        instance: "i".into(),
        accepted_at: Timestamp::EPOCH,
        ended_at: ended_s.map(|s| Timestamp::from_millis(s * 1_000)),
    };
    let hour = Duration::from_secs(3_600);
    let now = Timestamp::EPOCH + Duration::from_secs(10_000);
    let few = [summary(0, None), summary(1, Some(6_399)), summary(2, Some(6_401)), summary(3, Some(6_400))];
    let names = |records: &[RecordSummary]| {
        let deleted = collect(records, now, hour).into_iter();
        deleted.map(|record| record.name.clone()).collect::<Vec<String>>()
    };
    assert_eq!(names(&few), ["record-00003", "record-00001"]);
    let many: Vec<RecordSummary> =
        (0..MAX_ENDED_RECORDS + 3).map(|index| summary(index, Some(7_000 + index as u64))).collect();
    assert_eq!(names(&many), ["record-00002", "record-00001", "record-00000"], "the oldest first");
    let day = Timestamp::EPOCH + Duration::from_secs(24 * 3_600);
    assert_eq!(aged_claims(&few, day).len(), 1);
    assert_eq!(aged_claims(&few, now).len(), 0);
}

#[test]
fn names_of_records_are_valid_and_differ() {
    let names: BTreeMap<String, ()> =
        ["r", "R", "r/1", "ü"].map(|id| (record_name(id), ())).into_iter().collect();
    assert_eq!(names.len(), 4);
    for name in names.keys() {
        assert!(
            name.len() <= 63
                && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        );
    }
}

#[test]
fn a_takeover_whose_answer_was_lost_is_still_known_as_one() {
    let mut server = Server { live: vec!["b"], ..Server::default() };
    server.claim("a", Tenure::None);
    let (mut claim, mut request) = Claim::start(record("r"), claimant("b", Tenure::None));
    let mut is_lost = false;
    let claimed = loop {
        let mut answer = server.answer(&request);
        if matches!(request, ApiCall::UpdateRunRecord(_)) && !std::mem::replace(&mut is_lost, true) {
            answer = Err(ApiError { status: None, ..error(500) });
        }
        match claim.on_answer(answer).expect("the server answers") {
            Step::Call(next) | Step::CallLater(_, next) => request = next,
            Step::Done(claimed) => break *claimed,
        }
    };
    let Claimed::Held { earlier, .. } = claimed else { panic!("{claimed:?}") };
    assert_eq!(earlier.expect("it was a's").host, "a");
}

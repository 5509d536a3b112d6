//! A failing or hostile plugin ends its own run and affects no other.

use crate::forge::{Forge, SCRATCH};
use crate::{load, request, runtime, source};
use paperclip_contract::types::{Event, LogLine, LogLines};
use paperclip_engine::time::Timestamp;
use paperclip_engine::{FaultCause, Guest, GuestFault};
use paperclip_guest::{Instance, Plugin, RUN_FUEL, STEP_FUEL};

const AT: Timestamp = Timestamp::from_millis(1_700_000_000_000);

fn started(forge: &Forge) -> Instance {
    let mut instance = load(forge).instantiate().unwrap();
    instance.start(AT, &request()).unwrap().unwrap();
    instance
}

fn failing_step(body: &str) -> GuestFault {
    started(&Forge::new("test_k8s").body("step", body)).step(AT, &[]).unwrap_err()
}

fn lines(text: String) -> Event {
    Event::LogLines(LogLines { command: 1, first_index: 0, lines: vec![LogLine::Whole(text)] })
}

#[test]
fn a_run_answers_each_of_its_calls() {
    let mut instance = started(&Forge::new("test_k8s"));
    assert_eq!(instance.step(AT, &[Event::HostStopping]), Ok(vec![]));
    assert_eq!(instance.snapshot(), Ok(vec![]));
    assert_eq!(instance.phase(), Ok(String::new()));

    let mut other = instance.plugin().instantiate().unwrap();
    assert_eq!(other.restore(&[1, 2, 3]), Ok(Ok(())));
    assert_eq!(other.step(AT, &[]), Ok(vec![]));
}

#[test]
fn a_run_continues_in_a_fresh_instance_with_less_memory() {
    let grow = "(drop (memory.grow (i32.const 10))) (i32.const 544)";
    let mut instance = started(&Forge::new("test_k8s").body("step", grow));
    let before = instance.usage().memory_bytes;
    instance.step(AT, &[]).unwrap();
    assert_eq!(instance.usage().memory_bytes, before + (10 << 16));
    instance.renew().unwrap();
    assert_eq!(instance.usage().memory_bytes, before);
    assert_eq!(instance.step(AT, &[]), Ok(vec![]));
}

#[test]
fn a_run_keeps_its_instance_if_no_fresh_one_restores_it() {
    let refuses = "(i32.store8 (i32.const 600) (i32.const 1)) (i32.const 600)";
    for restore in [refuses, "(unreachable)"] {
        let grow = "(drop (memory.grow (i32.const 10))) (i32.const 544)";
        let mut instance = started(&Forge::new("test_k8s").body("step", grow).body("restore", restore));
        instance.step(AT, &[]).unwrap();
        let grown = instance.usage().memory_bytes;
        instance.renew().unwrap();
        assert_eq!(instance.usage().memory_bytes, grown);
        assert_eq!(instance.step(AT, &[]), Ok(vec![]));
    }
}

#[test]
fn a_refusal_leaves_the_instance_without_a_run() {
    // err({ code: "", field: none, message: "" })
    let forge =
        Forge::new("test_k8s").body("start", "(i32.store8 (i32.const 600) (i32.const 1)) (i32.const 600)");
    let mut instance = load(&forge).instantiate().unwrap();
    let refusal = instance.start(AT, &request()).unwrap().unwrap_err();
    assert_eq!((refusal.code.as_str(), refusal.field), ("", None));
    let fault = instance.step(AT, &[]).unwrap_err();
    assert_eq!(fault.cause, FaultCause::Contract("no run was started".into()));
}

#[test]
fn a_second_start_is_a_fault() {
    let mut instance = started(&Forge::new("test_k8s"));
    let fault = instance.start(AT, &request()).unwrap_err();
    assert_eq!(fault.cause, FaultCause::Contract("a run was started already".into()));
}

#[test]
fn a_trap_on_start_names_plugin_version_step_and_place() {
    let forge = Forge::new("test_k8s")
        .function("(func $plugin::prompt::render (unreachable))")
        .body("start", "(call $plugin::prompt::render) (unreachable)");
    let plugin = load(&forge);
    let fault = plugin.instantiate().unwrap().start(AT, &request()).unwrap_err();
    assert_eq!(
        fault.to_string(),
        format!(
            "plugin test_k8s 1.2.3 (sha256:{:.12}) failed in start, step 0: it trapped: wasm `unreachable` instruction executed in \
             plugin::prompt::render, called by plugin::start",
            plugin.digest()
        )
    );
}

#[test]
fn reports_the_message_and_location_of_a_panic() {
    let note = "(data (i32.const 65536) \"\\01paperclip panicsrc/run.rs:7:9: no space\\00\")";
    let panics = |note: &str, body: &str| {
        let forge = Forge::new("test_k8s").function(note).body("step", body);
        started(&forge).step(AT, &[]).unwrap_err().cause
    };
    let trapped = "wasm `unreachable` instruction executed in plugin::step";
    assert_eq!(
        panics(note, "(unreachable)"),
        FaultCause::Trap(format!("panic at src/run.rs:7:9: no space ({trapped})"))
    );
    assert_eq!(panics("", "(unreachable)"), FaultCause::Trap(trapped.into()));
}

#[test]
fn a_division_by_zero_and_a_deep_recursion_are_traps() {
    let divided = failing_step("(drop (i32.div_u (i32.const 1) (i32.const 0))) (i32.const 544)");
    assert_eq!(divided.cause, FaultCause::Trap("integer divide by zero in plugin::step".into()));

    let forge = Forge::new("test_k8s")
        .function("(func $plugin::deep (call $plugin::deep))")
        .body("step", "(call $plugin::deep) (i32.const 544)");
    let fault = started(&forge).step(AT, &[]).unwrap_err();
    let FaultCause::Trap(text) = fault.cause else { panic!("{fault}") };
    assert!(text.starts_with("call stack exhausted in plugin::deep"), "{text}");
}

#[test]
fn an_endless_loop_runs_out_of_fuel() {
    // What is dropped costs fuel and no time: a loop that does nothing would take seconds.
    let busy = "(drop (i32.add (i32.const 1) (i32.const 1)))".repeat(1_000);
    let fault = failing_step(&format!("(loop {busy} (br 0)) (i32.const 544)"));
    assert_eq!((fault.call, fault.step), ("step", 1));
    assert_eq!(fault.cause, FaultCause::OutOfFuel { fuel: STEP_FUEL });
}

#[test]
fn endless_copying_runs_out_of_fuel_as_well() {
    let fault = failing_step(
        "(loop (memory.copy (i32.const 0) (i32.const 0) (i32.const 262144)) (br 0)) (i32.const 544)",
    );
    assert_eq!(fault.cause, FaultCause::OutOfFuel { fuel: STEP_FUEL });
}

#[test]
fn a_memory_bomb_ends_at_the_limit() {
    let fault = failing_step("(loop (drop (memory.grow (i32.const 16))) (br 0)) (i32.const 544)");
    assert_eq!(fault.cause, FaultCause::OutOfMemory { limit_bytes: 64 << 20 });
}

#[test]
fn rejects_too_many_commands() {
    let body = format!(
        "(i32.store (i32.const 600) (i32.const {SCRATCH})) (i32.store (i32.const 604) (i32.const 257)) (i32.const 600)"
    );
    let fault = failing_step(&body);
    assert_eq!(fault.cause, FaultCause::OverLimit { what: "commands", found: 257, limit: 256 });
}

#[test]
fn does_not_copy_more_bytes_than_the_output_limit() {
    let body = "(drop (memory.grow (i32.const 640))) (i32.store (i32.const 604) (i32.const 40000000)) (i32.const 600)";
    let mut instance = started(&Forge::new("test_k8s").body("phase", body));
    let fault = instance.phase().unwrap_err();
    let limit = paperclip_engine::limits().max_output_bytes;
    let FaultCause::OverLimit { limit: reported, found, .. } = fault.cause else { panic!("{fault}") };
    assert_eq!((reported, found), (limit, limit + 1));
}

/// A list in which every command is the same few bytes would make the host allocate a multiple of the plugin's memory.
#[test]
fn does_not_build_a_list_beyond_the_output_limit() {
    let body = "(drop (memory.grow (i32.const 900)))
        (i32.store (i32.const 600) (i32.const 1048576)) (i32.store (i32.const 604) (i32.const 600000)) (i32.const 600)";
    let fault = failing_step(body);
    assert!(matches!(fault.cause, FaultCause::OverLimit { .. }), "{fault}");
}

#[test]
fn a_result_that_is_not_a_value_of_its_type_breaks_the_contract() {
    // A string beyond the memory.
    let beyond = "(i32.store (i32.const 600) (i32.const -8)) (i32.store (i32.const 604) (i32.const 100)) (i32.const 600)";
    let fault = started(&Forge::new("test_k8s").body("phase", beyond)).phase().unwrap_err();
    assert!(matches!(fault.cause, FaultCause::Contract(_)), "{fault}");
    // A command without a case of that number.
    let case = format!(
        "(i32.store8 (i32.const {}) (i32.const 250))
         (i32.store (i32.const 600) (i32.const {SCRATCH})) (i32.store (i32.const 604) (i32.const 1)) (i32.const 600)",
        SCRATCH + 8
    );
    let fault = failing_step(&case);
    assert!(matches!(fault.cause, FaultCause::Contract(_)), "{fault}");
}

#[test]
fn a_failed_instance_returns_the_same_fault() {
    let mut instance = started(&Forge::new("test_k8s").body("step", "(unreachable)"));
    let fault = instance.step(AT, &[]).unwrap_err();
    assert_eq!(instance.step(AT, &[]), Err(fault.clone()));
    assert_eq!(instance.snapshot(), Err(fault.clone()));
    assert_eq!(instance.phase(), Err(fault));
}

#[test]
fn a_fault_does_not_affect_other_instances() {
    // It traps in a step that brings events.
    let forge =
        Forge::new("test_k8s").body("step", "(if (local.get 3) (then (unreachable))) (i32.const 544)");
    let plugin = load(&forge);
    let mut runs: Vec<Instance> = (0..3).map(|_| plugin.instantiate().unwrap()).collect();
    for run in &mut runs {
        run.start(AT, &request()).unwrap().unwrap();
    }
    assert!(runs[1].step(AT, &[Event::HostStopping]).is_err());
    assert_eq!(runs[0].step(AT, &[]), Ok(vec![]));
    assert_eq!(runs[2].step(AT, &[]), Ok(vec![]));
}

#[test]
fn reports_a_full_pool_and_reuses_the_place_of_a_dropped_instance() {
    let plugin = load(&Forge::new("test_k8s"));
    let mut instances: Vec<Instance> = (0..8).map(|_| plugin.instantiate().unwrap()).collect();
    let fault = plugin.instantiate().unwrap_err();
    assert_eq!(fault.call, "instantiate");
    assert!(matches!(&fault.cause, FaultCause::NoCapacity(text) if text.contains('8')), "{fault}");
    instances.pop();
    plugin.instantiate().unwrap();
}

/// The largest request and the largest line, copied in and read once by the plugin, byte by byte.
#[test]
fn the_budgets_suffice_for_the_largest_request_and_the_largest_line() {
    const PROMPT_BYTES: usize = 8 << 20;
    let line_bytes = paperclip_engine::limits().max_line_bytes as usize;
    let scan = "(local $at i32) (local $sum i32)
        (loop
            (local.set $sum (i32.add (local.get $sum) (i32.load8_u (local.get $at))))
            (local.set $at (i32.add (local.get $at) (i32.const 1)))
            (br_if 0 (i32.lt_u (local.get $at) (i32.shl (memory.size) (i32.const 16)))))
        (i32.const 544)";
    let forge = Forge::new("test_k8s").body("step", scan);
    let mut instance = load(&forge).instantiate().unwrap();

    let large = paperclip_contract::types::Request { context_json: "p".repeat(PROMPT_BYTES), ..request() };
    instance.start(AT, &large).unwrap().unwrap();
    let at_start = instance.usage();
    assert!(at_start.fuel < RUN_FUEL / 100, "{at_start:?}");
    assert!(at_start.memory_bytes >= PROMPT_BYTES as u64, "{at_start:?}");

    instance.step(AT, &[lines("x".repeat(line_bytes))]).unwrap();
    let stepped = instance.usage();
    assert!(stepped.fuel < STEP_FUEL / 4, "{stepped:?}");
    assert!(stepped.memory_bytes > at_start.memory_bytes, "{stepped:?}");
}

#[test]
fn calls_consume_the_same_fuel_each_time() {
    let bytes = Forge::new("test_k8s").component();
    let fuel = || {
        let plugin = Plugin::load(&runtime(), source(), &bytes).unwrap();
        let mut instance = plugin.instantiate().unwrap();
        instance.start(AT, &request()).unwrap().unwrap();
        instance.step(AT, &[lines("hello".into())]).unwrap();
        instance.usage()
    };
    assert_eq!(fuel(), fuel());
}

//! The pure functions that need no run.

use crate::forge::{Forge, SCRATCH};
use crate::{load, request};
use paperclip_engine::{FaultCause, GuestFault};
use paperclip_guest::Tools;
use std::thread;

fn tools(forge: &Forge) -> Tools {
    Tools::new(load(forge))
}

/// A result of strings that are all the same text, `ok` at 600.
fn forge() -> Forge {
    // ok("ok") or err("ok") by the length of the document; some("ok"); a list of as many "ok" as there are lines.
    let ok = "(i32.store (i32.const 604) (i32.const 700)) (i32.store (i32.const 608) (i32.const 2))
        (i32.store16 (i32.const 700) (i32.const 0x6b6f))";
    let case = |is_one: &str| format!("{ok} (i32.store8 (i32.const 600) {is_one}) (i32.const 600)");
    let list = format!(
        "(local $i i32) {ok}
        (block (loop
            (br_if 1 (i32.eq (local.get $i) (local.get 1)))
            (i64.store (i32.add (i32.const {SCRATCH}) (i32.shl (local.get $i) (i32.const 3))) (i64.load (i32.const 604)))
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br 0)))
        (i32.store (i32.const 608) (local.get $i)) (i32.store (i32.const 604) (i32.const {SCRATCH})) (i32.const 604)"
    );
    Forge::new("test_k8s")
        .body("classify", &case("(i32.eqz (local.get 2))"))
        .body("skills", &case("(i32.eqz (local.get 1))"))
        .body("plan-check", &case("(i32.eqz (local.get 1))"))
        .body("judge-check", &case("(i32.eqz (local.get 1))"))
        .body("manifest", &case("(i32.const 0)"))
        .body("decode-session", &case("(i32.ne (local.get 1) (i32.const 0))"))
        .body("encode-session", &case("(i32.ne (local.get 1) (i32.const 0))"))
        .body("transcript", &list)
}

#[test]
fn each_function_reaches_the_plugin_and_back() {
    let tools = tools(&forge());
    let ok = || "ok".to_owned();
    assert_eq!(tools.describe().unwrap().adapter_type, "test_k8s");
    assert_eq!(tools.manifest(&request()).unwrap().unwrap(), "ok");
    assert_eq!(tools.classify(1, "{}"), Ok(Ok(ok())));
    assert_eq!(tools.classify(1, ""), Ok(Err(ok())));
    assert_eq!(tools.skills("{}"), Ok(Ok(ok())));
    assert_eq!(tools.plan_check("{}"), Ok(Ok(ok())));
    assert_eq!(tools.judge_check(""), Ok(Err(ok())));
    assert_eq!(tools.decode_session("{}"), Ok(Some(ok())));
    assert_eq!(tools.encode_session(""), Ok(None));
    let lines = vec!["a".to_owned(), "b".to_owned(), "c".to_owned()];
    assert_eq!(tools.transcript(&lines, "2026-01-01T00:00:00Z"), Ok(vec![ok(), ok(), ok()]));
}

#[test]
fn a_failed_instance_is_not_reused() {
    // It traps on an empty document, and counts its calls in memory.
    let body = "(if (i32.eqz (local.get 1)) (then (unreachable)))
        (i32.store (i32.const 700) (i32.add (i32.load (i32.const 700)) (i32.const 1)))
        (i32.store (i32.const 604) (i32.const 700)) (i32.store (i32.const 608) (i32.const 1)) (i32.const 600)";
    let tools = tools(&Forge::new("test_k8s").body("skills", body));
    assert_eq!(tools.skills("{}"), Ok(Ok("\u{1}".into())));
    assert_eq!(tools.skills("{}"), Ok(Ok("\u{2}".into())), "the instance is kept");
    let fault = tools.skills("").unwrap_err();
    assert_eq!((fault.call, fault.step), ("skills", 2));
    assert_eq!(tools.skills("{}"), Ok(Ok("\u{1}".into())), "a fresh instance");
}

#[test]
fn an_instance_with_large_memory_is_not_reused() {
    let body = "(i32.store (i32.const 700) (i32.add (i32.load (i32.const 700)) (i32.const 1)))
        (i32.store (i32.const 604) (i32.const 700)) (i32.store (i32.const 608) (i32.const 1)) (i32.const 600)";
    let tools = tools(&Forge::new("test_k8s").body("skills", body));
    assert_eq!(tools.skills(&"x".repeat(9 << 20)), Ok(Ok("\u{1}".into())));
    assert_eq!(tools.skills("{}"), Ok(Ok("\u{1}".into())));
}

#[test]
fn many_threads_call_at_the_same_time() {
    let tools = tools(&forge());
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..50 {
                    assert_eq!(tools.classify(1, "{}"), Ok(Ok("ok".into())));
                }
            });
        }
    });
}

#[test]
fn the_output_limit_applies_to_a_list_that_repeats_one_string() {
    // 100 times the same 1 MiB.
    let body = format!(
        "(local $i i32) (drop (memory.grow (i32.const 16)))
        (loop
            (i32.store (i32.add (i32.const {SCRATCH}) (i32.shl (local.get $i) (i32.const 3))) (i32.const 0))
            (i32.store (i32.add (i32.const {SCRATCH} ) (i32.add (i32.const 4) (i32.shl (local.get $i) (i32.const 3)))) (i32.const 1048576))
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br_if 0 (i32.lt_u (local.get $i) (i32.const 100))))
        (i32.store (i32.const 608) (i32.const 100)) (i32.store (i32.const 604) (i32.const {SCRATCH})) (i32.const 604)"
    );
    let tools = tools(&Forge::new("test_k8s").body("transcript", &body));
    let fault: GuestFault = tools.transcript(&[], "").unwrap_err();
    assert!(matches!(fault.cause, FaultCause::OverLimit { .. }), "{fault}");
}

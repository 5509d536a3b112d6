//! The component, judged by its recorded cases.

use std::env;
use std::process::Command;

#[test]
fn every_recorded_case_is_judged_as_expected() {
    let folder = env!("CARGO_MANIFEST_DIR");
    let component = paperclip_plugin_build::build(folder).unwrap();
    let host = env::var_os("PAPERCLIP_HOST").unwrap_or_else(|| "paperclip-host".into());
    let mut test = Command::new(&host);
    test.current_dir(folder).args(["plugins", "test", "--fixtures", "fixtures"]).arg(&component);
    let status = test.status().expect("paperclip-host is on PATH, or the variable PAPERCLIP_HOST names it");
    assert!(status.success(), "{} with {}", host.display(), component.display());
}

//! Normal tests of the simulation.
use paperclip_simulation::{Case, Plugin, case, fault::Swarm, scenario::Scenario};

#[test]
fn calm() {
    let plugin = Plugin::load().unwrap();
    let o = case::run_scenario(Scenario::calm(), Swarm::default(), 1, &plugin);
    for l in &o.lines { println!("{l}"); }
    println!("{:?}", o.violation);
    let _ = Case::of_seed(1);
}

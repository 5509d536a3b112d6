//! Regions: the parallel parts of a run, each a small state machine whose legal transitions are a table.

use std::fmt;

/// Declares a region: its states, and for each the states that may follow.
///
/// The table is data ([`Region::TABLE`]), so that tests print it and the simulation measures which transitions it has covered.
macro_rules! region {
    (
        $(#[$doc:meta])*
        $name:ident {
            $( $(#[$state_doc:meta])* $state:ident => [ $( $next:ident ),* ] ),+ $(,)?
        }
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
        pub(crate) enum $name {
            $( $(#[$state_doc])* $state ),+
        }

        impl $crate::machine::region::Region for $name {
            const NAME: &'static str = stringify!($name);
            const TABLE: &'static [(Self, &'static [Self])] =
                &[ $( ($name::$state, &[ $( $name::$next ),* ]) ),+ ];

            fn name(self) -> &'static str {
                match self {
                    $( $name::$state => stringify!($state) ),+
                }
            }
        }
    };
}

pub(crate) use region;

/// A region's state.
pub(crate) trait Region: Copy + PartialEq + 'static {
    const NAME: &'static str;
    /// Each state, and the states that may follow it.
    const TABLE: &'static [(Self, &'static [Self])];

    /// The state's name, as snapshots and tables have it.
    fn name(self) -> &'static str;

    /// Changes the state. To keep it is always legal.
    ///
    /// # Errors
    /// The table has no such transition; the state is as before.
    fn transition(&mut self, to: Self) -> Result<(), IllegalTransition> {
        if *self != to && !Self::is_legal(*self, to) {
            return Err(IllegalTransition { region: Self::NAME, from: self.name(), to: to.name() });
        }
        *self = to;
        Ok(())
    }

    /// Whether the table has this transition.
    fn is_legal(from: Self, to: Self) -> bool {
        Self::TABLE.iter().any(|(state, next)| *state == from && next.contains(&to))
    }
}

/// A transition that a region's table does not have: a defect of the plugin, or a host that breaks the contract.
///
/// The run cannot continue from there: what the machine assumes about the cluster is wrong. A plugin turns it into a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IllegalTransition {
    pub region: &'static str,
    pub from: &'static str,
    pub to: &'static str,
}

impl fmt::Display for IllegalTransition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "illegal transition of {}: from {} to {}", self.region, self.from, self.to)
    }
}

impl std::error::Error for IllegalTransition {}

/// Returns a region's table with the names of its states.
pub(super) fn table<R: Region>() -> super::Table {
    let name = |state: &R| state.name().to_owned();
    R::TABLE.iter().map(|(state, next)| (name(state), next.iter().map(name).collect())).collect()
}

/// Prints a region's table, one state a line.
#[cfg(test)]
pub(crate) fn print<R: Region>() -> String {
    let mut text = format!("{}\n", R::NAME);
    for (state, next) in R::TABLE {
        let next: Vec<&str> = next.iter().map(|state| state.name()).collect();
        let next = if next.is_empty() { "(end)".to_owned() } else { next.join(" | ") };
        text.push_str(&format!("  {} -> {next}\n", state.name()));
    }
    text
}

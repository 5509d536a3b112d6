//! Regions: the parallel parts of a run, each a small state machine whose legal moves stand in a table.

/// Declares a region: its states, and for each the states that may follow.
///
/// The table is data ([`Region::TABLE`]), so that tests print it and the simulation measures which moves it has seen.
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
        }
    };
}

pub(crate) use region;

/// A region's state.
pub(crate) trait Region: Copy + PartialEq + std::fmt::Debug + 'static {
    const NAME: &'static str;
    /// Each state, and the states that may follow it.
    const TABLE: &'static [(Self, &'static [Self])];

    /// Moves on. To stay is always legal.
    fn go(&mut self, to: Self) {
        debug_assert!(
            *self == to || Self::may(*self, to),
            "{}: {:?} may not become {:?}",
            Self::NAME,
            *self,
            to
        );
        *self = to;
    }

    /// Whether the table has this move.
    fn may(from: Self, to: Self) -> bool {
        Self::TABLE.iter().any(|(state, next)| *state == from && next.contains(&to))
    }
}

/// A region's table, as text.
pub(super) fn table<R: Region>() -> super::Table {
    let name = |state: &R| format!("{state:?}");
    R::TABLE.iter().map(|(state, next)| (name(state), next.iter().map(name).collect())).collect()
}

/// The table as text: a line a state.
#[cfg(test)]
pub(crate) fn print<R: Region>() -> String {
    let mut text = format!("{}\n", R::NAME);
    for (state, next) in R::TABLE {
        let next: Vec<String> = next.iter().map(|state| format!("{state:?}")).collect();
        text.push_str(&format!(
            "  {state:?} -> {}\n",
            if next.is_empty() { "(end)".to_owned() } else { next.join(" | ") }
        ));
    }
    text
}

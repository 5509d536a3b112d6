//! The form of an agent type beside its documentation.

use paperclip_kit::cli::{Cli, config_fields, doc};

/// Returns the fields of an agent type's form that its documentation does not name.
pub fn unexplained_fields<A: Cli>() -> Vec<String> {
    let doc = doc::<A>();
    let names = config_fields::<A>().into_iter().map(|field| format!("`{}`", field.key));
    names.filter(|name| !doc.contains(name)).collect()
}

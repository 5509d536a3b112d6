//! The members of an agent's events that are never masked, as its plugin names them.

/// The interface that a plugin may export to name them, and its function.
pub(crate) const INTERFACE: &str = "paperclip:agent/masking@0.2.0";
pub(crate) const FUNCTION: &str = "protocol-members";

/// What is assumed of a plugin that names none: the members by which agents' events usually say what they are.
const USUAL: [&str; 8] = ["type", "subtype", "id", "uuid", "session_id", "status", "model", "stop_reason"];
/// Most members, and most bytes of one.
const MAX_MEMBERS: usize = 256;
const MAX_MEMBER_BYTES: usize = 256;

/// Returns the members of a plugin that names these, or none of its own.
///
/// # Errors
/// They are too many, or one is not a path.
pub(crate) fn checked(named: Option<Vec<String>>) -> Result<Vec<String>, String> {
    let Some(named) = named else { return Ok(USUAL.map(str::to_owned).to_vec()) };
    if named.len() > MAX_MEMBERS {
        return Err(format!("it names {} members of its protocol, and may name {MAX_MEMBERS}", named.len()));
    }
    let is_path = |member: &String| {
        member.len() <= MAX_MEMBER_BYTES
            && !member.contains(['"', '\\'])
            && member.split('.').all(|name| !name.is_empty())
    };
    match named.iter().find(|member| !is_path(member)) {
        Some(wrong) => {
            Err(format!("the member {wrong:.80?} of its protocol is not a path such as `message.model`"))
        }
        None => Ok(named),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_that_names_no_members_has_the_usual_ones() {
        assert_eq!(checked(None).expect("usual"), USUAL);
        assert_eq!(checked(Some(Vec::new())).expect("none"), [] as [&str; 0]);
        let named = vec!["type".to_owned(), "message.model".to_owned()];
        assert_eq!(checked(Some(named.clone())).expect("good"), named);
        for wrong in ["", "a..b", ".a", "a\"b"] {
            assert!(checked(Some(vec![wrong.to_owned()])).is_err(), "{wrong}");
        }
        assert!(checked(Some(vec!["a".to_owned(); MAX_MEMBERS + 1])).is_err());
    }
}

//! An event of the stream, with the members that every reader asks for.

use std::borrow::Cow;

use paperclip_kit::json::{pick, some_text};
use paperclip_kit::stream::ReadEvent;
use serde_json::value::RawValue;

/// An event, with the members that every reader asks for.
#[derive(Debug)]
pub struct Event<'a> {
    pub(crate) json: &'a str,
    pub(crate) kind: Cow<'a, str>,
    pub(crate) subtype: Option<&'a RawValue>,
    pub(crate) message: Option<&'a RawValue>,
    pub(crate) session_id: Option<&'a RawValue>,
    pub(crate) parent_tool_use_id: Option<&'a RawValue>,
    pub(crate) is_api_error: Option<&'a RawValue>,
}

impl<'a> ReadEvent<'a> for Event<'a> {
    fn read(json: &'a str) -> Option<Option<Event<'a>>> {
        let names =
            ["type", "subtype", "message", "session_id", "parent_tool_use_id", "is_api_error_message"];
        let [kind, subtype, message, session_id, parent_tool_use_id, is_api_error] = pick(json, &names)?;
        Some(some_text(kind).map(|kind| Event {
            json,
            kind,
            subtype,
            message,
            session_id,
            parent_tool_use_id,
            is_api_error,
        }))
    }

    fn kind(&self) -> &str {
        &self.kind
    }

    fn json(&self) -> &'a str {
        self.json
    }
}

impl Event<'_> {
    pub(crate) fn has_subtype(&self, subtype: &str) -> bool {
        some_text(self.subtype).is_some_and(|known| known == subtype)
    }

    /// Whether it is of the main agent, not of a sub-agent.
    pub(crate) fn is_of_main_agent(&self) -> bool {
        self.parent_tool_use_id.is_none_or(|id| id.get() == "null")
    }
}

//! Reads a few members of a JSON object without building it.
//!
//! A crate of its own, because it is the hot path of a plugin and compiled for speed; the plugins themselves are compiled for size.
//!
//! A line of the stream may hold megabytes of tool output that nobody needs. [`pick`] reads an object once and returns the named
//! members as slices of the line; everything else is skipped. Members of the wrong type count as absent, and of members with the
//! same name the last counts, as in JavaScript.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// Marks where text was left out.
pub const ELLIPSIS: &str = "…";

/// Returns the start of `text`, at most `max_bytes` long with the mark of the cut.
pub fn head(text: &str, max_bytes: usize) -> Cow<'_, str> {
    if text.len() <= max_bytes {
        return Cow::Borrowed(text);
    }
    let end = text.floor_char_boundary(max_bytes.saturating_sub(ELLIPSIS.len()));
    Cow::Owned(format!("{}{ELLIPSIS}", &text[..end]))
}

/// Returns the members called `names` of the object `json`, each as its text; `None` if `json` is not one whole object.
///
/// ```
/// let [kind, size] = paperclip_json::pick(r#"{"type": "user", "size": 5}"#, &["type", "size"]).unwrap();
/// assert_eq!(paperclip_json::text(kind).unwrap(), "user");
/// assert_eq!(paperclip_json::number(size), Some(5.0));
/// ```
pub fn pick<'a, const N: usize>(json: &'a str, names: &[&str; N]) -> Option<[Option<&'a RawValue>; N]> {
    let mut members = [None; N];
    read_members(json, names, &mut members).then_some(members)
}

/// Does the same for an object that was cut: the members that end before the cut.
pub fn pick_from_cut<'a, const N: usize>(json: &'a str, names: &[&str; N]) -> [Option<&'a RawValue>; N] {
    let mut members = [None; N];
    // The object's end is missing, so this always fails; what was read before counts.
    let _ = read_members(json, names, &mut members);
    members
}

/// Reads an object's members and returns whether it is one whole object. Not generic, so that it is compiled here.
#[inline(never)]
fn read_members<'a>(json: &'a str, names: &[&str], members: &mut [Option<&'a RawValue>]) -> bool {
    let mut parser = serde_json::Deserializer::from_str(json);
    parser.deserialize_map(Members { names, members }).is_ok() && parser.end().is_ok()
}

/// The longest JSON of a text with escapes that is read whole, in bytes. Of a longer one the start is read: a line may have 16 MiB, and a
/// plugin's memory must hold the line and a copy of what is unescaped.
pub const MAX_ESCAPED_BYTES: usize = 4 << 20;

/// Returns a member's text, if it is a string. Of one with escapes, the first [`MAX_ESCAPED_BYTES`] of its JSON are read.
pub fn text(member: Option<&RawValue>) -> Option<Cow<'_, str>> {
    let json = member?.get();
    let inner = json.strip_prefix('"')?.strip_suffix('"')?;
    if !inner.contains('\\') {
        return Some(Cow::Borrowed(inner));
    }
    let start = inner.len().gt(&MAX_ESCAPED_BYTES).then(|| ["\"", start_of_text(inner), "\""].concat());
    let text = unescape(start.as_deref().unwrap_or(json))?;
    Some(Cow::Owned(text))
}

fn unescape(json: &str) -> Option<String> {
    let text = serde_json::from_str(json).or_else(|_| serde_json::from_str(&without_lone_surrogates(json)));
    text.ok()
}

/// Returns the first bytes of a string's JSON, without an escape that is cut.
fn start_of_text(inner: &str) -> &str {
    let start = &inner[..inner.floor_char_boundary(MAX_ESCAPED_BYTES)];
    // The last backslash starts an escape if it is not escaped itself.
    let Some(last) = start.rfind('\\') else { return start };
    let is_escaped = start[..last].bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1;
    let escape_bytes = if start[last + 1..].starts_with('u') { "\\uFFFF".len() } else { "\\n".len() };
    if is_escaped || last + escape_bytes <= start.len() { start } else { &start[..last] }
}

/// Returns a member's text, if it is a string that is not empty.
pub fn some_text(member: Option<&RawValue>) -> Option<Cow<'_, str>> {
    text(member).filter(|text| !text.is_empty())
}

/// Returns a member's value, if it is a finite number.
pub fn number(member: Option<&RawValue>) -> Option<f64> {
    let json = member?.get();
    let is_number = json.starts_with(|c: char| c == '-' || c.is_ascii_digit());
    json.parse().ok().filter(|value: &f64| is_number && value.is_finite())
}

/// Returns a member's value as a count; what is negative or not a number is 0.
pub fn count(member: Option<&RawValue>) -> u64 {
    // `as` saturates: everything larger is the largest count.
    number(member).unwrap_or(0.0) as u64
}

/// Returns whether a member is `true`.
pub fn is_true(member: Option<&RawValue>) -> bool {
    member.is_some_and(|json| json.get() == "true")
}

/// Returns whether a member is `null`.
pub fn is_null(member: Option<&RawValue>) -> bool {
    member.is_some_and(|json| json.get() == "null")
}

/// How many elements of a list, or members of an object, are read: far more than an event of the CLI has. Each costs
/// a parser of its own, and a line of a few megabytes could hold millions.
pub const ELEMENTS: usize = 10_000;

/// Calls `each` for the first [`ELEMENTS`] elements, if the member is an array. Returns whether there are more.
pub fn for_each_element<'a>(member: Option<&'a RawValue>, mut each: impl FnMut(&'a RawValue)) -> bool {
    member.is_some_and(|json| for_each_of(json, ELEMENTS, &mut each))
}

/// Calls `each` for the first `max` elements, if `json` is an array. Returns whether there are more.
///
/// `each` is a trait object, because a parser of its own for each caller would make the plugin a tenth larger.
#[inline(never)]
pub fn for_each_of<'a>(json: &'a RawValue, max: usize, each: &mut dyn FnMut(&'a RawValue)) -> bool {
    let mut has_more = false;
    let elements = Elements { each, left: max, has_more: &mut has_more };
    // It was parsed as JSON before: the only errors are that it is not an array, or that it was not read to its end.
    let _ = serde_json::Deserializer::from_str(json.get()).deserialize_seq(elements);
    has_more
}

/// Calls `each` for the values of the first [`ELEMENTS`] members, if the member is an object.
pub fn for_each_member<'a>(member: Option<&'a RawValue>, mut each: impl FnMut(&'a RawValue)) {
    if let Some(json) = member {
        for_each_value(json, &mut each);
    }
}

#[inline(never)]
fn for_each_value<'a>(json: &'a RawValue, each: &mut dyn FnMut(&'a RawValue)) {
    let elements = Elements { each, left: ELEMENTS, has_more: &mut false };
    let _ = serde_json::Deserializer::from_str(json.get()).deserialize_map(elements);
}

/// Returns the members of an object as trees, without those that are larger than `max_bytes`, nested too deeply for a tree or
/// out of a number's range. A longer text is cut. A tree takes far more memory than its JSON, so trees are built here only.
pub fn small_members(json: &str, max_bytes: usize) -> Map<String, Value> {
    let mut members = Map::new();
    let mut parser = serde_json::Deserializer::from_str(json);
    // What was read before an error counts.
    let _ = parser.deserialize_map(SmallMembers { members: &mut members, max_bytes });
    members
}

fn small_tree(member: &RawValue, max_bytes: usize) -> Option<Value> {
    if member.get().len() > max_bytes {
        return text(Some(member)).map(|text| head(&text, max_bytes).into());
    }
    let json = portable(member);
    serde_json::from_str(json.get()).ok()
}

/// Returns a member as JSON that every reader accepts, so without lone surrogates.
pub fn portable(member: &RawValue) -> Cow<'_, RawValue> {
    let json = member.get();
    if json.contains("\\ud") || json.contains("\\uD") {
        RawValue::from_string(without_lone_surrogates(json)).map_or(Cow::Borrowed(member), Cow::Owned)
    } else {
        Cow::Borrowed(member)
    }
}

/// JavaScript writes a lone surrogate as an escape; Rust has no text for it, so it becomes the replacement character.
fn without_lone_surrogates(json: &str) -> String {
    let mut clean = String::with_capacity(json.len());
    let mut rest = json;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        clean.push_str(before);
        let length = match surrogate(escape) {
            Some(Surrogate::Pair) => 12,
            Some(Surrogate::Lone) => {
                clean.push_str("\\ufffd");
                rest = &escape[6..];
                continue;
            }
            None => escape.chars().take(2).map(char::len_utf8).sum(),
        };
        clean.push_str(&escape[..length]);
        rest = &escape[length..];
    }
    clean.push_str(rest);
    clean
}

enum Surrogate {
    Pair,
    Lone,
}

/// What `escape` starts with, if it is the escape of a surrogate.
fn surrogate(escape: &str) -> Option<Surrogate> {
    let first = unicode_escape(escape)?;
    match first {
        0xd800..0xdc00 => match escape.get(6..).and_then(unicode_escape) {
            Some(0xdc00..0xe000) => Some(Surrogate::Pair),
            Some(_) | None => Some(Surrogate::Lone),
        },
        0xdc00..0xe000 => Some(Surrogate::Lone),
        _ => None,
    }
}

fn unicode_escape(text: &str) -> Option<u16> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    u16::from_str_radix(digits, 16).ok()
}

struct Members<'n, 'm, 'de> {
    names: &'n [&'n str],
    members: &'m mut [Option<&'de RawValue>],
}

impl<'de> Visitor<'de> for Members<'_, '_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(index) = map.next_key_seed(Name(self.names))? {
            match index {
                Some(index) => self.members[index] = Some(map.next_value()?),
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// A member's name, read as its index among the requested ones.
struct Name<'n>(&'n [&'n str]);

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().position(|requested| *requested == name))
    }
}

/// An event has fewer members.
const MEMBERS: usize = 1024;

struct SmallMembers<'m> {
    members: &'m mut Map<String, Value>,
    max_bytes: usize,
}

impl<'de> Visitor<'de> for SmallMembers<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while self.members.len() < MEMBERS
            && let Some((name, member)) = map.next_entry::<String, &RawValue>()?
        {
            if let Some(tree) = small_tree(member, self.max_bytes) {
                self.members.insert(name, tree);
            }
        }
        Ok(())
    }
}

struct Elements<'m, 'de> {
    each: &'m mut dyn FnMut(&'de RawValue),
    left: usize,
    has_more: &'m mut bool,
}

impl<'de> Visitor<'de> for Elements<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array or an object")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut elements: A) -> Result<(), A::Error> {
        while let Some(element) = elements.next_element()? {
            if self.left == 0 {
                *self.has_more = true;
                return Ok(());
            }
            self.left -= 1;
            (self.each)(element);
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut members: A) -> Result<(), A::Error> {
        while self.left > 0 && members.next_key::<IgnoredAny>()?.is_some() {
            self.left -= 1;
            (self.each)(members.next_value()?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_members_wherever_they_are() {
        let [kind, name] =
            pick(r#"{"x":{"type":"inner"},"name":"n","type":"t"}"#, &["type", "name"]).unwrap();
        assert_eq!(text(kind).unwrap(), "t");
        assert_eq!(text(name).unwrap(), "n");
    }

    #[test]
    fn a_number_may_be_negative_and_is_not_text() {
        let [count, cost, text] = pick(r#"{"a":7,"b":-0.5,"c":"7"}"#, &["a", "b", "c"]).unwrap();
        assert_eq!([count, cost, text].map(number), [Some(7.0), Some(-0.5), None]);
    }

    #[test]
    fn of_a_huge_text_with_escapes_the_start_is_read() {
        for (what, unit, shown) in [
            ("line feeds", r"\n", "\n"),
            ("quotes", r#"ab\""#, "ab\""),
            ("backslashes", r"\\", "\\"),
            ("code points", r"\u00e9", "é"),
            ("pairs", r"\ud83d\ude00", "😀"),
        ] {
            for shift in 0..12 {
                let json = format!(
                    r#"{{"a":"{}{}"}}"#,
                    "x".repeat(shift),
                    unit.repeat((MAX_ESCAPED_BYTES + 64) / unit.len())
                );
                let [member] = pick(&json, &["a"]).unwrap();
                let read = text(member).unwrap_or_else(|| panic!("{what} after {shift}"));
                let units = MAX_ESCAPED_BYTES / unit.len() - 3;
                assert!(
                    read.starts_with(&"x".repeat(shift)) && read.len() >= units * shown.len(),
                    "{what} after {shift}"
                );
                let end = read.trim_end_matches('\u{fffd}').trim_end_matches('a').trim_end_matches("ab");
                assert!(end.ends_with(shown), "{what} after {shift}");
            }
        }
    }

    #[test]
    fn of_equal_names_the_last_counts() {
        let [kind] = pick(r#"{"type":"a","type":"b"}"#, &["type"]).unwrap();
        assert_eq!(text(kind).unwrap(), "b");
    }

    #[test]
    fn is_none_if_not_one_whole_object() {
        for json in ["", "{", "[]", "1", "null", "{\"a\":1}x", "{\"a\":1}{\"b\":2}", "{\"a\":\"\u{1}\"}"] {
            assert!(pick(json, &["a"]).is_none(), "{json:?}");
        }
    }

    #[test]
    fn finds_the_whole_members_of_a_cut_object() {
        let [kind, message] =
            pick_from_cut(r#"{"type":"user","message":{"content":"abc"#, &["type", "message"]);
        assert_eq!(text(kind).unwrap(), "user");
        assert!(message.is_none());
        assert!(pick_from_cut("", &["type"])[0].is_none());
    }

    #[test]
    fn a_member_of_the_wrong_type_is_absent() {
        let [a, b, c] = pick(r#"{"a":5,"b":"7","c":1e999}"#, &["a", "b", "c"]).unwrap();
        assert_eq!((text(a), number(a), count(a)), (None, Some(5.0), 5));
        assert_eq!((number(b), count(b)), (None, 0));
        assert_eq!(number(c), None);
    }

    #[test]
    fn replaces_lone_surrogates() {
        let json = r#"{"t":"a\ud83d\\ud83d \ud83d\ude00 \udc00\"z"}"#;
        let [t] = pick(json, &["t"]).unwrap();
        assert_eq!(text(t).unwrap(), "a\u{fffd}\\ud83d 😀 \u{fffd}\"z");
        assert_eq!(small_members(json, 100)["t"], "a\u{fffd}\\ud83d 😀 \u{fffd}\"z");
        assert_eq!(portable(t.unwrap()).get(), r#""a\ufffd\\ud83d \ud83d\ude00 \ufffd\"z""#);
        assert_eq!(without_lone_surrogates("\\"), "\\");
        assert_eq!(without_lone_surrogates("\\u12"), "\\u12");
    }

    #[test]
    fn skips_nesting_without_a_limit() {
        let deep = format!("{{\"x\":{}1{},\"type\":\"t\"}}", "[".repeat(100_000), "]".repeat(100_000));
        let [kind] = pick(&deep, &["type"]).unwrap();
        assert_eq!(text(kind).unwrap(), "t");
        assert_eq!(small_members(&deep, usize::MAX).len(), 1);
    }

    #[test]
    fn builds_trees_of_small_members_only() {
        let json =
            format!(r#"{{"a":1,"big":[{}1],"text":"{}","n":1e999}}"#, "1,".repeat(1000), "x".repeat(1000));
        let members = small_members(&json, 100);
        assert_eq!(members.keys().collect::<Vec<_>>(), ["a", "text"]);
        assert_eq!(members["text"].as_str().unwrap().len(), 100);
        let many: Vec<_> = (0..5000).map(|n| format!("\"{n}\":{n}")).collect();
        assert_eq!(small_members(&format!("{{{}}}", many.join(",")), 100).len(), MEMBERS);
    }

    #[test]
    fn visits_elements_and_members_in_order() {
        let [list, map, none] =
            pick(r#"{"l":[1,"a",{}],"m":{"x":1,"y":2},"n":3}"#, &["l", "m", "n"]).unwrap();
        let mut seen = Vec::new();
        assert!(!for_each_element(list, |json| seen.push(json.get())));
        for_each_member(map, |json| seen.push(json.get()));
        assert!(!for_each_element(none, |json| seen.push(json.get())));
        for_each_member(none, |json| seen.push(json.get()));
        assert_eq!(seen, ["1", "\"a\"", "{}", "1", "2"]);
    }

    #[test]
    fn visits_a_limited_number_of_elements() {
        for (count, visited, has_more) in
            [(ELEMENTS, ELEMENTS, false), (ELEMENTS + 1, ELEMENTS, true), (3 * ELEMENTS, ELEMENTS, true)]
        {
            let list = RawValue::from_string(format!("[{}0]", "0,".repeat(count - 1))).unwrap();
            let map = RawValue::from_string(format!("{{{}\"z\":0}}", "\"a\":0,".repeat(count - 1))).unwrap();
            let (mut elements, mut members) = (0, 0);
            assert_eq!(for_each_element(Some(&list), |_| elements += 1), has_more);
            for_each_member(Some(&map), |_| members += 1);
            assert_eq!((elements, members), (visited, visited));
        }
    }
}

//! Text that stays within a bound, whatever an agent prints.

use std::borrow::Cow;

use paperclip_json::ELLIPSIS;
pub use paperclip_json::head;
use serde::Serialize;
use serde_json::{Map, Value};

use super::escapes::without_escapes;

/// Returns the end of `text`, at most `max_bytes` long with the mark of the cut.
pub fn tail(text: &str, max_bytes: usize) -> Cow<'_, str> {
    if text.len() <= max_bytes {
        return Cow::Borrowed(text);
    }
    let kept = max_bytes.saturating_sub(ELLIPSIS.len());
    let start = text.ceil_char_boundary(text.len() - kept);
    Cow::Owned(format!("{ELLIPSIS}{}", &text[start..]))
}

/// Returns `text` with every NUL replaced: the server's database cannot store one.
pub fn without_nul(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', "\u{fffd}")) } else { Cow::Borrowed(text) }
}

/// Returns one line for a message: without escape sequences and other control characters, trimmed, at most `max_bytes`.
pub fn printable(line: &str, max_bytes: usize) -> String {
    let line = without_escapes(line);
    let mut text = String::with_capacity(line.len().min(max_bytes));
    for c in line.chars() {
        text.push(if c.is_control() { ' ' } else { c });
        if text.len() > max_bytes {
            break;
        }
    }
    head(text.trim(), max_bytes).into_owned()
}

/// Returns [`printable`] text of at most `max_chars` characters and, if it was cut, an ellipsis.
pub fn quoted(line: &str, max_chars: usize) -> String {
    // A character has at most four bytes, so that what is cut here is cut below.
    let text = printable(line, 4 * max_chars + ELLIPSIS.len());
    match text.char_indices().nth(max_chars) {
        Some((end, _)) => format!("{}{ELLIPSIS}", &text[..end]),
        None => text,
    }
}

/// Formats milliseconds since 1970 as JavaScript's `toISOString` does; `None` before 1970 and after the year 9999.
///
/// jiff's own printer would make the plugin a tenth larger.
pub fn iso_time(unix_ms: i64) -> Option<String> {
    let time = jiff::Timestamp::from_millisecond(unix_ms).ok().filter(|_| unix_ms >= 0)?;
    let at = jiff::tz::Offset::UTC.to_datetime(time);
    let (year, month, day, millisecond) = (at.year(), at.month(), at.day(), at.millisecond());
    let (hour, minute, second) = (at.hour(), at.minute(), at.second());
    Some(format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millisecond:03}Z"))
}

/// The name under which [`bounded_object`] lists what it left out.
const OMITTED: &str = "omittedFields";
/// How many names are listed there, and how long one may be.
const OMITTED_NAMES: usize = 16;
const OMITTED_NAME_BYTES: usize = 64;
/// Escaped, one byte of text becomes at most six of JSON.
const ESCAPED_BYTES: usize = 6;
/// How much of an object's JSON that list takes at most.
const OMITTED_BYTES: usize = OMITTED_NAMES * (OMITTED_NAME_BYTES * ESCAPED_BYTES + 3) + OMITTED.len() + 8;

/// Returns `object` without NUL characters and with at most `max_bytes` of JSON: small members are kept first, a text that does
/// not fit loses its end, and any other member that does not fit is left out and named in `omittedFields`.
pub fn bounded_object(mut object: Map<String, Value>, max_bytes: usize) -> Map<String, Value> {
    for value in object.values_mut() {
        strip_nul(value);
    }
    let mut sizes: Vec<(usize, String)> =
        object.iter().map(|(name, value)| (json_bytes(value) + json_bytes(name) + 2, name.clone())).collect();
    if sizes.iter().map(|(size, _)| size).sum::<usize>() + 2 <= max_bytes {
        return object;
    }
    sizes.sort_unstable();
    let mut left = max_bytes.saturating_sub(OMITTED_BYTES);
    let mut kept = Map::new();
    let mut omitted = Vec::new();
    for (size, name) in sizes {
        let Some(value) = object.remove(&name) else { continue };
        let frame = json_bytes(&name) + 4;
        match value {
            value if size <= left => {
                left -= size;
                kept.insert(name, value);
            }
            Value::String(text) if frame + ESCAPED_BYTES * ELLIPSIS.len() < left => {
                let text = head(&text, (left - frame) / ESCAPED_BYTES).into_owned();
                left -= (frame + json_bytes(&text)).min(left);
                kept.insert(name, Value::String(text));
            }
            _ => omitted.push(name),
        }
    }
    omitted.truncate(OMITTED_NAMES);
    if !omitted.is_empty() {
        let names = omitted.iter().map(|name| Value::from(&*head(name, OMITTED_NAME_BYTES)));
        kept.insert(OMITTED.to_owned(), names.collect());
    }
    kept
}

fn strip_nul(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Cow::Owned(clean) = without_nul(text) {
                *text = clean;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(strip_nul),
        Value::Object(members) => {
            if members.keys().any(|name| name.contains('\0')) {
                *members = std::mem::take(members)
                    .into_iter()
                    .map(|(name, value)| (without_nul(&name).into_owned(), value))
                    .collect();
            }
            members.values_mut().for_each(strip_nul);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn json_bytes<T: Serialize + ?Sized>(value: &T) -> usize {
    serde_json::to_string(value).map_or(0, |text| text.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_cut_is_marked_and_falls_between_characters() {
        assert_eq!(head("naïve", 5), "na…");
        assert_eq!(head("naïve", 6), "naïve");
        assert_eq!(tail("café au lait", 8), "… lait");
        assert_eq!(tail("☕☕☕", 8), "…☕");
    }

    #[test]
    fn a_quoted_line_has_neither_colours_nor_control_characters() {
        assert_eq!(printable("\u{1b}[31mError:\u{1b}[0m no\u{7} such\tfile\r", 100), "Error: no  such file");
        assert_eq!(printable("\u{1b}[31", 100), "");
        assert_eq!(printable(&"x".repeat(10), 10), "xxxxxxxxxx");
        assert_eq!(printable(&"x".repeat(11), 10), "xxxxxxx…");
        assert_eq!(printable(&"x".repeat(300), 10), "xxxxxxx…");
    }

    #[test]
    fn a_quotation_is_cut_by_characters() {
        assert_eq!(quoted(" é é\n", 3), "é é");
        assert_eq!(quoted("é é é", 3), "é é…");
        assert_eq!(quoted(&"😀".repeat(10_000), 200), format!("{}…", "😀".repeat(200)));
    }

    #[test]
    fn times_are_written_as_javascript_writes_them() {
        assert_eq!(iso_time(1_780_000_000_000).as_deref(), Some("2026-05-28T20:26:40.000Z"));
        assert_eq!(iso_time(1_780_000_000_042).as_deref(), Some("2026-05-28T20:26:40.042Z"));
        assert_eq!(iso_time(i64::MAX), None);
    }

    #[test]
    fn an_object_within_the_bound_is_only_cleaned() {
        let Value::Object(object) = json!({"a\0": [{"b\0": "c\0d"}], "n": 1}) else { unreachable!() };
        let kept = bounded_object(object, 1000);
        assert_eq!(Value::Object(kept), json!({"a\0": [{"b\u{fffd}": "c\u{fffd}d"}], "n": 1}));
    }

    #[test]
    fn a_long_text_is_shortened_and_a_large_list_is_named() {
        let list: Vec<u32> = (0..50_000).collect();
        let Value::Object(object) =
            json!({"result": "x".repeat(100_000), "list": list, "subtype": "success"})
        else {
            unreachable!()
        };
        let kept = bounded_object(object, 20_000);
        assert_eq!(kept["subtype"], "success");
        assert!(kept["result"].as_str().unwrap().ends_with('…'));
        assert_eq!(kept["omittedFields"], json!(["list"]));
        assert!(json_bytes(&kept) <= 20_000);
    }

    #[test]
    fn an_object_may_fill_its_bound() {
        let Value::Object(object) = json!({"list": [1, 2, 3], "text": "x".repeat(7000)}) else {
            unreachable!()
        };
        let size = json_bytes(&object);
        assert_eq!(bounded_object(object.clone(), size + 1), object);
        assert_ne!(bounded_object(object.clone(), size - 1), object);
    }

    #[test]
    fn small_members_use_all_the_space_that_the_names_of_the_others_leave() {
        let max_bytes = 10_000;
        // As JSON, a digit and a comma each, but for the brackets and the last comma; then the name and what parts members.
        let digits = |bytes: usize| Value::from(vec![1; (bytes - 1) / 2]);
        let filler = |name: &str, bytes: usize| (name.to_owned(), digits(bytes - name.len() - 4));
        let [first, second] = [1001, max_bytes - OMITTED_BYTES - 1001].map(|bytes| bytes - bytes % 2);
        let mut object = Map::from_iter([filler("first", first), filler("second", second)]);
        // The longest names, and more of them than are listed.
        let large = digits(8000);
        object
            .extend(('\u{e}'..='\u{1f}').map(|c| (c.to_string().repeat(OMITTED_NAME_BYTES), large.clone())));
        let kept = bounded_object(object, max_bytes);
        assert_eq!(kept.keys().collect::<Vec<_>>(), ["first", "second", OMITTED]);
        assert_eq!(kept[OMITTED].as_array().unwrap().len(), OMITTED_NAMES);
        assert!((max_bytes - 5..=max_bytes).contains(&json_bytes(&kept)), "{}", json_bytes(&kept));
    }

    #[test]
    fn a_text_keeps_as_much_as_fits_if_all_of_it_were_escaped() {
        let cut = |max_bytes: usize| {
            let Value::Object(object) = json!({"text": "x".repeat(100_000)}) else { unreachable!() };
            bounded_object(object, max_bytes)
        };
        let frame = "\"text\":\"\",".len();
        let bytes_for = |bytes: usize| OMITTED_BYTES + frame + ESCAPED_BYTES * bytes;
        assert_eq!(cut(bytes_for(10))["text"], "xxxxxxx…");
        assert_eq!(cut(bytes_for(4))["text"], "x…");
        // What the first text does not need, the second may use.
        let max_bytes = 14_000;
        let texts: Map<_, _> =
            ["a", "b"].map(|name| (name.to_owned(), Value::from("x".repeat(100_000)))).into_iter().collect();
        let kept = bounded_object(texts, max_bytes);
        let frame = "\"a\":\"\",".len();
        let capacity = max_bytes - OMITTED_BYTES;
        let first = (capacity - frame) / ESCAPED_BYTES;
        let second = (capacity - frame - (first + 2) - frame) / ESCAPED_BYTES;
        let lengths = ["a", "b"].map(|name| kept[name].as_str().unwrap().len());
        assert_eq!(lengths, [first, second]);
        // Nothing but the mark would be left.
        assert_eq!(cut(bytes_for(3)), Map::from_iter([(OMITTED.to_owned(), json!(["text"]))]));
    }

    proptest! {
        #[test]
        fn bounds_hold_for_any_text(text in "\\PC{0,200}", max in 3_usize..100) {
            prop_assert!(head(&text, max).len() <= max);
            prop_assert!(tail(&text, max).len() <= max);
            prop_assert!(printable(&text, max).len() <= max);
        }

        #[test]
        fn bounds_hold_for_any_object(
            members in proptest::collection::btree_map("[a-z\0\"]{0,9}", "[\0-~]{0,4000}", 0..40),
            max in 8000_usize..16_000,
        ) {
            let object = members.into_iter().map(|(name, text)| (name, Value::String(text))).collect();
            prop_assert!(json_bytes(&bounded_object(object, max)) <= max);
        }
    }
}

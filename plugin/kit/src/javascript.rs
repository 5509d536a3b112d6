//! JavaScript's conversions of values, where Paperclip and its prompts depend on them.

use serde_json::{Number, Value};

/// The largest integer up to which all are exact in JavaScript: `Number.MAX_SAFE_INTEGER`.
const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;

/// Returns `text.trim()`.
pub fn trim(text: &str) -> &str {
    text.trim_matches(is_white_space)
}

/// Whether `\s` matches this character and `trim` removes it: ECMAScript's WhiteSpace and LineTerminator.
pub fn is_white_space(c: char) -> bool {
    matches!(
        c,
        '\t' | '\n' | '\u{b}' | '\u{c}' | '\r' | ' ' | '\u{a0}' | '\u{1680}' | '\u{2000}'
            ..='\u{200a}' | '\u{2028}' | '\u{2029}' | '\u{202f}' | '\u{205f}' | '\u{3000}' | '\u{feff}'
    )
}

/// Returns `text.length`: the number of UTF-16 code units.
pub fn length(text: &str) -> usize {
    text.encode_utf16().count()
}

/// Returns `String(number)`.
///
/// ```
/// use paperclip_kit::javascript::number_text;
///
/// assert_eq!(number_text(&serde_json::from_str("1.0").unwrap()), "1");
/// ```
pub fn number_text(number: &Number) -> String {
    if let Some(whole) = number.as_i64().filter(|whole| whole.unsigned_abs() <= MAX_SAFE_INTEGER) {
        return whole.to_string();
    }
    number.as_f64().map_or_else(|| number.to_string(), float_text)
}

/// Returns `JSON.stringify(value)`.
pub fn json_text(value: &Value) -> String {
    let mut text = String::new();
    write_json(value, &mut text);
    text
}

fn write_json(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(is_true) => out.push_str(if *is_true { "true" } else { "false" }),
        Value::Number(number) => out.push_str(&number_text(number)),
        Value::String(text) => out.push_str(&Value::from(text.as_str()).to_string()),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_json(item, out);
            }
            out.push(']');
        }
        Value::Object(entries) => {
            out.push('{');
            for (index, (key, item)) in entries.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push(':');
                write_json(item, out);
            }
            out.push('}');
        }
    }
}

/// Returns ECMAScript's Number::toString, from the shortest digits that parse to the same number.
fn float_text(number: f64) -> String {
    if number == 0.0 {
        return "0".into();
    }
    let sign = if number < 0.0 { "-" } else { "" };
    let scientific = format!("{:e}", number.abs());
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let digits = mantissa.replace('.', "");
    let exponent: i32 = exponent.parse().unwrap_or(0);
    // The decimal point follows this many digits.
    let point = exponent + 1;
    let count = i32::try_from(digits.len()).unwrap_or(i32::MAX);
    let zeros = |count: i32| "0".repeat(usize::try_from(count).unwrap_or(0));
    let body = if (count..=21).contains(&point) {
        format!("{digits}{}", zeros(point - count))
    } else if (1..=21).contains(&point) {
        let (whole, fraction) = digits.split_at(usize::try_from(point).unwrap_or(0));
        format!("{whole}.{fraction}")
    } else if (-5..=0).contains(&point) {
        format!("0.{}{digits}", zeros(-point))
    } else {
        let exponent_sign = if exponent < 0 { '-' } else { '+' };
        format!("{mantissa}e{exponent_sign}{}", exponent.abs())
    };
    format!("{sign}{body}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stringified(json: &str) -> String {
        json_text(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn writes_numbers_as_javascript_does() {
        // Each right side is the result of `JSON.stringify(JSON.parse(left))`.
        for (json, expected) in [
            ("0", "0"),
            ("-0.0", "0"),
            ("1.0", "1"),
            ("-2.50", "-2.5"),
            ("1e3", "1000"),
            ("1e21", "1e+21"),
            ("123456789012345680000", "123456789012345680000"),
            ("1234567890123456789012", "1.2345678901234568e+21"),
            ("9007199254740993", "9007199254740992"),
            ("18446744073709551615", "18446744073709552000"),
            ("0.000001", "0.000001"),
            ("0.0000001", "1e-7"),
            ("1.5e-9", "1.5e-9"),
            ("0.1", "0.1"),
            ("100.25", "100.25"),
        ] {
            assert_eq!(stringified(json), expected, "{json}");
        }
    }

    #[test]
    fn keeps_the_order_of_objects_and_escapes_texts() {
        let json = r#"{"z":1,"a":[true,null,"\"\\\n\u0001é\u2028"],"m":{}}"#;
        assert_eq!(stringified(json), "{\"z\":1,\"a\":[true,null,\"\\\"\\\\\\n\\u0001é\u{2028}\"],\"m\":{}}");
    }

    #[test]
    fn trim_removes_a_byte_order_mark_and_keeps_a_next_line() {
        assert_eq!(trim("\u{feff} \u{3000}x\u{85}\n"), "x\u{85}");
    }

    #[test]
    fn length_counts_surrogates() {
        assert_eq!(length("a😀é"), 4);
    }
}

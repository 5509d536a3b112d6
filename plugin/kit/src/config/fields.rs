//! Reads values of an agent's config as Paperclip's adapters do: a value of the wrong type counts as absent and causes a
//! warning.

use serde_json::{Map, Value};

use crate::javascript::trim;
use crate::refusal::Refusal;

/// A config, with the warnings about it.
///
/// ```
/// use paperclip_kit::config::fields::Fields;
/// use serde_json::json;
///
/// let config = json!({"model": "opus", "retainJobs": "yes"});
/// let mut fields = Fields::new(config.as_object().unwrap());
/// assert_eq!(fields.text("model").unwrap(), Some("opus"));
/// assert!(!fields.flag("retainJobs", false));
/// assert_eq!(fields.into_notes().0.len(), 1);
/// ```
#[derive(Debug)]
pub struct Fields<'a> {
    map: &'a Map<String, Value>,
    warnings: Vec<String>,
    /// The keys and prefixes that were read, whether the config has them or not.
    read: Vec<String>,
}

impl<'a> Fields<'a> {
    /// Wraps a config.
    pub fn new(map: &'a Map<String, Value>) -> Fields<'a> {
        Fields { map, warnings: Vec::new(), read: Vec::new() }
    }

    /// Returns a value of any type; null counts as absent.
    pub fn value(&mut self, key: &str) -> Option<&'a Value> {
        self.read.push(key.to_owned());
        self.map.get(key).filter(|value| !value.is_null())
    }

    /// Returns the fields whose keys start with a prefix, without it; null counts as absent.
    pub fn with_prefix(&mut self, prefix: &'static str) -> impl Iterator<Item = (&'a str, &'a Value)> {
        self.read.push(prefix.to_owned());
        let fields = self.map.iter().filter(|(_, value)| !value.is_null());
        fields.filter_map(move |(key, value)| Some((key.strip_prefix(prefix)?, value)))
    }

    /// Returns the members of an object.
    pub fn object(&mut self, key: &str) -> Option<&'a Map<String, Value>> {
        match self.value(key)? {
            Value::Object(members) => Some(members),
            other => {
                self.warn_type(key, "an object", other);
                None
            }
        }
    }

    /// Returns a text that is not empty.
    ///
    /// # Errors
    /// It contains a NUL character, which no argument of a program can have.
    pub fn text(&mut self, key: &str) -> Result<Option<&'a str>, Refusal> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::String(text)) if text.contains('\0') => {
                Err(Refusal::new(key, "must not contain a NUL character"))
            }
            Some(Value::String(text)) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
            Some(other) => {
                self.warn_type(key, "text", other);
                Ok(None)
            }
        }
    }

    /// Returns a text without surrounding white space; blank text counts as absent.
    ///
    /// # Errors
    /// It contains a NUL character.
    pub fn trimmed(&mut self, key: &str) -> Result<Option<&'a str>, Refusal> {
        Ok(self.text(key)?.map(trim).filter(|text| !text.is_empty()))
    }

    /// Returns a text that satisfies one of Kubernetes' rules.
    ///
    /// # Errors
    /// It breaks the rule, or contains a NUL character.
    pub fn checked(
        &mut self,
        key: &str,
        rule: fn(&str) -> Result<(), String>,
    ) -> Result<Option<&'a str>, Refusal> {
        let text = self.trimmed(key)?;
        if let Some(text) = text {
            rule(text).map_err(|rule| Refusal::new(key, format!("`{text}` {rule}")))?;
        }
        Ok(text)
    }

    /// Returns `true` or `false`.
    pub fn flag(&mut self, key: &str, default: bool) -> bool {
        match self.value(key) {
            None => default,
            Some(Value::Bool(flag)) => *flag,
            Some(other) => {
                self.warn_type(key, "`true` or `false`", other);
                default
            }
        }
    }

    /// Returns a whole number from 0 to `max`.
    ///
    /// # Errors
    /// The number is negative, has a fraction, or is too large.
    pub fn whole(&mut self, key: &str, default: u32, max: u32) -> Result<u32, Refusal> {
        match self.whole_or_negative(key, max)? {
            None => Ok(default),
            Some(number) => u32::try_from(number).map_err(|_| not_whole(key, &Value::from(number), max)),
        }
    }

    /// Returns a limit; 0 and, as in Paperclip, every negative number mean that there is none.
    ///
    /// # Errors
    /// The number has a fraction or is too large.
    pub fn limit(&mut self, key: &str, max: u32) -> Result<Option<u32>, Refusal> {
        let number = self.whole_or_negative(key, max)?;
        Ok(number.and_then(|number| u32::try_from(number).ok()).filter(|number| *number > 0))
    }

    /// Returns an amount above 0; 0 means that there is none.
    ///
    /// # Errors
    /// The number is negative.
    pub fn amount(&mut self, key: &str) -> Result<Option<f64>, Refusal> {
        match self.value(key) {
            None => Ok(None),
            Some(value @ Value::Number(number)) => match number.as_f64() {
                Some(amount) if amount >= 0.0 => Ok(Some(amount).filter(|amount| *amount > 0.0)),
                _ => Err(Refusal::new(key, format!("{value} must be a number from 0"))),
            },
            Some(other) => {
                self.warn_type(key, "a number", other);
                Ok(None)
            }
        }
    }

    /// Returns the arguments that a config adds to those of the run.
    ///
    /// # Errors
    /// One of them is an option in `reserved`, which the run sets itself, or contains a NUL character. An option is recognised as
    /// `--name` and as `--name=value`.
    pub fn extra_args(&mut self, key: &str, reserved: &[&str]) -> Result<Vec<&'a str>, Refusal> {
        for (index, member) in self.value(key).and_then(Value::as_array).into_iter().flatten().enumerate() {
            let option = member.as_str().and_then(|text| text.split('=').next()).unwrap_or_default();
            if reserved.contains(&option) {
                let message = format!("`{option}` is set by the run itself; remove it");
                return Err(Refusal::new(format!("{key}[{index}]"), message));
            }
        }
        self.texts(key)
    }

    /// Returns the option that the text names.
    ///
    /// # Errors
    /// The text names no option.
    pub fn choice<T: Copy>(&mut self, key: &str, options: &[(&str, T)], default: T) -> Result<T, Refusal> {
        let Some(text) = self.trimmed(key)? else { return Ok(default) };
        options.iter().find(|(name, _)| *name == text).map(|(_, option)| *option).ok_or_else(|| {
            let names: Vec<_> = options.iter().map(|(name, _)| format!("`{name}`")).collect();
            Refusal::new(key, format!("`{text}` must be one of {}", names.join(", ")))
        })
    }

    /// Returns the texts of a list; members of other types are left out.
    ///
    /// # Errors
    /// One of them contains a NUL character.
    pub fn texts(&mut self, key: &str) -> Result<Vec<&'a str>, Refusal> {
        let members = match self.value(key) {
            None => return Ok(Vec::new()),
            Some(Value::Array(members)) => members,
            Some(other) => {
                self.warn_type(key, "a list of texts", other);
                return Ok(Vec::new());
            }
        };
        let mut texts = Vec::with_capacity(members.len());
        for (index, member) in members.iter().enumerate() {
            match member {
                Value::String(text) if text.contains('\0') => {
                    return Err(Refusal::new(format!("{key}[{index}]"), "must not contain a NUL character"));
                }
                Value::String(text) => texts.push(text.as_str()),
                other => self.warn_type(&format!("{key}[{index}]"), "text", other),
            }
        }
        Ok(texts)
    }

    /// Adds a warning.
    pub fn warn(&mut self, warning: String) {
        self.warnings.push(warning);
    }

    /// Returns the warnings, in the order in which the values were read, and the keys that were read.
    pub fn into_notes(self) -> (Vec<String>, Vec<String>) {
        (self.warnings, self.read)
    }

    /// Returns a whole number up to `max`, or any negative one.
    fn whole_or_negative(&mut self, key: &str, max: u32) -> Result<Option<i64>, Refusal> {
        match self.value(key) {
            None => Ok(None),
            Some(value @ Value::Number(number)) => match number.as_f64() {
                Some(float) if float.fract() == 0.0 && float <= f64::from(max) => {
                    // Saturates far below zero, where only the sign matters.
                    Ok(Some(float as i64))
                }
                _ => Err(not_whole(key, value, max)),
            },
            Some(other) => {
                self.warn_type(key, "a number", other);
                Ok(None)
            }
        }
    }

    fn warn_type(&mut self, key: &str, expected: &str, found: &Value) {
        let found = match found {
            Value::Null => "null",
            Value::Bool(_) => "true or false",
            Value::Number(_) => "a number",
            Value::String(_) => "text",
            Value::Array(_) => "a list",
            Value::Object(_) => "an object",
        };
        self.warn(format!(
            "config field {key}: {found} was given where {expected} is expected; it is not used"
        ));
    }
}

fn not_whole(key: &str, found: &Value, max: u32) -> Refusal {
    Refusal::new(key, format!("{found} must be a whole number from 0 to {max}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn map(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(map) => map,
            other => panic!("{other} is not an object"),
        }
    }

    #[test]
    fn wrong_types_count_as_absent_and_cause_warnings() {
        let map =
            map(json!({"t": 1, "f": "true", "n": "60", "l": "x", "m": ["a", 1, "b"], "e": "", "z": null}));
        let mut fields = Fields::new(&map);
        assert_eq!(fields.text("t").unwrap(), None);
        assert_eq!(fields.text("e").unwrap(), None);
        assert_eq!(fields.text("z").unwrap(), None);
        assert!(fields.flag("f", true));
        assert_eq!(fields.whole("n", 300, 1000).unwrap(), 300);
        assert_eq!(fields.texts("l").unwrap(), Vec::<&str>::new());
        assert_eq!(fields.texts("m").unwrap(), ["a", "b"]);
        assert_eq!(fields.into_notes().0.len(), 5);
    }

    #[test]
    fn numbers_are_whole_and_bounded() {
        let map = map(
            json!({"ok": 60.0, "neg": -1, "frac": 1.5, "big": 1001, "huge": 1e300, "low": -1e300, "zero": 0}),
        );
        let mut fields = Fields::new(&map);
        assert_eq!(fields.whole("ok", 0, 1000).unwrap(), 60);
        for key in ["neg", "frac", "big", "huge", "low"] {
            assert_eq!(fields.whole(key, 0, 1000).unwrap_err().field, key);
        }
        assert_eq!(fields.limit("ok", 1000).unwrap(), Some(60));
        for key in ["neg", "zero", "low", "none"] {
            assert_eq!(fields.limit(key, 1000).unwrap(), None, "{key}");
        }
        assert!(fields.limit("frac", 1000).is_err());
    }

    #[test]
    fn an_amount_is_not_negative() {
        let map = map(json!({"some": 0.25, "whole": 3, "zero": 0, "text": "1", "negative": -0.5}));
        let mut fields = Fields::new(&map);
        let amounts = ["some", "whole", "zero", "text", "none"].map(|key| fields.amount(key).unwrap());
        assert_eq!(amounts, [Some(0.25), Some(3.0), None, None, None]);
        assert_eq!(fields.amount("negative").unwrap_err().message, "-0.5 must be a number from 0");
        assert_eq!(fields.into_notes().0.len(), 1);
    }

    #[test]
    fn extra_arguments_cannot_override_those_of_the_run() {
        let reserved = ["--resume", "-r"];
        for (args, field) in [
            (json!(["--x", "--resume", "s"]), Some("a[1]")),
            (json!([3, "--resume=s"]), Some("a[1]")),
            (json!(["-r"]), Some("a[0]")),
            (json!(["a\0"]), Some("a[0]")),
            (json!(["--resumes", "resume", "-rf", "--x=--resume"]), None),
            (json!("--resume"), None),
        ] {
            let map = map(json!({"a": args}));
            let refusal = Fields::new(&map).extra_args("a", &reserved).err();
            assert_eq!(refusal.map(|refusal| refusal.field).as_deref(), field, "{args}");
        }
    }

    #[test]
    fn choices_name_what_is_possible() {
        let map = map(json!({"good": " b ", "bad": "c", "blank": " "}));
        let mut fields = Fields::new(&map);
        let options = [("a", 1), ("b", 2)];
        assert_eq!(fields.choice("good", &options, 1).unwrap(), 2);
        assert_eq!(fields.choice("blank", &options, 1).unwrap(), 1);
        assert_eq!(fields.choice("bad", &options, 1).unwrap_err().message, "`c` must be one of `a`, `b`");
    }

    #[test]
    fn nul_characters_are_refused() {
        let map = map(json!({"t": "a\0", "l": ["x", "\0"]}));
        let mut fields = Fields::new(&map);
        assert_eq!(fields.text("t").unwrap_err().field, "t");
        assert_eq!(fields.texts("l").unwrap_err().field, "l[1]");
    }
}

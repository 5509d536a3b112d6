//! The tool by which an agent runs commands, whatever it is called and whatever it takes.

use serde_json::{Map, Value, json};

/// Names of such tools.
const NAMES: [&str; 5] = ["bash", "shell", "exec_command", "run_shell_command", "shell_command"];

/// A tool of a request that runs a command.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shell<'a> {
    pub(crate) name: &'a str,
    parameters: &'a Value,
}

impl<'a> Shell<'a> {
    /// Returns the first of these tools, each a name and a schema, that runs commands.
    pub(crate) fn find(tools: impl Iterator<Item = (&'a Value, &'a Value)>) -> Option<Shell<'a>> {
        let named = tools.filter_map(|(name, parameters)| Some(Shell { name: name.as_str()?, parameters }));
        named
            .filter_map(|shell| Some((NAMES.iter().position(|name| *name == shell.name)?, shell)))
            .min_by_key(|(place, _)| *place)
            .map(|(_, shell)| shell)
    }

    /// Returns the arguments with which it runs a command, by its schema.
    pub(crate) fn arguments(&self, command: &str) -> Value {
        let properties = self.parameters["properties"].as_object().cloned().unwrap_or_default();
        let mut arguments = Map::new();
        for (name, schema) in &properties {
            if matches!(name.as_str(), "command" | "cmd") {
                let is_list = schema["type"] == "array";
                let value = if is_list { json!(["bash", "-lc", command]) } else { command.into() };
                arguments.insert(name.clone(), value);
            }
        }
        for name in self.parameters["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            let value = match properties.get(name).map(|schema| &schema["type"]) {
                Some(kind) if kind == "boolean" => json!(false),
                Some(kind) if kind == "number" || kind == "integer" => json!(1),
                Some(_) | None => json!("scripted"),
            };
            arguments.entry(name).or_insert(value);
        }
        arguments.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_passed_as_the_schema_says() {
        let schema = json!({"properties": {"command": {"type": "array"}, "timeout": {"type": "number"}},
            "required": ["command", "timeout"]});
        let (other, name) = (json!("read"), json!("shell"));
        let shell = Shell::find([(&other, &schema), (&name, &schema)].into_iter()).unwrap();
        assert_eq!(shell.arguments("ls"), json!({"command": ["bash", "-lc", "ls"], "timeout": 1}));
        assert!(Shell::find([(&other, &schema)].into_iter()).is_none());
    }
}

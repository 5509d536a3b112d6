//! Pieces of Markdown that text of other people cannot break.

/// Returns the text in a fence that it cannot close.
pub(super) fn fenced(language: &str, text: &str) -> String {
    let fence = "`".repeat((longest_run(text) + 1).max(3));
    format!("{fence}{language}\n{}\n{fence}", text.trim_end_matches('\n'))
}

/// Returns the text as inline code that it cannot close.
pub(super) fn inline_code(text: &str) -> String {
    match longest_run(text) {
        0 => format!("`{text}`"),
        longest => {
            let fence = "`".repeat(longest + 1);
            format!("{fence} {text} {fence}")
        }
    }
}

/// Returns the text in one line, without control characters.
pub(super) fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split(|c: char| c.is_whitespace() || c.is_control()).collect();
    words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// Returns the length of the longest run of backticks.
fn longest_run(text: &str) -> usize {
    text.split(|c| c != '`').map(str::len).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_closes_neither_fence_nor_inline_code() {
        assert_eq!(fenced("text", "a\n"), "```text\na\n```");
        assert_eq!(fenced("text", "a\n```\nb"), "````text\na\n```\nb\n````");
        assert_eq!(inline_code("main"), "`main`");
        assert_eq!(inline_code("a`` `b"), "``` a`` `b ```");
        assert_eq!(one_line(" a\n\tb\u{7} c "), "a b c");
    }
}

//! Checks that identifiers and prose use the field's standard terms instead of the words that [`REPLACED`] lists.
//!
//! A finding is fixed by rewriting the sentence or renaming the identifier. The lists of exceptions say why each entry is one.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Replaced words and phrases, with what to write instead. `_` stands between the words of a phrase, which also matches inside
/// identifiers: `let_go` finds "let go", `let_go` and `LetGo`.
const REPLACED: [(&str, &str); 20] = [
    ("mend mends mended mending", "hint, fix"),
    ("tell tells told telling retell retold teller", "report, emit, record, return"),
    ("hear hears heard hearing unheard", "read, receive, drain"),
    ("take_up takes_up took_up taken_up taking_up", "resume, adopt"),
    ("let_go lets_go letting_go", "detach, release"),
    ("go_on goes_on went_on going_on", "continue, keep running"),
    ("begun unbegun anew", "started, again"),
    ("begin begins began beginning", "start"),
    ("stands stood", "is, exists, contains"),
    ("wish wishes wished", "request"),
    ("want wants wanted", "request, expect, need"),
    ("held_against hold_against holds_against", "compared with"),
    ("gone", "deleted, removed, terminated"),
    ("once_more", "again"),
    ("may_not", "must not, cannot"),
    ("nothing_of all_that", "none, everything that"),
    ("own_pod own_pods", "Paperclip's pod"),
    ("room", "capacity"),
    ("look_at looks_at looked_at looking_at look_up looks_up looked_up", "get, verify"),
    ("furnishing winding overdrawn surroundings shelf mailbox anatomy", "see docs/glossary.md"),
];

/// What is read, from the workspace's root.
const READ: [&str; 18] = [
    ".ci",
    ".github",
    "CONTRIBUTING.md",
    "Cargo.toml",
    "README.md",
    "SECURITY.md",
    "adapter",
    "cluster",
    "deploy",
    "docs",
    "fuzz",
    "host",
    "init",
    "kubernetes",
    "plugin",
    "tests",
    "wit",
    "xtask",
];
/// Extensions of files that people write; `run` is `.ci/run`.
const EXTENSIONS: [&str; 7] = ["md", "rs", "toml", "ts", "wit", "yaml", "yml"];
/// Folders of files that nobody has written.
const GENERATED: [&str; 3] = ["target", "node_modules", "dist"];
/// What is not read: (path, reason).
const EXEMPT: [(&str, &str); 5] = [
    ("xtask/src/words.rs", "has the list"),
    ("docs/glossary.md", "names what each term replaces"),
    ("wit/0.1", "a released contract does not change"),
    ("host/guest/src/contract/v0_1.rs", "has the names of a released contract"),
    ("tests/fixtures", "recorded output, and texts that the product promises verbatim"),
];
/// Lines that have one of these keep a serialised name which existing journals, Leases or plugins contain.
const PINNED: [&str; 2] = ["serde(rename", "serde(alias"];

/// How many findings a folder or file has that stay: names and texts that others define or that are recorded. Everything that is not
/// listed has none.
const VERBATIM: [(&str, usize); 11] = [
    // Messages in the API server's own words.
    ("cluster", 9),
    ("kubernetes", 1),
    // A message of the reference adapter.
    ("docs/differences.md", 1),
    // The former name of `hint`, which the API of `serve` sends for one more version.
    ("docs/operating-serve.md", 1),
    ("tests/it/serving/api.rs", 1),
    // A status line that recorded runs contain, and PEM markers of a secret in a test.
    ("host/engine", 3),
    // `rust_begin_unwind`, a function of the standard library.
    ("host/guest", 2),
    // What the agent and its provider print.
    ("plugin/claude", 4),
    // A message and an outcome of the reference adapter.
    ("plugin/kit", 6),
    // Two events in recorded orders (tests/fixtures/orders.txt).
    ("tests/simulation/src/order.rs", 2),
    // The names that journals pin.
    ("tests/it/twin.rs", 4),
];

/// A replaced word in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    line: usize,
    words: String,
    instead: &'static str,
}

/// A word of a text: lower-case, with its line, and whether only spaces, `_` or comment markers separate it from the word before.
#[derive(Debug)]
struct Word {
    text: String,
    line: usize,
    joins: bool,
}

/// Splits text into words; identifiers are split at `_` and at changes from lower to upper case.
fn words(text: &str) -> Vec<Word> {
    let mut words: Vec<Word> = Vec::new();
    let (mut line, mut joins, mut in_word, mut was_lower) = (1, true, false, false);
    for character in text.chars() {
        if character.is_alphanumeric() {
            let starts = !in_word || (was_lower && character.is_uppercase());
            if starts {
                words.push(Word { text: String::new(), line, joins: joins || in_word });
                joins = true;
            }
            let lower = character.to_lowercase();
            words.last_mut().expect("a word was pushed when it started").text.extend(lower);
            (in_word, was_lower) = (true, character.is_lowercase());
        } else {
            joins &= character.is_whitespace() || "_/!#".contains(character);
            line += usize::from(character == '\n');
            in_word = false;
        }
    }
    words
}

/// A replaced phrase, split into words.
#[derive(Debug)]
struct Phrase {
    words: Vec<&'static str>,
    instead: &'static str,
}

/// [`REPLACED`] by the first word of each phrase.
fn phrases() -> BTreeMap<&'static str, Vec<Phrase>> {
    let mut phrases: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (listed, instead) in REPLACED {
        for phrase in listed.split(' ') {
            let words: Vec<_> = phrase.split('_').collect();
            phrases.entry(words[0]).or_default().push(Phrase { words, instead });
        }
    }
    phrases
}

/// All findings in a text, except in lines that pin a serialised name.
fn findings(text: &str, phrases: &BTreeMap<&str, Vec<Phrase>>) -> Vec<Finding> {
    let words = words(text);
    let pinned: Vec<bool> =
        text.lines().map(|line| PINNED.iter().any(|marker| line.contains(marker))).collect();
    let mut found = Vec::new();
    for (at, first) in words.iter().enumerate() {
        for phrase in phrases.get(first.text.as_str()).into_iter().flatten() {
            let Some(span) = words.get(at..at + phrase.words.len()) else { continue };
            let is_match = span.iter().zip(&phrase.words).all(|(word, part)| word.text == *part)
                && span.iter().skip(1).all(|word| word.joins);
            if is_match && !pinned[first.line - 1] {
                let words = phrase.words.join(" ");
                found.push(Finding { line: first.line, words, instead: phrase.instead });
            }
        }
    }
    found
}

/// All findings below a path, by file.
fn collect(
    root: &Path,
    relative: &Path,
    phrases: &BTreeMap<&str, Vec<Phrase>>,
    found: &mut BTreeMap<String, Vec<Finding>>,
) {
    let name = relative.to_string_lossy().replace('\\', "/");
    let is_generated = GENERATED.iter().any(|folder| relative.ends_with(folder));
    if EXEMPT.iter().any(|(exempt, _)| name == *exempt) || is_generated {
        return;
    }
    let path = root.join(relative);
    if path.is_dir() {
        for entry in fs::read_dir(&path).unwrap() {
            collect(root, &relative.join(entry.unwrap().file_name()), phrases, found);
        }
    } else if relative.extension().is_some_and(|extension| EXTENSIONS.iter().any(|known| extension == *known))
    {
        let findings = findings(&fs::read_to_string(&path).unwrap(), phrases);
        if !findings.is_empty() {
            found.insert(name, findings);
        }
    }
}

#[test]
fn replaced_words_do_not_come_back() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let phrases = phrases();
    let mut found = BTreeMap::new();
    for path in READ {
        assert!(root.join(path).exists(), "{path} is to be read, and does not exist");
        collect(root, Path::new(path), &phrases, &mut found);
    }
    let mut by_folder: BTreeMap<&str, Vec<(&String, &Vec<Finding>)>> = BTreeMap::new();
    for (file, findings) in &found {
        let listed =
            VERBATIM.iter().map(|(folder, _)| *folder).find(|folder| Path::new(file).starts_with(folder));
        by_folder.entry(listed.unwrap_or(file)).or_default().push((file, findings));
    }
    let mut report = String::new();
    for (folder, files) in by_folder {
        let count: usize = files.iter().map(|(_, findings)| findings.len()).sum();
        let allowed = VERBATIM.iter().find(|(listed, _)| *listed == folder).map_or(0, |(_, count)| *count);
        println!("{folder}: {count} replaced words in {} files", files.len());
        if count <= allowed {
            continue;
        }
        report += &format!("\n{folder}: {count} replaced words, {allowed} are allowed");
        for (file, findings) in files {
            for Finding { line, words, instead } in findings {
                report += &format!("\n  {file}:{line}: {words:?}: write {instead}");
            }
        }
    }
    assert!(report.is_empty(), "see docs/glossary.md{report}");
}

#[test]
fn words_are_found_in_prose_and_identifiers() {
    let phrases = phrases();
    let found =
        |text: &str| findings(text, &phrases).into_iter().map(|finding| finding.words).collect::<Vec<_>>();
    assert_eq!(found("It is Told to let\n    /// go, then goes on."), ["told", "let go", "goes on"]);
    assert_eq!(found("fn let_go(heard: LetGo) {}"), ["let go", "heard", "let go"]);
    assert_eq!(found("toll, hearth, let. go, standard, ago on"), [] as [&str; 0]);
    assert_eq!(found("#[serde(rename = \"told\")]\ntold"), ["told"]);
}

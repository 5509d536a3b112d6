use super::*;

fn file(path: &str, bytes: usize) -> File {
    File { path: path.into(), content: "x".repeat(bytes), ..File::default() }
}

fn planned(job_name: &str, files: &[File]) -> Bundle {
    plan(job_name, "n", files, ".claude/skills", &[]).unwrap().unwrap()
}

#[test]
fn files_share_config_maps_as_far_as_they_fit() {
    let files = [file("a", 10), file("b", CONFIG_MAP_MAX_BYTES - 10), file("c", 1)];
    let bundle = planned("j", &files);
    let keys: Vec<Vec<_>> = bundle.plans.iter().map(|plan| plan.entries.keys().collect()).collect();
    assert_eq!(keys, [vec!["file-0000", "file-0001"], vec!["file-0000"]]);
    let second = &bundle.volume["projected"]["sources"][1]["configMap"];
    assert_eq!(*second, json!({"name": "j-bundle-001", "items": [{"key": "file-0000", "path": "c"}]}));
    assert_eq!(plan("j", "n", &[], "s", &[]).unwrap(), None);
    let context = [json!({"secret": {"name": "s"}})];
    let bundle = plan("j", "n", &[], "s", &context).unwrap().unwrap();
    assert_eq!((bundle.plans.len(), &bundle.volume), (0, &json!({"projected": {"sources": context}})));
    let full: Vec<File> = (0..4).map(|n| file(&n.to_string(), BUNDLE_MAX_BYTES / 4)).collect();
    assert!(plan("j", "n", &full, "s", &[]).is_ok(), "exactly the limit");
}

#[test]
fn runs_with_the_same_skill_share_its_config_map() {
    let skill = [
        File { mode: Some(0o755), ..file("skills/review/run.sh", 3) },
        file("skills/review/SKILL.md", 5),
        File { content: "iVBORw==".into(), is_base64: true, ..file("skills/review/picture.png", 0) },
    ];
    let (one, other) =
        (planned("j1", &skill), planned("j2", &[&skill[..], &[file("instructions/A.md", 1)]].concat()));
    assert!(one.plans[0].is_shared && one.plans[0].name.starts_with("paperclip-files-"));
    assert_eq!(one.plans[0], other.plans[1]);
    assert_eq!(one.plans[0].binary_entries["file-0001"], "iVBORw==");
    let items = &one.volume["projected"]["sources"][0]["configMap"]["items"];
    assert_eq!(items[2], json!({"key": "file-0002", "path": ".claude/skills/review/run.sh", "mode": 0o755}));
    let changed = planned("j1", &[file("skills/review/SKILL.md", 6)]);
    assert_ne!(changed.plans[0].name, one.plans[0].name);
    let copies = planned("j", &[file("skills/a/SKILL.md", 2), file("skills/b/SKILL.md", 2)]);
    assert_eq!(copies.plans.len(), 1);
    assert_eq!(copies.volume["projected"]["sources"].as_array().unwrap().len(), 2);
}

#[test]
fn skills_are_directories() {
    let files = [
        file("skills/review/SKILL.md", 1),
        file("skills/audit/SKILL.md", 1),
        file("skills/audit/more/x.md", 1),
        file("skills/README.md", 1),
        file("other/skills/SKILL.md", 1),
    ];
    assert_eq!(skills(&files), ["audit", "review"]);
}

#[test]
fn instructions_end_with_their_origin() {
    let of = |path: &str, source: Option<&str>| {
        let files = [File { content: "Be kind.\n".into(), ..file(path, 0) }, file("b", 1)];
        let with_origin = with_origin(&files, Some(path), source);
        assert_eq!(with_origin[1], files[1]);
        with_origin[0].content.clone()
    };
    let alone = of("agent-instructions.md", Some("/paperclip/agents/nova/AGENTS.md"));
    assert_eq!(
        alone,
        "Be kind.\n\nThese instructions are a copy of /paperclip/agents/nova/AGENTS.md. Relative paths in them start from /paperclip/agents/nova.\n"
    );
    let with_siblings = of("instructions/AGENTS.md", Some("/paperclip/agents/nova/AGENTS.md"));
    assert!(with_siblings.ends_with("start from /tmp/bundle/instructions.\n"), "{with_siblings}");
    assert_eq!(of("agent-instructions.md", None), "Be kind.\n");
    assert!(of("i.md", Some("/A.md")).ends_with("start from /.\n"));
    assert!(of("i.md", Some("A.md")).ends_with("start from ..\n"));
}

#[test]
fn refuses_files_that_are_too_large_or_lead_out_of_the_directory() {
    for (files, expected) in [
        (vec![file("../a", 1)], "the path `../a` must be a relative path"),
        (vec![file("a", 1), file("b", 1), file("a", 1)], "the path `a` occurs twice"),
        (vec![file("a", 1), file("a-b", 1), file("a/b", 1)], "the path `a` is both a file and a directory"),
        (vec![file("a", CONFIG_MAP_MAX_BYTES + 1)], "`a` is 921601 bytes"),
        (vec![File { mode: Some(0o4755), ..file("a", 1) }], "the mode of `a`"),
        (
            (0..4).map(|n| file(&n.to_string(), CONFIG_MAP_MAX_BYTES)).collect(),
            "instructions and skills are 3686400 bytes",
        ),
    ] {
        let refusal = plan("j", "n", &files, "s", &[]).unwrap_err();
        assert!(refusal.message.starts_with(expected), "{refusal}");
    }
}

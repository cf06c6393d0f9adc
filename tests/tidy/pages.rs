//! The rules about documents: promises have tests, dependencies have reasons, limits are listed, links lead somewhere.

use crate::source::{Source, words};

/// Modules of `tests/guarantees/` that hold no promise but what the others share.
const SHARED: [&str; 2] = ["main", "support"];

/// `## Honest failure` is held by the module `honest_failure`.
fn module_name(heading: &str) -> String {
    heading.trim().to_lowercase().replace(' ', "_")
}

/// Each heading of the page has a module with a test, each module a heading, or the promise is listed as later.
pub(crate) fn promises(
    page: &str,
    main: &str,
    modules: &[Source],
    later: &[(&str, &str)],
) -> Vec<String> {
    let mut found = Vec::new();
    let sections: Vec<&str> = page.split("\n## ").skip(1).collect();
    let named: Vec<String> = sections
        .iter()
        .map(|section| module_name(section.lines().next().unwrap_or("")))
        .collect();
    for (section, name) in sections.iter().zip(&named) {
        if !section.contains(&format!("tests/guarantees/{name}.rs")) {
            found.push(format!(
                "docs/guarantees.md: `{name}` does not name its test module"
            ));
        }
        if later.iter().any(|(later, _)| later == name) {
            continue;
        }
        let held = modules
            .iter()
            .any(|module| stem(module) == name && module.code.contains("#[test]"));
        if !held || !main.contains(&format!("mod {name};")) {
            found.push(format!(
                "tests/guarantees/{name}.rs: no such module with a #[test] in main.rs"
            ));
        }
    }
    for module in modules {
        let name = stem(module);
        let promised = named.iter().any(|named| named == name);
        if !SHARED.contains(&name) && !promised {
            found.push(module.at(0, "no heading of docs/guarantees.md has this name"));
        }
        if later.iter().any(|(later, _)| *later == name) {
            found.push(module.at(0, "this promise is held now: take it out of LATER"));
        }
    }
    for (name, _) in later
        .iter()
        .filter(|(later, _)| named.iter().all(|named| named != later))
    {
        found.push(format!(
            "LATER: `{name}` is no heading of docs/guarantees.md"
        ));
    }
    found
}

fn stem(module: &Source) -> &str {
    let name = module.path.rsplit('/').next().unwrap_or("");
    name.trim_end_matches(".rs")
}

/// The page of metrics has a line for each name in the code, and the code each name of the page.
pub(crate) fn metrics(code: &str, page: &str) -> Vec<String> {
    let named = |text: &str, mark: char| -> Vec<String> {
        let quoted = text.split(mark).skip(1).step_by(2);
        let mut names: Vec<String> = quoted
            .filter(|name| name.starts_with("quipu_"))
            .map(str::to_owned)
            .collect();
        names.sort_unstable();
        names
    };
    let lines: Vec<&str> = page
        .lines()
        .filter(|l| l.starts_with("| `quipu_"))
        .collect();
    let heads: Vec<&str> = lines
        .iter()
        .filter_map(|line| line.split('|').nth(1))
        .collect();
    let (in_code, on_page) = (named(code, '"'), named(&heads.concat(), '`'));
    if in_code == on_page && !in_code.is_empty() {
        return Vec::new();
    }
    vec![format!(
        "docs/metrics.md: it has the lines {on_page:?}, the code the names {in_code:?}"
    )]
}

/// Every dependency of the manifest stands in the page of decisions.
pub(crate) fn dependencies(manifest: &str, decisions: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut inside = false;
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line.trim_end_matches(']').ends_with("dependencies");
            continue;
        }
        let name = line.split(['=', '.']).next().unwrap_or("").trim();
        let listed =
            name.is_empty() || name.starts_with('#') || decisions.contains(&format!("`{name}`"));
        if inside && !listed {
            found.push(format!(
                "docs/decisions.md: no line says why `{name}` earns its place"
            ));
        }
    }
    found
}

/// Every named bound of the crate stands in the page of limits, a plain number with its value.
pub(crate) fn limits(files: &[Source], page: &str) -> Vec<String> {
    let mut found = Vec::new();
    for file in files {
        for pair in words(&file.shipped).windows(2) {
            let [(offset, "const"), (_, name)] = pair else {
                continue;
            };
            if !name.starts_with("MAX_") || !is_public(&file.shipped[..*offset]) {
                continue;
            }
            let row = page
                .lines()
                .find(|line| line.contains(&format!("`{name}`")));
            let value = plain_number(&file.shipped[*offset..]);
            match (row, value) {
                (None, _) => {
                    found.push(file.at(*offset, &format!("docs/limits.md does not list `{name}`")))
                }
                (Some(row), Some(value)) if !digits_of(row).contains(&value) => {
                    found.push(
                        file.at(*offset, &format!("docs/limits.md: `{name}` is not {value}")),
                    );
                }
                _ => {}
            }
        }
    }
    found
}

fn is_public(before: &str) -> bool {
    let before = before.trim_end();
    before.ends_with("pub") || before.ends_with("pub(crate)")
}

/// The value of `const NAME: T = 1_024;`, `None` where it is computed.
fn plain_number(item: &str) -> Option<String> {
    let value = item
        .split(';')
        .next()?
        .split('=')
        .nth(1)?
        .trim()
        .replace('_', "");
    value
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then_some(value)
}

/// The numbers in a row, without thousands separators.
fn digits_of(row: &str) -> Vec<String> {
    let plain = row.replace([',', '_'], "");
    plain
        .split(|c: char| !c.is_ascii_digit())
        .map(str::to_owned)
        .collect()
}

/// Every relative link `[text](target)` leads to a file.
pub(crate) fn links(name: &str, text: &str, exists: impl Fn(&str) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for after in line.split("](").skip(1) {
            let target = after.split(')').next().unwrap_or("");
            let file = target.split('#').next().unwrap_or("");
            if !target.contains("://") && !file.is_empty() && !exists(file) {
                found.push(format!(
                    "{name}:{}: the link to {file} leads nowhere",
                    number + 1
                ));
            }
        }
    }
    found
}

/// A path of somebody's machine, a note to oneself, half-merged text. Split, so as not to find themselves.
const FORBIDDEN: [(&str, &str); 11] = [
    ("/wo", "rk/"),
    ("/ro", "ot/"),
    ("/ho", "me/"),
    ("/Us", "ers/"),
    ("/t", "mp/"),
    ("C:", "\\"),
    ("TO", "DO"),
    ("FIX", "ME"),
    ("XX", "X"),
    ("<<<<", "<<<"),
    (">>>>", ">>>"),
];

/// The forbidden words of one file.
pub(crate) fn forbidden(name: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (left, right) in FORBIDDEN {
        let word = format!("{left}{right}");
        for (at, _) in text
            .match_indices(&word)
            .filter(|(at, _)| stands_alone(text, *at, &word))
        {
            let line = text[..at].matches('\n').count() + 1;
            found.push(format!(
                "{name}:{line}: `{word}` does not belong in the tree"
            ));
        }
    }
    found
}

/// Not a part of a longer word or path.
fn stands_alone(text: &str, at: usize, word: &str) -> bool {
    let joined = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
    let before = text[..at].chars().next_back().is_some_and(joined);
    let after = text[at + word.len()..].chars().next().is_some_and(joined);
    let open_end = word.ends_with(['/', '\\']);
    !before && (open_end || !after)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# Promises\n\n## Honest failure\n`tests/guarantees/honest_failure.rs`\n";

    fn module(name: &str, text: &str) -> Source {
        Source::new(&format!("tests/guarantees/{name}.rs"), text)
    }

    #[test]
    fn a_promise_and_its_module_satisfy() {
        let modules = [
            module("main", ""),
            module("honest_failure", "#[test] fn a() {}"),
        ];
        assert_eq!(
            promises(PAGE, "mod honest_failure;", &modules, &[]),
            [""; 0]
        );
        assert_eq!(
            promises(PAGE, "", &modules[..1], &[("honest_failure", "why")]),
            [""; 0]
        );
    }

    #[test]
    fn a_promise_without_a_test_is_found() {
        let main = "mod honest_failure;";
        assert_eq!(promises(PAGE, main, &[], &[]).len(), 1);
        assert_eq!(
            promises(PAGE, main, &[module("honest_failure", "// #[test]")], &[]).len(),
            1
        );
        assert_eq!(
            promises(PAGE, "", &[module("honest_failure", "#[test]")], &[]).len(),
            1
        );
        assert_eq!(
            promises(
                "\n## Order\n",
                "mod order;",
                &[module("order", "#[test]")],
                &[]
            )
            .len(),
            1
        );
    }

    #[test]
    fn a_module_without_a_promise_is_found() {
        let modules = [
            module("honest_failure", "#[test]"),
            module("speed", "#[test]"),
        ];
        assert_eq!(
            promises(PAGE, "mod honest_failure;", &modules, &[]).len(),
            1
        );
        let later = [("honest_failure", "why")];
        assert_eq!(promises(PAGE, "", &modules[..1], &later).len(), 1);
        assert_eq!(
            promises(
                PAGE,
                "mod honest_failure;",
                &modules[..1],
                &[("order", "why")]
            )
            .len(),
            1
        );
    }

    #[test]
    fn a_dependency_without_a_reason_is_found() {
        let manifest = "[package]\nname = \"q\"\n[dependencies]\na-b = \"1\"\nc.workspace = true\n[lints]\nd = 1\n";
        assert_eq!(
            dependencies(manifest, "`a-b`: why"),
            ["docs/decisions.md: no line says why `c` earns its place"]
        );
        assert_eq!(dependencies(manifest, "`a-b`, `c`"), [""; 0]);
    }

    #[test]
    fn an_unlisted_limit_is_found() {
        let file = [Source::new(
            "src/a.rs",
            "pub const MAX_A: usize = 65_536;\nconst MAX_B: u8 = 1;",
        )];
        assert_eq!(limits(&file, "").len(), 1);
        assert_eq!(limits(&file, "| `MAX_A` | 655 |").len(), 1);
        assert_eq!(limits(&file, "| `MAX_A` | 65,536 |"), [""; 0]);
        let computed = [Source::new(
            "src/a.rs",
            "pub(crate) const MAX_A: u8 = B * 2;",
        )];
        assert_eq!(limits(&computed, "`MAX_A`"), [""; 0]);
    }

    #[test]
    fn a_dead_link_is_found() {
        let text = "[a](b.md#c) and [d](https://e) and [f](#g)";
        assert_eq!(
            links("x.md", text, |_| false),
            ["x.md:1: the link to b.md leads nowhere"]
        );
        assert_eq!(links("x.md", text, |link| link == "b.md"), [""; 0]);
    }

    #[test]
    fn forbidden_words_are_found() {
        for (left, right) in FORBIDDEN {
            let word = format!("{left}{right}");
            assert_eq!(forbidden("x", &format!("a\n\"{word}")).len(), 1, "{word}");
            assert_eq!(forbidden("x", &format!("a{word}")), [""; 0], "{word}");
        }
    }
}

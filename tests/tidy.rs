//! The house rules that a machine can hold: each test reads the tree as text and names file and line of what it finds.
//!
//! The rules themselves are in `tidy/rules.rs` (code) and `tidy/pages.rs` (documents), each with the bad snippets
//! that it must find; the reader of Rust text that they share is `tidy/source.rs`.

#[path = "tidy/pages.rs"]
mod pages;
#[path = "tidy/rules.rs"]
mod rules;
#[path = "tidy/source.rs"]
mod source;

use source::Source;
use std::fs;
use std::path::{Path, PathBuf};

/// Folders that hold what git or cargo made, not what we wrote.
const NOT_OURS: [&str; 2] = [".git", "target"];

/// Promises of `docs/guarantees.md` whose part is not built yet, with what they wait for.
const LATER: [(&str, &str); 1] = [(
    "projection",
    "waits for folds and caches (the room `projection`)",
)];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below `folder`, by path from the root with `/` between, in order of names.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(folder) = open.pop() {
        let Ok(entries) = fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries {
            let entry = entry.expect("a folder of the tree can be listed");
            let name = entry.file_name();
            let kind = entry.file_type().expect("an entry of the tree has a type");
            if kind.is_file() {
                found.push(entry.path());
            } else if kind.is_dir() && NOT_OURS.iter().all(|not| name != *not) {
                open.push(entry.path());
            }
        }
    }
    found.sort();
    found
}

fn name_of(path: &Path) -> String {
    let inside = path
        .strip_prefix(root())
        .expect("the walk stays below the root");
    inside.to_string_lossy().replace('\\', "/")
}

/// The text files of the whole tree as (name, text); a file that is not UTF-8 is not text.
fn tree() -> Vec<(String, String)> {
    let texts = files_below(root()).into_iter().filter_map(|path| {
        let text = String::from_utf8(fs::read(&path).expect("a file of the tree can be read"));
        Some((name_of(&path), text.ok()?))
    });
    texts.collect()
}

fn rust_files(folders: &[&str]) -> Vec<Source> {
    let mut found = Vec::new();
    for folder in folders {
        for path in files_below(&root().join(folder)) {
            if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a Rust file is UTF-8");
                found.push(Source::new(&name_of(&path), &text));
            }
        }
    }
    assert!(!found.is_empty(), "no Rust files below {folders:?}");
    source::blank_test_files(&mut found);
    found
}

fn page(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn none(problems: &[String]) {
    assert!(problems.is_empty(), "\n  {}\n", problems.join("\n  "));
}

fn each(folders: &[&str], rule: fn(&Source) -> Vec<String>) {
    none(
        &rust_files(folders)
            .iter()
            .flat_map(rule)
            .collect::<Vec<_>>(),
    );
}

const SHIPPED: [&str; 1] = ["src"];
const ALL: [&str; 4] = ["src", "tests", "benches", "examples"];

#[test]
fn imports_point_left() {
    each(&SHIPPED, rules::imports_point_left);
}

#[test]
fn events_need_no_std() {
    each(&SHIPPED, rules::events_need_no_std);
}

#[test]
fn files_are_short() {
    each(&ALL, rules::files_are_short);
}

#[test]
fn functions_are_short() {
    each(&ALL, rules::functions_are_short);
}

#[test]
fn files_say_what_they_are_for() {
    each(&ALL, rules::files_say_what_they_are_for);
}

#[test]
fn unsafe_lives_in_the_map() {
    each(&ALL, rules::unsafe_lives_in_the_map);
}

#[test]
fn nothing_gives_up_quietly() {
    each(&SHIPPED, rules::nothing_gives_up_quietly);
}

#[test]
fn casts_do_not_narrow() {
    each(&SHIPPED, rules::casts_do_not_narrow);
}

#[test]
fn bytes_have_one_order() {
    each(&ALL, rules::bytes_have_one_order);
}

#[test]
fn names_mean_something() {
    each(&SHIPPED, rules::names_mean_something);
}

#[test]
fn public_enums_stay_open() {
    each(&SHIPPED, rules::public_enums_stay_open);
}

#[test]
fn promises_and_tests_name_each_other() {
    let main = page("tests/guarantees/main.rs");
    let modules = rust_files(&["tests/guarantees"]);
    none(&pages::promises(
        &page("docs/guarantees.md"),
        &main,
        &modules,
        &LATER,
    ));
}

#[test]
fn dependencies_have_a_reason() {
    none(&pages::dependencies(
        &page("Cargo.toml"),
        &page("docs/decisions.md"),
    ));
}

#[test]
fn metrics_have_the_names_that_their_page_says() {
    none(&pages::metrics(
        &page("src/engine/facade.rs"),
        &page("docs/metrics.md"),
    ));
}

#[test]
fn limits_are_listed() {
    none(&pages::limits(
        &rust_files(&SHIPPED),
        &page("docs/limits.md"),
    ));
}

#[test]
fn links_lead_somewhere() {
    for (name, text) in tree().iter().filter(|(name, _)| name.ends_with(".md")) {
        let folder = root()
            .join(name)
            .parent()
            .expect("a file has a folder")
            .to_path_buf();
        none(&pages::links(name, text, |link| folder.join(link).exists()));
    }
}

#[test]
fn the_tree_names_no_place_outside_itself() {
    for (name, text) in tree() {
        none(&pages::forbidden(&name, &text));
    }
}

//! The rules about code: each takes one file and returns what breaks the rule, as `file:line: what to do`.

use crate::source::{Source, body, matching, words};

/// The rooms in the order in which an event lives (docs/architecture.md); a file imports its own or those before it.
const ROOMS: [&str; 13] = [
    "error",
    "sync",
    "event",
    "format",
    "io",
    "options",
    "log",
    "index",
    "engine",
    "feed",
    "projection",
    "lineage",
    "store",
];

/// Files outside the rooms, which put them together.
const FRONT: [&str; 2] = ["src/lib.rs", "src/prelude.rs"];

const MAX_FILE_LINES: usize = 600;
const MAX_FUNCTION_LINES: usize = 70;

/// The only files that may hold `unsafe`.
const UNSAFE_HOMES: [&str; 1] = ["src/io/map.rs"];

/// How far above an `unsafe` its `SAFETY:` may stand.
const SAFETY_LINES: usize = 12;

fn room_of(path: &str) -> &str {
    let inside = path.strip_prefix("src/").unwrap_or(path);
    let end = inside.find('/').unwrap_or(inside.len());
    inside[..end].trim_end_matches(".rs")
}

fn place(room: &str) -> Option<usize> {
    ROOMS.iter().position(|known| *known == room)
}

/// The module is the room itself, so that `super` is the crate.
fn is_room_root(path: &str) -> bool {
    path.matches('/').count() == 1 || (path.matches('/').count() == 2 && path.ends_with("/mod.rs"))
}

pub(crate) fn imports_point_left(file: &Source) -> Vec<String> {
    if FRONT.contains(&file.path.as_str()) {
        return Vec::new();
    }
    let own = room_of(&file.path);
    let Some(here) = place(own) else {
        return vec![file.at(0, &format!("`{own}` is no room: give it a place in ROOMS"))];
    };
    let mut found = Vec::new();
    for (offset, name) in crate_paths(&file.code) {
        match place(name) {
            Some(there) if there <= here => {}
            Some(_) => {
                found.push(file.at(offset, &format!("`{own}` imports `{name}`, to its right")))
            }
            None => found.push(file.at(
                offset,
                &format!("`crate::{name}` is no room: name the room"),
            )),
        }
    }
    found.extend(supers(file));
    found
}

/// The first name of every path that starts at the crate, groups opened.
fn crate_paths(code: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for (offset, word) in words(code) {
        let after = code[offset + word.len()..].trim_start();
        let Some(path) = after.strip_prefix("::") else {
            continue;
        };
        if word != "crate" || code[..offset].ends_with('$') {
            continue;
        }
        let start = code.len() - path.trim_start().len();
        if code[start..].starts_with('{') {
            let group = &code[start + 1..matching(code.as_bytes(), start) - 1];
            found.extend(group_heads(group).into_iter().map(|name| (offset, name)));
        } else {
            found.push((offset, head(&code[start..])));
        }
    }
    found
}

fn head(path: &str) -> &str {
    let path = path.trim_start();
    words(path)
        .first()
        .filter(|(at, _)| *at == 0)
        .map_or("", |(_, word)| *word)
}

fn group_heads(group: &str) -> Vec<&str> {
    let mut heads = Vec::new();
    let (mut depth, mut start) = (0_usize, 0);
    for (at, byte) in group.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => {
                heads.push(head(&group[start..at]));
                start = at + 1;
            }
            _ => {}
        }
    }
    if !group[start..].trim().is_empty() {
        heads.push(head(&group[start..]));
    }
    heads
}

/// `super` must not leave the room: not twice, and not at all where it is the crate.
fn supers(file: &Source) -> Vec<String> {
    let mut found = Vec::new();
    for (offset, word) in words(&file.shipped) {
        let after: String = file.shipped[offset..]
            .chars()
            .filter(|c| !c.is_whitespace())
            .take(14)
            .collect();
        if word == "super" && (after.starts_with("super::super") || is_room_root(&file.path)) {
            found.push(file.at(offset, "`super` leaves its folder: write `crate::room::..`"));
        }
    }
    found
}

pub(crate) fn events_need_no_std(file: &Source) -> Vec<String> {
    if room_of(&file.path) != "event" {
        return Vec::new();
    }
    let found = words(&file.shipped)
        .into_iter()
        .filter(|(_, word)| *word == "std");
    found
        .map(|(offset, _)| file.at(offset, "`event` builds on `core` and `alloc` alone"))
        .collect()
}

pub(crate) fn files_are_short(file: &Source) -> Vec<String> {
    let lines = file.raw.lines().count();
    let long = lines > MAX_FILE_LINES;
    let what = format!("{lines} lines, at most {MAX_FILE_LINES}: a second noun wants its own file");
    long.then(|| file.at(0, &what)).into_iter().collect()
}

pub(crate) fn functions_are_short(file: &Source) -> Vec<String> {
    let mut found = Vec::new();
    let all = words(&file.code);
    for pair in all.windows(2) {
        let [(offset, "fn"), (name_at, name)] = pair else {
            continue;
        };
        if !file.code[offset + 2..*name_at].trim().is_empty() {
            continue;
        }
        let Some(open) = body(file.code.as_bytes(), *name_at) else {
            continue;
        };
        let end = matching(file.code.as_bytes(), open);
        let lines = file.code[*offset..end].matches('\n').count() + 1;
        if lines > MAX_FUNCTION_LINES {
            let what = format!("`{name}` has {lines} lines, at most {MAX_FUNCTION_LINES}");
            found.push(file.at(*offset, &what));
        }
    }
    found
}

pub(crate) fn files_say_what_they_are_for(file: &Source) -> Vec<String> {
    let first = file.raw.lines().next().unwrap_or("");
    let says = first
        .strip_prefix("//! ")
        .is_some_and(|sentence| sentence.trim().len() >= 10);
    let what = "line 1 is `//!` and one sentence: what this file is for";
    (!says).then(|| file.at(0, what)).into_iter().collect()
}

pub(crate) fn unsafe_lives_in_the_map(file: &Source) -> Vec<String> {
    let home = UNSAFE_HOMES.contains(&file.path.as_str());
    let mut found = Vec::new();
    for (offset, _) in words(&file.code)
        .into_iter()
        .filter(|(_, word)| *word == "unsafe")
    {
        if !home {
            found.push(file.at(offset, "`unsafe` lives in `src/io/map.rs` alone"));
        } else if !file.raw[..offset]
            .lines()
            .rev()
            .take(SAFETY_LINES)
            .any(|l| l.contains("SAFETY:"))
        {
            found.push(file.at(offset, "no `SAFETY:` above this `unsafe`"));
        }
    }
    found
}

pub(crate) fn nothing_gives_up_quietly(file: &Source) -> Vec<String> {
    let mut found = Vec::new();
    for (offset, word) in words(&file.shipped) {
        let after = file.shipped[offset + word.len()..].trim_start();
        let before = file.shipped[..offset].trim_end();
        let called = (before.ends_with('.') || before.ends_with("::")) && word == "unwrap";
        if called {
            found.push(file.at(
                offset,
                "`unwrap`: return an error, or `expect` with the invariant",
            ));
        }
        if matches!(word, "todo" | "unimplemented" | "dbg") && after.starts_with('!') {
            found.push(file.at(offset, &format!("`{word}!` is not for the tree")));
        }
    }
    found
}

/// `as u64`, `as u128` and floats are left to clippy's `cast_possible_truncation`, which knows the types: `usize` has
/// no `Into<u64>`. A cast that must be (a `const`) carries `// cast: why it fits` on its line or the one above.
pub(crate) fn casts_do_not_narrow(file: &Source) -> Vec<String> {
    const NARROW: [&str; 9] = [
        "u8", "u16", "u32", "usize", "i8", "i16", "i32", "i64", "isize",
    ];
    let mut found = Vec::new();
    for pair in words(&file.shipped).windows(2) {
        let [(offset, "as"), (_, to)] = pair else {
            continue;
        };
        let explained = file.raw[..*offset]
            .lines()
            .rev()
            .nth(1)
            .is_some_and(|l| l.contains("// cast: "));
        let rest_of_line = file.raw[*offset..].lines().next().unwrap_or("");
        if NARROW.contains(to) && !explained && !rest_of_line.contains("// cast: ") {
            found.push(file.at(*offset, &format!("`as {to}`: use `try_from`")));
        }
    }
    found
}

pub(crate) fn bytes_have_one_order(file: &Source) -> Vec<String> {
    let host = |word: &str| ["to_ne_bytes", "from_ne_bytes"].contains(&word);
    let found = words(&file.code).into_iter().filter(|(_, word)| host(word));
    found
        .map(|(offset, word)| file.at(offset, &format!("`{word}`: bytes are little-endian")))
        .collect()
}

pub(crate) fn names_mean_something(file: &Source) -> Vec<String> {
    const EMPTY: [&str; 6] = ["Manager", "Helper", "Util", "Utils", "Data", "Info"];
    let mut found = Vec::new();
    for pair in words(&file.code).windows(2) {
        let [(_, "struct" | "enum" | "trait" | "type"), (offset, name)] = pair else {
            continue;
        };
        if EMPTY.iter().any(|empty| name.ends_with(empty)) {
            found.push(file.at(
                *offset,
                &format!("`{name}` says nothing: which noun is it?"),
            ));
        }
    }
    found
}

/// A variant added later must not break a caller's `match`.
pub(crate) fn public_enums_stay_open(file: &Source) -> Vec<String> {
    let mut found = Vec::new();
    for pair in words(&file.shipped).windows(2) {
        let [(offset, "pub"), (_, "enum")] = pair else {
            continue;
        };
        let before = &file.shipped[..*offset];
        let attributes = &before[before.rfind(['}', ';']).unwrap_or(0)..];
        if !attributes.contains("#[non_exhaustive]") {
            found.push(file.at(*offset, "a public enum is `#[non_exhaustive]`"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(rule: fn(&Source) -> Vec<String>, path: &str, text: &str) -> usize {
        rule(&Source::new(path, text)).len()
    }

    #[test]
    fn imports_to_the_right_are_found() {
        let rule = imports_point_left;
        assert_eq!(found(rule, "src/log/a.rs", "use crate::engine::X;"), 1);
        assert_eq!(
            found(
                rule,
                "src/log/a.rs",
                "use crate::{event::A, index::{B, C}, engine};"
            ),
            2
        );
        assert_eq!(
            found(rule, "src/io/mod.rs", "fn f() -> crate :: log::X {}"),
            1
        );
        assert_eq!(
            found(rule, "src/log/a.rs", "use crate::{event::{A, B}, io::C,};"),
            0
        );
        assert_eq!(
            found(
                rule,
                "src/log/a.rs",
                "// crate::store\npub(crate) fn f() { \"crate::store\" }"
            ),
            0
        );
    }

    #[test]
    fn ways_round_the_rooms_are_found() {
        let rule = imports_point_left;
        assert_eq!(
            found(rule, "src/log/a.rs", "use super::super::store::X;"),
            2 - 1
        );
        assert_eq!(found(rule, "src/io/mod.rs", "use super::log;"), 1);
        assert_eq!(found(rule, "src/error.rs", "use super :: log;"), 1);
        assert_eq!(found(rule, "src/log/a.rs", "use crate::Store;"), 1);
        assert_eq!(found(rule, "src/log/a.rs", "use crate::*;"), 1);
        assert_eq!(found(rule, "src/cellar/a.rs", ""), 1);
        assert_eq!(
            found(
                rule,
                "src/io/mod.rs",
                "#[cfg(test)] mod tests { use super::*; }"
            ),
            0
        );
        assert_eq!(found(rule, "src/lib.rs", "pub use crate::store::Store;"), 0);
    }

    #[test]
    fn std_in_event_is_found() {
        let rule = events_need_no_std;
        assert_eq!(found(rule, "src/event/id.rs", "use std::fmt;"), 1);
        assert_eq!(
            found(rule, "src/event/id.rs", "fn f(x: ::std::fmt::Error) {}"),
            1
        );
        assert_eq!(
            found(
                rule,
                "src/event/id.rs",
                "use core::fmt; #[cfg(test)] use std::fmt;"
            ),
            0
        );
        assert_eq!(found(rule, "src/io/real.rs", "use std::fs;"), 0);
    }

    #[test]
    fn long_files_are_found() {
        assert_eq!(found(files_are_short, "src/a.rs", &"\n".repeat(601)), 1);
        assert_eq!(found(files_are_short, "src/a.rs", &"\n".repeat(600)), 0);
    }

    #[test]
    fn long_functions_are_found() {
        let rule = functions_are_short;
        let body = |lines: usize| {
            format!(
                "fn f() -> [u8; 2] {{\n{}}}\n",
                "    let s = \"}\"; // }\n".repeat(lines)
            )
        };
        assert_eq!(found(rule, "src/a.rs", &body(69)), 1);
        assert_eq!(found(rule, "src/a.rs", &body(68)), 0);
        let plain = format!(
            "struct S {{ f: fn(u8) }}\n{}trait T {{ fn g(); }}\n",
            "\n".repeat(80)
        );
        assert_eq!(found(rule, "src/a.rs", &plain), 0);
    }

    #[test]
    fn files_without_a_purpose_are_found() {
        let rule = files_say_what_they_are_for;
        assert_eq!(found(rule, "src/a.rs", "use x;"), 1);
        assert_eq!(found(rule, "src/a.rs", "//!"), 1);
        assert_eq!(found(rule, "src/a.rs", ""), 1);
        assert_eq!(found(rule, "src/a.rs", "//! What this is for."), 0);
    }

    #[test]
    fn unsafe_elsewhere_or_unexplained_is_found() {
        let rule = unsafe_lives_in_the_map;
        assert_eq!(
            found(rule, "src/log/a.rs", "// SAFETY: no\nunsafe { x }"),
            1
        );
        assert_eq!(found(rule, "src/io/map.rs", "unsafe { x }"), 1);
        assert_eq!(
            found(rule, "src/io/map.rs", "// SAFETY: y\nunsafe { x }"),
            0
        );
        assert_eq!(
            found(rule, "src/log/a.rs", "#![allow(unsafe_code)] // unsafe"),
            0
        );
    }

    #[test]
    fn giving_up_is_found() {
        let rule = nothing_gives_up_quietly;
        assert_eq!(found(rule, "src/a.rs", "fn f() { x.unwrap(); }"), 1);
        assert_eq!(found(rule, "src/a.rs", "fn f() { x\n  .unwrap () }"), 1);
        assert_eq!(
            found(rule, "src/a.rs", "fn f() { y.map(Option::unwrap) }"),
            1
        );
        assert_eq!(
            found(
                rule,
                "src/a.rs",
                "fn f() { todo!(); unimplemented!(\"\"); dbg!(x) }"
            ),
            3
        );
        assert_eq!(
            found(
                rule,
                "src/a.rs",
                "fn f() { x.unwrap_or(0) } #[test] fn t() { x.unwrap() }"
            ),
            0
        );
    }

    #[test]
    fn narrowing_casts_are_found() {
        let rule = casts_do_not_narrow;
        assert_eq!(found(rule, "src/a.rs", "fn f() { x as u32 }"), 1);
        assert_eq!(
            found(rule, "src/a.rs", "fn f() { (x as usize, y as\n u8) }"),
            2
        );
        assert_eq!(
            found(rule, "src/a.rs", "use a as b; fn f() { x as u64 }"),
            0
        );
        assert_eq!(
            found(
                rule,
                "src/a.rs",
                "// cast: 4096 fits\nconst A: usize = B as usize;"
            ),
            0
        );
        assert_eq!(
            found(
                rule,
                "src/a.rs",
                "#[cfg(test)] mod t { fn f() { x as u8 } }"
            ),
            0
        );
    }

    #[test]
    fn host_order_and_empty_names_are_found() {
        assert_eq!(
            found(
                bytes_have_one_order,
                "src/a.rs",
                "x.to_ne_bytes(); u8::from_ne_bytes(y)"
            ),
            2
        );
        assert_eq!(
            found(bytes_have_one_order, "src/a.rs", "x.to_le_bytes()"),
            0
        );
        assert_eq!(
            found(
                names_mean_something,
                "src/a.rs",
                "struct FileManager; enum LogInfo {}"
            ),
            2
        );
        assert_eq!(
            found(
                names_mean_something,
                "src/a.rs",
                "struct Metadata; fn data() {}"
            ),
            0
        );
    }

    #[test]
    fn closed_public_enums_are_found() {
        let rule = public_enums_stay_open;
        assert_eq!(found(rule, "src/a.rs", "pub enum A { B }"), 1);
        let second = "#[non_exhaustive] pub enum A { B } pub enum C { D }";
        assert_eq!(found(rule, "src/a.rs", second), 1);
        let open = "#[non_exhaustive]\n#[derive(Debug)]\npub enum A { B } pub(crate) enum C { D }";
        assert_eq!(found(rule, "src/a.rs", open), 0);
    }
}

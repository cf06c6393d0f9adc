//! Reads Rust as text: the same text with comments and literals blanked, and again with the tests blanked.
//!
//! Every blanked byte becomes a space and line ends stay, so offsets and line numbers are those of the file.

/// One Rust file and its blanked forms.
pub(crate) struct Source {
    /// Path from the root, `/` between.
    pub(crate) path: String,
    /// As written.
    pub(crate) raw: String,
    /// Without comments, strings and characters.
    pub(crate) code: String,
    /// `code` without what only tests compile.
    pub(crate) shipped: String,
}

impl Source {
    pub(crate) fn new(path: &str, raw: &str) -> Self {
        let code = blank_literals(raw);
        let shipped = blank_tests(&code);
        Self {
            path: path.to_owned(),
            raw: raw.to_owned(),
            code,
            shipped,
        }
    }

    /// A finding: where, and what to do.
    pub(crate) fn at(&self, offset: usize, what: &str) -> String {
        let line = self.raw[..offset].matches('\n').count() + 1;
        format!("{}:{line}: {what}", self.path)
    }
}

/// Blanks what ships of every file that another declares under `#[cfg(test)]`, as in `#[cfg(test)] mod golden;`.
pub(crate) fn blank_test_files(files: &mut [Source]) {
    let only_tests: Vec<String> = files.iter().flat_map(test_files_of).collect();
    for file in files {
        let module = file.path.trim_end_matches(".rs").trim_end_matches("/mod");
        if only_tests
            .iter()
            .any(|test| module == test || module.starts_with(&format!("{test}/")))
        {
            file.shipped = blank(&file.code, 0, file.code.len());
        }
    }
}

/// The modules, as paths without `.rs`, that this file declares for tests.
fn test_files_of(file: &Source) -> Vec<String> {
    let shipped = words(&file.shipped);
    let folder = file
        .path
        .trim_end_matches("/mod.rs")
        .trim_end_matches("/lib.rs")
        .trim_end_matches(".rs");
    let mut found = Vec::new();
    for pair in words(&file.code).windows(2) {
        let [(offset, "mod"), (name_at, name)] = pair else {
            continue;
        };
        let declared = file.code[name_at + name.len()..]
            .trim_start()
            .starts_with(';');
        if declared && !shipped.contains(&(*offset, "mod")) {
            found.push(format!("{folder}/{name}"));
        }
    }
    found
}

fn blank(text: &str, from: usize, to: usize) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for byte in &mut bytes[from..to] {
        if *byte != b'\n' {
            *byte = b' ';
        }
    }
    String::from_utf8(bytes).expect("whole characters were blanked")
}

pub(crate) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// Comments, strings and characters as spaces.
fn blank_literals(raw: &str) -> String {
    let bytes = raw.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = literal_end(bytes, at);
        for byte in &mut out[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end.max(at + 1);
    }
    String::from_utf8(out).expect("whole characters were blanked")
}

/// Where the comment or literal that starts at `at` ends; `at` itself if none starts there.
fn literal_end(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    if rest.starts_with(b"//") {
        return rest
            .iter()
            .position(|byte| *byte == b'\n')
            .map_or(bytes.len(), |n| at + n);
    }
    if rest.starts_with(b"/*") {
        return block_comment_end(bytes, at);
    }
    match rest[0] {
        b'"' => string_end(bytes, at),
        b'r' => raw_string_end(bytes, at).unwrap_or(at),
        b'\'' => char_end(bytes, at).unwrap_or(at),
        _ => at,
    }
}

fn block_comment_end(bytes: &[u8], at: usize) -> usize {
    let mut depth = 0_usize;
    let mut now = at;
    while now < bytes.len() {
        if bytes[now..].starts_with(b"/*") {
            depth += 1;
            now += 2;
        } else if bytes[now..].starts_with(b"*/") {
            depth -= 1;
            now += 2;
            if depth == 0 {
                return now;
            }
        } else {
            now += 1;
        }
    }
    bytes.len()
}

fn string_end(bytes: &[u8], at: usize) -> usize {
    let mut now = at + 1;
    while now < bytes.len() {
        match bytes[now] {
            b'\\' => now += 2,
            b'"' => return now + 1,
            _ => now += 1,
        }
    }
    bytes.len()
}

/// `r"..."`, `br#"..."#`; `None` for a name that begins with r, and for `r#name`.
fn raw_string_end(bytes: &[u8], at: usize) -> Option<usize> {
    let before = &bytes[..at];
    let before = before
        .strip_suffix(b"b")
        .or(before.strip_suffix(b"c"))
        .unwrap_or(before);
    if before.last().is_some_and(|byte| is_word(*byte)) {
        return None;
    }
    let hashes = bytes[at + 1..]
        .iter()
        .take_while(|byte| **byte == b'#')
        .count();
    let open = at + 1 + hashes;
    if bytes.get(open) != Some(&b'"') {
        return None;
    }
    let mut close = vec![b'"'];
    close.resize(hashes + 1, b'#');
    let inside = &bytes[open + 1..];
    let end = inside
        .windows(close.len())
        .position(|window| window == close);
    Some(end.map_or(bytes.len(), |n| open + 1 + n + close.len()))
}

/// `'x'` and `'\n'`; `None` for a lifetime.
fn char_end(bytes: &[u8], at: usize) -> Option<usize> {
    let first = *bytes.get(at + 1)?;
    if first == b'\\' {
        let close = bytes
            .get(at + 3..)?
            .iter()
            .position(|byte| *byte == b'\'')?;
        return Some(at + 3 + close + 1);
    }
    let width = match first {
        0..=0x7f => 1,
        0x80..=0xdf => 2,
        0xe0..=0xef => 3,
        _ => 4,
    };
    (bytes.get(at + 1 + width) == Some(&b'\'')).then_some(at + width + 2)
}

/// Items under `#[cfg(test)]`, `#[cfg(all(test, ..))]` or `#[test]` as spaces.
fn blank_tests(code: &str) -> String {
    let mut out = code.to_owned();
    for mark in ["#[cfg(test)]", "#[cfg(all(test", "#[test]"] {
        while let Some(start) = out.find(mark) {
            let end = item_end(out.as_bytes(), start);
            out = blank(&out, start, end);
        }
    }
    out
}

/// Where the item ends whose first attribute starts at `start`.
fn item_end(bytes: &[u8], start: usize) -> usize {
    let mut now = start;
    while bytes.get(now) == Some(&b'#') {
        now = matching(bytes, now + 1);
        now += bytes[now..]
            .iter()
            .take_while(|byte| byte.is_ascii_whitespace())
            .count();
    }
    match body(bytes, now) {
        Some(open) => matching(bytes, open),
        None => end_without_body(bytes, now),
    }
}

fn end_without_body(bytes: &[u8], from: usize) -> usize {
    let end = bytes[from..]
        .iter()
        .position(|byte| matches!(byte, b';' | b'}'));
    end.map_or(bytes.len(), |n| {
        from + n + usize::from(bytes[from + n] == b';')
    })
}

/// The `{` that opens the body of the item whose head starts at `from`; `None` when `;` comes first.
pub(crate) fn body(bytes: &[u8], from: usize) -> Option<usize> {
    let mut now = from;
    while now < bytes.len() {
        match bytes[now] {
            b'(' | b'[' => now = matching(bytes, now),
            b'{' => return Some(now),
            b';' | b'}' => return None,
            _ => now += 1,
        }
    }
    None
}

/// Just behind the bracket that closes the one at `open`; the end of the text if none does.
pub(crate) fn matching(bytes: &[u8], open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, byte) in bytes.iter().enumerate().skip(open) {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
    }
    bytes.len()
}

/// Every identifier and keyword of blanked code with its offset.
pub(crate) fn words(code: &str) -> Vec<(usize, &str)> {
    let bytes = code.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let length = bytes[at..]
            .iter()
            .take_while(|byte| is_word(**byte))
            .count();
        if length > 0 {
            found.push((at, &code[at..at + length]));
        }
        at += length.max(1);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_blanked() {
        let raw = concat!(
            "a /* x /* y */ z */ b // c\n",
            r##"d "e \" f" g r#"h " i"# j b'k' l '\'' m &'n o '{' p br"q\" s '"' t 'ß' u"##,
        );
        let code = blank_literals(raw);
        let seen: Vec<_> = words(&code).into_iter().map(|(_, word)| word).collect();
        assert_eq!(seen.join(" "), "a b d g j b l m n o p b s t u");
        assert_eq!(code.len(), raw.len());
        assert!(!code.contains(['{', '"']));
    }

    #[test]
    fn tests_are_blanked_and_the_rest_stays() {
        let raw = "fn a() {}\n#[cfg(test)]\n#[path = \"x\"]\nmod t { fn b() { c } }\nfn d() {}\n\
                   #[cfg(test)] use e::f;\nfn g() -> [u8; 3] {}\n#[cfg(not(test))] fn h() {}";
        let seen = Source::new("src/x.rs", raw).shipped;
        let seen: Vec<_> = words(&seen).into_iter().map(|(_, word)| word).collect();
        assert_eq!(seen.join(" "), "fn a fn d fn g u8 3 cfg not test fn h");
    }

    #[test]
    fn a_test_file_ships_nothing() {
        let mut files = [
            Source::new(
                "src/log/mod.rs",
                "mod plan; #[cfg(test)] mod golden; #[cfg(test)] mod t { fn x() {} }",
            ),
            Source::new("src/log/golden.rs", "mod deep;"),
            Source::new("src/log/golden/deep.rs", "fn a() {}"),
            Source::new("src/log/plan.rs", "fn a() {} #[cfg(test)] mod tests;"),
            Source::new("src/log/plan/tests.rs", "fn a() {}"),
        ];
        blank_test_files(&mut files);
        let shipped: Vec<_> = files.iter().map(|file| file.shipped.trim()).collect();
        assert_eq!(shipped, ["mod plan;", "", "", "fn a() {}", ""]);
    }
}

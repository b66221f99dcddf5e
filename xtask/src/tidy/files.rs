//! How long files are, and what must not be in them.

use super::Source;

const RUST_LINES_MAX: usize = 400;
const MAIN_LINES_MAX: usize = 40;
const README_LINES_MAX: usize = 150;

/// What must not be in Rust, and what to do instead. In pieces, so that this file may be checked.
const BANNED: [(&str, &str); 4] = [
    (concat!("#[", "allow("), "use #[expect(…, reason = \"…\")]"),
    (concat!("#![", "allow("), "use #![expect(…, reason = \"…\")]"),
    (concat!("todo", "!("), "write it"),
    (concat!("unimplemented", "!("), "write it"),
];

pub(super) fn check(sources: &[Source]) -> Vec<String> {
    sources.iter().flat_map(|source| [length(source), banned(source)].concat()).collect()
}

fn length(source: &Source) -> Vec<String> {
    let max = match source.path.as_str() {
        "README.md" => README_LINES_MAX,
        path if path.ends_with("/src/main.rs") => MAIN_LINES_MAX,
        _ if source.is("rs") => RUST_LINES_MAX,
        _ => return vec![],
    };
    let lines = source.text.lines().count();
    if lines <= max {
        return vec![];
    }
    vec![format!("{}:{lines}: {lines} lines, at most {max}", source.path)]
}

fn banned(source: &Source) -> Vec<String> {
    if !source.is("rs") {
        return vec![];
    }
    let lines = source.text.lines().enumerate();
    lines
        .flat_map(|(index, line)| {
            let found = BANNED.iter().filter(|(banned, _)| line.contains(banned));
            found.map(move |(banned, instead)| {
                format!("{}:{}: no `{banned}`: {instead}", source.path, index + 1)
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::source;

    #[test]
    fn a_file_may_have_as_many_lines_as_its_kind_and_no_more() {
        let lines = |count: usize| "x\n".repeat(count);
        let complaints = |path, count| check(&[source(path, &lines(count))]).len();
        assert_eq!(complaints("ledger/src/lib.rs", 400), 0);
        assert_eq!(complaints("ledger/src/lib.rs", 401), 1);
        assert_eq!(complaints("gateway/src/main.rs", 41), 1);
        assert_eq!(complaints("ledger/tests/admin/main.rs", 41), 0);
        assert_eq!(complaints("README.md", 151), 1);
        assert_eq!(complaints("docs/README.md", 151), 0);
    }

    #[test]
    fn an_unexplained_exception_and_unwritten_code_are_found_where_they_are() {
        let text = format!("fn a() {{}}\n{}dead_code)]\n{})\n", BANNED[0].0, BANNED[3].0);
        let complaints = check(&[source("a/src/lib.rs", &text)]);
        assert_eq!(complaints.len(), 2);
        assert!(complaints[0].starts_with("a/src/lib.rs:2: "), "{complaints:?}");
        assert!(complaints[1].starts_with("a/src/lib.rs:3: "), "{complaints:?}");
    }
}

//! Lua scripts: short, with a header that says what goes in and what comes out.

use std::collections::BTreeSet;

use super::Source;

const LINES_MAX: usize = 60;

pub(super) fn check(sources: &[Source]) -> Vec<String> {
    let scripts = sources.iter().filter(|source| source.is("lua"));
    scripts
        .flat_map(|source| {
            let complaints = check_script(&source.text);
            complaints.into_iter().map(|complaint| format!("{}:1: {complaint}", source.path))
        })
        .collect()
}

fn check_script(text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    let lines = text.lines().count();
    if lines > LINES_MAX {
        complaints.push(format!("{lines} lines, at most {LINES_MAX}"));
    }
    let header: Vec<&str> = text.lines().map_while(|line| line.strip_prefix("-- ")).collect();
    for word in ["Purpose: ", "Reply: "] {
        if !header.iter().any(|line| line.starts_with(word)) {
            complaints.push(format!("the header has no `-- {}`", word.trim()));
        }
    }
    let code: Vec<&str> = text.lines().map(without_comment).collect();
    let code = code.join("\n");
    for array in ["KEYS", "ARGV"] {
        complaints.extend(check_array(array, &header, &code));
    }
    complaints
}

/// The header declares 1, 2, 3 … and the body uses exactly these.
fn check_array(array: &str, header: &[&str], code: &str) -> Vec<String> {
    let lines = header.iter().filter(|line| line.starts_with(array));
    let declared: Vec<usize> =
        lines.filter_map(|line| indices(array, line).0.pop_first()).collect();
    let (used, has_computed) = indices(array, code);
    let mut complaints = Vec::new();
    if !declared.iter().copied().eq(1..=declared.len()) {
        complaints.push(format!("the header lists {array} not as 1, 2, 3 …: {declared:?}"));
    }
    for index in used.iter().filter(|index| !declared.contains(index)) {
        complaints.push(format!("{array}[{index}] is used but not in the header"));
    }
    // A loop over the rest uses them without naming them.
    if !has_computed {
        for index in declared.iter().filter(|index| !used.contains(index)) {
            complaints.push(format!("{array}[{index}] is in the header but not used"));
        }
    }
    complaints
}

/// The indices written as numbers, and whether others are computed.
fn indices(array: &str, text: &str) -> (BTreeSet<usize>, bool) {
    let start = format!("{array}[");
    let mut numbers = BTreeSet::new();
    let mut has_computed =
        text.contains(&format!("#{array}")) || text.contains(&format!("({array}"));
    for rest in text.split(&start).skip(1) {
        match rest.split(']').next().unwrap_or_default().trim().parse() {
            Ok(number) => drop(numbers.insert(number)),
            Err(_) => has_computed = true,
        }
    }
    (numbers, has_computed)
}

fn without_comment(line: &str) -> &str {
    line.split("--").next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "-- Purpose: counts.\n-- KEYS[1] ledger: the counter\n-- ARGV[1] more: how many\n\
        -- Reply: done\nredis.call('INCRBY', KEYS[1], ARGV[1]) -- not KEYS[2]\nreturn {'done'}\n";

    #[test]
    fn a_script_whose_header_matches_its_body_is_fine() {
        assert_eq!(check_script(GOOD), Vec::<String>::new());
    }

    #[test]
    fn a_missing_purpose_or_reply_is_found() {
        assert_eq!(check_script(&GOOD.replace("-- Purpose: counts.\n", "")).len(), 1);
        assert_eq!(check_script(&GOOD.replace("-- Reply: done\n", "")).len(), 1);
    }

    #[test]
    fn an_index_only_in_the_body_or_only_in_the_header_is_found() {
        let body = check_script(&GOOD.replace("ARGV[1])", "ARGV[2])"));
        assert_eq!(
            body,
            ["ARGV[2] is used but not in the header", "ARGV[1] is in the header but not used"]
        );
    }

    #[test]
    fn a_gap_in_the_header_is_found() {
        assert!(!check_script(&GOOD.replace("KEYS[1]", "KEYS[2]")).is_empty());
    }

    #[test]
    fn a_loop_uses_the_indices_it_does_not_name() {
        let script = GOOD.replace("ARGV[1])", "0) for i = 1, #ARGV do f(ARGV[i]) end");
        assert_eq!(check_script(&script), Vec::<String>::new());
    }

    #[test]
    fn a_long_script_is_found() {
        assert_eq!(check_script(&format!("{GOOD}{}", "\n".repeat(55))).len(), 1);
    }
}

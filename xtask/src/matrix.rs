//! The page of the crash matrix, made of the lines that its tests wrote.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::workspace;

pub(crate) const PAGE: &str = "docs/crash-matrix.md";
/// The head of the table on the page; the lines follow to the end.
const HEAD: &str = "|---|---|---|---|---|\n";

/// Puts the lines in `folder`, one per file, in place of those on the page.
pub(crate) fn write(folder: &Path) -> Result<()> {
    let mut files: Vec<_> =
        fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    files.sort();
    ensure!(!files.is_empty(), "no test wrote a line");
    let lines: Vec<String> = files.iter().map(fs::read_to_string).collect::<Result<_, _>>()?;
    let path = workspace::root().join(PAGE);
    let page = fs::read_to_string(&path)?;
    fs::write(&path, with_lines(&page, &lines.concat())?)?;
    println!("{} lines in {PAGE}", lines.len());
    Ok(())
}

fn with_lines(page: &str, lines: &str) -> Result<String> {
    let (before, _) = page.split_once(HEAD).with_context(|| format!("{PAGE} has no table"))?;
    Ok(format!("{before}{HEAD}{lines}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_a_run_replace_all_others() {
        let page = format!("# Head\n\n| a |\n{HEAD}| old |\n");
        assert_eq!(
            with_lines(&page, "| new |\n").expect("a page"),
            format!("# Head\n\n| a |\n{HEAD}| new |\n")
        );
        assert!(with_lines("nothing", "").is_err());
    }
}

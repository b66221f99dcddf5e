//! Links in the documents lead somewhere.

use std::path::Path;

use super::Source;

pub(super) fn check(sources: &[Source], root: &Path) -> Vec<String> {
    let documents = sources.iter().filter(|source| {
        source.path == "README.md" || (source.is("md") && source.path.starts_with("docs/"))
    });
    documents.flat_map(|document| check_document(document, root)).collect()
}

fn check_document(document: &Source, root: &Path) -> Vec<String> {
    let path = root.join(&document.path);
    let folder = path.parent().unwrap_or(root);
    let broken = links(&document.text).into_iter().filter(|(_, link)| !folder.join(link).exists());
    broken.map(|(line, link)| format!("{}:{line}: no file {link}", document.path)).collect()
}

/// Links to files, with the line each is in; without anchors and what is shown as code.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut links = Vec::new();
    let mut is_code = false;
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        }
        if is_code {
            continue;
        }
        for rest in line.split("](").skip(1) {
            let target = rest.split(')').next().unwrap_or_default();
            let file = target.split('#').next().unwrap_or_default().trim();
            if !file.is_empty() && !file.contains("://") && !file.starts_with("mailto:") {
                links.push((index + 1, file.to_owned()));
            }
        }
    }
    links
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_links_to_files_are_followed() {
        let text = "[a](docs/a.md#b) [b](https://x.example/y) [c](#c)\n```\n[d](d)\n```\n[e](../e)";
        assert_eq!(links(text), [(1, "docs/a.md".to_owned()), (5, "../e".to_owned())]);
    }

    #[test]
    fn a_link_to_nothing_is_found() {
        let root = crate::workspace::root();
        let text = "[x](nobody-wrote-this.md)\n[y](../Cargo.toml)\n".to_owned();
        let document = Source { path: "docs/x.md".to_owned(), text };
        assert_eq!(
            check(&[document], &root),
            ["docs/x.md:1: no file nobody-wrote-this.md".to_owned()]
        );
    }
}

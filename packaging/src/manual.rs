//! The configuration file as it is installed, and its manual page: both from the daemon's own
//! `default.toml`, so that they cannot say something else.

use std::fmt::Write;

/// What a package sets differently from the built-in defaults.
const PACKAGED: [(&str, &str); 2] = [
    ("data_dir", "/var/lib/althing"),
    ("admin_socket", "/run/althing/admin.sock"),
];

/// The file for `/etc/althing/althing.toml`: every default commented out, so that an upgrade that
/// changes one is not held up by a copy of the old one, and what the package decides set.
#[must_use]
pub fn packaged_toml(default: &str) -> String {
    let mut text = String::new();
    for line in default.lines() {
        let packaged = option_of(line).and_then(|(key, _)| {
            let found = PACKAGED.iter().find(|(name, _)| *name == key);
            found.map(|(name, value)| format!("{name} = \"{value}\""))
        });
        match (packaged, option_of(line)) {
            (Some(line), _) => text.push_str(&line),
            (None, Some(_)) => {
                text.push('#');
                text.push_str(line);
            }
            (None, None) => text.push_str(line),
        }
        text.push('\n');
    }
    text
}

/// The manual page `althing.toml(5)`.
#[must_use]
pub fn manual_page(default: &str, version: &str) -> String {
    let mut page = format!(
        ".TH ALTHING.TOML 5 \"\" \"althing {version}\" \"File formats\"\n.SH NAME\nalthing.toml \
         \\- configuration of althingd\n.SH SYNOPSIS\n/etc/althing/althing.toml\n.SH DESCRIPTION\n"
    );
    let mut comment: Vec<&str> = Vec::new();
    for line in default.lines() {
        if let Some(rest) = line.strip_prefix('#') {
            comment.push(rest.strip_prefix(' ').unwrap_or(rest));
            continue;
        }
        if let Some((key, value)) = option_of(line) {
            let flag = comment.first().and_then(|first| first.split_once("  "));
            let (flag, first) = flag.unwrap_or(("", ""));
            let _ = writeln!(page, ".TP\n.B {}", roff(key));
            let _ = writeln!(page, "{}", roff(first));
            for line in comment.iter().skip(1) {
                let _ = writeln!(page, "{}", roff(line));
            }
            let _ = writeln!(page, ".br\nFlag {}, default {}.", roff(flag), roff(value));
        } else if let Some(section) = line.strip_prefix('[') {
            let section = section.trim_end_matches(']').to_uppercase();
            let _ = writeln!(page, ".SH SECTION [{}]", roff(&section.to_lowercase()));
        } else {
            paragraphs(&mut page, &comment);
        }
        comment.clear();
    }
    page.push_str(".SH SEE ALSO\n.BR althingd (1),\n.BR althingctl (1)\n");
    page
}

/// Running text; lines that are indented are shown as they are.
fn paragraphs(page: &mut String, comment: &[&str]) {
    for line in comment {
        let _ = match line.trim() {
            "" => writeln!(page, ".PP"),
            _ if line.starts_with(' ') => writeln!(page, ".PP\n{}\n.PP", roff(line.trim())),
            _ => writeln!(page, "{}", roff(line)),
        };
    }
    if !comment.is_empty() {
        page.push_str(".PP\n");
    }
}

/// The key and value of a line that sets an option.
fn option_of(line: &str) -> Option<(&str, &str)> {
    line.split_once(" = ").filter(|_| !line.starts_with('#'))
}

fn roff(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    if text.starts_with(['.', '\'']) {
        format!("\\&{text}")
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOML: &str = "# Words.\n\n[member]\n# --data-dir  Where it lies;\n# 'more'.\ndata_dir = \
                        \"\"\n\n# --name  Its name.\n# Why.\nname = \"a\"\n";

    #[test]
    fn defaults_are_comments_and_the_packages_own_values_are_set() {
        let text = packaged_toml(TOML);
        assert!(
            text.contains("\ndata_dir = \"/var/lib/althing\"\n"),
            "{text}"
        );
        assert!(text.contains("\n#name = \"a\"\n"), "{text}");
        assert!(text.contains("\n[member]\n"), "{text}");
    }

    #[test]
    fn the_page_has_every_option_with_its_flag_and_default() {
        let page = manual_page(TOML, "1.2.3");
        let expected = ".TP\n.B data_dir\nWhere it lies;\n\\&'more'.\n.br\nFlag \\-\\-data\\-dir, \
                        default \"\".\n";
        assert!(page.contains(expected), "{page}");
        assert!(page.contains(".SH SECTION [member]\n"), "{page}");
    }
}

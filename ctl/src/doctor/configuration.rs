//! What is wrong with a configuration file.

use althing_conf::{LoadError, Loaded, Mistake};

use super::Finding;

/// Judges the file `name` as `althing_conf` read it.
pub fn judge(name: &str, judged: &Result<Loaded, LoadError>) -> Vec<Finding> {
    let why = "a member refuses to start with it, and a reload leaves the running one as it is";
    match judged {
        Ok(loaded) => {
            let warned = loaded.warnings.iter();
            warned
                .map(|warning| Finding::warning("config-no-effect", name, warning))
                .collect()
        }
        Err(LoadError::Refused(mistakes)) => mistakes
            .iter()
            .map(|mistake| {
                let text = Mistake {
                    remedy: String::new(),
                    ..mistake.clone()
                };
                Finding::error("config-refused", name, text.to_string())
                    .because(why)
                    .so(remedy(name, mistake))
            })
            .collect(),
        Err(other) => vec![Finding::error("config-refused", name, other.to_string()).because(why)],
    }
}

fn remedy(name: &str, mistake: &Mistake) -> String {
    let again = format!("then althingctl config check {name}");
    match mistake.remedy.as_str() {
        "" => format!("correct it, {again}"),
        remedy => format!("{remedy}, {again}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Severity;
    use althing_conf::{FileInstead, check_file};

    fn found(text: &str) -> Vec<Finding> {
        let name = "a.toml";
        judge(name, &check_file(FileInstead { name, text }))
    }

    #[test]
    fn each_mistake_is_a_finding_with_its_place_and_remedy() {
        assert!(found("").is_empty());
        let found = found("[member]\nnome = \"x\"\n[raft]\nheartbeat_interval = \"x\"\n");
        assert_eq!(found.len(), 2, "{found:?}");
        for finding in &found {
            assert_eq!(finding.severity, Severity::Error);
            assert_eq!(finding.place, "a.toml");
            assert!(finding.text.contains("a.toml"), "{finding:?}");
            assert!(finding.remedy.contains("althingctl config check a.toml"));
        }
    }
}

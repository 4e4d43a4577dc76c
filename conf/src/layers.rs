//! Default < file < environment < flag, remembering where each value came from.
//!
//! The `config` crate merges; each value carries its origin as that crate's origin text.

use crate::error::Mistake;
use crate::flags::{CONFIG_FILE, Flags};
use crate::foreign::{self, FOREIGN};
use crate::nearest::nearest;
use crate::option::{self, OPTIONS};
use config::{ConfigError, File, FileFormat, Map, Source, Value, ValueKind};
use std::collections::BTreeMap;

/// How the origin of a flag's value begins.
pub(crate) const FLAG: &str = "the flag --";
/// The origin of a value that nobody set.
pub(crate) const DEFAULT: &str = "the built-in default";

/// Values by dotted key.
pub(crate) type Values = BTreeMap<String, Value>;

/// One layer, ready to be merged.
#[derive(Clone, Debug, Default)]
pub(crate) struct Layer(pub Map<String, Value>);

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        Ok(self.0.clone())
    }
}

impl Layer {
    fn set(&mut self, key: &str, origin: String, kind: impl Into<ValueKind>) {
        self.0
            .insert(key.to_owned(), Value::new(Some(&origin), kind));
    }
}

/// What a set of names beside our options amounts to.
#[derive(Debug, Default)]
pub(crate) struct Remarks {
    pub mistakes: Vec<Mistake>,
    pub warnings: Vec<String>,
}

/// Merges layers, the later winning. Errors: a default that is not TOML, which a test excludes.
pub(crate) fn merge(layers: impl IntoIterator<Item = Layer>) -> Result<Values, ConfigError> {
    let mut builder = config::Config::builder();
    for layer in layers {
        builder = builder.add_source(layer);
    }
    let mut values = Values::new();
    flatten("", builder.build()?.collect()?, &mut values);
    Ok(values)
}

/// The lowest layer.
pub(crate) fn default(text: &str) -> Result<Layer, ConfigError> {
    let mut values = Values::new();
    flatten(
        "",
        File::from_str(text, FileFormat::Toml).collect()?,
        &mut values,
    );
    let mut layer = Layer::default();
    for (key, value) in values {
        layer.set(&key, DEFAULT.to_owned(), value.kind);
    }
    Ok(layer)
}

/// The layer of a file's text. Text that is not TOML and unknown keys become mistakes.
pub(crate) fn file(path: &str, text: &str, remarks: &mut Remarks) -> Layer {
    let mut layer = Layer::default();
    let map = match File::from_str(text, FileFormat::Toml).collect() {
        Ok(map) => map,
        Err(error) => {
            remarks.mistakes.push(Mistake {
                option: "the configuration file".to_owned(),
                flag: CONFIG_FILE.to_owned(),
                value: path.to_owned(),
                origin: String::new(),
                problem: format!("is not TOML: {}", one_line(&error.to_string())),
                remedy: "compare it with default.toml; etcd's YAML files are not read".to_owned(),
            });
            return layer;
        }
    };
    let mut values = Values::new();
    flatten("", map, &mut values);
    let lines = lines(text);
    for (key, value) in values {
        let origin = match lines.get(&key) {
            Some(line) => format!("{path} line {line}"),
            None => path.to_owned(),
        };
        if option::by_key(&key).is_some() {
            layer.set(&key, origin, value.kind);
        } else {
            remarks.mistakes.push(unknown_key(&key, origin));
        }
    }
    layer
}

/// The layer of the environment, given as (name, value). An empty variable counts as not set.
/// Unknown names only warn: container platforms put names of their own beside ours.
pub(crate) fn environment(vars: &BTreeMap<String, String>, remarks: &mut Remarks) -> Layer {
    let mut layer = Layer::default();
    for option in OPTIONS {
        let given = option::flags_of(option).filter_map(|flag| lookup(vars, flag));
        for (name, value) in given {
            layer.set(option.key, format!("the variable {name}"), value);
        }
    }
    for foreign in FOREIGN {
        if let Some((name, value)) = lookup(vars, foreign.flag) {
            judge(
                foreign.flag,
                &value,
                format!("the variable {name}"),
                remarks,
            );
        }
    }
    let known = |name: &str| {
        let flag = ["ALTHING_", "ETCD_"]
            .iter()
            .find_map(|prefix| name.strip_prefix(prefix));
        flag.is_none_or(|flag| {
            let flag = flag.to_ascii_lowercase().replace('_', "-");
            let ours = flag == CONFIG_FILE || option::by_flag(&flag).is_some();
            ours || foreign::by_flag(&flag).is_some()
        })
    };
    let unknown: Vec<&str> = vars
        .keys()
        .map(String::as_str)
        .filter(|name| !known(name))
        .collect();
    if !unknown.is_empty() {
        remarks.warnings.push(format!(
            "unknown variables are ignored: {}",
            unknown.join(", ")
        ));
    }
    layer
}

/// The layer of the flags.
pub(crate) fn flags(flags: &Flags, remarks: &mut Remarks) -> Layer {
    let mut layer = Layer::default();
    for (flag, value) in &flags.options {
        let option = option::by_flag(flag).expect("the parser knows the table's flags only");
        layer.set(option.key, format!("{FLAG}{flag}"), value.clone());
    }
    for (flag, value) in &flags.foreign {
        judge(flag, value, format!("{FLAG}{flag}"), remarks);
    }
    layer
}

/// A flag's variable: ours, or etcd's where ours is not set.
pub(crate) fn lookup(vars: &BTreeMap<String, String>, flag: &str) -> Option<(String, String)> {
    let suffix = flag.to_ascii_uppercase().replace('-', "_");
    ["ALTHING_", "ETCD_"].iter().find_map(|prefix| {
        let name = format!("{prefix}{suffix}");
        let value = vars.get(&name).filter(|value| !value.is_empty())?;
        Some((name, value.clone()))
    })
}

/// Warns of a harmless flag of etcd, refuses any other.
fn judge(flag: &str, value: &str, origin: String, remarks: &mut Remarks) {
    let foreign = foreign::by_flag(flag).expect("callers walk the table");
    if foreign.accepts(value) {
        remarks
            .warnings
            .push(format!("{origin} has no effect here ({flag}={value})"));
        return;
    }
    remarks.mistakes.push(Mistake {
        option: flag.to_owned(),
        flag: flag.to_owned(),
        value: value.to_owned(),
        origin,
        problem: foreign.why.to_owned(),
        remedy: "leave it out".to_owned(),
    });
}

fn unknown_key(key: &str, origin: String) -> Mistake {
    let name = key.rsplit('.').next().unwrap_or(key);
    let flag = name.replace('_', "-");
    let meant = option::by_flag(&flag)
        .map(|option| option.key)
        .or_else(|| {
            OPTIONS
                .iter()
                .map(|o| o.key)
                .find(|known| known.ends_with(&format!(".{name}")))
        })
        .or_else(|| nearest(key, OPTIONS.iter().map(|option| option.key)));
    let (problem, remedy) = match (meant, foreign::by_flag(&flag)) {
        (Some(meant), _) => ("is no option", format!("did you mean {meant}?")),
        (None, Some(foreign)) if !foreign.why.is_empty() => (foreign.why, "leave it out".into()),
        (None, Some(_)) => ("has no counterpart here", "leave it out".into()),
        (None, None) => ("is no option", "see default.toml for all of them".into()),
    };
    Mistake {
        option: key.to_owned(),
        flag: String::new(),
        value: String::new(),
        origin,
        problem: problem.to_owned(),
        remedy,
    }
}

fn flatten(prefix: &str, map: Map<String, Value>, out: &mut Values) {
    for (name, value) in map {
        let key = if prefix.is_empty() {
            name
        } else {
            format!("{prefix}.{name}")
        };
        let known = option::by_key(&key).is_some();
        match value.kind {
            // One that is empty is no mistake if it could have options.
            ValueKind::Table(inner) if !known && (!inner.is_empty() || is_section(&key)) => {
                flatten(&key, inner, out);
            }
            _ => {
                out.insert(key, value);
            }
        }
    }
}

fn is_section(name: &str) -> bool {
    let of_option = |key: &str| {
        key.split_once('.')
            .is_some_and(|(section, _)| section == name)
    };
    OPTIONS.iter().any(|option| of_option(option.key))
}

/// The line of each plain `key = value`, by dotted key. Only a hint for messages, so forms of TOML
/// beyond plain sections and keys are simply not found.
fn lines(text: &str) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    let mut section = String::new();
    for (position, line) in text.lines().enumerate() {
        let line = line.trim();
        if let Some(name) = line
            .strip_prefix('[')
            .and_then(|rest| rest.split(']').next())
        {
            section = name.trim().to_owned();
        } else if let Some((key, _)) = line.split_once('=') {
            let dot = if section.is_empty() { "" } else { "." };
            found.insert(format!("{section}{dot}{}", key.trim()), position + 1);
        }
    }
    found
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
